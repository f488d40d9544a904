"""Mutated bytes into every decoder of `wire`: only a WireError may come out.

    python fuzz/fuzz_wire.py --count 50000 --seed 7

Each target has seeds that are good, and bytes made from them by flips, cuts, splices, lengths
that lie, and CBOR that nobody asked for.  A finding is printed with the seed, the target and
the bytes that show it; the exit code is 1 then.  No coverage is looked at: this is the short
form that runs in seconds and that a unit test runs a share of.
"""

import argparse
import random
import secrets
import struct
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cbor2
from backports import zstd
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from wire import age, batch, frame, grant, receipt, shelf, tlog
from wire.category import Category
from wire.errors import WireError
from wire.event import Frame, Key, Rectangle
from wire.ids import (
    BatchHash,
    BootInstant,
    CoreHash,
    DeviceId,
    GrantHash,
    KeyId,
    PolicyDigest,
    SubjectId,
    WallInstant,
    key_id,
)
from wire.sealing import new_identity, seal, sign
from wire.xwing import public_key_of

INTERESTING: Final = (
    *(b"\x00", b"\xff", b"\n", b" ", b"+", b"\xc0\x80", b"\xed\xa0\x80", "\u2028".encode()),
    *(b"\x7f\xff\xff\xff\xff\xff\xff\xff", b"\xff" * 8, b"\x80" + bytes(7)),
    *(b"\x9f\xff", b"\xbf\xff", b"\x5f\x41a\xff", b"\xfb\x7f\xf8" + bytes(6), b"\xf9\x7e\x00"),
    *(b"\xc4\x82\x1b" + b"\xff" * 8 + b"\x01", b"\xc5\x82\x1a\x7f\xff\xff\xff\x03"),
    *(b"\xd8\x1c\x81\xd8\x1d\x00", b"\xd8\x1e\x82\x01\x00", b"\xd8\x23\x61(", b"\xd8\x24\x61x"),
    *(b"\xc1\x1b" + b"\xff" * 8, b"\xd9\x01\x04\x44" + bytes(4), b"\x81" * 900, b"\xa1" * 300),
    *(b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\x1b" + b"\xff" * 8, b"-1", b"0" * 40),
    *("\u0663".encode(), "\u2014 ".encode(), b"--- ", b"-> ", b"\x28\xb5\x2f\xfd", b"PY*\x18"),
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A decoder, and bytes that it takes."""

    name: str
    decode: Callable[[bytes], object]
    seeds: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What came out that may not."""

    target: str
    data: bytes
    trace: str


def targets() -> tuple[Target, ...]:
    """Return every decoder with good bytes for it; keys are new each time."""
    device, log = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    public, log_key = device.public_key(), log.public_key().public_bytes_raw()
    identity, guard_seed = new_identity(), secrets.token_bytes(32)
    reader = public_key_of(age.decode_identity(identity))
    plaintext = _plaintext()
    core = _core(key_id(reader), key_id(public_key_of(guard_seed)))
    sealed = seal(core, plaintext, (reader,), public_key_of(guard_seed))
    whole = sign(sealed.unsigned, 1, device)
    digest = frame.core_hash(frame.encode_core(core))
    note = _note(log)
    verifier = tlog.verifier_key("log.example/acme", tlog.ALGORITHM_ED25519, log_key)
    request = grant.encode_request(_request())
    return (
        Target(name="frame.verify", decode=lambda d: frame.verify(d, public), seeds=(whole,)),
        Target(
            name="frame.decode_core",
            decode=frame.decode_core,
            seeds=(frame.encode_core(core),),
        ),
        Target(name="age.decode_header", decode=age.decode_header, seeds=(sealed.age_header,)),
        Target(
            name="batch.decode_batch",
            decode=batch.decode_batch,
            seeds=(plaintext, zstd.compress(b"\x91" * 50) + plaintext[-64:]),
        ),
        Target(
            name="tlog.verify_checkpoint",
            decode=lambda d: tlog.verify_checkpoint(_text(d), verifier),
            seeds=(note.encode(),),
        ),
        Target(
            name="tlog.parse_verifier_key",
            decode=lambda d: tlog.parse_verifier_key(_text(d)),
            seeds=(verifier.encode(),),
        ),
        Target(
            name="age.decode_identity",
            decode=lambda d: age.decode_identity(_text(d)),
            seeds=(identity.encode(),),
        ),
        Target(
            name="shelf.unshelve",
            decode=lambda d: shelf.unshelve(d, guard_seed, digest),
            seeds=(frame.split(whole).shelf,),
        ),
        Target(name="grant.decode_request", decode=grant.decode_request, seeds=(request,)),
        Target(
            name="receipt.verify_receipt",
            decode=lambda d: receipt.verify_receipt(
                receipt.decode_receipt(d), BatchHash(bytes(32)), CoreHash(bytes(32)), verifier
            ),
            seeds=(receipt.encode_receipt(_receipt(note)),),
        ),
    )


def mutate(seed: bytes, chance: random.Random) -> bytes:
    """Return *seed* with one to four things wrong with it."""
    data = bytearray(seed)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 4))):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((1, 1, 2, 4, 8, 64, 1000)))
        match chance.randrange(8):
            case 0 | 1 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 2:
                data[at:at] = chance.choice(INTERESTING)
            case 3:
                piece = chance.choice(INTERESTING)
                data[at : at + len(piece)] = piece
            case 4:
                del data[at:end]
            case 5:
                data[at:at] = data[at:end]
            case 6 if len(data) >= 8:
                width = chance.choice((">H", ">I", ">Q", "<I"))
                number = chance.choice((0, 1, 0x7FFF, 0xFFFF, len(data), len(data) + 1))
                struct.pack_into(width, data, min(at, len(data) - 8), number)
            case _:
                del data[at:]
        if not data:
            data = bytearray(chance.randbytes(chance.randrange(1, 40)))
    return bytes(data)


def odd_cbor(chance: random.Random, depth: int = 0) -> bytes:  # noqa: PLR0911 - a kind each
    """Return CBOR of any kind, tags among it, well formed or nearly."""
    kind = chance.randrange(9) if depth < 5 else chance.randrange(4)
    match kind:
        case 0:
            return cbor2.dumps(chance.choice((0, 1, -1, 2**63, 2**64, -(2**70), 1.5, None, True)))
        case 1:
            return cbor2.dumps(chance.randbytes(chance.choice((0, 4, 16, 32))))
        case 2:
            words = ("keys", "2027-01-01", "\x00", "(", "9" * 40, "1e999999999", "-1")
            return cbor2.dumps(chance.choice(words))
        case 3:
            return chance.choice(INTERESTING)
        case 4 | 5:
            tag = chance.choice((0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260))
            head = bytes([0xC0 + tag]) if tag < 24 else b"\xd9" + tag.to_bytes(2, "big")
            return head + odd_cbor(chance, depth + 1)
        case 6:
            count = chance.randrange(4)
            return bytes([0x80 + count]) + b"".join(
                odd_cbor(chance, depth + 1) for _ in range(count)
            )
        case _:
            count = chance.randrange(4)
            pairs = (
                cbor2.dumps(chance.randrange(18)) + odd_cbor(chance, depth + 1)
                for _ in range(count)
            )
            return bytes([0xA0 + count]) + b"".join(pairs)


def fuzz(count: int, seed: int) -> list[Finding]:
    """Try *count* inputs, in turn for each target; return what may not have come out."""
    chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    aims, findings = targets(), []
    cores = [aim for aim in aims if aim.name == "frame.decode_core"]
    for number in range(count):
        aim = aims[number % len(aims)]
        data = mutate(chance.choice(aim.seeds), chance)
        if aim in cores and chance.random() < 0.5:
            data = odd_core(aim.seeds[0], chance)
        try:
            aim.decode(data)
        except WireError:
            continue
        except Exception:  # noqa: BLE001 - this is what we look for
            findings.append(Finding(target=aim.name, data=data, trace=traceback.format_exc()))
    return findings


def odd_core(core: bytes, chance: random.Random) -> bytes:
    """Return *core* with one value replaced by CBOR that does not belong there."""
    numbered = cbor2.loads(core)
    odd = chance.choice(list(numbered))
    pieces = (
        cbor2.dumps(key) + (odd_cbor(chance) if key == odd else cbor2.dumps(value))
        for key, value in numbered.items()
    )
    return bytes([0xA0 + len(numbered)]) + b"".join(pieces)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _core(reader: KeyId, guard_key: KeyId) -> frame.Core:
    return frame.Core(
        origin="https://collector.example:8443",
        tenant="acme",
        programme="pilot",
        device=DeviceId(bytes(32)),
        subject=SubjectId(bytes(16)),
        policy=PolicyDigest(bytes(32)),
        grant=GrantHash(bytes(32)),
        category=Category.KEYS,
        day="2027-03-15",
        recipients=(reader,),
        guard_key=guard_key,
        purpose="train-computer-use",
        expires="2027-06-13",
    )


def _plaintext() -> bytes:
    opening = batch.Opening(
        core_hash=CoreHash(bytes(32)),
        wall=WallInstant(1),
        boot=BootInstant(1),
        level="classes",
        counters={"seen": 2},
        gaps=(batch.Gap(since=BootInstant(1), until=BootInstant(2), why="paused"),),
    )
    part = Rectangle(x=0, y=0, width=1, height=1, pixels=zstd.compress(b"abc"))
    picture = Frame(
        at=BootInstant(3), key=True, left=0, top=0, width=1, height=1, rectangles=(part,)
    )
    press = Key(at=BootInstant(2), pressed=True, kind="letter")
    return batch.encode_batch(batch.Batch(opening=opening, events=(press, picture)))


def _note(log: Ed25519PrivateKey) -> str:
    head = tlog.Checkpoint(origin="log.example/acme", size=5, root=bytes(range(32)))
    return tlog.sign_checkpoint(head, log)


def _receipt(note: str) -> receipt.Receipt:
    return receipt.Receipt(
        batch_hash=BatchHash(bytes(32)),
        core_hash=CoreHash(bytes(32)),
        received_at=WallInstant(1),
        salt=bytes(16),
        index=3,
        proof=(bytes(32),),
        checkpoint=note,
    )


def _request() -> grant.AccessRequest:
    return grant.AccessRequest(
        request_id="r-1",
        reader="training-team",
        recipient="age1pq1",
        programme="pilot",
        purpose="train-computer-use",
        categories=(Category.KEYS,),
        first_day="2027-03-01",
        last_day="2027-03-31",
        expires_at=WallInstant(2),
        why="first run",
    )


def main() -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    findings = fuzz(given.count, given.seed)
    for found in findings[:20]:
        sys.stdout.write(f"{found.target}: {found.data[:400]!r}\n{found.trace}\n")
    sys.stdout.write(f"{given.count} inputs, seed {given.seed}: {len(findings)} findings\n")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
