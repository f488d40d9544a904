"""`config.toml`: what a guard's operator decides.  Unknown keys are errors."""

from pathlib import Path
from typing import Final

import msgspec

from base.door import host_and_port, listen_address
from base.errors import SetupError
from wire.errors import UNREADABLE

TEMPLATE: Final = """\
# The guard of one tenant: the second lock.  An unknown key is an error.

origin = {origin}   # what collector and readers call
tenant = {tenant}
name = {name}     # stands in its cosignatures; the policy names it too, so it never changes
listen = {listen}
"""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file.  `listen` is `host:port`."""

    origin: str
    tenant: str
    name: str
    listen: str

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on.

        Raises:
            SetupError: `listen` is not host:port.

        """
        return listen_address(self.listen)


def read_config(path: Path) -> Config:
    """Return the configuration in *path*.

    Raises:
        SetupError: It is not there, not TOML, or has an unknown key or a wrong value.

    """
    try:
        config = msgspec.toml.decode(path.read_bytes(), type=Config)
    except FileNotFoundError:
        raise SetupError(f"{path} is missing; run assent-guard init first") from None
    except (OSError, *UNREADABLE) as exc:
        raise SetupError(f"{path}: {exc}; mend it") from exc
    host_and_port(config.origin)
    return config


def first_config(config: Config) -> bytes:
    """Return the text of a new `config.toml`."""
    values = msgspec.structs.asdict(config)
    # A JSON string is a TOML basic string.
    return TEMPLATE.format(
        **{k: msgspec.json.encode(v).decode() for k, v in values.items()}
    ).encode()
