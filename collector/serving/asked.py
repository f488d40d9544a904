"""What an endpoint may know of a request, and how it is refused when it is none.

An endpoint sees values, never the connection: no certificate, no address, no header.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import Request

from collector.refusal import RefusedError, Why
from wire.category import Category
from wire.collector_http import decode
from wire.errors import MalformedError
from wire.ids import BatchHash

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """All that an endpoint may know of a request."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes

    def decoded(self, expect: type[T]) -> T:
        """Return the body as *expect*, or refuse."""
        try:
            return decode(self.body, expect)
        except MalformedError as exc:
            raise RefusedError(Why.BAD_REQUEST, str(exc)) from exc

    def number(self, name: str, default: int | None = None) -> int:
        """Return a whole number of the query, or refuse."""
        text = self.query.get(name, "")
        if not text and default is not None:
            return default
        if not text.removeprefix("-").isdecimal() or len(text) > 18:
            raise RefusedError(Why.BAD_REQUEST, f"{name} must be a whole number")
        return int(text)

    def category(self) -> Category | None:
        """Return the category of the query if it names one, or refuse."""
        text = self.query.get("category")
        try:
            return None if text is None else Category(text)
        except ValueError:
            raise RefusedError(Why.BAD_REQUEST, "there is no such category") from None

    def batch(self) -> BatchHash:
        """Return the batch of the path, or refuse."""
        return BatchHash(self.hash("batch"))

    def hash(self, name: str) -> bytes:
        """Return the 32 bytes that the path names, or refuse."""
        text = self.path[name]
        try:
            named = bytes.fromhex(text)
        except ValueError:
            named = b""
        if len(named) != 32 or named.hex() != text:
            raise RefusedError(Why.NOT_FOUND, "a hash is 64 lower-case hexadecimal digits")
        return named


def asked_of(request: Request, body: bytes) -> Asked:
    """Return what *request* asks with *body*, or refuse: no text here has a NUL in it."""
    path = request.path_params
    query = dict(request.query_params) if request.scope["query_string"] else {}
    if any("\0" in text for text in (*path.values(), *query, *query.values())):
        raise RefusedError(Why.BAD_REQUEST, "there is a NUL in the path or query")
    return Asked(path=path, query=query, body=body)
