"""Where the running server listens, as its own file says: what a command by hand attacks."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from base import durable
from base.api import Door
from base.errors import RetryableError, SetupError
from base.serving import Listener
from base.volley import Target
from collector.drill.attack import Doors
from collector.premises import Premises
from wire.errors import UNREADABLE

# Attacked from the machine itself, whatever it listens on.
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a socket says


class Listening(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `listening.json` says: address of each listener, and whom the server trusts.

    *server* is drawn at each start, and tells servers that share an index from each other.
    """

    server: bytes
    doors: dict[Door, tuple[str, int]]
    pins: tuple[str, ...]
    ca_pem: str
    authority: str  # PEM of the one that certified clients when the server began

    @property
    def targets(self) -> Doors:
        """The listeners that speak TLS."""
        pins = frozenset(bytes.fromhex(pin) for pin in self.pins)
        return Doors(
            targets={
                door: Target(
                    host=_EVERYWHERE.get(host, host), port=port, pins=pins, ca_pem=self.ca_pem
                )
                for door, (host, port) in self.doors.items()
            },
            required=frozenset(self.doors) - {Door.DEVICES},
        )


def listening(premises: Premises, listeners: Mapping[Door, Listener]) -> Listening:
    """Return what is true of a server with *listeners*; an operators' one in the clear is none."""
    return Listening(
        server=secrets.token_bytes(16),
        doors={
            door: (one.host, one.port)
            for door, one in listeners.items()
            if door is not Door.OPERATORS or not one.is_loopback
        },
        pins=(premises.tls_pin(),),
        ca_pem=premises.trusted_pem(),
        authority=premises.authority().pem.decode("ascii"),
    )


def announce(premises: Premises, found: Listening) -> None:
    """Write it down for commands beside the server."""
    durable.replace(_file(premises), msgspec.json.encode(found))


def withdraw(premises: Premises) -> None:
    """Remove it: the server ends."""
    _file(premises).unlink(missing_ok=True)


def of_the_server(premises: Premises) -> Listening:
    """Return what the running server wrote down.

    Raises:
        RetryableError: None runs here.
        SetupError: It was started with other keys than there are now.

    """
    try:
        found = msgspec.json.decode(_file(premises).read_bytes(), type=Listening)
    except FileNotFoundError:
        line = "no collector serves from this folder; run assent-collector serve, then drill"
        raise RetryableError(line) from None
    except (OSError, *UNREADABLE) as exc:
        raise SetupError(
            f"{_file(premises)} cannot be read: {exc}; start the server again"
        ) from exc
    if found.authority.encode("ascii") != premises.authority().pem:
        raise SetupError("keys were changed since the server began; start it again, then drill")
    return found


def _file(premises: Premises) -> Path:
    return premises.paths.runtime / "listening.json"
