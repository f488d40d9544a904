"""One build, one clean Debian and one life in it for all tests of the packages.

They need root, for the clean system, and packages from this machine's mirror.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.install.debian import BASE, ROOT, CleanDebian
from tests.install.life import Lived, live
from tests.install.packages import make, next_version


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both packages as `make packages` builds them, and the first one's next version."""
    folder = tmp_path_factory.mktemp("packages")
    found = make(folder)
    return {**found, "next": next_version(found["assent"], folder)}


@pytest.fixture(scope="session")
def debian() -> Iterator[CleanDebian]:
    """A clean Debian 12, or a line that says what is missing for one."""
    if os.geteuid() != 0:
        pytest.skip("a clean Debian needs root (mounts, chroot); only the packages were looked at")
    if not BASE.exists() and shutil.which("mmdebstrap") is None:
        pytest.skip("a clean Debian needs mmdebstrap; run `make setup` as root")
    if not BASE.exists():
        subprocess.run([ROOT / "packaging/setup/try-in-chroot.sh", "--only-base"], check=True)
    with CleanDebian() as clean:
        clean.run("apt-get", "update", "-qq")
        yield clean


@pytest.fixture(scope="session")
def lived(
    debian: CleanDebian, packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Lived:
    """What came of the packages' life in it: see `live`."""
    return live(debian, packages, tmp_path_factory.mktemp("life"))
