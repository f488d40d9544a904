"""Premises and index as a command needs them: opened beside a running server, and closed again."""

from collections.abc import Iterator
from contextlib import contextmanager

from base.paths import paths_for
from collector.index import Index
from collector.premises import Premises


def our_premises() -> Premises:
    """Return the premises of this machine."""
    return Premises(paths_for("collector"))


@contextmanager
def opened_index(premises: Premises) -> Iterator[Index]:
    """Open the index of *premises*, and close it after the block.

    Raises:
        SetupError: Nothing is set up there yet.

    """
    premises.config()  # says what to do where nothing is set up yet
    index = premises.index()
    try:
        yield index
    finally:
        index.close()
