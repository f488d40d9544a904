"""Make true on the disk what the policy in force says: what it forbids goes, what it widens waits.

Both hold before they are written: nothing is recorded beyond the policy in force, and a
change that is not noted is found again.  A crash in between changes nothing, so it may
always be called; where nothing is left to do it does nothing.
"""

import logging
from collections.abc import Callable
from typing import Final

from agent.consent.entries import Entry
from agent.consent.facts import policy_changed
from agent.consent.ledger import LedgerError
from agent.consent.standing import Standing
from agent.pipeline import Pipeline
from agent.programme import Programme
from agent.spool import Spool

_LOG: Final = logging.getLogger(__name__)


def follow(
    programme: Programme,
    standing: Standing,
    pipeline: Pipeline,
    spool: Spool,
    note: Callable[[Entry], None],
) -> None:
    """Note which consents the policy in force made stale, and delete what it forbids.

    Raises:
        OSError: Not everything is gone yet; calling again goes on.

    """
    changed = policy_changed(standing, programme.in_force)
    if changed is not None:
        try:
            note(changed)
        except LedgerError as exc:
            _LOG.error("%s", exc)
    pipeline.forget_forbidden(programme.forbids)
    for category, policy in spool.recorded():
        if programme.forbids(category, policy):
            count = spool.forget(category, why="narrowed", policy=policy)
            _LOG.info("the policy forbids %d batches of %s; deleted", count, category)
