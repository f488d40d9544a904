"""PUT of a batch (verify, fsync, row, leaf, receipt) against writing the same bytes durably.

Both servers run in a process of their own, behind the same TLS, and are given the same bytes
by the same clients over connections that stay open.  The floor answers 201 once file and
folder are synced: it verifies nothing, keeps no row and signs no receipt.
"""

import hashlib
import multiprocessing
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from base.durable import sync_folder
from base.https import OneDoor
from base.serving import Clients, Credentials, Listener
from benchmarks.desk import ROOT
from benchmarks.result import Row
from tests.fakes import site
from tests.fakes.tls import WAIT_SECONDS
from wire.frame import join_unsigned, split
from wire.sealing import sign

CLIENTS: Final = 4
SECONDS: Final = 4.0  # of each round
ROUNDS: Final = 2
BEST_KNOWN: Final = {64 << 10: "810/s", 1 << 20: "124-154/s"}


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where to send batches, and what one is made of."""

    ours: str
    floor: str
    pin: str
    authority: str
    certificate: str
    key: str
    core: bytes
    shelf: bytes
    device: bytes


def run() -> list[Row]:
    """Return PUTs a second, of two sizes, on the disk that this folder is on."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build) as folder, _served(Path(folder)) as place:
        return [_measured(place, size) for size in BEST_KNOWN]


def _measured(place: Place, size: int) -> Row:
    rates: dict[str, list[float]] = {place.ours: [], place.floor: []}
    for _ in range(ROUNDS):
        for origin, seen in rates.items():
            seen.append(_puts_a_second(place, origin, size))
    return Row(
        bench="collector",
        what=f"PUT of {size >> 10} KiB: durable, in index and log, receipt",
        ours=max(rates[place.ours]),
        floor=max(rates[place.floor]),
        unit="PUT/s",
        more_is_better=True,
        best_known=BEST_KNOWN[size],
    )


def _puts_a_second(place: Place, origin: str, size: int) -> float:
    until = time.perf_counter() + SECONDS
    with ThreadPoolExecutor(CLIENTS) as pool:
        done = list(pool.map(lambda _: _client(place, origin, size, until), range(CLIENTS)))
    return sum(done) / SECONDS


def _client(place: Place, origin: str, size: int, until: float) -> int:
    """Hand in one new batch after the other; return how many were taken in time."""
    door = OneDoor(
        origin,
        (place.pin,),
        place.authority,
        Path(place.certificate),
        Path(place.key),
        WAIT_SECONDS,
    )
    device = Ed25519PrivateKey.from_private_bytes(place.device)
    unsigned = join_unsigned(place.core, place.shelf, secrets.token_bytes(size))
    done = 0
    while time.perf_counter() < until:
        frame = sign(unsigned, secrets.randbits(63), device)  # another number, another batch
        name = hashlib.sha256(frame).hexdigest()
        answer = door.request("PUT", f"/v1/batches/{name}", frame)
        if answer.status != 201:
            raise RuntimeError(f"a batch was answered with {answer.status}: {answer.body[:200]!r}")
        done += 1
    door.close()
    return done


# --- the servers' process -----------------------------------------------------------------


@contextmanager
def _served(folder: Path) -> Iterator[Place]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(folder, theirs))
    process.start()
    theirs.close()
    try:
        yield msgspec.json.decode(ours.recv_bytes(), type=Place)
    finally:
        ours.close()
        process.join(WAIT_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()


def _serve(folder: Path, parent: Connection) -> None:
    """Serve both until *parent* hangs up."""
    with site.collector_site(folder / "site") as running:
        workstation = running.workstation()
        parts = split(workstation.seals(workstation.consents()))
        premises = running.premises
        credentials = Credentials(
            certificate=premises.paths.config / "tls.pem",
            key=premises.paths.config / "tls.key",
            client_authority=premises.paths.config / "ca.pem",
            clients=Clients.OPTIONAL,
        )
        floor = Listener("127.0.0.1", 0)
        (folder / "bare").mkdir()
        with site.listening(floor, _bare(folder / "bare"), credentials):
            certificate, key = workstation.files
            place = Place(
                ours=running.origin,
                floor=f"https://127.0.0.1:{floor.port}",
                pin=premises.tls_pin(),
                authority=premises.authority().pem.decode(),
                certificate=str(certificate),
                key=str(key),
                core=parts.core,
                shelf=parts.shelf,
                device=workstation.org.device.private_bytes_raw(),
            )
            parent.send_bytes(msgspec.json.encode(place))
            try:
                parent.recv_bytes()
            except EOFError:
                return


def _bare(folder: Path) -> Starlette:
    """Return what writes each body durably, and says so."""

    def write(name: str, body: bytes) -> None:
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(descriptor, body)
        os.fsync(descriptor)
        os.close(descriptor)
        sync_folder(folder)

    async def put(request: Request) -> Response:
        body = await request.body()
        await run_in_threadpool(write, request.path_params["batch"], body)
        return Response(b"{}", 201, media_type="application/json")

    return Starlette(routes=[Route("/v1/batches/{batch}", put, methods=["PUT"])])
