"""One agent at a time: two would capture twice and number alike."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from base.errors import SetupError

FILE_NAME: Final = "agent.lock"


class Lock:
    """The lock of the agent whose state is in *folder*, held from now on until `release`."""

    def __init__(self, folder: Path) -> None:
        """Take it.

        Raises:
            SetupError: Another process holds it.

        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(folder / FILE_NAME, flags, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise SetupError(
                "another agent of yours runs already; see `assent-agent status`"
            ) from None

    def release(self) -> None:
        """Let go; the kernel does the same for a process that is killed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the lock of the agent whose state is in *folder*.

    Raises:
        SetupError: Another process holds it.

    """
    lock = Lock(folder)
    try:
        yield
    finally:
        lock.release()
