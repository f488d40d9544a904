"""The witnesses beside the guard's own: asked for their cosignatures side by side.

Each may be away, hang, lie or be ahead of us, and none of that holds up the others: what
answers in time is looked at, what does not hold is left out, and as soon as there is enough
nobody is waited for.
"""

import base64
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from base.door import DoorError
from base.errors import SetupError
from collector.config import WitnessConfig
from collector.guard.client import LONGEST_SIZE, witness_door
from collector.log import Log
from collector.premises import Premises

_log: Final = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 10.0  # for all of them together
_CORRECTIONS: Final = 2


class WitnessDoor:
    """The way to one witness.  May be used by several threads; one head at a time."""

    def __init__(self, premises: Premises, config: WitnessConfig) -> None:
        """Prepare the door.

        Raises:
            SetupError: The authority of its server is missing.

        """
        path = premises.witness_authority(config.origin)
        try:
            authority = path.read_text("ascii")
        except (OSError, ValueError) as exc:
            raise SetupError(f"{path} is unreadable; run connect-witness again") from exc
        self.origin = config.origin
        self._door = witness_door(config, authority)
        self._busy = threading.Lock()
        self._seen = 0  # how much of the log, as far as we know; it corrects us

    def cosign(self, log: Log, note: str, size: int) -> str:
        """Return what the witness answers to the head *note* over *size* leaves; "" if nothing."""
        if not self._busy.acquire(blocking=False):
            _log.warning("the witness %s is still busy with an earlier head", self.origin)
            return ""
        try:
            return self._cosign(log, note, size)
        except (DoorError, ValueError) as exc:  # ValueError: what it says is no size, no text
            _log.warning("the witness %s did not cosign: %s", self.origin, exc)
            return ""
        finally:
            self._busy.release()

    def _cosign(self, log: Log, note: str, size: int) -> str:
        for _ in range(1 + _CORRECTIONS):
            if self._seen > size:
                _log.warning("the witness %s has seen more of the log", self.origin)
                self._seen = 0  # ask anew: it may have said so wrongly
                return ""
            proof = log.consistency(self._seen, size)
            lines = [f"old {self._seen}", *(base64.b64encode(step).decode() for step in proof)]
            body = ("\n".join(lines) + "\n\n" + note).encode()
            answer = self._door.request("POST", "/add-checkpoint", body)
            if answer.status == 200:
                self._seen = size
                return answer.body.decode("utf-8")
            said = answer.body.strip()
            if answer.status != 409 or not said.isdigit() or len(said) > LONGEST_SIZE:
                _log.warning("the witness %s refused with status %d", self.origin, answer.status)
                return ""
            self._seen = int(said)
        _log.warning("the witness %s does not keep to how much it has seen", self.origin)
        return ""


def ask_all(
    doors: Sequence[WitnessDoor],
    log: Log,
    note: str,
    size: int,
    enough: Callable[[Sequence[str]], bool],
    patience_seconds: float = PATIENCE_SECONDS,
) -> list[str]:
    """Return what the witnesses answer, as soon as that is *enough*, or no more comes in time."""
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    for door in doors:
        # Daemons: one that hangs is waited for by nobody, not even at the end.
        threading.Thread(
            target=lambda door=door: answers.put(door.cosign(log, note, size)),
            name="witness",
            daemon=True,
        ).start()
    until, lines = time.monotonic() + patience_seconds, list[str]()
    for _ in doors:
        if enough(lines):
            break
        try:
            lines.append(answers.get(timeout=max(0.0, until - time.monotonic())))
        except queue.Empty:
            break
    return lines
