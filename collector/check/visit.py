"""The device that checks a collector: enrolled for that, of nobody, gone when it is over.

Nobody sits before it.  Its pseudonym is random and no rights key is behind it, what it hands in
is random bytes in a valid frame, for recipients that there are none of, and its key is thrown
away: so nobody's data are touched, and what it leaves in a log opens nothing.
"""

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.clock import NANOSECONDS, SystemClock
from base.door import Response
from base.https import OneDoor
from base.pki import private_pem, signing_request, spki_sha256
from collector.check.verdicts import DeviationError, LeftOutError
from wire.category import Category
from wire.collector_http import PROTOCOL_HEADER, Enrolment, ErrorAnswer, decode
from wire.errors import MalformedError
from wire.frame import (
    KEY_ID_BYTES,
    Core,
    encode_core,
    join_unsigned,
    signed_message,
    trailer,
)
from wire.grant import SignedConsent
from wire.ids import DeviceId, GrantHash, KeyId, PolicyDigest, SubjectId, WallInstant
from wire.policy import Policy
from wire.receipt import Receipt

T = TypeVar("T")
TIMEOUT_SECONDS: Final = 30.0
LARGEST_ANSWER_BYTES: Final = 32 << 20
SHELF_BYTES: Final = 2_800
BODY_BYTES: Final = 4 << 10
_LATER: Final = frozenset({429, 503, 507})


@dataclass(kw_only=True)
class Kept:
    """A batch that the collector has taken."""

    frame: bytes
    core: Core
    receipt: Receipt
    raw: bytes


@dataclass(kw_only=True)
class Visit:
    """One visit: what is known of the collector by now, and what its answers had in common."""

    url: str
    enrolment: Enrolment
    folder: Path
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    subject: SubjectId = field(default_factory=lambda: SubjectId(secrets.token_bytes(16)))
    certificate: Path | None = None
    policy_bytes: bytes = b""
    policy: Policy | None = None
    category: Category = Category.KEYS
    digest: PolicyDigest | None = None
    consent: SignedConsent | None = None
    guard_key: bytes = b""
    kept: list[Kept] = field(default_factory=list)
    first_head: str = ""  # the log's, before anything was handed in
    sequence: int = 0
    headless: list[str] = field(default_factory=list)  # answers without their protocol
    nameless: list[str] = field(default_factory=list)  # refusals that are not as they have to be
    _doors: dict[bool, OneDoor] = field(default_factory=dict)

    @property
    def id(self) -> DeviceId:
        """The device's id."""
        return DeviceId(spki_sha256(self.key.public_key()))

    def known(self, value: T | None, what: str) -> T:
        """Return *value*, which an earlier check has found out.

        Raises:
            LeftOutError: It has not.

        """
        if not value:
            raise LeftOutError(f"{what} is missing, because an earlier check has failed")
        return value

    # --- asking ---------------------------------------------------------------------------

    def ask(
        self, method: str, path: str, body: object = None, *, stranger: bool = False
    ) -> Response:
        """Return the answer to a request of this device, or of somebody without a certificate.

        Raises:
            RetryableError: There was none.

        """
        sent = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        answer = self._door(stranger=stranger).request(method, path, sent)
        self._look(f"{method} {path.partition('?')[0]}", answer, said=method != "HEAD")
        return answer

    def _door(self, *, stranger: bool) -> OneDoor:
        if not stranger:
            self.known(self.certificate, "a certificate")
        if stranger not in self._doors:
            mine = None if stranger else self.certificate
            key = None if stranger else self.folder / "device.key"
            enrolment = self.enrolment
            self._doors[stranger] = OneDoor(
                self.url,
                enrolment.tls_pins,
                enrolment.ca_pem,
                mine,
                key,
                TIMEOUT_SECONDS,
                largest_answer_bytes=LARGEST_ANSWER_BYTES,
            )
        return self._doors[stranger]

    def close(self) -> None:
        """Close what is open."""
        for door in self._doors.values():
            door.close()

    def _look(self, what: str, answer: Response, *, said: bool) -> None:
        if not answer.headers.get(PROTOCOL_HEADER, "").startswith("1."):
            self.headless.append(f"{what} ({answer.status})")
        if answer.status in _LATER and answer.retry_after_seconds is None:
            self.nameless.append(f"{what}: {answer.status} without Retry-After")
        if answer.status >= 400 and said and not name_of(answer):
            self.nameless.append(f"{what}: {answer.status} without a name")
        if answer.status >= 500 and answer.status not in (501, 503, 507):
            self.nameless.append(f"{what}: {answer.status}")

    # --- what it hands in -----------------------------------------------------------------

    def core(self, **changes: object) -> Core:
        """Return the core of a frame that everything allows, but for *changes*."""
        policy = self.known(self.policy, "the policy")
        usual = Core(
            origin=policy.collector.origin,
            tenant=policy.collector.tenant,
            programme=policy.programme,
            device=self.id,
            subject=self.subject,
            policy=self.known(self.digest, "the policy"),
            grant=GrantHash(bytes(32)),
            category=self.category,
            day=today(),
            recipients=(KeyId(secrets.token_bytes(KEY_ID_BYTES)),),
            guard_key=KeyId(bytes(KEY_ID_BYTES)),
            purpose=policy.purpose,
            expires=today(1),
        )
        return msgspec.structs.replace(usual, **changes)

    def frame(self, core: Core, key: Ed25519PrivateKey | None = None) -> bytes:
        """Return a frame with this core, signed; there is nothing in it."""
        encoded = encode_core(core)
        shelf, body = secrets.token_bytes(SHELF_BYTES), secrets.token_bytes(BODY_BYTES)
        self.sequence += 1
        message = signed_message(encoded, shelf, body, self.sequence)
        signature = (key or self.key).sign(message)
        return join_unsigned(encoded, shelf, body) + trailer(self.sequence, signature)


@contextmanager
def visiting(url: str, enrolment: Enrolment) -> Iterator[Visit]:
    """Yield a visit; its key is in a folder that is ours alone, and gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="assent-check-") as name:
        visit = Visit(url=url, enrolment=enrolment, folder=Path(name))
        (visit.folder / "device.key").touch(0o600)
        (visit.folder / "device.key").write_bytes(private_pem(visit.key))
        try:
            yield visit
        finally:
            visit.close()


# --- reading answers ------------------------------------------------------------------------


def name_of(answer: Response) -> str:
    """Return the name of a refusal, or an empty text if it has none."""
    try:
        said = decode(answer.body, ErrorAnswer).error
    except MalformedError:
        return ""
    name, colon, line = said.partition(": ")
    return name if colon and line and "\n" not in said and " " not in name else ""


def refuses(answer: Response, status: int, *names: str) -> None:
    """Check that a request was refused as the specification says.

    Raises:
        DeviationError: It was not.

    """
    said = name_of(answer)
    if answer.status != status or (names and said not in names):
        wanted = f"{status} {' or '.join(names)}".strip()
        raise DeviationError(f"{wanted} was to come, and {answer.status} {said} came".strip())


def gives(answer: Response, *statuses: int) -> bytes:
    """Return the body of an answer that is none of a refusal.

    Raises:
        DeviationError: It is of another status.

    """
    if answer.status not in statuses:
        wanted = " or ".join(str(status) for status in statuses)
        raise DeviationError(f"{wanted} was to come, and {answer.status} {name_of(answer)} came")
    return answer.body


def request_of(key: Ed25519PrivateKey) -> str:
    """Return a signing request of *key*, as PEM."""
    return signing_request(key).decode("ascii")


def now() -> WallInstant:
    """Return the wall clock."""
    return WallInstant(SystemClock().now().wall)


def today(days: int = 0) -> str:
    """Return the day (UTC) in so many days."""
    at = datetime.fromtimestamp(now() / NANOSECONDS, UTC) + timedelta(days=days)
    return f"{at:%Y-%m-%d}"
