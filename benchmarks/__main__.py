"""`make bench`, or `python -m benchmarks [NAME...]`: our figures beside their floors.

How to read them stands in docs/benchmarks.md.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks import (
    agent,
    audit,
    collector,
    load,
    release,
    scaled,
    screen,
    sealing,
    sensor,
    spool,
    stop,
)
from benchmarks.result import Row

SENSELESS: Final = 1_000  # a ratio to next to nothing says nothing
BENCHES: Final[dict[str, Callable[[], list[Row]]]] = {
    "sensor": sensor.run,
    "screen": screen.run,
    "sealing": sealing.run,
    "spool": spool.run,
    "collector": collector.run,
    "load": load.run,
    "scaled": scaled.run,
    "release": release.run,
    "audit": audit.run,
    "agent": agent.run,
    "stop": stop.run,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHES)))
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures here too.")
def main(names: tuple[str, ...], file: Path | None) -> None:
    """Measure all benchmarks, or the ones that are named, each against its floor."""
    console, rows = Console(width=150), []
    for name in names or BENCHES:
        began = time.monotonic()
        rows += BENCHES[name]()
        console.print(f"{name}: {time.monotonic() - began:.0f} s")
    console.print(table(rows))
    if file is not None:
        found = {"processors": len(os.sched_getaffinity(0)), "rows": msgspec.to_builtins(rows)}
        file.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def table(rows: list[Row]) -> Table:
    """Return the figures, a line each."""
    made = Table("", "what", "ours", "floor", "ratio", "", "best known elsewhere, or aim")
    for row in rows:
        better = "more is better" if row.more_is_better else "less is better"
        made.add_row(
            row.bench,
            row.what,
            f"{row.ours:,.1f} {row.unit}",
            f"{row.floor:,.1f} {row.unit}",
            f"{row.ratio:.2f}" if row.ratio < SENSELESS else "-",
            better,
            row.remark,
        )
    return made


if __name__ == "__main__":
    sys.exit(main())
