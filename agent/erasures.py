"""Requests of erasure, each in a file of its own, from before they are first said until for ever.

    erasures/DIGEST.json       the signed request, and what became of it

A request is durable before anybody is told; it is told again until the collector's log has
it *and* the guard has signed that its keys are gone.  Until then it is outstanding, and
listed.  A confirmed one stays, with the guard's receipt: it is the data subject's proof.
"""

import contextlib
import hashlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.consent.standing import Erasing
from agent.disk import Disk
from base import durable
from base.clock import NANOSECONDS
from base.stored import Versioned, refuse_newer
from wire.collector_http import Carried, decode
from wire.errors import UNREADABLE, MalformedError, WireError
from wire.ids import SubjectId, WallInstant
from wire.rights import (
    Demand,
    Request,
    SignedErasure,
    SignedRequest,
    Speaker,
    read_erasure,
    sign_request,
    verify_erasure,
)

_LOG: Final = logging.getLogger(__name__)
FOLDER: Final = "erasures"
_NONCE_LABEL: Final = b"assent/erasure-nonce/v1\0"


class Asked(Versioned, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request and where it stands."""

    signed: SignedRequest
    collector_at: int | None = None  # when the collector proved that its half is done
    guard: SignedErasure | None = None  # verified before it is kept

    @property
    def request(self) -> Request:
        """What was asked for."""
        return msgspec.json.decode(self.signed.request, type=Request)

    @property
    def is_outstanding(self) -> bool:
        """Whether somebody has yet to confirm it."""
        return self.collector_at is None or self.guard is None

    def words(self, now: int) -> str:
        """Return one line for the data subject."""
        request = self.request
        what = "everything" if request.category is None else str(request.category)
        if request.has_span:
            what += f" from {request.first_day} to {request.last_day}"
        said = f"{what}, asked {_minute(request.made_at)}: "
        if self.collector_at is None:
            return said + "not confirmed by the collector, nor by the guard"
        if self.guard is None:
            return said + "deleted by the collector, NOT confirmed by the guard"
        erasure = read_erasure(self.guard)
        if now < erasure.pending_until:
            until = _minute(erasure.pending_until)
            return said + f"confirmed; pending until {until}, when the guard's backups are gone"
        return said + "confirmed, and the guard's backups are gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """In whose name this device asks, and of which collector."""

    key: Ed25519PrivateKey
    subject: SubjectId
    rights_key: bytes
    appointment: bytes
    origin: str


class Erasures:
    """The folder and what is in it.  One process holds it (the agent's lock)."""

    def __init__(self, state: Path, asker: Asker, disk: Disk = durable) -> None:
        """Read what was asked.

        Raises:
            OSError: The folder cannot be used.
            NewerError: A later version of this program wrote a request in it.

        """
        self._folder = state / FOLDER
        self._asker = asker
        self._disk = disk
        durable.private_folder(self._folder)
        durable.sweep(self._folder)
        self._asked: dict[str, Asked] = {}
        for path, asked in _read(self._folder):
            if asked is None:
                _put_aside(path)
            else:
                self._asked[path.stem] = asked

    def ask(self, entry: Erasing) -> bool:
        """Make durable that this is to be erased; whether it was not so already.

        The nonce follows from the line of the ledger, so that asking again after a crash is
        the same request to the byte.

        Raises:
            OSError: It is not durable; nobody will be told.

        """
        signed = self._signed(entry)
        if signed.digest.hex() in self._asked:
            return False
        self._keep(Asked(signed=signed))
        return True

    def has(self, entry: Erasing) -> bool:
        """Whether what *entry* says was asked for, durably."""
        return self._signed(entry).digest.hex() in self._asked

    def _signed(self, entry: Erasing) -> SignedRequest:
        asker, days = self._asker, entry.days or ("", "")
        place = f"{entry.line} {entry.wall} {entry.category} {days}".encode()
        nonce = hashlib.sha256(_NONCE_LABEL + asker.subject + place).digest()[:16]
        request = Request(
            nonce=nonce,
            origin=asker.origin,
            subject=asker.subject,
            demand=Demand.ERASE,
            category=entry.category,
            first_day=days[0],
            last_day=days[1],
            made_at=WallInstant(entry.wall),
        )
        speaker = Speaker(key=asker.key, rights_key=asker.rights_key, appointment=asker.appointment)
        return sign_request(request, speaker)

    def outstanding(self) -> list[str]:
        """Return the names of those that somebody has yet to confirm, the oldest first."""
        waiting = [(a.request.made_at, name) for name, a in self._asked.items() if a.is_outstanding]
        return [name for _at, name in sorted(waiting)]

    def words(self, now: int) -> tuple[str, ...]:
        """Return a line for each that is outstanding."""
        return tuple(self._asked[name].words(now) for name in self.outstanding())

    def spans(self) -> list[Request]:
        """Return those that are about some days only: what of these is still here has to go."""
        return [a.request for a in self._asked.values() if a.request.has_span]

    def find(self, name: str) -> Asked:
        """Return the request of that name."""
        return self._asked[name]

    def all(self) -> list[Asked]:
        """Return what was ever asked, the oldest first."""
        return sorted(self._asked.values(), key=lambda asked: asked.request.made_at)

    def carried(self, name: str, now: int, body: bytes, signing_key: str) -> str:
        """Note what is proved: the collector's half, and what *body* has of the guard's.

        Returns what is missing, in words; empty when all is confirmed.

        Raises:
            OSError: It is not durable; it is asked once more, which does no harm.

        """
        asked, word, missing = self._asked[name], decode(body, Carried).guard, ""
        try:
            if word is None:
                missing = "the guard has yet to confirm an erasure; it is asked again"
            else:
                verify_erasure(word, asked.signed.digest, signing_key)
        except WireError as exc:
            word, missing = None, f"the guard's receipt for an erasure does not hold ({exc})"
        self._keep(msgspec.structs.replace(asked, collector_at=now, guard=word))
        return missing

    def _keep(self, asked: Asked) -> None:
        name = asked.signed.digest.hex()
        # A crash before this leaves a line of the ledger without its request: the next start
        # makes the same one.
        self._disk.replace(self._folder / f"{name}.json", msgspec.json.encode(asked))
        self._asked[name] = asked


def look(state: Path) -> list[Asked]:
    """Return what lies in the folder, beside a running agent; changes nothing.

    Raises:
        OSError: It cannot be read.
        NewerError: A later version of this program wrote a request in it.

    """
    folder = state / FOLDER
    found = [asked for _path, asked in _read(folder) if asked] if folder.is_dir() else []
    return sorted(found, key=lambda asked: asked.request.made_at)


def _read(folder: Path) -> list[tuple[Path, Asked | None]]:
    """Return each request of *folder*, None where it cannot be read."""
    return [(path, _read_one(path)) for path in sorted(folder.glob("*.json"))]


def _read_one(path: Path) -> Asked | None:
    data = path.read_bytes()
    refuse_newer(data, path)
    try:
        asked = msgspec.json.decode(data, type=Asked)
        _check(asked, path)
    except (*UNREADABLE, MalformedError):
        _LOG.error("%s cannot be read; the agent asks for that erasure anew", path.name)
        return None
    return asked


def _put_aside(path: Path) -> None:
    # No crash leaves that.  What it asked for stands in the ledger, and is asked anew.
    with contextlib.suppress(OSError):  # then it is tried again at the next start
        path.rename(path.with_suffix(".unreadable"))


def _check(asked: Asked, path: Path) -> None:
    """Go on if *path* holds what it is named for, and it can be read.

    All of it is read now, so that nobody trips over it later.
    """
    asked.request  # noqa: B018 - see above
    if asked.signed.digest.hex() != path.stem:
        raise MalformedError("it is not the request that it is named for")
    if asked.guard is not None:
        read_erasure(asked.guard)


def _minute(wall: int) -> str:
    return f"{datetime.fromtimestamp(wall // NANOSECONDS, UTC):%Y-%m-%d %H:%M} UTC"
