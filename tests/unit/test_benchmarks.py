"""The benchmarks' own arithmetic, and that each of them is explained."""

import io
import math
from pathlib import Path

from rich.console import Console

from benchmarks.__main__ import BENCHES, table
from benchmarks.meter import Meter, tree
from benchmarks.result import Row, alternated
from tests.conftest import ROOT


def row(ours: float, floor: float) -> Row:
    return Row(
        bench="spool",
        what="one batch",
        ours=ours,
        floor=floor,
        unit="ms",
        more_is_better=False,
        best_known="5 ms",
    )


def test_a_ratio_is_ours_in_units_of_the_floor() -> None:
    """Also where the floor is nothing at all."""
    assert row(6, 3).ratio == 2
    assert row(6, 0).ratio == math.inf


def test_the_table_shows_ours_floor_ratio_and_the_best_known() -> None:
    """A figure without its floor says nothing about a machine that is busy."""
    shown = io.StringIO()
    Console(width=150, file=shown).print(table([row(6, 3), row(1, 0)]))
    first, second = (line for line in shown.getvalue().splitlines() if "one batch" in line)
    for cell in ("6.0 ms", "3.0 ms", "2.00", "less is better", "5 ms"):
        assert cell in first
    assert " - " in second


def test_both_sides_are_called_as_often() -> None:
    """Rounds alternate, so that both meet the same load."""
    calls: list[str] = []
    alternated(lambda: calls.append("ours"), lambda: calls.append("floor"), repeats=2)
    assert calls[:4] == ["ours", "ours", "floor", "floor"]
    assert calls.count("ours") == calls.count("floor")


def test_a_meter_reads_what_this_process_uses(tmp_path: Path) -> None:
    """Processor time, memory and written bytes, from the kernel's own books."""
    meter = Meter(next(iter(tree(_self()))))
    before = meter.read()
    (tmp_path / "file").write_bytes(bytes(1_000_000))
    sum(n * n for n in range(1_000_000))
    after = meter.read()
    assert after.written_bytes - before.written_bytes >= 1_000_000
    assert after.cpu_seconds >= before.cpu_seconds > 0
    assert after.resident_megabytes > 1


def test_each_benchmark_is_explained() -> None:
    """docs/benchmarks.md says of each what is measured and what its floor is."""
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    assert [name for name in BENCHES if f"`{name}`" not in page] == []


def _self() -> int:
    return int(Path("/proc/self").resolve().name)
