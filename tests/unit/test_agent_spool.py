"""The spool in good weather: put, hold, next, ack, forget, quarantine, quota."""

import errno
import hashlib
import os
import stat
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.handover import SealedBatch, Span, back
from agent.numbers import Numbers
from agent.spool import DAMAGED, Spool
from base.clock import NANOSECONDS, Now
from tests.fakes.disk import BreakingDisk, How
from wire.category import Category
from wire.errors import MalformedError
from wire.frame import join_unsigned, split
from wire.ids import GrantHash, PolicyDigest

S = NANOSECONDS
START = Now(boot=1_000 * S, wall=1_800_000_000 * S, boot_id="one")
HOLD = 60


def later(seconds: float, boot_id: str = "one") -> Now:
    return Now(
        boot=START.boot + int(seconds * S), wall=START.wall + int(seconds * S), boot_id=boot_id
    )


def sealed(
    body: str, category: Category = Category.KEYS, *, first: float = -10, last: float = 0
) -> SealedBatch:
    """Return a batch whose events happened from *first* to *last* seconds after START."""
    unsigned = join_unsigned(b"core", b"shelf", body.encode())
    at = later
    return SealedBatch(
        name=hashlib.sha256(unsigned).hexdigest(),
        category=category,
        grant=GrantHash(b"g" * 32),
        policy=PolicyDigest(b"p" * 32),
        span=Span(
            first_wall=at(first).wall,
            last_wall=at(last).wall,
            first_boot=at(first).boot,
            last_boot=at(last).boot,
            boot_id="one",
        ),
        events=3,
        expires="2030-01-01",
        unsigned=unsigned,
        age_header=b"header of " + body.encode(),
    )


class World:
    """A spool on a real folder; `restart` is what the next process finds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = Ed25519PrivateKey.generate()
        self.restart()

    def restart(self, now: Now = START, quota_bytes: int = 1 << 30) -> Spool:
        numbers = Numbers(self.folder)
        self.spool = Spool(self.folder / "spool", self.key, numbers, now, quota_bytes=quota_bytes)
        return self.spool

    def files(self) -> list[str]:
        return sorted(p.name for p in (self.folder / "spool").rglob("*") if p.is_file())

    def put_and_sign(self, *bodies: str) -> list[str]:
        """Return the names of signed batches."""
        for body in bodies:
            self.spool.put(sealed(body), START)
        self.spool.leave_hold(later(HOLD), HOLD)
        return [batch.name for batch in self.spool.ready()]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_batch_waits_for_its_hold_on_both_clocks(world: World) -> None:
    """Nothing leaves before the subject had the time to take it back."""
    world.spool.put(sealed("a"), START)
    for now in (
        later(HOLD - 1),
        Now(boot=later(HOLD).boot, wall=later(HOLD - 1).wall, boot_id="one"),
        Now(boot=later(HOLD - 1).boot, wall=later(HOLD).wall, boot_id="one"),
        later(HOLD - 1, "two"),
    ):
        world.spool.leave_hold(now, HOLD)
        assert world.spool.ready() == []
    world.spool.leave_hold(later(HOLD), HOLD)
    assert len(world.spool.ready()) == 1


def test_after_a_reboot_the_wall_clock_alone_ends_a_hold(world: World) -> None:
    """The boot clock of another boot says nothing."""
    world.spool.put(sealed("a"), START)
    world.restart().leave_hold(Now(boot=1, wall=later(HOLD).wall, boot_id="two"), HOLD)
    assert len(world.spool.ready()) == 1


def test_a_signed_batch_is_named_by_the_hash_of_the_bytes_that_leave(world: World) -> None:
    """What lies there is what is sent, and its trailer is the device's."""
    (name,) = world.put_and_sign("a")
    frame = world.spool.read(name)
    assert hashlib.sha256(frame).hexdigest() == name
    parts = split(frame)
    assert (parts.body, parts.sequence) == (b"a", 1)


def test_batches_get_successive_numbers_over_restarts(world: World) -> None:
    """The collector's order is the device's."""
    world.put_and_sign("a", "b")
    world.restart()
    world.put_and_sign("c")
    sequences = [split(world.spool.read(b.name)).sequence for b in world.spool.ready()]
    assert sequences == [1, 2, 3]


def test_a_restart_finds_everything_where_it_was(world: World) -> None:
    """Held, ready, marks, quarantine, deletions and what was sent."""
    first, second, third = world.put_and_sign("a", "b", "c")
    world.spool.put(sealed("held"), START)
    world.spool.mark_maybe_sent(first)
    world.spool.quarantine(second, "never")
    world.spool.ack(third)
    world.spool.ask_deletion(b"\1" * 32, "asked")
    before = [(s.name, s.folder, s.local) for s in world.spool.batches()]
    spool = world.restart()
    assert [(s.name, s.folder, s.local) for s in spool.batches()] == before
    assert [batch.name for batch in spool.ready()] == [first]
    assert spool.number_held() == 1
    assert spool.number_quarantined() == 1
    assert [sent.hash.hex() for sent in spool.sent()] == [third]
    assert spool.deletions() == [(b"\1" * 32).hex()]


def test_an_acknowledged_batch_is_gone_with_its_age_header(world: World) -> None:
    """Nothing of it stays but that it was sent."""
    (name,) = world.put_and_sign("a")
    world.spool.ack(name)
    assert world.files() == ["sent.jsonl"]
    assert not world.spool.has(name)


def test_the_age_header_lies_beside_the_batch_while_it_is_here(world: World) -> None:
    """So that the subject can look inside; held and signed."""
    world.spool.put(sealed("a"), START)
    (held,) = world.spool.batches()
    assert held.local.age_header == b"header of a"
    (name,) = world.put_and_sign()
    (ready,) = world.spool.ready()
    assert (ready.name, ready.local.age_header) == (name, b"header of a")


def test_what_is_set_aside_is_not_offered_and_not_lost(world: World) -> None:
    """It says why, over a restart, and goes when it is forgotten."""
    (name,) = world.put_and_sign("a")
    world.spool.quarantine(name, "422: malformed")
    assert world.restart().ready() == []
    assert [batch.local.why for batch in world.spool.batches()] == ["422: malformed"]
    assert world.spool.forget(Category.KEYS) == 1
    assert world.spool.number_quarantined() == 0


@pytest.mark.parametrize("at", [0, 9, -1], ids=["the magic", "a length", "the body"])
def test_a_held_batch_with_one_wrong_byte_is_set_aside_and_never_signed(
    world: World, caplog: pytest.LogCaptureFixture, at: int
) -> None:
    """Signed, garbage would be genuine; and the batches beside it go on, as does the agent."""
    world.spool.put(sealed("a"), START)
    (held,) = world.spool.batches()
    spoil(world.folder / "spool" / "held" / f"{held.name}.frame", at)
    world.spool.put(sealed("b"), START)
    for again in (False, True):
        spool = world.restart() if again else world.spool
        spool.leave_hold(later(HOLD), HOLD)
        assert [split(spool.read(b.name)).body for b in spool.ready()] == [b"b"]
        assert [b.local.why for b in spool.batches() if b.name == held.name] == [DAMAGED]
        assert (spool.number_held(), spool.number_quarantined()) == (0, 1)
    assert caplog.messages == [f"a batch of keys is set aside: {DAMAGED}"]
    assert world.spool.forget(Category.KEYS) == 2


def test_a_held_batch_that_cannot_be_read_holds_no_other_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays, and why is said each time; once the disk gives it, it follows."""
    for body in ("a", "b", "c"):
        world.spool.put(sealed(body), START)
    bad = f"{sealed('b').name}.frame"
    read = Path.read_bytes

    def fails(path: Path) -> bytes:
        if path.name == bad:
            raise OSError(errno.EIO, "Input/output error")
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fails)
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output error"):
                world.spool.leave_hold(later(HOLD), HOLD)
            assert [batch.local.sequence for batch in world.spool.ready()] == [1, 2]
            assert world.spool.number_held() == 1
    world.spool.leave_hold(later(HOLD), HOLD)
    assert [batch.local.sequence for batch in world.spool.ready()] == [1, 2, 3]


@pytest.mark.parametrize("broken", ["record", "number"])
def test_a_held_batch_that_may_have_its_number_holds_the_others_up(
    world: World, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Its record, or that the number is taken, was not written: until it is read none is given."""
    world.spool.put(sealed("a"), START)
    world.spool.put(sealed("b"), later(1))
    first, whose = sealed("a").name, world.spool
    disk = whose if broken == "record" else whose._numbers  # noqa: SLF001
    with monkeypatch.context() as patch:
        patch.setattr(disk, "_disk", BreakingDisk(1, How.FAILS))
        with pytest.raises(OSError, match="Input/output error"):
            world.spool.leave_hold(later(HOLD), HOLD)
    read = Path.read_bytes

    def fails(path: Path) -> bytes:
        if path.name == f"{first}.frame":
            raise OSError(errno.EIO, "Input/output error")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(OSError, match="Input/output error"):
        world.spool.leave_hold(later(HOLD + 1), HOLD)
    assert world.spool.ready() == []


@pytest.mark.parametrize("at", [0, 9, -1])
def test_a_signed_batch_with_one_wrong_byte_is_set_aside_and_never_sent(
    world: World, at: int
) -> None:
    """No collector would take it; it is counted here."""
    first, second = world.put_and_sign("a", "b")
    spoil(world.folder / "spool" / "ready" / f"{first}.frame", at)
    with pytest.raises(MalformedError, match="damaged"):
        world.spool.read(first)
    assert [batch.name for batch in world.restart().ready()] == [second]
    assert world.spool.number_quarantined() == 1


def test_a_damaged_batch_that_cannot_be_noted_stays_aside(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails just then: the next start finds the same."""
    world.spool.put(sealed("a"), START)
    (held,) = world.spool.batches()
    spoil(world.folder / "spool" / "held" / f"{held.name}.frame", -1)
    with monkeypatch.context() as patch:
        patch.setattr(world.spool, "_disk", BreakingDisk(1, How.FAILS))
        with pytest.raises(OSError, match="Input/output"):
            world.spool.leave_hold(later(HOLD), HOLD)
    for again in (False, True):
        spool = world.restart() if again else world.spool
        spool.leave_hold(later(HOLD), HOLD)
        assert (spool.ready(), spool.number_quarantined()) == ([], 1)


def spoil(path: Path, at: int) -> None:
    """Turn over one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(bytes(data))


def test_forgetting_a_category_leaves_the_others(world: World) -> None:
    """Held, ready and set aside, of that category alone."""
    world.spool.put(sealed("s", Category.SCREEN), START)
    world.put_and_sign("a")
    world.spool.put(sealed("held"), START)
    assert world.spool.forget(Category.KEYS) == 2
    assert [s.local.category for s in world.spool.batches()] == [Category.SCREEN]
    assert world.spool.forgotten == 2


@pytest.mark.parametrize(
    ("minutes", "left"),
    [(1, ["old"]), (5, ["old"]), (20, [])],
)
def test_forgetting_the_last_minutes_takes_every_batch_that_reaches_into_them(
    world: World, minutes: int, left: list[str]
) -> None:
    """A batch that began before and ended within is gone, whole."""
    world.spool.put(sealed("old", first=-900, last=-600), START)
    world.spool.put(sealed("across", first=-400, last=-20), START)
    world.spool.put(sealed("new", first=-20, last=-1), START)
    world.spool.forget(since=back(START, minutes * 60 * S))
    bodies = [
        b.local.age_header.removeprefix(b"header of ").decode() for b in world.spool.batches()
    ]
    assert bodies == left


def test_after_a_reboot_the_span_is_judged_by_the_wall_clock(world: World) -> None:
    """The boot clock of another boot says nothing."""
    world.spool.put(sealed("a", first=-30, last=-10), START)
    now = Now(boot=5 * S, wall=later(20).wall, boot_id="two")
    assert world.spool.forget(since=back(now, 60 * S)) == 1


def test_what_may_have_been_sent_is_asked_back_when_it_is_forgotten(world: World) -> None:
    """And only that: the collector is told nothing of batches that it cannot have."""
    first, second = world.put_and_sign("a", "b")
    world.spool.mark_maybe_sent(first)
    world.spool.forget()
    assert world.spool.deletions() == [first]
    assert not world.spool.has(second)
    world.restart()
    assert world.spool.deletions() == [first]
    world.spool.deletion_confirmed(first)
    assert world.restart().deletions() == []


def test_a_line_that_a_disk_took_and_refused_is_no_damage(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there twice, an empty line between them: none is unreadable, nothing is set aside."""
    (name,) = world.put_and_sign("a")

    def fails(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="Input/output error"):
            world.spool.ack(name)
    world.spool.ack(name)
    assert b"\n\n" in (world.folder / "spool" / "sent.jsonl").read_bytes()
    assert [sent.hash.hex() for sent in world.restart().sent()] == [name]
    assert world.files() == ["sent.jsonl"]


def test_what_was_erased_at_the_collector_is_not_asked_back_again(world: World) -> None:
    """A confirmed deletion takes the batch off the list of what was sent."""
    (name,) = world.put_and_sign("a")
    world.spool.ack(name)
    world.spool.ask_deletion(bytes.fromhex(name), "withdrawn")
    world.spool.deletion_confirmed(name)
    assert world.restart().sent() == []


def test_what_was_sent_is_remembered_until_the_collector_may_keep_it_no_more(
    world: World,
) -> None:
    """After its expiry there is nothing left to erase."""
    (name,) = world.put_and_sign("a")
    world.spool.ack(name)
    much_later = Now(boot=0, wall=START.wall + 5 * 366 * 86_400 * S, boot_id="two")
    assert world.restart(much_later).sent() == []


def test_a_full_spool_says_so_and_still_takes_what_was_captured(world: World) -> None:
    """The quota closes the gate; it drops nothing."""
    world.restart(quota_bytes=500)
    rooms = [world.spool.has_room]
    world.spool.put(sealed("a" * 600), START)
    rooms.append(world.spool.has_room)
    assert rooms == [True, False]
    world.spool.put(sealed("b"), START)
    assert world.spool.number_held() == 2


def test_a_batch_whose_record_is_lost_is_never_sent_and_forgotten_with_anything(
    world: World,
) -> None:
    """Nobody knows any more whether it may leave, nor what category it is of."""
    (name,) = world.put_and_sign("a")
    (world.folder / "spool" / "ready" / f"{name}.local").write_bytes(b"{")
    assert world.restart().ready() == []
    assert world.spool.number_quarantined() == 1
    assert world.spool.forget(Category.SCREEN) == 1
    assert world.spool.deletions() == [name]


def test_a_damaged_number_of_one_batch_does_not_end_the_numbers(world: World) -> None:
    """It would fit in no frame; believed, it would leave no number for any batch after it."""
    (name,) = world.put_and_sign("a")
    local = world.folder / "spool" / "ready" / f"{name}.local"
    local.write_bytes(local.read_bytes().replace(b'"sequence":1', b'"sequence":%d' % (2**64 - 1)))
    assert [batch.local.sequence for batch in world.restart().batches()] == [None]
    (other,) = world.put_and_sign("b")
    assert split(world.spool.read(other)).sequence == 2


def test_left_overs_of_a_crash_are_swept(world: World) -> None:
    """Temporary files, and records without their frame."""
    world.spool.put(sealed("a"), START)
    held = world.folder / "spool" / "held"
    (held / ".x.frame.77.tmp").write_bytes(b"half")
    (held / "abc.local").write_bytes(b"{}")
    (held.parent / ".sent.jsonl.77.tmp").write_bytes(b"half")
    assert world.restart().number_held() == 1
    assert len(list(held.iterdir())) == 2
    assert list(held.parent.glob(".*")) == []


def test_everything_is_private(world: World) -> None:
    """Folders 0700, files 0600."""
    world.put_and_sign("a")
    world.spool.put(sealed("b"), START)
    spool = world.folder / "spool"
    for path in (spool, *spool.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_putting_a_batch_twice_is_putting_it_once(world: World) -> None:
    """A write that failed after it persisted is simply done again."""
    world.spool.put(sealed("a"), START)
    world.spool.put(sealed("a"), START)
    assert world.restart().number_held() == 1


def test_the_record_beside_a_batch_holds_no_content(world: World) -> None:
    """Category, grant, times, counts and the sealed header; nothing that was captured."""
    world.spool.put(sealed("a"), START)
    (held,) = world.spool.batches()
    assert set(msgspec.structs.asdict(held.local)) == {
        "category", "grant", "policy", "span", "events", "expires", "age_header", "put_wall",
        "put_boot", "put_boot_id", "sequence", "maybe_sent", "why", "version",
    }  # fmt: skip


def test_what_was_recorded_under_one_policy_is_forgotten_alone(world: World) -> None:
    """A newer policy forbids what an older one allowed, and nothing besides."""
    new = msgspec.structs.replace(sealed("new"), policy=PolicyDigest(b"n" * 32))
    for batch in (sealed("old"), sealed("screen", Category.SCREEN), new):
        world.spool.put(batch, START)
    old = PolicyDigest(b"p" * 32)
    assert world.spool.recorded() == {
        (Category.KEYS, old),
        (Category.KEYS, new.policy),
        (Category.SCREEN, old),
    }
    assert world.spool.forget(Category.KEYS, why="narrowed", policy=old) == 1
    assert world.spool.recorded() == {(Category.KEYS, new.policy), (Category.SCREEN, old)}


@pytest.mark.parametrize("syncs", [3, 4])
def test_a_batch_that_the_disk_took_and_refused_is_forgotten_with_the_rest(
    world: World, monkeypatch: pytest.MonkeyPatch, syncs: int
) -> None:
    """Its frame may be there although the write failed, and the next start would send it.

    The third sync is that of the frame, the fourth that of the folder into which it was renamed.
    """
    real, done = os.fsync, []

    def fails(fd: int) -> None:
        done.append(fd)
        if len(done) >= syncs:
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="Input/output error"):
            world.spool.put(sealed("a"), START)
    assert any(name.endswith(".frame") for name in world.files()) is (syncs == 4)
    assert world.spool.batches() == []
    world.spool.forget(since=back(START, 60 * S))
    assert world.restart().batches() == []
    assert [name for name in world.files() if name.endswith((".frame", ".local", ".tmp"))] == []


def test_a_signed_batch_that_the_disk_took_and_refused_is_forgotten_with_the_rest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The held one is known and the signed one may be there: both go."""
    world.spool.put(sealed("a"), START)
    real = os.fsync

    def fails(fd: int) -> None:
        real(fd)
        if any((world.folder / "spool/ready").glob("*.frame")):
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="Input/output error"):
            world.spool.leave_hold(later(HOLD), HOLD)
    assert sum(name.endswith(".frame") for name in world.files()) == 2
    world.spool.forget()
    assert world.restart().batches() == []
    assert not any(name.endswith(".frame") for name in world.files())


@pytest.mark.parametrize(
    "broken", ["local", "numbers.json"], ids=["its record", "the number after it"]
)
@pytest.mark.parametrize("lasts", [True, False], ids=["persisted", "not there"])
def test_a_number_whose_write_failed_goes_to_no_other_batch(
    world: World, monkeypatch: pytest.MonkeyPatch, broken: str, *, lasts: bool
) -> None:
    """Though the clock is set back, another batch comes that is older by it, and we are killed."""
    world.spool.put(sealed("a"), START)
    real = os.replace

    def fails(source: Path, target: Path) -> None:
        if str(target).endswith(broken):
            if lasts:
                real(source, target)
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fails)
        with pytest.raises(OSError, match="Input/output error"):
            world.spool.leave_hold(later(HOLD), HOLD)
    world.spool.put(sealed("b"), later(-86_400))
    world.spool.leave_hold(later(HOLD - 86_400), HOLD)
    world.restart().leave_hold(later(HOLD), HOLD)
    numbers = sorted(batch.local.sequence or 0 for batch in world.spool.ready())
    assert numbers == [1, 2]
