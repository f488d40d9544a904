"""The build back end of pyproject.toml: links this folder into a virtual environment.

`pip install -e .` is all it can do (PEP 660): a `.pth` line and the console scripts, out of
the standard library alone, so setting up downloads nothing that is not pinned.  It builds
no wheel of the code and no source archive: the names of our packages are taken on the
public registry, and a stray upload there would be installed by somebody.
"""

import base64
import hashlib
import tomllib
import zipfile
from pathlib import Path
from typing import Final, NoReturn

ROOT: Final = Path(__file__).resolve().parents[2]
WHEEL: Final = "Wheel-Version: 1.0\nGenerator: link\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def build_editable(
    wheel_directory: str,
    config_settings: object = None,
    metadata_directory: str | None = None,
) -> str:
    """Write the wheel that points here into *wheel_directory* and return its name."""
    del config_settings, metadata_directory
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    name, version = project["name"], project["version"]
    scripts = "".join(f"{command} = {target}\n" for command, target in project["scripts"].items())
    information = f"{name}-{version}.dist-info"
    files = {
        f"{name}.pth": f"{ROOT}\n",
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{information}/WHEEL": WHEEL,
        f"{information}/entry_points.txt": f"[console_scripts]\n{scripts}",
    }
    lines = [_record(path, text) for path, text in files.items()]
    files[f"{information}/RECORD"] = "".join([*lines, f"{information}/RECORD,,\n"])
    wheel = f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory) / wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


def build_wheel(*_arguments: object) -> NoReturn:
    """Refuse: there is nothing to publish."""
    raise SystemExit("assent is never published as a wheel; use `make setup` or an installer")


def build_sdist(*_arguments: object) -> NoReturn:
    """Refuse: there is nothing to publish."""
    raise SystemExit("assent is never published as an archive; clone the repository")


def _record(path: str, text: str) -> str:
    """Return the line of RECORD for one file (PEP 376: unpadded base64 of SHA-256)."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
    return f"{path},sha256={digest.decode()},{len(text.encode())}\n"
