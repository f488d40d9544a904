"""Checks of `governance.lint`: who watches the log, and how many of them have to."""

from collections import Counter
from collections.abc import Iterator
from datetime import date
from typing import Final

from wire.policy import Policy
from wire.quorum import party_of, witnesses_of

LEAST_QUORUM: Final = 2  # where there is more than the guard's own witness


def quorum(policy: Policy, _today: date) -> Iterator[str]:
    """Yield why the quorum is none."""
    parties = {party_of(witness) for witness in witnesses_of(policy)}
    keys = {witness.key for witness in witnesses_of(policy)}
    there = min(len(parties), len(keys))
    if policy.quorum > there:
        yield f"quorum is {policy.quorum}, but witnesses of {there} parties are named"
    least = LEAST_QUORUM if policy.witnesses else 1
    if policy.quorum < least:
        yield f"quorum is {policy.quorum}"


def witness_of_nobody_else(policy: Policy, _today: date) -> Iterator[str]:
    """Yield the witnesses that are of a party that has one already, or of who is watched."""
    counted = Counter(party_of(witness) for witness in witnesses_of(policy))
    for witness in policy.witnesses:
        if not witness.party.strip() or not witness.name.strip():
            yield f"witness {witness.name!r} does not say who runs it"
        elif party_of(witness) == " ".join(policy.controller.name.split()).casefold():
            yield f"witness {witness.name!r} is run by {witness.party}, the controller"
    for witness in witnesses_of(policy):
        if witness.party.strip() and (of_one := counted.pop(party_of(witness), 0)) > 1:
            yield f"{witness.party} runs {of_one} witnesses"
    for name, count in Counter(witness.name for witness in witnesses_of(policy)).items():
        if count > 1:
            yield f"{count} witnesses are called {name!r}"
