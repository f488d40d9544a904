"""Remembers for which programmes the consent window has opened by itself: once is enough.

One file, one programme a line.  If it cannot be read or written, the worst that follows is
that the window opens by itself once more.
"""

import logging
from pathlib import Path
from typing import Final

from base import durable

_LOG: Final = logging.getLogger(__name__)


class Asked:
    """The programmes that the data subject was asked about, kept in *path*."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._programmes = set(path.read_text("utf-8").splitlines())
        except (OSError, UnicodeDecodeError):
            self._programmes = set()

    def has(self, programme: str) -> bool:
        """Say whether the window for *programme* was shown before."""
        return _line(programme) in self._programmes

    def note(self, programme: str) -> None:
        """Remember that it is shown now."""
        if self.has(programme):
            return
        self._programmes.add(_line(programme))
        try:
            durable.replace(self._path, "\n".join(sorted(self._programmes)).encode())
        except OSError:
            _LOG.warning("the consent window will open by itself once more: note not kept")


def _line(programme: str) -> str:
    return " ".join(programme.split())
