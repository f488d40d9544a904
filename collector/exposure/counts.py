"""What of an exposure may be told to whom.

Who runs the collector and has to notify people needs numbers as they are, and the people concerned
their own.  Whatever goes further (to the authority, to the council, to everybody) has people in
tens, batches in thousands, months for days, nothing of fewer than ten people, nothing that is left
when the rest is subtracted, and no pseudonym (`base.crowd`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from base.crowd import LEAST, people_in_words, things_in_words
from collector.exposure.report import Access, Exposure, OfCategory
from wire.category import Category
from wire.linked import instant

Told: TypeAlias = int | str
OF_FEWER: Final = f"of fewer than {LEAST} people"


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
    of_erased: Told  # of these batches, that are erased by now


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
    everybody = len(found.subjects)
    say = _Say(public=public)
    return ExposureTold(
        since=instant(found.since),
        until=instant(found.until),
        subjects=say.people(everybody),
        batches=say.things(everybody, found.batches),
        encrypted=not found.plain,
        sealed=say.things(everybody, found.sealed),
        plaintext=say.things(everybody, found.plain),
        missing=say.things(everybody, found.missing),
        erased_batches=say.things(len(found.erased_of), found.erased),
        erased_subjects=say.people(len(found.erased_of)),
        categories=_of_all(found) if public else tuple(_as_they_are(found)),
        accesses=tuple(_access(each, say) for each in found.accesses),
        holes=_holes(found),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Say:
    """Numbers as they are, or as everybody may be told."""

    public: bool

    def people(self, count: int) -> Told:
        return people_in_words(count) if self.public else count

    def things(self, people: int, count: int) -> Told:
        """Return a count of what so many people have: a few people's is theirs alone."""
        if not self.public:
            return count
        return OF_FEWER if people < LEAST else things_in_words(count)


def _as_they_are(found: Exposure) -> Iterator[CategoryTold]:
    for category, each in sorted(found.categories.items()):
        yield CategoryTold(
            category=category,
            subjects=len(each.subjects),
            batches=each.batches,
            first_day=each.first_day,
            last_day=each.last_day,
        )


def _of_all(found: Exposure) -> tuple[CategoryTold, ...]:
    """Return every category there is, so that none of them is told by its absence."""
    hidden = hidden_categories(found)
    return tuple(
        CategoryTold(
            category=category,
            subjects=people_in_words(len(each.subjects)),
            batches=OF_FEWER if category in hidden else things_in_words(each.batches),
            first_day="" if category in hidden else each.first_day[:7],  # a day is somebody's
            last_day="" if category in hidden else each.last_day[:7],
        )
        for category in Category
        for each in (found.categories.get(category, OfCategory()),)
    )


def hidden_categories(found: Exposure) -> set[Category]:
    """Return those of which no batches are told.

    What is left of the total after all that are told belongs to the others together: so one more
    is kept back, and another, until those others are ten people.
    """
    hidden, theirs = set[Category](), set[bytes]()
    of = {each: found.categories.get(each, OfCategory()) for each in Category}
    for category in sorted(Category, key=lambda each: (len(of[each].subjects), each)):
        if len(of[category].subjects) >= LEAST and (not hidden or len(theirs) >= LEAST):
            break
        hidden.add(category)
        theirs |= of[category].subjects
    return hidden


def _access(access: Access, say: _Say) -> AccessTold:
    return AccessTold(
        reader=access.reader,
        approvers=access.approvers,
        request=access.request_id or access.access.hex(),
        purpose=access.purpose,
        why=access.why,
        first_at=instant(access.first_at),
        last_at=instant(access.last_at),
        # Who may have been one of several at a device is no crowd for the others.
        batches=say.things(len(access.of_subject), access.batches),
        subjects=say.people(len(access.subjects)),
        of_erased=say.things(len(access.gone_of), access.gone),
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
        f"from {_short(said.since)} to {_short(said.until)} UTC",
        f"people      {said.subjects}",
        f"batches     {said.batches}",
        (
            f"encrypted   {sealed}; {said.sealed} sealed, {said.plaintext} not, "
            f"{said.missing} not there"
        ),
        f"erased meanwhile: batches {said.erased_batches}, people {said.erased_subjects}",
    ]
    lines += [
        f"{one.category:10}  people {one.subjects}, batches {one.batches}, "
        f"{one.first_day or '?'} to {one.last_day or '?'}"
        for one in said.categories
    ]
    lines += [
        f"access      {each.reader}, approved by {', '.join(each.approvers) or 'nobody'}: "
        f"people {each.subjects}, batches {each.batches}, "
        f"{_short(each.first_at)} to {_short(each.last_at)} UTC "
        f"({each.request})"
        for each in said.accesses
    ]
    lines += [
        f"hole        {hole.hole}; found {_short(hole.found_at)}, open since "
        f"{_short(hole.open_since) or 'nobody knows when'} at the earliest, "
        f"closed {_short(hole.closed_at) or 'not yet'}"
        for hole in said.holes
    ]
    return lines


def _short(instant_as_told: str) -> str:
    """Return an instant to the second, in the form that the command line takes, too."""
    return instant_as_told[:19]
