"""A bulk release at the guard: one request of a reader for as many batches as it may name.

The floor is what the second lock is made of, and nothing else: each shelf opened with its key,
and sealed to the reader.  What is above it is the ten checks of `guard.release`, above all the
two proofs a batch, and finding the keys in the guard's file.
"""

import tempfile
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.desk import ROOT
from benchmarks.result import Row, alternated
from guard.keys import Found, Keys
from guard.release import Released, release
from tests.fakes.organisation import NOW, READER, Organisation, public_key_of_identity, wall
from wire.category import Category
from wire.frame import core_hash
from wire.guard_http import LARGEST_RELEASE, LoggedBatch, ReleaseRequest
from wire.ids import SubjectId
from wire.shelf import reseal, unshelve

MONTH: Final = "2027-03"  # of `NOW`
AT_LEAST: Final = 1_000.0  # batches a second and process: "thousands a second" on two cores


def run() -> list[Row]:
    """Return batches a second of both."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build) as name:
        keys = Keys(Path(name) / "keys.sqlite")
        try:
            return [_measured(keys, Path(name) / "policy")]
        finally:
            keys.close()


def _measured(keys: Keys, folder: Path) -> Row:
    acme = Organisation()
    subject = SubjectId(acme.subject)
    keys.public_key(subject, Category.KEYS, MONTH, wall(NOW))
    found = keys.find(subject, Category.KEYS, MONTH)
    assert isinstance(found, Found)  # noqa: S101 - it was made in the line before
    acme.guard_seed = found.seed
    published = acme.publish(folder)
    grant = acme.grant()
    logged = [
        acme.log_release(acme.seal(published.digest), grant, acme.recipient)
        for _ in range(LARGEST_RELEASE)
    ]
    size = acme.tree.size
    batches = tuple(
        msgspec.structs.replace(one, proof=acme.tree.inclusion(one.index, size)) for one in logged
    )
    asked = ReleaseRequest(
        grant=grant, checkpoint=acme.cosigned(acme.checkpoint()), batches=batches
    )
    trusted = published.policy_set()
    reader = public_key_of_identity(acme.identity)

    def ours() -> None:
        with keys.finding() as find:
            outcome = release(
                asked, caller=READER, policy_set=trusted, find_key=find, now=wall(NOW)
            )
        if not isinstance(outcome, tuple) or not all(isinstance(o, Released) for o in outcome):
            raise RuntimeError(f"the guard has not released all of it: {outcome!r:.300}")

    def floor() -> None:
        for one in batches:
            _through(one, found.seed, reader)

    mine, bare = alternated(ours, floor, 1)
    return Row(
        bench="release",
        what=f"{LARGEST_RELEASE:,} batches in one request, on one core",
        ours=LARGEST_RELEASE / mine,
        floor=LARGEST_RELEASE / bare,
        unit="/s",
        more_is_better=True,
        at_least=AT_LEAST,
    )


def _through(one: LoggedBatch, seed: bytes, reader: bytes) -> bytes:
    digest = core_hash(one.core)
    return reseal(unshelve(one.shelf, seed, digest), reader, digest)
