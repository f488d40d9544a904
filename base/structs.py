"""Has msgspec learn the fields of every struct before there is a second thread.

It learns those of a struct when it first decodes one, and lets other threads see what it has so
far: one that decodes the same struct at that moment reads what is not there yet, and the whole
process ends with SIGSEGV (msgspec 0.22; docs/decisions/0061).
"""

from collections.abc import Iterator

import msgspec


def learn() -> int:
    """Learn all structs that are imported by now; return how many.  A few milliseconds, once."""
    known = set(_below(msgspec.Struct))
    for struct in known:
        msgspec.json.Decoder(struct)
    return len(known)


def _below(struct: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for each in struct.__subclasses__():
        yield each
        yield from _below(each)
