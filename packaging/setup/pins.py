"""Prove that the running environment uses the pinned packages and not Debian's older ones.

The environment sees Debian's packages, because gi comes from there; whatever is pinned must
come from the environment itself, in the pinned version.

Usage: python packaging/setup/pins.py requirements/run.txt ...
"""

import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def pins(path: Path) -> dict[str, str]:
    """Return the version of each package that the requirements file *path* pins."""
    return dict(PIN.findall(path.read_text("utf-8")))


def differences(pinned: dict[str, str], environment: Path) -> Iterator[str]:
    """Yield one line for each pinned package that *environment* lacks or has otherwise."""
    for name, version in pinned.items():
        try:
            found = distribution(name)
        except PackageNotFoundError:
            yield f"{name} {version} is not installed"
            continue
        if found.version != version:
            yield f"{name} is {found.version}, pinned is {version}"
        elif not Path(str(found.locate_file(""))).is_relative_to(environment):
            yield f"{name} comes from {found.locate_file('')}, not from the environment"


def main(paths: Iterable[str]) -> int:
    """Print what differs; return the exit code."""
    wrong = [line for path in paths for line in differences(pins(Path(path)), Path(sys.prefix))]
    for line in wrong:
        print(f"setup: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
