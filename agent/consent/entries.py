"""What a line of the record of consents can say: one entry for each act.  Pure.

`standing` says what they mean, one after the other.
"""

from typing import Final, TypeAlias

import msgspec

from base.clock import Now
from base.stored import Versioned
from wire.category import Category
from wire.collector_http import Logged
from wire.grant import SignedConsent
from wire.linked import ConsentState


class _Entry(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="kind"):
    """Common shape of all entries: frozen, `kind` is the class's name."""


class Granted(_Entry, frozen=True, kw_only=True):
    """The data subject agreed; the consent record as signed, and what was shown with it."""

    signed: SignedConsent
    words: str
    notice: str


class Refused(_Entry, frozen=True, kw_only=True):
    """The data subject said no to what was never agreed to; a record of that, as signed."""

    signed: SignedConsent
    words: str
    notice: str


class Withdrawn(_Entry, frozen=True, kw_only=True):
    """The data subject withdrew one category, or all (None)."""

    category: Category | None
    erase: bool = False


class ErasureAsked(_Entry, frozen=True, kw_only=True):
    """The data subject asked that these days (ISO, UTC) be erased; consent stays as it is."""

    category: Category | None
    first_day: str
    last_day: str


class Expired(_Entry, frozen=True, kw_only=True):
    """A consent covers no longer what the policy asks for; only a click makes a new one."""

    grant: bytes


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


class NoticeSeen(_Entry, frozen=True, kw_only=True):
    """The notice of a pause that ran out was seen for its whole time, so the pause is over.

    `seconds` is for how long it was in sight while the data subject was there, `since` when
    it appeared (boot clock).
    """

    seconds: int
    since: int


class ClickAwaited(_Entry, frozen=True, kw_only=True):
    """The data subject closed the notice: this pause ends with a click and nothing else."""


class StoppedUncleanly(_Entry, frozen=True, kw_only=True):
    """A restart found that a restriction had been begun and not finished."""


class Stopped(_Entry, frozen=True, kw_only=True):
    """A party stopped the programme for as long as a fault lasts: a failed drill, an outage."""

    by: str
    why: str


class StopLifted(_Entry, frozen=True, kw_only=True):
    """The cause of that party's stop is gone."""

    by: str


class Halted(_Entry, frozen=True, kw_only=True):
    """The programme was halted under the policy with this digest (empty: under none).

    Only another policy lifts that, which takes the threshold of its signers.
    """

    policy: bytes
    why: str


class HaltLifted(_Entry, frozen=True, kw_only=True):
    """A new policy is in force, which lifts the halt; every consent is stale from here on."""

    policy: bytes


class PolicyChanged(_Entry, frozen=True, kw_only=True):
    """Another policy came into force; `widened` has the fields in which it asks for more.

    Its categories are stale until they are granted again, whatever policy comes next: who
    narrows first and widens then does not get back what a data subject saw go.
    """

    policy: bytes
    widened: dict[Category, tuple[str, ...]]


class ClockDoubted(_Entry, frozen=True, kw_only=True):
    """The clocks disagreed; nothing is captured until the data subject confirms."""

    why: str


class ClockConfirmed(_Entry, frozen=True, kw_only=True):
    """The data subject confirmed that the clock is right; this line's time is the new anchor."""


class Registered(_Entry, frozen=True, kw_only=True):
    """The collector's log has this consent record, or (not `known`) says that it has not.

    `logged` is the log's proof, verified before it was written down.
    """

    grant: bytes
    known: bool = True
    logged: Logged | None = None


class Told(_Entry, frozen=True, kw_only=True):
    """The collector has what became of this consent: that it was withdrawn, or has expired."""

    grant: bytes
    state: ConsentState


class Replaced(_Entry, frozen=True, kw_only=True):
    """The ledger before this one could not be read and was put aside."""

    aside: str
    why: str


Entry: TypeAlias = (
    Granted
    | Refused
    | Withdrawn
    | ErasureAsked
    | Expired
    | OptedOut
    | OptedIn
    | Paused
    | Resumed
    | NoticeSeen
    | ClickAwaited
    | StoppedUncleanly
    | Stopped
    | StopLifted
    | Halted
    | HaltLifted
    | PolicyChanged
    | ClockDoubted
    | ClockConfirmed
    | Registered
    | Told
    | Replaced
)

RESTRICT: Final = (
    Refused,
    Withdrawn,
    ErasureAsked,
    Expired,
    OptedOut,
    Paused,
    ClickAwaited,
    StoppedUncleanly,
    Stopped,
    Halted,
    PolicyChanged,
    ClockDoubted,
    Replaced,
)
"""What never leads to more recording: it may hold although nobody was told that it does.

`Registered` and `Told` are none: the collector is asked once more, which does no harm.
"""


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
