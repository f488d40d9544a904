"""What a new policy changes against the one before, for those who are about to sign it.  Pure.

The order itself is `wire.narrowing`; devices, collector and readers act on the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from wire.category import Category, registry
from wire.narrowing import narrowed, widened, words
from wire.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What changes for one category; fields by name, as docs/guides/policy.md has them."""

    category: Category
    widens: tuple[str, ...]  # not proved to ask for no more
    narrows: tuple[str, ...]
    before: bool  # whether it was asked for
    after: bool

    @property
    def makes_stale(self) -> bool:
        """Whether whoever agreed to it has to agree again."""
        return self.before and bool(self.widens)


def difference(old: Policy, new: Policy) -> tuple[Change, ...]:
    """Return what *new* changes, for each category that either of them asks for."""
    more, less = widened(old, new), narrowed(old, new)
    asked = {c: (old.rule(c) is not None, new.rule(c) is not None) for c in Category}
    return tuple(
        Change(category=c, widens=more[c], narrows=less[c], before=before, after=after)
        for c, (before, after) in asked.items()
        if before or after
    )


def in_words(old: Policy, new: Policy) -> tuple[str, ...]:
    """Return the difference as signers read it, what it means for people first."""
    changes = difference(old, new)
    stale = [registry()[each.category].title for each in changes if each.makes_stale]
    lines = [f"Policy version {new.version} against version {old.version}"]
    if new.version <= old.version:
        lines.append("It has no higher version, so no device will take it")
    lines.append(
        f"Whoever agreed to {', '.join(stale)} is asked again, and not recorded until then"
        if stale
        else "No consent becomes stale; what it narrows holds at once"
    )
    for change in changes:
        lines += _of(change)
    return tuple(lines)


def _of(change: Change) -> Iterator[str]:
    yield f"{registry()[change.category].title} ({change.category}):"
    if not change.after:
        yield "  is not asked for any more; what waits on devices is deleted"
        return
    if not change.before:
        yield "  is asked for, and was not before"
    yield from (f"  widens   {name}: {words((name,))}" for name in change.widens if change.before)
    yield from (f"  narrows  {name}: {words((name,))}" for name in change.narrows)
    if not change.widens and not change.narrows:
        yield "  stays as it is"
