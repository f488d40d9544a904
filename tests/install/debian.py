"""A clean Debian in a folder, with its own mounts and processes and this machine's network.

Nothing of ours is in it but what a test installs; the repository can be looked at, read-only
and at its own path, by those who play the person at the desktop.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

ROOT: Final = Path(__file__).resolve().parents[2]
BASE: Final = ROOT / "build" / "minimal-debian.tar"  # the one that try-in-chroot.sh keeps
PERSON: Final = "worker"
NOT_INSTALLED: Final = (
    *("/proc", "/sys", "/dev", "/tmp", "/var/tmp", "/home", "/root", "/var/log"),  # noqa: S108
    *("/var/cache/apt", "/var/cache/debconf", "/var/cache/ldconfig", "/var/lib/apt"),
    *(f"/var/lib/dpkg/{n}" for n in ("status*", "available*", "lock*", "updates", "triggers")),
)
APART: Final = ("--mount", "--pid", "--fork", "--kill-child", "--propagation", "private")

_ENTER: Final = r"""
root=$1 repository=$2
mount --make-rprivate /
mount --rbind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 dev "$root/dev"
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device" && mount --bind "/dev/$device" "$root/dev/$device"
done
mount --bind "$repository" "$root$repository"
mount -o remount,bind,ro "$root$repository"
echo ready
exec chroot "$root" sleep infinity
"""


class CleanDebian:
    """One clean system; `with CleanDebian() as debian: ...`."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="debian-assent-", dir="/tmp"))
        self._holder: subprocess.Popen[str] | None = None
        self._inside = 0

    def __enter__(self) -> Self:
        try:
            subprocess.run(["tar", "-xf", BASE, "-C", self.root], check=True)
            self.root.chmod(0o755)
            self._take_over_sources()
            self._hold()
            self.run("useradd", "--create-home", PERSON)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def command(self, *words: str, person: bool = False) -> list[str]:
        """Return the command line that runs *words* inside, as root or as the person."""
        into = ["nsenter", "--target", str(self._inside), "--mount", "--pid", "--root", "--wd=/"]
        home, account = (f"/home/{PERSON}", PERSON) if person else ("/root", "root")
        clean = ["env", "-i", f"HOME={home}", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]
        clean += [f"USER={account}", "DEBIAN_FRONTEND=noninteractive"]
        become = ["setpriv", f"--reuid={PERSON}", f"--regid={PERSON}", "--init-groups"]
        return [*into, *clean, *(become if person else ()), *words]

    def run(self, *words: str, person: bool = False) -> str:
        """Run a command inside and return what it printed.

        Raises:
            AssertionError: It failed; the message has the end of what it said.

        """
        ran = subprocess.run(
            self.command(*words, person=person),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        said = (ran.stdout + ran.stderr)[-2000:]
        assert ran.returncode == 0, f"{' '.join(words)}: exit code {ran.returncode}: {said}"
        return ran.stdout

    def install(self, *packages: str) -> None:
        """Install packages, or files of packages, with apt and all that they depend on."""
        self.run("apt-get", "install", "--yes", "-qq", "--no-install-recommends", *packages)

    def bring(self, *files: Path) -> None:
        """Copy files into the clean system's /root."""
        for path in files:
            shutil.copy(path, self.root / "root")

    def share(self, folder: Path) -> None:
        """Let *folder* be seen inside, at its own path, by everybody."""
        inside = self.root / str(folder)[1:]
        inside.mkdir(parents=True)
        folder.chmod(0o1777)
        enter = ["nsenter", "--target", str(self._inside), "--mount"]
        subprocess.run([*enter, "mount", "--bind", folder, inside], check=True)

    def snapshot(self, *without: str) -> dict[str, str]:
        """Return each file with its mode, owner, size and target; of settings, the content too.

        Left out: what is a person's, what is no file on a disk, what apt and dpkg keep for
        themselves, and what lies below *without*.
        """
        left_out = (*NOT_INSTALLED, str(ROOT), *without)
        prune = [word for path in left_out for word in ("-path", path, "-prune", "-o")]
        facts = ["-printf", r"%p\t%y %m %u %g %l\n"]
        found = dict(
            line.split("\t") for line in self.run("find", "/", *prune, *facts).splitlines()
        )
        for line in self.run(
            "find", "/etc", "-type", "f", "-exec", "sha256sum", "{}", "+"
        ).splitlines():
            digest, _, path = line.partition("  ")
            found[path] = digest
        return found

    def processes(self, of: str) -> list[str]:
        """Return the command lines inside that have *of* in them."""
        every = "for each in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$each; echo; done 2>/dev/null"
        return [line for line in self.run("sh", "-c", every).splitlines() if of in line]

    def _take_over_sources(self) -> None:
        """Fetch packages from where this machine fetches them."""
        etc = self.root / "etc"
        for name in ("resolv.conf", "hosts"):
            shutil.copy(f"/etc/{name}", etc / name)
        certificates = Path("/etc/ssl/certs/ca-certificates.crt")
        if certificates.exists():
            shutil.copy(certificates, etc / "ssl/certs/ca-certificates.crt")
        dump = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True)
        lines = [x for x in dump.stdout.splitlines(keepends=True) if x.startswith("Acquire::")]
        kept = ("Acquire::http", "Acquire::Check-", "Acquire::ForceIPv", "Acquire::AllowInsecure")
        options = "".join(line for line in lines if line.startswith(kept))
        (etc / "apt/apt.conf.d/00host").write_text(options, "utf-8")
        # It is thrown away in any case, so nothing in it has to survive a power cut.
        (etc / "dpkg/dpkg.cfg.d/fast").write_text("force-unsafe-io\n", "utf-8")

    def _hold(self) -> None:
        """Make mounts and process numbers of its own; they live as long as the holder does."""
        inside = self.root / str(ROOT)[1:]
        inside.mkdir(parents=True)
        for folder in inside.parents:
            if folder.is_relative_to(self.root):
                folder.chmod(folder.stat().st_mode | 0o011)  # the person has to get as far
        self._holder = subprocess.Popen(
            ["unshare", *APART, "bash", "-euc", _ENTER, "enter", str(self.root), str(ROOT)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n", "the namespaces could not be made"
        task = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        self._inside = int(task.read_text("ascii").split()[0])

    def _leave(self) -> None:
        if self._holder is not None:
            if self._inside:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._inside, 9)  # the first process: all others go with it
            self._holder.kill()
            self._holder.communicate()
        shutil.rmtree(self.root, ignore_errors=True)


def start(command: Sequence[str]) -> "subprocess.Popen[str]":
    """Start a command with which the test talks line by line."""
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
