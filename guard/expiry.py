"""Keys that have nothing left to open: the retention of their month is over.

Each batch names the last day on which it may be there, at most as far from the day of its
recording as a policy's `retention_days`.  So when the last day of a month, the longest retention
that this guard has ever been told for the category, and a margin are over, the key of that month
opens nothing that may still exist; what exists all the same is to stay shut.

A clock can be wrong, and what is erased is gone.  So the instant by which keys are judged follows
the clock by half a day a look: one that jumps ahead by years erases nothing for half a day, until
the margin is used up, and somebody sees it.
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


def tables(metadata: sa.MetaData) -> tuple[sa.Table, sa.Table]:
    """Return what has to be remembered: the longest retentions, and how far this has come."""
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
    return retentions, looks


def kept_days(policy: Policy) -> Mapping[Category, int]:
    """Return for how long *policy* has each of its categories kept."""
    return {rule.category: min(rule.retention_days, LONGEST_DAYS) for rule in policy.categories}


def judged_by(last: int | None, now: WallInstant) -> int:
    """Return the instant by which keys are judged now, when the last look judged by *last*."""
    return now if last is None else min(now, last + STEP)


def first_month_needed(at: int, days: int) -> str:
    """Return the month, as in 2027-03, before which no key of this retention is needed any more.

    A month is over when its last day, retention and margin are.
    """
    day = datetime.fromtimestamp(at // 1_000_000_000, UTC)
    return f"{day - timedelta(days=days + MARGIN_DAYS):%Y-%m}"
