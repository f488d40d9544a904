"""A transparency log: RFC 6962 hashes and proofs, C2SP signed checkpoints and cosignatures.

Sources: RFC 6962 section 2.1 (hashes and proofs), RFC 9162 section 2.1 (verification),
https://c2sp.org/signed-note, tlog-checkpoint and tlog-cosignature.  `Tree` grows in
memory; where its leaves are kept is the collector's affair.
"""

import base64
import binascii
import hashlib
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from wire.ed25519 import public_key
from wire.errors import ForgedError, MalformedError

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
HASH_BYTES: Final = 32
TILE_HEIGHT: Final = 8  # tlog-tiles: a tile is eight levels of the tree
LARGEST_SIZE: Final = 2**63 - 1  # tlog-checkpoint; also what a database column holds
ALGORITHM_ED25519: Final = 0x01
ALGORITHM_COSIGNATURE: Final = 0x04
_DASH: Final = "\u2014 "  # signed-note begins each signature line with an em dash
_TIME: Final = struct.Struct(">Q")
_KEY_ID_BYTES: Final = 4
MOST_SIGNATURES: Final = 256
"""Of one note: its log's and those of witnesses, more than any policy names.

Whoever hands out a note can add lines without end, and each costs its reader time.  signed-note
asks for a limit, and that 16 are taken at least.
"""


class Signs(Protocol):
    """A private key."""

    def sign(self, data: bytes) -> bytes:
        """Return the signature, 64 bytes."""
        ...

    def public_key(self) -> Ed25519PublicKey:
        """Return its other half."""
        ...


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of one entry (RFC 6962: 0x00 before it)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash over two subtrees (RFC 6962: 0x01 before them)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """The leaves of a log and the roots of all their complete subtrees."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        """Start from leaf hashes already logged, in order."""
        self._levels: list[bytearray] = [bytearray()]  # hashes, one after the other
        for leaf in leaves:
            self.append(leaf)

    @property
    def size(self) -> int:
        """The number of leaves."""
        return len(self._levels[0]) // HASH_BYTES

    def append(self, leaf: bytes) -> int:
        """Add a leaf hash; return its index.  Amortised constant time."""
        node, level = leaf, 0
        while True:
            if level == len(self._levels):
                self._levels.append(bytearray())
            row = self._levels[level]
            row += node
            if len(row) // HASH_BYTES % 2:
                return self.size - 1
            left, right = row[-2 * HASH_BYTES : -HASH_BYTES], row[-HASH_BYTES:]
            node, level = node_hash(bytes(left), bytes(right)), level + 1

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first *size* leaves (all by default)."""
        size = self._checked(self.size if size is None else size)
        return self._range(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that leaf *index* is among the first *size*."""
        if not 0 <= index < self._checked(size):
            raise ValueError(f"leaf {index} is not among the first {size}")
        return tuple(self._path(index, 0, size))

    def of_last(self, size: int) -> tuple[tuple[bytes, ...], bytes]:
        """Return the proof of the last of the first *size* leaves, and the root over them all."""
        last = self._checked(size) - 1
        if last < 0:
            raise ValueError("an empty tree has no last leaf")
        node, proof = self._at(0, last), []
        for level in range(last.bit_length()):
            if last >> level & 1:  # all else lies to its left, in complete subtrees
                proof.append(self._at(level, (last >> level) - 1))
                node = node_hash(proof[-1], node)
        return tuple(proof), node

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the first *old* leaves are a prefix of the first *new*."""
        if not 0 <= old <= self._checked(new):
            raise ValueError(f"a tree of {old} leaves is not a prefix of one of {new}")
        return tuple(self._prefix(old, 0, new, whole=True)) if 0 < old < new else ()

    def subtrees(self, tile_level: int, start: int, count: int) -> Sequence[bytes]:
        """Return *count* roots of complete subtrees of 256^*tile_level* leaves, from *start* on.

        Raises:
            ValueError: There are not so many.

        """
        level = tile_level * TILE_HEIGHT
        there = len(self._levels[level]) // HASH_BYTES if level < len(self._levels) else 0
        if not 0 <= start <= start + count <= there:
            raise ValueError(f"level {level} of the tree has {there} hashes")
        return [self._at(level, number) for number in range(start, start + count)]

    def _at(self, level: int, number: int) -> bytes:
        return bytes(self._levels[level][number * HASH_BYTES : (number + 1) * HASH_BYTES])

    def _checked(self, size: int) -> int:
        if not 0 <= size <= self.size:
            raise ValueError(f"the log has {self.size} leaves, not {size}")
        return size

    def _range(self, start: int, end: int) -> bytes:
        length = end - start
        if length & (length - 1) == 0 and start % length == 0:
            return self._at(length.bit_length() - 1, start // length)
        middle = start + _split(length)
        return node_hash(self._range(start, middle), self._range(middle, end))

    def _path(self, index: int, start: int, end: int) -> list[bytes]:
        if end - start == 1:
            return []
        middle = start + _split(end - start)
        if index < middle:
            return [*self._path(index, start, middle), self._range(middle, end)]
        return [*self._path(index, middle, end), self._range(start, middle)]

    def _prefix(self, old: int, start: int, end: int, *, whole: bool) -> list[bytes]:
        if old == end:
            return [] if whole else [self._range(start, end)]
        middle = start + _split(end - start)
        if old <= middle:
            return [*self._prefix(old, start, middle, whole=whole), self._range(middle, end)]
        return [*self._prefix(old, middle, end, whole=False), self._range(start, middle)]


def _split(length: int) -> int:
    """Return the largest power of two below *length*."""
    return 1 << (length - 1).bit_length() - 1


def verify_inclusion(
    *, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that leaf hash *leaf* is number *index* of the *size* leaves under *root*.

    Raises:
        ForgedError: The proof does not show that (RFC 9162 section 2.1.3.2).

    """
    if not 0 <= index < size:
        raise ForgedError("an inclusion proof is for a leaf outside its tree")
    number, last, node = index, size - 1, leaf
    for step in _hashes(proof, leaf, root):
        if last == 0:
            raise ForgedError("an inclusion proof is too long")
        if number & 1 or number == last:
            node = node_hash(step, node)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            node = node_hash(node, step)
        number, last = number >> 1, last >> 1
    if last or node != root:
        raise ForgedError("an inclusion proof does not lead to the root")


def verify_consistency(
    *, old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """Check that the tree of *old* leaves is a prefix of the tree of *new* leaves.

    Every log continues the empty one: who has seen nothing yet has nothing to check here.

    Raises:
        ForgedError: The proof does not show that (RFC 9162 section 2.1.4.2), or *old* is 0.

    """
    steps = _hashes(proof)
    if not 0 < old <= new:
        raise ForgedError("a log cannot shrink, and an empty one is no prefix worth proving")
    if old == new:
        if steps or old_root != new_root:
            raise ForgedError("two roots of one size differ, or the proof is not empty")
        return
    if old & (old - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        raise ForgedError("a consistency proof is missing")
    if _both_roots(old - 1, new - 1, steps) != (old_root, new_root):
        raise ForgedError("a consistency proof does not lead to both roots")


def _both_roots(number: int, last: int, steps: list[bytes]) -> tuple[bytes, bytes]:
    """Return the roots that *steps* lead to (RFC 9162 section 2.1.4.2, steps 3 to 6)."""
    while number & 1:
        number, last = number >> 1, last >> 1
    small = large = steps[0]
    for step in steps[1:]:
        if last == 0:
            raise ForgedError("a consistency proof is too long")
        if number & 1 or number == last:
            small, large = node_hash(step, small), node_hash(step, large)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            large = node_hash(large, step)
        number, last = number >> 1, last >> 1
    if last:
        raise ForgedError("a consistency proof is too short")
    return small, large


def _hashes(proof: Sequence[bytes], *ends: bytes) -> list[bytes]:
    if any(len(step) != HASH_BYTES for step in (*proof, *ends)):
        raise ForgedError("a proof holds something that is no hash")
    return list(proof)


# --- signed notes -----------------------------------------------------------------------


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The head of a log: whose, how many leaves, and the root over them."""

    origin: str
    size: int
    root: bytes


def verifier_key(name: str, algorithm: int, public_key: bytes) -> str:
    """Return the C2SP verifier key `name+hash+base64(algorithm || key)`."""
    typed = bytes([algorithm]) + public_key
    return f"{name}+{_key_id(name, typed).hex()}+{base64.b64encode(typed).decode('ascii')}"


def checkpoint_text(checkpoint: Checkpoint) -> str:
    """Return the text of a checkpoint note, which ends in a line feed."""
    root = base64.b64encode(checkpoint.root).decode("ascii")
    return f"{checkpoint.origin}\n{checkpoint.size}\n{root}\n"


def sign_checkpoint(checkpoint: Checkpoint, key: Signs) -> str:
    """Return the note: the checkpoint signed by its log, whose name is its origin."""
    text = checkpoint_text(checkpoint)
    line = _line(checkpoint.origin, ALGORITHM_ED25519, key, key.sign(text.encode()))
    return text + "\n" + line


def verify_checkpoint(note: str, log_key: str) -> Checkpoint:
    """Return the checkpoint in *note*, signed by the log of this verifier key.

    Raises:
        MalformedError: Not a signed note, or not a checkpoint.
        ForgedError: No valid signature of that log, or a checkpoint of another origin.

    """
    name, algorithm, key = parse_verifier_key(log_key)
    if algorithm != ALGORITHM_ED25519:
        raise MalformedError("a log's verifier key is of an unknown algorithm")
    text, signatures = _parse_note(note)
    checkpoint = _parse_checkpoint(text)
    if checkpoint.origin != name:
        raise ForgedError("the checkpoint is of another log")
    signature = _signature(signatures, name, algorithm, key)
    _verify(key, signature, text.encode(), "the checkpoint is not signed by its log")
    return checkpoint


def unsigned_checkpoint(note: str) -> Checkpoint:
    """Return the checkpoint in *note*, whoever signed it: for who has no log's key at hand.

    Raises:
        MalformedError: Not a signed note, or not a checkpoint.

    """
    return _parse_checkpoint(_parse_note(note)[0])


def cosign(note: str, name: str, key: Signs, at: int) -> str:
    """Return the witness's signature line for *note*, at *at* seconds since the epoch.

    The caller has checked the note and its consistency with what the witness saw before.
    """
    text, _signatures = _parse_note(note)
    signature = _TIME.pack(at) + key.sign(_cosigned(text, at))
    return _line(name, ALGORITHM_COSIGNATURE, key, signature)


def verify_cosignature(note: str, witness_key: str) -> int:
    """Return when the witness of this verifier key cosigned *note*, seconds since the epoch.

    Raises:
        MalformedError: Not a signed note.
        ForgedError: No valid cosignature of that witness.

    """
    name, algorithm, key = parse_verifier_key(witness_key)
    if algorithm != ALGORITHM_COSIGNATURE:
        raise MalformedError("a witness's verifier key is of an unknown algorithm")
    text, signatures = _parse_note(note)
    signature = _signature(signatures, name, algorithm, key)
    if len(signature) < _TIME.size:
        raise ForgedError("a cosignature is too short")
    (at,) = _TIME.unpack_from(signature)
    said = "the witness did not cosign this checkpoint"
    _verify(key, signature[_TIME.size :], _cosigned(text, at), said)
    return int(at)


def parse_verifier_key(text: str) -> tuple[str, int, bytes]:
    """Return name, algorithm and raw key of a C2SP verifier key.

    Raises:
        MalformedError: Not such a key, or its hash does not fit.

    """
    try:
        name, digest, encoded = text.split("+", 2)
        typed = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        name = digest = ""
        typed = b""
    if not name or _key_id(name, typed).hex() != digest or len(typed) != 1 + HASH_BYTES:
        raise MalformedError("this is no verifier key (name+hash+base64)")
    return name, typed[0], typed[1:]


def _cosigned(text: str, at: int) -> bytes:
    return f"cosignature/v1\ntime {at}\n{text}".encode()


@lru_cache(maxsize=64)  # a log signs with one key, a receipt for each batch
def _key_id(name: str, typed_key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + typed_key).digest()[:_KEY_ID_BYTES]


def _line(name: str, algorithm: int, key: Signs, signature: bytes) -> str:
    typed = bytes([algorithm]) + key.public_key().public_bytes_raw()
    blob = base64.b64encode(_key_id(name, typed) + signature).decode("ascii")
    return f"{_DASH}{name} {blob}\n"


def _parse_note(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    text, blank, tail = note.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise MalformedError("this is no signed note")
    lines = tail[:-1].split("\n", MOST_SIGNATURES)
    if len(lines) > MOST_SIGNATURES:
        raise MalformedError(f"the note has more than {MOST_SIGNATURES} signatures")
    signatures = []
    for line in lines:
        name, _, blob = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not name or not blob:
            raise MalformedError("a signature line of the note is malformed")
        try:
            signatures.append((name, base64.b64decode(blob, validate=True)))
        except ValueError:
            raise MalformedError("a signature of the note is not base64") from None
    return text + "\n", signatures


def _parse_checkpoint(text: str) -> Checkpoint:
    lines = text.split("\n")
    try:
        origin, size, root = lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True)
    except (IndexError, ValueError):
        raise MalformedError("the note is no checkpoint") from None
    checkpoint = Checkpoint(origin=origin, size=size, root=root)
    # Extension lines are allowed by the format; ours has none, so the text is exact.
    fits = len(root) == HASH_BYTES and 0 <= size <= LARGEST_SIZE
    if not fits or checkpoint_text(checkpoint) != text:
        raise MalformedError("the checkpoint is not in its canonical form")
    return checkpoint


def _signature(signatures: list[tuple[str, bytes]], name: str, algorithm: int, key: bytes) -> bytes:
    wanted = _key_id(name, bytes([algorithm]) + key)
    for signer, blob in signatures:
        if signer == name and blob[:_KEY_ID_BYTES] == wanted:
            return blob[_KEY_ID_BYTES:]
    raise ForgedError(f"the note is not signed by {name}")


def _verify(key: bytes, signature: bytes, message: bytes, said: str) -> None:
    try:
        public_key(key).verify(signature, message)
    except InvalidSignature:
        raise ForgedError(said) from None
