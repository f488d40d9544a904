"""What a server's table of routes says of each request: who may ask it, how, and every answer.

The table is the one source: a server is built from it, and `base.openapi` describes it.  What
a program adds to an `Operation` (the function that answers) is its own affair.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import msgspec


class Door(StrEnum):
    """Who a listener is for; each has an address of its own."""

    DEVICES = "devices"
    COLLECTOR = "collector"  # the guard's, for its one collector
    READERS = "readers"
    OPERATORS = "operators"


class Media(StrEnum):
    """A body that is no message of ours but somebody else's format, or bytes."""

    BYTES = "application/octet-stream"
    JSON = "application/json"  # whose fields another specification says (TUF)
    TEXT = "text/plain"
    METRICS = "text/plain; version=1.0.0"
    SIZE = "text/x.tlog.size"


Body: TypeAlias = type[msgspec.Struct] | Media


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A parameter of the query."""

    name: str
    says: str
    pattern: str = ""
    choices: tuple[str, ...] = ()
    required: bool = False


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str  # with {names} in it; `PLACES` of base.openapi says what they look like
    name: str
    says: str
    callers: tuple[str, ...] = ()  # roles in a client certificate; none: anybody
    doors: tuple[Door, ...]
    takes: Body | None = None
    query: tuple[Query, ...] = ()
    gives: Mapping[int, Body] = field(default_factory=dict)
    refuses: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Status and, where the server has names for refusals, those that come with it."""
