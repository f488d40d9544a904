"""Builds our Debian packages into build/packages, the same bytes each time.

    assent           what a data subject's workstation runs: agent, sensors, tray
    assent-servers   collector, guard, reader and governance

Each is a folder below /usr/lib that looks like a virtual environment on Debian's own Python:
the pinned packages, our code, all of it compiled, and nothing of Debian's in sight but gi.
A program is started by a few lines in /usr/bin that let nothing of the person's own Python
in (`LAUNCHER`).  What is the same for each version lies in the folder of the package here:
control, scripts, units.  See docs/decisions/0014-deb.md.

Usage: python packaging/deb/build.py [--version VERSION] [--out FOLDER] [--large] [PACKAGE ...]
"""

import argparse
import compileall
import gzip
import hashlib
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Final

import needed

ROOT: Final = needed.ROOT
HERE: Final = ROOT / "packaging" / "deb"
WORK: Final = ROOT / "build" / "packages"
PYTHON: Final = f"python{sys.version_info.major}.{sys.version_info.minor}"
# One thread: with more, xz cuts its blocks by what the machine has.
COMPRESSED: Final = ("-Zxz", "-z4", "--threads-max=1")
UNNEEDED: Final = (  # below site-packages
    *("*/tests", "*/test", "*/include", "bin", "share"),
    *("numpy/_core/*_tests.*.so", "securesystemslib/_vendor/*.sh", "*/.gitignore"),
)
LIBRARIES: Final = {  # what wheels take from the system (PEP 600), and whose it is in Debian
    b"libc.so.6": "libc6",
    b"libgcc_s.so.1": "libgcc-s1",
    b"libstdc++.so.6": "libstdc++6",
    b"libz.so.1": "zlib1g",
}
LEFT_BY_PIP: Final = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")  # names this machine

# Nobody to write to yet, and an address that says so (RFC 2606).
MAINTAINER: Final = "The Assent project <packages@assent.invalid>"

LAUNCHER: Final = """\
#!/usr/lib/{package}/bin/python3 -I
# Isolated (-I), and so are the processes that it starts: no variable and no folder of the
# person's own Python says what is loaded here.
import os

for name in [name for name in os.environ if name.startswith("PYTHON")]:
    del os.environ[name]

from {module} import {function}  # noqa: E402

{function}()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One Debian package: its name, the programs in it, and what it takes from Debian's Python."""

    name: str
    programs: tuple[str, ...]
    from_debian: tuple[str, ...] = ()

    @property
    def home(self) -> str:
        """Where its files are, below the root."""
        return f"usr/lib/{self.name}"

    @property
    def site(self) -> str:
        """Where its modules are, below the root."""
        return f"{self.home}/lib/{PYTHON}/site-packages"


PACKAGES: Final = (
    Package(name="assent", programs=("agent", "tray"), from_debian=("gi",)),
    Package(name="assent-servers", programs=("collector", "guard", "reader", "governance")),
)


def build(
    package: Package, version: str, out: Path, compression: Sequence[str] = COMPRESSED
) -> Path:
    """Build one package and return its file."""
    root = WORK / "root" / package.name
    shutil.rmtree(root, ignore_errors=True)
    site = root / package.site
    modules = needed.modules(package.programs)
    shutil.copytree(_vendored(needed.requirements(modules)), site, symlinks=True)
    _our_code(package, modules, site)
    _interpreter(package, root)
    _compile(site, "/" + package.site)
    _commands(package, root)
    _documents(package, root, version)
    shutil.copytree(HERE / package.name / "root", root, dirs_exist_ok=True)
    _control(package, root, version)
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            is_open = path.is_dir() or path.parent in (root / "usr/bin", root / "DEBIAN")
            path.chmod(0o755 if is_open and path.name not in TEXTS else 0o644)
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{package.name}_{version}_{_architecture()}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", *compression, "--build", str(root), str(file)],  # noqa: S607 - Debian's own
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return file


TEXTS: Final = frozenset({"control", "conffiles", "md5sums"})


def _vendored(requirements: str) -> Path:
    """Return a folder with exactly these packages, installed once for each list."""
    digest = hashlib.sha256(f"{PYTHON} {UNNEEDED} {requirements}".encode()).hexdigest()[:16]
    folder = WORK / f"vendored-{digest}"
    if folder.exists():
        return folder
    part = WORK / f"vendored-{digest}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    listed = WORK / f"vendored-{digest}.txt"
    listed.write_text(requirements, "utf-8")
    # --no-deps: the list is complete, so nothing but what it pins can come in.
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check"),
            *("--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-compile"),
            *("--retries", "5", "--target", str(part), "--requirement", str(listed)),
        ],
        check=True,
    )
    for pattern in UNNEEDED:
        for path in list(part.rglob(pattern) if "*/" in pattern else part.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in LEFT_BY_PIP:
        for path in part.glob(f"*.dist-info/{name}"):
            path.unlink()
    part.rename(folder)
    return folder


def _our_code(package: Package, modules: list[Path], site: Path) -> None:
    for path in (*modules, *needed.texts(package.programs)):
        target = site / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _interpreter(package: Package, root: Path) -> None:
    """Make the folder an environment of Debian's Python: neither its packages nor the person's."""
    home = root / package.home
    (home / "bin").mkdir()
    (home / "bin/python3").symlink_to(f"../../../bin/{PYTHON}")
    (home / "pyvenv.cfg").write_text(
        "home = /usr/bin\ninclude-system-site-packages = false\n", "utf-8"
    )
    for name in package.from_debian:
        (root / package.site / name).symlink_to(f"../../../../python3/dist-packages/{name}")


def _compile(site: Path, as_path: str) -> None:
    """Compile all modules, here and not at installation, so that removal leaves nothing."""
    compileall.compile_dir(
        site,
        maxlevels=20,
        quiet=1,
        stripdir=str(site),
        prependdir=as_path,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def _commands(package: Package, root: Path) -> None:
    """Write what is started by name, with its man page and completions."""
    (root / "usr/bin").mkdir(parents=True)
    for command, module, function in _scripts(package):
        text = LAUNCHER.format(package=package.name, module=module, function=function)
        (root / "usr/bin" / command).write_text(text, "utf-8")
        subprocess.run(
            [sys.executable, str(HERE / "pages.py"), command, str(root)],
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )


def _scripts(package: Package) -> Iterator[tuple[str, str, str]]:
    """Yield command, module and function of each program of *package*."""
    for command, target in _project()["scripts"].items():
        module, _, function = target.partition(":")
        if module.partition(".")[0] in package.programs:
            yield command, module, function


def _documents(package: Package, root: Path, version: str) -> None:
    folder = root / "usr/share/doc" / package.name
    folder.mkdir(parents=True)
    (folder / "copyright").write_text(_copyright(package, root / package.site), "utf-8")
    changes = (ROOT / "CHANGELOG.md").read_bytes()
    (folder / "changelog.gz").write_bytes(gzip.compress(changes, 9, mtime=0))
    made = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    debian = f"""{package.name} ({version}) stable; urgency=medium

  * What changed stands in changelog.gz.

 -- {MAINTAINER}  {format_datetime(made)}
"""
    (folder / "changelog.Debian.gz").write_bytes(gzip.compress(debian.encode(), 9, mtime=0))


def _copyright(package: Package, site: Path) -> str:
    """Return who holds the rights: ours, and for each package in it where its licence lies."""
    paragraphs = [
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/",
        "Files: *\nCopyright: 2026 The Assent project\nLicense: Apache-2.0",
    ]
    for folder in sorted(site.glob("*.dist-info")):
        known = PathDistribution(folder).metadata
        licence = known["License-Expression"] or known["License"] or "see its own file"
        paragraphs.append(
            f"Files: {package.site}/* of {known['Name']} {known['Version']}\n"
            f"Copyright: {known['Author'] or known['Author-email'] or 'its authors'}\n"
            f"License: {licence.splitlines()[0]}\n"
            f"Comment: the whole text lies in /{package.site}/{folder.name}"
        )
    paragraphs.append(
        "License: Apache-2.0\n On Debian its text is in /usr/share/common-licenses/Apache-2.0."
    )
    return "\n\n".join(paragraphs) + "\n"


def _control(package: Package, root: Path, version: str) -> None:
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    target = root / "DEBIAN"
    target.mkdir()
    size = sum(-(-path.stat().st_size // 1024) for path in files)
    for path in (HERE / package.name).iterdir():
        if path.is_file():
            shutil.copyfile(path, target / path.name)
    fields = (target / "control").read_text("utf-8").rstrip("\n")
    major, minor = sys.version_info[:2]
    python = f"python3 (>= {major}.{minor}), python3 (<< {major}.{minor + 1})"
    fields = fields.replace("@python@", f"{python}, {', '.join(_libraries(root / package.site))}")
    (target / "control").write_text(
        f"Package: {package.name}\nVersion: {version}\nArchitecture: {_architecture()}\n"
        f"Maintainer: {MAINTAINER}\nInstalled-Size: {size}\n{fields}\n",
        "utf-8",
    )
    settings = [
        f"/{path.relative_to(root)}\n" for path in files if path.is_relative_to(root / "etc")
    ]
    if settings:
        (target / "conffiles").write_text("".join(settings), "utf-8")
    sums = (
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  "
        f"{path.relative_to(root)}\n"
        for path in files
    )
    (target / "md5sums").write_text("".join(sums), "utf-8")


def _libraries(site: Path) -> list[str]:
    """Return the Debian packages of the system's libraries that the compiled modules load.

    Of libc the version too: the newest of whose symbols one of them asks for.
    """
    found: set[str] = set()
    newest = (2, 0)
    for path in site.rglob("*.so*"):
        content = path.read_bytes()
        found |= {owner for name, owner in LIBRARIES.items() if name + b"\0" in content}
        asked = re.findall(rb"\0GLIBC_(\d+)\.(\d+)", content)
        newest = max([newest, *((int(major), int(minor)) for major, minor in asked)])
    version = ".".join(map(str, newest))
    return [f"{name} (>= {version})" if name == "libc6" else name for name in sorted(found)]


def _architecture() -> str:
    """Return what Debian calls this machine's kind; the packages hold compiled code."""
    asked = ["dpkg", "--print-architecture"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


def _project() -> dict[str, dict[str, str]]:
    project: dict[str, dict[str, str]] = tomllib.loads(
        (ROOT / "pyproject.toml").read_text("utf-8")
    )["project"]
    return project


def _epoch() -> str:
    """Return the time that all files get: of the last commit, or of the changelog."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return given
    asked = ["git", "log", "-1", "--format=%ct"]
    answer = subprocess.run(asked, cwd=ROOT, check=False, capture_output=True, text=True)
    return answer.stdout.strip() or str(int((ROOT / "CHANGELOG.md").stat().st_mtime))


def main() -> None:
    """Build what was asked for and name the files."""
    parser = argparse.ArgumentParser(description="Build our Debian packages.")
    parser.add_argument("--version", default=_project()["version"])
    parser.add_argument("--out", type=Path, default=WORK)
    parser.add_argument("--large", action="store_true", help="Do not compress; for tests.")
    parser.add_argument("packages", nargs="*", choices=[[], *(p.name for p in PACKAGES)])
    chosen = parser.parse_args()
    os.environ["SOURCE_DATE_EPOCH"] = _epoch()
    os.umask(0o022)
    for package in PACKAGES:
        if not chosen.packages or package.name in chosen.packages:
            compression = ("-Znone",) if chosen.large else COMPRESSED
            file = build(package, chosen.version, chosen.out, compression)
            print(f"{file.stat().st_size / 1e6:6.1f} MB  {os.path.relpath(file)}")


if __name__ == "__main__":
    main()
