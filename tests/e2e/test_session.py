"""Somebody locks the session in the middle of typing: what is typed while locked is nowhere.

The desktop has a system bus of its own, with python-dbusmock's logind on it.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from demo.organisation import Organisation
from demo.workstation import Workstation
from tests.e2e.opened import open_everything
from tests.fakes import buses
from tests.fakes.buses import Logind
from wire.category import Category

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.steady,
    pytest.mark.slow,
    pytest.mark.skipif(bool(buses.missing()), reason=buses.missing()),
]

T = TypeVar("T")
SETTLED_SECONDS: Final = 0.3  # after a change of focus nothing counts as inside for 0.1 s
BEFORE, LOCKED, AFTER = "abcdefghijklm", "qzxwvutsrp", "nopnopnop"


@pytest.fixture
def system_bus(desk: Path) -> Iterator[str]:
    """Run a system bus beside the desktop."""
    yield from buses.bus(desk, "system")


def test_nothing_typed_while_logind_says_locked_is_in_what_is_opened(
    system_bus: str,
    text_organisation: Organisation,
    desk: Path,
    tmp_path: Path,
) -> None:
    """Locked between two words: the first and the third are there, the second is not."""
    variables = {
        "DBUS_SYSTEM_BUS_ADDRESS": system_bus,
        "XDG_SESSION_ID": buses.OUR_SESSION,
    }
    enrolment = text_organisation.enrolment_file("locked")
    station = Workstation(desk, enrolment, variables)

    with elsewhere() as do, station:
        logind = do(Logind(system_bus).__aenter__())
        try:
            do(logind.log_in())
            station.open_terminal()
            station.consent(*Category)
            station.person.activate("work")
            station.wait_for_status("recording", records_everything)
            station.typist.type_text(BEFORE)
            station.wait_for_status("the keys", lambda s: s["kept"].get("keys", 0) >= 26)
            do(logind.change(LockedHint=True))
            shut = station.wait_for_status("the lock", lambda s: s["reason"] == "session-blocked")
            assert "It is locked (logind)" in shut["detail"]
            assert not shut["recording"]
            station.typist.type_text(LOCKED)
            do(logind.change(LockedHint=False))
            kept = station.wait_for_status("recording", records_everything)["kept"]["keys"]
            time.sleep(SETTLED_SECONDS)
            station.typist.type_text(AFTER)
            station.wait_for_status("more", lambda s: s["kept"]["keys"] >= kept + 18)
        finally:
            do(logind.__aexit__())
        station.wait_for_status("its end", lambda s: "does not answer" in s["detail"])
        station.wait_until_sent()
        opened = open_everything(text_organisation, station, tmp_path / "export")
        assert opened.text() == BEFORE + AFTER
        assert "session-blocked" in opened.reasons_of_gaps()


def records_everything(status: dict[str, Any]) -> bool:
    """Whether every category is recorded."""
    return len(status["recording"]) == len(Category)


@contextlib.contextmanager
def elsewhere() -> Iterator[Callable[[Coroutine[Any, Any, T]], T]]:
    """Run coroutines in a thread of their own; the person at the desktop has another loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_virtual_desktop_without_a_login_manager_records(
    text_organisation: Organisation, desk: Path
) -> None:
    """Its system bus is its own and is not there; it says what it takes as the proof."""
    with Workstation(desk, text_organisation.enrolment_file("bare")) as station:
        station.open_terminal()
        station.consent(Category.KEYS)
        station.person.activate("work")
        station.wait_for_status("recording", lambda s: s["recording"] == ["keys"])
        said = station.agent.run("doctor", accept=(0, 1, 2, 3, 4, 5))
        assert "no login manager on this machine" in said or "Xvfb hangs on no seat" in said
