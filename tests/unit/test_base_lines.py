"""What others wrote, on our terminals: base/lines.py."""

import pytest

from base.lines import LONGEST, is_plain, one_line, shown

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


def test_a_stranger_fills_no_screen() -> None:
    """However much there is of it, a line is left."""
    assert one_line("x" * 10**6) == "x" * LONGEST
    assert one_line(" \n a \t b \r\n") == "a b"
