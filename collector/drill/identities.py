"""Who a drill comes as: short-lived certificates of our own authority, and what they are worth.

A drill has to come as a device and as a reader that are known here, or it would only find out
that strangers are refused.  So for as long as it lasts the index knows two keys of its own.
What a thief of one could do with it is closed elsewhere, on every way at once:

- it is answered nothing that its role may have (`collector.serving.reached.admit`);
- what a hole would answer it is taken out of the answer before it leaves
  (`collector.drill.muted`): the drill learns that, and how much, never what;
- it writes nothing: no release (`collector.release.releases`), no consent, and so no batch;
- it is in no table of devices or readers, so it is neither counted, listed nor renewed;
- it is forgotten when the drill ends, and in any case after `LIFE`.

The *mark* is a secret that a drill writes into each request, also where it shows no
certificate, so that these requests count for nobody's and are muted, too.
"""

import hashlib
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select

from base.clock import NANOSECONDS
from base.pki import Role
from collector.index.tables import drill_identities, drill_marks
from wire.ids import WallInstant

LIFE_SECONDS: Final = 1800  # no drill takes as long
NAME: Final = "drill"  # of the reader; no real reader is certified under it
MARK: Final = "assent-drill"  # the header; in an answer, how many bytes were taken out of it

_KNOWN: Final = select(drill_identities.c.public_key).where(
    drill_identities.c.spki_sha256 == bindparam("spki"),
    drill_identities.c.role == bindparam("role"),
    drill_identities.c.until > bindparam("now"),
)
_MARKED: Final = select(drill_marks.c.until).where(
    drill_marks.c.sha256 == bindparam("sha256"), drill_marks.c.until > bindparam("now")
)


def known_key(
    connection: Connection, spki_sha256: bytes, role: Role, now: WallInstant
) -> bytes | None:
    """Return the raw public key of a drill's certificate, or None if it is no drill's."""
    found: bytes | None = connection.execute(
        _KNOWN, {"spki": spki_sha256, "role": role, "now": now}
    ).scalar()
    return found


def is_marked(connection: Connection, mark: str, now: WallInstant) -> bool:
    """Whether *mark* is that of a drill under way."""
    digest = hashlib.sha256(mark.encode("latin-1", "replace")).digest()
    return connection.execute(_MARKED, {"sha256": digest, "now": now}).first() is not None


def announce(
    connection: Connection, keys: dict[tuple[bytes, Role], bytes], mark: str, now: WallInstant
) -> None:
    """Make the keys of a drill known, each by its digest and role; those of dead drills go."""
    for table in (drill_identities, drill_marks):
        connection.execute(delete(table).where(table.c.until <= now))
    until = now + LIFE_SECONDS * NANOSECONDS
    for (spki_sha256, role), public_key in keys.items():
        row = {"spki_sha256": spki_sha256, "role": role, "public_key": public_key, "until": until}
        connection.execute(drill_identities.insert().values(row))
    digest = hashlib.sha256(mark.encode("latin-1")).digest()
    connection.execute(drill_marks.insert().values(sha256=digest, until=until))


def forget(connection: Connection, keys: dict[tuple[bytes, Role], bytes], mark: str) -> None:
    """Make the keys of a drill nobody's again."""
    digests = [spki_sha256 for spki_sha256, _role in keys]
    connection.execute(delete(drill_identities).where(drill_identities.c.spki_sha256.in_(digests)))
    digest = hashlib.sha256(mark.encode("latin-1")).digest()
    connection.execute(delete(drill_marks).where(drill_marks.c.sha256 == digest))
