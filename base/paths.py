"""Where each program keeps what: XDG folders through platformdirs, overridable by variable.

`ASSENT_HOME` moves everything of one program under one folder (tests, demo, portable use);
otherwise the platform's folders are used.  All folders are private to their owner.

`ASSENT_ALONE` says that there is nobody else: in a container, say, whose volume everybody may
write to.  Who can set a variable of ours can do far more.
"""

import errno
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from base.durable import private_folder
from base.errors import SetupError

_MOST_LINKS: Final = 40  # as Linux itself follows
_USERS: Final = Path("/proc/self/uid_map")
_UNKNOWN: Final = Path("/proc/sys/kernel/overflowuid")
_EVERYBODY: Final = ["0", "0", "4294967295"]
_ALONE: Final = "ASSENT_ALONE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The folders of one program; `runtime` dies with the session, the others stay."""

    config: Path
    state: Path
    logs: Path
    runtime: Path

    def make(self) -> "Paths":
        """Create what is missing; return self.

        Raises:
            SetupError: A folder cannot be made, belongs to somebody else, or lies where somebody
                else could put another in its place: in a folder or behind a link of theirs (a
                sticky bit does not hold its owner), or in one that everybody can change.

        """
        for folder in (self.config, self.state, self.logs, self.runtime):
            try:
                _check_way(folder)  # before anything is made or changed behind it
                private_folder(folder)
                _check_way(folder)  # somebody may have been quicker with what was missing
                owner = folder.stat()
            except OSError as exc:
                raise SetupError(
                    f"{folder} cannot be used: {exc.strerror}; check its owner"
                ) from exc
            if owner.st_uid != os.getuid() or stat.S_IMODE(owner.st_mode) & 0o077:
                raise SetupError(f"{folder} must belong to you alone; chown it, chmod 700")
        return self


def _check_way(folder: Path) -> None:
    """Check that nobody else can swap anything on the way to *folder*.

    Links are looked at themselves, and the way to where they lead as well.

    Raises:
        SetupError: Somebody can.
        OSError: A file lies on the way, or links lead in a circle.

    """
    rest, here, links = list(folder.absolute().parts[1:]), Path("/"), 0
    trusted = {os.getuid(), 0} | _beyond(_USERS)
    while rest:
        part = rest.pop(0)
        if part == os.pardir:
            here = here.parent
            continue
        try:
            found = (here / part).lstat()
        except FileNotFoundError:
            return  # what is missing is made by us
        if found.st_uid not in trusted:
            raise SetupError(
                f"{here / part} belongs to somebody else, who can swap {folder}; chown it, or"
                " move ours"
            )
        if not stat.S_ISLNK(found.st_mode):
            here /= part
            # However deep ours lies below: who can rename one folder has all that is in it.
            open_to_all = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
            if rest and open_to_all and not os.environ.get(_ALONE):
                raise SetupError(
                    f"everybody can swap what is in {here}; chmod o-w it, or move ours"
                )
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(folder))
        target = (here / part).readlink()
        here = Path("/") if target.is_absolute() else here
        rest = [*(p for p in target.parts if p != target.anchor), *rest]


def _beyond(users: Path) -> set[int]:
    """Return the uid that stands for whom this user namespace does not know, if it is one.

    Root outside looks like any other there, and the folders above ours are its own as a rule.
    """
    try:
        if users.read_text("ascii").split() == _EVERYBODY:
            return set()
        return {int(_UNKNOWN.read_text("ascii"))}
    except OSError:  # no Linux, or nothing is shown of it
        return set()


def paths_for(program: str) -> Paths:
    """Return the folders of *program* (`agent`, `collector`, ...); nothing is created."""
    home = os.environ.get("ASSENT_HOME")
    if home:
        base = Path(home).absolute()
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        return Paths(
            config=base / "config",
            state=base / "state",
            logs=base / "logs",
            runtime=Path(runtime) / "assent" / program if runtime else base / "run",
        )
    dirs = platformdirs.PlatformDirs("assent", appauthor=False)
    with warnings.catch_warnings():
        # Without a session of its own (ssh, sudo, a service) there is no runtime folder, and
        # another takes its place; the library would say so with each command.
        warnings.simplefilter("ignore", platformdirs.RuntimeDirWarning)
        runtime = dirs.user_runtime_dir
    return Paths(
        config=Path(dirs.user_config_dir) / program,
        state=Path(dirs.user_state_dir) / program,
        logs=Path(dirs.user_log_dir) / program,
        runtime=Path(runtime) / program,
    )
