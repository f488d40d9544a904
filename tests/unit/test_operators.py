"""What operators are told, by whom they are let in, and what no number tells."""

import contextlib
import hashlib
import http.client
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec
import pytest

import collector.config
import collector.operators.app
import collector.operators.gauges
import guard.listeners
import guard.operate
from base import metrics, operators
from base.api import Door
from base.door import ClientRefusedError
from base.errors import SetupError
from base.https import OneDoor
from base.metrics import Described
from base.pki import CLIENT_DAYS, Role, client_uri, signing_request
from base.serving import Clients, Credentials, Listener, Listeners, Served, run_together
from collector.app import ROUTES
from collector.config import Operators
from collector.guard.watch import Watch
from collector.index import tables
from collector.log import Log, append
from collector.serving.listeners import credentials_for, served
from guard.config import Config
from tests.fakes.organisation import MONTH, Organisation, ed25519
from tests.fakes.served import ServedGuard, StoppedClock, found_guard
from tests.fakes.site import Site, Workstation, fetches, lists, refusal, serving
from tests.fakes.tls import WAIT_SECONDS
from wire.category import Category
from wire.collector_http import Certified
from wire.guard_http import KeyRequest
from wire.ids import WallInstant
from wire.leaf import Kind

ROOT: Final = Path(__file__).resolve().parents[2]
COUNTED: Final = (metrics.REQUESTS, metrics.SECONDS, metrics.DEFECTS)
OF_COLLECTOR: Final = tuple(described for described, _read in collector.operators.gauges.GAUGES)
OF_GUARD: Final = tuple(described for described, _read in guard.operate.GAUGES)
LABELS: Final = {"door", "method", "path", "status", "cause", "le"}  # none names anybody


class Told:
    """What an operators' listener on loopback tells, asked as Prometheus asks."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, path: str, host: str = "", method: str = "GET") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_SECONDS)
        with contextlib.closing(connection):
            connection.request(method, path, headers={"Host": host} if host else {})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def numbers(self) -> dict[str, float]:
        """Return each sample: its name with its labels, and the value."""
        status, text = self.ask("/metrics")
        assert status == 200
        samples = [line for line in text.decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (s.rpartition(" ") for s in samples)}

    def readiness(self) -> tuple[int, operators.Readiness]:
        status, body = self.ask("/readyz")
        return status, msgspec.json.decode(body, type=operators.Readiness)


@contextlib.contextmanager
def doors(site: Site) -> Iterator[tuple[Listeners, Watch]]:
    """Serve *site* once more, with a listener for each kind of caller."""
    listeners = Listeners(
        dict.fromkeys((Door.DEVICES, Door.READERS, Door.OPERATORS), "127.0.0.1:0")
    )
    watch = Watch(site.collector)
    told = served(listeners, site.collector, site.premises, watch)
    with serving(*told):
        yield listeners, watch


@pytest.fixture
def listeners(site: Site) -> Iterator[Listeners]:
    with doors(site) as (bound, _watch):
        yield bound


@pytest.fixture
def told(listeners: Listeners) -> Told:
    return Told(listeners.ports[Door.OPERATORS])


def at(site: Site, port: int, one: Workstation | None = None) -> OneDoor:
    """Return a door to another listener of *site*."""
    certificate, key = one.files if one else (None, None)
    pin, authority = site.premises.tls_pin(), site.premises.trusted_pem()
    origin = f"https://127.0.0.1:{port}"
    return OneDoor(origin, (pin,), authority, certificate, key, WAIT_SECONDS)


# --- each listener serves its own ---------------------------------------------------------


def test_each_listener_serves_its_own_and_nothing_of_the_others(
    site: Site, listeners: Listeners
) -> None:
    """A device's certificate at the readers' door is a wrong role; a reader's path is not there."""
    ada = site.workstation()
    devices, readers = (listeners.ports[d] for d in (Door.DEVICES, Door.READERS))
    paths = {
        ("GET", "/v1/state"): (200, 404),
        ("POST", "/v1/frames"): (404, 403),
        ("GET", "/metrics"): (404, 404),
    }
    for path, statuses in paths.items():
        asked = [at(site, port, ada).request(*path).status for port in (devices, readers)]
        assert tuple(asked) == statuses, path
    both = [
        at(site, p, ada).request("GET", "/v1/log/checkpoint").status for p in (devices, readers)
    ]
    assert both == [200, 200]


def test_nobody_comes_to_the_readers_door_without_a_certificate(
    site: Site, listeners: Listeners
) -> None:
    """The connection ends before a request."""
    with pytest.raises(ClientRefusedError):
        at(site, listeners.ports[Door.READERS]).request("POST", "/v1/frames")
    assert at(site, listeners.ports[Door.DEVICES]).request("GET", "/v1/state").status == 200


def test_a_collector_without_listeners_of_their_own_serves_readers_with_the_devices(
    site: Site,
) -> None:
    """As it was set up before there were any."""
    bound = Listeners({Door.DEVICES: "127.0.0.1:0", Door.READERS: "", Door.OPERATORS: ""})
    assert list(bound.ports) == [Door.DEVICES]
    told = served(bound, site.collector, site.premises, Watch(site.collector))
    with serving(*told):
        answer = at(site, bound.ports[Door.DEVICES], site.workstation()).request(
            "POST", "/v1/frames"
        )
        assert answer.status == 403


def test_when_one_listener_cannot_begin_none_does(site: Site) -> None:
    """Half a server would be worse than none; what was bound is given back."""
    taken = Listener("127.0.0.1", 0)
    with pytest.raises(SetupError, match="cannot listen"):
        Listeners({Door.DEVICES: "127.0.0.1:0", Door.READERS: f"127.0.0.1:{taken.port}"})
    taken.close()
    bound = Listeners({Door.DEVICES: "127.0.0.1:0", Door.READERS: "127.0.0.1:0"})
    told = served(bound, site.collector, site.premises, Watch(site.collector))
    broken = Credentials(
        certificate=Path("absent"),
        key=Path("absent"),
        client_authority=Path("absent"),
        clients=Clients.REQUIRED,
    )
    with pytest.raises(SetupError, match="absent"):
        run_together(told[0], Served(told[1].listener, told[1].app, broken))


def test_a_busy_listener_keeps_no_other_waiting(
    site: Site, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a thread and workers of its own: health is told while all uploads hang."""
    release = threading.Event()
    ada = site.workstation()

    def hangs(_log: Log, _size: int | None = None) -> str:
        release.wait(WAIT_SECONDS)
        return "at last"

    monkeypatch.setattr(Log, "checkpoint", hangs)
    threads = [
        threading.Thread(target=lambda: site.door(*ada.files).request("GET", "/v1/log/checkpoint"))
        for _ in range(60)
    ]
    try:
        for thread in threads:
            thread.start()
        assert told.ask("/healthz") == (200, b'{"running":true}')
    finally:
        release.set()
        for thread in threads:
            thread.join(WAIT_SECONDS)


# --- who is let in ------------------------------------------------------------------------


def test_on_loopback_a_name_that_is_not_loopback_s_is_refused(told: Told) -> None:
    """A page in a browser there could be made to ask under a name of its own."""
    for host in ("localhost", "127.0.0.1:9464", "[::1]", "[::1]:9464"):
        assert told.ask("/healthz", host)[0] == 200, host
    for host in ("evil.example", "evil.example:9464", "127.0.0.1.evil.example", "[::1].example"):
        assert told.ask("/metrics", host)[0] == 403, host


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_an_operator_changes_nothing(told: Told, method: str) -> None:
    """There is nothing but to look."""
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/frames"):
        assert told.ask(path, method=method)[0] == 404


def test_elsewhere_an_operator_shows_a_certificate_that_is_listed(site: Site) -> None:
    """Of the role, of the tenant, by its name; nobody else is told anything."""
    listed = Operators(names=("prometheus",))
    config = msgspec.structs.replace(site.collector.config, operators=listed)
    running = replace(site.collector, config=config)
    desk = collector.operators.app.desk(
        running, site.premises, Watch(running), metrics.Seen(), clear=False
    )
    listener = Listener("127.0.0.1", 0)
    credentials = credentials_for(site.premises, Door.OPERATORS)
    with serving(Served(listener, operators.build(desk), credentials)):

        def asks(role: Role, name: str, tenant: str = "acme") -> int:
            door = certified(site, listener.port, client_uri(tenant, role, name))
            with contextlib.closing(door):
                return door.request("GET", "/metrics").status

        assert asks(Role.OPERATOR, "prometheus") == 200
        assert asks(Role.OPERATOR, "somebody") == 403
        assert asks(Role.OPERATOR, "prometheus", "other") == 403
        assert asks(Role.DEVICE, "prometheus") == 403
        assert asks(Role.READER, "prometheus") == 403
        with pytest.raises(ClientRefusedError):
            at(site, listener.port).request("GET", "/metrics")


def test_an_operator_s_certificate_that_ends_while_its_connection_is_open_is_refused(
    site: Site,
) -> None:
    """TLS asks at the beginning alone, and whoever collects numbers keeps its connection."""
    listed = Operators(names=("prometheus",))
    config = msgspec.structs.replace(site.collector.config, operators=listed)
    running = replace(site.collector, config=config)
    desk = collector.operators.app.desk(
        running, site.premises, Watch(running), metrics.Seen(), clear=False
    )
    listener = Listener("127.0.0.1", 0)
    credentials = credentials_for(site.premises, Door.OPERATORS)
    with (
        serving(Served(listener, operators.build(desk), credentials)),
        contextlib.closing(
            certified(site, listener.port, client_uri("acme", Role.OPERATOR, "prometheus"))
        ) as door,
    ):
        assert door.request("GET", "/metrics").status == 200
        site.clock.moved = timedelta(days=CLIENT_DAYS, minutes=1)
        answer = door.request("GET", "/metrics")
        assert (answer.status, b"has expired" in answer.body) == (401, True)


def test_a_listener_that_would_let_nobody_in_does_not_begin(site: Site) -> None:
    """One line that says what to write where."""
    with pytest.raises(SetupError, match="lists no names"):
        collector.operators.app.desk(
            site.collector, site.premises, Watch(site.collector), metrics.Seen(), clear=False
        )


def certified(site: Site, port: int, uri: str) -> OneDoor:
    """Return the door of a client that the authority certified past all rules."""
    key = ed25519()
    pem = site.premises.authority().certify(signing_request(key), uri)
    files = site.keep(key, Certified(certificate=pem.decode(), expires_at=WallInstant(0)))
    pin, authority = site.premises.tls_pin(), site.premises.trusted_pem()
    return OneDoor(f"https://127.0.0.1:{port}", (pin,), authority, *files, WAIT_SECONDS)


def test_an_operator_s_certificate_opens_nothing_else(site: Site) -> None:
    """At the devices' and the readers' door it is nobody's."""
    door = site.certify(ed25519(), client_uri("acme", Role.OPERATOR, "prometheus"))
    for path in ("/v1/log/checkpoint", "/v1/rights"):
        assert refusal(door.request("GET", path)) == (401, "unknown-client")
    assert refusal(lists(door, site.grant())) == (401, "unknown-client")


def test_in_the_clear_only_this_machine_is_served() -> None:
    """Without TLS on any other address, nothing begins."""
    listener = Listener("0.0.0.0", 0)  # noqa: S104 - that is the point
    with pytest.raises(SetupError, match="TLS"):
        listener.run(operators.build, None)


# --- is it well ---------------------------------------------------------------------------


def test_a_collector_says_what_it_waits_for(site: Site, told: Told) -> None:
    """Ready; then a wrong clock, and a disk without room, each by name and in one line."""
    assert told.ask("/healthz") == (200, b'{"running":true}')
    assert told.readiness() == (200, operators.Readiness(ready=True, waits_for={}))
    site.clock.moved -= timedelta(days=3650)
    status, said = told.readiness()
    assert (status, said.ready, set(said.waits_for)) == (503, False, {"clock"})
    site.clock.moved = timedelta()
    assert told.readiness()[0] == 200


def test_a_collector_that_is_not_set_up_whole_is_not_ready(site: Site) -> None:
    """No policy, no guard, no room."""
    bare = replace(site.collector, guard=None, config=roomy(site))
    with bare.index.writing() as connection:
        connection.execute(tables.policies.delete())
    waits = {c.name for c in collector.operators.app.checks(bare) if c.why_not()}
    assert waits == {"policy", "guard", "room"}


def roomy(site: Site) -> collector.config.Config:
    """Return a configuration that wants more room than there is."""
    config = site.collector.config
    limits = msgspec.structs.replace(config.limits, spare_bytes=1 << 62)
    return msgspec.structs.replace(config, limits=limits)


def test_a_halted_collector_is_ready(site: Site, told: Told) -> None:
    """It has to answer: deletions and questions go on. That it stands still is a number."""
    site.halts("enough")
    site.stops("for now")
    assert told.readiness()[0] == 200
    numbers = told.numbers()
    assert numbers["assent_halted"] == 1
    assert numbers['assent_stopped{cause="called"}'] == 1
    assert numbers['assent_stopped{cause="guard-away"}'] == 0


def test_the_document_is_served(told: Told) -> None:
    """The same bytes as the command prints."""
    assert told.ask("/openapi.json") == (200, collector.operators.app.document())


# --- what is counted, and what is not -----------------------------------------------------


def puts(numbers: dict[str, float]) -> float:
    name = (
        'assent_requests_total{door="devices",method="PUT",path="/v1/batches/{batch}",status="201"}'
    )
    return numbers.get(name, 0)


def test_uploads_are_counted_when_ten_devices_had_a_part(site: Site, listeners: Listeners) -> None:
    """Nine devices at work do not show, however busy; with the tenth all are counted."""
    told = Told(listeners.ports[Door.OPERATORS])
    stations = [site.workstation() for _ in range(10)]
    for number, station in enumerate(stations):
        signed, origin = station.consents(), listeners.ports[Door.DEVICES]
        for _ in range(3 if number == 0 else 1):
            frame = station.seals(signed)
            path = f"/v1/batches/{hashlib.sha256(frame).hexdigest()}"
            with contextlib.closing(at(site, origin, station)) as door:
                assert door.request("PUT", path, frame).status == 201
        assert puts(told.numbers()) == (12 if number == 9 else 0)
    numbers = told.numbers()
    taken = 'door="devices",method="PUT",path="/v1/batches/{batch}"'
    assert numbers[f"assent_request_seconds_count{{{taken}}}"] == 12
    kind = re.compile(r'assent_request_seconds_bucket.*method="PUT",path="/v1/batches/')
    buckets = [value for name, value in numbers.items() if kind.match(name)]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 12
    assert numbers["assent_devices_enrolled"] == 10


def test_no_number_names_anybody(site: Site, listeners: Listeners) -> None:
    """No label but of the server's own; nothing that a device, a person or a batch is known by."""
    told = Told(listeners.ports[Door.OPERATORS])
    ada = site.workstation(label="ada@acme.example")
    signed = ada.consents()
    frame = ada.seals(signed)
    name = hashlib.sha256(frame).hexdigest()
    reader = site.reader("training-team")
    for port in (listeners.ports[Door.DEVICES], listeners.ports[Door.READERS]):
        with contextlib.closing(at(site, port, ada)) as door:
            door.request("PUT", f"/v1/batches/{name}", frame)
            door.request("GET", f"/v1/{name}/{ada.org.subject.hex()}")
            fetches(door, site.grant(), bytes.fromhex(name))
    assert fetches(reader, site.grant(), bytes.fromhex(name)).status == 200
    status, text = told.ask("/metrics")
    assert status == 200
    shown = text.decode()
    assert set(re.findall(r'(\w+)="', shown)) <= LABELS
    secret = (name, ada.id.hex(), ada.org.subject.hex(), "ada@", "training-team", "127.0.0.1")
    assert [word for word in secret if word in shown] == []
    paths = {row.path for row in ROUTES} | {metrics.OTHER}
    assert set(re.findall(r'path="([^"]*)"', shown)) <= paths


def test_a_path_or_a_method_that_is_not_ours_makes_no_new_series(
    site: Site, listeners: Listeners
) -> None:
    """Whoever asks nonsense cannot fill the memory, nor write into what operators read."""
    told = Told(listeners.ports[Door.OPERATORS])
    seen = metrics.Seen()
    for number in range(100):
        seen.note((Door.DEVICES, metrics.OTHER, metrics.OTHER), 404, 0.1, bytes([number]))
    assert len(seen.answers.shown()) == 1
    with contextlib.closing(at(site, listeners.ports[Door.READERS], site.workstation())) as door:
        for number in range(20):
            door.request("GET", f"/v1/odd-{number}")
    assert "odd" not in told.ask("/metrics")[1].decode()


def test_a_mistake_of_ours_is_counted(
    site: Site, listeners: Listeners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells of the server, and somebody has to mend it."""
    told = Told(listeners.ports[Door.OPERATORS])
    assert told.numbers()["assent_defects_total"] == 0
    monkeypatch.setattr(Log, "checkpoint", lambda _log: 1 // 0)
    with contextlib.closing(at(site, listeners.ports[Door.DEVICES], site.workstation())) as door:
        assert door.request("GET", "/v1/log/checkpoint").status == 500
    until = time.monotonic() + WAIT_SECONDS  # it is answered first, then logged and counted
    while not (counted := told.numbers()["assent_defects_total"]):
        assert time.monotonic() < until
    assert counted == 1


def test_a_number_that_cannot_be_read_leaves_the_others(site: Site, listeners: Listeners) -> None:
    """A file that is gone costs one line, and says so in the log."""
    told, ada = Told(listeners.ports[Door.OPERATORS]), site.workstation()
    for door in (Door.DEVICES, Door.READERS):  # they have read it
        with contextlib.closing(at(site, listeners.ports[door], ada)) as asked:
            assert asked.request("GET", "/v1/log/checkpoint").status == 200
    site.premises.tls_certificate.unlink()
    numbers = told.numbers()
    assert "assent_certificate_left_seconds" not in numbers
    assert "assent_policy_version" in numbers


def test_what_is_left_and_how_long_the_guard_is_silent_is_told(site: Site) -> None:
    """In seconds, by the collector's clock."""
    with doors(site) as (bound, watch):
        told = Told(bound.ports[Door.OPERATORS])
        assert "assent_lease_left_seconds" not in told.numbers()
        site.collector.leases.timestamp()
        watch.look()
        numbers = told.numbers()
        assert 0 < numbers["assent_lease_left_seconds"] <= 4 * 3600
        assert numbers["assent_certificate_left_seconds"] > 800 * 24 * 3600
        assert numbers["assent_guard_silent_seconds"] < WAIT_SECONDS
        site.clock.moved += timedelta(seconds=100)
        assert told.numbers()["assent_guard_silent_seconds"] >= 100
        assert numbers["assent_store_free_bytes"] % (1 << 30) == 0


def test_retention_and_deletions_that_hang_are_told(site: Site) -> None:
    """Since when nothing is here that is over; and how many batches are deleted and not gone."""
    with doors(site) as (bound, watch):
        told = Told(bound.ports[Door.OPERATORS])
        assert "assent_retention_kept_seconds" not in told.numbers()
        watch.tidy()
        site.clock.moved += timedelta(seconds=100)
        numbers = told.numbers()
        assert 100 <= numbers["assent_retention_kept_seconds"] < 100 + WAIT_SECONDS
        assert numbers["assent_deletions_unfinished"] == 0
        with site.collector.index.writing() as connection:
            for number in range(12):
                leaf = append(connection, Kind.TOMBSTONE, bytes([number]), site.collector.now())
                connection.execute(
                    tables.tombstones.insert().values(
                        batch=bytes([number]) * 32,
                        device=bytes(32),
                        stored=True,
                        made_at=1,
                        leaf=leaf,
                    )
                )
        assert told.numbers()["assent_deletions_unfinished"] == 10
        watch.sweep()
        assert told.numbers()["assent_deletions_unfinished"] == 0


# --- the guard ----------------------------------------------------------------------------


def test_a_guard_tells_how_it_is_and_nothing_of_whom_it_is_asked_about(tmp_path: Path) -> None:
    """Keys are made and erased for single people: not even a count of those requests is told."""
    acme = Organisation()
    premises = found_guard(tmp_path / "guard", acme)
    published = acme.publish(tmp_path / "policy")
    running = premises.open(StoppedClock())
    bound = Listeners({Door.COLLECTOR: "127.0.0.1:0", Door.OPERATORS: "127.0.0.1:0"})
    config = Config(origin="https://127.0.0.1:1", tenant="acme", name="x", listen="x")
    try:
        with serving(*guard.listeners.served(bound, running, premises, config)):
            told = Told(bound.ports[Door.OPERATORS])
            status, said = told.readiness()
            assert (status, set(said.waits_for)) == (503, {"policy"})
            origin = f"https://127.0.0.1:{bound.ports[Door.COLLECTOR]}"
            served = ServedGuard(premises=premises, origin=origin, clock=StoppedClock())
            served.trust(published)
            assert told.readiness()[0] == 200
            with contextlib.closing(served.door(Role.COLLECTOR, "main")) as door:
                for number in range(30):
                    asked = KeyRequest(
                        subject=bytes([number]) * 16, category=Category.KEYS, month=MONTH
                    )
                    answer = door.request("POST", "/v1/keys", msgspec.json.encode(asked))
                    assert answer.status == 200
                assert door.request("POST", "/v1/state").status == 200
            until = time.monotonic() + WAIT_SECONDS
            shown = ""
            while 'path="/v1/state"' not in shown and time.monotonic() < until:
                shown = told.ask("/metrics")[1].decode()  # an answer is counted once it has left
            numbers = told.numbers()
    finally:
        running.keys.close()
        running.witness.close()
    assert "/v1/keys" not in shown
    assert 'path="/v1/state"' in shown
    assert set(re.findall(r'(\w+)="', shown)) <= LABELS
    assert numbers["assent_subjects_with_keys"] == 30
    assert numbers["assent_policy_version"] == 1


# --- the guide ----------------------------------------------------------------------------


def test_the_guide_lists_every_number_and_no_other() -> None:
    """docs/guides/operators.md, a line each: what it is called, what it says."""
    text = (ROOT / "docs" / "guides" / "operators.md").read_text("utf-8")
    listed = re.findall(r"^\| `(assent_\w+)`((?: `\w+`)*)", text, re.MULTILINE)
    labels = {name.removesuffix("_total"): set(re.findall(r"\w+", of)) for name, of in listed}
    told = {one.name: set(one.labels) for one in (*OF_GUARD, *OF_COLLECTOR, *COUNTED)}
    assert labels == told


@pytest.mark.parametrize("described", [*COUNTED, *OF_COLLECTOR, *OF_GUARD])
def test_no_number_has_a_label_for_somebody(described: Described) -> None:
    """A label is a kind of request, a status or a cause; its values are known beforehand."""
    assert set(described.labels) <= LABELS
