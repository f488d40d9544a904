"""The bytes of a batch: taken in, held against their hash and signature, put into the store.

What has to see a whole frame, and nothing else: steps 3 to 5 of an upload (`receive`) and the
first half of step 7.  `Intake` is what the endpoint knows; `Here` does it in this process, the
processes of `collector.workers` do it elsewhere.
"""

import asyncio
import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from base.errors import AssentError
from collector.refusal import RefusedError, Why
from collector.store import BodyStore, Marked, PutsTogether
from wire.errors import ForgedError, MalformedError, UnknownVersionError
from wire.frame import Core, Verifies, verify
from wire.ids import BatchHash, CoreHash
from wire.signatures import Signer

_log = logging.getLogger(__name__)

EXTENSION: Final = "assent.intake"  # in a scope: the Intake of whoever holds the connection
_LENGTH_DIGITS: Final = 18  # Python refuses to read numbers of very many digits, with an error


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What a frame that was verified says, as far as the index keeps it."""

    batch: BatchHash
    core: Core
    core_bytes: bytes
    core_hash: CoreHash
    sequence: int
    sealed_sha256: bytes
    signature: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Ahead:
    """A frame that was taken in and stored before anybody asked for it."""

    account: Account
    began: int  # boot instant, before it was stored
    key: bytes  # whose signature it bears


class Intake(Protocol):
    """Takes in the one frame of a request."""

    ahead: Ahead | None
    """What is here already: nothing is asked any more."""
    size_bytes: int
    """How much came, once all did."""
    belonged: bool
    """Whether one like it belonged here not long ago; then it can be stored before it is judged."""
    mark: str
    """The name of the frame's mark in a store that finds marks by their names, once it has one."""

    async def taken(self, key: Ed25519PublicKey, batch: BatchHash, bounds: "Bounds") -> Account:
        """Return what came, signed by *key* and named *batch*; steps 3 to 5.

        Raises:
            RefusedError: It is too large, not what it says, or of somebody else.
            TimeoutError: It did not come in time.
            ClientDisconnect: Who sent it is gone.

        """
        ...

    async def store_it(self) -> None:
        """Put what was taken into the store, durably, with a mark.

        Raises:
            RefusedError: It cannot be stored now.
            AssentError: The store is away, or has to be mended first.

        """
        ...

    async def settle(self, *, ahead: bool = False) -> None:
        """Take the mark away: the index knows the frame, or the frame is gone.

        With *ahead* the next frame of this client may be taken in before it is asked for.
        """
        ...


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much a body may be, and how long it may take."""

    largest_bytes: int
    seconds: float


@dataclass(kw_only=True)
class Here:
    """Takes it in within this process; what takes long, in a thread."""

    scope: Scope
    receive: Receive
    store: BodyStore
    ahead: Ahead | None = None
    size_bytes: int = 0
    belonged: bool = False
    mark: str = ""
    _frame: bytes = b""
    _batch: BatchHash = field(default=BatchHash(b""))
    _mark: Marked | None = None

    async def taken(self, key: Ed25519PublicKey, batch: BatchHash, bounds: Bounds) -> Account:
        """Steps 3 to 5."""
        self._frame = await bounded(self.scope["headers"], self.receive, bounds)
        self._batch, self.size_bytes = batch, len(self._frame)
        return await run_in_threadpool(account_of, self._frame, batch, Signer(key))

    async def store_it(self) -> None:
        """Put it into the store, and forget it."""
        frame, self._frame = self._frame, b""
        self._mark = await run_in_threadpool(put, self.store, self._batch, frame)
        self.mark = self._mark.name if isinstance(self.store, PutsTogether) else ""

    async def settle(self, *, ahead: bool = False) -> None:  # noqa: ARG002 - nobody reads on here
        """Take its mark away."""
        if self._mark is not None:
            await run_in_threadpool(settle, [self._mark])


# --- 3: the body ------------------------------------------------------------------------


async def bounded(
    headers: Iterable[tuple[bytes, bytes]], receive: Receive, bounds: Bounds
) -> bytes:
    """Return the body, which the first read here asks for (100 Continue).

    Raises:
        RefusedError: It is too large.
        TimeoutError: It did not come in time.
        ClientDisconnect: Who sent it is gone.

    """
    largest = bounds.largest_bytes
    too_large = RefusedError(Why.TOO_LARGE, f"at most {largest} bytes are taken here")
    announced = next((value for name, value in headers if name == b"content-length"), b"0")
    if not announced.isdigit() or len(announced) > _LENGTH_DIGITS or int(announced) > largest:
        raise too_large
    parts: list[bytes] = []
    length = 0
    async with asyncio.timeout(bounds.seconds):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            parts.append(message.get("body", b""))
            length += len(parts[-1])
            if length > largest:
                raise too_large
            if not message.get("more_body", False):
                return b"".join(parts)


# --- 4 and 5: is it what it says --------------------------------------------------------


def account_of(frame: bytes, batch: BatchHash, key: Verifies) -> Account:
    """Return what *frame* says: steps 4 and 5.

    Raises:
        RefusedError: It is not named *batch*, not a frame, or not signed by *key*.

    """
    if hashlib.sha256(frame).digest() != batch:
        raise RefusedError(Why.WRONG_HASH, "these bytes have another SHA-256 than the path")
    try:
        found = verify(frame, key, batch)
    except UnknownVersionError as exc:
        line = f"{exc}; the device is newer than this collector, which has to be upgraded"
        raise RefusedError(Why.VERSION_UNKNOWN, line) from exc
    except MalformedError as exc:
        raise RefusedError(Why.MALFORMED, str(exc)) from exc
    except ForgedError as exc:
        raise RefusedError(Why.FORGED, str(exc)) from exc
    return Account(
        batch=batch,
        core=found.core,
        core_bytes=found.parts.core,
        core_hash=found.core_hash,
        sequence=found.sequence,
        sealed_sha256=found.sealed_sha256,
        signature=found.parts.signature,
        size_bytes=len(frame),
    )


# --- the first half of 7: the store -----------------------------------------------------


def put(store: BodyStore, batch: BatchHash, frame: bytes) -> Marked:
    """Put *frame* into *store*.

    Raises:
        RefusedError: It cannot be stored now.

    """
    try:
        return store.put(batch, frame)
    except OSError as exc:
        raise _not_stored(exc) from exc


def put_all(
    store: PutsTogether, frames: Sequence[tuple[BatchHash, bytes]]
) -> list[Marked | AssentError]:
    """Put several into *store*; each is stored, or refused by itself."""
    try:
        stored = store.put_all(frames)
    except OSError as exc:  # of the store itself, before it came to any of them
        return [_not_stored(exc) for _ in frames]
    return [_not_stored(each) if isinstance(each, OSError) else each for each in stored]


def settle(marks: Iterable[Marked]) -> None:
    """Take these marks away; the next start looks at one that cannot be."""
    for mark in marks:
        try:
            mark.settle()
        except (AssentError, OSError) as exc:
            _log.warning("a mark could not be removed: %s", exc)


def _not_stored(error: OSError) -> RefusedError:
    _log.error("a frame could not be stored: %s", error.strerror)
    return RefusedError(Why.STORAGE_FULL, "the frame cannot be stored now")
