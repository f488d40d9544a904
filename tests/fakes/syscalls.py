"""Every system call with which a process changes its disk: counted, and one of them broken.

Below `base.durable`, at the functions of `os` themselves: so a write that goes past it is
counted too, and the temporary file, its fsync, the rename and the fsync of the folder are four
things that can break.  Each `Call` says which line of the agent asked for it, and so whether
the calls that were seen are all that the source has (`write_sites`).

After a crash the process is a ghost: whatever it still tries is a `CrashError` too, and
changes nothing, until `bury`.
"""

import ast
import builtins
import contextlib
import errno
import fcntl
import io
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum, auto
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

from base import durable
from tests.fakes.disk import CrashError

ROOT: Final = Path(__file__).resolve().parents[2]
FULL_SECONDS: Final = 5.0  # of the story: so long a full disk stays full

# What changes a disk, by the name under which it is called; of `os`, of a path, or of ours.
_OF_PATHS: Final = frozenset(
    [
        "chmod",
        "copyfile",
        "copytree",
        "fsync",
        "ftruncate",
        "hardlink_to",
        "link",
        "makedirs",
        "mkdir",
        "mkdtemp",
        "mkstemp",
        "rename",
        "removedirs",
        "renames",
        "rmdir",
        "rmtree",
        "symlink",
        "symlink_to",
        "touch",
        "truncate",
        "unlink",
        "utime",
        "NamedTemporaryFile",
        "TemporaryFile",
        "flock",
        "write_bytes",
        "write_text",
    ]
)
_OF_OURS: Final = frozenset(
    ["append", "private_folder", "remove", "replace", "sweep", "sync_folder"]
)


class Fault(StrEnum):
    """What happens to the call that breaks."""

    FAILS = auto()  # EIO, and nothing was done
    FULL = auto()  # ENOSPC (half of a write is done), and so for whatever needs room for a while
    PERSISTS_BUT_FAILS = auto()  # EIO, though all of it was done
    SHORT = auto()  # half of a write is done, and the kernel says so
    CRASH_WITHIN = auto()  # half of a write is done, and the process is dead
    CRASH_AFTER = auto()


@dataclass(frozen=True, slots=True)
class Site:
    """A line of the agent that changes the disk."""

    file: str
    line: int
    last_line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.what}"

    def has(self, call: "Call") -> bool:
        """Whether *call* came from this line."""
        return any(
            self.file == file and self.line <= line <= self.last_line for file, line in call.lines
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One system call: its name, the file, and the line of the agent from which it came."""

    name: str
    path: str
    file: str  # of the agent, or of what it was built on where no line of it is on the stack
    line: int
    through: tuple[tuple[str, int], ...] = ()  # lines of a disk of our own, in between

    def __str__(self) -> str:
        return f"{self.name}({self.path}) from {self.file}:{self.line}"

    @property
    def lines(self) -> tuple[tuple[str, int], ...]:
        """Every line that asked for it, the innermost first."""
        return *self.through, (self.file, self.line)

    @property
    def kind(self) -> tuple[tuple[tuple[str, int], ...], str]:
        """What makes two calls the same kind of step."""
        return self.lines, self.name


def fits(name: str, fault: Fault) -> bool:
    """Whether a call of that *name* can break in this way."""
    if fault in (Fault.SHORT, Fault.CRASH_WITHIN):
        return name == "write"
    if fault is Fault.FULL:
        return name in _NEEDS_ROOM
    return True


_NEEDS_ROOM: Final = frozenset(["open", "write", "fsync", "mkdir"])


class Syscalls:
    """Counts the calls that change something below *root*; breaks number *at*."""

    def __init__(self, root: Path, now: Callable[[], float]) -> None:
        self.calls: list[Call] = []
        self.dead = False
        self.broke: Call | None = None
        self.was_vain = (
            False  # the broken call had nothing to do: its folder is there, its file not
        )
        self.on_crash: Callable[[], None] = lambda: None
        self._root = str(root)
        self._now = now
        self._at = -1
        self._fault = Fault.FAILS
        self._full_until = 0.0
        self._room_bytes = 0  # on the full disk: what was removed since
        self._open: dict[int, str] = {}

    def break_at(self, at: int, fault: Fault) -> None:
        """Break call number *at*, counted from 0 over all lives of the process."""
        self._at, self._fault = at, fault

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Have no block left, but for what is removed meanwhile."""
        self._fill(math.inf)
        try:
            yield
        finally:
            self._full_until = 0.0

    def next_calls(self, count: int) -> list[Call]:
        """Return what was called just after the call that broke."""
        return [] if self.broke is None else self.calls[self._at + 1 : self._at + 1 + count]

    def kill(self) -> None:
        """Kill the process here, as `kill -9` would: the story wants it so."""
        self.dead = True
        self.on_crash()

    def bury(self) -> None:
        """Close what the dead process had open, as the kernel does; another may live."""
        for fd, path in self._open.items():
            with contextlib.suppress(OSError):
                if str(Path(f"/proc/self/fd/{fd}").readlink()) == path:
                    _CLOSE(fd)
        self._open.clear()
        self.dead = False

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Stand between this process and its disk, until *patch* is undone."""
        for name in ("unlink", "remove", "mkdir", "rmdir", "chmod", "truncate", "utime"):
            patch.setattr(os, name, self._on_path(name, getattr(os, name)))
        for name in ("rename", "replace"):
            patch.setattr(os, name, self._on_rename(getattr(os, name)))
        patch.setattr(os, "open", self._on_open(os.open))
        patch.setattr(os, "close", self._on_close)
        # Only processes die in these stories, never the machine: nobody has to wait for a disk.
        patch.setattr(os, "fsync", self._on_descriptor("fsync", lambda _fd: None))
        patch.setattr(os, "ftruncate", self._on_descriptor("ftruncate", os.ftruncate))
        patch.setattr(fcntl, "flock", self._on_descriptor("flock", fcntl.flock))
        write = self._on_write(os.write)
        patch.setattr(os, "write", write)
        patch.setattr(durable.write_all, "__defaults__", (write,))
        opener = self._on_stream(io.open)
        patch.setattr(io, "open", opener)
        patch.setattr(builtins, "open", opener)

    # --- one for each shape of call -----------------------------------------------------

    def _on_path(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - as os has it
            if not self._is_ours(path):
                return real(path, *args, **options)
            return self._do(name, path, lambda: real(path, *args, **options))

        return call

    def _on_rename(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(source: Any, target: Any, **options: Any) -> Any:  # noqa: ANN401 - as os has it
            if not self._is_ours(target):
                return real(source, target, **options)
            return self._do("rename", target, lambda: real(source, target, **options))

        return call

    def _on_open(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:  # noqa: ANN401 - as os has it
            if not self._is_ours(path):
                return real(path, flags, mode, **options)
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_DIRECTORY)

            def open_it() -> int:
                fd = real(path, flags, mode, **options)
                self._open[fd] = os.fspath(path)
                return fd

            if not writes:
                return open_it()
            name = "open-folder" if flags & os.O_DIRECTORY else "open"
            # Who opened a file and is told that it failed has no descriptor to close.
            fd: int = self._do(name, path, open_it, undo=self._close_newest)
            return fd

        return call

    def _on_stream(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:  # noqa: ANN401 - as io has it
            if isinstance(file, int) or not set(mode) & set("wax+") or not self._is_ours(file):
                return real(file, mode, *args, **options)
            return self._do("open", file, lambda: real(file, mode, *args, **options))

        return call

    def _on_close(self, fd: int) -> None:
        self._open.pop(fd, None)
        _CLOSE(fd)

    def _on_descriptor(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(fd: int, *args: Any) -> Any:  # noqa: ANN401 - as os has it
            if fd not in self._open:
                return real(fd, *args)
            folder = Path(self._open[fd]).is_dir()
            named = f"{name}-folder" if folder else name
            return self._do(named, self._open[fd], lambda: real(fd, *args))

        return call

    def _on_write(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(fd: int, data: Any) -> int:  # noqa: ANN401 - any buffer
            if fd not in self._open:
                return real(fd, data)
            half = memoryview(data)[: len(data) // 2]
            written: int = self._do(
                "write",
                self._open[fd],
                lambda: real(fd, data),
                half=lambda: real(fd, half),
                size=len(data),
            )
            return written

        return call

    # --- count, and break -----------------------------------------------------------------

    def _do(
        self,
        name: str,
        path: Any,  # noqa: ANN401 - as os has it
        real: Callable[[], Any],
        *,
        half: Callable[[], int] = lambda: 0,
        undo: Callable[[], None] = lambda: None,
        size: int = 0,
    ) -> Any:  # noqa: ANN401 - as os has it
        if self.dead:
            raise CrashError
        number = len(self.calls)
        *through, (file, line) = _asked_by(sys._getframe(2))  # noqa: SLF001 - who asks is the point
        where = os.fspath(path).removeprefix(self._root).lstrip("/")
        call = Call(name=name, path=where, file=file, line=line, through=tuple(through))
        self.calls.append(call)
        if self._now() < self._full_until:
            self._account(name, os.fspath(path), size)
        if number != self._at or not fits(name, self._fault):
            return real()
        self.broke = call
        exists = os.path.lexists(path)
        self.was_vain = exists if name == "mkdir" else not exists if name == "unlink" else False
        return self._break(os.fspath(path), real, half, undo)

    def _break(
        self,
        path: str,
        real: Callable[[], Any],
        half: Callable[[], int],
        undo: Callable[[], None],
    ) -> Any:  # noqa: ANN401 - as os has it
        match self._fault:
            case Fault.FAILS:
                raise OSError(errno.EIO, "Input/output error", path)
            case Fault.FULL:
                self._fill(max(self._full_until, self._now() + FULL_SECONDS))
                half()
                raise OSError(errno.ENOSPC, "No space left on device", path)
            case Fault.PERSISTS_BUT_FAILS:
                real()
                undo()
                raise OSError(errno.EIO, "Input/output error", path)
            case Fault.SHORT:
                return half()
            case Fault.CRASH_WITHIN:
                half()
            case Fault.CRASH_AFTER:
                real()
        self.dead = True
        self.on_crash()
        raise CrashError

    def _fill(self, until: float) -> None:
        self._full_until, self._room_bytes = until, 0

    def _account(self, name: str, path: str, size: int) -> None:
        """Let a write have what was removed before on the full disk, and no more."""
        if name in _NEEDS_ROOM and (self._room_bytes <= 0 or size > self._room_bytes):
            raise OSError(errno.ENOSPC, "No space left on device", path)
        self._room_bytes -= size
        if name in ("unlink", "rename") and os.path.lexists(path):
            self._room_bytes += os.lstat(path).st_size

    def _close_newest(self) -> None:
        fd, _path = self._open.popitem()
        _CLOSE(fd)

    def _is_ours(self, path: Any) -> bool:  # noqa: ANN401 - a path, or a descriptor
        return not isinstance(path, int) and os.fspath(path).startswith(self._root)


_CLOSE: Final = os.close
_ROOT: Final = f"{ROOT}/"
_AGENT: Final = f"{_ROOT}agent/"
_BASE: Final = f"{_ROOT}base/"
_DISKS: Final = ("agent/spare_room.py",)  # who writes through it is whom we want to know


def _asked_by(frame: FrameType | None) -> list[tuple[str, int]]:
    """Return the innermost line of the agent on the stack, else the innermost of its base.

    Before it the lines of a disk of the agent's own, through which it asked.
    """
    base, through = ("", 0), list[tuple[str, int]]()
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_AGENT):
            through.append((name.removeprefix(_ROOT), frame.f_lineno))
            if through[-1][0] not in _DISKS:
                return through
        if not base[0] and name.startswith(_BASE):
            base = (name.removeprefix(_ROOT), frame.f_lineno)
        frame = frame.f_back
    return [*through, base]


# --- what the source has --------------------------------------------------------------------


def write_sites() -> list[Site]:
    """Return every call below agent/ that changes a disk."""
    return [site for path in sorted((ROOT / "agent").rglob("*.py")) for site in _sites_of(path)]


def _sites_of(path: Path) -> Iterator[Site]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and changes_a_disk(node):
            what = ast.unparse(node)
            file = str(path.relative_to(ROOT))
            yield Site(file, node.lineno, node.end_lineno or node.lineno, what)


def changes_a_disk(call: ast.Call) -> bool:
    """Whether *call* is of one of the names above, or opens a file to write."""
    name = ast.unparse(call.func)
    owner, _, last = name.rpartition(".")
    if name in ("open", "io.open", "os.open", "os.write"):
        return True
    if last in _OF_PATHS or name in ("shutil.copy", "shutil.move", "start_logging"):
        return True
    # python-tuf's updater makes a folder when it is made.
    updates = any(k.arg == "bootstrap" for k in call.keywords)
    if updates or (last == "make" and owner.startswith("paths_for(")):
        return True
    if last in _OF_OURS and owner.rpartition(".")[2] in ("durable", "disk", "_disk", "os"):
        return True
    if last == "replace":  # of a path: one argument, no keyword
        return len(call.args) == 1 and not call.keywords
    return last == "open" and any(
        isinstance(a, ast.Constant) and isinstance(a.value, str) and set(a.value) & set("wax+")
        for a in call.args
    )
