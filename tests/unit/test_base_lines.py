"""What others wrote, on our terminals: base/lines.py."""

import sys

import pytest

from base.lines import LONGEST, one_line, shown
from wire.text import is_plain

STEERING = ("\x1b[2J", "\x07", "\r", "\n", "\x7f", "\x9b2J", "\u2028", "\u202e", "\u2066", "\u2069")


@pytest.mark.parametrize("sign", STEERING)
def test_nothing_that_steers_a_terminal_is_shown(sign: str) -> None:
    """Escapes, new lines, and what turns the direction of text: none of it gets through."""
    assert not is_plain(f"a{sign}b")
    assert shown(f"a{sign}b") == f"a?{sign[1:]}b"
    assert one_line(f"a{sign}b").isprintable()


def test_what_people_write_is_shown_as_they_wrote_it() -> None:
    """Other alphabets and the no-break space of French are no attack."""
    text = "Zweck: Bedienung\xa0— 用途 ?"
    assert is_plain(text)
    assert shown(text) == text


def test_what_may_be_signed_is_what_is_shown_unchanged() -> None:
    """One rule in two packages, of which neither imports the other: for each character alike."""
    for code in range(sys.maxunicode + 1):
        assert is_plain(chr(code)) is (shown(chr(code)) == chr(code)), hex(code)


def test_a_stranger_fills_no_screen() -> None:
    """However much there is of it, a line is left."""
    assert one_line("x" * 10**6) == "x" * LONGEST
    assert one_line(" \n a \t b \r\n") == "a b"
