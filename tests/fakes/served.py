"""A real guard on real sockets, in a thread of the test: its premises, its origin, its callers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.clock import Now
from base.https import OneDoor
from base.paths import Paths
from base.pki import Role, client_uri, private_pem, signing_request
from base.serving import Clients, Credentials, Listener
from guard.app import ROUTES, make_app
from guard.config import Config
from guard.premises import Premises, move_in
from guard.trust import check_successor, install
from tests.fakes.documented import DocumentedDoor
from tests.fakes.organisation import NOW, WITNESS_NAME, Organisation, PolicyFolder

WAIT_SECONDS = 10.0


class StoppedClock:
    """A clock that says what the test says."""

    def __init__(self, at: datetime = NOW) -> None:
        self.at = at

    def now(self) -> Now:
        wall = int(self.at.timestamp()) * 1_000_000_000
        return Now(boot=wall, wall=wall, boot_id="test")


def paths(folder: Path) -> Paths:
    return Paths(
        config=folder / "config",
        state=folder / "state",
        logs=folder / "logs",
        runtime=folder / "run",
    ).make()


@dataclass(frozen=True, kw_only=True)
class ServedGuard:
    """Where the guard answers, and how to call it as somebody."""

    premises: Premises
    origin: str
    clock: StoppedClock

    def door(self, role: Role | None, name: str = "", *, tenant: str = "acme") -> OneDoor:
        """Return a door with a certificate of this guard's for *role*, or with none."""
        card = self.premises.card()
        files = None if role is None else self.certified(role, name, tenant=tenant)
        certificate, key = files or (None, None)
        door = DocumentedDoor(
            self.origin, (card.tls_pin,), card.ca_pem, certificate, key, WAIT_SECONDS
        )
        door.table = ROUTES
        return door

    def certified(
        self, role: Role, name: str, *, tenant: str = "acme", days: float = 400
    ) -> tuple[Path, Path]:
        """Return the files of a new certificate and its key, good for *days* by both clocks."""
        key = Ed25519PrivateKey.generate()
        ahead = max(timedelta(), self.clock.at - datetime.now(UTC)) / timedelta(days=1)
        certificate = self.premises.authority().certify(
            signing_request(key), client_uri(tenant, role, name), ahead + days
        )
        folder = self.premises.paths.runtime
        (folder / f"{role}-{name}.key").write_bytes(private_pem(key))
        (folder / f"{role}-{name}.pem").write_bytes(certificate)
        return folder / f"{role}-{name}.pem", folder / f"{role}-{name}.key"

    def trust(self, published: PolicyFolder, now: datetime = NOW) -> None:
        """Install a signed policy, as `assent-guard trust` does."""
        offered = published.policy_set()
        check_successor(offered, None, self.premises.own_keys(), now)
        install(self.premises.policy_file, offered)


def found_guard(folder: Path, acme: Organisation) -> Premises:
    """Make a guard, and give *acme* its keys, so that policies can name it."""
    premises = Premises(paths(folder))
    move_in(
        premises,
        Config(
            origin="https://127.0.0.1:8444",
            tenant="acme",
            name=WITNESS_NAME,
            listen="127.0.0.1:0",
        ),
    )
    acme.guard = premises.signing_key()
    acme.witness = premises.witness_key()
    acme.guard_lease = premises.lease_key()
    return premises


@contextmanager
def serve_guard(premises: Premises, clock: StoppedClock | None = None) -> Iterator[ServedGuard]:
    """Serve *premises* until the block ends."""
    clock = clock or StoppedClock()
    guard = premises.open(clock)
    listener = Listener("127.0.0.1", 0)
    credentials = Credentials(
        certificate=premises.tls_certificate,
        key=premises.tls_key,
        client_authority=premises.authority_file,
        clients=Clients.OPTIONAL,
    )
    thread = threading.Thread(target=listener.run, args=(make_app(guard), credentials))
    thread.start()
    try:
        yield ServedGuard(
            premises=premises, origin=f"https://127.0.0.1:{listener.port}", clock=clock
        )
    finally:
        listener.stop()
        thread.join(WAIT_SECONDS)
        guard.keys.close()
        guard.witness.close()
        assert not thread.is_alive()


def utc(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)
