"""What comes out of a door: an answer, or the reason why there is none.

Apart from `base.https`, which does the talking, so that what decides over answers can know
them without being able to speak to anybody.

DoorError (try later; `body_sent` says whether a part of a body may have left)
├── UnreachableError      nobody answers, or the connection broke
├── ProxyRefusedError     the proxy does not let us through to it
├── NotTlsError           something answers that does not speak TLS 1.3
├── UntrustedServerError  its certificate is of another authority, or has expired
├── WrongHostError        its certificate is for another host
├── WrongPinError         its key is none that we know
├── ClientRefusedError    it does not accept the certificate of this program
├── RedirectedError       it wants us to go elsewhere
├── NotContinuedError     it did not say that it would take the body
└── GarbledAnswerError    its answer is no HTTP, cut short, or too large
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from base.errors import RetryableError, SetupError

LARGEST_PORT: Final = 65535


class DoorError(RetryableError):
    """Not the server we know, or no answer from it; `body_sent` says whether it got a byte."""

    def __init__(self, message: str, *, body_sent: bool = False) -> None:
        super().__init__(message)
        self.body_sent = body_sent


class UnreachableError(DoorError):
    """Nobody answers there, or the connection broke."""


class ProxyRefusedError(DoorError):
    """The proxy that is configured does not connect us to the server."""


class NotTlsError(DoorError):
    """Something answers there, but does not speak TLS 1.3."""


class UntrustedServerError(DoorError):
    """The server's certificate is not of the authority that we trust, or has expired."""


class WrongHostError(DoorError):
    """The server's certificate is for another host."""


class WrongPinError(DoorError):
    """The certificate is in order, but the server's key is none that we know."""


class ClientRefusedError(DoorError):
    """The server does not accept the certificate of this program."""


class RedirectedError(DoorError):
    """The server wants us to go elsewhere; we do not."""


class NotContinuedError(DoorError):
    """The server did not say that it would take the body."""


class GarbledAnswerError(DoorError):
    """The answer is no HTTP, was cut short, or is too large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A final answer that is no redirect; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after_seconds(self) -> float | None:
        """How long the server asks us to stay away, if it says so in seconds."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isascii() and text.isdigit() else None


def decode_pins(pins: Iterable[str]) -> frozenset[bytes]:
    """Return the SHA-256 digests that *pins* are in hexadecimal.

    Raises:
        SetupError: There is none, or one is no such digest.

    """
    try:
        decoded = frozenset(bytes.fromhex(pin) for pin in pins)
    except ValueError as exc:
        raise SetupError("a TLS pin is not hexadecimal; copy it whole from `status`") from exc
    if not decoded or any(len(pin) != 32 for pin in decoded):
        raise SetupError("the server's TLS pins (SHA-256, at least one) are missing or cut short")
    return decoded


def host_and_port(origin: str) -> tuple[str, int]:
    """Return host and port of an `https://` origin.

    Raises:
        SetupError: Not an origin: another scheme, or more than scheme, host and port.

    """
    try:
        parts = urlsplit(origin)
        port = parts.port or 443
    except ValueError:
        parts, port = urlsplit(""), 0
    bare = parts.hostname and parts.path in ("", "/") and not (parts.query or parts.fragment)
    if parts.scheme != "https" or not parts.hostname or not bare or "@" in parts.netloc:
        raise SetupError(
            f"{origin!r} is no origin: it is https://, a host and perhaps a port, and nothing "
            "more, as in https://host.example:8443"
        )
    return parts.hostname, port


def check_listens(devices: str, readers: str, operators: str) -> None:
    """Check what a configuration says of its listeners; empty is none.

    Raises:
        SetupError: An address is not host:port, or two listeners have the same one.

    """
    named: dict[tuple[str, int], str] = {}
    for key, text in (
        ("listen", devices),
        ("readers_listen", readers),
        ("[operators] listen", operators),
    ):
        if not text:
            continue
        at = listen_address(text)
        if at[1] and at in named:  # port 0 is another one each time
            raise SetupError(f"{key} is the address of {named[at]}; give it another port")
        named[at] = key


def listen_address(text: str) -> tuple[str, int]:
    """Return host and port of a `host:port` to listen on; an IPv6 host stands in brackets.

    Raises:
        SetupError: Not host:port.

    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > LARGEST_PORT:
        raise SetupError(f"{text!r} is not host:port; write it as in 127.0.0.1:8443")
    return host.strip("[]"), int(port)
