"""What owner and worker say to each other; each message is about one request, by its number.

The owner's end asks, one thing at a time, and the worker answers; `Whole`, `Begin`, `Part` and
`Done` take no answer.  What a worker took in ahead of being asked comes with `Opened`.  A worker
believes its owner, and an owner its worker: they are one program, and the socket between them was
inherited.
"""

from typing import TypeAlias

import msgspec

from collector.ingest.intake import Account, Bounds
from wire.ids import BatchHash

Headers: TypeAlias = list[tuple[bytes, bytes]]


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """Somebody asks something: what an ASGI scope says of it."""

    number: int
    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: Headers
    http_version: str
    client: tuple[str, int] | None
    server: tuple[str, int | None] | None
    certificate: bytes | None
    taken: "Taken | None" = None  # and stored, ahead of being asked


# --- the owner asks ---------------------------------------------------------------------


class More(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Read on."""

    number: int


class Take(msgspec.Struct, frozen=True, kw_only=True, tag=True, array_like=True):
    """Take the body in as a frame."""

    number: int
    key: bytes
    batch: BatchHash
    bounds: Bounds


class Store(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Put the frame into the store."""

    number: int


class Whole(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """All of the answer; nothing more follows about this request."""

    number: int
    status: int
    headers: Headers
    body: bytes
    settle: bool = False  # the index knows the frame, or it is gone: take its mark away
    ahead: bool = False  # take the next one of this client in before it is asked for


class Begin(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The head of the answer."""

    number: int
    status: int
    headers: Headers


class Part(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Some of the answer."""

    number: int
    body: bytes
    more: bool


class Done(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Nothing more follows about this request."""

    number: int


class Stop(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Finish what is under way, and end."""


class Ping(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Say that you are there."""


# --- the worker answers -----------------------------------------------------------------


class Chunk(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Some of the request's body."""

    number: int
    body: bytes
    more: bool


class Gone(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Who asked is gone."""

    number: int


class Taken(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The frame is what it says."""

    number: int
    account: Account
    key: bytes  # whose signature it bears
    began: int  # boot instant, before it was stored
    stored: bool = False  # already, because one like it was taken not long ago
    mark: str = ""  # the name of its mark in the store, if that finds marks by their names


class Stored(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """It is in the store."""

    number: int
    mark: str = ""  # as above


class Refused(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """It was not done, and this is why."""

    number: int
    why: str  # the name of a `Why`
    line: str
    size_bytes: int


class Later(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """It cannot be done now, and this is why."""

    number: int
    line: str
    size_bytes: int  # that came


class TooSlow(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """It did not come in time."""

    number: int


class Failed(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A mistake of ours; the worker's log has the trace."""

    number: int
    size_bytes: int  # that came


class Pong(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """It is there."""


class Logged(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """A line for the log, which the owner alone writes."""

    level: int
    where: str
    message: str
    values: list[str | int | float]
    trace: str = ""


Order: TypeAlias = More | Take | Store | Whole | Begin | Part | Done | Stop | Ping
Answer: TypeAlias = Chunk | Gone | Taken | Stored | Refused | Later | TooSlow | Failed
Word: TypeAlias = Opened | Answer | Pong | Logged
