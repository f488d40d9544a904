"""The plaintext of a frame: an opening record and the events of one category.

    zstd( msgpack [ Opening, event, event, ... ] ) || zstd skippable frame of zeros

The skippable frame pads the length to a Padmé size (Nikitin et al., "Reducing Metadata
Leakage from Encrypted Files", 2019), so that the size of a batch says little; any zstd
tool skips it.  The opening record repeats the hash of the core, so plaintext and core
cannot be exchanged even by somebody who holds all keys.
"""

import struct
from typing import Final

import msgspec
from backports import zstd

from wire.errors import UNREADABLE, MalformedError
from wire.event import Event
from wire.ids import BootInstant, CoreHash, WallInstant

LEVEL: Final = 3
LARGEST_PLAIN_BYTES: Final = 64 << 20  # a batch rolls at 4 MiB; more is not one of ours
_SKIPPABLE: Final = struct.Struct("<II")
_SKIPPABLE_MAGIC: Final = 0x184D2A50


class Gap(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A span in which nothing was kept, and why (paused, excluded, opted-out, lost)."""

    since: BootInstant
    until: BootInstant
    why: str


class Opening(msgspec.Struct, frozen=True, kw_only=True, tag="opening", array_like=True):
    """The first record of a batch.

    `wall` and `boot` are the same instant on both clocks; an event's wall time is
    wall + (at - boot).  `counters` counts what the sources saw since the batch before.
    """

    core_hash: CoreHash
    wall: WallInstant
    boot: BootInstant
    level: str
    counters: dict[str, int]
    gaps: tuple[Gap, ...]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Kept events of one category, under one grant and one policy."""

    opening: Opening
    events: tuple[Event, ...]


_DECODER: Final = msgspec.msgpack.Decoder(tuple[Opening | Event, ...])


def encode_batch(batch: Batch) -> bytes:
    """Return the padded plaintext of *batch*."""
    packed = zstd.compress(msgspec.msgpack.encode((batch.opening, *batch.events)), LEVEL)
    zeros = padded_bytes(len(packed) + _SKIPPABLE.size) - len(packed) - _SKIPPABLE.size
    return packed + _SKIPPABLE.pack(_SKIPPABLE_MAGIC, zeros) + bytes(zeros)


def decode_batch(data: bytes) -> Batch:
    """Return the batch in an opened plaintext.

    Raises:
        MalformedError: Not in this format, or larger than any batch of ours.

    """
    unpacker = zstd.ZstdDecompressor()
    try:
        packed = unpacker.decompress(data, max_length=LARGEST_PLAIN_BYTES)
    except zstd.ZstdError as exc:
        raise MalformedError(f"the batch is not zstd: {exc}") from exc
    if not unpacker.eof:
        raise MalformedError("the batch is cut short, or too large")
    _check_padding(unpacker.unused_data)
    try:
        records = _DECODER.decode(packed)
    except UNREADABLE as exc:
        raise MalformedError(f"the batch has an unknown record: {exc}") from exc
    opening, *events = records or (None,)
    if not isinstance(opening, Opening):
        raise MalformedError("the batch does not begin with its opening record")
    kept = tuple(event for event in events if not isinstance(event, Opening))
    if len(kept) != len(events):
        raise MalformedError("the batch has a second opening record")
    return Batch(opening=opening, events=kept)


def padded_bytes(length: int) -> int:
    """Return the Padmé size for *length*: at most 12 % more, O(log log) bits leaked."""
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    mask = (1 << exponent - exponent.bit_length()) - 1
    return length + mask & ~mask


def _check_padding(rest: bytes) -> None:
    if len(rest) < _SKIPPABLE.size:
        raise MalformedError("the batch has no padding frame")
    magic, zeros = _SKIPPABLE.unpack_from(rest)
    if magic != _SKIPPABLE_MAGIC or rest[_SKIPPABLE.size :] != bytes(zeros):
        raise MalformedError("the batch's padding is not all zeros, or of a wrong length")
