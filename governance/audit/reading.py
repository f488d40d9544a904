"""A bundle's folder: its files, each checked against SHA256SUMS before anything is read in it."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from base.errors import SetupError
from base.lines import shown
from governance.audit.findings import Finding, Rule
from governance.files import read
from wire import audit
from wire.errors import MalformedError, WireError

T = TypeVar("T", bound=audit.Line)
LARGEST: Final = 32 << 20  # bytes of a file of entries (256 of 64 KiB), or of one line


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Where the files are, and the digest that each must have."""

    folder: Path
    sums: dict[str, str]
    digest: str  # of SHA256SUMS: the name of the whole

    @classmethod
    def open(cls, folder: Path) -> "Bundle":
        """Return the bundle in *folder*.

        Raises:
            SetupError: There is none that this version knows.

        """
        data = read(folder / audit.SUMS)
        try:
            sums = audit.decode_sums(data)
        except MalformedError as exc:
            raise SetupError(f"{folder} is no whole audit bundle: {exc}") from exc
        stamp = read(folder / audit.STAMP)
        if stamp != audit.FORMAT:
            raise SetupError(f"{folder} is no audit bundle of a kind that this version knows")
        if sums.get(audit.STAMP) != hashlib.sha256(stamp).hexdigest():
            raise SetupError(f"{folder} is damaged: {audit.STAMP} is not as {audit.SUMS} says")
        return cls(folder=folder, sums=sums, digest=hashlib.sha256(data).hexdigest())

    def read(self, name: str) -> bytes:
        """Return the content of a small file.

        Raises:
            MalformedError: It is not there, too large, or not as SHA256SUMS says.

        """
        with self._opened(name) as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise MalformedError(f"{name} is larger than such a file can be")
        self._check(name, hashlib.sha256(data))
        return data

    def rows(self, name: str) -> Iterator[bytes]:
        """Yield the lines of a file, however many; whether all were right is known at the end.

        Raises:
            MalformedError: It is not there, cut short, or not as SHA256SUMS says.

        """
        digest = hashlib.sha256()
        with self._opened(name) as file:
            while row := file.readline(LARGEST):
                digest.update(row)
                if not row.endswith(b"\n"):
                    raise MalformedError(f"{name} is cut short, or has an endless line")
                yield row[:-1]
        self._check(name, digest)

    @contextmanager
    def _opened(self, name: str) -> Iterator[BinaryIO]:
        path = self.folder / name
        try:
            if not path.is_file():  # what blocks, or never ends, is not read
                raise MalformedError(f"{name} is missing, or no file")
            with path.open("rb") as file:
                yield file
        except OSError as exc:
            raise MalformedError(f"{name} cannot be read: {exc.strerror}") from exc

    def _check(self, name: str, digest: "hashlib._Hash") -> None:
        if digest.hexdigest() != self.sums.get(name):
            raise MalformedError(f"{name} is not the file that {audit.SUMS} names")

    def strangers(self) -> Iterator[Finding]:
        """Yield what is in the folder and not in SHA256SUMS, and the other way round."""
        there = {
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if not path.is_dir()
        }
        for name in sorted(there ^ {*self.sums, audit.SUMS}):
            said = "is not named in" if name in there else "is missing, and named in"
            yield Finding(rule=Rule.FILE_CHANGED, what=f"{shown(name)} {said} {audit.SUMS}")

    def lines(self, name: str, kind: type[T], judge: Callable[[T], None]) -> Iterator[Finding]:
        """Have *judge* look at each record of a file; yield what it, or reading, finds wrong.

        *judge* raises `FoundError` for what it finds, `WireError` for what cannot be read.
        """
        try:
            for number, row in enumerate(self.rows(name), 1):
                finding = _judged(row, kind, judge, f"{name}, line {number}")
                if finding is not None:
                    yield finding
        except MalformedError as exc:
            yield Finding(rule=Rule.FILE_CHANGED, what=str(exc))


def _judged(row: bytes, kind: type[T], judge: Callable[[T], None], where: str) -> Finding | None:
    record = None
    try:
        record = audit.decode_line(row, kind)
        judge(record)
    except FoundError as exc:
        return exc.finding
    except WireError as exc:
        leaf = getattr(record, "leaf", None)
        return Finding(rule=Rule.UNREADABLE, leaf=leaf, what=f"{where}: {exc}")
    return None


class FoundError(WireError):
    """A record breaks a rule."""

    def __init__(self, rule: Rule, leaf: int | None, what: str) -> None:
        super().__init__(what)
        self.finding = Finding(rule=rule, leaf=leaf, what=what)
