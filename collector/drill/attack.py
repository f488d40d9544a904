"""Asks the running listeners over TLS, with certificates made for this one drill.

What could not be asked is asked again, twice and later, before it counts: a server under load
may turn somebody away.  Each role has connections of its own, and all ask side by side.
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.api import Door
from base.pki import Authority, Role, client_uri, private_pem, signing_request, spki_sha256
from base.volley import Shown, ShutError, Target, VolleyError, Wire
from collector.drill import identities
from collector.drill.probes import Hole, Probe, Unmade, Who, judge, not_made
from collector.index import Index
from wire.ids import WallInstant

DAYS: Final = 1 / 48  # of a certificate: half an hour
EXPIRED_DAYS: Final = -1 / 1440  # it ended a minute ago
TRIES_AFTER_SECONDS: Final = (0.0, 1.0, 4.0)
CONNECTIONS: Final = 3  # of each role: one that reads the index waits longest

_Lane: TypeAlias = tuple[Who, Door, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """The listeners to attack; `required` are those that let nobody in without a certificate."""

    targets: dict[Door, Target]
    required: frozenset[Door] = frozenset()

    @property
    def reading(self) -> Door:
        """The one that readers come to."""
        return Door.READERS if Door.READERS in self.targets else Door.DEVICES


@dataclass(kw_only=True)
class Attack:
    """One drill's connections.  `asked` counts what was made."""

    doors: Doors
    shown: dict[Who, Shown | None]
    mark: str
    folder: Path
    pause: Callable[[float], None] = time.sleep
    asked: int = 0
    _wires: dict[_Lane, Wire] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        """What each request carries."""
        return {identities.MARK: self.mark}

    def ask(self, probes: Collection[Probe]) -> list[Hole]:
        """Return what is wrong with the answers to *probes*."""
        lanes: dict[_Lane, list[Probe]] = {}
        turns: Counter[tuple[Who, Door]] = Counter()
        for probe in probes:
            key = (probe.who, probe.door)
            lanes.setdefault((*key, turns[key] % CONNECTIONS), []).append(probe)
            turns[key] += 1
        with ThreadPoolExecutor(max_workers=max(1, len(lanes))) as lane:
            found = lane.map(lambda key: self._lane(key, lanes[key]), lanes)
            return [hole for holes in found for hole in holes]

    def knock(self, who: Who, door: Door) -> Hole | None:
        """Return what is wrong if *who* is let in at all at *door*."""
        wire = Wire(self.doors.targets[door], self.shown[who], self.folder)
        probe = Probe(who=who, door=door, what="the connection", request=b"")
        ask = b"GET /v1/state HTTP/1.1\r\nhost: localhost\r\n\r\n"
        self.asked += 1
        why = ""
        for after in TRIES_AFTER_SECONDS:
            self.pause(after)
            try:
                (answer,) = wire.ask([ask])
            except ShutError:
                return None
            except VolleyError as exc:
                why = str(exc)
                continue
            finally:
                wire.close()
            return Hole(line=f"{who} was let in at the {door} listener ({answer.status})")
        return not_made(probe, why)

    def close(self) -> None:
        """End all connections."""
        for wire in self._wires.values():
            wire.close()

    def _lane(self, key: _Lane, probes: Sequence[Probe]) -> list[Hole]:
        who, door, _number = key
        wire = self._wires.get(key)
        if wire is None:
            wire = Wire(self.doors.targets[door], self.shown[who], self.folder)
            self._wires[key] = wire
        self.asked += len(probes)
        holes, unmade = list[Hole](), list[tuple[Probe, Unmade]]()
        for after in TRIES_AFTER_SECONDS:
            self.pause(after)
            found, unmade = _round(wire, probes)
            holes += found
            probes = [probe for probe, _why in unmade]
            if not unmade:
                break
        return [*holes, *(why for _probe, why in unmade)]


def _round(wire: Wire, probes: Sequence[Probe]) -> tuple[list[Hole], list[tuple[Probe, Unmade]]]:
    """Ask each of *probes* once; return the holes, and what could not be asked and why."""
    holes, unmade = list[Hole](), list[tuple[Probe, Unmade]]()
    while probes:
        try:
            answers = wire.ask([probe.request for probe in probes])
        except VolleyError as exc:
            return holes, [*unmade, *((each, not_made(each, str(exc))) for each in probes)]
        for probe, answer in zip(probes, answers, strict=False):
            match judge(probe, answer):
                case Unmade() as why:
                    unmade.append((probe, why))
                case Hole() as hole:
                    holes.append(hole)
                case None:
                    pass
        probes = probes[len(answers) :]
    return holes, unmade


# --- identities ---------------------------------------------------------------------------


@contextmanager
def attack(
    doors: Doors,
    index: Index,
    authority: Authority,
    tenant: str,
    folder: Path,
    now: Callable[[], WallInstant],
) -> Iterator[Attack]:
    """Yield an attack whose identities *index* knows until it is over.

    Their keys are in memory only, but for the moment in which OpenSSL reads them from a file in
    *folder*.
    """
    keys: dict[tuple[bytes, Role], bytes] = {}
    shown: dict[Who, Shown | None] = {Who.ANONYMOUS: None, Who.ELSEWHERE: None}
    # Those of one role are one party: a reader does not change by what it shows.
    for role, tenant_of, days, comes_as in (
        (Role.DEVICE, tenant, DAYS, (Who.DEVICE, Who.OTHER_DEVICE)),
        (Role.READER, tenant, DAYS, (Who.READER, Who.EXPIRED_GRANT, Who.OTHER_SCOPE)),
        (Role.COLLECTOR, tenant, DAYS, (Who.GUARD,)),
        (Role.OPERATOR, tenant, DAYS, (Who.OPERATOR,)),
        (Role.DEVICE, f"not-{tenant}", DAYS, (Who.OTHER_TENANT,)),
        (Role.DEVICE, tenant, EXPIRED_DAYS, (Who.EXPIRED,)),
    ):
        key = Ed25519PrivateKey.generate()
        digest = spki_sha256(key.public_key())
        name = identities.NAME if role is Role.READER else digest.hex()
        uri = client_uri(tenant_of, role, name)
        pem = authority.certify(signing_request(key), uri, days)
        shown |= dict.fromkeys(comes_as, Shown(certificate=pem, key=private_pem(key)))
        if Who.DEVICE in comes_as or Who.READER in comes_as:
            keys[digest, role] = key.public_key().public_bytes_raw()
    shown[Who.STRANGER] = _stranger(tenant)
    made = Attack(doors=doors, shown=shown, mark=secrets.token_hex(32), folder=folder)
    with index.writing() as connection:
        identities.announce(connection, keys, made.mark, now())
    try:
        yield made
    finally:
        made.close()
        with index.writing() as connection:
            identities.forget(connection, keys, made.mark)


def _stranger(tenant: str) -> Shown:
    """Return a certificate that says what a device's says, by an authority of nobody."""
    key = Ed25519PrivateKey.generate()
    name = spki_sha256(key.public_key()).hex()
    pem = Authority.create("drill").certify(
        signing_request(key), client_uri(tenant, Role.DEVICE, name), DAYS
    )
    return Shown(certificate=pem, key=private_pem(key))
