"""Which objects of a collector are nobody's: those that its drills have planted."""

import sqlite3
from contextlib import closing
from pathlib import Path

from collector.assembly import Collector
from collector.drill.planted import stored


def planted_in(state: Path) -> set[str]:
    """Return their names, of the collector with this state folder."""
    with closing(sqlite3.connect(state / "index.sqlite")) as index:
        return {batch.hex() for (batch,) in index.execute("SELECT batch FROM planted")}


def planted_by(collector: Collector) -> set[str]:
    """Return the same of an open collector, wherever its index is."""
    with collector.index.reading() as connection:
        return {one.batch.hex() for one in stored(connection)}
