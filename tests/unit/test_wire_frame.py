"""Seal, sign, verify, open: the frame in both directions, and every way to change it."""

import secrets
from dataclasses import dataclass

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from wire.age import decode_identity, encode_identity
from wire.category import Category
from wire.errors import ForgedError, MalformedError, NotForUsError, WireError
from wire.frame import (
    LARGEST_BYTES,
    Core,
    Verified,
    core_hash,
    decode_core,
    encode_core,
    join_unsigned,
    split,
    verify,
)
from wire.ids import DeviceId, GrantHash, PolicyDigest, SubjectId, key_id
from wire.opening import open_body, open_released
from wire.sealing import Sealed, new_identity, seal, sign
from wire.shelf import reseal, unshelve
from wire.xwing import public_key_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Parties:
    """Everybody who holds a key that matters to one batch."""

    device: Ed25519PrivateKey
    reader: str
    subject: str
    guard_seed: bytes


@pytest.fixture(scope="module")
def parties() -> Parties:
    return Parties(
        device=Ed25519PrivateKey.generate(),
        reader=new_identity(),
        subject=new_identity(),
        guard_seed=secrets.token_bytes(32),
    )


def core_for(parties: Parties, **changes: object) -> Core:
    core = Core(
        origin="https://collector.example:8443",
        tenant="acme",
        programme="desk",
        device=DeviceId(bytes(32)),
        subject=SubjectId(bytes(16)),
        policy=PolicyDigest(bytes(32)),
        grant=GrantHash(bytes(32)),
        category=Category.KEYS,
        day="2026-11-21",
        recipients=tuple(key_id(key) for key in recipients(parties)),
        guard_key=key_id(public_key_of(parties.guard_seed)),
        purpose="train-computer-use",
        expires="2027-02-19",
        nonce=bytes(16),
    )
    return msgspec.structs.replace(core, **changes)


def recipients(parties: Parties) -> list[bytes]:
    return [public_key_of(decode_identity(i)) for i in (parties.reader, parties.subject)]


def sealed_for(parties: Parties, plaintext: bytes, **changes: object) -> Sealed:
    core = core_for(parties, **changes)
    return seal(core, plaintext, recipients(parties), public_key_of(parties.guard_seed))


def opened(parties: Parties, verified: Verified, identity: str) -> bytes:
    """What a reader does with the guard's help."""
    digest = verified.core_hash
    header = unshelve(verified.parts.shelf, parties.guard_seed, digest)
    reader_key = public_key_of(decode_identity(identity))
    header = open_released(reseal(header, reader_key, digest), identity, digest)
    return open_body(header, verified.parts.body, identity, digest)


@pytest.mark.parametrize("length", [0, 1, 65_535, 65_536, 65_537, 200_000])
def test_what_was_sealed_is_what_reader_and_guard_open_together(
    parties: Parties, length: int
) -> None:
    """Both recipients open the same bytes, with the guard's part, whatever the length."""
    plaintext = secrets.token_bytes(length)
    frame = sign(sealed_for(parties, plaintext).unsigned, 7, parties.device)
    verified = verify(frame, parties.device.public_key())
    assert verified.sequence == 7
    assert verified.core == core_for(parties)
    assert opened(parties, verified, parties.reader) == plaintext
    assert opened(parties, verified, parties.subject) == plaintext


def test_no_two_batches_share_a_core(parties: Parties) -> None:
    """What is bound to a core (shelf, header, release) is so bound to one batch alone."""
    fields = msgspec.structs.asdict(core_for(parties))
    del fields["nonce"]
    assert encode_core(Core(**fields)) != encode_core(Core(**fields))


def test_every_single_bit_flip_of_a_small_frame_is_refused(parties: Parties) -> None:
    """No bit of a frame can change without the signature saying so."""
    frame = sign(sealed_for(parties, b"small").unsigned, 1, parties.device)
    public = parties.device.public_key()
    accepted = []
    for bit in range(len(frame) * 8):
        changed = bytearray(frame)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            verify(bytes(changed), public)
        except WireError:
            continue
        accepted.append(bit)
    assert accepted == []


def test_a_frame_cut_anywhere_is_refused(parties: Parties) -> None:
    """A prefix of a frame is no frame, and neither is a frame with a byte behind it."""
    frame = sign(sealed_for(parties, b"small").unsigned, 1, parties.device)
    public = parties.device.public_key()
    for length in range(len(frame)):
        with pytest.raises(MalformedError):
            verify(frame[:length], public)
    with pytest.raises(MalformedError):
        verify(frame + b"\0", public)


def test_a_frame_larger_than_the_limit_is_refused_before_anything_is_parsed(
    parties: Parties,
) -> None:
    """A length is checked first: nobody makes a collector hash a gigabyte."""
    with pytest.raises(MalformedError, match="at most"):
        verify(bytes(LARGEST_BYTES + 1), parties.device.public_key())


def test_another_devices_signature_is_refused(parties: Parties) -> None:
    """A frame is its device's or it is nothing."""
    frame = sign(sealed_for(parties, b"x").unsigned, 1, Ed25519PrivateKey.generate())
    with pytest.raises(ForgedError):
        verify(frame, parties.device.public_key())


@pytest.mark.parametrize("part", ["core", "shelf", "body"])
def test_a_part_of_one_batch_on_another_is_refused_even_when_signed_anew(
    parties: Parties, part: str
) -> None:
    """A device that lies about its own batches still cannot make one open as another."""
    ours = split(sign(sealed_for(parties, b"ours").unsigned, 1, parties.device))
    theirs = split(
        sign(sealed_for(parties, b"theirs", purpose="other").unsigned, 2, parties.device)
    )
    mixed = {name: getattr(ours, name) for name in ("core", "shelf", "body")}
    mixed[part] = getattr(theirs, part)
    frame = sign(join_unsigned(mixed["core"], mixed["shelf"], mixed["body"]), 3, parties.device)
    verified = verify(frame, parties.device.public_key())
    with pytest.raises((ForgedError, NotForUsError)):
        opened(parties, verified, parties.reader)


def test_without_the_guard_a_reader_opens_nothing(parties: Parties) -> None:
    """The reader's key does not open a shelf, and no age header is in the frame."""
    sealed = sealed_for(parties, b"locked twice")
    verified = verify(sign(sealed.unsigned, 1, parties.device), parties.device.public_key())
    with pytest.raises(NotForUsError):
        unshelve(verified.parts.shelf, decode_identity(parties.reader), verified.core_hash)
    assert b"age-encryption.org" not in sealed.unsigned


def test_without_the_readers_key_a_guard_opens_nothing(parties: Parties) -> None:
    """The guard sees the age header and cannot use it."""
    sealed = sealed_for(parties, b"locked twice")
    verified = verify(sign(sealed.unsigned, 1, parties.device), parties.device.public_key())
    header = unshelve(verified.parts.shelf, parties.guard_seed, verified.core_hash)
    assert header == sealed.age_header
    with pytest.raises(NotForUsError):
        open_body(
            header, verified.parts.body, encode_identity(parties.guard_seed), verified.core_hash
        )


def test_a_core_has_exactly_one_encoding(parties: Parties) -> None:
    """Longer integers, other key order or unknown keys mean the bytes are refused."""
    good = encode_core(core_for(parties))
    assert decode_core(good) == core_for(parties)
    longer = good[:1] + b"\x18\x01" + good[2:]  # key 1 written in two bytes
    for bad in (longer, good + b"\0", good[:-1], b"", b"\xa0", b"\xff" * 40):
        with pytest.raises(MalformedError):
            decode_core(bad)


def test_a_core_of_a_later_suite_is_refused_by_name(parties: Parties) -> None:
    """A frame from the future says so, and is not guessed at."""
    with pytest.raises(MalformedError, match="suite 2"):
        decode_core(encode_core(core_for(parties, suite=2)))


def test_the_core_hash_is_over_the_bytes_as_sent(parties: Parties) -> None:
    """Binding uses the encoded bytes, not a re-encoding."""
    frame = sign(sealed_for(parties, b"x").unsigned, 1, parties.device)
    parts = split(frame)
    assert verify(frame, parties.device.public_key()).core_hash == core_hash(parts.core)
