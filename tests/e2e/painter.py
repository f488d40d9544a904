"""A program whose window changes its colour on a schedule, and that writes down when.

Each line of the record is a colour's number, the time before it was painted and the time by
which the server had painted it (boot clock, ns).  Usage: painter.py RECORD SEED
"""

import random
import sys
import time
from pathlib import Path
from typing import Final

from Xlib import Xutil
from Xlib.display import Display

from base.clock import boot_ns

BOX: Final = (300, 200, 400, 300)
PAUSES: Final = ((0.02, 0.06), (0.06, 0.2), (0.2, 0.7), (1.2, 1.8))  # seconds, each as likely


def main(record: Path, seed: str) -> None:
    """Paint until terminated."""
    display = Display()
    window = display.screen().root.create_window(*BOX, 0, 24, background_pixel=0)
    window.set_wm_class("painter", "Painter")
    window.set_wm_name("painter")
    window.set_wm_normal_hints(flags=Xutil.USPosition | Xutil.USSize)
    window.map()
    display.sync()
    paint = window.create_gc(foreground=0)
    chance = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    with record.open("w", encoding="ascii", buffering=1) as out:
        for colour in range(1, 1 << 24):
            time.sleep(chance.uniform(*chance.choice(PAUSES)))
            before = boot_ns()
            paint.change(foreground=colour_of(colour))
            window.fill_rectangle(paint, 0, 0, BOX[2], BOX[3])
            display.sync()
            out.write(f"{colour} {before} {boot_ns()}\n")
            while display.pending_events():
                display.next_event()


def colour_of(number: int) -> int:
    """Return how a colour's number looks: red, green, blue; never black."""
    return 0x400000 | number


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
