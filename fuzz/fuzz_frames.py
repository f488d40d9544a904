"""Mutated frames into everything that receives frames: none may be accepted, nothing may crash.

Two attackers, two campaigns:

- `outsider` changes genuine frames on the way and cannot sign.  Three receivers judge each:
  `wire.frame.verify`, the collector (index, store and log are real) and the reader, who even
  holds the release of the genuine frame.
- `insider` is an enrolled device that signs what it changed.  The collector is blind and may
  take it; the guard or the reader has to refuse it, since it is not what was sealed.

Bytes that are a genuine frame again are no mutation and are drawn anew.
"""

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from base.clock import Now
from base.errors import AssentError
from base.paths import Paths
from base.pki import spki_sha256
from collector import policies
from collector.assembly import Collector
from collector.auth import Device
from collector.commands.setup import move_in
from collector.index.tables import devices, guard_keys
from collector.ingest.intake import account_of, put
from collector.ingest.receive import Stored, Upload
from collector.premises import Premises
from collector.refusal import RefusedError
from collector.rights import consents
from fuzz.campaign import Tally, Target, randomness, scratch, silence
from fuzz.mutation import mutate, odd_core
from reader.library import Kept, Library
from reader.opening import FaultError
from reader.verify import Opener
from tests.fakes.organisation import (
    MONTH,
    NOW,
    Organisation,
    ed25519,
    public_key_of_identity,
    raw,
    wall,
)
from wire.category import Category
from wire.collector_http import KeptConsent
from wire.errors import WireError
from wire.event import Key
from wire.frame import (
    LARGEST_CORE_BYTES,
    LARGEST_SHELF_BYTES,
    TRAILER_BYTES,
    batch_hash,
    core_hash,
    join_unsigned,
    split,
    verify,
)
from wire.grant import SignedConsent, grant_hash
from wire.ids import BatchHash, BootInstant, DeviceId, GrantHash, PolicyDigest, key_id
from wire.sealing import sign
from wire.shelf import reseal, unshelve
from wire.xwing import public_key_of

ORIGIN: Final = "https://127.0.0.1:8443"
TENANT: Final = "acme"
STRANGER: Final = ed25519()


class Still:
    """A clock that shows the organisation's moment."""

    def now(self) -> Now:
        """Return that moment."""
        return Now(wall=wall(NOW), boot=1, boot_id="fuzz")


class InMemory(Library):
    """A reader's library of one frame, changed for each attempt."""

    def __init__(self, consent: KeptConsent, grant: GrantHash) -> None:
        """Hold the one consent record."""
        self.data = b""
        self.released: bytes | None = None
        self._kept, self._grant = consent, grant

    def frame(self, batch: BatchHash) -> bytes:  # noqa: ARG002 - there is one
        """Return the frame of this attempt, whatever it is called."""
        return self.data

    def consent(self, grant: GrantHash) -> KeptConsent | None:
        """Return the record if it is this one."""
        return self._kept if grant == self._grant else None

    def release(self, batch: BatchHash) -> Kept | None:  # noqa: ARG002 - there is one
        """Return the release of this attempt."""
        return None if self.released is None else Kept(access=bytes(32), released=self.released)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receivers:
    """Everybody who takes frames, and genuine ones, with their releases, that all of them take."""

    org: Organisation
    collector: Collector
    device: Device
    library: InMemory
    digest: PolicyDigest
    consent: SignedConsent
    genuine: tuple[bytes, ...]
    released: tuple[bytes, ...]

    @property
    def wire(self) -> Target:
        """Verifies as everybody does."""
        return self._target("wire", lambda data: verify(data, self.device.key), WireError)

    @property
    def at_collector(self) -> Target:
        """Takes a frame in under the name that its bytes have."""

        def take(data: bytes) -> object:
            receiver, named = self.collector.receiver, batch_hash(data)
            account = account_of(data, named, self.device.key)
            upload = Upload(device=self.device.id, account=account, now=self.collector.now())
            (outcome,) = receiver.in_scope([upload])
            if isinstance(outcome, AssentError):
                raise outcome
            began, _ = self.collector.clock.now().boot, put(self.collector.store, named, data)
            return receiver.keep([Stored(upload, began)])

        return self._target("collector", take, RefusedError)

    @property
    def reader(self) -> Target:
        """Opens, with the release that lies in its library."""

        def opened(data: bytes) -> object:
            self.library.data = data
            opener = Opener(library=self.library, identity=self.org.identity, today=NOW.date())
            return opener.open(batch_hash(data))

        return self._target("reader", opened, FaultError)

    @property
    def guard_and_reader(self) -> Target:
        """Has the guard release what is on this frame's own shelf, and opens it."""

        def opened(data: bytes) -> object:
            self.library.released = release(self.org, data)
            return self.reader.decode(data)

        return self._target("guard and reader", opened, WireError)

    def _target(
        self, name: str, decode: Callable[[bytes], object], refuses: type[Exception]
    ) -> Target:
        return Target(name=name, decode=decode, seeds=self.genuine, refuses=(refuses,))


def release(org: Organisation, data: bytes) -> bytes:
    """Return what the guard hands out for a frame."""
    parts = split(data)
    digest = core_hash(parts.core)
    header = unshelve(parts.shelf, org.guard_seed, digest)
    return reseal(header, public_key_of_identity(org.identity), digest)


@contextlib.contextmanager
def receivers(folder: Path) -> Iterator[Receivers]:
    """Yield everybody, set up below *folder*; nothing listens."""
    org = Organisation()
    collector = _collector(folder)
    published = _publish(folder, org, collector)
    digest, policy = published.digest, published.policy
    device, consent = _enrol(collector, org), org.consent(digest, policy)
    with collector.index.writing() as connection:
        consents.register(connection, device, consent, collector.now())
    kept = KeptConsent(
        record=consent.record, signature=consent.signature, device_key=raw(org.device)
    )
    # One as short as they come, one of many events: its body has more to cut and to splice.
    genuine = tuple(
        org.seal(digest, _presses(count), consent=consent, origin=ORIGIN).frame
        for count in (1, 300)
    )
    yield Receivers(
        org=org,
        collector=collector,
        device=device,
        library=InMemory(kept, grant_hash(consent)),
        digest=digest,
        consent=consent,
        genuine=genuine,
        released=tuple(release(org, frame) for frame in genuine),
    )
    collector.close()


def _presses(count: int) -> tuple[Key, ...]:
    at = BootInstant(5_500_000_000)
    return tuple(
        Key(at=BootInstant(at + n), pressed=n % 2 == 0, kind="letter") for n in range(count)
    )


# --- the campaigns ------------------------------------------------------------------------


def outsider(count: int, seed: int) -> Tally:
    """Try *count* frames of somebody who cannot sign."""
    return _campaign(_from_outside, count, seed)


def insider(count: int, seed: int) -> Tally:
    """Try *count* frames that their device changed after sealing, and signed."""
    return _campaign(_from_inside, count, seed)


def _campaign(
    each: Callable[[Tally, Receivers, random.Random], None], count: int, seed: int
) -> Tally:
    chance, tally = randomness(seed), Tally()
    with scratch() as folder, receivers(folder) as them, silence():
        for _ in range(count):
            each(tally, them, chance)
    return tally


def _from_outside(tally: Tally, them: Receivers, chance: random.Random) -> None:
    which = chance.randrange(len(them.genuine))
    data = _changed(them.genuine, which, chance)
    them.library.released = them.released[which]
    for receiver in (them.wire, them.at_collector, them.reader):
        tally.must_refuse(receiver, data)


def _from_inside(tally: Tally, them: Receivers, chance: random.Random) -> None:
    parts = _changed_part(them.genuine, chance.randrange(len(them.genuine)), chance)
    sequence = chance.choice((0, 1, 2, 2**63, 2**64 - 1))
    data = sign(join_unsigned(*parts), sequence, them.org.device)
    tally.attempt(them.at_collector, data)  # blind: it may take what it cannot look into
    tally.must_refuse(them.guard_and_reader, data)


# --- what is changed ----------------------------------------------------------------------


def _changed(genuine: tuple[bytes, ...], which: int, chance: random.Random) -> bytes:
    """Return genuine frame *which*, changed by somebody who cannot sign."""
    frame = genuine[which]
    while True:
        match chance.randrange(5):
            case 0 | 1:
                data = mutate(frame, chance)
            case 2 | 3:  # with lengths that fit, so that it gets past them
                changed = _changed_part(genuine, which, chance)
                data = join_unsigned(*changed) + frame[-TRAILER_BYTES:]
            case _:
                data = _signed_otherwise(genuine, which, chance)
        if data not in genuine:
            return data


def _changed_part(
    genuine: tuple[bytes, ...], which: int, chance: random.Random
) -> tuple[bytes, bytes, bytes]:
    """Return core, shelf and body of genuine frame *which*, one of them changed."""
    whole = _parts(genuine[which])
    while True:
        changed, at = list(whole), chance.randrange(3)
        if chance.random() < 0.1:
            changed[at] = _parts(chance.choice(genuine))[at]
        elif at == 0 and chance.random() < 0.5:
            changed[at] = odd_core(whole[at], chance)
        else:
            changed[at] = mutate(whole[at], chance)
        fits = len(changed[0]) <= LARGEST_CORE_BYTES and len(changed[1]) <= LARGEST_SHELF_BYTES
        if fits and changed != list(whole):
            return changed[0], changed[1], changed[2]


def _signed_otherwise(genuine: tuple[bytes, ...], which: int, chance: random.Random) -> bytes:
    """Return genuine frame *which* with a trailer that is not its own."""
    frame = genuine[which]
    unsigned, own = frame[:-TRAILER_BYTES], frame[-TRAILER_BYTES:]
    match chance.randrange(4):
        case 0:
            return unsigned + chance.choice(genuine)[-TRAILER_BYTES:]
        case 1:
            return unsigned + chance.randbytes(8) + own[8:]
        case 2:
            return unsigned + own[:9] + chance.randbytes(64)
        case _:
            return sign(unsigned, chance.randrange(3), STRANGER)


def _parts(frame: bytes) -> tuple[bytes, bytes, bytes]:
    parts = split(frame)
    return parts.core, parts.shelf, parts.body


# --- who is there -------------------------------------------------------------------------


def _collector(folder: Path) -> Collector:
    places = {name: folder / name for name in ("config", "state", "logs", "runtime")}
    premises = Premises(Paths(**places))
    move_in(premises, origin=ORIGIN, tenant=TENANT, listen=None)
    return Collector.open(premises, Still())


def _publish(folder: Path, org: Organisation, collector: Collector) -> policies.Published:
    usual = org.policy()
    named = msgspec.structs.replace(
        usual.collector, origin=ORIGIN, tenant=TENANT, log=collector.log.verifier_key
    )
    org.publish(folder / "policy", msgspec.structs.replace(usual, collector=named))
    published = policies.read_folder(folder / "policy", collector.now())
    with collector.index.writing() as connection:
        policies.publish(connection, published, collector.now())
    return published


def _enrol(collector: Collector, org: Organisation) -> Device:
    """Write down what enrolment and a guard that was asked for a key leave in the index."""
    device = Device(id=DeviceId(spki_sha256(org.device.public_key())), key=org.device.public_key())
    guard_key = public_key_of(org.guard_seed)
    with collector.index.writing() as connection:
        connection.execute(
            devices.insert().values(
                device=device.id,
                public_key=raw(org.device),
                enrolled_at=collector.now(),
                certified_until=collector.now(),
                jurisdiction="DE",
            )
        )
        connection.execute(
            guard_keys.insert().values(
                subject=org.subject,
                category=Category.KEYS,
                month=MONTH,
                key_id=key_id(guard_key),
                public_key=guard_key,
                signature=bytes(64),
            )
        )
    return device
