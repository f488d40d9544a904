"""Keys that have nothing left to open: the retention of their month is over.

Each batch names the last day on which it may be there, at most as far from the day of its
recording as a policy's `retention_days`.  So when the last day of a month, the longest retention
that this guard has ever been told for the category, and a margin are over, the key of that month
opens nothing that may still exist; what exists all the same is to stay shut.

A clock can be wrong, and what is erased is gone.  So the instant by which keys are judged follows
the clock by half a day an hour: one that jumps ahead by years erases nothing for half a day, until
the margin is used up, and somebody sees it.  A guard that is started again and again looks each
time, and does not get on faster by that.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from wire.category import Category
from wire.ids import WallInstant
from wire.policy import Policy

MARGIN_DAYS: Final = 7  # a batch may come late, and clocks differ; a week is much for both
LONGEST_DAYS: Final = 36_500  # of a retention that is believed: a century
STEP: Final = 12 * 3600 * 1_000_000_000  # by which one look goes on, in nanoseconds
LOOK_SECONDS: Final = 3600.0
LEAST_BETWEEN: Final = 3500 * 1_000_000_000  # steps: an hour, but for what a clock is slewed by


def tables(metadata: sa.MetaData) -> tuple[sa.Table, sa.Table, sa.Table]:
    """Return what has to be remembered.

    The longest retentions, how far this has come, and what the clock said at the last step.
    """
    retentions = sa.Table(
        "retentions",
        metadata,
        sa.Column("category", sa.Text, primary_key=True),
        sa.Column("days", sa.Integer, nullable=False),
    )
    looks = sa.Table(
        "looks",
        metadata,
        sa.Column("one", sa.Integer, primary_key=True),  # there is one row
        sa.Column("at", sa.BigInteger, nullable=False),  # by which it judged
        sa.Column("gone", sa.BigInteger, nullable=False),  # keys, ever
    )
    stepped = sa.Table(
        "stepped",  # apart from `looks`, so that a file of before needs no new column
        metadata,
        sa.Column("one", sa.Integer, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    return retentions, looks, stepped


def kept_days(policy: Policy) -> Mapping[Category, int]:
    """Return for how long *policy* has each of its categories kept."""
    return {rule.category: min(rule.retention_days, LONGEST_DAYS) for rule in policy.categories}


def may_step(stepped: int | None, now: WallInstant) -> bool:
    """Whether an hour is over since the clock said *stepped*, or that was another clock's word."""
    return stepped is None or not 0 <= now - stepped < LEAST_BETWEEN


def judged_by(last: int | None, now: WallInstant, *, steps: bool) -> int:
    """Return the instant by which keys are judged now, when the last look judged by *last*."""
    return now if last is None else min(now, last + STEP if steps else last)


def first_month_needed(at: int, days: int) -> str:
    """Return the month, as in 2027-03, before which no key of this retention is needed any more.

    A month is over when its last day, retention and margin are.
    """
    day = datetime.fromtimestamp(at // 1_000_000_000, UTC)
    return f"{day - timedelta(days=days + MARGIN_DAYS):%Y-%m}"
