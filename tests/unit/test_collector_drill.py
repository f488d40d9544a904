"""A drill tries what must be refused; one answer, or one silence, stops the programme."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, func, select

import collector.auth
import collector.ingest.receive
import collector.release.access
from base.api import Door
from base.clock import NANOSECONDS
from base.errors import RetryableError, SetupError
from base.https import OneDoor
from base.metrics import Seen
from base.pki import Role
from base.serving import Listener, Listeners, Served, run_together
from collector.app import ROUTES
from collector.auth import Caller, Device, Reader
from collector.drill import identities, records
from collector.drill.attack import attack
from collector.drill.gate import Gate
from collector.drill.grants import grants, to_be_approved
from collector.drill.planted import stored
from collector.drill.probes import Who, of_routes
from collector.drill.records import Kind
from collector.drill.run import drill
from collector.drill.schedule import Schedule
from collector.guard.watch import Watch
from collector.index import tables
from collector.index.tables import drills, leaves, planted, releases
from collector.release import frames
from collector.serving import listeners
from tests.fakes.drilled import a_drill
from tests.fakes.drilled import drills as held
from tests.fakes.organisation import READER
from tests.fakes.own import asks, query_of
from tests.fakes.site import Site, Workstation, collector_site, fetches, lists, refusal
from tests.fakes.tls import WAIT_SECONDS
from wire.category import Category
from wire.collector_http import FrameList, FrameOrder, State
from wire.frame import batch_hash, verify
from wire.grant import decode_request
from wire.ids import BatchHash, DeviceId, WallInstant
from wire.leaf import Kind as LeafKind
from wire.leaf import drill_payload, entry
from wire.me import About
from wire.xwing import public_key_of

WITHIN_SECONDS: Final = 60


@pytest.fixture
def ada(site: Site) -> Workstation:
    """Return a workstation of whom one batch is here."""
    one = site.workstation()
    assert one.puts(one.seals(one.consents())).status == 201
    return one


def state(site: Site) -> State:
    return msgspec.json.decode(site.door().request("GET", "/v1/state").body, type=State)


def objects(site: Site) -> list[BatchHash]:
    with site.collector.index.reading() as connection:
        return [BatchHash(b) for b in connection.execute(select(tables.batches.c.batch)).scalars()]


def file_of(site: Site, batch: BatchHash) -> Path:
    return site.premises.objects / batch.hex()[:2] / batch.hex()


# --- a collector as it should be ----------------------------------------------------------


def test_a_drill_that_is_refused_everything_passes_and_stands_in_the_log(
    site: Site, ada: Workstation
) -> None:
    """A leaf that commits to when, how many probes, and that it passed; nobody is stopped."""
    outcome = held(site)
    assert (outcome.holes, outcome.left_out) == ((), ())
    assert outcome.objects == len(Category) + 1
    assert outcome.probes > 6 * outcome.objects + len(ROUTES)
    with site.collector.index.reading() as connection:
        row = connection.execute(select(drills)).one()
        leaf = site.collector.log.leaf(connection, row.leaf)
    payload = drill_payload(outcome.began_at, passed=True, probes=outcome.probes, hole="")
    assert leaf.salt is not None
    assert leaf.entry == entry(LeafKind.DRILL, payload, leaf.salt)
    assert state(site) == State(halted=False, why="")
    assert ada.puts(ada.seals(ada.consents())).status == 201


def test_every_row_of_the_table_of_routes_is_asked_by_all_whom_it_does_not_name() -> None:
    """A route that is added is tried without anybody thinking of it."""
    asked = {(p.what, p.who) for p in of_routes(ROUTES, [Door.DEVICES], [], {})}
    for row in ROUTES:
        what = f"{row.method} {row.path}"
        whom = {who for each, who in asked if each == what}
        assert (Who.ANONYMOUS in whom) == bool(row.callers), what
        assert (Who.GUARD in whom) == bool(row.callers), what
        assert (Who.DEVICE in whom) == (row.callers == (Role.READER,)), what
        assert (Who.READER in whom) == (row.callers == (Role.DEVICE,)), what


def test_a_planted_batch_is_a_sealed_frame_of_nobody(site: Site, ada: Workstation) -> None:
    """One a category; whole and signed; in no reader's list, no count, no leaf of a batch."""
    held(site)
    held(site)  # those of the first are found again
    with site.collector.index.reading() as connection:
        rows = connection.execute(select(planted)).all()
        kinds = connection.execute(select(leaves.c.kind)).scalars().all()
    assert {row.category for row in rows} == set(Category)
    for row in rows:
        frame = site.collector.store.get(BatchHash(row.batch))
        assert frame is not None
        key = Ed25519PublicKey.from_public_bytes(row.public_key)
        assert verify(frame, key).batch_hash == row.batch
    assert kinds.count(LeafKind.BATCH) == len(objects(site)) == 1
    reader, grant = site.reader(READER), site.grant()
    listed = msgspec.json.decode(lists(reader, grant).body, type=FrameList)
    assert [one.batch_hash for one in listed.frames] == objects(site)


def test_a_planted_batch_that_is_gone_is_planted_anew(site: Site) -> None:
    """A crash between file and row, or a hand that removed it: the next drill has its grounds."""
    held(site)
    with site.collector.index.reading() as connection:
        before = stored(connection)
    site.collector.store.remove(before[0].batch)
    assert held(site).passed
    with site.collector.index.reading() as connection:
        after = stored(connection)
    assert len(after) == len(before)
    assert before[0].batch not in {one.batch for one in after}


def test_a_drill_on_listeners_of_their_own_passes(site: Site, ada: Workstation) -> None:
    """Devices' and readers' doors apart, as a large installation has them."""
    running = site.collector
    bound = Listeners({Door.DEVICES: "127.0.0.1:0", Door.READERS: "127.0.0.1:0"})
    told = listeners.served(bound, running, site.premises, Watch(running))
    with served(*told):
        ports = {door.value: port for door, port in bound.ports.items()}
        outcome = drill(a_drill(site, ports=ports))
    assert outcome.holes == ()


@contextlib.contextmanager
def served(*told: Served) -> Iterator[None]:
    thread = threading.Thread(target=run_together, args=told)
    thread.start()
    try:
        yield
    finally:
        for one in told:
            one.listener.stop()
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()


def test_a_collector_without_a_policy_is_drilled_as_far_as_it_goes(site: Site) -> None:
    """Nothing can be planted or asked for; doors, routes and files are tried all the same."""
    with site.collector.index.writing() as connection:
        connection.execute(tables.policies.delete())
    outcome = held(site)
    assert outcome.passed
    assert outcome.objects == 0
    assert "no policy" in outcome.left_out[0]


# --- holes --------------------------------------------------------------------------------


def public_object(site: Site, _patch: pytest.MonkeyPatch) -> str:
    file_of(site, objects(site)[0]).chmod(0o644)
    return "a batch's file has mode 644: it is open to another user of this machine"


def public_folder(site: Site, _patch: pytest.MonkeyPatch) -> str:
    (site.premises.objects / "ab").chmod(0o755)
    return "a folder of batches has mode 755"


def linked_away(site: Site, _patch: pytest.MonkeyPatch) -> str:
    path = file_of(site, objects(site)[0])
    path.rename(site.premises.paths.runtime / "elsewhere")
    path.symlink_to(site.premises.paths.runtime / "elsewhere")
    return "a batch's file is no file but leads elsewhere"


def public_key_file(site: Site, _patch: pytest.MonkeyPatch) -> str:
    (site.premises.paths.config / "log.key").chmod(0o640)
    return "config/log.key has mode 640"


def strange_file(site: Site, _patch: pytest.MonkeyPatch) -> str:
    (site.premises.objects / "ab" / "notes.txt").write_text("who did what")
    return "a file lies among the batches that is none of ours"


def frames_to_devices(site: Site, patch: pytest.MonkeyPatch) -> str:
    """A route that reads takes whoever has a certificate, and whatever grant."""
    unapproved(site, patch)
    patch.setattr(collector.auth, "reader", lambda _caller: Reader(name=identities.NAME))
    return "as a device that reads at the devices listener"


def allow_all(_site: Site, patch: pytest.MonkeyPatch) -> str:
    """Whoever comes is taken for a reader."""
    patch.setattr(collector.auth, "claimed", lambda *_asked: None)
    patch.setattr(collector.auth, "caller", lambda *_asked: Reader(name="anybody"))
    return "was answered with 200"


def unapproved(_site: Site, patch: pytest.MonkeyPatch) -> str:
    """A reader needs no grant."""
    patch.setattr(
        collector.release.access,
        "verify_access",
        lambda grant, *_by: decode_request(grant.request),
    )
    return "to a reader without a grant"


def other_scope(site: Site, patch: pytest.MonkeyPatch) -> str:
    """A reader with a good grant gets what it does not cover: another programme, other days."""
    asked = to_be_approved(site.policy, site.collector.now())
    (site.premises.paths.config / "drill").mkdir()
    grant = site.org.grant(asked)
    (site.premises.paths.config / "drill" / "days.json").write_bytes(msgspec.json.encode(grant))
    assert held(site).passed
    patch.setattr(frames.Access, "check_covers", lambda _self, _row: None)
    return "to a reader whose grant is for something else"


def other_list(site: Site, patch: pytest.MonkeyPatch) -> str:
    """A reader with a good grant is told of frames that it does not cover."""
    asked = to_be_approved(site.policy, site.collector.now())
    (site.premises.paths.config / "drill").mkdir()
    grant = site.org.grant(asked)
    (site.premises.paths.config / "drill" / "days.json").write_bytes(msgspec.json.encode(grant))
    page = frames.page

    def of_all(
        connection: Connection, access: frames.Access, after: int, now: WallInstant
    ) -> FrameList:
        wide = msgspec.structs.replace(access.request, first_day="2000-01-01", last_day="9999")
        return page(connection, replace(access, request=wide), after, now)

    patch.setattr(frames, "page", of_all)
    return "to a reader whose grant is for something else"


def receipts_for_all(site: Site, patch: pytest.MonkeyPatch) -> str:
    """Whatever device knows the hash of a batch is taken for the one that sent it."""
    with site.collector.index.reading() as connection:
        sender = DeviceId(connection.execute(select(tables.batches.c.device)).scalars().one())
    known = collector.auth.callers
    patch.setattr(
        collector.ingest.receive,
        "callers",
        lambda *asked: [
            replace(who, id=sender) if isinstance(who, Device) else who for who in known(*asked)
        ],
    )
    return "to another device"


def from_anywhere(_site: Site, patch: pytest.MonkeyPatch) -> str:
    """A device enrols wherever it is."""
    patch.setattr(collector.enrol, "check_served", lambda *_asked: None)
    return "POST /v1/enroll was answered with 201"


HOLES: Final[dict[str, Callable[[Site, pytest.MonkeyPatch], str]]] = {
    each.__name__: each
    for each in (
        *(public_object, public_folder, linked_away, public_key_file, strange_file),
        *(frames_to_devices, allow_all, unapproved, other_scope, other_list, receipts_for_all),
        from_anywhere,
    )
}


@pytest.mark.parametrize("name", HOLES)
def test_one_hole_stops_ingest_within_a_minute(
    site: Site, ada: Workstation, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A public object, an allow-all policy, a mis-scoped reader, and others, one at a time.

    By the schedule of a running server with its own settings; its clock is moved on by hand.
    """
    frame = ada.seals(ada.consents())
    config = site.collector.config.drills
    schedule = Schedule(a_drill(site), config.every_seconds, config.patrol_seconds)
    schedule.look(0.0)
    assert state(site).stopped == ""
    said = HOLES[name](site, monkeypatch)
    planted_at, tick = site.collector.now(), 0.0
    while not state(site).stopped:
        tick += 1.0
        assert tick < WITHIN_SECONDS
        schedule.look(tick)
    monkeypatch.undo()
    assert said in state(site).stopped
    with site.collector.index.reading() as connection:
        stopped_at = connection.execute(select(tables.stops.c.at)).scalar_one()
    waited = tick + (stopped_at - planted_at) / NANOSECONDS
    assert waited <= WITHIN_SECONDS, waited
    assert refusal(ada.puts(frame)) == (503, "stopped")


def test_every_file_is_looked_at_in_turns_and_then_again(
    site: Site, ada: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, and however long the collector has been running."""
    signed = ada.consents()
    for _ in range(6):
        assert ada.puts(ada.seals(signed)).status == 201
    monkeypatch.setattr("collector.drill.run.FILES", 4)
    schedule = Schedule(a_drill(site), 3600, 20)
    for look in range(8):
        schedule.look(20.0 * look)
    file_of(site, objects(site)[5]).chmod(0o640)
    for look in range(8, 8 + 3):  # seven of people, four planted: four at a time
        schedule.look(20.0 * look)
    assert "mode 640" in state(site).stopped


def test_what_no_sealed_frame_is_counts_as_a_hole(site: Site, ada: Workstation) -> None:
    """An object that is not what its device sealed is found by parsing it, not by a flag."""
    path = file_of(site, objects(site)[0])
    path.write_bytes(b"in the clear, somehow")
    assert any("is not the frame that was sealed" in hole for hole in held(site).holes)


def test_a_key_in_the_index_is_found(site: Site, ada: Workstation) -> None:
    """Whatever column it hides in: it is tried as what it would be."""
    seed = bytes(range(32))
    with site.collector.index.writing() as connection:
        public = public_key_of(seed)
        connection.execute(tables.guard_keys.update().values(public_key=public))
        connection.execute(
            tables.tokens.insert().values(sha256=seed, made_at=1, expires_at=1, label="")
        )
    assert "tokens.sha256 holds a key" in held(site).holes[0]


def test_a_private_key_or_a_table_of_somebody_else_in_the_index_is_found(site: Site) -> None:
    """Text that looks like an identity; columns that nobody declared."""
    with site.collector.index.writing() as connection:
        label = "AGE-SECRET-KEY-PQ-1QQ"
        connection.execute(
            tables.tokens.insert().values(sha256=b"x" * 32, made_at=1, expires_at=1, label=label)
        )
        connection.exec_driver_sql("CREATE TABLE words (typed TEXT)")
        connection.exec_driver_sql("ALTER TABLE readers ADD COLUMN said TEXT")
    found = "\n".join(held(site).holes)
    assert "tokens.label holds a private key" in found
    assert "the table words is none of ours" in found
    assert "readers has columns that are none of ours" in found


def test_a_probe_that_cannot_be_made_stops_as_one_that_is_answered(
    site: Site, ada: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who cannot look does not know: here every answer is a failure of the server."""

    def fails(*_asked: object) -> Caller:
        raise RetryableError("out of order")

    monkeypatch.setattr(collector.auth, "caller", fails)
    monkeypatch.setattr("collector.drill.attack.TRIES_AFTER_SECONDS", (0.0, 0.0))
    outcome = held(site, Kind.PATROL)
    assert "could not be asked for" in outcome.holes[0]
    assert "the answer was 503" in outcome.holes[0]
    assert "a drill failed" in state(site).stopped


def test_a_server_that_does_not_listen_stops_by_the_first_drill(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody there is no refusal."""
    monkeypatch.setattr("collector.drill.attack.TRIES_AFTER_SECONDS", (0.0, 0.0))
    outcome = drill(a_drill(site, ports={"devices": 1}))
    assert "nobody listens there" in outcome.holes[0]


def test_a_guard_that_is_away_is_said_and_is_no_hole(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a stop of its own; one that lets the collector have releases is a hole."""
    kind = type(site.collector.guard)
    monkeypatch.setattr(kind, "refusals", lambda _self: None)
    outcome = held(site)
    assert outcome.passed
    assert outcome.left_out == ("the guard does not answer, so it was not tried",)
    monkeypatch.setattr(kind, "refusals", lambda _self: [("a release", 200)])
    assert held(site).holes == ("the guard answered a release with 200 to the collector",)


def test_the_object_of_a_hole_is_asked_for_again_until_it_is_closed(
    site: Site, ada: Workstation
) -> None:
    """However many others there are to draw from."""
    signed = ada.consents()
    for _ in range(20):
        assert ada.puts(ada.seals(signed)).status == 201
    path = file_of(site, objects(site)[7])
    good = path.read_bytes()
    path.write_bytes(b"?")
    while held(site).passed:  # in a hundred of twenty-one, drawn by chance
        pass
    one = replace(a_drill(site), sample=1)
    assert not drill(one).passed
    path.write_bytes(good)
    assert drill(one).passed


# --- after it -----------------------------------------------------------------------------


def test_only_a_passed_drill_and_an_operator_together_lift_the_stop(
    site: Site, ada: Workstation
) -> None:
    """Neither going on without a drill, nor a drill without somebody, nor a new start."""
    path = file_of(site, objects(site)[0])
    path.chmod(0o644)
    assert not held(site).passed

    def goes_on() -> bool | None:
        with site.collector.index.writing() as connection:
            return records.go_on(connection, site.collector.now())

    assert goes_on() is False
    path.chmod(0o600)
    assert goes_on() is False
    assert held(site, Kind.PATROL).passed
    assert goes_on() is False, "a patrol is no drill"
    assert held(site).passed
    assert state(site).stopped, "nobody has looked at it yet"
    site.restart()
    assert state(site).stopped
    assert goes_on() is True
    assert state(site).stopped == ""
    assert goes_on() is None


def test_a_hole_is_told_in_one_line_without_whose_it_is(site: Site, ada: Workstation) -> None:
    """To agents and in the log: which kind of object, which role, what came back."""
    batch = objects(site)[0]
    file_of(site, batch).chmod(0o604)
    outcome = held(site)
    told = [*outcome.holes, state(site).stopped]
    assert all("\n" not in line for line in told)
    named = [ada.id.hex(), ada.org.subject.hex(), batch.hex(), batch.hex()[:12]]
    assert [name for name in named for line in told if name in line] == []


def test_a_hole_hands_the_drill_nothing(
    site: Site, ada: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It learns that it was answered, and how much, never what; and it writes no release."""
    unapproved(site, monkeypatch)
    allow_all(site, monkeypatch)
    outcome = held(site)
    assert not outcome.passed
    with site.collector.index.reading() as connection:
        assert connection.execute(select(func.count()).select_from(releases)).scalar() == 0


# --- before ingest ------------------------------------------------------------------------


def test_no_batch_is_taken_before_the_first_drill_has_passed(tmp_path: Path) -> None:
    """503 with a time to come back; questions, consents and deletions go on meanwhile."""
    with collector_site(tmp_path / "site") as site:
        ada = site.workstation()
        frame = ada.seals(ada.consents())
        site.stop()
        site.collector = type(site.collector).open(site.premises, site.clock, gate=Gate())
        site.serve(Listener("127.0.0.1", int(site.origin.rpartition(":")[2])))
        answer = ada.puts(frame)
        assert refusal(answer) == (503, "undrilled")
        assert answer.retry_after_seconds
        assert ada.hears() == ()
        schedule = Schedule(a_drill(site), 3600, 20)
        assert "not passed yet" in schedule.why_waiting()
        schedule.look(0.0)
        assert schedule.why_waiting() == ""
        assert ada.puts(frame).status == 201


def test_a_first_drill_that_fails_keeps_the_gate_shut_until_one_passes(tmp_path: Path) -> None:
    """Also one by hand, in another process; then an operator has to say go on."""
    with collector_site(tmp_path / "site") as site:
        site.collector = replace(site.collector, gate=Gate())
        schedule = Schedule(a_drill(site), 3600, 20)
        folder = site.premises.objects / "ab"
        folder.chmod(0o777)
        schedule.look(0.0)
        assert not site.collector.gate.is_open
        assert "mode 777" in schedule.why_waiting()
        assert "go-on" in schedule.why_waiting()
        folder.chmod(0o700)
        beside = a_drill(site)
        beside = replace(
            beside, listening=msgspec.structs.replace(beside.listening, server=b"?" * 16)
        )
        assert drill(beside).passed
        schedule.look(1.0)
        assert not site.collector.gate.is_open, "that was another server on the same index"
        gate = site.collector.gate
        assert held(site).passed
        schedule.look(1.0)
        assert gate.is_open
        assert schedule.why_waiting(), "the stop is somebody's to lift"


# --- what a drill's certificate is worth --------------------------------------------------


@contextlib.contextmanager
def stolen(site: Site) -> Iterator[Callable[..., OneDoor]]:
    """Yield what opens a door with a certificate of a drill that is under way."""
    one = a_drill(site)
    with attack(
        one.listening.targets,
        site.collector.index,
        site.collector.registry.authority,
        "acme",
        site.premises.paths.runtime,
        site.collector.now,
    ) as under_way:

        def door(who: Who) -> OneDoor:
            shown = under_way.shown[who]
            assert shown is not None
            folder = site.premises.paths.runtime / who.name
            folder.mkdir()
            (folder / "certificate.pem").write_bytes(shown.certificate)
            (folder / "key.pem").write_bytes(shown.key)
            files = folder / "certificate.pem", folder / "key.pem"
            pin, authority = site.premises.tls_pin(), site.premises.trusted_pem()
            # No documented one: what a drill is answered has no body.
            one = OneDoor(site.origin, (pin,), authority, *files, WAIT_SECONDS)
            site.doors.append(one)
            return one

        yield door


@pytest.mark.parametrize("stands_still", [False, True])
def test_a_grant_that_is_believed_is_found_also_while_the_programme_stands_still(
    site: Site, ada: Workstation, monkeypatch: pytest.MonkeyPatch, *, stands_still: bool
) -> None:
    """And before the first drill has passed: another refusal must not hide the hole."""
    site.stop()
    site.collector = type(site.collector).open(site.premises, site.clock, gate=Gate())
    site.serve(Listener("127.0.0.1", int(site.origin.rpartition(":")[2])))
    if stands_still:
        site.stops("called by hand")
    unapproved(site, monkeypatch)
    outcome = held(site)
    assert any("to a reader without a grant" in hole for hole in outcome.holes)


def test_who_steals_a_drills_certificate_gets_nothing_with_it(site: Site, ada: Workstation) -> None:
    """Neither what its role may have, nor what others may; after the drill it is nobody's."""
    frame = ada.seals(ada.consents())
    batch = objects(site)[0].hex()
    with stolen(site) as door:
        device, reader = door(Who.DEVICE), door(Who.READER)
        grant = site.grant(reader=identities.NAME)  # that somebody really approved
        for what in ("", "/terms"):
            answer = fetches(reader, grant, objects(site)[0], what)
            assert (answer.status, answer.body) == (200, b"")
            assert refusal(fetches(device, grant, objects(site)[0], what))[0] == 403
        assert lists(reader, grant).body == b""
        assert refusal(reader.request("GET", "/v1/log/checkpoint")) == (403, "not-for-drills")
        for path in (
            "/v1/rights",
            "/v1/guard-key?category=keys&month=2027-01",
            "/v1/log/checkpoint",
        ):
            assert refusal(device.request("GET", path)) == (403, "not-for-drills")
        signed = query_of(ada, About.BATCHES)
        assert refusal(asks(site, signed, "batches", device)) == (403, "not-for-drills")
        assert refusal(asks(site, signed, "batches", reader)) == (403, "wrong-role")
        consent = msgspec.json.encode(ada.consent())
        assert refusal(device.request("POST", "/v1/consents", consent))[0] == 403
        assert refusal(device.request("DELETE", f"/v1/batches/{batch}"))[0] == 403
        name = batch_hash(frame).hex()
        assert refusal(device.request("PUT", f"/v1/batches/{name}", frame))[0] in (403, 422)
    fresh = [lists(door, grant) for door in (device, reader)]
    assert {refusal(answer) for answer in fresh} == {(401, "unknown-client")}


def test_a_mark_that_is_no_drills_changes_nothing(site: Site, ada: Workstation) -> None:
    """Who writes the header without a drill is answered, and counted, as without it."""
    reader = site.reader(READER)
    order = msgspec.json.encode(FrameOrder(grant=site.grant()))
    mark = {identities.MARK: "00" * 32}
    answer = reader.request("POST", "/v1/frames", order, headers=mark)
    assert answer.status == 200
    assert msgspec.json.decode(answer.body, type=FrameList).frames
    assert identities.MARK not in answer.headers


def test_no_reader_is_certified_under_the_name_of_drills(site: Site) -> None:
    """A grant for drills is nobody else's."""
    with pytest.raises(SetupError, match="is how drills come in"):
        site.reader(identities.NAME)


def test_a_grant_that_would_open_something_is_no_grant_for_drills(site: Site) -> None:
    """Of another reader, or for days on which something can have been recorded."""
    folder = site.premises.paths.config / "drill"
    folder.mkdir()
    asked = to_be_approved(site.policy, site.collector.now())
    for changes, said in (
        ({"reader": READER}, "is a grant of"),
        ({"last_day": "2026-01-01"}, "could open something"),
    ):
        grant = site.org.grant(msgspec.structs.replace(asked, **changes))
        (folder / "grant.json").write_bytes(msgspec.json.encode(grant))
        with (
            site.collector.index.reading() as connection,
            pytest.raises(SetupError, match=said),
        ):
            grants(connection, folder, site.collector.now())


def test_drills_are_counted_for_nobody(site: Site, ada: Workstation) -> None:
    """No request of one shows in a number, so that none can make up a crowd of ten."""
    seen = Seen()
    bound = Listeners({Door.DEVICES: "127.0.0.1:0"})
    told = listeners.served(bound, site.collector, site.premises, Watch(site.collector))
    measured = told[0].app
    measured._seen = seen  # noqa: SLF001 - what it counts is what this is about
    with served(*told):
        assert drill(a_drill(site, ports={"devices": bound.ports[Door.DEVICES]})).passed
    cells = seen.answers._cells  # noqa: SLF001
    knocks = {asked for asked in cells if asked[2] == "/v1/state"}
    assert set(cells) == knocks
