"""What somebody else wrote, made fit for a terminal, a log or a tray.

A control character steers the terminal on which it is written: it hides lines, writes others in
their place, or begins a line that we never wrote.  So do signs that turn the direction of text.
None of them is printable (`str.isprintable`); nor is a no-break space, which does no harm.
What may be signed at all is judged by the same rule in `wire.text`.
"""

import unicodedata
from typing import Final

LONGEST: Final = 200  # what a line of status can show
LONGEST_MESSAGE: Final = 2_000  # of an error, which may list what is to be mended


def shown(text: str) -> str:
    """Return *text* with a question mark for each character that is none to look at."""
    return text if text.isprintable() else "".join("?" if _steers(c) else c for c in text)


def one_line(said: str, longest: int = LONGEST) -> str:
    """Return what a stranger said as one line that cannot steer a terminal, nor fill it."""
    printable = (c if c.isprintable() else " " for c in said[: 10 * longest])
    return " ".join("".join(printable).split())[:longest]


def _steers(character: str) -> bool:
    return not character.isprintable() and unicodedata.category(character) != "Zs"
