"""`config.toml`: what a guard's operator decides.  Unknown keys are errors."""

from pathlib import Path
from typing import Final

import msgspec

from base.door import check_listens, host_and_port
from base.errors import SetupError
from base.logs import Form
from wire.errors import UNREADABLE

TEMPLATE: Final = """\
# The guard of one tenant: the second lock.  An unknown key is an error.

origin = {origin}   # what collector and readers call
tenant = {tenant}
name = {name}     # stands in its cosignatures; the policy names it too, so it never changes
listen = {listen}
{readers}{alone}
# log_form = "text"         # or "json": an object a line

# [operators]               # health, metrics and the OpenAPI document; nowhere by default
# listen = ""               # as in "127.0.0.1:9465": in the clear there, elsewhere over TLS
# names = []                # as in ["prometheus"]: whose certificates are let in over TLS
"""


class Operators(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where operators ask for health and numbers; on a loopback address, anybody there."""

    listen: str = ""  # host:port; nowhere when empty
    names: tuple[str, ...] = ()  # in their certificates, on any other address


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file.  `listen` is `host:port`."""

    origin: str
    tenant: str
    name: str
    listen: str
    witness_only: bool = False  # it watches the log, and holds no keys
    readers_listen: str = ""  # of their own listener; empty: they come to `listen`, too
    log_form: Form = Form.TEXT
    operators: Operators = Operators()

    def check_addresses(self) -> None:
        """Check what it says of listeners.

        Raises:
            SetupError: An address is not host:port, or named twice.

        """
        check_listens(self.listen, self.readers_listen, self.operators.listen)
        if self.witness_only and (self.readers_listen or self.operators.listen):
            raise SetupError("a witness alone has no listener but `listen`; take the others out")


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
    own = {name: _quoted(getattr(config, name)) for name in ("origin", "tenant", "name", "listen")}
    readers = f"readers_listen = {_quoted(config.readers_listen)}\n"
    return TEMPLATE.format(
        **own,
        readers=readers if config.readers_listen else "",
        alone="witness_only = true  # no keys lie here, and nothing is released\n"
        if config.witness_only
        else "",
    ).encode()


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()  # a JSON string is a TOML basic string
