"""The path of one event, from a keyboard to a recipient, under the policy that is the default.

One workstation is lived on for a while (`lived`); each test then looks at one promise.
"""

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pytest
from PIL import Image

from base import ipc
from base.errors import ExitCode
from base.pki import load_ed25519
from demo.organisation import Organisation, Plan
from demo.typist import Load
from demo.workstation import Workstation, children
from tests.e2e.opened import Opened, open_everything
from tests.e2e.test_strangers import check_signed, open_with_npm_age
from wire.category import Category
from wire.control import Answer, ConfirmClock, Grant, NoticeInSight, OptIn, Refused, Resume

pytestmark = [pytest.mark.e2e, pytest.mark.steady, pytest.mark.slow]

AREA: Final = (100, 120, 300, 200)  # inside the terminal
LISTED: Final = "listed"
PICTURED_SECONDS: Final = 60.0  # twice what lies between two key frames
UNLISTED: Final = "somewhere else"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """What came of the time at the workstation."""

    organisation: Organisation
    station: Workstation
    opened: Opened
    joined: Path
    typed: str  # into the listed program
    terminal_box: tuple[int, int, int, int]
    dropped: dict[str, int]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Iterator[Lived]:
    """Consent to everything, work in a listed and in another program, pause, read."""
    folder = tmp_path_factory.mktemp("whole")
    plan = Plan(hold_seconds=1)
    with (
        Organisation(folder / "organisation", plan) as organisation,
        Workstation(
            Path(tmp_path_factory.mktemp("w")), organisation.enrolment_file("whole")
        ) as station,
    ):
        station.open_terminal()
        station.consent(*Category, picture=pictures / "consent-window.png")
        station.person.activate("work")
        station.wait_for_status("recording", lambda s: len(s["recording"]) == len(Category))
        box = station.person.box("work")
        station.typist.start(Load(moves=20, clicks=1, scrolls=1, area=AREA))
        typed = work_until_pictured(station)
        station.typist.stop()
        time.sleep(1.0)
        station.desktop.run("other", ["zenity", "--entry", "--title", "other", "--text", "?"])
        station.person.activate("other", 20)
        time.sleep(0.5)
        station.typist.type_text(UNLISTED, keys_per_second=20)
        time.sleep(1.0)
        status = station.pause()
        station.wait_until_sent()
        opened = open_everything(organisation, station, folder / "export")
        joined = folder / "joined"
        organisation.reader.run("open", "--joined", joined)
        yield Lived(
            organisation=organisation,
            station=station,
            opened=opened,
            joined=joined,
            typed=typed,
            terminal_box=(box.x, box.y, box.width, box.height),
            dropped=status["dropped"],
        )


def work_until_pictured(station: Workstation) -> str:
    """Type into the window that has the focus until it was pictured; return what was typed.

    The desktop may not have said yet what has the focus when the first key frame is taken: that
    one is dropped, and pictures go on with the next key frame, half a minute later.
    """
    typed = ""
    deadline = time.monotonic() + PICTURED_SECONDS
    while len(typed) < len(LISTED * 4) or not station.status_now()["kept"].get("frames"):
        assert time.monotonic() < deadline, "the window is not pictured"
        station.typist.type_text(LISTED, keys_per_second=20)
        typed += LISTED
        time.sleep(0.2)
    return typed


def test_every_key_arrives_as_its_kind_and_without_its_character(lived: Lived) -> None:
    """Level classes: as many presses of kind letter are there as letters were typed, no text."""
    presses = lived.opened.presses()
    assert [press["kind"] for press in presses] == ["letter"] * len(lived.typed)
    assert {press["text"] for press in presses} == {""}
    assert {press["code"] for press in presses} == {0}


def test_pointer_window_and_pictures_arrive(lived: Lived) -> None:
    """Each category has its events, each event its number, none twice."""
    assert lived.opened.of("move")
    assert lived.opened.of("button")
    assert lived.opened.of("scroll")
    assert [e["window_class"] for e in lived.opened.of("focus")][:1] == ["XTerm"]
    assert lived.opened.of("frame")
    numbers = [(event["category"], event["sequence"]) for event in lived.opened.events]
    assert len(numbers) == len(set(numbers))


def test_what_is_typed_into_another_program_is_counted_and_goes_nowhere(lived: Lived) -> None:
    """A program that the policy does not list: no key, no name, no title, no picture."""
    assert lived.dropped["outside-scope"] >= 2 * len(UNLISTED)
    assert {e["process"] for e in lived.opened.of("focus")} == {"xterm"}
    assert "zenity" not in json.dumps(lived.opened.events)


def test_everything_outside_the_listed_window_is_black(lived: Lived) -> None:
    """Panel, background and other windows are not in any picture; the window itself is."""
    x, y, width, height = lived.terminal_box
    pictures = sorted(lived.opened.folder.rglob("*.png"))
    assert pictures
    for path in pictures:
        pixels = np.asarray(Image.open(path).convert("RGB")).copy()
        assert pixels[y : y + height, x : x + width].any()
        pixels[y : y + height, x : x + width] = 0
        assert not pixels.any(), path.name


def test_strangers_open_what_was_released(lived: Lived, tmp_path: Path) -> None:
    """A stranger's age opens each joined file; its body hashes to what the device signed."""
    identity = next(lived.organisation.reader.home.rglob("identity.txt"))
    secret = next(
        line for line in identity.read_text().splitlines() if line.startswith("AGE-SECRET")
    )
    key = load_ed25519(next(lived.station.agent.home.rglob("device.key")))
    stored = {path.name: path for path in lived.organisation.collector.home.rglob("*")}
    released = sorted(lived.joined.glob("*.age"))
    assert released
    for path in released:
        joined = path.read_bytes()
        assert open_with_npm_age(tmp_path, secret, joined)
        frame = next(each for name, each in stored.items() if name.startswith(path.stem))
        check_signed(joined, frame.read_bytes(), key.public_key())


@pytest.mark.parametrize(
    "command",
    [
        Grant(category=Category.KEYS, words_sha256=bytes(32)),
        OptIn(category=Category.KEYS),
        Resume(),
        NoticeInSight(for_ms=60_000, input_ms=0),
        ConfirmClock(),
    ],
    ids=lambda command: type(command).__name__,
)
def test_a_script_cannot_start_what_only_a_click_may(lived: Lived, command: msgspec.Struct) -> None:
    """Over the control socket each is refused in one line, and the pause goes on."""
    path = next(lived.station.folder.rglob("control.sock"))
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(str(path))
        ipc.send(channel, command)
        inbox: ipc.Inbox[Answer] = ipc.Inbox(Answer)
        assert inbox.receive(channel)
        (answer,) = inbox.messages()
    assert isinstance(answer, Refused)
    assert answer.why
    assert lived.station.status()["reason"] == "paused-until"


@pytest.mark.parametrize("word", ["resume", "grant", "opt-in"])
def test_a_command_that_would_start_says_who_can(lived: Lived, word: str) -> None:
    """`assent-agent resume` explains the tray and ends with the exit code of consent."""
    lived.station.agent.run(word, accept=(ExitCode.CONSENT,))


def test_quit_in_the_menu_ends_agent_sensors_and_tray(lived: Lived) -> None:
    """After "Quit (stops recording)" none of our processes is left on the workstation."""
    agent = lived.station.agent
    ours = [agent.pid, *children(agent.pid)]
    lived.station.person.click_tray("Quit (stops recording)")
    deadline = time.monotonic() + 10
    while agent.ended() is None:
        assert time.monotonic() < deadline, "the agent did not end"
        time.sleep(0.05)
    assert agent.ended() == 0
    assert [pid for pid in ours[1:] if Path(f"/proc/{pid}").exists()] == []
