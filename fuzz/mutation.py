"""Bytes that are nearly right: flips, cuts, splices, lengths that lie, values nobody asked for.

Everything is drawn from a `random.Random`, so that a seed says it all again.
"""

import json
import random
import struct
from typing import Final

import cbor2
import msgspec

INTERESTING: Final = (
    *(b"\x00", b"\xff", b"\n", b" ", b"+", b"\xc0\x80", b"\xed\xa0\x80", "\u2028".encode()),
    *(b"\x7f\xff\xff\xff\xff\xff\xff\xff", b"\xff" * 8, b"\x80" + bytes(7)),
    *(b"\x9f\xff", b"\xbf\xff", b"\x5f\x41a\xff", b"\xfb\x7f\xf8" + bytes(6), b"\xf9\x7e\x00"),
    *(b"\xc4\x82\x1b" + b"\xff" * 8 + b"\x01", b"\xc5\x82\x1a\x7f\xff\xff\xff\x03"),
    *(b"\xd8\x1c\x81\xd8\x1d\x00", b"\xd8\x1e\x82\x01\x00", b"\xd8\x23\x61(", b"\xd8\x24\x61x"),
    *(b"\xc1\x1b" + b"\xff" * 8, b"\xd9\x01\x04\x44" + bytes(4), b"\x81" * 900, b"\xa1" * 300),
    *(b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\x1b" + b"\xff" * 8, b"-1", b"0" * 40),
    *("\u0663".encode(), "\u2014 ".encode(), b"--- ", b"-> ", b"\x28\xb5\x2f\xfd", b"PY*\x18"),
)


def mutate(seed: bytes, chance: random.Random) -> bytes:
    """Return *seed* with one to four things wrong with it."""
    data = bytearray(seed)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 4))):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((1, 1, 2, 4, 8, 64, 1000)))
        match chance.randrange(8):
            case 0 | 1 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 2:
                data[at:at] = chance.choice(INTERESTING)
            case 3:
                piece = chance.choice(INTERESTING)
                data[at : at + len(piece)] = piece
            case 4:
                del data[at:end]
            case 5:
                data[at:at] = data[at:end]
            case 6 if len(data) >= 8:
                width = chance.choice((">H", ">I", ">Q", "<I"))
                number = chance.choice((0, 1, 0x7FFF, 0xFFFF, len(data), len(data) + 1))
                struct.pack_into(width, data, min(at, len(data) - 8), number)
            case _:
                del data[at:]
        if not data:
            data = bytearray(chance.randbytes(chance.randrange(1, 40)))
    return bytes(data)


def odd_cbor(chance: random.Random, depth: int = 0) -> bytes:  # noqa: PLR0911 - a kind each
    """Return CBOR of any kind, tags among it, well formed or nearly."""
    kind = chance.randrange(9) if depth < 5 else chance.randrange(4)
    match kind:
        case 0:
            return cbor2.dumps(chance.choice((0, 1, -1, 2**63, 2**64, -(2**70), 1.5, None, True)))
        case 1:
            return cbor2.dumps(chance.randbytes(chance.choice((0, 4, 16, 32))))
        case 2:
            words = ("keys", "2027-01-01", "\x00", "(", "9" * 40, "1e999999999", "-1")
            return cbor2.dumps(chance.choice(words))
        case 3:
            return chance.choice(INTERESTING)
        case 4 | 5:
            tag = chance.choice((0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260))
            head = bytes([0xC0 + tag]) if tag < 24 else b"\xd9" + tag.to_bytes(2, "big")
            return head + odd_cbor(chance, depth + 1)
        case 6:
            count = chance.randrange(4)
            return bytes([0x80 + count]) + b"".join(
                odd_cbor(chance, depth + 1) for _ in range(count)
            )
        case _:
            count = chance.randrange(4)
            pairs = (
                cbor2.dumps(chance.randrange(18)) + odd_cbor(chance, depth + 1)
                for _ in range(count)
            )
            return bytes([0xA0 + count]) + b"".join(pairs)


def odd_core(core: bytes, chance: random.Random) -> bytes:
    """Return *core* with one value replaced by CBOR that does not belong there."""
    numbered = cbor2.loads(core)
    odd = chance.choice(list(numbered))
    pieces = (
        cbor2.dumps(key) + (odd_cbor(chance) if key == odd else cbor2.dumps(value))
        for key, value in numbered.items()
    )
    return bytes([0xA0 + len(numbered)]) + b"".join(pieces)


# --- documents: JSON and MessagePack ------------------------------------------------------

ODD_VALUES: Final[tuple[object, ...]] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**53 + 1, -(2**63), 2**63, 2**64 - 1),
    *(1.5, -0.0, 1e308, "", " ", "\x00", "\n", "keys", "2027-02-30", "../../x", "٣", "x" * 3000),
    *("-1", "9" * 60, "AAAA", "====", [], {}, [[]], {"": ""}, [0] * 300, {"kind": "Granted"}),
)
ODD_NUMBERS: Final[tuple[object, ...]] = (
    2**64,
    -(2**80),
    10**400,
    float("inf"),
    float("nan"),
)  # JSON's alone


def odd_json(document: bytes, chance: random.Random) -> bytes:
    """Return the JSON in *document* with odd values where good ones were; or mere bytes."""
    if chance.random() < 0.3:
        return mutate(document, chance)
    odd = (*ODD_VALUES, *ODD_NUMBERS, _deep(chance))
    return json.dumps(_odd(json.loads(document), odd, chance)).encode()


def odd_msgpack(document: bytes, chance: random.Random) -> bytes:
    """Return the MessagePack in *document* with odd values where good ones were; or mere bytes."""
    if chance.random() < 0.3:
        return mutate(document, chance)
    odd = (*ODD_VALUES, chance.randbytes(chance.choice((0, 1, 16, 32))), _deep(chance))
    return msgspec.msgpack.encode(_odd(msgspec.msgpack.decode(document), odd, chance))


def _odd(tree: object, odd: tuple[object, ...], chance: random.Random) -> object:
    """Return *tree* with one to three of its nodes replaced, removed, doubled or renamed."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        tree = _odd_node(tree, odd, chance)
    return tree


def _odd_node(node: object, odd: tuple[object, ...], chance: random.Random) -> object:
    if isinstance(node, dict) and node and chance.random() < 0.85:
        return _odd_map(node, odd, chance)
    if isinstance(node, list) and node and chance.random() < 0.85:
        return _odd_list(node, odd, chance)
    return chance.choice(odd)


def _odd_map(
    node: dict[str, object], odd: tuple[object, ...], chance: random.Random
) -> dict[str, object]:
    key = chance.choice(list(node))
    match chance.randrange(8):
        case 0:
            return {name: value for name, value in node.items() if name != key}
        case 1:
            return {**node, chance.choice(("", "x", "__class__", key * 2)): node[key]}
        case _:
            return {**node, key: _odd_node(node[key], odd, chance)}


def _odd_list(node: list[object], odd: tuple[object, ...], chance: random.Random) -> list[object]:
    at = chance.randrange(len(node))
    match chance.randrange(8):
        case 0:
            return node[:at] + node[at + 1 :]
        case 1:
            return node + [node[at]] * chance.choice((1, 40))
        case _:
            return [*node[:at], _odd_node(node[at], odd, chance), *node[at + 1 :]]


def _deep(chance: random.Random) -> object:
    """Return a nest: too deep for some decoders, not for the encoders here."""
    nest: object = 0
    for _ in range(chance.choice((3, 60, 400))):
        nest = [nest] if chance.random() < 0.5 else {"a": nest}
    return nest
