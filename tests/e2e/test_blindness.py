"""Who has all of the collector, and the reader's key as well, sees nothing (I6).

Where the batches lie in a bucket and the index in PostgreSQL, test_bucket.py shows the same.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.organisation import Organisation, Plan
from tests.conftest import Size
from tests.fakes.blindness import LEVELS, SETTINGS, World, check_blind

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisation]:
    """Run an organisation whose collector has store and index in its own files."""
    plan = Plan(levels=LEVELS, test_only=True, collector_settings=SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XDG_RUNTIME_DIR", raising=False)  # programs share it no more than a home
        with Organisation(tmp_path_factory.mktemp("acme"), plan) as organisation:
            yield organisation


@pytest.mark.soak
def test_a_dump_of_the_whole_collector_and_the_readers_key_shows_nothing(
    acme: Organisation, tmp_path: Path, size: Size, figure: Callable[[str], None]
) -> None:
    """Store, index, memory, configuration, logs, temporary files; see `tests.fakes.blindness`.

    A thousand canaries, in the long form among more batches.
    """
    world = World.at_work(acme, size(share=20, full=200))
    figure(check_blind(world, world.aborted(tmp_path / "dump"), tmp_path))
