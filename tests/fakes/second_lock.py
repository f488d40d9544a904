"""Collector, guard and reader with faults between them, in one thread of time.

All code between a reader's order and a plaintext is the real one, from the applications down
to the files; only the wires between the three are ours, so that a party can die at a chosen
step.  A party that died begins anew on what is on its disk.
"""

import asyncio
import contextlib
import random
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from starlette.types import ASGIApp, Message

import collector.guard.client
import guard.witness
import reader.fetch
from base.door import Response, UnreachableError
from base.paths import Paths
from base.pki import Role, client_uri, signing_request
from collector import enrol
from collector.app import build
from collector.assembly import Collector
from guard.app import Guard, make_app
from guard.database import transaction
from guard.halt import Halts
from guard.keys import Keys
from guard.lease import Leases
from guard.witness import Witness
from reader.library import Kept, Library
from reader.premises import Premises
from tests.fakes.organisation import READER, WITNESS_NAME, ed25519
from tests.fakes.site import TENANT, Site
from tests.fakes.tls import pem_to_der
from wire.ids import BatchHash


class Fault(StrEnum):
    """What can happen between a reader's order and its plaintext, once for each step."""

    ORDER_LOST = "the order does not reach the collector"
    ORDER_TWICE = "the order reaches the collector twice"
    BEFORE_LEAF = "the collector dies before it commits the leaves"
    AFTER_LEAF = "the collector dies after it committed the leaves"
    HEAD_LOST = "the head does not reach the witness"
    HEAD_TWICE = "the head reaches the witness twice"
    WITNESS_REFUSES = "the witness refuses"
    BEFORE_SEEN = "the witness dies before it commits the head"
    AFTER_SEEN = "the witness dies after it committed the head"
    COSIGNATURE_LOST = "the cosignature does not reach the collector"
    BEFORE_KEPT = "the collector dies before it commits the cosigned head"
    AFTER_KEPT = "the collector dies after it committed the cosigned head"
    LIST_LOST = "the logged releases do not reach the reader"
    ASK_LOST = "the reader's question does not reach the guard"
    ASK_TWICE = "the reader's question reaches the guard twice"
    GUARD_DIES = "the guard dies before it opened a shelf"
    GIVEN_DIES = "the guard dies when it has opened the shelves"
    GIVEN_LOST = "the guard's answer does not reach the reader"
    READER_DIES = "the reader dies before it keeps a release"
    KEPT_DIES = "the reader dies when it has kept a release"


class DiedError(BaseException):
    """A process ends here: nothing below catches that, nothing after it happens."""


@dataclass
class Fate:
    """Strikes with each fault in turn; one that was not met waits for the next attempt."""

    dice: random.Random
    struck: Counter[Fault] = field(default_factory=Counter)
    _coming: deque[Fault] = field(default_factory=deque)
    _armed: set[Fault] = field(default_factory=set)

    def next_attempt(self) -> None:
        """Choose none, one or two faults."""
        if not self._coming:
            self._coming.extend(self.dice.sample(list(Fault), len(Fault)))
        due = self._coming[0]
        self._armed = {due} if self.dice.random() < 0.8 else set()
        if self._armed and self.dice.random() < 0.2:
            self._armed.add(self.dice.choice(list(Fault)))

    def rest(self) -> None:
        """Strike no more."""
        self._armed = set()

    def strikes(self, fault: Fault) -> bool:
        """Whether *fault* happens, now."""
        if fault not in self._armed:
            return False
        self._armed.discard(fault)
        self.struck[fault] += 1
        with contextlib.suppress(ValueError):
            self._coming.remove(fault)
        return True

    def dies(self, fault: Fault) -> None:
        if self.strikes(fault):
            raise DiedError(fault)

    def breaks(self, fault: Fault) -> None:
        if self.strikes(fault):
            raise UnreachableError(fault)


Opened = tuple[ASGIApp, Callable[[], None]]


@dataclass
class Party:
    """A server: dead until it is asked, and after it died."""

    opens: Callable[[], Opened]
    starts: int = 0
    _running: Opened | None = None
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def request(self, method: str, url: str, body: bytes | None, certificate: bytes) -> Response:
        """Return the answer; raises UnreachableError when the party dies of it."""
        if self._running is None:
            self._running = self.opens()
            self.starts += 1
        try:
            asked = ask(self._running[0], method, url, body or b"", certificate)
            return self._loop.run_until_complete(asked)
        except DiedError as exc:
            self.ends()
            raise UnreachableError(str(exc)) from exc

    def ends(self) -> None:
        if self._running is not None:
            self._running[1]()
        self._running = None

    def close(self) -> None:
        self.ends()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


async def ask(app: ASGIApp, method: str, url: str, body: bytes, certificate: bytes) -> Response:
    """Return what *app* answers to one request."""
    parts, sent = urlsplit(url), list[Message]()
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(b"content-length", str(len(body)).encode())],
        "state": {"client_cert": certificate},
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    headers = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return Response(status=sent[0]["status"], headers=headers, body=content)


Wire = Callable[[str, str, bytes | None], Response]


@dataclass
class Door:
    """Stands where a `OneDoor` would."""

    request: Wire

    def close(self) -> None:
        pass


LEAF_WRITTEN: Final = (Fault.BEFORE_LEAF, Fault.AFTER_LEAF)
HEAD_WRITTEN: Final = (Fault.BEFORE_KEPT, Fault.AFTER_KEPT)


class SecondLock:
    """The three parties of one site, which has stopped to serve by itself."""

    def __init__(self, site: Site, fate: Fate, patch: pytest.MonkeyPatch) -> None:
        self.site = site
        self.fate = fate
        self._writes: Iterator[tuple[Fault, Fault]] = iter(())
        self.collectors = Party(self._open_collector)
        self.guards = Party(self._open_guard)
        self.collector_now = site.collector
        self._certificates()
        site.stop()
        patch.setattr(collector.guard.client, "OneDoor", lambda *_a, **_k: Door(self.to_witness))
        ends = {"collector": Door(self._to_collector), "guard": Door(self._to_guard)}
        patch.setattr(reader.fetch, "_door", lambda _premises, peer: ends[peer])
        seen = (Fault.BEFORE_SEEN, Fault.AFTER_SEEN)
        patch.setattr(
            guard.witness, "transaction", lambda engine: self._mortal(transaction(engine), seen)
        )

    @property
    def premises(self) -> Premises:
        """The reader's; nothing lies there."""
        nowhere = self.site.premises.paths.runtime / "reader"
        return Premises(Paths(config=nowhere, state=nowhere, logs=nowhere, runtime=nowhere))

    def ends(self) -> tuple[reader.fetch.Collector, reader.fetch.Guard]:
        """Return the reader's two ends of the door."""
        return reader.fetch.Collector(self.premises), reader.fetch.Guard(self.premises)

    def witnessed(self) -> int:
        """Return how much of the log the witness has cosigned, by its disk."""
        with closing(sqlite3.connect(self.site.guard.folder / "witness.sqlite")) as memory:
            return int(memory.execute("SELECT max(size) FROM seen").fetchone()[0] or 0)

    @property
    def index_file(self) -> Path:
        """What the collector has on its disk."""
        return self.site.premises.index_file

    def close(self) -> None:
        self.collectors.close()
        self.guards.close()

    # --- the wires ----------------------------------------------------------------------

    def _to_collector(self, method: str, path: str, body: bytes | None = None) -> Response:
        def request() -> Response:
            self._writes = iter(writes if releasing else ())
            return self.collectors.request(method, path, body, self._at_collector)

        releasing, writes = path == "/v1/releases", (LEAF_WRITTEN, HEAD_WRITTEN)
        if not releasing:
            return request()
        self.fate.breaks(Fault.ORDER_LOST)
        if self.fate.strikes(Fault.ORDER_TWICE):
            request()
        answer = request()
        self.fate.breaks(Fault.LIST_LOST)
        return answer

    def to_witness(self, method: str, path: str, body: bytes | None = None) -> Response:
        def request() -> Response:
            return self.guards.request(method, path, body, self._of_collector)

        self.fate.breaks(Fault.HEAD_LOST)
        if self.fate.strikes(Fault.HEAD_TWICE):
            request()
        if self.fate.strikes(Fault.WITNESS_REFUSES):
            installed, self.site.guard.policy = self.site.guard.policy, None
            try:
                answer = request()
            finally:
                self.site.guard.policy = installed
            assert answer.status == 503
            return answer
        answer = request()
        self.fate.breaks(Fault.COSIGNATURE_LOST)
        return answer

    def _to_guard(self, method: str, path: str, body: bytes | None = None) -> Response:
        def request() -> Response:
            return self.guards.request(method, path, body, self._at_guard)

        self.fate.breaks(Fault.ASK_LOST)
        if self.fate.strikes(Fault.ASK_TWICE):
            request()
        if self.fate.strikes(Fault.GUARD_DIES):
            self.guards.ends()
            raise UnreachableError(Fault.GUARD_DIES)
        answer = request()
        if self.fate.strikes(Fault.GIVEN_DIES):
            self.guards.ends()
            raise UnreachableError(Fault.GIVEN_DIES)
        self.fate.breaks(Fault.GIVEN_LOST)
        return answer

    # --- who begins anew ------------------------------------------------------------------

    def _open_collector(self) -> Opened:
        opened = self.collector_now = Collector.open(self.site.premises, self.site.clock)
        writing = opened.index.writing

        def mortal() -> AbstractContextManager[Any]:
            return self._mortal(writing(), next(self._writes, None))

        vars(opened.index)["writing"] = mortal  # its own, and goes with it
        app = build(opened)

        def close() -> None:
            opened.close()
            app.state.collector = None  # or its whole tree waits for the garbage collection

        return app, close

    def _open_guard(self) -> Opened:
        folder, org = self.site.guard.folder, self.site.org
        keys, witness = Keys(folder / "keys.sqlite"), self._witness()
        opened = Guard(
            tenant=TENANT,
            signing_key=org.guard,
            keys=keys,
            witness=witness,
            leases=Leases.open(folder / "lease.json", org.guard_lease),
            policy_set=lambda: self.site.guard.policy,
            halts=Halts(folder / "halt.json"),
            clock=self.site.clock,
        )

        def close() -> None:
            keys.close()
            witness.close()

        return make_app(opened), close

    def _witness(self) -> Witness:
        path = self.site.guard.folder / "witness.sqlite"
        return Witness(path, WITNESS_NAME, self.site.org.witness)

    @contextmanager
    def _mortal(
        self, transaction: AbstractContextManager[Any], faults: tuple[Fault, Fault] | None
    ) -> Iterator[Any]:
        """Run *transaction*, unless its process dies before or after it commits."""
        with transaction as connection:
            yield connection
            if faults:
                self.fate.dies(faults[0])
        if faults:
            self.fate.dies(faults[1])

    def _certificates(self) -> None:
        site, key = self.site, ed25519()
        request = signing_request(key)
        with site.collector.index.writing() as connection:
            registry, now = site.collector.registry, site.collector.now()
            certified = enrol.certify_reader(connection, registry, request, READER, now)
        self._at_collector = pem_to_der(certified.certificate.encode())
        uri = client_uri(TENANT, Role.READER, READER)
        self._at_guard = pem_to_der(site.guard.authority.certify(request, uri))
        pem = (site.premises.guard_folder / "client.pem").read_bytes()
        self._of_collector = pem_to_der(pem)


class MortalLibrary(Library):
    """The library of a reader that dies before or after it keeps something."""

    def __init__(self, folder: Path, fate: Fate) -> None:
        super().__init__(folder)
        self.fate = fate

    def keep_release(self, batch: BatchHash, kept: Kept) -> None:
        self.fate.dies(Fault.READER_DIES)
        super().keep_release(batch, kept)
        self.fate.dies(Fault.KEPT_DIES)

    def put_away(self, batch: BatchHash) -> None:
        """Forget a release, and keep the frame."""
        self._release(batch).unlink()
