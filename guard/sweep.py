"""While a guard serves: keys whose retention is over are erased, hourly, from its start on."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from base.clock import why_implausible
from base.errors import AssentError
from guard.assembly import Guard
from guard.expiry import LOOK_SECONDS
from wire.errors import WireError
from wire.ids import WallInstant
from wire.policy import decode_policy

_log = logging.getLogger(__name__)
ENDS_IN_SECONDS: Final = 10.0  # a look takes no longer; then the process ends all the same


def look(guard: Guard) -> int:
    """Erase what has run out by now; return how many keys.

    Of the installed policy, valid or not: keys run out also when it has.

    Raises:
        AssentError: The file cannot be used now.
        WireError: The installed policy cannot be read.

    """
    wall = guard.clock.now().wall
    if why_implausible(wall):
        return 0
    installed = guard.policy_set()
    policy = None if installed is None else decode_policy(installed.policy)
    gone = guard.keys.let_run_out(policy, WallInstant(wall))
    if gone:
        _log.info("keys were erased whose retention is over")
    return gone


@contextmanager
def sweeping(guard: Guard, every_seconds: float = LOOK_SECONDS) -> Iterator[None]:
    """Look at once and then each *every_seconds*, until the block ends."""
    ended = threading.Event()

    def looks() -> None:
        while True:
            try:
                look(guard)
            except (AssentError, WireError) as exc:
                _log.error("keys whose retention is over wait: %s", exc)
            if ended.wait(every_seconds):
                return

    thread = threading.Thread(target=looks, name="sweep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(ENDS_IN_SECONDS)
