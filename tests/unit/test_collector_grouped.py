"""Group commit: who waits is answered with others, and by what it asked itself."""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from base.errors import AssentError, RetryableError, SetupError
from collector.ingest.grouped import Grouped, Outcome
from collector.ingest.intake import account_of, put
from collector.ingest.receive import Stored, Upload
from tests.fakes.site import Site, Workstation, collector_site
from wire.ids import BatchHash
from wire.receipt import Receipt, verify_receipt


@dataclass
class Act:
    """Answers 10 times the number; waits before each group until it may go on."""

    began: threading.Event = field(default_factory=threading.Event)
    may_go: threading.Event = field(default_factory=threading.Event)
    groups: list[list[int]] = field(default_factory=list)
    judge: Callable[[int], Outcome[int]] = lambda number: 10 * number

    def __call__(self, numbers: Sequence[int]) -> list[Outcome[int]]:
        self.groups.append(list(numbers))
        self.began.set()
        assert self.may_go.wait(20)
        return [self.judge(number) for number in numbers]


async def asked(grouped: Grouped[int, int], act: Act, *numbers: int) -> list[object]:
    """Ask the first, and the others while it is under way; return what each got."""
    first = asyncio.create_task(grouped.ask(numbers[0]))
    assert await asyncio.to_thread(act.began.wait, 20)
    others = [asyncio.create_task(grouped.ask(number)) for number in numbers[1:]]
    await asyncio.sleep(0)
    act.may_go.set()
    return list(await asyncio.gather(first, *others, return_exceptions=True))


def test_those_that_come_while_a_group_is_under_way_are_the_next_one() -> None:
    """One waits for nobody; three share what each would have cost."""
    act = Act()
    assert asyncio.run(asked(Grouped(act=act), act, 1, 2, 3, 4)) == [10, 20, 30, 40]
    assert act.groups == [[1], [2, 3, 4]]


def test_a_group_has_a_most() -> None:
    """The others are the one after."""
    act = Act()
    assert asyncio.run(asked(Grouped(act=act, most=2), act, 1, 2, 3, 4)) == [10, 20, 30, 40]
    assert act.groups == [[1], [2, 3], [4]]


def test_an_error_is_of_the_one_whose_outcome_it_is() -> None:
    """Its neighbours are kept."""
    act = Act(judge=lambda number: SetupError("not this") if number == 3 else number)
    one, two, three, four = asyncio.run(asked(Grouped(act=act), act, 1, 2, 3, 4))
    assert (one, two, four) == (1, 2, 4)
    assert isinstance(three, SetupError)


def test_what_is_said_of_the_whole_group_is_everybodys() -> None:
    """The disk is full: nobody is asked again by itself."""

    def full(number: int) -> Outcome[int]:
        if number > 1:
            raise RetryableError("the disk is full")
        return number

    act = Act(judge=full)
    one, *others = asyncio.run(asked(Grouped(act=act), act, 1, 2, 3))
    assert one == 1
    assert [str(other) for other in others] == ["the disk is full"] * 2
    assert act.groups == [[1], [2, 3]]


def test_a_defect_fails_only_whose_it_is() -> None:
    """Whoever is in one group with something that we did not think of is answered all the same."""

    def broken(number: int) -> Outcome[int]:
        return number if number != 3 else number // 0

    act = Act(judge=broken)
    one, two, three, four = asyncio.run(asked(Grouped(act=act), act, 1, 2, 3, 4))
    assert (one, two, four) == (1, 2, 4)
    assert isinstance(three, ZeroDivisionError)


def test_who_is_gone_holds_up_nobody() -> None:
    """A client that hangs up in the middle; and the next one begins a group again."""

    async def tried() -> None:
        act = Act()
        grouped: Grouped[int, int] = Grouped(act=act)
        gone = asyncio.create_task(grouped.ask(1))
        assert await asyncio.to_thread(act.began.wait, 20)
        other = asyncio.create_task(grouped.ask(2))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        act.may_go.set()
        assert await other == 20
        assert await grouped.ask(3) == 30

    asyncio.run(tried())


# --- a group of uploads ---------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with collector_site(tmp_path_factory.mktemp("site")) as running:
        yield running


def hash_of(frame: bytes) -> BatchHash:
    return BatchHash(hashlib.sha256(frame).digest())


def test_of_a_group_each_is_judged_by_itself(site: Site) -> None:
    """Two devices; one batch comes twice, one was deleted, one rests on what was taken back."""
    receiver, workstation, others = site.collector.receiver, site.workstation(), site.workstation()
    mine, theirs = workstation.consents(), others.consents()
    good, again, deleted = (workstation.seals(mine) for _ in range(3))
    other, late = others.seals(theirs), others.seals(theirs)
    workstation.puts(again)
    workstation.deletes(deleted)
    group = [
        stored(site, station, frame)
        for station, frame in (
            *((workstation, good), (others, other), (workstation, good)),
            *((workstation, again), (workstation, deleted)),
        )
    ]
    kept = receiver.keep(group)
    assert [said(outcome) for outcome in kept] == [True, True, False, False, "erased"]
    assert kept[0][0] == kept[2][0]  # type: ignore[index]  # one row, one leaf, one receipt
    for frame, outcome in zip((good, other, good, again), kept, strict=False):
        receipt = outcome[0]  # type: ignore[index]
        assert receipt == receiver.receipt(hash_of(frame))
        verify_receipt(receipt, hash_of(frame), receipt.core_hash, site.collector.log.verifier_key)
    assert others.asks(others.demands()).status == 200
    assert [said(one) for one in receiver.keep([stored(site, others, late)])] == ["erased"]


def stored(site: Site, station: Workstation, frame: bytes) -> Stored:
    """Return a frame of *station* as it is before its row is written."""
    account = account_of(frame, hash_of(frame), station.org.device.public_key())
    upload = Upload(device=station.id, account=account, now=site.collector.now())
    put(site.collector.store, hash_of(frame), frame)
    return Stored(upload, site.collector.clock.now().boot)


def said(outcome: Outcome[tuple[Receipt, bool]]) -> str | bool:
    """Return whether it is new, or the name of the refusal."""
    return str(outcome).partition(":")[0] if isinstance(outcome, AssentError) else outcome[1]
