"""What of a text can be seen by who is to sign it: the one rule for policies and for requests.

A character that cannot be shown steers the terminal on which it is written, or turns the
direction of what follows: an approver would be shown something else than is signed.  Blanks of
other alphabets, and the no-break space of French, are no such thing.  `base.lines` makes text
fit for a terminal by the same rule; neither imports the other.
"""

import unicodedata


def is_plain(text: str) -> bool:
    """Whether *text* is one line in which everything can be seen."""
    return text.isprintable() or not any(map(_steers, text))


def _steers(character: str) -> bool:
    return not character.isprintable() and unicodedata.category(character) != "Zs"
