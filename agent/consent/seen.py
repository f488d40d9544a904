"""The clock reading that this agent last believed, kept over restarts.

`anchor` is the reading against which the clocks are compared within one boot; it does not
move, or a clock set a little at a time would never be noticed.  `last` is the newest one.
"""

from pathlib import Path
from typing import Final

import msgspec

from agent.consent.clocks import disagreement
from agent.consent.standing import Standing
from agent.disk import Disk
from base import durable
from base.clock import NANOSECONDS, Now, why_implausible
from base.stored import Versioned, refuse_newer
from wire.errors import UNREADABLE

FILE_NAME: Final = "clock.json"
EVERY_NANOSECONDS: Final = 60 * NANOSECONDS  # what a crash may cost of what was seen


class _Saved(Versioned, frozen=True, kw_only=True, forbid_unknown_fields=True):
    boot_id: str
    anchor_boot: int
    anchor_wall: int
    last_wall: int


class SeenClock:
    """Compares each reading with the one that was believed."""

    def __init__(self, folder: Path, standing: Standing, now: Now, disk: Disk = durable) -> None:
        """*standing* has the times of the ledger's lines, which are older but safer.

        A line of this boot proves nothing where it is earlier than what was seen before this
        boot: a start that found the clock put back may have written it.

        Raises:
            NewerError: A later version of this program wrote the file.

        """
        self._path = folder / FILE_NAME
        self._disk = disk
        self._saved_at = 0
        saved = self._read()
        if saved is not None and saved.boot_id == now.boot_id:
            self.anchor = Now(boot=saved.anchor_boot, wall=saved.anchor_wall, boot_id=saved.boot_id)
            return
        last, confirmed = standing.last_seen, standing.clock_anchor
        before = max(standing.seen_before, saved.last_wall if saved is not None else 0)
        if last is None or last.boot_id != now.boot_id:
            before = max(before, last.wall if last is not None else 0)
        elif last.wall >= before or (confirmed is not None and confirmed.boot_id == now.boot_id):
            self.anchor = last
            return
        self.anchor = Now(boot=0, wall=before, boot_id="")

    def doubt(self, now: Now) -> str:
        """Return why the clock cannot be believed at *now*, or "" when it can."""
        why = self.why_not(now)
        if not why and self.anchor.boot_id != now.boot_id:
            self.anchor = now  # later than all that was seen before this boot
        if not why and now.boot - self._saved_at >= EVERY_NANOSECONDS:
            self.save(now)
        return why

    def why_not(self, now: Now) -> str:
        """Return the same as `doubt`, and remember nothing."""
        return why_implausible(now.wall) or disagreement(self.anchor, now)

    def believe(self, now: Now) -> None:
        """Take *now* as right: the data subject said so."""
        self.anchor = now
        self.save(now)

    def save(self, now: Now) -> None:
        """Keep *now* as the newest reading; a disk that refuses costs only that."""
        self._saved_at = now.boot
        saved = _Saved(
            boot_id=self.anchor.boot_id,
            anchor_boot=self.anchor.boot,
            anchor_wall=self.anchor.wall,
            last_wall=now.wall,
        )
        try:
            self._disk.replace(self._path, msgspec.json.encode(saved))
        except OSError:
            return

    def _read(self) -> _Saved | None:
        try:
            data = self._path.read_bytes()
            refuse_newer(data, self._path)
            return msgspec.json.decode(data, type=_Saved)
        except (OSError, *UNREADABLE):
            return None
