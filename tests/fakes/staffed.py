"""A collector whose devices come to workers, which are processes of their own."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from base.serving import Clients, Credentials, Listener, Served
from benchmarks.meter import tree
from collector.app import build
from collector.workers.crew import Crew
from tests.fakes.site import Site, Workstation, collector_site, serving
from wire.frame import join_unsigned, split
from wire.ids import BatchHash
from wire.sealing import sign

WORKERS = 2


@dataclass(kw_only=True)
class Staffed:
    """A site whose devices come to workers."""

    site: Site
    home: Workstation

    @property
    def pids(self) -> list[int]:
        """The workers that run now."""
        return [pid for pid in tree(os.getpid()) if b"collector.workers.worker" in words(pid)]

    def waits_for(self, wanted: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not wanted():
            if time.monotonic() >= deadline:
                raise TimeoutError("waited in vain")
            time.sleep(0.01)

    def again(self, frame: bytes, number: int) -> bytes:
        """Return the same content as another batch."""
        parts = split(frame)
        unsigned = join_unsigned(parts.core, parts.shelf, parts.body)
        return sign(unsigned, number, self.home.org.device)


def words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def credentials(site: Site) -> Credentials:
    return Credentials(
        certificate=site.premises.tls_certificate,
        key=site.premises.tls_key,
        client_authority=site.premises.client_authority,
        clients=Clients.OPTIONAL,
    )


@contextmanager
def staffed_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: str = ""
) -> Iterator[Staffed]:
    folder = tmp_path / "site"
    monkeypatch.setenv("ASSENT_HOME", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    with collector_site(folder, limits) as site:
        site.serving.close()
        port = int(site.origin.rpartition(":")[2])
        listener = Listener("127.0.0.1", port, abreast=WORKERS)
        run = Served(Crew(listener), build(site.collector), credentials(site))
        site.serving.enter_context(serving(run))
        yield Staffed(site=site, home=site.workstation())


def hash_of(frame: bytes) -> BatchHash:
    return BatchHash(hashlib.sha256(frame).digest())
