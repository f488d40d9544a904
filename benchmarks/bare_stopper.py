"""The floor of a stop: a process that watches input as barely as can be, and stops when told.

It selects raw events by way of libXi, through ctypes, and reads them away.  Each line on standard
input is a command: `stop` takes the mask back, waits for the server's word, and writes and syncs
one line to FILE; `go` selects again.  Each is answered with the boot instants, in nanoseconds, at
which the server had confirmed it and at which all of it was done.

    python -m benchmarks.bare_stopper FILE
"""

import ctypes
import os
import select
import sys
from typing import Final

from base.clock import boot_ns
from benchmarks.bare_counter import EVENT_BYTES, Selection

LINE: Final = b"x" * 512  # what a line of the record of consents takes, about


def main() -> None:
    """Serve until standard input ends."""
    selection = Selection()
    event = ctypes.create_string_buffer(EVENT_BYTES)
    file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    selection.select(wanted=True)
    commands = sys.stdin.buffer
    answer(0, 0)
    while True:
        while selection.x.XPending(selection.display):
            selection.x.XNextEvent(selection.display, event)
        if commands not in select.select([selection.connection, commands], [], [])[0]:
            continue
        line = commands.readline()  # each is answered before the next is sent
        if not line:
            return
        selection.select(wanted=line == b"go\n")
        confirmed = boot_ns()
        if line == b"stop\n":
            os.write(file, LINE)
            os.fsync(file)
        answer(confirmed, boot_ns())


def answer(confirmed: int, done: int) -> None:
    """Say both instants."""
    sys.stdout.write(f"{confirmed} {done}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
