"""What a process and everything that it started use: processor time, memory, bytes written."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What was used so far; memory is what is resident now, shared pages counted in each."""

    cpu_seconds: float
    resident_megabytes: float
    written_bytes: int


@dataclass(slots=True)
class Meter:
    """Adds up a tree of processes; one that has ended counts with what was last seen of it."""

    root: int
    _cpu: dict[int, float] = field(default_factory=dict)
    _written: dict[int, int] = field(default_factory=dict)

    def read(self) -> Use:
        """Return what the tree has used until now."""
        resident = 0
        for pid in tree(self.root):
            try:
                resident += _resident(pid)
                self._cpu[pid] = _cpu(pid)
                self._written[pid] = _written(pid)
            except (FileNotFoundError, ProcessLookupError):  # it ended while we looked
                continue
        return Use(
            cpu_seconds=sum(self._cpu.values()),
            resident_megabytes=resident / 1e6,
            written_bytes=sum(self._written.values()),
        )


def tree(root: int) -> list[int]:
    """Return *root* and all its descendants."""
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += _children(pid)
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def _written(pid: int) -> int:
    """Return the bytes given to write calls: what reaches a disk depends on which disk."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])
