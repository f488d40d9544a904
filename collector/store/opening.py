"""Which store a collector keeps its batches in: what `[store]` says, opened and tried."""

import secrets
from pathlib import Path
from typing import Final

from base.errors import SetupError
from collector.config import Config
from collector.premises import Premises
from collector.store import BodyStore
from collector.store.bucket import Bucket
from collector.store.credentials import Credentials, Identity
from collector.store.files import FileStore
from collector.store.s3 import BucketStore

RUN: Final = secrets.token_hex(8)
"""What tells this process from the one that ran here before it."""


def open_store(premises: Premises, config: Config, run: str = RUN, worker: str = "") -> BodyStore:
    """Return the store, ready for the first batch; what a worker opens was tried by its owner.

    In a bucket each *worker* of a *run* of a collector counts as one more: by its own name,
    which is new each time, nobody takes a mark of it for that of an upload that has ended,
    until the collector is started again.

    Raises:
        SetupError: The bucket, its settings or our rights there have to be mended first.
        RetryableError: It cannot be reached now.

    """
    if config.store.kind == "files":
        return FileStore(premises.objects)
    store = BucketStore(
        ingest=bucket_as(premises, config, Identity.INGEST),
        keep=bucket_as(premises, config, Identity.KEEP),
        prefix=prefix_of(config),
        collector=premises.collector_id(),
        run=run,
        worker=worker,
    )
    if not worker:
        store.probe()
    return store


def prefix_of(config: Config) -> str:
    """Return below which name everything lies in the bucket."""
    return config.store.prefix or config.tenant


def bucket_as(premises: Premises, config: Config, identity: Identity | None) -> Bucket:
    """Return the bucket as *identity* asks it; as who shows none, if it is None.

    Raises:
        SetupError: Its settings or credentials have to be mended first.

    """
    said, folder = config.store, premises.paths.config
    authority = _authority(folder / said.authority) if said.authority else None
    return Bucket(said, identity, credentials_of(premises, config), authority)


def credentials_of(premises: Premises, config: Config) -> Credentials:
    """Return what proves to the store who asks."""
    return Credentials(premises.paths.config / config.store.credentials)


def _authority(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise SetupError(f"{path}: {exc.strerror}; mend [store] authority") from exc
