"""What the data subject did, one entry for each act, and where everything stands after them.

Pure: `ledger` has the file, this module says what its lines mean.  Start with `Standing`,
then `after`, which moves it by one line through the tables of `states`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias, assert_never

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.consent.clocks import Deadline
from agent.consent.states import (
    Act,
    Consent,
    Flag,
    Pause,
    consent_after,
    flag_after,
    pause_after,
)
from base.clock import Now
from base.stored import Versioned
from wire.category import Category
from wire.grant import ConsentRecord, SignedConsent, grant_hash, verify_consent
from wire.ids import GrantHash

# --- what a line can say -----------------------------------------------------------------


class _Entry(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="kind"):
    """Common shape of all entries: frozen, `kind` is the class's name."""


class Granted(_Entry, frozen=True, kw_only=True):
    """The data subject agreed; the consent record as it was signed."""

    signed: SignedConsent


class Withdrawn(_Entry, frozen=True, kw_only=True):
    """The data subject withdrew one category, or all (None)."""

    category: Category | None
    erase: bool = False


class OptedOut(_Entry, frozen=True, kw_only=True):
    """An opt-out flag was raised for one category, or for all; `by` says by what."""

    category: Category | None
    by: str = "subject"


class OptedIn(_Entry, frozen=True, kw_only=True):
    """The data subject lowered an opt-out flag."""

    category: Category | None


class Paused(_Entry, frozen=True, kw_only=True):
    """A pause began; it ends at this deadline, on both clocks."""

    until_wall: int
    until_boot: int


class Resumed(_Entry, frozen=True, kw_only=True):
    """The data subject clicked Resume."""


class StoppedUncleanly(_Entry, frozen=True, kw_only=True):
    """A restart found that a restriction had been begun and not finished."""


class Halted(_Entry, frozen=True, kw_only=True):
    """The organisation halted the programme; only a policy with another digest lifts it."""

    policy: bytes
    why: str


class ClockDoubted(_Entry, frozen=True, kw_only=True):
    """The clocks disagreed; nothing is captured until the data subject confirms."""

    why: str


class ClockConfirmed(_Entry, frozen=True, kw_only=True):
    """The data subject confirmed that the clock is right; this line's time is the new anchor."""


class Registered(_Entry, frozen=True, kw_only=True):
    """The collector's log has this consent record, or (not `known`) says that it has not."""

    grant: bytes
    known: bool = True


class Replaced(_Entry, frozen=True, kw_only=True):
    """The ledger before this one could not be read and was put aside."""

    aside: str
    why: str


Entry: TypeAlias = (
    Granted
    | Withdrawn
    | OptedOut
    | OptedIn
    | Paused
    | Resumed
    | StoppedUncleanly
    | Halted
    | ClockDoubted
    | ClockConfirmed
    | Registered
    | Replaced
)


class Line(Versioned, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the file: its number, the hash of the line before, the time, the entry."""

    n: int
    prev: str
    wall: int
    boot: int
    boot_id: str
    entry: Entry

    @property
    def time(self) -> Now:
        """When the line was written, on both clocks."""
        return Now(boot=self.boot, wall=self.wall, boot_id=self.boot_id)


# --- where everything stands -------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One consent of the data subject: as signed, as read, and the hash that names it."""

    signed: SignedConsent
    record: ConsentRecord
    hash: GrantHash


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The sum of all lines."""

    consents: Mapping[Category, Consent] = field(
        default_factory=lambda: dict.fromkeys(Category, Consent.UNKNOWN)
    )
    grants: Mapping[Category, Grant] = field(
        default_factory=dict
    )  # of the categories that are GIVEN
    flags: Mapping[Category, Flag] = field(
        default_factory=lambda: dict.fromkeys(Category, Flag.CLEAR)
    )
    records: Mapping[GrantHash, SignedConsent] = field(
        default_factory=dict
    )  # all that were ever given
    erasing: frozenset[Category] = frozenset()  # withdrawn, and what was sent is to be deleted
    pause: Pause = Pause.RUNNING
    paused_until: Deadline | None = None
    halted: Halted | None = None
    clock_doubt: str = ""
    clock_anchor: Now | None = None  # the last time the data subject confirmed
    last_seen: Now | None = None  # the time of the last line
    registered: frozenset[GrantHash] = frozenset()
    lost: str = ""  # why earlier consents are gone


def after(  # noqa: C901, PLR0911, PLR0912 - one case for each kind of entry, none of them long
    standing: Standing, line: Line, device: Ed25519PublicKey
) -> Standing:
    """Return where everything stands after *line*.

    Raises:
        WireError: A consent record in it is not signed by this device.
        ConsentError: The tables of `states` have no such move.

    """
    moved = replace(standing, last_seen=line.time)
    match line.entry:
        case Granted(signed=signed):
            return _granted(moved, signed, device)
        case Withdrawn(category=category, erase=erase):
            return _withdrawn(moved, _named(category), erase=erase)
        case OptedOut(category=category):
            return _flagged(moved, _named(category), Act.OPT_OUT)
        case OptedIn(category=category):
            return _flagged(moved, _named(category), Act.OPT_IN)
        case Paused(until_wall=wall, until_boot=boot):
            until = Deadline(wall=wall, boot=boot, boot_id=line.boot_id)
            return replace(moved, pause=pause_after(moved.pause, Act.PAUSE), paused_until=until)
        case Resumed():
            return replace(moved, pause=pause_after(moved.pause, Act.RESUME), paused_until=None)
        case StoppedUncleanly():
            return replace(moved, pause=pause_after(moved.pause, Act.STOP_UNCLEANLY))
        case Halted():
            return replace(moved, halted=line.entry)
        case ClockDoubted(why=why):
            return replace(moved, clock_doubt=why)
        case ClockConfirmed():
            return replace(moved, clock_doubt="", clock_anchor=line.time)
        case Registered(grant=grant, known=known):
            others = moved.registered - {GrantHash(grant)}
            return replace(moved, registered=others | {GrantHash(grant)} if known else others)
        case Replaced(aside=aside, why=why):
            return replace(moved, lost=f"{why}; the old record is kept as {aside}")
        case _:
            assert_never(line.entry)


def _named(category: Category | None) -> tuple[Category, ...]:
    return tuple(Category) if category is None else (category,)


def _granted(standing: Standing, signed: SignedConsent, device: Ed25519PublicKey) -> Standing:
    record = verify_consent(signed, device)
    category = record.category
    grant = Grant(signed=signed, record=record, hash=grant_hash(signed))
    state = consent_after(standing.consents[category], Act.GRANT)
    return replace(
        standing,
        consents={**standing.consents, category: state},
        grants={**standing.grants, category: grant},
        records={**standing.records, grant.hash: signed},
        erasing=standing.erasing - {category},
        lost="",
    )


def _withdrawn(standing: Standing, categories: tuple[Category, ...], *, erase: bool) -> Standing:
    moved = {c: consent_after(standing.consents[c], Act.WITHDRAW) for c in categories}
    kept = {c: grant for c, grant in standing.grants.items() if c not in categories}
    return replace(
        standing,
        consents={**standing.consents, **moved},
        grants=kept,
        erasing=standing.erasing | set(categories) if erase else standing.erasing,
    )


def _flagged(standing: Standing, categories: tuple[Category, ...], act: Act) -> Standing:
    moved = {c: flag_after(standing.flags[c], act) for c in categories}
    return replace(standing, flags={**standing.flags, **moved})
