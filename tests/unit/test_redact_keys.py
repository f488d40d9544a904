"""Keys: what each level lets through, and what each keysym is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.redact import keys, keysyms
from wire.event import Key
from wire.ids import BootInstant

NOW = BootInstant(7)
KEYSYMS = st.one_of(
    st.integers(0, 0xFFFF), st.integers(0x0100_0000, 0x0110_FFFF), st.integers(0, (1 << 29) - 1)
)


@given(KEYSYMS, st.integers(8, 255), st.booleans(), st.text().filter(lambda level: level != "text"))
def test_at_any_level_but_text_only_the_kind_leaves(
    keysym: int,
    code: int,
    pressed: bool,  # noqa: FBT001
    level: str,
) -> None:
    """No character, no name and no code, whatever the key and whatever the level is called."""
    made = keys.key(at=NOW, code=code, keysym=keysym, pressed=pressed, level=level)
    assert made == Key(at=NOW, pressed=pressed, kind=keys.kind(keysym))
    assert made.kind in keys.KINDS


@given(KEYSYMS)
def test_a_kind_tells_no_two_letters_or_digits_apart(keysym: int) -> None:
    """All letters are one kind, all digits are another."""
    character = keysyms.character(keysym)
    if character.isalpha():
        assert keys.kind(keysym) == "letter"
    if character.isdigit():
        assert keys.kind(keysym) == "digit"


@pytest.mark.parametrize(
    ("keysym", "kind", "text"),
    [
        (ord("a"), "letter", "a"),
        (ord("Q"), "letter", "Q"),
        (ord("7"), "digit", "7"),
        (ord("!"), "punctuation", "!"),
        (0x20, "space", " "),
        (0xE4, "letter", "ä"),
        (0x1B1, "letter", "ą"),
        (0x6C1, "letter", "а"),  # noqa: RUF001 - the Cyrillic letter
        (0x7E1, "letter", "α"),  # noqa: RUF001 - the Greek letter
        (0xCE0, "letter", "א"),
        (0x20AC, "punctuation", "€"),
        (0x0100_0000 + 0x1F600, "punctuation", "😀"),
        (0xFE51, "punctuation", "dead_acute"),
        (0xFF0D, "enter", "Return"),
        (0xFF8D, "enter", "KP_Enter"),
        (0xFF08, "backspace", "BackSpace"),
        (0xFFFF, "delete", "Delete"),
        (0xFF09, "tab", "Tab"),
        (0xFE20, "tab", "ISO_Left_Tab"),
        (0xFF1B, "escape", "Escape"),
        (0xFFE1, "modifier", "Shift_L"),
        (0xFE03, "modifier", "ISO_Level3_Shift"),
        (0xFFE5, "modifier", "Caps_Lock"),
        (0xFF51, "navigation", "Left"),
        (0xFF9A, "navigation", "KP_Page_Up"),
        (0xFFB3, "digit", "3"),
        (0xFFAB, "punctuation", "+"),
        (0xFFBE, "function", "F1"),
        (0xFFC9, "function", "F12"),
        (0x1008_FF13, "media", "keysym_1008ff13"),
        (0xFF61, "other", "Print"),
        (0, "other", "keysym_0"),
    ],
)
def test_each_key_has_its_kind_and_at_level_text_its_name(
    keysym: int, kind: str, text: str
) -> None:
    """The table of the categories' registry, by example."""
    made = keys.key(at=NOW, code=38, keysym=keysym, pressed=True, level="text")
    assert made == Key(at=NOW, pressed=True, kind=kind, text=text, code=38)


# Debian's gi is imported in the old way.
@pytest.mark.filterwarnings("ignore:DynamicImporter:ImportWarning")
def test_characters_agree_with_another_implementation() -> None:
    """GDK's own table names the same character wherever we name one, for every layout's keysym."""
    gi = pytest.importorskip("gi")
    gi.require_version("Gdk", "3.0")
    from gi.repository import Gdk  # noqa: PLC0415 - needs the version above

    for keysym in [*range(0x20, 0x2100), *range(0xFE00, 0x10000)]:
        ours = keysyms.character(keysym)
        theirs = Gdk.keyval_to_unicode(keysym)
        if ours and theirs:  # GDK leaves out what no keyboard has
            assert ord(ours) == theirs, hex(keysym)
        elif 0x100 <= keysym < 0x800 or 0xC00 <= keysym < 0xE00:
            assert not chr(theirs).isalpha(), hex(keysym)  # the blocks of letters are complete
