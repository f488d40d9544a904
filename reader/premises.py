"""What lies where in a reader's folders.

    config/  reader.toml              its name
             identity.txt             opens what is released to us; stock age reads it too
             recipient.txt            its public half
             recipient.json           what the policy is to say of it
             older/ keys.json         identities of before, and when each was made
             client.key reader.csr    who we are to collector and guard; both certify the csr
             collector/ guard/        how to reach each: door.toml ca.pem client.pem
    state/   policy/                  the signed policy, as last fetched
             frames/ consents/        sealed batches, and the consent records behind them
             releases/                age headers, sealed to our identity

Nothing in state/ is plaintext, and all of it together with the identity opens only what the
guard released.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from base.door import decode_pins, host_and_port
from base.durable import private_folder, replace
from base.errors import SetupError
from base.paths import Paths
from base.pki import check_issued, load_ed25519
from wire.age import decode_identity
from wire.errors import UNREADABLE, WireError
from wire.sealing import recipient_of

T = TypeVar("T")

PEERS: Final = ("collector", "guard")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # as in certificates


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`reader.toml`: what this reader is called in certificates and requests."""

    name: str


class DoorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`door.toml`: where a peer is, and by which key it is known."""

    origin: str
    tls_pins: tuple[str, ...]
    timeout_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Premises:
    """The files of one reader."""

    paths: Paths

    @property
    def settings_file(self) -> Path:
        """Our name."""
        return self.paths.config / "reader.toml"

    @property
    def identity_file(self) -> Path:
        """What opens releases."""
        return self.paths.config / "identity.txt"

    @property
    def recipient_file(self) -> Path:
        """The public half of the identity."""
        return self.paths.config / "recipient.txt"

    @property
    def entry_file(self) -> Path:
        """What the policy is to say of the newest key."""
        return self.paths.config / "recipient.json"

    @property
    def older_folder(self) -> Path:
        """Identities that are kept to open what was sealed to them."""
        return self.paths.config / "older"

    @property
    def dates_file(self) -> Path:
        """When each identity was made."""
        return self.paths.config / "keys.json"

    @property
    def client_key(self) -> Path:
        """Who we are to collector and guard."""
        return self.paths.config / "client.key"

    @property
    def request_file(self) -> Path:
        """The signing request of that key."""
        return self.paths.config / "reader.csr"

    def peer(self, name: str) -> Path:
        """Return the folder of collector or guard."""
        return self.paths.config / name

    def settings(self) -> Settings:
        """Return the settings.

        Raises:
            SetupError: There are none yet, or they have a mistake.

        """
        return _read(self.settings_file, Settings, "run assent-reader keygen first")

    def door(self, name: str) -> DoorSettings:
        """Return how to reach collector or guard.

        Raises:
            SetupError: It was not said yet.

        """
        hint = f"run assent-reader connect {name} first"
        return _read(self.peer(name) / "door.toml", DoorSettings, hint)

    def older_identities(self) -> list[Path]:
        """Return the files of those."""
        return sorted(self.older_folder.glob("*.txt"))

    def identity(self, path: Path | None = None) -> str:
        """Return the identity in *path*, or the newest one.

        Raises:
            SetupError: There is none, or what is there is none any more.

        """
        path = path or self.identity_file
        identity = _text(path)
        try:
            decode_identity(identity)
        except WireError as exc:
            # Unsaid, every batch would only seem to wait for its release.
            raise SetupError(f"{path} is damaged: restore your copy of it") from exc
        return identity

    def recipient(self) -> str:
        """Return the recipient that goes with the newest identity.

        Raises:
            SetupError: There is none.

        """
        return recipient_of(self.identity())


def check_name(name: str) -> None:
    """Refuse a name that cannot stand in a certificate.

    Raises:
        SetupError: It has other characters, or is too long.

    """
    if not _NAME.fullmatch(name):
        raise SetupError(f"the name {name!r} must be of letters, digits, '.', '_' and '-'")


def connect(
    premises: Premises,
    peer: str,
    *,
    origin: str,
    pins: tuple[str, ...],
    authority: bytes,
    certificate: bytes,
) -> None:
    """Keep how to reach collector or guard, and the certificate that it gave us.

    Raises:
        SetupError: The origin or a pin is none, or the files do not belong together.

    """
    host_and_port(origin)
    decode_pins(pins)
    check_issued(certificate, authority, load_ed25519(premises.client_key).public_key())
    folder = private_folder(premises.peer(peer))
    replace(folder / "ca.pem", authority)
    replace(folder / "client.pem", certificate)
    settings = DoorSettings(origin=origin.rstrip("/"), tls_pins=pins)
    replace(folder / "door.toml", _toml(settings))


def write_settings(premises: Premises, settings: Settings) -> None:
    """Write `reader.toml`."""
    replace(premises.settings_file, _toml(settings))


def _toml(settings: msgspec.Struct) -> bytes:
    # JSON's strings, numbers and lists of strings are TOML's, too.
    values = msgspec.structs.asdict(settings).items()
    return "".join(f"{k} = {msgspec.json.encode(v).decode()}\n" for k, v in values).encode()


def _read(path: Path, kind: type[T], hint: str) -> T:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        raise SetupError(f"{path} is missing; {hint}") from None
    except (OSError, *UNREADABLE) as exc:
        raise SetupError(f"{path}: {exc}; mend it") from exc


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise SetupError(f"{path} cannot be read; run assent-reader keygen first") from exc
