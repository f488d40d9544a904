"""An organisation whose programs are the installed ones, each run as its unit would run it.

There is no systemd in a clean Debian that nothing has booted.  So what the unit says is done
by hand, as far as a folder with mounts of its own can: the account, its only writable folder,
the limits, no capability and no way to one; and what the kernel would refuse (system calls,
kinds of sockets, memory that is writable and executable) is compared with what the servers ask
of it, all of which is written down by strace.
"""

import re
import shutil
import signal
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo.organisation import Organisation, Plan
from demo.programs import STOP_SECONDS, Program
from tests.install.debian import CleanDebian

TRACES: Final = "/var/trace"
UNITS: Final = "/lib/systemd/system"

OWN: Final = ("collector", "guard", "reader", "governance", "parties")  # each party's alone

# Account, then the command.
_LIKE_ITS_UNIT: Final = rf"""
account=$1 state=/var/lib/$1 && shift
echo $$ >{TRACES}/$account.pid
mount --make-rprivate /
mount --bind "$state" "$state"
mount --bind {TRACES} {TRACES}
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs -o mode=0 none /home
mount -o remount,bind,ro /
umask 0077
exec prlimit --core=0 --nofile=4096 setpriv --reuid="$account" --regid="$account" --clear-groups \
  --no-new-privs --bounding-set=-all --inh-caps=-all \
  env -i PATH=/usr/bin:/bin ASSENT_HOME="$state" \
  strace -D -f -qq -o {TRACES}/$account.trace "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What a unit says, each setting with all of its values."""

    settings: Mapping[str, list[str]]

    @classmethod
    def read(cls, debian: CleanDebian, name: str) -> "Unit":
        """Return the installed unit *name*."""
        found = defaultdict(list)
        path = debian.root / UNITS[1:] / f"{name}.service"
        for line in path.read_text("utf-8").splitlines():
            key, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                found[key].append(value)
        return cls(settings=dict(found))

    def __getitem__(self, name: str) -> str:
        """Return the last value, which is the one that counts."""
        return self.settings[name][-1]

    def allowed_calls(self, debian: CleanDebian) -> set[str]:
        """Return the system calls that it leaves."""
        allowed: set[str] = set()
        for value in self.settings["SystemCallFilter"]:
            names = set().union(*(calls(debian, word) for word in value.lstrip("~").split()))
            allowed = allowed - names if value.startswith("~") else allowed | names
        return allowed | calls(debian, "@default")


def calls(debian: CleanDebian, group: str) -> set[str]:
    """Return the system calls of one of systemd's groups, and of the groups in it."""
    said = debian.run("systemd-analyze", "syscall-filter", "--no-pager", group)
    words = [line.strip() for line in said.splitlines()[1:] if not line.strip().startswith("#")]
    inner = [calls(debian, word) for word in words if word.startswith("@")]
    return {word for word in words if word and not word.startswith("@")}.union(*inner)


class Server(Program):
    """A server of the package: commands as its account, served as by its unit."""

    def __init__(self, debian: CleanDebian, module: str, folder: Path) -> None:
        super().__init__(module, folder)
        self.account = f"assent-{module}"
        self.shared = folder
        self.debian = debian
        self.home = debian.root / "var/lib" / self.account  # as seen from here
        self.ended_with: int | None = None

    def run(self, *words: str | Path, accept: tuple[int, ...] = (0,)) -> str:
        """Run a command as an administrator does."""
        # What another party hands over may be read, whoever made it.
        handed = [path for path in self.shared.iterdir() if path.name not in OWN]
        if handed:
            subprocess.run(["chmod", "-R", "a+rX", *handed], check=True)
        return super().run(*words, accept=accept)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int | None:
        """Stop it as systemd does, and remember how it ended."""
        if self._running is None:
            return None
        pid = (self.debian.root / TRACES[1:] / f"{self.account}.pid").read_text("ascii").strip()
        if self._running.poll() is None:
            self.debian.run("sh", "-c", f"kill -{how.name.removeprefix('SIG')} {pid}")
            self._running.wait(STOP_SECONDS)
        self.ended_with = self._running.returncode
        self._running = None
        return self.ended_with

    def _command(self, words: tuple[str | Path, ...]) -> list[str]:
        inside = [self._handed_over(str(word)) for word in words]
        if words[0] == "serve":
            like = ("unshare", "--mount", "--wd=/", "bash", "-euc", _LIKE_ITS_UNIT, "like-its-unit")
            start = Unit.read(self.debian, self.account)["ExecStart"].split()
            return self.debian.command(*like, self.account, *start, *inside[1:])
        become = ("setpriv", f"--reuid={self.account}", f"--regid={self.account}")
        state = f"ASSENT_HOME=/var/lib/{self.account}"
        return self.debian.command(*become, "--clear-groups", "env", state, self.account, *inside)

    def _handed_over(self, word: str) -> str:
        """Return *word* as it is inside; a file in another party's folder is copied out of it."""
        word = word.removeprefix(str(self.debian.root))
        others = [str(self.shared / name) for name in OWN]
        others += [f"/var/lib/assent-{name}" for name in OWN if name != self.module]
        if not word.startswith(tuple(f"{other}/" for other in others)):
            return word
        copy = self.shared / f"handed-over-{Path(word).name}"
        inside_alone = word.startswith("/var/")
        shutil.copyfile(self.debian.root / word[1:] if inside_alone else word, copy)
        copy.chmod(0o644)
        return str(copy)


class Command(Program):
    """The reader or governance, as installed."""

    def __init__(self, debian: CleanDebian, name: str, module: str, folder: Path) -> None:
        super().__init__(module, folder)
        self.name, self.debian = name, debian

    def _command(self, words: tuple[str | Path, ...]) -> list[str]:
        home = ("env", f"ASSENT_HOME={self.home}")
        return self.debian.command(*home, self.name, *map(str, words))


class InstalledOrganisation(Organisation):
    """The parties, with the installed programs in *debian*; *folder* is seen there, too."""

    def __init__(self, debian: CleanDebian, folder: Path, plan: Plan) -> None:
        super().__init__(folder, plan)
        debian.share(folder)
        traces = debian.root / TRACES[1:]
        traces.mkdir()
        traces.chmod(0o777)
        self.servers = (Server(debian, "collector", folder), Server(debian, "guard", folder))
        self.collector, self.guard = self.servers
        self.reader = Command(debian, "assent-reader", "reader", folder)
        self.governance = Command(debian, "assent-govern", "governance", folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a server asked the kernel for, by its trace."""

    calls: frozenset[str]
    socket_families: frozenset[str]
    unix_sockets: frozenset[str]  # whom it called
    writable_code: tuple[str, ...]  # lines that make memory writable and executable

    @classmethod
    def read(cls, debian: CleanDebian, account: str) -> "Asked":
        """Return what the trace of *account* says."""
        text = (debian.root / TRACES[1:] / f"{account}.trace").read_text("utf-8", "replace")
        begun = re.findall(r"^\d+ +(\w+)\(.*", text, re.MULTILINE)
        lines = text.splitlines()
        code = [x for x in lines if re.search(r" m(map|protect)\(.*PROT_EXEC", x)]
        return cls(
            calls=frozenset(begun),
            socket_families=frozenset(re.findall(r" socket\((AF_\w+)", text)),
            unix_sockets=frozenset(re.findall(r' connect\(.*sun_path="([^"]+)"', text)),
            writable_code=tuple(x for x in code if "PROT_WRITE" in x or " mprotect(" in x),
        )
