"""Writes leaves into an index until somebody kills it: `python -m tests.fakes.doomed_writer PLACE`.

Each transaction adds `AT_ONCE` leaves with their salts; once it is committed, the number of the
last one is printed.
"""

import itertools
import sys
from typing import Final

from collector.log import append
from tests.fakes.indexes import open_place
from wire.ids import WallInstant
from wire.leaf import Kind

AT_ONCE: Final = 5


def main() -> None:
    index = open_place(sys.argv[1])
    for round_number in itertools.count():
        payload, at = b"%d" % round_number, WallInstant(round_number)
        with index.writing() as connection:
            added = [append(connection, Kind.BATCH, payload, at) for _ in range(AT_ONCE)]
        sys.stdout.write(f"{added[-1]}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
