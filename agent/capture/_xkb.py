"""Which character is a key?  The X server's keyboard extension, as far as that needs it.

Reads the keyboard's map (key types and keysyms) and follows its state (modifiers and group)
by the server's own notifications, which it sends in order with the key events: so the
answer is exact for every layout, AltGr, Caps Lock and second group included, even when many
keys are read at once. Only a new map is asked for when its notification is read: where a
layout is exchanged twice before that, the keys between are read with the second. Dead keys
and Compose are left as they are: the keysym of the dead key, then the next one.

Source: The X Keyboard Extension: Protocol Specification, 16.3 and appendix D.  python-xlib has
no such extension, so the four requests stand here.
"""

import struct
from dataclasses import dataclass
from typing import Any, Final

from Xlib.display import Display
from Xlib.protocol import rq

from agent.capture.source import SourceError

EXTENSION: Final = "XKEYBOARD"
CORE_KEYBOARD: Final = 0x100

NEW_KEYBOARD, MAP, STATE = 0, 1, 2  # kinds of notification
_WANTED: Final = (1 << NEW_KEYBOARD) | (1 << MAP) | (1 << STATE)
_TYPES_AND_KEYSYMS: Final = 0b11
_CORE_MODIFIERS: Final = 0xFF  # of a core event's state; bits 13 and 14 are the group

_MAP_HEADER: Final = struct.Struct("=15xBxBxxB")
_MAP_HEADER_BYTES: Final = 40
_KEY_TYPE: Final = struct.Struct("=BxxxxBBx")
_ENTRY: Final = struct.Struct("=BBBxxxxx")
_SYMBOLS: Final = struct.Struct("=4BBBH")
_STATE_REPLY: Final = struct.Struct("=8xBxxxB")
_NOTIFICATION: Final = struct.Struct("=BBH5xBxxxB")
_MODIFIERS_BYTES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyType:
    """Which modifiers choose which level of a key (shift levels, in XKB's words)."""

    mask: int
    levels: dict[int, int]  # modifiers -> level; all others are level 0

    def level(self, modifiers: int) -> int:
        """Return the level that *modifiers* choose."""
        return self.levels.get(modifiers & self.mask, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySymbols:
    """What one key can produce: `width` levels in each group, the type that chooses by group."""

    types: tuple[int, ...]
    width: int
    keysyms: tuple[int, ...]
    out_of_range: int  # what a group means that the key does not have, with the group to take

    def group(self, wanted: int) -> int:
        """Return the group to use where the keyboard is in group *wanted* (appendix D)."""
        groups = len(self.types)
        if wanted < groups:
            return wanted
        match self.out_of_range & 0xC0:
            case 0x40:  # clamp
                return groups - 1
            case 0x80:  # redirect
                return min((self.out_of_range & 0x30) >> 4, groups - 1)
            case _:  # wrap
                return wanted % groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Keymap:
    """A keyboard's layout."""

    types: tuple[KeyType, ...]
    keys: dict[int, KeySymbols]

    def keysym(self, code: int, modifiers: int, group: int) -> int:
        """Return what the key *code* produces in this state; 0 for nothing."""
        key = self.keys.get(code)
        if key is None or not key.types or not key.keysyms:
            return 0
        group = key.group(group)
        level = self.types[key.types[group]].level(modifiers)
        return key.keysyms[group * key.width + level] if level < key.width else 0


def decode_map(reply: bytes) -> Keymap:
    """Read a GetMap reply that holds all key types and all keysyms."""
    type_count, first_key, key_count = _MAP_HEADER.unpack_from(reply)
    offset = _MAP_HEADER_BYTES
    types = []
    for _ in range(type_count):
        mask, entries, preserve = _KEY_TYPE.unpack_from(reply, offset)
        offset += _KEY_TYPE.size
        levels = {}
        for _ in range(entries):
            active, modifiers, level = _ENTRY.unpack_from(reply, offset)
            offset += _ENTRY.size
            if active:
                levels[modifiers] = level
        if preserve:
            offset += entries * _MODIFIERS_BYTES
        types.append(KeyType(mask=mask, levels=levels))
    keys = {}
    for code in range(first_key, first_key + key_count):
        *chosen, info, width, count = _SYMBOLS.unpack_from(reply, offset)
        offset += _SYMBOLS.size
        keysyms = struct.unpack_from(f"={count}I", reply, offset)
        offset += 4 * count
        keys[code] = KeySymbols(
            types=tuple(chosen[: info & 0x0F]),
            width=width,
            keysyms=keysyms,
            out_of_range=info & 0xF0,
        )
    return Keymap(types=tuple(types), keys=keys)


class KeyboardState:
    """The map and the state of one server's keyboard, kept current by `note`.

    Raises:
        SourceError: The server has no keyboard extension.

    """

    def __init__(self, display: Display) -> None:
        found = display.query_extension(EXTENSION)
        if found is None or not found.present:
            raise SourceError("this X server lacks XKB: keys could not be told apart")
        self._display = display.display
        self._opcode = found.major_opcode
        self.event_code: int = found.first_event
        _UseExtension(display=self._display, opcode=self._opcode, wanted_major=1, wanted_minor=0)
        display.display.event_classes[self.event_code] = Notification
        self._select(_WANTED)
        # Asked for after the notifications: what changes from here on will be notified.
        self._map = self._read_map()
        self._modifiers, self._group = self._read_state()

    def keysym(self, code: int) -> int:
        """Return what the key *code* produces now."""
        return self._map.keysym(code, self._modifiers, self._group)

    def keysym_in(self, code: int, state: int) -> int:
        """Return what the key *code* produces in *state*, as core events carry it."""
        return self._map.keysym(code, state & _CORE_MODIFIERS, state >> 13 & 0b11)

    def note(self, notification: "Notification") -> None:
        """Follow one notification."""
        if notification.kind == STATE:
            self._modifiers, self._group = notification.modifiers, notification.group
        else:
            self._map = self._read_map()

    def release(self) -> None:
        """Ask for no more notifications."""
        self._select(0)

    def _select(self, kinds: int) -> None:
        _SelectEvents(
            display=self._display,
            opcode=self._opcode,
            device=CORE_KEYBOARD,
            affected=_WANTED,
            clear=_WANTED & ~kinds,
            select_all=kinds,
        )

    def _read_map(self) -> Keymap:
        reply = _GetMap(
            display=self._display,
            opcode=self._opcode,
            device=CORE_KEYBOARD,
            full=_TYPES_AND_KEYSYMS,
        )
        return decode_map(reply.raw)

    def _read_state(self) -> tuple[int, int]:
        reply = _GetState(display=self._display, opcode=self._opcode, device=CORE_KEYBOARD)
        modifiers, group = _STATE_REPLY.unpack_from(reply.raw)
        return modifiers, group


class Notification:
    """An XKB event, in place of python-xlib's own event objects."""

    __slots__ = ("group", "kind", "modifiers", "send_event", "sequence_number", "type")

    def __init__(self, display: object = None, binarydata: bytes = b"") -> None:  # noqa: ARG002
        code, self.kind, self.sequence_number, self.modifiers, self.group = (
            _NOTIFICATION.unpack_from(binarydata)
        )
        self.type = code & 0x7F
        self.send_event = bool(code & 0x80)


class _RawReply(rq.ReplyRequest):  # type: ignore[misc]  # python-xlib ships no types
    """A request whose reply is kept as bytes."""

    _reply = rq.Struct(rq.ReplyCode(), rq.Pad(1), rq.Card16("sequence_number"), rq.ReplyLength())
    raw = b""

    def _parse_response(self, data: Any) -> None:  # noqa: ANN401 - bytes or a view of them
        self.raw = bytes(data)
        super()._parse_response(data)


class _UseExtension(_RawReply):
    _request = rq.Struct(
        rq.Card8("opcode"),
        rq.Opcode(0),
        rq.RequestLength(),
        rq.Card16("wanted_major"),
        rq.Card16("wanted_minor"),
    )


class _SelectEvents(rq.Request):  # type: ignore[misc]  # python-xlib ships no types
    _request = rq.Struct(
        rq.Card8("opcode"),
        rq.Opcode(1),
        rq.RequestLength(),
        rq.Card16("device"),
        rq.Card16("affected"),
        rq.Card16("clear"),
        rq.Card16("select_all"),
        rq.Pad(4),  # map parts: all of them are in select_all
    )


class _GetState(_RawReply):
    _request = rq.Struct(
        rq.Card8("opcode"),
        rq.Opcode(4),
        rq.RequestLength(),
        rq.Card16("device"),
        rq.Pad(2),
    )


class _GetMap(_RawReply):
    _request = rq.Struct(
        rq.Card8("opcode"),
        rq.Opcode(8),
        rq.RequestLength(),
        rq.Card16("device"),
        rq.Card16("full"),
        rq.Pad(20),  # no partial ranges
    )
