"""What may not be kept any longer goes by itself: a tombstone, and nothing left to open.

The last day stands in each batch, by the policy under which it was recorded.  Readers get
nothing of it from then on (`collector.release.frames`), nor does the guard release it; here its
bytes go too, also during a halt.  A crash in between is put right as for every deletion.
"""

import logging

from sqlalchemy import select

from collector.assembly import Collector
from collector.index.tables import batches
from collector.release.frames import today
from collector.rights.forget import AT_ONCE, entomb, sweep_all
from wire.ids import BatchHash, DeviceId

_log = logging.getLogger(__name__)


def clear(collector: Collector) -> int:
    """Delete batches whose last day is over, at most `AT_ONCE`; return how many they were.

    Raises:
        AssentError: It could not be written down, or the clock is wrong for sure.

    """
    now = collector.now()
    over = select(batches).where(batches.c.expires < today(now))
    with collector.index.writing() as connection:
        rows = connection.execute(over.limit(AT_ONCE)).all()
        gone = [(BatchHash(row.batch), DeviceId(row.device)) for row in rows]
        for row in rows:
            entomb(connection, DeviceId(row.device), BatchHash(row.batch), now, row.expires)
    if gone:
        sweep_all(collector.index, collector.store, gone, now)
        _log.info("batches were kept for as long as they may be, and are gone")
    return len(gone)
