"""A fleet's uploads, all at once: the collector as it is run, beside nginx and the bare disk.

One prepared client (`pounding`), the same for both servers: devices with a connection each
that stays open, TLS 1.3 with its certificate, each frame a new one.  The collector is the
real program on its real disk; the guard is there, and does nothing meanwhile.  The aim is 1,400
PUT/s of 64 KiB or 0.6 of what nginx does in the same run without any of it, whichever is lower.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from base.durable import sync_folder
from base.serving import Clients, Credentials
from benchmarks.desk import ROOT
from benchmarks.meter import Meter
from benchmarks.pounding import Device, Pounded, Target, pound
from benchmarks.result import Row
from benchmarks.webserver import webserver
from tests.fakes import site
from wire.frame import split

DEVICES: Final = 64
CONNECTIONS: Final = DEVICES  # an agent sends one batch at a time
ROUNDS: Final = 3
LEAST_RATE: Final = 1_400.0  # PUT/s of 64 KiB that one small machine is to carry
SHARE: Final = 0.6  # of nginx, where the machine is slower
STARTING_SECONDS: Final = 30.0
SMALL, LARGE = 64 << 10, 1 << 20
REQUESTS: Final = {SMALL: 8_000, LARGE: 800}
CONNECTED: Final = {SMALL: CONNECTIONS, LARGE: 8}
PROCESSES: Final = {SMALL: 1, LARGE: 4}  # so that who waits for room on one line does not on all
MANY: Final = 100_000
FEW: Final = 10_000  # after which everything that is made once is there


@dataclass(kw_only=True)
class Course:
    """The servers, and how far the numbers of frames have come."""

    ours: Target
    nginx: Target
    devices: tuple[Device, ...]
    server: int  # process id
    folder: Path
    numbered: int = 1
    took: list[str] = field(default_factory=list)

    def pounds(self, target: Target, size: int, requests: int = 0) -> Pounded:
        """Send new frames of *size*; all have to be taken."""
        many = requests or REQUESTS[size]
        found = pound(
            target,
            self.devices,
            size_bytes=size,
            connections=CONNECTED[size],
            requests=many,
            first=self.numbered,
            processes=PROCESSES[size],
        )
        self.numbered += many * len(self.devices)
        if found.statuses != {201: found.done}:
            raise RuntimeError(f"not all were taken: {found.statuses}")
        return found


def run() -> list[Row]:
    """Return rates of two sizes, waits, and what memory grows by."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build) as folder, course(Path(folder)) as one:
        return [*_small(one), *_large(one), *_memory(one)]


def _small(one: Course) -> list[Row]:
    one.pounds(one.ours, SMALL, REQUESTS[SMALL] // 4)  # what is made once
    ours, floor = [], []
    for _ in range(ROUNDS):
        floor.append(one.pounds(one.nginx, SMALL))
        ours.append(one.pounds(one.ours, SMALL))
    best, fastest = max(ours, key=_rate), max(floor, key=_rate)
    aim = min(LEAST_RATE, SHARE * fastest.rate)
    return [
        Row(
            bench="load",
            what=f"PUT of 64 KiB from {DEVICES} devices, {CONNECTIONS} connections; floor: nginx",
            ours=best.rate,
            floor=fastest.rate,
            unit="PUT/s",
            more_is_better=True,
            at_least=aim,
        ),
        *(
            Row(
                bench="load",
                what=f"until the answer, {name} of 64 KiB; floor: nginx",
                ours=best.waits_ms[at],
                floor=fastest.waits_ms[at],
                unit="ms",
                more_is_better=False,
            )
            for name, at in (("p50", 50), ("p99", 99))
        ),
        Row(
            bench="load",
            what="processor time of the client for a PUT; floor: to nginx",
            ours=best.client_cpu_seconds / best.done * 1e6,
            floor=fastest.client_cpu_seconds / fastest.done * 1e6,
            unit="us",
            more_is_better=False,
        ),
    ]


def _large(one: Course) -> list[Row]:
    ours, floor, bare = [], [], []
    for _ in range(ROUNDS):
        floor.append(one.pounds(one.nginx, LARGE).rate)
        bare.append(_disk(one.folder / "bare", LARGE, REQUESTS[LARGE], CONNECTED[LARGE]))
        ours.append(one.pounds(one.ours, LARGE).rate)
    return [
        Row(
            bench="load",
            what=f"PUT of 1 MiB from {CONNECTED[LARGE]} devices; floor: {name}",
            ours=max(ours),
            floor=max(seen),
            unit="PUT/s",
            more_is_better=True,
        )
        for name, seen in (("nginx", floor), ("as many threads that write and sync", bare))
    ]


def _memory(one: Course) -> list[Row]:
    meter = Meter(one.server)
    one.pounds(one.ours, SMALL, FEW)
    before = meter.read().resident_megabytes
    one.pounds(one.ours, SMALL, MANY)
    return [
        Row(
            bench="load",
            what=f"resident memory after {MANY:,} PUTs more; floor: before them",
            ours=meter.read().resident_megabytes,
            floor=before,
            unit="MB",
            more_is_better=False,
        )
    ]


def _rate(found: Pounded) -> float:
    return found.rate


def _disk(folder: Path, size: int, files: int, threads: int) -> float:
    """Return how many files a second are written, synced and named durably, by so many threads."""
    folder.mkdir(exist_ok=True)
    body = os.urandom(size)

    def write(_: int) -> None:
        path = folder / os.urandom(8).hex()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(descriptor, body)
        os.fsync(descriptor)
        os.close(descriptor)
        sync_folder(folder)

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write, range(files)))
    return files / (time.perf_counter() - began)


# --- the servers ------------------------------------------------------------------------


@contextmanager
def course(folder: Path) -> Iterator[Course]:
    """Run both servers, with devices that both let in."""
    with site.collector_site(folder / "site") as made:
        devices = tuple(device(made) for _ in range(DEVICES))
        config = made.premises.paths.config
        tls = Credentials(
            certificate=config / "tls.pem",
            key=config / "tls.key",
            client_authority=config / "ca.pem",
            clients=Clients.REQUIRED,
        )
        authority = made.premises.authority().pem.decode()
        made.stop()  # the program takes its place, on the same files
        workers = len(os.sched_getaffinity(0))
        with (
            webserver(folder / "nginx", tls, workers) as beside,
            program(folder / "site") as server,
        ):
            port = int(made.origin.rpartition(":")[2])
            yield Course(
                ours=Target(port=port, authority=authority),
                nginx=Target(port=beside, authority=authority),
                devices=devices,
                server=server.pid,
                folder=folder,
            )


def device(made: site.Site) -> Device:
    """Enrol a device there; return what its frames have in common."""
    workstation = made.workstation()
    parts = split(workstation.seals(workstation.consents()))
    certificate, key = workstation.files
    return Device(
        certificate=str(certificate),
        key=str(key),
        signing=workstation.org.device.private_bytes_raw(),
        core=parts.core,
        shelf=parts.shelf,
    )


@contextmanager
def program(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run `assent-collector serve` on the folders of a site."""
    places = {
        "ASSENT_HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
        "PYTHONPATH": str(ROOT),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "collector", "serve"],
        cwd=folder,
        env={**os.environ, **places},
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            line = server.stdout.readline() if server.stdout else ""
            if not line.startswith("serving"):
                raise RuntimeError("the collector does not serve")
            yield server
        finally:
            server.terminate()
