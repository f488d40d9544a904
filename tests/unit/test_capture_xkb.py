"""A keyboard map as the server sends it, byte by byte, and what its keys produce."""

import struct

import pytest

from agent.capture._xkb import KeySymbols, decode_map

SHIFT, LOCK, LEVEL3 = 1, 2, 0x80
ONE, TWO, ALPHABETIC = 0, 1, 2


def key_type(mask: int, entries: list[tuple[int, int]], *, preserve: bool = False) -> bytes:
    head = struct.pack("=BBHBBBB", mask, mask, 0, 2, len(entries), preserve, 0)
    body = b"".join(struct.pack("=BBBBHH", 1, mods, level, mods, 0, 0) for mods, level in entries)
    return head + body + bytes(4 * len(entries) if preserve else 0)


def key(types: list[int], width: int, keysyms: list[int], out_of_range: int = 0) -> bytes:
    index = (types + [0] * 4)[:4]
    head = struct.pack("=4BBBH", *index, len(types) | out_of_range, width, len(keysyms))
    return head + struct.pack(f"={len(keysyms)}I", *keysyms)


def reply(types: list[bytes], first: int, keys: list[bytes]) -> bytes:
    body = b"".join(types) + b"".join(keys)
    head = struct.pack("=BBHI", 1, 3, 0, 2 + len(body) // 4)
    head += struct.pack(
        "=HBBHBBBBHB", 0, first, first + len(keys) - 1, 3, 0, len(types), len(types), first, 0,
        len(keys),
    )  # fmt: skip
    return head + bytes(40 - len(head)) + body


KEYMAP = decode_map(
    reply(
        [
            key_type(0, []),
            key_type(SHIFT | LEVEL3, [(SHIFT, 1), (LEVEL3, 2), (SHIFT | LEVEL3, 3)], preserve=True),
            key_type(SHIFT | LOCK, [(SHIFT, 1), (LOCK, 1)]),
        ],
        38,
        [
            key([ALPHABETIC], 2, [ord("a"), ord("A")]),
            key([TWO], 4, [ord("2"), ord('"'), 0xB2, 0xFE57]),
            key([ALPHABETIC, ALPHABETIC], 2, [ord("f"), ord("F"), 0x6C1, 0x6E1]),
            key([], 0, []),
            key([ONE], 1, [0xFF0D]),
        ],
    )
)


@pytest.mark.parametrize(
    ("code", "modifiers", "group", "keysym"),
    [
        (38, 0, 0, ord("a")),
        (38, SHIFT, 0, ord("A")),
        (38, LOCK, 0, ord("A")),
        (38, SHIFT | LOCK, 0, ord("a")),  # each undoes the other
        (38, LEVEL3, 0, ord("a")),  # modifiers that are not the type's change nothing
        (38, 0, 1, ord("a")),  # the key has one group: the second wraps to it
        (39, LEVEL3, 0, 0xB2),
        (39, SHIFT | LEVEL3, 0, 0xFE57),
        (39, LOCK, 0, ord("2")),  # Caps Lock is no Shift
        (40, 0, 1, 0x6C1),
        (40, SHIFT, 1, 0x6E1),
        (40, 0, 2, ord("f")),
        (41, 0, 0, 0),  # a key without symbols
        (42, SHIFT, 0, 0xFF0D),
        (99, 0, 0, 0),  # no such key
    ],
)
def test_a_key_produces_what_type_modifiers_and_group_choose(
    code: int, modifiers: int, group: int, keysym: int
) -> None:
    """XKB's own rule: the type of the key in that group chooses the level."""
    assert KEYMAP.keysym(code, modifiers, group) == keysym


@pytest.mark.parametrize(
    ("rule", "wanted", "group"), [(0x00, 3, 1), (0x40, 3, 1), (0x80 | 0x10, 3, 1), (0x80, 3, 0)]
)
def test_a_group_that_a_key_lacks_is_wrapped_clamped_or_redirected(
    rule: int, wanted: int, group: int
) -> None:
    """Appendix D of the protocol: the key says what becomes of a group that it lacks."""
    symbols = KeySymbols(types=(0, 0), width=1, keysyms=(1, 2), out_of_range=rule)
    assert symbols.group(wanted) == group
