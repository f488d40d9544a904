"""The last step of a release: the age header, taken out of what the guard sealed.

Apart from `wire.opening`, so that who only fetches what is theirs (`agent.get_back`) can make an
age file of it and has no means to look inside.
"""

from wire.age import decode_identity
from wire.ids import CoreHash
from wire.shelf import RELEASE_LABEL
from wire.xwing import hpke_open


def open_released(released: bytes, identity: str, digest: CoreHash) -> bytes:
    """Return the age header that the guard released to this identity for this core.

    Raises:
        NotForUsError: Released to somebody else, for another core, or changed.

    """
    return hpke_open(decode_identity(identity), released, RELEASE_LABEL + digest)
