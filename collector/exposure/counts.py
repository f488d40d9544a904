"""What of an exposure may be told to whom.

The operator on the machine, the supervisory authority and the people concerned need numbers as
they are.  Whatever goes further has none of fewer than ten people, none that lets one be
subtracted, and no pseudonym: the same as every other number of ours (`base.crowd`).
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from base.crowd import LEAST, in_tens
from collector.exposure.report import Access, Exposure
from wire.linked import instant

Told: TypeAlias = int | str
_People: TypeAlias = Callable[[int], Told]
_Of: TypeAlias = Callable[[int, int], Told]
FEWER: str = f"fewer than {LEAST}"


class CategoryTold(msgspec.Struct, frozen=True, kw_only=True):
    """Of one category."""

    category: str
    subjects: Told
    batches: Told
    first_day: str
    last_day: str


class AccessTold(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader had released, under whose approval."""

    reader: str
    approvers: tuple[str, ...]
    request: str
    purpose: str
    why: str
    first_at: str
    last_at: str
    batches: Told
    subjects: Told
    of_erased: Told  # of these batches, that are erased by now: whose, nobody knows any more


class HoleTold(msgspec.Struct, frozen=True, kw_only=True):
    """What a drill found; empty where nobody knows."""

    found_at: str
    hole: str
    open_since: str
    closed_at: str


class ExposureTold(msgspec.Struct, frozen=True, kw_only=True):
    """The report as it is printed."""

    since: str
    until: str
    subjects: Told
    batches: Told
    encrypted: bool  # every object that is there is the frame that its device sealed
    sealed: Told
    plaintext: Told
    missing: Told
    erased_batches: Told
    erased_subjects: Told
    categories: tuple[CategoryTold, ...]
    accesses: tuple[AccessTold, ...]
    holes: tuple[HoleTold, ...]


def told(found: Exposure, *, public: bool) -> ExposureTold:
    """Return *found* as it may be told: to everybody if it is *public*."""
    few = public and len(found.subjects) < LEAST

    def people(count: int) -> Told:
        if not public or not count:
            return count
        return FEWER if count < LEAST else f"at least {in_tens(count)}"

    def of(subjects: int, count: int) -> Told:
        """Return a count of what so many people have: a few people's is theirs alone."""
        hidden = public and (few or subjects < LEAST) and count
        return f"of {FEWER} people" if hidden else count

    return ExposureTold(
        since=instant(found.since),
        until=instant(found.until),
        subjects=people(len(found.subjects)),
        batches=of(len(found.subjects), found.batches),
        encrypted=not found.plain,
        sealed=of(len(found.subjects), found.sealed),
        plaintext=of(len(found.subjects), found.plain),
        missing=of(len(found.subjects), found.missing),
        erased_batches=of(len(found.erased_of), found.erased),
        erased_subjects=people(len(found.erased_of)),
        categories=tuple(
            CategoryTold(
                category=category,
                subjects=people(len(each.subjects)),
                batches=of(len(each.subjects), each.batches),
                first_day=each.first_day,
                last_day=each.last_day,
            )
            for category, each in sorted(found.categories.items())
        ),
        accesses=tuple(_access(each, people, of) for each in found.accesses),
        holes=_holes(found),
    )


def _access(access: Access, people: _People, of: _Of) -> AccessTold:
    subjects = len(access.subjects)
    return AccessTold(
        reader=access.reader,
        approvers=access.approvers,
        request=access.request_id or access.access.hex(),
        purpose=access.purpose,
        why=access.why,
        first_at=instant(access.first_at),
        last_at=instant(access.last_at),
        batches=of(subjects, access.batches),
        subjects=people(subjects),
        of_erased=of(subjects, access.gone),
    )


def _holes(found: Exposure) -> tuple[HoleTold, ...]:
    return tuple(
        HoleTold(
            found_at=instant(hole.found_at),
            hole=hole.line,
            open_since=instant(hole.open_since) if hole.open_since else "",
            closed_at=instant(hole.closed_at) if hole.closed_at else "",
        )
        for hole in found.holes
    )


def in_words(said: ExposureTold) -> Sequence[str]:
    """Return the report in lines for a person."""
    sealed = "yes: each object was parsed" if said.encrypted else "NO"
    lines = [
        f"from {said.since} to {said.until}",
        f"people      {said.subjects}",
        f"batches     {said.batches}",
        (
            f"encrypted   {sealed}; {said.sealed} sealed, {said.plaintext} not, "
            f"{said.missing} not there"
        ),
        f"erased meanwhile: {said.erased_batches} batches, {said.erased_subjects} people",
    ]
    lines += [
        f"{one.category:10}  people {one.subjects}, batches {one.batches}, "
        f"{one.first_day} to {one.last_day}"
        for one in said.categories
    ]
    lines += [
        f"access      {each.reader}, approved by {', '.join(each.approvers) or 'nobody'}: "
        f"people {each.subjects}, batches {each.batches}, {each.first_at} to {each.last_at} "
        f"({each.request})"
        for each in said.accesses
    ]
    lines += [
        f"hole        {hole.hole}; found {hole.found_at}, open since "
        f"{hole.open_since or 'nobody knows when'} at the earliest, "
        f"closed {hole.closed_at or 'not yet'}"
        for hole in said.holes
    ]
    return lines
