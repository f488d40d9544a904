"""A part of the processor for one program and its children, as a container's limit gives it.

The kernel's control groups do that, in either of their two forms, for root, and not in every
container; where they cannot, nobody is limited, and who asked is told so.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PERIOD_MICROSECONDS: Final = 100_000  # the kernel's own
_MEMBERS: Final = "cgroup.procs"


@dataclass(frozen=True, slots=True)
class Form:
    """Where groups of one form are made, the file that limits one, and what is written there."""

    root: Path
    file: str
    text: str


FORMS: Final = (
    Form(Path("/sys/fs/cgroup/cpu"), "cpu.cfs_quota_us", "{quota}"),
    Form(Path("/sys/fs/cgroup"), "cpu.max", "{quota} {period}"),
)


@contextmanager
def allotted(pid: int, processors: float, forms: tuple[Form, ...] = FORMS) -> Iterator[bool]:
    """Give *pid* and all that it has started no more than so many processors; yield whether."""
    for form in forms:
        group = form.root / f"assent-bench-{pid}"
        if not (form.root / _MEMBERS).exists():  # a folder like any other
            continue
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            yield _limit(form, group, pid, processors)
        finally:
            _move(_tree(pid), form.root)
            group.rmdir()
        return
    yield False


def _limit(form: Form, group: Path, pid: int, processors: float) -> bool:
    quota = round(processors * PERIOD_MICROSECONDS)
    try:
        (group / form.file).write_text(form.text.format(quota=quota, period=PERIOD_MICROSECONDS))
    except OSError:
        return False
    return _move(_tree(pid), group)


def _move(pids: list[int], group: Path) -> bool:
    moved = False
    for pid in pids:
        try:
            (group / _MEMBERS).write_text(str(pid))
        except OSError:  # it has ended
            continue
        moved = True
    return moved


def _tree(pid: int) -> list[int]:
    """Return *pid* and its descendants."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found
