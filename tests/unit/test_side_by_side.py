"""Two collectors on one PostgreSQL database, with the same keys and batches, are as one."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import func, select

from base.clock import NANOSECONDS
from base.door import Response
from collector.enrol import revoke_device
from collector.guard.watch import OUTAGE_SECONDS, Watch
from collector.halt import Cause
from collector.index.tables import batches, leaves, notices, stops
from collector.ingest.receive import KEEP_SECONDS
from collector.refusal import RefusedError, Why
from collector.rights.notices import Messenger
from tests.fakes.beside import Beside, beside
from tests.fakes.organisation import ed25519
from tests.fakes.postgres import Server
from tests.fakes.site import Site, Workstation, collector_site, refusal
from wire.collector_http import State
from wire.frame import join_unsigned, split
from wire.ids import BatchHash
from wire.leaf import Kind
from wire.metadata import Timestamp, version_of
from wire.receipt import decode_receipt, verify_receipt
from wire.sealing import sign
from wire.tlog import verify_checkpoint, verify_consistency

pytestmark = pytest.mark.slow


@pytest.fixture
def one(tmp_path: Path, postgres: Server) -> Iterator[Site]:
    with collector_site(tmp_path / "one", index_url=postgres.index()) as site:
        yield site


@pytest.fixture
def two(one: Site, tmp_path: Path) -> Iterator[Beside]:
    with beside(one, tmp_path / "two") as other:
        yield other


@pytest.fixture
def here(one: Site) -> Workstation:
    return one.workstation("ada@acme.example")


@pytest.fixture
def there(two: Beside, here: Workstation) -> Workstation:
    return two.talks_to(here)


def again(workstation: Workstation, frame: bytes, number: int) -> bytes:
    """Return the same content as another batch."""
    parts = split(frame)
    unsigned = join_unsigned(parts.core, parts.shelf, parts.body)
    return sign(unsigned, number, workstation.org.device)


def hash_of(frame: bytes) -> BatchHash:
    return BatchHash(hashlib.sha256(frame).digest())


# --- the log and its receipts -----------------------------------------------------------


def test_a_receipt_is_the_same_to_the_byte_whoever_is_asked(
    here: Workstation, there: Workstation
) -> None:
    """A device that lost the answer of one gets it from the other."""
    frame = here.seals(here.consents())
    first, second = here.puts(frame), there.puts(frame)
    assert (first.status, second.status) == (201, 200)
    assert first.body == second.body
    other = again(here, frame, 7)
    assert (there.puts(other).status, here.puts(other).status) == (201, 200)


def test_one_log_is_continued_by_both(
    one: Site, two: Beside, here: Workstation, there: Workstation
) -> None:
    """Each takes up what the other wrote; heads are equal, and follow one another."""
    frame = here.seals(here.consents())
    heads = []
    for number, workstation in enumerate([here, there, here, there], 1):
        assert workstation.puts(again(here, frame, number)).status == 201
        note = one.collector.log.checkpoint()
        assert two.collector.log.checkpoint() == note
        heads.append(verify_checkpoint(note, one.policy.collector.log))
    for old, new in pairwise(heads):
        proof = two.collector.log.consistency(old.size, new.size)
        verify_consistency(
            old=old.size, new=new.size, old_root=old.root, new_root=new.root, proof=proof
        )
    assert here.door.request("GET", "/v1/log/checkpoint").body == (
        there.door.request("GET", "/v1/log/checkpoint").body
    )


def test_uploads_to_both_at_once_are_each_one_leaf(
    one: Site, two: Beside, here: Workstation, there: Workstation
) -> None:
    """Also the same batch to both: one row, one leaf, one receipt for everybody."""
    frame = here.seals(here.consents())
    frames = [again(here, frame, number) for number in range(1, 13)]
    answers: list[tuple[bytes, Response]] = []

    def send(site: Site, order: list[bytes]) -> None:
        door = site.door(*here.files)
        for each in order:
            name = hash_of(each).hex()
            answers.append((each, door.request("PUT", f"/v1/batches/{name}", each)))

    ways = [(one, frames), (two, frames[::-1]), (one, frames[::2]), (two, frames)]
    threads = [threading.Thread(target=send, args=way) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {answer.status for _, answer in answers} == {200, 201}
    assert sum(answer.status == 201 for _, answer in answers) == len(frames)
    assert len({(each, answer.body) for each, answer in answers}) == len(frames)
    for each, answer in answers:
        receipt = decode_receipt(answer.body)
        verify_receipt(receipt, hash_of(each), receipt.core_hash, one.policy.collector.log)
    with two.collector.index.reading() as connection:
        kinds = select(func.count()).where(leaves.c.kind == Kind.BATCH)
        assert connection.execute(kinds).scalar() == len(frames)
        numbers = connection.execute(select(leaves.c.number).order_by(leaves.c.number)).scalars()
        assert list(numbers) == list(range(one.collector.log.take_up()))


def test_the_witness_cosigns_for_both(one: Site, two: Beside, here: Workstation) -> None:
    """The one that had less cosigned last goes on from what the other had."""
    frame = here.seals(here.consents())
    sizes = []
    for number, site in enumerate([one, two, two, one, two], 1):
        assert here.puts(again(here, frame, number)).status == 201
        note = site.collector.witnessed.now(site.collector.now())
        sizes.append(verify_checkpoint(note, one.policy.collector.log).size)
    assert sizes == sorted(set(sizes))


# --- what is said at one holds at the other ---------------------------------------------


def test_a_halt_that_was_called_at_one_is_seen_at_the_other(
    one: Site, two: Beside, here: Workstation, there: Workstation
) -> None:
    """At once, for uploads and for whoever asks."""
    frame = here.seals(here.consents())
    one.halts("the works council asked for it")
    state = msgspec.json.decode(there.door.request("GET", "/v1/state").body, type=State)
    assert state.halted
    assert refusal(there.puts(frame)) == (503, "halted")
    one.publishes()
    assert here.puts(frame).status == 201
    two.stops("the store is moved")
    assert refusal(here.puts(again(here, frame, 9))) == (503, "stopped")


def test_who_was_revoked_or_used_a_token_at_one_cannot_at_the_other(
    one: Site, two: Beside, here: Workstation, there: Workstation
) -> None:
    """A token is good for one device, wherever it goes."""
    token = one.token()
    assert two.enrols(token, ed25519()).status == 201
    assert refusal(one.enrols(token, ed25519())) == (403, "token-refused")
    with one.collector.index.writing() as connection:
        revoke_device(connection, here.id.hex(), one.collector.now())
    assert refusal(there.door.request("GET", "/v1/rights")) == (401, "revoked")


def test_what_was_deleted_at_one_is_gone_at_the_other(
    two: Beside, here: Workstation, there: Workstation
) -> None:
    """Frame, row and salt; and it cannot come back there."""
    frame = here.seals(here.consents())
    here.puts(frame)
    assert there.deletes(frame).status == 200
    assert refusal(here.puts(frame)) == (410, "erased")
    assert two.collector.store.get(hash_of(frame)) is None


def test_no_lease_is_ever_older_than_what_the_other_has_handed_out(
    one: Site, here: Workstation, there: Workstation
) -> None:
    """A device that gets an older one would take it for an attack."""
    path = "/v1/policy/timestamp.json"
    last = 0
    for number in range(6):
        for workstation in (here, there)[:: 1 if number % 2 else -1]:
            answer = workstation.door.request("GET", path)
            assert answer.status == 200, answer.body
            version = version_of(answer.body, Timestamp)
            assert version >= last
            last = version
        one.clock.moved += timedelta(minutes=40)


def test_two_that_renew_the_lease_at_once_both_hand_out_one(
    one: Site, two: Beside, here: Workstation, there: Workstation
) -> None:
    """The guard signs for one of them; the other hands out that one, or the one before."""
    assert here.door.request("GET", "/v1/policy/timestamp.json").status == 200
    got: list[Response] = []
    for _ in range(4):
        got.clear()
        one.clock.moved += timedelta(minutes=70)
        threads = [
            threading.Thread(
                target=lambda w=w: got.append(w.door.request("GET", "/v1/policy/timestamp.json"))
            )
            for w in (here, there)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [answer.status for answer in got] == [200, 200]
    assert one.collector.leases.timestamp() == two.collector.leases.timestamp()


# --- what runs beside the requests ------------------------------------------------------


def test_a_start_leaves_the_uploads_of_others_alone(
    one: Site, here: Workstation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between file and row it looks like what a crash leaves; the frame has to stay."""
    frame = here.seals(here.consents())
    real = type(one.collector.store).put

    def put_while_another_starts(store: object, batch: BatchHash, data: bytes) -> object:
        mark = real(store, batch, data)  # type: ignore[arg-type]
        with beside(one, tmp_path / "two") as other:
            Watch(other.collector).tidy()
        return mark

    monkeypatch.setattr(type(one.collector.store), "put", put_while_another_starts)
    assert here.puts(frame).status == 201
    monkeypatch.undo()
    assert one.collector.store.get(hash_of(frame)) == frame
    assert list(one.collector.store.unsettled()) == []


def test_what_a_dead_collector_left_goes_when_it_is_an_hour_old(
    one: Site, two: Beside, here: Workstation, there: Workstation
) -> None:
    """A frame without a row; while one that another has stored since stays."""
    frame = here.seals(here.consents())
    stored, lost = again(here, frame, 1), again(here, frame, 2)
    for each in (stored, lost):
        one.collector.store.put(hash_of(each), each)  # killed before its row was there
    assert there.puts(stored).status == 201
    watch = Watch(two.collector)
    watch.tidy()
    assert two.collector.store.get(hash_of(lost)) == lost
    one.clock.moved += timedelta(hours=1, seconds=1)
    watch.tidy()
    assert two.collector.store.get(hash_of(lost)) is None
    assert two.collector.store.get(hash_of(stored)) == stored
    assert list(two.collector.store.unsettled()) == []


def test_an_upload_that_hung_for_long_enough_to_be_taken_for_dead_gets_no_row(
    one: Site, here: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its frame may be gone: the device is told to come again, and then it is taken."""
    frame = here.seals(here.consents())
    real = type(one.collector.store).put

    def put_slowly(store: object, batch: BatchHash, data: bytes) -> object:
        mark = real(store, batch, data)  # type: ignore[arg-type]
        one.clock.moved += timedelta(seconds=KEEP_SECONDS + 1)
        return mark

    monkeypatch.setattr(type(one.collector.store), "put", put_slowly)
    answer = here.puts(frame)
    assert refusal(answer) == (503, "not-ready")
    assert "retry-after" in {name.lower() for name in answer.headers}
    monkeypatch.undo()
    with one.collector.index.reading() as connection:
        assert connection.execute(select(batches)).first() is None
    assert here.puts(frame).status == 201


def stopped(site: Site) -> set[str]:
    with site.collector.index.reading() as connection:
        return set(connection.execute(select(stops.c.cause)).scalars())


def grown(site: Site, act: Callable[[], None]) -> int:
    """Return by how many leaves *act* makes the log grow."""
    before = site.collector.log.take_up()
    act()
    return site.collector.log.take_up() - before


def test_a_guard_that_one_of_them_hears_stops_nobody(
    one: Site, two: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the log is not filled with stops and their ends, every few seconds."""
    deaf, hearing = Watch(one.collector), Watch(two.collector)
    cut_off(one, monkeypatch)

    def look_for_minutes() -> None:
        for _ in range(2 * OUTAGE_SECONDS // 10):
            hearing.look()
            deaf.look()
            one.clock.moved += timedelta(seconds=10)
            assert stopped(two) == set()

    assert grown(two, look_for_minutes) == 0
    cut_off(two, monkeypatch)
    for _ in range(OUTAGE_SECONDS // 10 + 1):
        hearing.look()
        deaf.look()
        one.clock.moved += timedelta(seconds=10)
    assert stopped(one) == {Cause.GUARD_AWAY}


def test_when_one_of_them_hears_the_guard_again_all_go_on(
    one: Site, two: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One leaf for the stop, one for its end."""
    watches = [Watch(one.collector), Watch(two.collector)]
    with monkeypatch.context() as patch:
        cut_off(one, patch)
        cut_off(two, patch)

        def outage() -> None:
            for _ in range(OUTAGE_SECONDS // 10 + 3):
                for watch in watches:
                    watch.look()
                one.clock.moved += timedelta(seconds=10)

        assert grown(one, outage) == 1
    cut_off(one, monkeypatch)
    assert grown(one, watches[1].look) == 1
    assert stopped(one) == set()
    assert grown(one, watches[0].look) == 0


def cut_off(site: Site, patch: pytest.MonkeyPatch) -> None:
    """Let *site* alone not reach the guard."""

    def unreachable() -> object:
        raise RefusedError(Why.GUARD_UNREACHABLE, "the guard does not answer")

    patch.setattr(site.collector.guard, "state", unreachable)


def test_a_notice_is_told_once(one: Site, two: Beside, here: Workstation, tmp_path: Path) -> None:
    """By whichever comes first; the other finds nothing to tell meanwhile."""
    here.consents()
    script = tmp_path / "notify"
    script.write_text(f'#!/bin/sh\ncat >> "{tmp_path}/told"\nsleep 1\n', "utf-8")
    script.chmod(0o700)
    posts = [
        Messenger(site.collector.index, str(script), site.collector.now) for site in (one, two)
    ]
    threads = [threading.Thread(target=post.deliver) for post in posts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len((tmp_path / "told").read_text("utf-8").splitlines()) == 1
    with two.collector.index.reading() as connection:
        assert connection.execute(select(notices.c.told_at)).scalar_one() is not None


def test_a_notice_whose_teller_died_is_told_by_the_other(
    one: Site, two: Beside, here: Workstation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, with the same id: nobody knows whether it was told."""
    here.consents()
    script = tmp_path / "notify"
    script.write_text(f'#!/bin/sh\ncat >> "{tmp_path}/told"\n', "utf-8")
    script.chmod(0o700)
    first = Messenger(one.collector.index, str(script), one.collector.now)

    def die(_notice: bytes) -> str:
        raise InterruptedError

    monkeypatch.setattr(first, "_hand_over", die)
    with pytest.raises(InterruptedError):
        first.deliver()
    second = Messenger(two.collector.index, str(script), two.collector.now)
    assert not second.deliver()
    one.clock.moved += timedelta(minutes=2)
    assert second.deliver()
    assert len((tmp_path / "told").read_text("utf-8").splitlines()) == 1
    assert one.clock.now().wall > 120 * NANOSECONDS
