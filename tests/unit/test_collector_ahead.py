"""Small frames of who was just taken come unasked; who is refused is refused as ever."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from collector import enrol
from collector.ingest.receive import Knock, Receiver
from collector.store import Unsettled
from tests.fakes.site import Workstation, refusal
from tests.fakes.staffed import Staffed, hash_of, staffed_site
from wire.frame import join_unsigned, split
from wire.sealing import sign

pytestmark = pytest.mark.slow


class Asked:
    """Counts who is asked about before a body."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        knocked = Receiver.knocked

        def counted(receiver: Receiver, knocks: list[Knock]) -> object:
            self.times += len(knocks)
            return knocked(receiver, knocks)

        monkeypatch.setattr(Receiver, "knocked", counted)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


@pytest.fixture
def staffed(
    asked: Asked,  # before the collector is built
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Staffed]:
    with staffed_site(tmp_path, monkeypatch) as made:
        yield made


def stored(staffed: Staffed) -> set[str]:
    """Return the names of all frames that lie there."""
    return {path.name for path in staffed.site.premises.objects.glob("??/*")}


def trusted(staffed: Staffed) -> bytes:
    """Have one frame taken, so that the next one of this connection comes ahead; return it."""
    frame = staffed.home.seals(staffed.home.consents())
    assert staffed.home.puts(frame).status == 201
    return frame


def test_a_device_that_was_taken_is_not_asked_about_again(staffed: Staffed, asked: Asked) -> None:
    """The same receipts, new or again, as who is asked first; nothing stays unsettled."""
    frame = trusted(staffed)
    before = asked.times
    for number in range(2, 6):
        each = staffed.again(frame, number)
        new, again = staffed.home.puts(each), staffed.home.puts(each)
        assert (new.status, again.status) == (201, 200)
        kept = msgspec.json.encode(staffed.site.collector.receiver.receipt(hash_of(each)))
        assert new.body == again.body == kept
    assert asked.times == before
    staffed.waits_for(lambda: list(staffed.site.collector.store.unsettled()) == [])


def test_a_large_frame_is_asked_for(staffed: Staffed, asked: Asked) -> None:
    """As many bytes as a connection may send unasked, and no more, come ahead."""
    frame = trusted(staffed)
    parts = split(frame)
    large = join_unsigned(parts.core, parts.shelf, bytes(200_000))
    before = asked.times
    assert staffed.home.puts(sign(large, 2, staffed.home.org.device)).status == 201
    assert asked.times == before + 1


@pytest.mark.parametrize("why", ["halted", "stopped", "revoked", "storage-full"])
def test_whoever_may_no_longer_is_refused_and_nothing_of_it_stays(
    staffed: Staffed, asked: Asked, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """The transaction asks again; what came ahead is removed, and the next is asked for."""
    frame, site = trusted(staffed), staffed.site
    before = stored(staffed)
    if why == "halted":
        site.halts()
    elif why == "stopped":
        site.stops("somebody looks into it")
    elif why == "revoked":
        with site.collector.index.writing() as connection:
            enrol.revoke_device(connection, staffed.home.id.hex(), site.collector.now())
    else:
        monkeypatch.setattr(site.collector.store, "free_bytes", lambda: 0)
    times = asked.times
    answer = refusal(staffed.home.puts(staffed.again(frame, 2)))
    assert answer[1] == why
    assert asked.times == times
    assert stored(staffed) == before
    staffed.waits_for(lambda: list(site.collector.store.unsettled()) == [])

    assert refusal(staffed.home.puts(staffed.again(frame, 3))) == answer
    assert asked.times == times + 1


def test_who_is_near_a_limit_is_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Asked
) -> None:
    """Otherwise a device that sends too much would fill the disk with what is refused."""
    limits = "device_uploads_per_minute = 8\n"
    with staffed_site(tmp_path, monkeypatch, limits) as staffed:
        frame = trusted(staffed)
        answers = [staffed.home.puts(staffed.again(frame, each)).status for each in range(2, 11)]
    assert answers.count(429) >= 1
    assert 4 <= asked.times < len(answers)  # from half of what it may


def test_a_frame_that_names_another_device_is_refused_and_removed(staffed: Staffed) -> None:
    """Ones like it, of that device, were taken by the same worker."""
    theirs = trusted(staffed)
    other = staffed.site.workstation()
    own = other.seals(other.consents())
    assert other.puts(own).status == 201
    before = stored(staffed)
    parts = split(theirs)
    for number in range(2, 6):  # whichever worker its connection came to
        claimed = sign(join_unsigned(parts.core, parts.shelf, parts.body), number, other.org.device)
        assert refusal(other.puts(claimed)) == (403, "not-this-device")
        assert other.puts(signed_again(own, number, other)).status == 201
    assert len(stored(staffed) - before) == 4
    staffed.waits_for(lambda: list(staffed.site.collector.store.unsettled()) == [])


def signed_again(frame: bytes, number: int, of: Workstation) -> bytes:
    parts = split(frame)
    return sign(join_unsigned(parts.core, parts.shelf, parts.body), number, of.org.device)


def test_a_frame_that_is_not_what_it_says_is_refused_as_if_it_was_asked_for(
    staffed: Staffed,
) -> None:
    """By the same names; nothing of it is stored, and the connection goes on."""
    frame = trusted(staffed)
    before = stored(staffed)
    following = staffed.again(frame, 2)
    assert refusal(staffed.home.puts(following, "ab" * 32)) == (422, "wrong-hash")
    assert staffed.home.puts(following).status == 201
    forged = following[:-1] + bytes([following[-1] ^ 1])
    assert refusal(staffed.home.puts(forged)) == (422, "forged")
    assert staffed.home.puts(staffed.again(frame, 3)).status == 201
    assert len(stored(staffed) - before) == 2


def test_a_refusal_takes_nothing_away_that_is_just_taken_in(staffed: Staffed) -> None:
    """The same bytes twice at once: the frame stays for the upload that goes on."""
    frame, store = trusted(staffed), staffed.site.collector.store
    each = staffed.again(frame, 2)
    held: Unsettled = store.put(hash_of(each), each)  # of an upload that goes on
    staffed.site.halts()
    assert refusal(staffed.home.puts(each)) == (503, "halted")
    assert store.get(hash_of(each)) == each
    staffed.waits_for(lambda: [mark.name for mark in store.unsettled()] == [held.name])


def test_the_same_frame_many_times_at_once_is_one(staffed: Staffed) -> None:
    """Ahead or not, over connections of both workers."""
    frame = trusted(staffed)
    doors = [staffed.site.door(*staffed.home.files) for _ in range(6)]
    for number, door in enumerate(doors, 10):
        each = staffed.again(frame, number)
        assert door.request("PUT", f"/v1/batches/{hash_of(each).hex()}", each).status == 201
    once = staffed.again(frame, 2)
    path = f"/v1/batches/{hash_of(once).hex()}"
    with ThreadPoolExecutor(len(doors)) as threads:
        answers = list(threads.map(lambda door: door.request("PUT", path, once), doors))
    assert sorted(answer.status for answer in answers) == [200] * 5 + [201]
    assert len({answer.body for answer in answers}) == 1
    assert staffed.site.collector.store.get(hash_of(once)) == once
    staffed.waits_for(lambda: list(staffed.site.collector.store.unsettled()) == [])
