"""What every process that sees plaintext, or holds a secret key, does to itself before.

Nothing it makes is for others, whatever umask it was started with.  Not dumpable: no core
file, no ptrace by another process of the same user, /proc entries owned by root (Linux
prctl(2), PR_SET_DUMPABLE).  Children die with their parent (PR_SET_PDEATHSIG), so no sensor
outlives the agent that can stop it.
"""

import ctypes
import os
import resource
import signal
from typing import Final

from base.errors import SetupError

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4


def become_undumpable() -> None:
    """Forbid core files and tracing of this process, and keep others out of what it writes.

    Raises:
        SetupError: The kernel refused; plaintext must not be touched then.

    """
    os.umask(0o077)
    forbid_tracing()


def forbid_tracing() -> None:
    """Forbid core files and tracing of this process: for one that holds a key, and sees no more.

    What it writes for others stays readable to them.

    Raises:
        SetupError: The kernel refused; no key must be read then.

    """
    forbid_core_files()
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise SetupError(f"this process cannot be made undumpable: errno {ctypes.get_errno()}")


def forbid_core_files() -> None:
    """Forbid core files of this process, and of all that it starts: keys would be in them."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def die_with_parent(parent: int) -> None:
    """End this process (SIGKILL) as soon as its parent, process id *parent*, ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(0)
