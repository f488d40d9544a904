"""The packages as files: the same each time, by Debian's rules, with nothing done behind a back."""

import subprocess
from pathlib import Path

import pytest

from tests.install.packages import make

pytestmark = [pytest.mark.install, pytest.mark.slow, pytest.mark.timeout(1800)]
NAMES = ["assent", "assent-servers"]


@pytest.mark.parametrize("name", NAMES)
def test_no_script_of_a_package_reaches_the_network_or_starts_anything(
    packages: dict[str, Path], name: str, tmp_path: Path
) -> None:
    """Installing is unpacking: nothing is enabled, started or fetched."""
    subprocess.run(["dpkg-deb", "--control", packages[name], tmp_path / name], check=True)
    scripts = {"preinst", "postinst", "prerm", "postrm"}
    text = "".join(
        path.read_text("utf-8") for path in (tmp_path / name).iterdir() if path.name in scripts
    )
    forbidden = ("curl", "wget", "pip", "systemctl start", "systemctl enable", "deb-systemd-invoke")
    assert [word for word in forbidden if word in text] == []


@pytest.mark.parametrize("name", NAMES)
def test_lintian_finds_nothing_that_is_not_answered_for(
    packages: dict[str, Path], name: str
) -> None:
    """Neither error nor warning; what is meant to be so says why in the package's overrides."""
    uncompressed = "uses-no-compression-for-data-tarball,uses-no-compression-for-control-tarball"
    ran = subprocess.run(
        ["lintian", "--allow-root", "--suppress-tags", uncompressed, packages[name]],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (ran.stdout, ran.returncode) == ("", 0)


def test_a_package_is_built_the_same_each_time(packages: dict[str, Path], tmp_path: Path) -> None:
    """Whoever builds it from the same commit gets the same bytes."""
    again = make(tmp_path, "assent-servers")
    assert again["assent-servers"].read_bytes() == packages["assent-servers"].read_bytes()
