"""Write tests/vectors/frame/*.json: one frame a file, and its one expected outcome.

Run by hand when the format changes (`python -m tests.vectors.make_frame_vectors`); the
vectors are committed and the tests only read them.  Sealing draws random keys, so a new
run writes other bytes with the same outcomes.
"""

import hashlib
import json
import struct
from pathlib import Path

import cbor2
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from wire import sealing
from wire.age import Stanza, decode_header, encode_header, encode_identity, encode_stanzas
from wire.batch import Batch, Opening, encode_batch
from wire.category import Category
from wire.event import Key
from wire.frame import Core, core_hash, encode_core, join_unsigned, split, split_unsigned
from wire.ids import (
    BootInstant,
    DeviceId,
    GrantHash,
    PolicyDigest,
    SubjectId,
    WallInstant,
    key_id,
)
from wire.shelf import shelve
from wire.xwing import public_key_of

FOLDER = Path(__file__).parent / "frame"
DEVICE = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"device").digest())
GUARD_SEED = hashlib.sha256(b"guard").digest()
READER_SEED = hashlib.sha256(b"reader").digest()
SUBJECT_SEED = hashlib.sha256(b"subject").digest()
RECIPIENTS = [public_key_of(READER_SEED), public_key_of(SUBJECT_SEED)]


def core(**changes: object) -> Core:
    """Return the core that all vectors share."""
    return msgspec.structs.replace(
        Core(
            origin="https://collector.example:8443",
            tenant="acme",
            programme="desk",
            device=DeviceId(hashlib.sha256(b"spki").digest()),
            subject=SubjectId(hashlib.sha256(b"pseudonym").digest()[:16]),
            policy=PolicyDigest(hashlib.sha256(b"policy").digest()),
            grant=GrantHash(hashlib.sha256(b"grant").digest()),
            category=Category.KEYS,
            day="2026-11-21",
            recipients=tuple(key_id(key) for key in RECIPIENTS),
            guard_key=key_id(public_key_of(GUARD_SEED)),
            purpose="train-computer-use",
            expires="2027-02-19",
        ),
        **changes,
    )


def plaintext(of: Core) -> bytes:
    """Return a batch of one key press."""
    opening = Opening(
        core_hash=core_hash(encode_core(of)),
        wall=WallInstant(1_795_219_200_000_000_000),
        boot=BootInstant(1_000_000_000),
        level="classes",
        counters={},
        gaps=(),
    )
    press = Key(at=BootInstant(1_000_000_500), sequence=1, pressed=True, kind="letter")
    return encode_batch(Batch(opening=opening, events=(press,)))


def unsigned(of: Core) -> bytes:
    """Return a frame that wants only its trailer."""
    return sealing.seal(of, plaintext(of), RECIPIENTS, public_key_of(GUARD_SEED)).unsigned


def with_header_stanza(of: Core, bound: bytes | None) -> bytes:
    """Return a signed frame whose age header has another bind stanza, or none."""
    digest = core_hash(encode_core(of))
    _core, _shelf, body = split_unsigned(unsigned(of))
    file_key = bytes(16)
    stanzas = [Stanza(words=("assent/bind-v1",), body=bound)] if bound is not None else []
    wrapped = sealing._wrap(file_key, RECIPIENTS, digest)  # noqa: SLF001 - a hostile device
    parsed = sealing_header(wrapped)
    covered = encode_stanzas((*parsed, *stanzas))
    header = encode_header(covered, sealing.header_mac(file_key, covered))
    shelf = shelve(header, public_key_of(GUARD_SEED), digest)
    body = sealing._encrypt(file_key, plaintext(of))  # noqa: SLF001
    return sealing.sign(join_unsigned(encode_core(of), shelf, body), 1, DEVICE)


def sealing_header(header: bytes) -> tuple[Stanza, ...]:
    """Return the recipient stanzas of an age header, without its bind stanza."""
    return decode_header(header).stanzas[:-1]


def main() -> None:
    """Write all vectors."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.json"):
        old.unlink()
    good = sealing.sign(unsigned(core()), 1, DEVICE)
    other = sealing.sign(unsigned(core()), 2, DEVICE)  # another batch of the same day and grant
    parts, others = split(good), split(other)
    resigned = {
        "shelf-of-another-batch": (parts.core, others.shelf, parts.body),
        "body-of-another-batch": (parts.core, parts.shelf, others.body),
        "core-of-another-batch": (others.core, parts.shelf, parts.body),
        "body-without-its-last-chunk": (parts.core, parts.shelf, parts.body[:16]),
        "body-cut-inside-a-chunk": (parts.core, parts.shelf, parts.body[:-1]),
    }
    write("good", good, "opens", "what a device sends")
    write("magic", b"\x88" + good[1:], "malformed", "another first byte")
    write("cut", good[:-1], "malformed", "the last byte is missing")
    write("trailing", good + b"\0", "malformed", "a byte follows the trailer")
    write("empty", b"", "malformed", "nothing at all")
    write(
        "oversized-core",
        good[:8] + struct.pack(">I", 1 << 31) + good[12:],
        "malformed",
        "a core longer than allowed",
    )
    write("algorithm", good[:-65] + b"\x02" + good[-64:], "malformed", "an unknown algorithm")
    write(
        "sequence",
        good[:-73] + struct.pack(">Q", 9) + good[-65:],
        "forged",
        "another sequence number under the old signature",
    )
    write(
        "core-changed",
        good.replace(b"2026-11-21", b"2026-11-20", 1),
        "forged",
        "another day under the old signature",
    )
    write(
        "foreign-signature",
        sealing.sign(unsigned(core()), 1, Ed25519PrivateKey.generate()),
        "forged",
        "signed by another device",
    )
    loose = cbor2.dumps(dict(reversed(list(cbor2.loads(parts.core).items()))))
    write(
        "core-not-canonical",
        resign(loose, parts.shelf, parts.body),
        "malformed",
        "keys of the core in another order",
    )
    later = encode_core(core(suite=2))
    write("suite", resign(later, parts.shelf, parts.body), "malformed", "a suite of the future")
    for name, (a, b, c) in resigned.items():
        write(name, resign(a, b, c), "does-not-open", "verifies, because its device signed it")
    write(
        "no-bind-stanza",
        with_header_stanza(core(), None),
        "does-not-open",
        "the age header is bound to no core",
    )
    write(
        "foreign-bind-stanza",
        with_header_stanza(core(), bytes(32)),
        "does-not-open",
        "the age header is bound to another core",
    )


def resign(core_bytes: bytes, shelf: bytes, body: bytes) -> bytes:
    """Return these parts as a frame that the device signed."""
    return sealing.sign(join_unsigned(core_bytes, shelf, body), 1, DEVICE)


def write(name: str, frame: bytes, expect: str, why: str) -> None:
    """Write one vector."""
    vector = {
        "name": name,
        "why": why,
        "expect": expect,
        "device": DEVICE.public_key().public_bytes_raw().hex(),
        "guard_seed": GUARD_SEED.hex(),
        "reader": encode_identity(READER_SEED),
        "frame": frame.hex(),
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(vector, indent=1) + "\n")


if __name__ == "__main__":
    main()
