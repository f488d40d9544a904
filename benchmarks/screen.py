"""A look at the screen (grab, blank what is another's, compare, encode) against a bare grab.

The desk is a terminal in which text moves; looks come ten times a second, as often as the
largest rate that a policy is likely to ask for.
"""

import time
from collections.abc import Callable
from typing import Final

import mss

from agent.capture.frames import FrameEncoder
from agent.capture.screen import BACKEND, Grabber
from agent.geometry import Box
from agent.redact import pixels
from agent.redact.pixels import View
from base.clock import boot_ns
from benchmarks.desk import desk
from benchmarks.result import Row
from demo.desktop import VirtualDesktop
from wire.event import Frame
from wire.ids import BootInstant

LOOKS: Final = 60
INTERVAL_SECONDS: Final = 0.1
WINDOW: Final = Box(40, 60, 914, 719)  # about where the terminal is


def run() -> list[Row]:
    """Return processor milliseconds and bytes for each look."""
    with desk() as (desktop, _typist):
        frames: list[Frame] = []
        mine = _cpu_of_looks(_ours(desktop, frames))
        bare = _cpu_of_looks(_floor(desktop))
    changed = frames[1:]  # the first is a key frame
    size = sum(len(part.pixels) for frame in changed for part in frame.rectangles)
    return [
        Row(
            bench="screen",
            what="a look: grab, blank, compare, encode",
            ours=mine * 1e3,
            floor=bare * 1e3,
            unit="CPU ms",
            more_is_better=False,
            best_known="5.7 ms (changed box + zstd)",
        ),
        Row(
            bench="screen",
            what="kB of a changed frame, floor: its raw pixels",
            ours=size / max(1, len(changed)) / 1e3,
            floor=WINDOW.width * WINDOW.height * 3 / 1e3,
            unit="kB",
            more_is_better=False,
            best_known="11.5 kB, on a calmer desk",
        ),
    ]


def _ours(desktop: VirtualDesktop, frames: list[Frame]) -> Callable[[], None]:
    grabber, encoder = Grabber(display=desktop.env["DISPLAY"]), FrameEncoder()
    grabber.open()
    whole, view = grabber.desktop(), View(box=WINDOW, covered=())

    def look() -> None:
        grabbed = grabber.grab(WINDOW)
        picture = pixels.blank(grabbed, view)
        frame = encoder.encode(BootInstant(boot_ns()), whole, WINDOW, picture)
        if frame is not None:
            frames.append(frame)

    return look


def _floor(desktop: VirtualDesktop) -> Callable[[], None]:
    connection = mss.MSS(backend=BACKEND, display=desktop.env["DISPLAY"])
    left, top, width, height = WINDOW
    where = {"left": left, "top": top, "width": width, "height": height}

    def grab() -> None:
        connection.grab(where)

    return grab


def _cpu_of_looks(look: Callable[[], object]) -> float:
    """Return processor seconds of one look; between looks the terminal writes."""
    used = 0.0
    for _ in range(LOOKS):
        began = time.process_time()
        look()
        used += time.process_time() - began
        time.sleep(INTERVAL_SECONDS)
    return used / LOOKS
