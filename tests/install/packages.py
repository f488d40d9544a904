"""Builds the packages for the tests, and the workstation's next version."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.install.debian import ROOT

BUILD: Final = ROOT / "packaging" / "deb" / "build.py"
NEXT: Final = "999.0"


def make(folder: Path, *packages: str) -> dict[str, Path]:
    """Build packages as `make packages` does, but for the compression."""
    build = [sys.executable, str(BUILD), "--large", "--out", str(folder), *packages]
    subprocess.run(build, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": "1790000000"})
    return {path.name.partition("_")[0]: path for path in folder.glob("*.deb")}


def next_version(deb: Path, folder: Path) -> Path:
    """Return the same package with a higher version and one more file."""
    name = deb.name.partition("_")[0]
    root = folder / f"next-{name}"
    subprocess.run(["dpkg-deb", "--raw-extract", deb, root], check=True)
    control = root / "DEBIAN" / "control"
    lines = control.read_text("utf-8").splitlines()
    control.write_text(
        "".join(f"Version: {NEXT}\n" if x.startswith("Version:") else f"{x}\n" for x in lines)
    )
    (root / f"usr/share/doc/{name}/version-of-test").write_text(NEXT)
    made = folder / f"{name}-next_{NEXT}.deb"
    build = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(root), str(made)]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    return made
