"""What several files of unit tests stand on: a collector that listens, and a device of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.delivering import Delivering
from tests.fakes.site import Site, collector_site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Return a collector and a guard that really listen, with a policy in force."""
    with collector_site(tmp_path / "site") as running:
        yield running


@pytest.fixture
def laptop(site: Site, tmp_path: Path) -> Delivering:
    """Return an enrolled device of *site* with something to send."""
    return Delivering.enrolled(site, tmp_path / "state")
