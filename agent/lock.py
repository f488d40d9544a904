"""One agent at a time: two would capture twice and number alike."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from base.errors import SetupError

FILE_NAME: Final = "agent.lock"


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the lock of the agent whose state is in *folder*.

    Raises:
        SetupError: Another process holds it.

    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(folder / FILE_NAME, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise SetupError("another agent of yours runs already; see `assent-agent status`") from None
    finally:
        os.close(descriptor)
