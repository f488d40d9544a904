"""The audit bundle: all that a collector can show of its log, in plain files.

docs/decisions/0044-the-audit-bundle.md in code.  A bundle is a folder: JSON Lines, one file
for each kind of record, the log's entries in the files of C2SP tlog-tiles, and `SHA256SUMS`
over all of it.  Each record opens one leaf of the log, and is believed for no other reason.
There is one way to write each line, so that no bit is without a meaning.
"""

import re
import struct
from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

import msgspec

from wire.errors import UNREADABLE, MalformedError
from wire.frame import is_day
from wire.guard_order import SignedOrder
from wire.ids import WallInstant
from wire.leaf import SALT_BYTES
from wire.me import SignedReturn
from wire.rights import SignedErasure, SignedRequest
from wire.tlog import HASH_BYTES

FORMAT: Final = b'{"format":"assent/audit-bundle/v1"}\n'
STAMP: Final = "bundle.json"
SUMS: Final = "SHA256SUMS"
HEAD: Final = "log/checkpoint"
ENTRIES: Final = "log/tile/entries/"
CHECKPOINTS: Final = "log/checkpoints.jsonl"
ROOTS: Final = "roots.jsonl"
POLICIES: Final = "policies.jsonl"
CONSENTS: Final = "consents.jsonl"
EVENTS: Final = "consent-events.jsonl"
DEMANDS: Final = "demands.jsonl"
ORDERS: Final = "orders.jsonl"
ERASED: Final = "erased.jsonl"
TOMBSTONES: Final = "tombstones.jsonl"
EXPIRIES: Final = "expiries.jsonl"
ACCESSES: Final = "accesses.jsonl"
RETURNS: Final = "returns.jsonl"
HALTS: Final = "halts.jsonl"
DRILLS: Final = "drills.jsonl"
SINGLE: Final = (
    *(STAMP, HEAD, CHECKPOINTS, ROOTS, POLICIES, CONSENTS, EVENTS, DEMANDS, ORDERS),
    *(ERASED, TOMBSTONES, EXPIRIES, ACCESSES, RETURNS, HALTS, DRILLS),
)
"""The files that are always there, empty where there is nothing to say."""

TILE: Final = 256  # entries in a file of tlog-tiles
SPAN: Final = 64 * TILE  # leaves whose batches, and releases, share a file
_SEQUENCES: Final = 2**64
_LENGTH: Final = struct.Struct(">H")
_SUM: Final = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9./-]+)\n")
T = TypeVar("T", bound="Line")


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Common shape of what stands in one line: an unknown field is an error."""


class Leaf(Line, frozen=True, kw_only=True):
    """What opens leaf number `leaf`, together with what the record says."""

    leaf: int
    salt: bytes


class Note(Line, frozen=True, kw_only=True):
    """A checkpoint from before the head that the witness cosigned, as a C2SP signed note."""

    note: str


class RootLine(Line, frozen=True, kw_only=True):
    """A root of the policies' TUF repository; the oldest stands first."""

    root: bytes


class PolicyLine(Leaf, frozen=True, kw_only=True):
    """A policy that was published, under the newest metadata that signed it."""

    root: bytes
    snapshot: bytes
    targets: bytes
    policy: bytes


class ConsentLine(Leaf, frozen=True, kw_only=True):
    """A consent record as the device signed it, and the device's raw Ed25519 key."""

    record: bytes
    signature: bytes
    device_key: bytes


class EventLine(Leaf, frozen=True, kw_only=True):
    """What became of a consent, as the device signed it."""

    event: bytes
    signature: bytes


class DemandLine(Leaf, frozen=True, kw_only=True):
    """What a data subject demanded, and the guard's signed word on it where there is one."""

    signed: SignedRequest
    guard: SignedErasure | None


class OrderLine(Leaf, frozen=True, kw_only=True):
    """What the guard erased by its own hand, as it signed it."""

    signed: SignedOrder


class ErasedLine(Line, frozen=True, kw_only=True):
    """A batch that was erased under the demand, or the guard's order, at `leaf`."""

    leaf: int
    batch: bytes


class TombstoneLine(Leaf, frozen=True, kw_only=True):
    """A batch that its device deleted; `stored`: it had been here."""

    batch: bytes
    stored: bool


class ExpiryLine(Leaf, frozen=True, kw_only=True):
    """A batch whose last day was over, and which day that was."""

    batch: bytes
    expires: str


class AccessLine(Line, frozen=True, kw_only=True):
    """One approver's signature under an access request; a line for each."""

    request: bytes
    approver: str
    signature: bytes


class ReturnLine(Line, frozen=True, kw_only=True):
    """A data subject's own order, by which batches of theirs were given back to them."""

    signed: SignedReturn


class HaltLine(Leaf, frozen=True, kw_only=True):
    """What a leaf of a halt commits to."""

    payload: bytes


class DrillLine(Leaf, frozen=True, kw_only=True):
    """What a leaf of a drill commits to: when, how many probes, and the hole, if one was found."""

    began_at: WallInstant
    passed: bool
    probes: int
    hole: str


class ReleaseLine(Leaf, frozen=True, kw_only=True):
    """A release of one batch under the access request, or the own order, of this digest."""

    batch: bytes
    core_hash: bytes
    access: bytes


class BatchLine(Leaf, frozen=True, kw_only=True):
    """A batch that is stored: its core, and what else the device's signature is over."""

    batch: bytes
    core: bytes
    shelf_sha256: bytes
    body_sha256: bytes
    sequence: int
    signature: bytes


_HASHES: Final[dict[type[Line], tuple[str, ...]]] = {
    kind: tuple(
        name
        for name in ("batch", "core_hash", "access", "shelf_sha256", "body_sha256")
        if name in kind.__struct_fields__
    )
    for kind in (ErasedLine, TombstoneLine, ExpiryLine, ReleaseLine, BatchLine)
}
"""Which fields of a record are hashes."""


def encode_line(line: Line) -> bytes:
    """Return the one way to write *line*, without its line feed."""
    return msgspec.json.encode(line)


def decode_line(data: bytes, kind: type[T]) -> T:
    """Return the record in a line.

    Raises:
        MalformedError: Not such a record, or not in the one way to write it.

    """
    try:
        line = msgspec.json.decode(data, type=kind)
    except UNREADABLE as exc:
        raise MalformedError(f"this is no {kind.__name__}: {exc}") from exc
    if msgspec.json.encode(line) != data:
        raise MalformedError(f"this {kind.__name__} is not in the one form in which it is written")
    _check_lengths(line)
    return line


def _check_lengths(line: Line) -> None:
    if isinstance(line, Leaf) and (len(line.salt) != SALT_BYTES or line.leaf < 0):
        raise MalformedError(f"a salt has {SALT_BYTES} bytes, and leaves are numbered from 0")
    if isinstance(line, BatchLine) and not 0 <= line.sequence < _SEQUENCES:
        raise MalformedError("a sequence number has 64 bits")
    for name in _HASHES.get(type(line), ()):
        if len(getattr(line, name)) != HASH_BYTES:
            raise MalformedError(f"{name} is no SHA-256")
    if isinstance(line, ExpiryLine) and not is_day(line.expires):
        raise MalformedError("expires is no day as in 2027-03-31")


# --- files ------------------------------------------------------------------------------


def tile_name(number: int, width: int = TILE) -> str:
    """Return the file of entries `number` * 256 and following (C2SP tlog-tiles).

    The last one may be partial: it has *width* entries.
    """
    parts = [f"{number % 1000:03d}"]
    while number := number // 1000:
        parts.insert(0, f"x{number % 1000:03d}")
    partial = "" if width == TILE else f".p/{width}"
    return f"{ENTRIES}{'/'.join(parts)}{partial}"


def tiles(start: int, end: int) -> Iterable[str]:
    """Return the files of the entries from *start*, a multiple of 256, to before *end*."""
    return [tile_name(at // TILE, min(TILE, end - at)) for at in range(start, end, TILE)]


def batches_name(span: int) -> str:
    """Return the file of the batches whose leaves lie in this span of `SPAN` leaves."""
    return f"batches/{span:07d}.jsonl"


def releases_name(span: int) -> str:
    """Return the file of the releases whose leaves lie in this span of `SPAN` leaves."""
    return f"releases/{span:07d}.jsonl"


def encode_entries(entries: Iterable[bytes]) -> bytes:
    """Return the content of a file of entries: each with its length before it."""
    return b"".join(_LENGTH.pack(len(entry)) + entry for entry in entries)


def decode_entries(data: bytes) -> list[bytes]:
    """Return the entries in a file.

    Raises:
        MalformedError: It does not end where an entry ends.

    """
    entries, at = [], 0
    while at < len(data):
        begin = at + _LENGTH.size
        end = begin + int.from_bytes(data[at:begin], "big")
        if begin > len(data) or end > len(data):
            raise MalformedError("a file of log entries is cut short")
        entries.append(data[begin:end])
        at = end
    return entries


def encode_sums(sums: Mapping[str, str]) -> bytes:
    """Return SHA256SUMS, as `sha256sum --check` reads it: in the order of names."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode("ascii")


def decode_sums(data: bytes) -> dict[str, str]:
    """Return the digest of each file by its name.

    Raises:
        MalformedError: Not in the one form in which it is written.

    """
    try:
        found = {name: digest for digest, name in _SUM.findall(data.decode("ascii"))}
    except UnicodeDecodeError:
        found = {}
    outside = [n for n in found if n.startswith("/") or ".." in n.split("/")]
    if not found or outside or encode_sums(found) != data:
        raise MalformedError(f"{SUMS} is not as it is written: a digest and a name in each line")
    return found
