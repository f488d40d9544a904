"""A real Ceph RADOS Gateway on loopback, in a temporary folder: the S3 store of the tests.

One monitor, one object store daemon on a sparse file, one gateway that listens in the clear and
with TLS; no manager, no systemd, nothing outside the folder.  Each is a child of the test and
ends with it, by its process id.  Debian's packages are listed in packaging/setup/apt-ceph.txt.
"""

import contextlib
import http.client
import json
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from base.pki import Authority, new_server_key, private_pem

PORTS: Final = range(20_000, 32_000)
PATIENCE_SECONDS: Final = 120.0  # a daemon on a busy machine
SPARSE_BYTES: Final = 3 << 30  # of the disk that is not there; what is written is some 100 MB
# It ends with the test, however that ends; heartbeats and compaction take nobody's time.
LIKE_A_CHILD: Final = ("setpriv", "--pdeathsig", "KILL", "nice", "-n", "5")

CONFIG: Final = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
ms bind port min = {osd_first}
ms bind port max = {osd_last}
keyring = {folder}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data = {folder}/mon
paxos propose interval = 0.02
paxos min wait = 0.01
mon data avail warn = 2
mon data avail crit = 1
osd data = {folder}/osd
osd objectstore = bluestore
osd memory target = 939524096
bluestore cache autotune = false
bluestore cache size = 33554432
bluestore block size = {sparse}
bluestore block db create = false
bluestore block wal create = false
log file = {folder}/log/$name.log
log to stderr = false
run dir = {folder}/run
admin socket = {folder}/run/$name.$pid.asok
crash dir = {folder}/log

[client.rgw]
rgw frontends = {frontends}
rgw data = {folder}/rgw
rgw enable usage log = false
# Else whoever makes a bucket waits half a minute for a gateway that was killed before.
rgw cache enabled = false
rgw thread pool size = 32
rgw ops log rados = false
"""
FRONTENDS: Final = (
    "beast endpoint=127.0.0.1:{clear} ssl_endpoint=127.0.0.1:{tls} "
    "ssl_certificate={folder}/tls.pem ssl_private_key={folder}/tls.key"
)


@dataclass(frozen=True, kw_only=True)
class Keys:
    """A user of the gateway, and what proves it."""

    name: str
    access_key: str
    secret_key: str = field(repr=False)

    @property
    def arn(self) -> str:
        """How a bucket policy names this user."""
        return f"arn:aws:iam:::user/{self.name}"


@dataclass(kw_only=True)
class Ceph:
    """The running daemons, and where they listen."""

    folder: Path
    clear: int  # ports
    tls: int
    gateway: "subprocess.Popen[bytes] | None" = None
    others: "list[subprocess.Popen[bytes]]" = field(default_factory=list)
    users: dict[str, Keys] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        """Return where it listens in the clear."""
        return f"http://127.0.0.1:{self.clear}"

    @property
    def tls_endpoint(self) -> str:
        """Return where it listens with TLS; the authority's certificate is in `authority`."""
        return f"https://127.0.0.1:{self.tls}"

    @property
    def authority(self) -> Path:
        """Return the file of the authority that certified the gateway."""
        return self.folder / "ca.pem"

    def run(self, *command: str) -> bytes:
        """Run a program of Ceph's on this cluster; return what it printed."""
        program, *words = command
        called = [program, "-c", str(self.folder / "ceph.conf"), *words]
        ran = subprocess.run(called, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
        assert ran.returncode == 0, f"{called}: {ran.stderr.decode()}"
        return ran.stdout

    def user(self, name: str, *options: str) -> Keys:
        """Return a user of the gateway, who is made at the first call."""
        if name in self.users:
            return self.users[name]
        made = json.loads(
            self.run(
                "radosgw-admin",
                *("-n", "client.rgw", "user", "create"),
                *("--uid", name, "--display-name", name, *options),
            )
        )["keys"][0]
        keys = Keys(name=name, access_key=made["access_key"], secret_key=made["secret_key"])
        return self.users.setdefault(name, keys)

    def start(self, program: str, *words: str) -> "subprocess.Popen[bytes]":
        """Start a daemon in the foreground, as a child."""
        output = (self.folder / "log" / f"{program}.out").open("ab")
        with output:
            return subprocess.Popen(
                [*LIKE_A_CHILD, program, "-c", str(self.folder / "ceph.conf"), *words, "-f"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
            )

    def start_gateway(self) -> None:
        """Start the gateway, and wait until it answers."""
        self.gateway = self.start("radosgw", "-n", "client.rgw")
        _until(self._answers, "the gateway answers", self)

    @contextlib.contextmanager
    def gateway_killed(self) -> Iterator[None]:
        """End the gateway as a crash does, and start it again after the block.

        What it acknowledged is in the cluster.
        """
        assert self.gateway is not None
        self.gateway.kill()
        self.gateway.wait(PATIENCE_SECONDS)
        try:
            yield
        finally:
            self.start_gateway()

    def stop(self) -> None:
        """End every daemon."""
        for process in filter(None, (self.gateway, *reversed(self.others))):
            # Nothing is to be kept, so nothing is flushed.
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE_SECONDS)

    def _answers(self) -> bool:
        asked = http.client.HTTPConnection("127.0.0.1", self.clear, timeout=PATIENCE_SECONDS)
        try:
            asked.request("GET", "/")
            return asked.getresponse().status < 500
        except OSError:
            return False
        finally:
            asked.close()

    def died(self) -> str:
        """Return which daemon has ended, and its last words; empty when none has."""
        for process in filter(None, (self.gateway, *self.others)):
            if process.poll() is not None:
                logs = sorted((self.folder / "log").iterdir())
                words = [f"{path.name}: {path.read_text(errors='replace')[-600:]}" for path in logs]
                return f"{process.args!r} ended with {process.returncode}\n" + "\n".join(words)
        return ""


@contextlib.contextmanager
def running_ceph() -> Iterator[Ceph]:
    """Run a cluster of one until the block ends; then nothing of it is left."""
    # Not below pytest's folder: names of sockets have to be short, and it keeps three runs.
    folder = Path(tempfile.mkdtemp(prefix="assent-ceph-"))
    ports = _free_ports(15)
    ceph = Ceph(folder=folder, clear=ports[0], tls=ports[1])
    try:
        _lay_out(ceph, mon=ports[2], osd=(ports[3], ports[-1]))
        _bring_up(ceph)
        yield ceph
    finally:
        ceph.stop()
        shutil.rmtree(folder)


def _lay_out(ceph: Ceph, *, mon: int, osd: tuple[int, int]) -> None:
    folder, fsid = ceph.folder, str(uuid.uuid4())
    for name in ("mon", "osd", "log", "run", "rgw"):
        (folder / name).mkdir(mode=0o700)
    authority, key = Authority.create("Ceph of a test"), new_server_key()
    (folder / "ca.pem").write_bytes(authority.pem)
    (folder / "tls.key").write_bytes(private_pem(key))
    (folder / "tls.pem").write_bytes(authority.server_certificate(key, ["127.0.0.1"]))
    (folder / "ceph.conf").write_text(
        CONFIG.format(
            folder=folder,
            fsid=fsid,
            mon=mon,
            osd_first=osd[0],
            osd_last=osd[1],
            sparse=SPARSE_BYTES,
            frontends=FRONTENDS.format(clear=ceph.clear, tls=ceph.tls, folder=folder),
        )
    )
    keyring = str(folder / "keyring")
    every = ("--cap", "mon", "allow *", "--cap", "osd", "allow *")
    for name, caps in (("mon.", every[:3]), ("client.admin", every), ("client.rgw", every)):
        made = () if name != "mon." else ("--create-keyring",)
        ceph.run("ceph-authtool", keyring, *made, "--gen-key", "-n", name, *caps)
    monmap = str(folder / "monmap")
    ceph.run(
        "monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{mon}]", "--fsid", fsid, monmap
    )
    ceph.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)


def _bring_up(ceph: Ceph) -> None:
    identity, keyring = str(uuid.uuid4()), str(ceph.folder / "keyring")
    ceph.others.append(ceph.start("ceph-mon", "-i", "a"))
    ceph.run("ceph", "osd", "new", identity)
    ceph.run(
        *("ceph-authtool", keyring, "--gen-key", "-n", "osd.0"),
        *("--cap", "osd", "allow *", "--cap", "mon", "allow profile osd"),
    )
    ceph.run("ceph", "auth", "import", "-i", keyring)
    ceph.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", identity)
    ceph.others.append(ceph.start("ceph-osd", "-i", "0"))
    ceph.start_gateway()


def _free_ports(count: int) -> list[int]:
    """Return ports next to each other that were free a moment ago.

    Below those that the kernel hands out: nobody's connection can have taken one meanwhile.
    """
    for _ in range(100):
        begin = secrets.choice(PORTS)
        ports = list(range(begin, begin + count))
        if all(_is_free(port) for port in ports):
            return ports
    raise AssertionError("no ports are free")


def _is_free(port: int) -> bool:
    with socket.socket() as asked:
        try:
            asked.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _until(true: Callable[[], bool], what: str, ceph: Ceph) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert not ceph.died(), ceph.died()
        assert time.monotonic() < deadline, f"not so in time: {what}"
        time.sleep(0.05)
