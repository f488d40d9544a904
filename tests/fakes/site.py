"""A collector and a guard that really listen, and workstations and readers that talk to them.

Everything is the real thing, on loopback, in threads of the test; only the collector's clock
can be moved.
"""

import contextlib
import dataclasses
import hashlib
import secrets
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.types import ASGIApp

from base.clock import NANOSECONDS, Clock, Now, SystemClock
from base.door import Response
from base.https import OneDoor
from base.paths import Paths
from base.pki import (
    Authority,
    Role,
    client_uri,
    new_server_key,
    private_pem,
    signing_request,
    spki_sha256,
)
from base.serving import Clients, Credentials, Listener, Served, run_together
from collector import enrol, halt, policies
from collector.app import ROUTES, build
from collector.assembly import Collector
from collector.commands.setup import move_in
from collector.config import with_guard
from collector.premises import Premises
from collector.refusal import RefusedError
from guard.app import Guard, make_app
from guard.halt import Halts
from guard.keys import Keys
from guard.lease import Leases
from guard.rings import Chest, Kind
from guard.trust import PolicySet, read_policy_set
from guard.witness import Witness
from tests.fakes.documented import DocumentedDoor
from tests.fakes.organisation import WITNESS_NAME, Organisation, ed25519
from tests.fakes.tls import WAIT_SECONDS
from wire.age import decode_recipient
from wire.category import Category
from wire.collector_http import (
    Certified,
    Enrolment,
    EnrolRequest,
    ErrorAnswer,
    FrameOrder,
    ShownGrant,
)
from wire.frame import Core, decode_core, encode_core, join_unsigned, split
from wire.grant import AccessGrant, SignedConsent, grant_hash
from wire.guard_http import KeyAnswer
from wire.ids import DeviceId, PolicyDigest, SubjectId, WallInstant, key_id
from wire.policy import Policy
from wire.rights import Demand, Request, Requests, SignedRequest, Speaker, sign_request
from wire.sealing import new_identity, recipient_of, seal, sign
from wire.xwing import public_key_of

TENANT = "acme"
# A test asks as often as no device does; one about these limits sets its own.
UNLIMITED = """
device_uploads_per_minute = 0
device_requests_per_minute = 0
device_bytes_per_day = 0
reader_requests_per_minute = 0
stranger_requests_per_minute = 0
"""
READERS = "[readers]\ntoday = true\n"  # a test's batches are of its own day
GUARD_DAYS = 400  # of the collector's certificate: longer than a test moves the clock
PLAINTEXT = b"nobody here can read this " * 20
_KEPT_SEEDS = [secrets.token_bytes(32) for _ in range(2)]  # X-Wing keys are slow to make
RECIPIENTS = tuple(public_key_of(seed) for seed in _KEPT_SEEDS)


def today(days: int = 0) -> str:
    return f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}"


class MovableClock:
    """The real clock, moved by as much as a test wants."""

    def __init__(self) -> None:
        self._real = SystemClock()
        self.moved = timedelta()
        self.follows: Clock | None = None  # another clock, instead

    def now(self) -> Now:
        now = (self.follows or self._real).now()
        by = int(self.moved.total_seconds()) * NANOSECONDS
        return dataclasses.replace(now, wall=now.wall + by, boot=now.boot + by)


@contextlib.contextmanager
def serving(*served: Served) -> Iterator[None]:
    """Serve all of them, each at its own address, meanwhile."""
    thread = threading.Thread(target=run_together, args=served)
    thread.start()
    try:
        yield
    finally:
        for one in served:
            one.listener.stop()
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()


@contextlib.contextmanager
def listening(listener: Listener, app: ASGIApp, credentials: Credentials) -> Iterator[None]:
    thread = threading.Thread(target=listener.run, args=(app, credentials), daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.stop()
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()


@dataclass(kw_only=True)
class GuardSite:
    """A guard that listens; `authority` certifies its clients."""

    authority: Authority
    folder: Path
    origin: str
    pin: str
    policy: PolicySet | None = None

    @property
    def chest(self) -> Chest:
        """Where its own keys lie."""
        return Chest(self.folder, tuple(Kind))


@contextlib.contextmanager
def guard_site(folder: Path, org: Organisation, clock: Clock | None = None) -> Iterator[GuardSite]:
    """Run the real guard with the keys that *org* names in its policy."""
    folder.mkdir()
    authority, key = Authority.create("Guard"), new_server_key()
    authority.save(folder)
    (folder / "tls.key").write_bytes(private_pem(key))
    (folder / "tls.pem").write_bytes(authority.server_certificate(key, ["127.0.0.1"]))
    listener = Listener("127.0.0.1", 0)
    site = GuardSite(
        authority=authority,
        folder=folder,
        origin=f"https://127.0.0.1:{listener.port}",
        pin=spki_sha256(key.public_key()).hex(),
    )
    for kind, own in zip(Kind, (org.guard, org.witness, org.guard_lease), strict=True):
        (folder / f"{kind}.key").write_bytes(private_pem(own))
    clock = clock or SystemClock()
    keys = Keys(folder / "keys.sqlite")
    witness = Witness(folder / "witness.sqlite", WITNESS_NAME, site.chest.held(Kind.WITNESS, clock))
    guard = Guard(
        tenant=TENANT,
        signing_key=site.chest.held(Kind.SIGNING, clock),
        keys=keys,
        witness=witness,
        leases=Leases.open(folder / "lease.json", site.chest.held(Kind.LEASE, clock)),
        policy_set=lambda: site.policy,
        halts=Halts(folder / "halt.json"),
        clock=clock,
    )
    with listening(listener, make_app(guard), _credentials(folder)):
        yield site
    keys.close()
    witness.close()


@dataclass(kw_only=True)
class Site:
    """A collector that listens, with a policy in force and a guard beside it."""

    org: Organisation
    premises: Premises
    collector: Collector
    clock: MovableClock
    guard: GuardSite
    policy: Policy
    digest: PolicyDigest
    policy_folder: Path
    doors: list[OneDoor] = field(default_factory=list)
    serving: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def serve(self, listener: Listener) -> None:
        credentials = _credentials(self.premises.paths.config)
        credentials = dataclasses.replace(
            credentials, client_authority=self.premises.client_authority
        )
        self.serving.enter_context(listening(listener, build(self.collector), credentials))

    def stop(self) -> None:
        """Stop serving; what listened there is gone."""
        self.serving.close()
        self.collector.close()

    def restart(self) -> None:
        """Stop serving and begin anew at the same place, as after a change of keys."""
        self.stop()
        self.collector = Collector.open(self.premises, self.clock)
        self.serve(Listener("127.0.0.1", int(self.origin.rpartition(":")[2])))

    def publishes(self, **changes: object) -> Policy:
        """Put a newer policy in force here and at the guard, with *changes* to it."""
        folder = self.policy_folder
        newer = {"version": self.policy.version + 1, **changes}
        self.policy = msgspec.structs.replace(self.policy, **newer)
        self.org.publish(folder, self.policy, at=datetime.now(UTC))
        published = policies.read_folder(folder, self.collector.now())
        self.digest = published.digest
        with self.collector.index.writing() as connection:
            policies.publish(connection, published, self.collector.now())
        self.guard.policy = read_policy_set(folder)
        return self.policy

    def policy_file(self, name: str) -> bytes | None:
        """Return what the collector serves to whoever may ask, without the way there."""
        if name == policies.TIMESTAMP_NAME:
            return self.collector.leases.timestamp()
        with self.collector.index.reading() as connection:
            try:
                return policies.file(connection, name)
            except RefusedError:
                return None

    @property
    def origin(self) -> str:
        return self.collector.config.origin

    def token(self, days: float = 1, label: str = "", jurisdiction: str = "DE") -> str:
        now = self.collector.now()
        until = WallInstant(now + int(days * 24 * 3600) * NANOSECONDS)
        with self.collector.index.writing() as connection:
            return enrol.new_token(connection, now, until, jurisdiction=jurisdiction, label=label)

    def enrolment_file(self) -> Enrolment:
        """Return a new enrolment file, as `assent-collector token` writes it."""
        root = (self.policy_folder / "root.json").read_bytes()
        return Enrolment(
            origin=self.origin,
            tls_pins=self.premises.tls_pins(),
            ca_pem=self.premises.trusted_pem(),
            token=self.token(),
            root_sha256=hashlib.sha256(root).hexdigest(),
            expires_at=WallInstant(self.collector.now() + 10**12),
        )

    def door(self, certificate: Path | None = None, key: Path | None = None) -> OneDoor:
        one = DocumentedDoor(
            self.origin,
            (self.premises.tls_pin(),),
            self.premises.trusted_pem(),
            certificate,
            key,
            WAIT_SECONDS,
        )
        one.table = ROUTES
        self.doors.append(one)
        return one

    def enrols(self, token: str, key: Ed25519PrivateKey) -> Response:
        request = EnrolRequest(token=token, csr=signing_request(key).decode())
        return self.door().request("POST", "/v1/enroll", msgspec.json.encode(request))

    def workstation(self, label: str = "") -> "Workstation":
        """Enrol a new device of a new data subject."""
        org = dataclasses.replace(
            self.org,
            device=ed25519(),
            subject_identity=new_identity(),
            subject=SubjectId(b""),
        )
        answer = self.enrols(self.token(label=label), org.device)
        assert answer.status == 201, answer.body
        certified = msgspec.json.decode(answer.body, type=Certified)
        files = self.keep(org.device, certified)
        return Workstation(
            org=org,
            site=self,
            door=self.door(*files),
            files=files,
            agrees_at=self.collector.now(),
        )

    def reader(self, name: str) -> OneDoor:
        """Return the door of a certified reader."""
        key = ed25519()
        with self.collector.index.writing() as connection:
            certified = enrol.certify_reader(
                connection,
                self.collector.registry,
                signing_request(key),
                name,
                self.collector.now(),
            )
        return self.with_key(key, certified)

    def grant(self, **changes: object) -> AccessGrant:
        """Return a grant for all that is recorded today, approved, unless *changes* spoil it."""
        usual: dict[str, object] = {
            "categories": tuple(Category),
            "first_day": today(-1),
            "last_day": today(1),
            "expires_at": WallInstant(self.collector.now() + 3600 * NANOSECONDS),
            "programme": self.policy.programme,
        }
        return self.org.grant(self.org.request(**(usual | changes)))

    def with_key(self, key: Ed25519PrivateKey, certified: Certified) -> OneDoor:
        return self.door(*self.keep(key, certified))

    def keep(self, key: Ed25519PrivateKey, certified: Certified) -> tuple[Path, Path]:
        """Write certificate and key as files; return both."""
        folder = self.premises.paths.runtime / secrets.token_hex(8)
        folder.mkdir(parents=True)
        (folder / "key.pem").write_bytes(private_pem(key))
        (folder / "certificate.pem").write_text(certified.certificate)
        return folder / "certificate.pem", folder / "key.pem"

    def certify(self, key: Ed25519PrivateKey, uri: str) -> OneDoor:
        """Return the door of a client that the authority certified past all rules."""
        pem = self.premises.authority().certify(signing_request(key), uri)
        return self.with_key(key, Certified(certificate=pem.decode(), expires_at=WallInstant(0)))

    def halts(self, why: str = "") -> None:
        with self.collector.index.writing() as connection:
            halt.call_halt(connection, why, self.collector.now())

    def stops(self, why: str = "", cause: halt.Cause = halt.Cause.CALLED) -> None:
        with self.collector.index.writing() as connection:
            halt.call_stop(connection, why, self.collector.now(), cause)

    def goes_on(self, cause: halt.Cause = halt.Cause.CALLED) -> None:
        with self.collector.index.writing() as connection:
            halt.go_on(connection, self.collector.now(), cause)


@dataclass(kw_only=True)
class Workstation:
    """An enrolled device, and what its agent would do."""

    org: Organisation  # with this device's key and this data subject
    site: Site
    door: OneDoor
    files: tuple[Path, Path]  # certificate and key
    agrees_at: WallInstant

    @property
    def recipient(self) -> str:
        """The data subject's own key, to which their frames are sealed, too."""
        return recipient_of(self.org.subject_identity)

    @property
    def id(self) -> DeviceId:
        return DeviceId(spki_sha256(self.org.device.public_key()))

    def consent(self, category: Category = Category.KEYS, **changes: object) -> SignedConsent:
        """Return a consent record under the policy in force, not yet handed in."""
        usual: dict[str, object] = {"category": category, "given_at": self.agrees_at}
        return self.org.consent(self.site.digest, self.site.policy, **(usual | changes))

    def registers(self, signed: SignedConsent) -> Response:
        return self.door.request("POST", "/v1/consents", msgspec.json.encode(signed))

    def consents(self, category: Category = Category.KEYS) -> SignedConsent:
        """Hand in a good consent record; return it."""
        signed = self.consent(category)
        assert self.registers(signed).status in (200, 201)
        return signed

    def asks_key(self, category: Category = Category.KEYS, month: str = "") -> Response:
        month = month or today()[:7]
        return self.door.request("GET", f"/v1/guard-key?category={category}&month={month}")

    def seals(self, signed: SignedConsent, **changes: object) -> bytes:
        """Return a frame that everything allows, unless *changes* to its core spoil it."""
        answer = self.asks_key(Category(str(changes.get("category", Category.KEYS))))
        assert answer.status == 200, answer.body
        guard_key = msgspec.json.decode(answer.body, type=KeyAnswer).public_key
        keys = (*RECIPIENTS[:1], decode_recipient(self.recipient))
        core = Core(
            origin=self.site.origin,
            tenant=TENANT,
            programme=self.site.policy.programme,
            device=self.id,
            subject=self.org.subject,
            policy=self.site.digest,
            grant=grant_hash(signed),
            category=Category.KEYS,
            day=today(),
            recipients=tuple(key_id(key) for key in keys),
            guard_key=key_id(guard_key),
            purpose=self.site.policy.purpose,
            expires=today(30),
        )
        core = msgspec.structs.replace(core, **changes)
        sealed = seal(core, PLAINTEXT, keys, guard_key)
        return sign(sealed.unsigned, 1, self.org.device)

    def spoils(self, frame: bytes, **changes: object) -> bytes:
        """Return *frame* with another core, signed again: only its scope is wrong."""
        parts = split(frame)
        core = msgspec.structs.replace(decode_core(parts.core), **changes)
        return sign(join_unsigned(encode_core(core), parts.shelf, parts.body), 2, self.org.device)

    def puts(self, frame: bytes, name: str = "") -> Response:
        name = name or hashlib.sha256(frame).hexdigest()
        return self.door.request("PUT", f"/v1/batches/{name}", frame)

    def demands(self, demand: Demand = Demand.ERASE, **changes: object) -> SignedRequest:
        """Return a request of this device, about everything until now, not yet handed in."""
        request = Request(
            nonce=secrets.token_bytes(16),
            origin=self.site.origin,
            subject=self.org.subject,
            demand=demand,
            category=None,
            made_at=self.site.collector.now(),
        )
        speaker = changes.pop("speaker", None) or self.org.speaker()
        assert isinstance(speaker, Speaker)
        return sign_request(msgspec.structs.replace(request, **changes), speaker)

    def asks(self, signed: SignedRequest) -> Response:
        """Hand a request in, as anybody can: over a door without a certificate."""
        return self.site.door().request("POST", "/v1/rights", msgspec.json.encode(signed))

    def hears(self) -> tuple[SignedRequest, ...]:
        """Return what was demanded elsewhere for this data subject."""
        answer = self.door.request("GET", "/v1/rights")
        assert answer.status == 200, answer.body
        return msgspec.json.decode(answer.body, type=Requests).requests

    def deletes(self, frame: bytes) -> Response:
        name = hashlib.sha256(frame).hexdigest()
        return self.door.request("DELETE", f"/v1/batches/{name}")


@contextlib.contextmanager
def collector_site(
    folder: Path,
    limits: str = "",
    *,
    first_signed: datetime | None = None,
    index_url: str = "",
    **changes: object,
) -> Iterator[Site]:
    """Set up and run guard and collector below *folder*, with a signed policy in force.

    *limits* are lines of the section `[limits]` of config.toml, *changes* are to the policy; the
    index is in the PostgreSQL database *index_url* if one is named.
    With *first_signed*, it was signed then already, and those files are in `policy-then`.
    """
    org, clock = Organisation(), MovableClock()
    listener = Listener("127.0.0.1", 0)
    premises = Premises(
        Paths(
            config=folder / "config",
            state=folder / "state",
            logs=folder / "logs",
            runtime=folder / "run",
        )
    )
    move_in(
        premises,
        origin=f"https://127.0.0.1:{listener.port}",
        tenant=TENANT,
        listen=None,
        index_url=index_url,
    )
    with premises.config_file.open("a") as config:
        config.write(READERS)
        config.write(f"[limits]\n{limits if 'device_' in limits else limits + UNLIMITED}\n")
    with guard_site(folder / "guard", org, clock) as guard:
        _connect(premises, guard)
        collector = Collector.open(premises, clock)
        org.collector_lease = premises.lease_key()
        policy = msgspec.structs.replace(
            org.policy(),
            collector=msgspec.structs.replace(
                org.policy().collector,
                origin=collector.config.origin,
                log=collector.log.verifier_key,
                tls_pins=(premises.tls_pin(),),
                lease_key=premises.lease_public_key(),
            ),
            **changes,
        )
        if first_signed is not None:
            org.publish(folder / "policy", policy, at=first_signed)
            shutil.copytree(folder / "policy", folder / "policy-then")
        signed = org.publish(folder / "policy", policy, at=datetime.now(UTC))
        guard.policy = signed.policy_set()
        published = policies.read_folder(folder / "policy", collector.now())
        with collector.index.writing() as connection:
            policies.publish(connection, published, collector.now())
        site = Site(
            org=org,
            premises=premises,
            collector=collector,
            clock=clock,
            guard=guard,
            policy=policy,
            digest=published.digest,
            policy_folder=folder / "policy",
        )
        site.serve(listener)
        try:
            yield site
        finally:
            for door in site.doors:
                door.close()
            site.stop()


def lists(reader: OneDoor, grant: AccessGrant, after: int = -1) -> Response:
    """Ask for the frames that *grant* covers."""
    order = msgspec.json.encode(FrameOrder(grant=grant, after=after))
    return reader.request("POST", "/v1/frames", order)


def fetches(reader: OneDoor, grant: AccessGrant, batch: bytes, what: str = "") -> Response:
    """Ask for a frame, or for its `/terms`."""
    shown = msgspec.json.encode(ShownGrant(grant=grant))
    return reader.request("POST", f"/v1/frames/{batch.hex()}{what}", shown)


def refusal(answer: Response) -> tuple[int, str]:
    """Return status and name of a refusal."""
    error = msgspec.json.decode(answer.body, type=ErrorAnswer).error
    assert "\n" not in error
    return answer.status, error.partition(":")[0]


def _connect(premises: Premises, guard: GuardSite) -> None:
    request = (premises.guard_folder / "client.csr").read_bytes()
    uri = client_uri(TENANT, Role.COLLECTOR, "main")
    certificate = guard.authority.certify(request, uri, GUARD_DAYS)
    (premises.guard_folder / "client.pem").write_bytes(certificate)
    (premises.guard_folder / "ca.pem").write_bytes(guard.authority.pem)
    config = with_guard(premises.config_file.read_bytes(), guard.origin, (guard.pin,))
    premises.config_file.write_bytes(config)


def _credentials(folder: Path) -> Credentials:
    return Credentials(
        certificate=folder / "tls.pem",
        key=folder / "tls.key",
        client_authority=folder / "ca.pem",
        clients=Clients.OPTIONAL,
    )
