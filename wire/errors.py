"""What can be wrong with bytes that somebody else wrote.

WireError
├── MalformedError     the bytes are not of this format, or not in its one allowed encoding
│   └── UnknownVersionError    they say that they are of another version of it
├── ForgedError        well formed, but a signature, hash or proof does not hold
│   └── ExpiredError   it did hold, until its time was over
├── NotForUsError      well formed and signed, but no identity at hand opens it
└── NotCoveredError    signed by the right people, but it does not allow what is asked

A receiver never retries any of them: the same bytes will fail again.  A later version of it
may take what is of a version that this one does not know.
"""

from typing import Final

import msgspec

# All that msgspec raises for bytes that it cannot read.  Only the first is documented: text
# that is no UTF-8, and nesting in fields that nobody asked for, come out as themselves.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
LONGEST: Final = 1_000  # of a message; msgspec quotes the names of fields, however long they are


class WireError(Exception):
    """Bytes from outside were refused; the message says which rule they broke.

    It is one line that steers no terminal and no log, though it may quote those bytes
    (`base.lines` has the same rule, and `wire` imports nothing of ours).
    """

    def __str__(self) -> str:
        said = super().__str__()[: 2 * LONGEST]
        printable = "".join(c if c.isprintable() else " " for c in said)
        return " ".join(printable.split())[:LONGEST]


class MalformedError(WireError):
    """The bytes do not follow the format, or not in its canonical encoding."""


class UnknownVersionError(MalformedError):
    """The bytes name a version, suite or schema that this program does not know."""


class ForgedError(WireError):
    """A signature, a digest or a proof does not match."""


class ExpiredError(ForgedError):
    """The signatures hold, but the time for which they were given is over."""


class NotForUsError(WireError):
    """None of the identities at hand opens this."""


class NotCoveredError(WireError):
    """The document is genuine but does not cover what was asked for."""
