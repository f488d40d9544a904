"""A stop and a halt of the whole programme, on the real desktop.

Nobody at the workstation does anything: it shuts by itself, says so, and records nothing of what
is typed until it may.  A stop lifts by itself; a halt asks everybody anew.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from base.clock import boot_ns
from demo.desktop import wait_until
from demo.organisation import Organisation, Plan
from demo.typist import Load
from demo.workstation import CONSENT, Workstation
from tests.e2e.opened import open_everything, wall_of
from tray.view import STOPPED, WORDS
from wire.category import Category
from wire.control import Reason

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WORK: Final = Load(keys=50, moves=50, clicks=1, text="abcdefghijklm", area=(100, 120, 300, 200))
SPYING: Final = Load(keys=50, moves=50, clicks=1, text="nopqrstuvwxyz", area=WORK.area)
"""What is typed while the programme stands still: none of the letters that may be recorded."""
LETTERS: Final = 40
HALTED: Final = Reason.HALTED_BY_ORG
PATIENCE: Final = 60.0  # ten are promised and tested (`test_many_agents`), here it is busy


def records(status: dict[str, Any]) -> bool:
    return len(status["recording"]) == len(Category)


def stands_still(status: dict[str, Any]) -> bool:
    return status["reason"] == HALTED and not status["recording"]


class Desk:
    """A person at work, and what is typed there while the programme stands still."""

    def __init__(self, station: Workstation) -> None:
        self.station = station
        self.silences: list[tuple[int, int]] = []  # from when until when, wall clock

    def work(self) -> None:
        """Type what is recorded, until some of it is kept."""
        station = self.station
        station.person.activate("work")
        station.wait_for_status("recording", records, PATIENCE)
        before = station.status()["kept"].get("keys", 0)
        station.typist.start(WORK)
        enough = before + LETTERS
        station.wait_for_status("keys", lambda s: s["kept"].get("keys", 0) >= enough, PATIENCE)
        station.typist.stop()

    def is_shut_by(self, act: Callable[[], object], says: str, picture: Path) -> dict[str, Any]:
        """Type on while *act* shuts it, and from then on what nobody may see; return the status."""
        station = self.station
        station.typist.start(WORK)
        act()
        status = station.wait_for_status("the end", stands_still, PATIENCE)
        since = wall_of(boot_ns())
        station.typist.start(SPYING)
        kept = station.status()["kept"]  # what was older than the hold-back is counted by now
        before = len(station.typist.sent())
        wait_until(
            "what nobody may see", lambda: len(station.typist.sent()) >= before + 4 * LETTERS
        )
        wait_until(
            f"the menu to say {says}",
            lambda: says in [row.label for row in station.person.tray_menu()],
        )
        station.typist.stop()  # whose clicks would take the focus from what is closed below
        station.person.click_tray("What may be recorded…", screenshot=picture)
        station.person.close_window(CONSENT)
        station.person.wait_until_gone(CONSENT)
        assert station.status()["kept"] == kept, "something was let in"
        self.silences.append((since, wall_of(boot_ns())))
        return status

    def check_silences(self, organisation: Organisation, folder: Path, gap: str) -> None:
        """Open everything: nothing of a silence is there, what comes before and after is."""
        self.station.pause()
        self.station.wait_until_sent()
        opened = open_everything(organisation, self.station, folder)
        assert not set(opened.text()) & set(SPYING.text)
        for since, until in self.silences:
            assert [e for e in opened.events if since < e["wall_ns"] < until] == []
            assert any(e["wall_ns"] < since for e in opened.presses())
            assert any(e["wall_ns"] > until for e in opened.presses())
        assert gap in opened.reasons_of_gaps()


@pytest.fixture
def organisation(tmp_path: Path) -> Iterator[Organisation]:
    """An organisation of its own: what one test halts, is halted for everybody."""
    plan = Plan(
        levels={"keys": "text"},
        rates={"keys": 1000.0, "pointer": 1000.0},
        hold_seconds=1,
        test_only=True,
    )
    with Organisation(tmp_path / "organisation", plan) as made:
        yield made


@pytest.fixture
def work(organisation: Organisation, desk: Path) -> Iterator[Desk]:
    """A desk at which everything is recorded."""
    with Workstation(desk, organisation.enrolment_file("desk")) as station:
        station.open_terminal()
        station.consent(*Category)
        made = Desk(station)
        made.work()
        yield made


def test_a_stop_by_the_guard_shuts_a_workstation_and_lifts_by_itself(
    organisation: Organisation, work: Desk, tmp_path: Path, pictures: Path
) -> None:
    """The council's guard stops the programme; when it says go on, nobody is asked again."""
    why = "the log is being looked at"
    status = work.is_shut_by(
        lambda: organisation.guard.run("stop", why), STOPPED, pictures / "stopped.png"
    )
    assert status["stopped"]
    organisation.guard.run("go-on")
    work.work()
    work.check_silences(organisation, tmp_path / "export", HALTED)


def test_a_halt_by_one_party_shuts_a_workstation_until_everybody_is_asked_again(
    organisation: Organisation, work: Desk, tmp_path: Path, pictures: Path
) -> None:
    """The council halts with its policy key alone; a policy signed by both parties lifts that.

    Then still nothing is recorded: first the person at the workstation agrees again.
    """
    statement = tmp_path / "halt.json"
    key = organisation.keys / "council/policy-key.pem"
    organisation.governance.run(
        *("halt", organisation.policy, "the dashboards show more than was agreed"),
        *("--key", key, "--out", statement),
    )
    status = work.is_shut_by(
        lambda: organisation.collector.run("halt", "--statement", statement),
        WORDS[Reason.HALTED_BY_ORG],
        pictures / "halted.png",
    )
    assert not status["stopped"]
    organisation.sign_policy()
    station = work.station
    asked = station.wait_for_status("the question", lambda s: s["reason"] != HALTED, PATIENCE)
    assert asked["reason"] == Reason.CONSENT_STALE
    assert not asked["recording"]
    station.consent(*Category)
    work.work()
    work.check_silences(organisation, tmp_path / "export", HALTED)
