"""What X's keysyms mean: a character, or the name of a key that makes none.

Source: X Window System Protocol, appendix A (keysym encoding), and X11/keysymdef.h.  Most
old blocks follow an 8-bit character set, which Python knows; the rest stand here.
"""

# ruff: noqa: RUF001 - these are the characters that look like others
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

UNICODE: Final = 0x0100_0000  # keysym = this + code point

_CHARACTER_SETS: Final = MappingProxyType(
    {
        0x01: "iso8859-2",
        0x02: "iso8859-3",
        0x03: "iso8859-4",
        0x05: "iso8859-6",
        0x0C: "iso8859-8",
        0x0D: "tis-620",
        0x13: "iso8859-15",
    }
)

# From the first keysym of each range on; a space stands for none.
_RANGES: Final[Mapping[int, str]] = MappingProxyType(
    {
        0x04A1: "。「」、・ヲァィゥェォャュョッーアイウエオカキクケコサシスセソタチツテト"
        "ナニヌネノハヒフヘホマミムメモヤユヨラリルレロワン゛゜",
        0x06A1: "ђѓёєѕіїјљњћќґўџ№ЂЃЁЄЅІЇЈЉЊЋЌҐЎЏюабцдефгхийклмнопярстужвьызшэщчъ"
        "ЮАБЦДЕФГХИЙКЛМНОПЯРСТУЖВЬЫЗШЭЩЧЪ",
        0x07A1: "ΆΈΉΊΪ ΌΎΫ Ώ  ΅― άέήίϊΐόύϋΰώ     ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣ ΤΥΦΧΨΩ       "
        "αβγδεζηθικλμνξοπρσςτυφχψω",
        0x0AA9: "—–   …",
        0x0AC9: "™",
        0x0AD0: "‘’“”",
        0x0AFD: "‚„",
        0x0EA1: "ㄱㄲㄳㄴㄵㄶㄷㄸㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅃㅄㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
        "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ",
        0x20A0: "₠₡₢₣₤₥₦₧₨₩₪₫€",
        0xFFAA: "*+,-./0123456789",  # keypad
        0xFFBD: "=",
    }
)  # fmt: skip

_DEAD: Final = (
    "grave",
    "acute",
    "circumflex",
    "tilde",
    "macron",
    "breve",
    "abovedot",
    "diaeresis",
    "abovering",
    "doubleacute",
    "caron",
    "cedilla",
    "ogonek",
    "iota",
    "voiced_sound",
    "semivoiced_sound",
    "belowdot",
    "hook",
    "horn",
    "stroke",
)

NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {
        0xFF08: "BackSpace", 0xFF09: "Tab", 0xFF0A: "Linefeed", 0xFF0B: "Clear",
        0xFF0D: "Return", 0xFF13: "Pause", 0xFF14: "Scroll_Lock", 0xFF15: "Sys_Req",
        0xFF1B: "Escape", 0xFF20: "Multi_key",
        0xFF50: "Home", 0xFF51: "Left", 0xFF52: "Up", 0xFF53: "Right", 0xFF54: "Down",
        0xFF55: "Page_Up", 0xFF56: "Page_Down", 0xFF57: "End", 0xFF58: "Begin",
        0xFF60: "Select", 0xFF61: "Print", 0xFF63: "Insert", 0xFF65: "Undo", 0xFF66: "Redo",
        0xFF67: "Menu", 0xFF68: "Find", 0xFF69: "Cancel", 0xFF6A: "Help", 0xFF6B: "Break",
        0xFF7E: "Mode_switch", 0xFF7F: "Num_Lock",
        0xFF80: "KP_Space", 0xFF89: "KP_Tab", 0xFF8D: "KP_Enter",
        0xFF95: "KP_Home", 0xFF96: "KP_Left", 0xFF97: "KP_Up", 0xFF98: "KP_Right",
        0xFF99: "KP_Down", 0xFF9A: "KP_Page_Up", 0xFF9B: "KP_Page_Down", 0xFF9C: "KP_End",
        0xFF9D: "KP_Begin", 0xFF9E: "KP_Insert", 0xFF9F: "KP_Delete",
        0xFFE1: "Shift_L", 0xFFE2: "Shift_R", 0xFFE3: "Control_L", 0xFFE4: "Control_R",
        0xFFE5: "Caps_Lock", 0xFFE6: "Shift_Lock", 0xFFE7: "Meta_L", 0xFFE8: "Meta_R",
        0xFFE9: "Alt_L", 0xFFEA: "Alt_R", 0xFFEB: "Super_L", 0xFFEC: "Super_R",
        0xFFED: "Hyper_L", 0xFFEE: "Hyper_R", 0xFFFF: "Delete",
        0xFE03: "ISO_Level3_Shift", 0xFE08: "ISO_Next_Group", 0xFE11: "ISO_Level5_Shift",
        0xFE20: "ISO_Left_Tab",
        **{0xFFBE + number: f"F{number + 1}" for number in range(35)},
        **{0xFE50 + number: f"dead_{name}" for number, name in enumerate(_DEAD)},
    }
)  # fmt: skip


def character(keysym: int) -> str:
    """Return the character that *keysym* makes; empty if it makes none."""
    if 0x20 <= keysym <= 0x7E or 0xA0 <= keysym <= 0xFF:
        return chr(keysym)
    if UNICODE + 0x100 <= keysym <= UNICODE + 0x10FFFF:
        return chr(keysym - UNICODE)
    encoding = _CHARACTER_SETS.get(keysym >> 8)
    if encoding is not None and keysym & 0xFF > 0xA0:
        try:
            return bytes([keysym & 0xFF]).decode(encoding)
        except UnicodeDecodeError:
            return ""
    for first, characters in _RANGES.items():
        if first <= keysym < first + len(characters):
            return characters[keysym - first].strip()
    return ""


def name(keysym: int) -> str:
    """Return what a key without a character is called; the number where it has no name here."""
    return NAMES.get(keysym) or f"keysym_{keysym:x}"
