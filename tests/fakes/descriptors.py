"""What this process has open, to tell what a test left open from what others let go meanwhile."""

import gc
from collections import Counter
from pathlib import Path


def descriptors() -> Counter[str]:
    """Return what is open: files by path, sockets and pipes by number, other kinds by name.

    What nobody holds any more is closed first, so that it cannot make up for a leak later.
    """
    gc.collect()
    return _open()


def left_open(before: Counter[str]) -> Counter[str]:
    """Return what is open now and was not *before*; what waits to be collected is a leak, too."""
    return _open() - before


def _open() -> Counter[str]:
    found = Counter[str]()
    for entry in Path("/proc/self/fd").iterdir():
        if entry.is_symlink():  # the one that lists this folder is gone by then
            found[str(entry.readlink())] += 1
    return found
