"""A bucket in memory, as consistent as a real one: for trying every order of things.

It passes the contract suite of the stores beside a real one (tests/contracts).
"""

import threading
from datetime import UTC, datetime
from typing import Final

from collector.store.bucket import Bucket, Created, Listed
from collector.store.s3 import BucketStore

FIRST: Final = "a" * 16  # a collector


class MemoryBucket(Bucket):
    """Holds objects by name; both identities may do everything."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._at: dict[str, datetime] = {}
        self._lock = threading.Lock()

    def open(self, collector: str = FIRST) -> BucketStore:
        """Return the store of one collector on it."""
        store = BucketStore(ingest=self, keep=self, prefix="t", collector=collector)
        store.probe()
        return store

    def create(self, name: str, content: bytes) -> Created:
        with self._lock:
            if name in self.objects:
                return Created(new=False)
            self.objects[name], self._at[name] = content, datetime.now(UTC)
        return Created(new=True)

    def get(self, name: str) -> bytes | None:
        return self.objects.get(name)

    def names(self, folder: str) -> list[Listed]:
        with self._lock:
            return [
                Listed(name=name, at=self._at[name])
                for name in sorted(self.objects)
                if name.startswith(f"{folder}/")
            ]

    def remove(self, name: str) -> None:
        self.objects.pop(name, None)
