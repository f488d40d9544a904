"""Mutated bytes into every decoder of `wire`: only a WireError may come out.

Each target has seeds that are good; `mutation` makes bad ones of them.  No coverage is
looked at: this is the form that runs in seconds, `guided` is the one that looks.
"""

import random
import secrets
from typing import Any, Final

from backports import zstd
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fuzz.campaign import Tally, Target, attack
from fuzz.mutation import mutate, odd_core, odd_json
from tests.fakes.organisation import Organisation
from wire import (
    age,
    batch,
    consent_receipt,
    consent_record,
    frame,
    grant,
    receipt,
    shelf,
    tile,
    tlog,
)
from wire.category import Category
from wire.consent_event import ConsentEvent
from wire.errors import WireError
from wire.event import Frame, Key, Rectangle, Still
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
from wire.linked import ConsentState
from wire.sealing import new_identity, seal, sign
from wire.xwing import public_key_of

REFUSES: Final = (WireError,)


def campaign(count: int, seed: int) -> Tally:
    """Try *count* inputs, in turn for each target."""
    return attack(targets(), count, seed)


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
        _target(name="frame.verify", decode=lambda d: frame.verify(d, public), seeds=(whole,)),
        _target(
            name="frame.decode_core",
            decode=frame.decode_core,
            seeds=(frame.encode_core(core),),
            spoil=_spoil_core,
        ),
        _target(name="age.decode_header", decode=age.decode_header, seeds=(sealed.age_header,)),
        _target(
            name="batch.decode_batch",
            decode=batch.decode_batch,
            seeds=(plaintext, zstd.compress(b"\x91" * 50) + plaintext[-64:]),
        ),
        _target(
            name="tlog.verify_checkpoint",
            decode=lambda d: tlog.verify_checkpoint(_text(d), verifier),
            seeds=(note.encode(),),
        ),
        _target(
            name="tlog.parse_verifier_key",
            decode=lambda d: tlog.parse_verifier_key(_text(d)),
            seeds=(verifier.encode(),),
        ),
        _target(
            name="tile.parse_tile_name",
            decode=lambda d: tile.parse_tile_name(_text(d)),
            seeds=(b"tile/1/x001/x234/067.p/5", b"tile/entries/000"),
        ),
        _target(
            name="tile.decode_entries",
            decode=tile.decode_entries,
            seeds=(tile.encode_entries((b"batch\n", b"", b"x" * 300)),),
        ),
        _target(
            name="age.decode_identity",
            decode=lambda d: age.decode_identity(_text(d)),
            seeds=(identity.encode(),),
        ),
        _target(
            name="shelf.unshelve",
            decode=lambda d: shelf.unshelve(d, guard_seed, digest),
            seeds=(frame.split(whole).shelf,),
        ),
        _target(name="grant.decode_request", decode=grant.decode_request, seeds=(request,)),
        *_consents(),
        _target(
            name="receipt.verify_receipt",
            decode=lambda d: receipt.verify_receipt(
                receipt.decode_receipt(d), BatchHash(bytes(32)), CoreHash(bytes(32)), verifier
            ),
            seeds=(receipt.encode_receipt(_receipt(note)),),
        ),
    )


def _consents() -> tuple[Target, ...]:
    org = Organisation()
    policy = org.policy()
    signed = org.consent(PolicyDigest(bytes(32)), policy)
    ended = ConsentEvent(
        grant=grant.grant_hash(signed), state=ConsentState.WITHDRAWN, at=WallInstant(10**18)
    )
    shown = consent_receipt.Evidence(
        signed=signed, words=policy.words(Category.KEYS), notice=policy.notice, events=(ended,)
    )
    public = org.device.public_key()
    return (
        _target(
            name="consent_record.decode_record",
            decode=consent_record.decode_record,
            seeds=(signed.record,),
            spoil=odd_json,
        ),
        _target(
            name="consent_receipt.verify_consent_receipt",
            decode=lambda d: consent_receipt.verify_consent_receipt(d, public),
            seeds=(consent_receipt.write_consent_receipt(shown, org.device),),
            spoil=odd_json,
        ),
    )


def _target(name: str, decode: Any, seeds: tuple[bytes, ...], spoil: Any = mutate) -> Target:  # noqa: ANN401
    return Target(name=name, decode=decode, seeds=seeds, refuses=REFUSES, spoil=spoil)


def _spoil_core(core: bytes, chance: random.Random) -> bytes:
    return odd_core(core, chance) if chance.random() < 0.5 else mutate(core, chance)


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
    still = Still(at=BootInstant(5), of=BootInstant(3), since=BootInstant(3))
    return batch.encode_batch(batch.Batch(opening=opening, events=(press, picture, still)))


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
