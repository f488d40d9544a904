"""A collector and a reader who work together against the people whose batches they have.

They have all that either of them has: bodies, index and every key of the collector, identity
and certificates of the reader.  They log what they like, and ask the real guard over its real
door.  What they lack are the guard's keys and the approvers' consent.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import collector.premises
import reader.premises
from base.clock import SystemClock
from base.door import Response
from base.https import OneDoor
from base.paths import Paths
from collector.guard.client import GuardClient
from collector.index.sqlite import SqliteIndex
from collector.log import Log, append
from demo.organisation import Organisation
from demo.programs import Program
from wire.age import encode_identity
from wire.errors import WireError
from wire.frame import batch_hash, core_hash, split
from wire.grant import AccessGrant, access_digest, decode_request
from wire.guard_http import LoggedBatch, ReleaseAnswers, ReleaseRequest
from wire.ids import WallInstant
from wire.leaf import Kind, release_payload
from wire.opening import open_body, open_released
from wire.policy import decode_policy
from wire.shelf import unshelve
from wire.tlog import verify_checkpoint
from wire.xwing import ENCAPSULATION_BYTES

RELEASED: Final = "released"
WAIT_SECONDS: Final = 20.0
SECRET_BYTES: Final = 32  # of every kind of private key that we use


class Conspiracy:
    """Both, after the organisation is up; `with Conspiracy(organisation) as both: ...`."""

    def __init__(self, organisation: Organisation) -> None:
        self.collector = collector.premises.Premises(paths(organisation.collector))
        self.reader = reader.premises.Premises(paths(organisation.reader))
        config = self.collector.config()
        assert config.guard is not None
        policy = decode_policy((organisation.policy / "policy.json").read_bytes())
        self.witness_key = policy.guard.witness
        self._index = SqliteIndex(self.collector.index_file)
        self.log = Log(self._index, self.collector.log_key(), config.log_name)
        self._witness = GuardClient(self.collector, config.guard)
        self._doors: list[OneDoor] = []
        self.door = self.as_reader("guard")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for door in self._doors:
            door.close()
        self._index.close()

    def door_to(
        self, peer: str, certificate: Path | None, key: Path | None, *, origin: str = ""
    ) -> OneDoor:
        """Return a door to guard or collector, as whom that certificate names, or nobody.

        It is the readers', where *origin* names no other.
        """
        folder, settings = self.reader.peer(peer), self.reader.door(peer)
        authority = (folder / "ca.pem").read_text("ascii")
        origin = origin or settings.origin
        door = OneDoor(origin, settings.tls_pins, authority, certificate, key, timeout=WAIT_SECONDS)
        self._doors.append(door)
        return door

    def as_reader(self, peer: str) -> OneDoor:
        """Return a door to guard or collector as the reader that it certified."""
        return self.door_to(peer, self.reader.peer(peer) / "client.pem", self.reader.client_key)

    def as_collector(self, *, among_readers: bool = False) -> OneDoor:
        """Return a door to the guard as the collector that it certified: its own, or theirs."""
        folder, own = self.collector.guard_folder, self.collector.config().guard
        assert own is not None
        origin = "" if among_readers else own.origin
        return self.door_to("guard", folder / "client.pem", folder / "client.key", origin=origin)

    # --- the log ----------------------------------------------------------------------

    def logs(self, grant: AccessGrant, *frames: bytes) -> tuple[str, tuple[LoggedBatch, ...]]:
        """Log a release for each of *frames*, asked for or not; return a cosigned checkpoint."""
        request = decode_request(grant.request)
        numbers = []
        with self._index.writing() as connection:
            for frame in frames:
                payload = release_payload(
                    batch_hash(frame),
                    core_hash(split(frame).core),
                    access_digest(grant),
                    request.recipient,
                )
                at = WallInstant(SystemClock().now().wall)
                numbers.append(append(connection, Kind.RELEASE, payload, at))
        note = self.cosigned()
        return note, tuple(
            self.proven(number, note, frame) for number, frame in zip(numbers, frames, strict=True)
        )

    def cosigned(self) -> str:
        """Return a checkpoint of the whole log that the guard's witness has cosigned."""
        return self._witness.cosign(self.log, self.witness_key)

    def proven(self, number: int, note: str, frame: bytes) -> LoggedBatch:
        """Return *frame*'s parts with leaf *number* of the log, proven under *note*."""
        size = verify_checkpoint(note, self.log.verifier_key).size
        with self._index.reading() as connection:
            leaf = self.log.leaf(connection, number)
        assert leaf.salt is not None
        parts = split(frame)
        return LoggedBatch(
            batch_hash=batch_hash(frame),
            core=parts.core,
            shelf=parts.shelf,
            entry=leaf.entry,
            salt=leaf.salt,
            index=number,
            proof=self.log.inclusion(number, size),
        )

    # --- the guard --------------------------------------------------------------------

    def ask(
        self, grant: AccessGrant, note: str, *batches: LoggedBatch, door: OneDoor | None = None
    ) -> Response:
        """Return what the guard answers to a request for release."""
        asked = ReleaseRequest(grant=grant, checkpoint=note, batches=batches)
        return (door or self.door).request("POST", "/v1/release", msgspec.json.encode(asked))


def verdicts(answer: Response) -> list[str]:
    """Return `released` or the name of the refusal for each batch, or of the one for all."""
    if answer.status == 200:
        batches = msgspec.json.decode(answer.body, type=ReleaseAnswers).batches
        return [batch.refused or RELEASED for batch in batches]
    assert answer.status == 403, answer.body
    return [msgspec.json.decode(answer.body)["refused"]]


def paths(program: Program) -> Paths:
    """Return where a program of an organisation keeps what."""
    home = program.home
    return Paths(
        config=home / "config", state=home / "state", logs=home / "logs", runtime=home / "run"
    )


# --- what opens ---------------------------------------------------------------------------


def opened_with(frame: bytes, keys: set[bytes], stored: set[bytes]) -> list[str]:
    """Try every key on every piece in every way there is; return the ways that opened something."""
    parts = split(frame)
    digest, identities = core_hash(parts.core), list(map(encode_identity, keys))
    released = [parts.shelf, *(each for each in stored if len(each) > ENCAPSULATION_BYTES)]
    ways: list[tuple[Callable[..., bytes], tuple[object, ...]]] = []
    ways += [(unshelve, (parts.shelf, key, digest)) for key in keys]
    for identity in identities:
        ways += [(open_released, (piece, identity, digest)) for piece in released]
        ways += [(open_body, (piece, parts.body, identity, digest)) for piece in stored]
    return [way.__name__ for way, arguments in ways if opens(way, *arguments)]


def opens(way: Callable[..., bytes], *arguments: object) -> bool:
    """Whether that opens something."""
    try:
        way(*arguments)
    except WireError:
        return False
    return True


# --- what lies in a folder ------------------------------------------------------------------


def pieces(folder: Path) -> set[bytes]:
    """Return the content of every file below *folder*, and every value of every database."""
    found = set()
    for path in filter(Path.is_file, folder.rglob("*")):
        found.add(path.read_bytes())
        if path.suffix == ".sqlite":
            found |= set(_values(path))
    return found


def secrets_in(folder: Path) -> set[bytes]:
    """Return everything below *folder* that could be a 32-byte secret: keys and values."""
    found = set()
    for piece in pieces(folder):
        if piece.startswith(b"-----BEGIN PRIVATE KEY"):
            found.add(private_bytes(piece))
        if len(piece) == SECRET_BYTES:
            found.add(piece)
        if len(piece) == 2 * SECRET_BYTES:
            found |= set(_hexadecimal(piece))
    return found


def _values(database: Path) -> Iterator[bytes]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (table,) in tables.fetchall():
            for row in connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608 - its own name
                yield from filter(None, map(_bytes, row))


def _bytes(value: Any) -> bytes:  # noqa: ANN401 - whatever SQLite holds
    match value:
        case bytes():
            return value
        case str():
            return value.encode()
        case _:
            return b""


def private_bytes(pem: bytes) -> bytes:
    """Return the 32 bytes that are the private key in *pem*."""
    key = load_pem_private_key(pem, password=None)
    match key:
        case Ed25519PrivateKey():
            return key.private_bytes_raw()
        case EllipticCurvePrivateKey():
            return key.private_numbers().private_value.to_bytes(SECRET_BYTES, "big")
        case _:
            raise AssertionError(f"a key of an unknown kind: {type(key)}")


def _hexadecimal(text: bytes) -> Sequence[bytes]:
    try:
        return [bytes.fromhex(text.decode("ascii"))]
    except ValueError:
        return []
