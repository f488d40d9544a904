"""An audit of a million batches, against the SHA-256 and Ed25519 alone that it cannot do without.

Every batch is signed by its device, and no signature says anything of another batch: so each is
checked.  The floor hashes the same bytes once and checks as many signatures, on the same
processors; what is above it is reading, the log's hashes, and every rule.
"""

import hashlib
import multiprocessing
import os
import secrets
import tempfile
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.bindings import crypto_sign_open

from base.pki import spki_sha256
from benchmarks.desk import ROOT
from benchmarks.result import Row, seconds_of
from governance.audit.examine import Report, examine
from governance.audit.reading import Bundle
from tests.fakes.audited import ORIGIN, Agreed, Audited
from wire import audit
from wire.category import Category
from wire.frame import ALGORITHM, LABEL, NONCE_BYTES, Core, core_hash, encode_core
from wire.ids import BatchHash, DeviceId, KeyId, SubjectId
from wire.leaf import Kind, batch_payload, entry
from wire.tlog import leaf_hash

RECORDS: Final = 1_000_000
PEOPLE: Final = 100
DAYS: Final = 25
AT_MOST: Final = 60.0  # seconds, on two cores


def run() -> list[Row]:
    """Return how long the audit takes, and how long its hashes and signatures alone."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build) as name:
        made = Audited()
        folder = written(made, Path(name) / "bundle", RECORDS)
        floor = seconds_of(lambda: bare(folder, RECORDS))
        reports: list[Report] = []
        ours = seconds_of(lambda: reports.append(audited(folder, made)))
    (report,) = reports
    if report.findings or report.batches < RECORDS - 2 * PEOPLE:
        raise RuntimeError(f"the audit is not of what was made: {report.findings[:3]}")
    return [
        Row(
            bench="audit",
            what=f"{RECORDS:,} batches, each signature, consent, policy, end",
            ours=ours,
            floor=floor,
            unit="s",
            more_is_better=False,
            at_most=AT_MOST,
        )
    ]


def audited(folder: Path, made: Audited) -> Report:
    """Audit the bundle on every processor."""
    return examine(Bundle.open(folder), made.trusted(), processes=processors())


def processors() -> int:
    """Return how many processors there are for us."""
    return len(os.sched_getaffinity(0))


# --- the floor --------------------------------------------------------------------------


def bare(folder: Path, signatures: int) -> None:
    """Hash every file and check so many signatures, on every processor."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    shares, count = 64, processors()
    with _pool(count) as pool:
        list(pool.map(_hash, [files[n::shares] for n in range(shares)]))
        list(pool.map(_verify, [signatures // shares] * shares))


def _hash(files: list[Path]) -> None:
    for path in files:
        hashlib.sha256(path.read_bytes()).digest()


def _verify(times: int) -> None:
    key, message = Ed25519PrivateKey.generate(), secrets.token_bytes(120)
    signed, public = key.sign(message) + message, key.public_key().public_bytes_raw()
    for _ in range(times):
        crypto_sign_open(signed, public)


def _pool(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))


# --- the bundle -------------------------------------------------------------------------


def written(made: Audited, folder: Path, leaves: int) -> Path:
    """Write a bundle of so many leaves: consents of `PEOPLE`, then their batches."""
    made.publishes()
    agreed = []
    for _ in range(PEOPLE):
        made.another_person()
        agreed.append(made.agrees())
    made.is_witnessed()
    cores = [
        (_core(made, one, day), one.device.private_bytes_raw())
        for one in agreed
        for day in range(DAYS)
    ]
    first = list(made.entries)
    spans = range(-(-leaves // audit.SPAN))
    write = partial(_write_span, folder, leaves, first, cores)
    files: dict[str, str] = {}
    with _pool(processors()) as pool:
        for span, (hashes, sums) in enumerate(pool.map(write, spans)):
            files.update(sums)
            known = made.tree.size - span * audit.SPAN
            for at in range(known * 32, len(hashes), 32):
                made.tree.append(hashes[at : at + 32])
    made.later(days=DAYS)
    made.is_witnessed()
    made.entries.clear()
    return _finish(made, folder, files)


def _finish(made: Audited, folder: Path, sums: dict[str, str]) -> Path:
    rest = made.files()
    for name, data in rest.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    sums |= {name: hashlib.sha256(data).hexdigest() for name, data in rest.items()}
    (folder / audit.SUMS).write_bytes(audit.encode_sums(sums))
    return folder


def _core(made: Audited, one: Agreed, day: int) -> bytes:
    at = made.at + timedelta(days=day)
    core = Core(
        origin=ORIGIN,
        tenant="acme",
        programme="pilot",
        device=DeviceId(spki_sha256(one.device.public_key())),
        subject=SubjectId(one.subject),
        policy=one.policy,
        grant=one.grant,
        category=Category.KEYS,
        day=at.date().isoformat(),
        recipients=made.recipients,
        guard_key=KeyId(bytes(16)),
        purpose=made.in_force.purpose,
        expires=(at + timedelta(days=60)).date().isoformat(),
    )
    return encode_core(core)[:-NONCE_BYTES]


def _write_span(
    folder: Path,
    leaves: int,
    first: list[bytes],
    cores: list[tuple[bytes, bytes]],
    span: int,
) -> tuple[bytes, dict[str, str]]:
    """Write the files of one span; return the hashes of its leaves, and the digests."""
    start, end = span * audit.SPAN, min((span + 1) * audit.SPAN, leaves)
    keys = {raw: Ed25519PrivateKey.from_private_bytes(raw) for _, raw in cores}
    entries, lines = [], []
    for leaf in range(start, end):
        if leaf < len(first):
            entries.append(first[leaf])
            continue
        head, raw = cores[leaf * len(cores) // leaves]
        line = _batch(leaf, head + secrets.token_bytes(NONCE_BYTES), keys[raw])
        payload = batch_payload(BatchHash(line.batch), core_hash(line.core))
        entries.append(entry(Kind.BATCH, payload, line.salt))
        lines.append(audit.encode_line(line) + b"\n")
    files = {audit.batches_name(span): b"".join(lines), audit.releases_name(span): b""}
    for at in range(0, len(entries), audit.TILE):
        tile = entries[at : at + audit.TILE]
        name = audit.tile_name((start + at) // audit.TILE, len(tile))
        files[name] = audit.encode_entries(tile)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return b"".join(map(leaf_hash, entries)), sums


def _batch(leaf: int, core: bytes, key: Ed25519PrivateKey) -> audit.BatchLine:
    shelf, body = secrets.token_bytes(32), secrets.token_bytes(32)
    message = b"".join((LABEL, ALGORITHM, leaf.to_bytes(8, "big"), core_hash(core), shelf, body))
    return audit.BatchLine(
        leaf=leaf,
        salt=secrets.token_bytes(16),
        batch=secrets.token_bytes(32),
        core=core,
        shelf_sha256=shelf,
        body_sha256=body,
        sequence=leaf,
        signature=key.sign(message),
    )
