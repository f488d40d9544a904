"""What of a store can be tried that HTTP does not show, by the kind of store.

Of files: what another user of this machine sees.  Of a bucket: what is given to who shows no
credentials, and to who has those alone that hand in, and nothing of the collector besides.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

from collector.config import Config
from collector.drill.local import FileProbes
from collector.drill.probes import Hole
from collector.premises import Premises
from collector.store.bucket import Bucket
from collector.store.credentials import Identity
from collector.store.opening import bucket_as, credentials_of, prefix_of
from collector.store.s3 import frame_name
from wire.ids import BatchHash

AT_ONCE: Final = 8  # questions to a store of somebody else's
NOBODY: Final = "somebody without credentials"
UPLOADER: Final = "who has the uploader's credentials alone"


class StoreProbes(Protocol):
    """What a drill tries of a store that it cannot try over HTTP."""

    @property
    def left_out(self) -> str:
        """What cannot be tried as things are set up; empty if there is nothing."""
        ...

    def places(self, turn: int, most: int) -> Iterator[Hole | None]:
        """Yield what is found where objects lie; None: nothing.

        Of single ones at most *most* are looked at, other ones each *turn*.
        """
        ...

    def batches(self, named: Iterable[BatchHash]) -> Iterator[Hole | None]:
        """Yield the same of these batches, each by its name."""
        ...


@dataclass(frozen=True, slots=True)
class BucketProbes:
    """Of a bucket: below *prefix*, asked by everybody in *asking*."""

    prefix: str
    asking: tuple[tuple[str, Bucket], ...]
    left_out: str = ""

    def places(self, turn: int, most: int) -> Iterator[Hole | None]:  # noqa: ARG002 - all alike
        """Yield what a list of each folder is answered with."""
        for who, bucket in self.asking:
            for folder in ("objects", "incoming"):
                listed = bucket.may_list(f"{self.prefix}/{folder}/")
                yield Hole(line=f"the store lists {folder} to {who}") if listed else None

    def batches(self, named: Iterable[BatchHash]) -> Iterator[Hole | None]:
        """Yield what asking for each is answered with, by everybody."""
        asked = [(who, bucket, batch) for batch in named for who, bucket in self.asking]
        with ThreadPoolExecutor(max_workers=AT_ONCE) as threads:
            yield from threads.map(self._batch, *zip(*asked, strict=True)) if asked else ()

    def _batch(self, who: str, bucket: Bucket, batch: BatchHash) -> Hole | None:
        if not bucket.may_get(frame_name(self.prefix, batch)):
            return None
        return Hole(line=f"the store gives a batch to {who}", batch=batch)


def probes_of(premises: Premises, config: Config) -> StoreProbes:
    """Return what is to be tried of the store that *config* names.

    Raises:
        SetupError: Its settings have to be mended first.

    """
    if config.store.kind == "files":
        return FileProbes(premises.objects)
    nobody = (NOBODY, bucket_as(premises, config, None))
    credentials = credentials_of(premises, config)
    if credentials.read(Identity.INGEST) == credentials.read(Identity.KEEP):
        alone = "one identity hands batches in and keeps them, so it was not tried as a thief of it"
        return BucketProbes(prefix_of(config), (nobody,), alone)
    ingest = (UPLOADER, bucket_as(premises, config, Identity.INGEST))
    return BucketProbes(prefix_of(config), (nobody, ingest))
