"""Sudden ends at random moments: which signals, when, and whether cores are left behind."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

CORE_PATTERN: Final = Path("/proc/sys/kernel/core_pattern")

_ABORTS: Final = """
import os, sys
kept = sys.stdin.readline().strip()
os.abort()
"""


def deaths(kills: int, cores: int, dice: random.Random) -> list[signal.Signals]:
    """Return that many SIGKILLs, and so many of each signal that leaves a core, shuffled."""
    ways = [signal.SIGKILL] * kills + [signal.SIGABRT, signal.SIGSEGV] * cores
    dice.shuffle(ways)
    return ways


@contextlib.contextmanager
def fuse(pid: int, how: signal.Signals, seconds: float) -> Iterator[threading.Event]:
    """Send *how* to *pid*, a child that nobody has waited for, after so long; tell when.

    Whoever leaves the block earlier waits for it: the moment is chance's, not the test's.
    """
    burnt = threading.Event()

    def burn() -> None:
        burnt.set()  # before the signal: who sees the end finds that it was wanted
        os.kill(pid, how)

    timer = threading.Timer(seconds, burn)
    timer.start()
    try:
        yield burnt
    except BaseException:
        timer.cancel()
        raise
    finally:
        timer.join()


def core_folders(folder: Path) -> list[Path]:
    """Return where this machine puts core files of programs that work in *folder*.

    None where it hands them to another program, as apport or systemd-coredump are.
    """
    pattern = CORE_PATTERN.read_text("ascii").strip()
    if pattern.startswith("|"):
        return []
    return [Path(pattern).parent if pattern.startswith("/") else folder]


def cores_in(folder: Path) -> list[Path]:
    """Return the core files below *folder*."""
    return [path for path in folder.rglob("core*") if path.is_file() and is_core(path)]


def is_core(path: Path) -> bool:
    """Whether *path* is an ELF core file."""
    with path.open("rb") as file:
        head = file.read(18)
    return head[:4] == b"\x7fELF" and head[16:18] == b"\4\0"


def leave_a_core(secret: str, folder: Path) -> list[Path]:
    """Abort a process that was told *secret* and works in *folder*; return its core files.

    The control of a search: what a program of ours would leave if it could be dumped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["prlimit", "--core=unlimited", "--", sys.executable, "-c", _ABORTS],
        input=secret.encode() + b"\n",
        cwd=folder,
        check=False,
    )
    return cores_in(folder)
