"""Whatever is wrong with a file of the agent's state: it ends in one line, is shut, or goes on.

`FILES` says which of the three for each, and why nothing is lost by it.  That nobody may read a
file, and what the commands say, is in `tests/e2e/test_bad_input.py`.
"""

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Final

import pytest

from base.errors import AssentError
from tests.fakes.damage import DAMAGES, Damage, a_folder, newer, unreadable
from tests.fakes.workstation import Workstation, capturing, eventually, key, the
from wire.category import Category
from wire.control import Forget, Pause, Reason, Resume
from wire.guard_order import Order, sign_order
from wire.ids import WallInstant


class Ends(Enum):
    """What comes of a file that will not do."""

    REFUSES = auto()  # one line; a person has to mend it
    SHUT = auto()  # nothing may be captured
    GOES_ON = auto()


@dataclass(frozen=True, kw_only=True)
class Row:
    """A file of the state, and what comes of it when it is damaged."""

    ends: Ends
    why: str
    but: Mapping[Damage, Ends] = field(default_factory=dict)
    has_version: bool = False

    def damages(self) -> tuple[Damage, ...]:
        """Return what can be wrong with it, but that nobody may read it."""
        return tuple(d for d in (*DAMAGES, newer) if d is not unreadable and self.tells(d))

    def tells(self, damage: Damage) -> bool:
        return damage is not newer or self.has_version

    def after(self, damage: Damage) -> Ends:
        return Ends.REFUSES if damage is newer else self.but.get(damage, self.ends)


OF_A_FOLDER: Final[Mapping[Damage, Ends]] = {a_folder: Ends.REFUSES}
FILES: Final[Mapping[str, Row]] = {
    "agent.lock": Row(ends=Ends.GOES_ON, why="nothing is in it", but=OF_A_FOLDER),
    "clock.json": Row(
        ends=Ends.GOES_ON, why="the record of consents knows a time", has_version=True
    ),
    "consent.jsonl": Row(
        ends=Ends.SHUT, why="it is put aside whole", but=OF_A_FOLDER, has_version=True
    ),
    "device.key": Row(ends=Ends.REFUSES, why="only a new enrolment makes another"),
    "device.pem": Row(ends=Ends.GOES_ON, why="the collector gives another, or says why not"),
    "enrolment.json": Row(
        ends=Ends.REFUSES, why="nobody knows whose device it is", has_version=True
    ),
    "guard-keys.json": Row(ends=Ends.GOES_ON, why="they are fetched again", has_version=True),
    "guard-orders.json": Row(ends=Ends.GOES_ON, why="they are heard again", has_version=True),
    "log-*.json": Row(
        ends=Ends.GOES_ON, why="what the log shows from then on is held to", has_version=True
    ),
    "numbers.json": Row(ends=Ends.REFUSES, why="a number could be used twice", has_version=True),
    "policy-*.json": Row(ends=Ends.GOES_ON, why="what it allowed is not compared any more"),
    "tuf/in-force.json": Row(ends=Ends.SHUT, why="the collector has it"),
    "tuf/trusted-root.json": Row(ends=Ends.GOES_ON, why="the policy holds until its lease ends"),
    **{
        f"tuf/{name}.json": Row(ends=Ends.GOES_ON, why="what is in force stands in one file")
        for name in ("policy", "root_history/1.root", "snapshot", "targets", "timestamp")
    },
    "receipts/*.json": Row(ends=Ends.GOES_ON, why="they follow the record of consents"),
    "receipts/device.pem": Row(ends=Ends.GOES_ON, why="it is made from the key"),
    "spare-room": Row(ends=Ends.GOES_ON, why="nothing is in it"),
    "spool/sent.jsonl": Row(
        ends=Ends.GOES_ON, why="what cannot be read is kept", but=OF_A_FOLDER, has_version=True
    ),
    "spool/deletions/*.json": Row(ends=Ends.GOES_ON, why="its name says all"),
    "spool/ready/*.frame": Row(ends=Ends.GOES_ON, why="it is refused alone"),
    "spool/ready/*.local": Row(ends=Ends.GOES_ON, why="it is set aside", has_version=True),
}


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Workstation:
    """Return a workstation whose agent has left every file that it keeps, and ended."""
    station = Workstation.enrolled(tmp_path_factory.mktemp("lived"))

    async def life() -> None:
        async with capturing(station, Category.KEYS) as service:

            async def record() -> None:
                """Leave one more batch in the spool, its hold over."""
                await eventually(lambda: the(station, "context").is_open)
                await station.focus()
                station.clock.pass_by(0.5)
                await eventually(lambda: the(station, "input").is_open)
                before = sum(service.counters.kept.values())
                the(station, "input").emit(key(station))
                station.clock.pass_by(1)
                await eventually(lambda: sum(service.counters.kept.values()) > before)
                await station.tray.say(Pause())
                station.clock.pass_by(2)

            order = Order(
                origin=station.policy.collector.origin,
                subject=station.organisation.subject,
                category=Category.SCREEN,
                month="2026-01",
                at=WallInstant(1),
            )
            station.collector.orders = (sign_order(order, station.organisation.guard),)
            service.delivery.wake()
            await eventually(lambda: bool(service.programme.keys.orders.all))
            await record()
            await eventually(lambda: service.spool.number_sent() == 1)
            station.collector.reachable = False
            await station.tray.say(Resume())
            await record()
            await eventually(lambda: any(b.local.maybe_sent for b in service.spool.ready()))
            await station.tray.say(Forget(minutes=1))
            await station.tray.say(Resume())
            await record()
            await eventually(lambda: len(service.spool.ready()) == 1)

    asyncio.run(asyncio.wait_for(life(), 60))
    return station


def names(state: Path) -> set[str]:
    return {str(path.relative_to(state)) for path in state.rglob("*") if path.is_file()}


def start(station: Workstation) -> tuple[Ends, str]:
    """Return what comes of starting the agent, and its line or reason."""
    try:
        service = station.service()
    except (AssentError, OSError) as exc:
        return Ends.REFUSES, str(exc)
    reason = service.verdict.reasons[Category.KEYS]
    # That no tray runs yet is all that is wrong where nothing is.
    return Ends.GOES_ON if reason is Reason.INDICATOR_MISSING else Ends.SHUT, reason


@pytest.mark.parametrize("pattern", FILES)
def test_a_file_of_the_state_that_will_not_do_ends_as_the_table_says(
    pattern: str, lived: Workstation, tmp_path: Path
) -> None:
    """Half, empty, foreign, no text at all, a folder in its place, of a later version."""
    row = FILES[pattern]
    for damage in row.damages():
        home = tmp_path / damage.__name__
        shutil.copytree(lived.folder / "state", home / "state")
        [path, *_] = sorted((home / "state").glob(pattern))
        damage(path)
        before = {n: (home / "state" / n).read_bytes() for n in names(home / "state")}
        station = Workstation(
            folder=home, organisation=lived.organisation, policy=lived.policy, clock=lived.clock
        )
        station.collector = lived.collector
        ends, said = start(station)
        assert ends is row.after(damage), (damage.__name__, said)
        assert "\n" not in said
        if ends is Ends.REFUSES:
            assert path.name in said or home.name in said, said
            after = {n: (home / "state" / n).read_bytes() for n in before}
            assert after == before, damage.__name__


def test_every_file_of_the_state_is_in_the_table(lived: Workstation) -> None:
    """A new one without a row ends here."""
    state = lived.paths.state
    known = {str(path.relative_to(state)) for pattern in FILES for path in state.glob(pattern)}
    assert names(state) - known == set()
    assert [pattern for pattern in FILES if not list(state.glob(pattern))] == []


@pytest.mark.parametrize("folder", [".", "tuf", "tuf/root_history", "receipts", "spool"])
def test_a_start_removes_what_a_killed_write_left(
    folder: str, lived: Workstation, tmp_path: Path
) -> None:
    """Half of a file, under a name that nobody reads."""
    shutil.copytree(lived.folder / "state", tmp_path / "state")
    left = tmp_path / "state" / folder / ".file.json.4711.tmp"
    left.write_bytes(b"{")
    station = Workstation(
        folder=tmp_path, organisation=lived.organisation, policy=lived.policy, clock=lived.clock
    )
    station.collector = lived.collector
    start(station)
    assert not left.exists()
