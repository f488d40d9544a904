"""Make true on the disk what the ledger says: what was opted out of or withdrawn is gone.

The order is always: the ledger first, durably, then the deletions.  A crash in between
leaves batches that `enforce` deletes at the next start, before anything else is done; it
changes nothing where there is nothing left to do, so it may always be called.
"""

from agent.consent.standing import Standing
from agent.consent.states import Consent, Flag
from agent.erasures import Erasures
from agent.guard_keys import GuardKeys
from agent.spool import Spool
from wire.category import Category


def banned(standing: Standing) -> frozenset[Category]:
    """Return the categories of which no batch may remain on this device."""
    return frozenset(
        category
        for category in Category
        if standing.flags[category] is Flag.OPTED_OUT
        or standing.consents[category] is Consent.WITHDRAWN
    )


def enforce(standing: Standing, spool: Spool, erasures: Erasures, keys: GuardKeys) -> int:
    """Delete what must not remain, and ask for what was to be erased; return how many batches.

    One request covers all that was ever sent of a category, or of everything, or of some days.

    Raises:
        OSError: Not everything is gone yet; calling again goes on.

    """
    deleted = sum(spool.forget(category, why="no consent") for category in banned(standing))
    for each in standing.erasing:
        if not erasures.has(each):
            # The keys first: a crash between the two leaves keys to be fetched again.  The other
            # way round it would leave some that the guard erases, and nobody opens what they seal.
            if each.days is None:
                keys.forget(Category if each.category is None else (each.category,))
            erasures.ask(each)
    for span in erasures.spans():
        days = (span.first_day, span.last_day)
        deleted += spool.forget(span.category, days=days, why="erased")
    return deleted
