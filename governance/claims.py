"""What Assent promises, sentence by sentence, and the tests that prove it: the privacy review.

`claims.toml` (it is docs/claims.toml) lists every sentence of the notice, of the README's
promise and of the threat model; `tests/architecture/test_claims.py` holds the list against
these texts and its tests against what there is.  A policy names the review that its parties
read by its digest (`Policy.review`), and the lint refuses one that names another: what runs is
what was reviewed.
"""

import hashlib
import textwrap
import tomllib
from collections.abc import Iterator
from enum import StrEnum
from functools import cache
from importlib import resources
from pathlib import PurePosixPath
from typing import Final

import msgspec

WIDTH: Final = 96
_INDENT: Final = "  "


class Where(StrEnum):
    """The text in which a sentence stands."""

    NOTICE = "notice"
    README = "readme"
    THREAT_MODEL = "threat-model"

    @property
    def heading(self) -> str:
        """What the text is, for who reads the review."""
        return _HEADINGS[self]


_HEADINGS: Final = {
    Where.NOTICE: "THE NOTICE, read first by whoever is asked; in braces stands what a policy says",
    Where.README: "THE PROMISE, with which Assent introduces itself (README.md)",
    Where.THREAT_MODEL: "THE THREAT MODEL: against whom this holds (docs/threat-model.md)",
}


class Kind(StrEnum):
    """What a sentence is; every promise has tests."""

    PROMISE = "promise"
    LIMIT = "limit"  # says what is not protected, or left to people; may have tests all the same
    CONTEXT = "context"  # promises nothing


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One sentence, word for word, with the ids of the tests that prove it."""

    id: str
    where: Where
    says: str
    kind: Kind = Kind.PROMISE
    tests: tuple[str, ...] = ()
    note: str = ""  # why no test is named, or what the tests of a promise cannot show


class Review(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All sentences, in the order of their texts; `version` counts the forms of the review."""

    version: int
    claim: tuple[Claim, ...]

    @property
    def promises(self) -> tuple[Claim, ...]:
        """The sentences that promise something."""
        return tuple(claim for claim in self.claim if claim.kind is Kind.PROMISE)

    @property
    def tests(self) -> frozenset[str]:
        """The ids of all tests that prove something."""
        return frozenset(test for claim in self.claim for test in claim.tests)

    @property
    def text(self) -> str:
        """The review as it is read: one text, to the byte, for everybody who has this version."""
        return "\n".join(_lines(self)) + "\n"

    @property
    def digest(self) -> str:
        """SHA-256 of `text`, in hexadecimal: what a policy names."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()


@cache
def review() -> Review:
    """Return the review of this version."""
    text = resources.files("governance").joinpath("claims.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Review)


def _lines(found: Review) -> Iterator[str]:
    yield f"PRIVACY REVIEW OF ASSENT (form {found.version})"
    yield ""
    yield from textwrap.wrap(
        f"Every sentence in which Assent promises something, and the tests that fail where it is"
        f" not so: {len(found.promises)} promises, {len(found.tests)} tests. Sentences that promise"
        " nothing are here too, with the reason.",
        WIDTH,
    )
    for where in Where:
        yield from ("", "", where.heading)
        for claim in found.claim:
            if claim.where is where:
                yield from _of(claim)


def _of(claim: Claim) -> Iterator[str]:
    yield from ("", claim.id)
    yield from _wrapped(claim.says, _INDENT)
    kind = "note" if claim.kind is Kind.PROMISE else claim.kind
    if claim.note:
        yield from _wrapped(f"({kind}: {claim.note})", _INDENT * 2)
    for test in claim.tests:
        path, _, name = test.partition("::")
        sentence = name.removeprefix("test_").replace("_", " ")
        yield from _wrapped(f"- {sentence}  [{PurePosixPath(path)}]", _INDENT * 2)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + _INDENT * text.startswith("- "),
        break_long_words=False,
        break_on_hyphens=False,
    )
