"""Logs of a program: what it did, never what was captured, never who.

Lines go to standard error and, with a folder, to a rotating file of at most 5 x 1 MiB.
Messages are constants with numbers and reasons; no event, title, host name or path of a
captured program is ever an argument.
"""

import logging
import logging.handlers
import os
import sys
from io import TextIOWrapper
from pathlib import Path


def start_logging(program: str, folder: Path | None, *, verbose: bool = False) -> None:
    """Send this program's log to standard error and, where given, to a file in *folder*."""
    form = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    root = logging.getLogger()
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(form)
    root.addHandler(console)
    # At DEBUG it writes the paths of requests, and batches and consents are named in ours.
    logging.getLogger("urllib3").setLevel(logging.INFO)
    if folder is not None:
        kept = _OwnersAlone(
            folder / f"{program}.log", maxBytes=1 << 20, backupCount=4, encoding="utf-8"
        )
        kept.setFormatter(form)
        root.addHandler(kept)


class _OwnersAlone(logging.handlers.RotatingFileHandler):
    """A log that nobody else reads, whatever the umask; each file that it begins anew, too."""

    def _open(self) -> TextIOWrapper:
        fd = os.open(
            self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        return TextIOWrapper(os.fdopen(fd, "ab"), encoding=self.encoding)
