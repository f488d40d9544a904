"""Keys: at level `classes` only the kind of a key leaves this process, at `text` the key too.

The level comes from the policy.  Whatever is not exactly `text` is treated as `classes`.
"""

import unicodedata
from typing import Final

from agent.redact import keysyms
from wire.event import Key
from wire.ids import BootInstant

TEXT: Final = "text"

_BY_KEYSYM: Final = {
    **dict.fromkeys((0x20, 0xA0, 0xFF80), "space"),
    **dict.fromkeys((0xFF0A, 0xFF0D, 0xFF8D), "enter"),
    0xFF08: "backspace",
    **dict.fromkeys((0xFF9F, 0xFFFF), "delete"),
    **dict.fromkeys((0xFE20, 0xFF09, 0xFF89), "tab"),
    0xFF1B: "escape",
}
_BY_RANGE: Final = (
    (range(0xFE01, 0xFE12), "modifier"),  # ISO level and group shifts and locks
    (range(0xFE50, 0xFE90), "punctuation"),  # dead keys
    (range(0xFF50, 0xFF59), "navigation"),
    (range(0xFF7E, 0xFF80), "modifier"),  # Mode_switch, Num_Lock
    (range(0xFF91, 0xFF95), "function"),  # keypad's F1 to F4
    (range(0xFF95, 0xFF9E), "navigation"),
    (range(0xFFBE, 0xFFE1), "function"),
    (range(0xFFE1, 0xFFEF), "modifier"),
    (range(0x1008_0000, 0x1009_0000), "media"),  # XF86: volume, brightness, mail, ...
)
_BY_CATEGORY: Final = {"L": "letter", "M": "letter", "N": "digit", "Z": "space"}

KINDS: Final = frozenset(
    {*_BY_KEYSYM.values(), *_BY_CATEGORY.values(), *(kind for _, kind in _BY_RANGE)}
    | {"punctuation", "other"}
)


def kind(keysym: int) -> str:
    """Return the kind of key that *keysym* is; one of `KINDS`."""
    known = _BY_KEYSYM.get(keysym)
    if known is not None:
        return known
    for keysyms_of_kind, named in _BY_RANGE:
        if keysym in keysyms_of_kind:
            return named
    made = keysyms.character(keysym)
    if not made:
        return "other"
    return _BY_CATEGORY.get(unicodedata.category(made)[0], "punctuation")


def key(*, at: BootInstant, code: int, keysym: int, pressed: bool, level: str) -> Key:
    """Return the event of a key as far as *level* lets it be known."""
    if level != TEXT:
        return Key(at=at, pressed=pressed, kind=kind(keysym))
    text = keysyms.character(keysym) or keysyms.name(keysym)
    return Key(at=at, pressed=pressed, kind=kind(keysym), text=text, code=code)
