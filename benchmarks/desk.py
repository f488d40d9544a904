"""The desktop on which the benchmarks measure, and the load of a person who works."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from demo.desktop import VirtualDesktop
from demo.typist import Load, Typist

ROOT: Final = Path(__file__).resolve().parents[1]
TYPICAL: Final = Load(keys=20, moves=200, clicks=1, scrolls=2)
"""Twenty keys and two hundred pointer moves a second: a person who is really busy."""
INPUT_SECONDS: Final = 12.0
WRITER: Final = """
import itertools, random, time
words = "alpha beta gamma delta invoice total customer ledger".split()
words = random.Random(7).choices(words, k=999)
for n in itertools.count():
    print(f"{n:06}", *words[n % 900:n % 900 + 14], flush=True)
    time.sleep(0.1 if n > 60 else 0)
"""  # the screen is full before the first look, so that each line moves all others


@contextmanager
def desk() -> Iterator[tuple[VirtualDesktop, Typist]]:
    """Yield a desktop with a terminal whose text moves, and a typist at it."""
    with tempfile.TemporaryDirectory(prefix="assent-bench-") as folder:
        where = Path(folder)
        with VirtualDesktop(where / "desktop", panel=False, accessibility=False) as desktop:
            write_on(desktop)
            with Typist(desktop.env, where / "typed.jsonl") as typist:
                yield desktop, typist


def write_on(desktop: VirtualDesktop) -> None:
    """Open a terminal in which a line is written ten times a second."""
    command = ["xterm", "-geometry", "150x55+40+60", "-T", "scroller", "-e", sys.executable]
    desktop.run("scroller", [*command, "-c", WRITER])


class Counter:
    """A bare counter of input events on a desktop (`bare_counter`), at work until `stop`."""

    def __init__(self, desktop: VirtualDesktop, kind: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bare_counter", kind],
            env=desktop.env | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._line() != "ready":
            raise RuntimeError(f"the bare {kind} counter did not start")

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def stop(self) -> int:
        """End it; return how many events it has counted."""
        self._process.terminate()
        counted = int(self._line())
        self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return counted

    def _line(self) -> str:
        stream = self._process.stdout
        return "" if stream is None else stream.readline().strip()
