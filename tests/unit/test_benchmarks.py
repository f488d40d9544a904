"""The benchmarks' own arithmetic, and that each of them is explained."""

import io
import math
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from benchmarks.__main__ import BENCHES, table
from benchmarks.bare_stopper import LINE
from benchmarks.meter import Meter, tree
from benchmarks.result import Row, alternated
from benchmarks.stop import BareStopper
from demo.desktop import VirtualDesktop
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


@pytest.mark.parametrize(("ours", "word"), [(50.0, "kept"), (50.1, "MISSED")])
def test_the_table_says_whether_an_aim_is_kept(ours: float, word: str) -> None:
    """It says so, and nothing else depends on it: a busy machine fails nobody."""
    aimed = msgspec.structs.replace(row(ours, 3), at_most=50.0)
    assert aimed.remark == f"aim: at most 50 ms, {word}"
    assert row(ours, 3).remark == "5 ms"


def test_the_floor_of_a_stop_says_two_instants_in_order(tmp_path: Path) -> None:
    """First the server's word, then that a line is on the disk; and it watches again after `go`."""
    with VirtualDesktop(tmp_path, panel=False, accessibility=False) as desktop:
        bare = BareStopper(desktop.env, tmp_path / "line")
        for stops in (1, 2):
            confirmed, done = bare.stop()
            assert 0 < confirmed < done
            assert (tmp_path / "line").stat().st_size == stops * len(LINE)
            bare.go()
        bare.close()


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
