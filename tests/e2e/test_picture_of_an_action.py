"""The picture of an action is what the person saw, or it is called missing; never a stale one.

A window changes its colour at random moments and writes down when; clicks and wheel steps
come at others.  The exported picture of each has a colour that was there just before it.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from PIL import Image

from base.clock import SystemClock, boot_ns
from demo.organisation import Organisation, Plan
from demo.typist import Load
from demo.workstation import Workstation
from tests.conftest import Size
from tests.e2e.opened import open_everything
from tests.e2e.painter import BOX, colour_of
from wire.category import Category

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

AREA: Final = (BOX[0] + 100, BOX[1] + 100, 200, 100)  # inside the window, wherever its frame
PROGRAM: Final = Path("/proc/self/exe").readlink().name
LATEST_AGE: Final = 100_000_000  # ns; the promise, whatever the reader says
STAMPS: Final = 5_000_000  # ns: two programs and the server do not date alike


@dataclass(frozen=True, slots=True)
class Painted:
    """A colour, and when it was on the screen: surely not before, surely not after."""

    colour: int
    since: int
    until: int


@pytest.fixture(params=[20.0, 2.0], ids=["fast", "slow"])
def station(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, desk: Path
) -> Iterator[tuple[Workstation, Organisation]]:
    """Return a workstation that records the painter's window, and its organisation."""
    plan = Plan(
        applications=(f"{PROGRAM}:Painter",),
        rates={"screen": request.param, "pointer": 1000.0},
        hold_seconds=1,
    )
    folder = tmp_path_factory.mktemp("organisation")
    with (
        Organisation(folder, plan) as organisation,
        Workstation(desk, organisation.enrolment_file("painter")) as station,
    ):
        yield station, organisation


@pytest.mark.soak
def test_the_picture_of_each_click_was_on_the_screen_just_before_it(
    station: tuple[Workstation, Organisation],
    tmp_path: Path,
    size: Size,
    figure: Callable[[str], None],
) -> None:
    """Complete before it, at most 100 ms older than what was there, or marked as missing."""
    desk, organisation = station
    painter = Path(__file__).with_name("painter.py")
    root = str(painter.parents[2])
    record = desk.folder / "painted"
    desk.desktop.run("painter", [sys.executable, str(painter), str(record), "7"], PYTHONPATH=root)
    desk.person.activate("painter", 20)
    desk.consent(Category.POINTER, Category.SCREEN)
    desk.person.activate("painter")
    desk.wait_for_status("pictures", lambda s: s["kept"].get("frames", 0) > 0)
    desk.typist.start(Load(moves=20, clicks=4.1, scrolls=2.3, area=AREA))
    time.sleep(size(share=10, full=120))
    desk.typist.stop()
    clocks = SystemClock().now()
    wall_less_boot = clocks.wall - clocks.boot
    time.sleep(1.5)  # longer than the hold-back
    desk.pause()
    desk.wait_until_sent()
    opened = open_everything(organisation, desk, tmp_path / "export")

    injected = list(zip(desk.typist.events(), desk.typist.sent(), strict=True))
    done = [(line, by) for line, by in injected if line["kind"] != "move"]
    presses = [(line, by) for line, by in done if line.get("pressed", True)]
    actions = [e for e in opened.events if is_action(e)]
    assert kinds(actions) == [line["kind"] for line, _ in presses]
    found: Counter[str] = Counter()
    for (line, by), action in zip(presses, actions, strict=True):
        if action["frame"] is None:
            found[action["frame_missing"]] += 1
            continue
        found["found"] += 1
        completed = frame_of(opened.events, action["frame"])["wall_ns"] - wall_less_boot
        assert completed <= by
        seen = colour_in(opened.folder / action["frame"])
        shown = painted(record)[seen]
        assert shown.since <= by, "it shows what came after the click"
        assert shown.until >= line["at"] - LATEST_AGE - STAMPS, "it is a stale one"
    share = 100 * found["found"] / len(actions)
    figure(f"{share:.1f} % of {len(actions)} actions have their picture; {dict(found)}")
    assert found["found"] > 0
    assert set(found) <= {"found", "screen-changed", "no-picture"}


def is_action(event: dict[str, Any]) -> bool:
    """Whether it is one of the typist's clicks or wheel steps; the person's own are elsewhere."""
    x, y, width, height = AREA
    inside = x <= event.get("x", 0) <= x + width and y <= event.get("y", 0) <= y + height
    return inside and "frame" in event


def kinds(actions: list[dict[str, Any]]) -> list[str]:
    """Return of which kind each is."""
    return [action["type"] for action in actions]


def frame_of(events: list[dict[str, Any]], image: str) -> dict[str, Any]:
    """Return the frame event that has this picture."""
    (frame,) = (e for e in events if e["type"] == "frame" and e["image"] == image)
    return frame


def colour_in(picture: Path) -> int:
    """Return the number of the colour that a picture shows; 0 before the first was painted."""
    x, y, width, height = AREA
    with Image.open(picture) as image:
        area = image.convert("RGB").crop((x, y, x + width, y + height))
    colours = {area.getpixel((across, down)) for across in (0, width - 1) for down in (0, 99)}
    (pixel,) = colours
    assert isinstance(pixel, tuple)
    red, green, blue = map(int, pixel)
    colour = red << 16 | green << 8 | blue
    return colour - colour_of(0) if colour else 0


def painted(record: Path) -> list[Painted]:
    """Return each colour by its number, the black one before them first."""
    lines = [tuple(map(int, line.split())) for line in record.read_text("ascii").splitlines()]
    starts = [(0, 0, 0), *lines]
    ends = [after for _, _, after in lines] + [boot_ns()]
    return [
        Painted(colour, before, end) for (colour, before, _), end in zip(starts, ends, strict=True)
    ]
