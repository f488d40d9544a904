"""What the commands of `assent-govern` share: kinds of files, a passphrase, the time."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.clock import require_plausible_clock
from base.command import EXISTING_FILE
from base.errors import SetupError
from base.process import forbid_tracing
from governance.files import read_text
from governance.keys import read_private

FOLDER: Final = click.Path(file_okay=False, path_type=Path)
ANY_FILE: Final = click.Path(dir_okay=False, path_type=Path)
PASSPHRASE: Final = click.option(
    "--passphrase-file", type=EXISTING_FILE, help="File whose first line unlocks the key."
)
JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")


def now() -> datetime:
    """Return the time; what is signed is dated, and what is judged can have expired.

    Raises:
        AssentError: The clock is wrong for sure.

    """
    require_plausible_clock()
    return datetime.now(UTC)


def private_key(path: Path, passphrase_file: Path | None) -> Ed25519PrivateKey:
    """Return the private key in *path*, in a process that nobody can look into.

    Raises:
        SetupError: Not there, not such a key, or another passphrase.

    """
    forbid_tracing()
    return read_private(path, passphrase(passphrase_file))


def passphrase(path: Path | None) -> str | None:
    """Return the first line of the file at *path*; None without one.

    Raises:
        SetupError: It cannot be read, or is empty.

    """
    if path is None:
        return None
    lines = read_text(path).splitlines()
    if not lines or not lines[0]:
        raise SetupError(f"{path}: its first line is empty, and that is the passphrase")
    return lines[0]
