"""The data categories, and what the registry says of each.

The registry is `categories.toml` beside this file; it is package data and the only file
that `wire` reads.  Everything that offers, refuses, counts or shows a category takes its
words from here.
"""

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from importlib import resources
from types import MappingProxyType

import msgspec


class Category(StrEnum):
    """A data category of the registry; a batch holds exactly one."""

    KEYS = "keys"
    POINTER = "pointer"
    SCREEN = "screen"
    WINDOW = "window"


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the registry says of one category, in the data subject's words.

    `levels` go from least to most revealing, each with the sentence that says what is
    recorded at it.
    """

    title: str
    never: str
    levels: Mapping[str, str]
    sensitivity: str
    reviewer: str
    review_by: str  # ISO date; after it the entry must be looked at again

    @property
    def lowest_level(self) -> str:
        """The level that reveals least."""
        return next(iter(self.levels))

    def covers(self, agreed: str, level: str) -> bool:
        """Say whether *level* reveals no more than *agreed*; a level that is unknown never does."""
        order = list(self.levels)
        return {agreed, level} <= set(order) and order.index(level) <= order.index(agreed)


@cache
def registry() -> Mapping[Category, Entry]:
    """Return the registry, complete: one entry for each `Category` and none besides."""
    text = resources.files("wire").joinpath("categories.toml").read_text(encoding="utf-8")
    entries = msgspec.convert(tomllib.loads(text), dict[Category, Entry])
    missing = set(Category) - set(entries)
    if missing:
        raise ValueError(f"categories.toml lacks {sorted(missing)}")
    return MappingProxyType(entries)
