"""What a data subject is told outside the workstation: a yes or a no that came in their name.

A program on the workstation can forge a click, and the data subject would not see it there.
So every consent, and what becomes of it, is told in another way: by mail, by letter.  A
notice is written in the same transaction as its leaf; `deliver` hands it as JSON to the
operator's `notify_command` until that ends with 0.  A crash in between tells it again,
with the same `id`; none is lost.  A notice names the label that the operator gave the
device (`assent-collector token --for`), what was agreed to and when; never content.
"""

import logging
import subprocess
import threading
from collections.abc import Callable
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, or_, select, update

from base.clock import NANOSECONDS
from base.errors import AssentError
from collector.auth import Device
from collector.index import Index
from collector.index.tables import devices, notices
from wire.category import registry
from wire.consent_record import ConsentRecord
from wire.ids import GrantHash, WallInstant
from wire.linked import ConsentState, instant

_log = logging.getLogger(__name__)

COMMAND_SECONDS: Final = 60
CLAIM_SECONDS: Final = 90  # then another collector may take it up
FIRST_WAIT_SECONDS: Final = 60
LARGEST_WAIT_SECONDS: Final = 3600
LOOK_SECONDS: Final = 5.0  # the command line may have added a label


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What `notify_command` reads from its standard input, as JSON."""

    id: str  # the same when it is told again
    to: str  # the label of the device
    state: ConsentState
    category: str
    title: str  # of the category, in words
    level: str
    programme: str
    controller: str
    purpose: str
    record: str  # its id, as in the data subject's receipt
    at: str  # when, as the device says
    received: str  # when it came here


def note(
    connection: Connection,
    device: Device,
    record: ConsentRecord,
    grant: GrantHash,
    state: ConsentState,
    at: WallInstant,
    now: WallInstant,
) -> None:
    """Write a notice in the caller's transaction, if anybody said to whom."""
    label = connection.execute(
        select(devices.c.label).where(devices.c.device == device.id)
    ).scalar()
    if not label:
        return
    notice = Notice(
        id=f"{grant.hex()[:16]}-{state.removeprefix('dpv:')}",
        to=label,
        state=state,
        category=record.category,
        title=registry()[record.category].title,
        level=record.level,
        programme=record.programme,
        controller=record.controller.name,
        purpose=record.purpose.words,
        record=record.record_id,
        at=instant(at),
        received=instant(now),
    )
    connection.execute(
        notices.insert().values(
            grant=grant, state=state, notice=msgspec.json.encode(notice), made_at=now, tries=0
        )
    )


def untold(connection: Connection) -> int:
    """Return how many notices nobody has been given yet."""
    query = select(func.count()).select_from(notices).where(notices.c.told_at.is_(None))
    return int(connection.execute(query).scalar_one())


def _due(connection: Connection, now: WallInstant) -> Row[Any] | None:
    """Return the oldest notice that is to be told now; one that waits for years was misdated."""
    longest = now + LARGEST_WAIT_SECONDS * NANOSECONDS
    next_at = notices.c.next_at
    return connection.execute(
        select(notices)
        .where(notices.c.told_at.is_(None))
        .where(or_(next_at.is_(None), next_at <= now, next_at > longest))
        .order_by(notices.c.number)
        .limit(1)
    ).one_or_none()


class Messenger:
    """Delivers notices from a thread of its own, one after the other, the oldest first."""

    def __init__(self, index: Index, command: str, now: Callable[[], WallInstant]) -> None:
        """Nothing is delivered yet; see `start`."""
        self._index = index
        self._command = command
        self._now = now
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)

    def start(self) -> None:
        """Deliver until `stop`; at once what an earlier run left."""
        if self._command:
            self._thread.start()

    def stop(self) -> None:
        """End; what was not delivered is delivered by the next run."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def deliver(self) -> bool:
        """Deliver one notice that is due; return False when there is none."""
        now = self._now()
        with self._index.reading() as connection:
            row = _due(connection, now)
        if row is not None and self._index.is_shared:
            row = self._claimed(now)
        if row is None:
            return False
        said = self._hand_over(row.notice)
        # A crash here leaves a notice that was told and not marked: it is told again.
        tries = row.tries + 1
        wait = min(FIRST_WAIT_SECONDS * 2 ** min(row.tries, 10), LARGEST_WAIT_SECONDS)
        values: dict[str, object] = {"tries": tries, "told_at": self._now()}
        if said:
            values = {"tries": tries, "next_at": now + wait * NANOSECONDS}
            _log.warning("a notice could not be delivered (try %d): %s", tries, said)
        with self._index.writing() as connection:
            connection.execute(
                update(notices).where(notices.c.number == row.number).values(**values)
            )
        return True

    def _claimed(self, now: WallInstant) -> Row[Any] | None:
        """Return a notice that is due, which no other collector takes up meanwhile."""
        with self._index.writing() as connection:
            row = _due(connection, now)
            if row is not None:
                connection.execute(
                    update(notices)
                    .where(notices.c.number == row.number)
                    .values(next_at=now + CLAIM_SECONDS * NANOSECONDS)
                )
        return row

    def _hand_over(self, notice: bytes) -> str:
        """Return why it did not work, or an empty text."""
        try:
            done = subprocess.run(
                [self._command],
                input=notice + b"\n",
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"notify_command took more than {COMMAND_SECONDS} s and was ended"
        except OSError as exc:
            return f"notify_command cannot be run: {exc.strerror}"
        return f"notify_command ended with {done.returncode}" if done.returncode else ""

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                if self.deliver():
                    continue
            except AssentError as exc:
                _log.warning("notices wait: %s", exc)
            self._over.wait(LOOK_SECONDS)
