"""schemathesis asks the real servers whatever their documents allow, and what they do not.

Collector and guard run on their real listeners, over TLS; each request is made as each kind
of client.  Whatever comes in: no 5xx, and no answer whose status, body, name of refusal or
headers the document does not have.
"""

import copy
import functools
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import collector.operators.app
import guard.listeners
import guard.operate
from base import openapi
from base.api import Door, Media
from base.pki import Role, signing_request
from base.serving import Listeners
from collector.guard.watch import Watch
from collector.log import Log
from collector.serving.listeners import served
from guard.assembly import Guard
from guard.config import Config
from guard.keys import Found
from tests.conftest import NewPlace, Size
from tests.fakes.indexes import Place
from tests.fakes.organisation import MONTH, NOW, READER, Organisation, PolicyFolder, ed25519
from tests.fakes.own import order_of, query_of
from tests.fakes.served import ServedGuard, StoppedClock, found_guard
from tests.fakes.site import Site, Workstation, collector_site, serving, today
from tests.fakes.tls import WAIT_SECONDS
from wire.category import Category
from wire.collector_http import EnrolRequest, FrameOrder, ReleaseOrder, RenewRequest, ShownGrant
from wire.consent_event import ConsentEvent, sign_event
from wire.grant import SignedConsent, grant_hash
from wire.guard_http import KeyRequest, OrdersRequest, ReleaseRequest
from wire.lease import offer
from wire.linked import ConsentState
from wire.me import About
from wire.rights import Demand, Request, sign_request

Files: TypeAlias = tuple[Path, Path]
Operation: TypeAlias = APIOperation[Any, Any, Any, Any]
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
DOCUMENTS: Final = {
    "collector": json.loads(collector.operators.app.document()),
    "guard": json.loads(guard.operate.document()),
}
LABELS: Final = [
    (program, f"{method.upper()} {path}")
    for program, document in DOCUMENTS.items()
    for path, methods in document["paths"].items()
    for method in methods
]
SHARE: Final = 6  # requests of each kind (valid, spoilt) for each operation, each as every client
FULL: Final = 200
FOLDER: Final = "~"


@dataclass(frozen=True, kw_only=True)
class Good:
    """What a request of an honest client has in it."""

    path: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None

    def put_into(self, case: Case[Any], *, spoil: bool) -> None:
        """Make *case* this request; with *spoil*, one field of its body stays as it was."""
        case.path_parameters.update(self.path)
        case.query.update(self.query)
        if self.body is None:
            return
        made, case.body = case.body, self.body
        if spoil and isinstance(made, dict) and isinstance(self.body, dict):
            case.body = self.body | dict(list(made.items())[:1])


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A server, where its doors are, who comes to them, and what honest clients ask."""

    document: dict[str, Any]
    origins: dict[Door, str]
    authority: Path
    clients: dict[str, Files | None]
    good: dict[str, tuple[Good, ...]]


def origins(listeners: Listeners) -> dict[Door, str]:
    """Return where each door is; the operators', on loopback, speaks in the clear."""
    return {
        door: f"{'http' if door is Door.OPERATORS else 'https'}://127.0.0.1:{port}"
        for door, port in listeners.ports.items()
    }


@contextmanager
def tried_collector(folder: Path, place: Place) -> Iterator[Tried]:
    with collector_site(folder / "site", index_url=place.url) as site:
        ada = site.workstation()
        signed = ada.consents()
        listeners = Listeners(
            {
                Door.DEVICES: "127.0.0.1:0",
                Door.READERS: "127.0.0.1:0",
                Door.OPERATORS: "127.0.0.1:0",
            }
        )
        authority = folder / "ca.pem"
        authority.write_text(site.premises.trusted_pem())
        watch = Watch(site.collector)
        told = served(listeners, site.collector, site.premises, watch)
        with serving(*told):
            yield Tried(
                document=DOCUMENTS["collector"],
                origins=origins(listeners),
                authority=authority,
                clients={"nobody": None, "device": ada.files, "reader": reader_of(site)},
                good=good_for_collector(site, ada, signed),
            )


def good_for_collector(
    site: Site, ada: Workstation, signed: SignedConsent
) -> dict[str, tuple[Good, ...]]:
    """Return what an agent and a reader ask, by the operation."""
    kept, *new = (ada.seals(signed) for _ in range(3))
    assert ada.puts(kept).status == 201
    named = {frame: hashlib.sha256(frame).hexdigest() for frame in (kept, *new)}
    approved = site.grant()
    ended = sign_event(
        ConsentEvent(
            grant=grant_hash(ada.consents(Category.POINTER)),
            state=ConsentState.WITHDRAWN,
            at=site.collector.now(),
        ),
        ada.org.device,
    )
    enrols = EnrolRequest(token=site.token(), csr=signing_request(ed25519()).decode())
    order = ReleaseOrder(grant=approved, batches=(bytes.fromhex(named[kept]),))
    of_frame = Good(path={"batch": named[kept]}, body=body(ShownGrant(grant=approved)).body)
    key = {"category": "keys", "month": today()[:7]}
    return {
        "POST /v1/enroll": (body(enrols),),
        "POST /v1/renew": (body(RenewRequest(csr=signing_request(ada.org.device).decode())),),
        "POST /v1/rights": (body(ada.demands(category=Category.SCREEN)),),
        "POST /v1/me/batches": (body(query_of(ada, About.BATCHES)),),
        "POST /v1/me/deletions": (body(query_of(ada, About.DELETIONS)),),
        "POST /v1/me/accesses": (body(query_of(ada, About.ACCESSES)),),
        "POST /v1/me/frames/{batch}": (
            Good(
                path={"batch": named[kept]},
                body=body(query_of(ada, About.FRAME, batch=bytes.fromhex(named[kept]))).body,
            ),
        ),
        "POST /v1/me/return": (body(order_of(ada, bytes.fromhex(named[kept]))),),
        "GET /v1/policy/{name}": tuple(
            Good(path={"name": name})
            for name in ("root.json", "timestamp.json", "policy.json", "1.root.json")
        ),
        "GET /v1/log/consistency": (Good(query={"old": "1", "new": "2"}),),
        "GET /v1/log/tile/{tile}": (Good(path={"tile": "entries/000.p/1"}),),
        "POST /v1/consents": (body(signed), body(ada.consent(Category.SCREEN))),
        "POST /v1/consent-events": (body(ended),),
        "GET /v1/guard-key": (Good(query=key), Good(query={**key, "category": "screen"})),
        "PUT /v1/batches/{batch}": tuple(
            Good(path={"batch": name}, body=frame) for frame, name in named.items()
        ),
        "DELETE /v1/batches/{batch}": (Good(path={"batch": named[new[1]]}),),
        "POST /v1/frames": (body(FrameOrder(grant=approved)),),
        "POST /v1/frames/{batch}": (of_frame,),
        "POST /v1/frames/{batch}/terms": (of_frame,),
        "POST /v1/releases": (body(order),),
    }


def body(message: msgspec.Struct) -> Good:
    """Return a request of nothing but this message."""
    return Good(body=msgspec.json.decode(msgspec.json.encode(message)))


def reader_of(site: Site) -> Files:
    """Return the files of a certified reader."""
    before = set(site.premises.paths.runtime.iterdir())
    site.reader(READER)
    (folder,) = set(site.premises.paths.runtime.iterdir()) - before
    return folder / "certificate.pem", folder / "key.pem"


@contextmanager
def tried_guard(folder: Path) -> Iterator[Tried]:
    acme = Organisation()
    premises = found_guard(folder / "guard", acme)
    config = Config(origin="https://127.0.0.1:8444", tenant="acme", name="x", listen="127.0.0.1:0")
    guards = premises.open(StoppedClock())
    served = ServedGuard(premises=premises, origin="", clock=StoppedClock())
    published = acme.publish(folder / "policy")
    served.trust(published)
    listeners = Listeners(
        {
            Door.COLLECTOR: "127.0.0.1:0",
            Door.READERS: "127.0.0.1:0",
            Door.OPERATORS: "127.0.0.1:0",
        }
    )
    try:
        with serving(*guard.listeners.served(listeners, guards, premises, config)):
            yield Tried(
                document=DOCUMENTS["guard"],
                origins=origins(listeners),
                authority=premises.authority_file,
                clients={
                    "nobody": None,
                    "collector": served.certified(Role.COLLECTOR, "main"),
                    "reader": served.certified(Role.READER, READER),
                },
                good=good_for_guard(acme, published, guards),
            )
    finally:
        guards.keys.close()
        guards.witness.close()


def good_for_guard(
    acme: Organisation, published: PolicyFolder, guards: Guard
) -> dict[str, tuple[Good, ...]]:
    """Return what a collector and a reader ask, by the operation."""
    asked = KeyRequest(subject=acme.subject, category=Category.KEYS, month=MONTH)
    guards.keys.public_key(acme.subject, Category.KEYS, MONTH, guards.now())
    found = guards.keys.find(acme.subject, Category.KEYS, MONTH)
    assert isinstance(found, Found)
    acme.guard_seed = found.seed
    grant = acme.grant()
    batch = acme.log_release(acme.seal(published.digest), grant, acme.recipient)
    note = acme.checkpoint()
    release = ReleaseRequest(grant=grant, checkpoint=acme.cosigned(note), batches=(batch,))
    demand = Request(
        nonce=bytes(16),
        origin=guards.origin(),
        subject=acme.subject,
        demand=Demand.ERASE,
        category=Category.SCREEN,
        made_at=guards.now(),
    )
    lease = offer(
        snapshot=published.snapshot,
        version=int(NOW.timestamp()),
        expires=NOW + timedelta(hours=1),
        key=acme.collector_lease,
    )
    return {
        "POST /add-checkpoint": (Good(body=f"old 0\n\n{note}"),),
        "POST /v1/keys": (body(asked),),
        "POST /v1/erase": (body(sign_request(demand, acme.speaker())),),
        "POST /v1/erasures": (body(OrdersRequest()),),
        "POST /v1/lease": (Good(body=json.loads(lease)),),
        "POST /v1/release": (body(release),),
    }


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, new_place: NewPlace
) -> Iterator[dict[str, Tried]]:
    folder = tmp_path_factory.mktemp("servers")
    place = new_place(folder)
    with tried_collector(folder / "collector", place) as one, tried_guard(folder) as other:
        yield {"collector": one, "guard": other}


def clients_of(tried: Tried, door: Door) -> list[str]:
    """Return who gets as far as a request at *door*."""
    if door is Door.OPERATORS:  # on loopback here: nobody shows a certificate
        return ["nobody"]
    return [name for name, files in tried.clients.items() if files or door is not Door.READERS]


def modes(operation: Operation) -> list[GenerationMode]:
    """Return in which ways a request can be made; where nothing is said, nothing is spoilt."""
    raw = operation.definition.raw
    taken = raw.get("requestBody", {"content": {}})["content"]
    spoilt = bool(raw["parameters"] or Media.JSON in taken)
    return [GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if spoilt else [])]


def operation_of(document: dict[str, Any], label: str) -> Operation:
    """Return the operation as schemathesis reads it, which makes no slashes in names: FOLDER."""
    places = openapi.PLACES["tile"]["pattern"]
    spelt = json.dumps(places), json.dumps(places.replace("/", FOLDER))
    read = json.loads(json.dumps(document).replace(*spelt))
    every = schemathesis.openapi.from_dict(read).get_all_operations()
    found = [each.ok() for each in every if isinstance(each, Ok)]
    return next(each for each in found if each.label == label)


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize(("program", "label"), LABELS, ids=[label for _, label in LABELS])
def test_no_request_gets_a_5xx_or_an_answer_that_is_not_documented(
    servers: dict[str, Tried],
    program: str,
    label: str,
    size: Size,
    figure: Callable[[str], None],
    dice: random.Random,
) -> None:
    """Valid and spoilt, as everybody who can come to that listener."""
    tried = servers[program]
    operation = operation_of(tried.document, label)
    door = Door(operation.definition.raw["tags"][0])
    seen: Counter[int] = Counter()
    ask = functools.partial(asked, tried, door, seen)
    for mode in modes(operation):
        attack(
            tried,
            operation,
            mode,
            {name: functools.partial(ask, tried.clients[name]) for name in clients_of(tried, door)},
            most=size(share=SHARE, full=FULL),
            chance=dice.randrange(1 << 32),
        )
    told = ", ".join(f"{many} x {status}" for status, many in sorted(seen.items()))
    figure(f"{seen.total()} requests: {told}")
    assert seen.total() > 0


def attack(
    tried: Tried,
    operation: Operation,
    mode: GenerationMode,
    ask: Mapping[str, Callable[[Case[Any]], None]],
    *,
    most: int,
    chance: int,
) -> None:
    """Ask at most so many different requests of one kind, each as every client.

    To make one takes far longer than to ask it.
    """
    good = tried.good.get(operation.label, ())
    honest = st.none() | st.sampled_from(good) if good else st.none()

    @settings(
        max_examples=most, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @seed(chance)
    @given(
        case=operation.as_strategy(generation_mode=mode),
        good=honest,
        spoil=st.booleans(),
        order=st.permutations(sorted(ask)),
    )
    def asks(case: Case[Any], good: Good | None, spoil: bool, order: list[str]) -> None:  # noqa: FBT001 - drawn
        if good is not None:
            good.put_into(case, spoil=spoil)
        elif isinstance(case.body, bytes) and "batch" in case.path_parameters and spoil:
            case.path_parameters["batch"] = hashlib.sha256(case.body).hexdigest()
        if isinstance(tile := case.path_parameters.get("tile"), str):
            case.path_parameters["tile"] = tile.replace(FOLDER, "/")
        for name in order:
            ask[name](case)

    asks()


def asked(
    tried: Tried, door: Door, seen: Counter[int], client: Files | None, case: Case[Any]
) -> None:
    """Ask it, and hold the answer against the document."""
    with requests.Session() as session:
        answer = case.call(
            base_url=tried.origins[door],
            session=session,
            verify=str(tried.authority),
            cert=None if client is None else tuple(map(str, client)),
            timeout=WAIT_SECONDS,
        )
    seen[answer.status_code] += 1
    case.validate_response(answer, checks=CHECKS)


# --- what breaks it is found ------------------------------------------------------------


def one_of(tried: Tried, document: dict[str, Any], label: str, client: str) -> None:
    """Ask once, and hold the answer against *document*."""
    case = operation_of(document, label).Case()
    asked(tried, Door.DEVICES, Counter(), tried.clients[client], case)


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["200", "401"])
def test_an_answer_that_the_document_does_not_have_is_found(
    servers: dict[str, Tried], missing: str
) -> None:
    """The attack would hold nothing if it took everything."""
    tried, label = servers["collector"], "GET /v1/log/checkpoint"
    client = {"200": "device", "401": "nobody"}[missing]
    one_of(tried, tried.document, label, client)
    document = copy.deepcopy(tried.document)
    del document["paths"]["/v1/log/checkpoint"]["get"]["responses"][missing]
    with pytest.raises(FailureGroup, match="Undocumented status code"):
        one_of(tried, document, label, client)


@pytest.mark.slow
def test_a_refusal_by_a_name_that_the_document_does_not_have_is_found(
    servers: dict[str, Tried],
) -> None:
    """The status alone would not tell."""
    tried = servers["collector"]
    document = json.loads(json.dumps(tried.document).replace("no\\\\-certificate", "odd"))
    assert document != tried.document
    with pytest.raises(FailureGroup, match="Response violates schema"):
        one_of(tried, document, "GET /v1/log/checkpoint", "nobody")


@pytest.mark.slow
def test_a_mistake_of_the_server_is_found(
    servers: dict[str, Tried], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the document says of it."""
    monkeypatch.setattr(Log, "checkpoint", lambda _log: 1 // 0)
    tried = servers["collector"]
    with pytest.raises(FailureGroup, match="Server error"):
        one_of(tried, tried.document, "GET /v1/log/checkpoint", "device")
