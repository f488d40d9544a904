"""Mutated requests to collector and guard: each gets one of the documented answers.

The real applications over real stores, reached through ASGI in this process.  A request is a
good one of its path with a few things wrong: path, query, length, body, who calls, how it
ends.  A defect (500) is what is looked for; a refusal has to be one line of JSON.
"""

import asyncio
import base64
import contextlib
import dataclasses
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
from starlette.types import ASGIApp

from base.pki import Authority, Role, client_uri, signing_request
from collector import enrol
from collector.app import build
from fuzz.campaign import Tally, Target, randomness, scratch, silence
from fuzz.fuzz_frames import TENANT, Receivers, Still, receivers
from fuzz.mutation import mutate, odd_json
from guard.app import Guard, make_app
from guard.halt import Halts
from guard.keys import Keys
from guard.lease import Leases
from guard.trust import read_policy_set
from guard.witness import Witness
from tests.fakes.organisation import MONTH, READER, WITNESS_NAME, Organisation, ed25519
from tests.fakes.tls import pem_to_der
from wire.category import Category
from wire.collector_http import EnrolRequest, FrameOrder, ReleaseOrder, RenewRequest, ShownGrant
from wire.consent_event import ConsentEvent, sign_event
from wire.frame import batch_hash
from wire.grant import grant_hash
from wire.guard_http import KeyRequest, ReleaseRequest
from wire.ids import WallInstant
from wire.linked import ConsentState
from wire.policy import policy_digest

# docs/spec/collector-http-v1.md and guard-http-v1.md
STATUSES: Final = frozenset((200, 201, 400, 401, 403, 404, 405, 408, 409, 410, 413, 422, 503))
ODD_TEXTS: Final = (
    *("", "-", "-1", "0", "9" * 18, "9" * 5_000, "\u0663", "\u00b2", "1e9", "0x1", " 1", "+1"),
    *("../../etc/passwd", "a" * 64, "A" * 64, "0" * 63, "\x00", "%00", "keys", "2027-13", "null"),
)
FOREVER_DAYS: Final = 4_000  # the clock of the campaign stands in another year than ours


class RefusedRequest(Exception):  # noqa: N818 - an answer, not a mistake
    """The answer was one of the documented refusals."""


class UndocumentedError(AssertionError):
    """The answer was none that the specification knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request; `ends` is whether its body comes to its end."""

    method: str
    path: str
    query: str = ""
    body: bytes = b""
    length: str | None = None
    client: bytes | None = None
    ends: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An application, good requests to it, and certificates that it knows."""

    name: str
    app: ASGIApp
    good: tuple[Ask, ...]
    clients: tuple[bytes | None, ...]

    def spoilt(self, chance: random.Random) -> Ask:
        """Return a good request with one to three things wrong."""
        ask = chance.choice(self.good)
        for _ in range(chance.choice((1, 1, 2, 3))):
            ask = self._spoil(ask, chance)
        return ask

    def _spoil(self, ask: Ask, chance: random.Random) -> Ask:  # noqa: PLR0911 - a thing each
        match chance.randrange(10):
            case 0:
                return replace(ask, path=_odd_part(ask.path, "/", chance))
            case 1:
                return replace(ask, query=_odd_part(ask.query, "=", chance))
            case 2:
                return replace(ask, client=chance.choice(self.clients))
            case 3:
                return replace(ask, length=chance.choice(ODD_TEXTS))
            case 4:
                return replace(ask, ends=chance.random() < 0.5)
            case 5:
                return replace(ask, method=chance.choice(("GET", "PUT", "POST", "DELETE", "HEAD")))
            case _ if ask.body.startswith(b"{"):
                return replace(ask, body=odd_json(ask.body, chance) if _is_json(ask.body) else b"")
            case _:
                return replace(ask, body=mutate(ask.body, chance))


def collector(count: int, seed: int) -> Tally:
    """Try *count* requests to a collector."""
    with scratch() as folder, receivers(folder) as them:
        return _campaign(_collector(them), count, seed)


def guard(count: int, seed: int) -> Tally:
    """Try *count* requests to a guard."""
    with scratch() as folder, _guard(folder) as server:
        return _campaign(server, count, seed)


def _campaign(server: Server, count: int, seed: int) -> Tally:
    chance, tally = randomness(seed), Tally()
    with asyncio.Runner() as runner, silence():
        for _ in range(count):
            ask = server.spoilt(chance)
            target = Target(
                name=server.name,
                decode=lambda _data, ask=ask: runner.run(_answer(server.app, ask)),  # type: ignore[misc]
                seeds=(),
                refuses=(RefusedRequest,),
            )
            tally.attempt(target, repr(ask).encode())
    return tally


async def _answer(app: ASGIApp, ask: Ask) -> None:
    """Give *ask* to *app*, and judge the answer.

    Raises:
        RefusedRequest: It was refused as documented.
        UndocumentedError: It was answered in a way that the specification does not know.

    """
    sent: list[Any] = []
    waiting = [
        {"type": "http.request", "body": ask.body[:1000], "more_body": True},
        {"type": "http.request", "body": ask.body[1000:], "more_body": False},
    ]

    async def receive() -> Any:  # noqa: ANN401 - ASGI's own word is a mapping of anything
        if waiting and (ask.ends or len(waiting) == 2):
            return waiting.pop(0)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:  # noqa: ANN401
        sent.append(message)

    await app(_scope(ask), receive, send)
    start = sent[0]
    body = b"".join(message.get("body", b"") for message in sent[1:])
    if start["status"] not in STATUSES:
        raise UndocumentedError(f"{start['status']} {body[:200]!r}")
    if start["status"] >= 400:
        _check_refusal(start, body, ask)
        raise RefusedRequest


def _check_refusal(start: dict[str, Any], body: bytes, ask: Ask) -> None:
    kind = dict(start["headers"]).get(b"content-type", b"")
    if ask.method == "HEAD" or kind.startswith(b"text/x.tlog.size"):
        return
    said = msgspec.json.decode(body)["error"]
    if not said or "\n" in said:
        raise UndocumentedError(f"not one line: {said!r}")


def _scope(ask: Ask) -> dict[str, Any]:
    length = str(len(ask.body)) if ask.length is None else ask.length
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": ask.method,
        "scheme": "https",
        "path": ask.path,
        "raw_path": ask.path.encode("utf-8"),
        "query_string": ask.query.encode("utf-8"),
        "headers": [(b"content-length", length.encode("utf-8"))],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {} if ask.client is None else {"client_cert": ask.client},
    }


def _odd_part(text: str, divider: str, chance: random.Random) -> str:
    parts = text.split(divider)
    parts[chance.randrange(len(parts))] = chance.choice(ODD_TEXTS)
    return divider.join(parts)


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


# --- the two servers ----------------------------------------------------------------------


def _collector(them: Receivers) -> Server:
    """Return the collector of the frame campaign, with a certified device and reader."""
    site, org = them.collector, them.org
    registry = dataclasses.replace(site.registry, days=FOREVER_DAYS)
    reader_key = ed25519()
    csr = signing_request(org.device)
    with site.index.writing() as connection:
        until = WallInstant(site.now() * 2)
        token = enrol.new_token(connection, site.now(), until, jurisdiction="DE")
        certified = enrol.certify_reader(
            connection, registry, signing_request(reader_key), READER, site.now()
        )
    device = _certificate(registry.authority, Role.DEVICE, them.device.id.hex(), csr)
    reader = pem_to_der(certified.certificate.encode())
    wrong = _certificate(registry.authority, Role.COLLECTOR, "main", csr)
    frame = them.genuine[0]
    name, consent = batch_hash(frame).hex(), them.consent
    ended = ConsentEvent(
        grant=grant_hash(consent), state=ConsentState.WITHDRAWN, at=WallInstant(site.now())
    )
    order = ReleaseOrder(grant=org.grant(), batches=(batch_hash(frame),))
    shown = ShownGrant(grant=org.grant())
    encoded = msgspec.json.encode
    enrolled = EnrolRequest(token=token, csr=csr.decode())
    as_device = (
        Ask(method="GET", path="/v1/policy/policy.json"),
        Ask(method="GET", path="/v1/log/checkpoint"),
        Ask(method="GET", path="/v1/log/consistency", query="old=1&new=2"),
        Ask(method="POST", path="/v1/consents", body=encoded(consent)),
        Ask(method="POST", path="/v1/consent-events", body=encoded(sign_event(ended, org.device))),
        Ask(method="GET", path="/v1/guard-key", query=f"category=keys&month={MONTH}"),
        Ask(method="PUT", path=f"/v1/batches/{name}", body=frame),
        Ask(method="DELETE", path=f"/v1/batches/{'ab' * 32}"),
        Ask(method="GET", path="/v1/log/consistency", query="old=0&new=1"),
        Ask(method="GET", path="/v1/log/tile/entries/000.p/1"),
        Ask(method="GET", path="/v1/log/tile/0/x001/x002/003"),
    )
    as_reader = (
        Ask(method="POST", path="/v1/frames", body=encoded(FrameOrder(grant=org.grant(), after=0))),
        Ask(method="POST", path=f"/v1/frames/{name}", body=encoded(shown)),
        Ask(method="POST", path=f"/v1/frames/{name}/terms", body=encoded(shown)),
        Ask(method="POST", path="/v1/releases", body=encoded(order)),
    )
    return Server(
        name="collector",
        app=build(site),
        good=(
            Ask(method="POST", path="/v1/enroll", body=encoded(enrolled)),
            Ask(method="POST", path="/v1/renew", body=encoded(RenewRequest(csr=csr.decode()))),
            Ask(method="GET", path="/v1/state"),
            *(replace(ask, client=device) for ask in as_device),
            *(replace(ask, client=reader) for ask in as_reader),
        ),
        clients=(None, b"", device[:-1], device, reader, wrong),
    )


@contextlib.contextmanager
def _guard(folder: Path) -> Iterator[Server]:
    """Yield a guard that has a policy, keys and a log that it has cosigned nothing of yet."""
    org, authority = Organisation(), Authority.create("Guard")
    published = org.publish(folder / "policy")
    installed = read_policy_set(published.folder)
    keys = Keys(folder / "keys.sqlite")
    witness = Witness(folder / "witness.sqlite", WITNESS_NAME, org.witness)
    app = make_app(
        Guard(
            tenant=TENANT,
            signing_key=org.guard,
            keys=keys,
            witness=witness,
            leases=Leases.open(folder / "lease.json", org.guard_lease),
            policy_set=lambda: installed,
            halts=Halts(folder / "halt.json"),
            clock=Still(),
        )
    )
    csr = signing_request(ed25519())
    collector_cert = _certificate(authority, Role.COLLECTOR, "main", csr)
    reader = _certificate(authority, Role.READER, READER, csr)
    sealed, grant = org.seal(policy_digest(published.policy)), org.grant()
    logged = org.log_release(sealed, grant, org.recipient)
    note = org.checkpoint()
    asked = KeyRequest(subject=org.subject, category=Category.KEYS, month=MONTH)
    wanted = ReleaseRequest(grant=grant, checkpoint=org.cosigned(note), batches=(logged,))
    proof = base64.b64encode(bytes(32)).decode()
    yield Server(
        name="guard",
        app=app,
        good=(
            Ask(method="POST", path="/add-checkpoint", body=f"old 0\n\n{note}".encode()),
            Ask(method="POST", path="/add-checkpoint", body=f"old 1\n{proof}\n\n{note}".encode()),
            Ask(
                method="POST",
                path="/v1/keys",
                body=msgspec.json.encode(asked),
                client=collector_cert,
            ),
            Ask(
                method="POST",
                path="/v1/release",
                body=msgspec.json.encode(wanted),
                client=reader,
            ),
        ),
        clients=(None, b"", reader[:-1], reader, collector_cert),
    )
    keys.close()
    witness.close()


def _certificate(authority: Authority, role: Role, name: str, csr: bytes) -> bytes:
    """Return a client certificate (DER)."""
    pem = authority.certify(csr, client_uri(TENANT, role, name), FOREVER_DAYS)
    return pem_to_der(pem)
