"""What the processes of one workstation say to each other.

Three conversations, all length-prefixed msgpack on Unix stream sockets (`base.ipc`):

- agent and sensor: `OpenSource`, `CloseSource` one way; `SourceOpened`, `SourceClosed`,
  `SourceFailed` back.  Events come on a socket of their own, one for each opening, as
  `Items`; what was buffered before a pause ends with that socket.
- agent and tray: the tray sends commands and a `Heartbeat` each second; the agent answers
  and pushes `Status` whenever it changes.  The channel is inherited from the agent, so no
  other process can hold it.  Its end-of-file closes capture.
- agent and command line: the same commands on a named socket, less those of `TRAY_ONLY`,
  because scripts may restrict and never grant.
"""

from enum import StrEnum
from typing import Final, Literal, TypeAlias

import msgspec

from wire.category import Category
from wire.event import Event, Focus
from wire.ids import BootInstant, WallInstant
from wire.policy import Application


class Reason(StrEnum):
    """Why nothing (or not everything) is recorded, the weightiest first (DESIGN, Gate)."""

    HALTED_BY_ORG = "halted-by-org"
    OPTED_OUT = "opted-out"
    NOT_CONSENTED = "not-consented"
    CONSENT_STALE = "consent-stale"
    POLICY_INVALID = "policy-invalid"
    CLOCK_UNTRUSTED = "clock-untrusted"
    INDICATOR_MISSING = "indicator-missing"
    SESSION_BLOCKED = "session-blocked"
    PAUSED_UNTIL = "paused-until"
    RESUME_PENDING = "resume-pending"
    OUTSIDE_SCOPE = "outside-scope"
    SENSITIVE = "sensitive"
    REDACTOR_DOWN = "redactor-down"
    STORAGE_BLOCKED = "storage-blocked"
    ACTIVE = "active"


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Common shape of all messages: frozen, tagged with the class's name."""


# --- agent and sensors ------------------------------------------------------------------


InputSource: TypeAlias = Literal["auto", "xinput2", "pynput"]
"""How keyboard and pointer are watched; "auto" is the best that this platform has."""


class InputSettings(_Message, frozen=True, kw_only=True):
    """What the input sensor may hook, how, and how much of keys and moves it may say."""

    keys: bool
    pointer: bool
    key_level: str  # "classes" or "text"
    move_hz: float = 1_000.0  # at most so many moves a second, and always the last
    source: InputSource = "auto"


class ScreenSettings(_Message, frozen=True, kw_only=True):
    """How often the screen sensor may look, and whose windows it may keep."""

    rate_hz: float
    applications: tuple[Application, ...]


class ContextSettings(_Message, frozen=True, kw_only=True):
    """Whose windows the context sensor may name, and whether with their titles."""

    titles: bool
    applications: tuple[Application, ...]


Settings: TypeAlias = InputSettings | ScreenSettings | ContextSettings


class OpenSource(_Message, frozen=True, kw_only=True):
    """Open the source; the descriptor that comes along takes this opening's `Items`."""

    epoch: int
    settings: Settings


class CloseSource(_Message, frozen=True, kw_only=True):
    """Close it now: unhook, synchronise with the server, drop what is buffered, answer."""

    epoch: int


class SourceOpened(_Message, frozen=True, kw_only=True):
    """The source of this epoch is open since `at`."""

    epoch: int
    at: BootInstant


class SourceClosed(_Message, frozen=True, kw_only=True):
    """Nothing of this epoch is hooked since `at`, and no more events of it will come."""

    epoch: int
    at: BootInstant


class SourceFailed(_Message, frozen=True, kw_only=True):
    """The source could not be opened, or ended; `why` is one line for a person."""

    epoch: int
    why: str


class Redaction(_Message, frozen=True, kw_only=True):
    """Whether what must not leave this sensor is known to stay in it; said before anything else.

    `why` is one line for a person where it does not.
    """

    works: bool
    why: str = ""


class FocusSeen(_Message, frozen=True, kw_only=True):
    """Who has the focus since `at`.  For a program outside the list only that it is outside."""

    at: BootInstant
    inside: bool
    process: str = ""
    window_class: str = ""
    title: str = ""
    x: int = 0
    y: int = 0
    width: int = 0
    height: int = 0

    def event(self) -> Focus:
        """Return it as the event of the window category that it is; for inside only."""
        return Focus(
            at=self.at,
            process=self.process,
            window_class=self.window_class,
            title=self.title,
            x=self.x,
            y=self.y,
            width=self.width,
            height=self.height,
        )


class SecretSeen(_Message, frozen=True, kw_only=True):
    """Whether keys go to a field for secrets since `at`; None: nobody can say."""

    at: BootInstant
    secret: bool | None


class Items(_Message, frozen=True, kw_only=True):
    """Events of one opening, in the order in which they happened."""

    epoch: int
    events: tuple[Event, ...] = ()
    focus: tuple[FocusSeen, ...] = ()
    secrets: tuple[SecretSeen, ...] = ()
    suppressed: int = 0  # events that the sensor itself held back since the last message


FromAgent: TypeAlias = OpenSource | CloseSource
FromSensor: TypeAlias = Redaction | SourceOpened | SourceClosed | SourceFailed


# --- agent, tray and command line: commands ---------------------------------------------


class GetStatus(_Message, frozen=True, kw_only=True):
    """Ask for a `Status`."""


class GetNotice(_Message, frozen=True, kw_only=True):
    """Ask for the `Notice` of the policy in force."""


class Pause(_Message, frozen=True, kw_only=True):
    """Start a 30-minute pause, or a new one; optionally forget the last minutes too."""

    forget_minutes: int = 0


class OptOut(_Message, frozen=True, kw_only=True):
    """Raise the opt-out flag of one category, or of all (None)."""

    category: Category | None = None


class Withdraw(_Message, frozen=True, kw_only=True):
    """End the consent for one category, or for all (None); `erase` asks to delete what was sent."""

    category: Category | None = None
    erase: bool = False


class Forget(_Message, frozen=True, kw_only=True):
    """Delete what was recorded in the last minutes and is still on this machine."""

    minutes: int


class Erase(_Message, frozen=True, kw_only=True):
    """Delete what was recorded on these past days (UTC, inclusive), wherever it is.

    Of one category or of all (None).  The consent stays: to end that, withdraw.
    """

    first_day: str
    last_day: str
    category: Category | None = None


class Quit(_Message, frozen=True, kw_only=True):
    """Stop capture and end agent, sensors and tray until the next session."""


class Grant(_Message, frozen=True, kw_only=True):
    """The data subject agreed, in the tray's window, to the words with this SHA-256."""

    category: Category
    words_sha256: bytes


class OptIn(_Message, frozen=True, kw_only=True):
    """The data subject lowered an opt-out flag in the tray's window."""

    category: Category | None = None


class Resume(_Message, frozen=True, kw_only=True):
    """The data subject clicked Resume in the tray's window."""


class ConfirmClock(_Message, frozen=True, kw_only=True):
    """The data subject confirmed, in the tray's window, that the clock is right again."""


class NoticeInSight(_Message, frozen=True, kw_only=True):
    """The notice that a pause is over is in sight as a whole; once a second as long as it is.

    It has no answer.  What the data subject does elsewhere is not in it, only how long ago
    they did anything.
    """

    for_ms: int  # since it came into sight, without a break
    input_ms: int | None = None  # since the data subject last did something; None: not known


class AwaitClick(_Message, frozen=True, kw_only=True):
    """The data subject closed the notice: the pause goes on until they click Resume."""


class Heartbeat(_Message, frozen=True, kw_only=True):
    """The tray lives and its icon is drawn; once a second.

    `window_open`: the data subject has one of its windows before them.
    """

    window_open: bool = False


Command: TypeAlias = (
    GetStatus
    | GetNotice
    | Pause
    | OptOut
    | Withdraw
    | Forget
    | Erase
    | Quit
    | Grant
    | OptIn
    | Resume
    | ConfirmClock
    | NoticeInSight
    | AwaitClick
    | Heartbeat
)

TRAY_ONLY: Final = (Grant, OptIn, Resume, ConfirmClock, NoticeInSight, Heartbeat)
"""What only the tray's own window may say: each can lead to more capture, not to less."""


# --- answers ----------------------------------------------------------------------------


class CategoryStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where one category stands: what was decided, and whether it is recorded right now."""

    category: Category
    offered: bool  # the policy asks for it
    level: str
    granted: bool
    opted_out: bool
    recording: bool
    asks_more: str = ""  # agreed to before; what the policy asks beyond that, in words
    confirm_by: WallInstant | None = None  # it is time to confirm; stale from then on


class SpoolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How many batches are where, and their bytes on disk."""

    held: int
    waiting: int
    quarantined: int
    sent: int  # receipted since this device was enrolled
    forgotten: int
    bytes: int
    quota_bytes: int


class CollectorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with the one collector."""

    origin: str
    last_receipt_at: WallInstant | None = None
    last_error: str = ""  # one line: what happened and what to do; empty when all is well


class Status(_Message, frozen=True, kw_only=True):
    """All that the data subject, or a command, may know about the agent right now."""

    reason: Reason
    detail: str  # one line in the data subject's words, with what to do
    recording: tuple[Category, ...]
    paused_until: WallInstant | None
    categories: tuple[CategoryStatus, ...]
    programme: str
    policy_digest: str  # hexadecimal; empty without a valid policy
    kept: dict[str, int]  # events by kind, since the agent started
    dropped: dict[str, int]  # events by reason, since the agent started
    spool: SpoolStatus
    collector: CollectorStatus
    indicator: str  # "" when shown, else why it is not
    receipts: str  # the folder in which the data subject's consent receipts lie
    stopped: bool = False  # HALTED_BY_ORG by a stop only, which lifts without a new policy
    resumes_in: int | None = None  # seconds of the notice that are left; None: it takes a click
    counting: bool = False  # they run: the notice is in sight, and you are there
    unconfirmed: tuple[str, ...] = ()  # erasures that somebody has yet to confirm, in words
    erased: tuple[str, ...] = ()  # what the guard erased by its own hand, in words
    outside_hours: bool = False  # of the policy: nothing is open until they begin


class NoticeItem(msgspec.Struct, frozen=True, kw_only=True):
    """One switch of the consent window: a category and the exact words shown beside it."""

    category: Category
    level: str
    title: str
    words: str
    granted: bool
    again: str = ""  # agreed to before, and asked again: why, in one or two sentences


class Notice(_Message, frozen=True, kw_only=True):
    """The notice of the policy in force, as the consent window shows it."""

    policy_digest: str
    heading: str
    text: str
    items: tuple[NoticeItem, ...]


class Silent(_Message, frozen=True, kw_only=True):
    """A restriction holds and is durable: no event later than `at` exists anywhere."""

    at: BootInstant
    wall: WallInstant


class Done(_Message, frozen=True, kw_only=True):
    """The command was carried out; `detail` says what changed."""

    detail: str


class Refused(_Message, frozen=True, kw_only=True):
    """The command was not carried out; `why` says why and what to do instead."""

    why: str


Answer: TypeAlias = Status | Notice | Silent | Done | Refused
