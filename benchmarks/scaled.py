"""The scaled form: two collectors on one PostgreSQL and one bucket of Ceph RGW, beside one.

The same devices, connections and frames as in `load`, first all to one collector, then half to
each of two, in turn.  Database, gateway and cluster run on this machine, too, and sync to its
disk; so the first rows say whether a second collector brings more where all of them share two
processors.  A second one is for where collectors are short of processor and database and store
are not; the last row makes that so, by giving each collector a small part of one processor, as
the limit of a container does.
"""

import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.allotted import allotted
from benchmarks.desk import ROOT
from benchmarks.load import CONNECTIONS, DEVICES, LARGE, SMALL, device, program
from benchmarks.pounding import Device, Pounded, Target, pound
from benchmarks.result import Row
from tests.fakes import postgres, site
from tests.fakes.buckets import Rented
from tests.fakes.ceph import running_ceph

ROUNDS: Final = 3
REQUESTS: Final = {SMALL: 480, LARGE: 96}
ALLOTTED: Final = 0.06  # of a processor, to a collector: so little that the rest is not scarce
FEW: Final = 64  # uploads of a round with so little
MORE: Final = 1.5  # times what one carries: what two have to, then
DURABLE: Final = ("shared_buffers=64MB", "listen_addresses=")  # fsync as PostgreSQL has it


@dataclass(kw_only=True)
class Pair:
    """Two collectors, and how far the numbers of frames have come."""

    targets: tuple[Target, Target]
    servers: tuple[int, int]  # process ids
    devices: tuple[Device, ...]
    numbered: int = 1

    def pounds(self, size: int, targets: tuple[Target, ...], requests: int = 0) -> float:
        """Send new frames, in equal parts to each; return PUT/s."""
        all_of_them = requests or REQUESTS[size]
        many = all_of_them // len(targets)
        connections = CONNECTIONS // len(targets)
        first, self.numbered = self.numbered, self.numbered + all_of_them * len(self.devices)

        def one(at: int) -> Pounded:
            return pound(
                targets[at],
                self.devices,
                size_bytes=size,
                connections=connections,
                requests=many,
                first=first + at * many * len(self.devices),
            )

        with ThreadPoolExecutor(len(targets)) as pool:
            found = list(pool.map(one, range(len(targets))))
        for each in found:
            if each.statuses != {201: each.done}:
                raise RuntimeError(f"not all were taken: {each.statuses}")
        return sum(each.done for each in found) / max(each.seconds for each in found)


def run() -> list[Row]:
    """Return the rates of two collectors, beside that of one."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build) as folder, pair(Path(folder)) as both:
        for target in both.targets:
            both.pounds(SMALL, (target,))  # what is made once
        return [_row(both, SMALL, "64 KiB"), _row(both, LARGE, "1 MiB"), *_scarce(both)]


def _row(both: Pair, size: int, said: str) -> Row:
    ours, floor = [], []
    for _ in range(ROUNDS):
        floor.append(both.pounds(size, both.targets[:1]))
        ours.append(both.pounds(size, both.targets))
    return Row(
        bench="scaled",
        what=f"PUT of {said} to two collectors on PostgreSQL and Ceph RGW; floor: to one",
        ours=max(ours),
        floor=max(floor),
        unit="PUT/s",
        more_is_better=True,
    )


def _scarce(both: Pair) -> list[Row]:
    """Return what two carry that have little of a processor each; nothing where we may not."""
    ours, floor = [], []
    with allotted(both.servers[0], ALLOTTED) as one, allotted(both.servers[1], ALLOTTED) as other:
        if not (one and other):
            sys.stderr.write("scaled: no part of a processor can be allotted here: no last row\n")
            return []
        for _ in range(ROUNDS):
            floor.append(both.pounds(SMALL, both.targets[:1], FEW))
            ours.append(both.pounds(SMALL, both.targets, FEW))
    return [
        Row(
            bench="scaled",
            what=f"the same of 64 KiB, each collector with {ALLOTTED:g} of a processor; floor: one",
            ours=max(ours),
            floor=max(floor),
            unit="PUT/s",
            more_is_better=True,
            at_least=MORE * max(floor),
        )
    ]


@contextmanager
def pair(folder: Path) -> Iterator[Pair]:
    """Run database, store and both collectors, as programs; devices that both let in."""
    with ExitStack() as stack:
        database = stack.enter_context(postgres.server(DURABLE))
        rented = Rented.of(stack.enter_context(running_ceph()))
        first, second = folder / "one", folder / "two"
        made = stack.enter_context(site.collector_site(first, index_url=database.index()))
        devices = tuple(device(made) for _ in range(DEVICES))
        config = made.premises.config_file
        with config.open("a") as file:
            file.write(rented.toml())
        rented.write_credentials(config.parent / "store.credentials")
        authority = made.premises.authority().pem.decode()
        made.stop()  # the programs take its place, on the same files
        port, other = int(made.origin.rpartition(":")[2]), free_port()
        shutil.copytree(first / "config", second / "config")
        _listen_elsewhere(second / "config" / config.name, other)
        servers = [stack.enter_context(program(place)).pid for place in (first, second)]
        yield Pair(
            servers=(servers[0], servers[1]),
            targets=(
                Target(port=port, authority=authority),
                Target(port=other, authority=authority),
            ),
            devices=devices,
        )


def _listen_elsewhere(config: Path, port: int) -> None:
    text, changed = re.subn(
        r'(?m)^listen = "127\.0\.0\.1:\d+"', f'listen = "127.0.0.1:{port}"', config.read_text()
    )
    if changed != 1:
        raise RuntimeError("the configuration says nowhere where to listen")
    config.write_text(text)


def free_port() -> int:
    """Return one that nobody has just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
