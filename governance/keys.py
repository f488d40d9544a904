"""The keys of the people who decide: policy keys of the parties, keys of the approvers.

A key is two files.  `<role>-key.pem` is private, mode 0600, PKCS #8, encrypted where a
passphrase is given; `<role>-key.public.json` goes to the other parties.
"""

import base64
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from base.durable import private_folder, replace
from base.errors import SetupError
from governance.files import read
from wire.errors import UNREADABLE

KIND: Final = "assent-public-key-v1"


class Role(StrEnum):
    """What a key decides about: what may be asked, or who may open."""

    POLICY = "policy"
    APPROVER = "approver"


class PublicKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the other parties may know of a key; `key` is base64 of raw Ed25519."""

    kind: str = KIND
    role: Role
    party: str
    name: str  # the person or post that holds it
    key: str

    def ed25519(self) -> Ed25519PublicKey:
        """Return the key itself.

        Raises:
            SetupError: It is not an Ed25519 key.

        """
        try:
            return Ed25519PublicKey.from_public_bytes(base64.b64decode(self.key, validate=True))
        except ValueError as exc:
            raise SetupError(f"the public key of {self.name} is none; ask for it again") from exc


def new_key(
    folder: Path, *, role: Role, party: str, name: str, passphrase: str | None
) -> tuple[Path, Path, PublicKey]:
    """Make a key in *folder*; return private file, public file, and the public part.

    Raises:
        SetupError: There is one already: it is never overwritten.

    """
    private, public = folder / f"{role}-key.pem", folder / f"{role}-key.public.json"
    if private.exists() or public.exists():
        raise SetupError(f"{folder} has a {role} key already; choose another folder")
    key = Ed25519PrivateKey.generate()
    encoded = base64.b64encode(key.public_key().public_bytes_raw()).decode("ascii")
    part = PublicKey(role=role, party=party, name=name, key=encoded)
    lock: KeySerializationEncryption = (
        BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    )
    if not folder.exists():  # one that is there is not ours to shut; the file is private anyway
        private_folder(folder)
    # A crash in between leaves a private key without its public file: made again, it has
    # to go elsewhere, and nothing was signed with it yet.
    replace(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))
    replace(public, encode_public(part), mode=0o644)
    return private, public, part


def encode_public(part: PublicKey) -> bytes:
    """Return the file that goes to the other parties."""
    return msgspec.json.format(msgspec.json.encode(part), indent=2) + b"\n"


def read_private(path: Path, passphrase: str | None) -> Ed25519PrivateKey:
    """Return the private key in *path*.

    Raises:
        SetupError: Not there, not such a key, or another passphrase.

    """
    data = read(path)
    try:
        key = load_pem_private_key(data, passphrase.encode() if passphrase else None)
    except TypeError as exc:  # cryptography's word for a passphrase too few or too many
        raise SetupError(
            f"{path}: this key is locked; give --passphrase-file"
            if passphrase is None
            else f"{path}: this key has no passphrase; leave --passphrase-file out"
        ) from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise SetupError(f"{path}: not a private key, or another passphrase") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise SetupError(f"{path}: not an Ed25519 key; make one with `assent-govern keys new`")
    return key


def read_public(path: Path) -> PublicKey:
    """Return the public part in *path*.

    Raises:
        SetupError: Not there, or not such a file.

    """
    try:
        part = msgspec.json.decode(read(path), type=PublicKey)
    except UNREADABLE as exc:
        raise SetupError(f"{path}: not a public key file ({exc})") from exc
    if part.kind != KIND:
        raise SetupError(f"{path}: a key file of another kind, {part.kind}")
    part.ed25519()
    return part
