"""What a thief gets who has everything of a machine: its memory, its files, the keys in them."""

import base64
import contextlib
import itertools
import re
import resource
import signal
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import psycopg
from psycopg import sql

from demo.programs import Program
from tests.fakes.conspiracy import SECRET_BYTES, pieces, private_bytes, secrets_in
from tests.fakes.death import core_folders, cores_in
from wire.age import (
    INTRO,
    LARGEST_HEADER_BYTES,
    decode_base64,
    decode_header,
    decode_identity,
    encode_identity,
)
from wire.errors import WireError
from wire.frame import core_hash, split
from wire.opening import open_body, open_released
from wire.sealing import STANZA, STANZA_INFO
from wire.shelf import unshelve
from wire.xwing import ENCAPSULATION_BYTES, hpke_open

_PEM: Final = re.compile(
    rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----[A-Za-z0-9+/=\s]{20,4000}-----END \1-----"
)
# PKCS #8 of Ed25519 and X25519 (RFC 8410), whose last 32 bytes are the key.
_DER: Final = re.compile(rb"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65[\x6e\x70]\x04\x22\x04\x20")
_IDENTITY: Final = re.compile(rb"AGE-SECRET-KEY-PQ-1[A-Z0-9]{20,200}")
_HEX: Final = b"0123456789abcdef"
_BASE64: Final = (string.ascii_letters + string.digits + "+/").encode()
_HEADER: Final = re.compile(
    re.escape(INTRO) + rb"-> [\x20-\x7e\n]{40,20000}?\n--- [A-Za-z0-9+/]{43}\n"
)


# --- memory -------------------------------------------------------------------------------


def memory_at_its_end(program: Program, folder: Path) -> list[Path]:
    """Abort what *program* runs; return its memory, as files in *folder*.

    As a core file, which the programs themselves forbid and root can have all the same.  Or, where
    this machine hands core files to another program or we are not root, as it was just before:
    copied from the living process.
    """
    folder.mkdir(parents=True)
    places = core_folders(program.home) if _lets_it_leave_a_core(program.pid) else []
    before = {path for place in places for path in cores_in(place)}
    if not places:
        _copy_memory(program.pid, folder / "memory")
    assert program.stop(signal.SIGABRT) == -signal.SIGABRT
    for place in places:
        for path in set(cores_in(place)) - before:
            path.rename(folder / path.name)
    return sorted(folder.iterdir())


def _lets_it_leave_a_core(pid: int) -> bool:
    try:
        resource.prlimit(pid, resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
    except PermissionError:
        return False
    return True


def _copy_memory(pid: int, target: Path) -> None:
    """Copy what *pid* may write to, as a core file has it."""
    maps = Path(f"/proc/{pid}/maps").read_text("utf-8").splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory, target.open("wb") as copy:
        for line in maps:
            span, permissions, *_ = line.split()
            if permissions.startswith("rw") and "[v" not in line:
                start, end = (int(part, 16) for part in span.split("-"))
                memory.seek(start)
                while start < end and (data := memory.read(min(end - start, 1 << 20))):
                    start += copy.write(data)


# --- keys ---------------------------------------------------------------------------------


def named_keys_in(folder: Path) -> set[bytes]:
    """Return the keys in the files below *folder* that say what they are."""
    return {key for data in _files(folder) for key in _named(data)}


def keys_in(folder: Path) -> set[bytes]:
    """Return whatever there could be a 32-byte key: by itself, in hexadecimal or base64, too."""
    found = secrets_in(folder) | named_keys_in(folder)
    for data in _files(folder):
        found |= {bytes.fromhex(text.decode("ascii")) for text in _words(data, _HEX, 64)}
        found |= {base64.b64decode(text + b"=") for text in _words(data, _BASE64, 43)}
    return found


def _named(data: bytes) -> Iterator[bytes]:
    # What is suppressed: in memory some are cut off, or overwritten in part.
    for pem in _PEM.finditer(data):
        with contextlib.suppress(ValueError):
            yield private_bytes(pem[0])
    for der in _DER.finditer(data):
        yield data[der.end() : der.end() + SECRET_BYTES]
    for identity in _IDENTITY.finditer(data):
        with contextlib.suppress(WireError):
            yield decode_identity(identity[0].decode("ascii"))


def _words(data: bytes, letters: bytes, length: int) -> Iterator[bytes]:
    """Yield the runs of these letters that are so long, and no longer."""
    is_letter = np.zeros(256, dtype=np.int8)
    is_letter[list(letters)] = 1
    edges = np.diff(is_letter[np.frombuffer(data, np.uint8)], prepend=0, append=0)
    (begins,), (ends,) = np.nonzero(edges == 1), np.nonzero(edges == -1)
    for begin in begins[ends - begins == length]:
        yield data[begin : begin + length]


def _files(folder: Path) -> Iterator[bytes]:
    for path in filter(Path.is_file, folder.rglob("*")):
        yield path.read_bytes()


# --- opening ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Loot:
    """What somebody has who wants to open frames; the ways to are the product's own."""

    keys: frozenset[bytes]  # tried as the guard's
    identities: frozenset[bytes]  # tried as a recipient's
    pieces: frozenset[bytes]  # tried as age headers, and as releases to a recipient

    @classmethod
    def of(cls, folders: Iterable[Path], *identities: bytes) -> "Loot":
        """Return what lies below *folders*, and somebody's *identities*."""
        folders = tuple(folders)
        named = {key for folder in folders for key in named_keys_in(folder)} | set(identities)
        anything = {key for folder in folders for key in keys_in(folder)} | named
        found = {piece for folder in folders for piece in pieces(folder)}
        headers = {header[0] for piece in found for header in _HEADER.finditer(piece)}
        small = {each for each in found if ENCAPSULATION_BYTES < len(each) <= LARGEST_HEADER_BYTES}
        return cls(
            keys=frozenset(anything),
            identities=frozenset(named),
            pieces=frozenset(headers | small),
        )

    def with_guard(self, keys: Iterable[bytes]) -> "Loot":
        """Return the part of it that leads to something with these keys of the guard's."""
        return replace(self, keys=frozenset(keys), pieces=frozenset())

    def opens(self, frame: bytes) -> bytes | None:
        """Return the plaintext of *frame*, if any way leads there."""
        parts = split(frame)
        digest = core_hash(parts.core)
        texts = [encode_identity(each) for each in self.identities]
        headers = {piece for piece in self.pieces if piece.startswith(INTRO)}
        for key in self.keys:
            headers |= set(_tried(unshelve, parts.shelf, key, digest))
        # A release is the header of the shelf, sealed in the same way: it is as long.
        releases = {piece for piece in self.pieces if len(piece) == len(parts.shelf)}
        for piece, text in itertools.product({*releases, parts.shelf}, texts):
            headers |= set(_tried(open_released, piece, text, digest))
        for header, text in itertools.product(headers, texts):
            for plaintext in _tried(open_body, header, parts.body, text, digest):
                return plaintext
        return None


def file_key(frame: bytes, guard_seed: bytes, identity: bytes) -> bytes:
    """Return the key of one frame's body, which those two have together."""
    parts = split(frame)
    header = decode_header(unshelve(parts.shelf, guard_seed, core_hash(parts.core)))
    for stanza in header.stanzas:
        if stanza.words[0] == STANZA:
            wrapped = decode_base64(stanza.words[1].encode("ascii")) + stanza.body
            for key in _tried(hpke_open, identity, wrapped, STANZA_INFO):
                return key
    raise AssertionError("that identity is none of its recipients")


def values_of(url: str, folder: Path) -> None:
    """Write every value of every table of a PostgreSQL database to a file of its own."""
    folder.mkdir()
    numbers = itertools.count()
    with psycopg.connect(url) as connection:
        named = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        for (table,) in connection.execute(named).fetchall():
            query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))
            for value in itertools.chain.from_iterable(connection.execute(query)):
                data = value.encode() if isinstance(value, str) else value
                if isinstance(data, bytes) and data:
                    (folder / str(next(numbers))).write_bytes(data)


def _tried(way: Callable[..., bytes], *arguments: object) -> list[bytes]:
    try:
        return [way(*arguments)]
    except WireError:
        return []
