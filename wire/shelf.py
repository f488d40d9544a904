"""The shelf: the age header of a batch, sealed to the guard.

Two seals of one thing.  On the device `shelve` locks the header away from everybody but
the guard; after a logged release the guard takes it down (`unshelve`) and seals it again
to the one reader (`reseal`), who alone can use it (`opening.open_released`).  The hash of
the core is in both, so a header never fits another frame.
"""

from typing import Final

from wire.ids import CoreHash
from wire.xwing import hpke_open, hpke_seal

SHELF_LABEL: Final = b"assent/shelf/v1\0"
RELEASE_LABEL: Final = b"assent/release/v1\0"


def shelve(age_header: bytes, guard_key: bytes, digest: CoreHash) -> bytes:
    """Return *age_header* sealed to the guard's 1216-byte public key, for this core."""
    return hpke_seal(guard_key, age_header, SHELF_LABEL + digest)


def unshelve(shelf: bytes, guard_seed: bytes, digest: CoreHash) -> bytes:
    """Return the age header on *shelf*.

    Raises:
        NotForUsError: Another key, another core, or changed.

    """
    return hpke_open(guard_seed, shelf, SHELF_LABEL + digest)


def reseal(age_header: bytes, reader_key: bytes, digest: CoreHash) -> bytes:
    """Return *age_header* sealed to a reader's 1216-byte public key: a release.

    A device does the same for its data subject, for as long as it has the batch.
    """
    return hpke_seal(reader_key, age_header, RELEASE_LABEL + digest)
