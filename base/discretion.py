"""What no log and no report may say: who somebody is, and what names or opens their batches.

`Discretion.hide` is used where text leaves for others' eyes: by every log line
(`base.logs`) and by `assent-agent doctor --bundle`.  It hides too much rather than too
little: a word that only looks like a key is hidden, too.
"""

import contextlib
import os
import pwd
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_NOBODY: Final = frozenset({"", "root", "nobody", "localhost"})  # say nothing of a person
_RANDOM: Final = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*\d)|.*=$")
_SWITCH: Final = re.compile(r"(?<=[a-z])[A-Z]|(?<=[A-Z])[a-z]")
_MOST_SWITCHES: Final = 0.3  # a character, in what is no code; "NameOfSomeClassOfOurs" has less
_SHAPES: Final = (
    (re.compile(r"-----BEGIN [A-Z ]+-----.*?(-----END [A-Z ]+-----|\Z)", re.DOTALL), "<key>"),
    (re.compile(r"\bage(-secret-key-(pq-)?1|1(pq1)?)[0-9a-z]{16,}", re.IGNORECASE), "<key>"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"[^\s@<>\"']+@[^\s@<>\"']+\.[^\s@<>\"']+"), "<address>"),
)
_HEX: Final = re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{16,}(?![0-9A-Za-z])")
_CODE: Final = re.compile(r"[A-Za-z0-9+/_-]{22,}={0,2}")


class Discretion:
    """Hides the data subject, the workstation, and whatever looks like an id or a key."""

    def __init__(self, words: Mapping[str, str] | None = None) -> None:
        """*words* are hidden besides the person and the machine: each with what stands instead."""
        hidden = {**_of_this_session(), **(words or {})}
        # The longest first: a home folder holds the name of its owner.
        self._words = [
            (re.compile(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", re.IGNORECASE), mark)
            for word, mark in sorted(hidden.items(), key=lambda item: -len(item[0]))
            if word.lower() not in _NOBODY
        ]

    def hide(self, text: str) -> str:
        """Return *text* without what must not be said."""
        for shape, mark in (*self._words, *_SHAPES, (_HEX, "<hex>")):
            text = shape.sub(mark, text)
        return _CODE.sub(lambda m: "<code>" if _is_code(m[0]) else m[0], text)


def _is_code(word: str) -> bool:
    """Whether *word* looks as if chance had made it; one in fifty has no digit."""
    return bool(_RANDOM.match(word)) or len(_SWITCH.findall(word)) > _MOST_SWITCHES * len(word)


def _of_this_session() -> dict[str, str]:
    """Return what names the person and the machine, with what to say instead."""
    found = {name: "<user>" for name in map(os.environ.get, ("USER", "LOGNAME")) if name}
    with contextlib.suppress(KeyError):  # a user id that has no entry
        entry = pwd.getpwuid(os.getuid())
        full_name = entry.pw_gecos.partition(",")[0].strip()
        found |= {entry.pw_name: "<user>", full_name: "<user>"}
        found |= _home(entry.pw_dir)
    found |= _home(os.environ.get("HOME", ""))
    host = socket.gethostname()
    return {**found, host: "<host>", host.partition(".")[0]: "<host>"}


def _home(folder: str) -> dict[str, str]:
    """Return the home folder as both of its names, if it is one of a person."""
    names = {folder.rstrip("/"), str(Path(folder).resolve())} if folder else set()
    return {name: "~" for name in names if len(Path(name).parts) > 1 and name != "/root"}
