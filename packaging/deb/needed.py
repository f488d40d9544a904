"""Which of our modules a package ships, and which of the pinned packages those import.

A package holds the programs it is made for, and of `wire` and `base` only the modules that
these reach.  What is not needed is not there: it cannot be attacked and need not be updated.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
SHARED: Final = ("base", "wire")
FROM_DEBIAN: Final = frozenset({"gi"})  # built against the system's own libraries
PIN: Final = re.compile(r"^(?P<name>[a-z0-9.-]+)==.*?(?=^[a-z]|\Z)", re.MULTILINE | re.DOTALL)


def modules(programs: Iterable[str]) -> list[Path]:
    """Return the files of all modules of *programs* and of what they reach in wire and base."""
    found: set[Path] = set()
    waiting = [path for program in programs for path in (ROOT / program).rglob("*.py")]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for name in imports(path):
            first, *rest = name.split(".")
            if first in SHARED:
                waiting += _files(ROOT / first, rest)
    return sorted(found)


def texts(programs: Iterable[str]) -> list[Path]:
    """Return the files beside the modules that *programs* read: forms, registry, claims."""
    folders = [ROOT / name for name in ("wire", *programs)]
    kinds = ("*.txt", "*.toml")
    return sorted(path for folder in folders for kind in kinds for path in folder.rglob(kind))


def imports(path: Path) -> Iterator[str]:
    """Yield each name that a module imports, in full; it may be a module or a thing in one."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def requirements(files: Iterable[Path]) -> str:
    """Return the part of requirements/run.txt that *files* import, hashes and all."""
    listed = (ROOT / "requirements" / "run.txt").read_text("utf-8")
    pins = {found["name"]: found[0] for found in PIN.finditer(listed)}
    wanted = _with_what_they_need(_imported(files), frozenset(pins))
    if wanted - pins.keys():
        raise SystemExit(f"not in requirements/run.txt: {', '.join(sorted(wanted - pins.keys()))}")
    return "".join(pins[name] for name in sorted(wanted))


def _files(folder: Path, names: list[str]) -> list[Path]:
    """Return the file of a module below *folder*, and of the packages on the way there."""
    found = [folder / "__init__.py"]
    for name in names:
        if (folder / f"{name}.py").exists():
            return [*found, folder / f"{name}.py"]
        folder /= name
        found.append(folder / "__init__.py")
    return [path for path in found if path.exists()]


def _imported(files: Iterable[Path]) -> set[str]:
    owners = packages_distributions()
    ours = {path.name for path in ROOT.iterdir()}
    found = set()
    for name in {name for path in files for name in imports(path)}:
        first, _, rest = name.partition(".")
        if first == "backports":  # a folder that many packages share
            found.add(f"backports-{rest.partition('.')[0]}")
        elif first not in sys.stdlib_module_names and first not in ours | FROM_DEBIAN:
            found.add(_canonical(owners[first][0]))
    return found


def _with_what_they_need(names: Iterable[str], pinned: frozenset[str]) -> set[str]:
    """Return *names* and all that they need.

    The pins are complete for this platform, so what is not among them is for another one.
    """
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        needs = [line for line in distribution(name).requires or () if "extra ==" not in line]
        named = {_canonical(re.split(r"[^\w.-]", line, maxsplit=1)[0]) for line in needs}
        waiting += named & pinned
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
