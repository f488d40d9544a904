"""What the index gives to who has it alone: metadata, and no key to anything.

Every value of it that has the length of a key is tried as one: as the seed behind a recipient's
or the guard's key that a batch is sealed to.  Text is searched for what identities and private
keys look like.  And nothing is in it that `collector.index.tables` does not know.
"""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection, LargeBinary, Text, inspect, select

from collector.drill.probes import Hole, Who
from collector.index.tables import guard_keys, metadata
from collector.policies import latest
from wire.age import SEED_BYTES, decode_recipient
from wire.xwing import public_key_of

ROWS: Final = 20  # of each table, the newest
MOST_ROWS: Final = 1_000
_TOOLS: Final = frozenset({"assent_schema"})  # in PostgreSQL: which version's tables they are
_SECRETS: Final = (b"AGE-SECRET-KEY", b"PRIVATE KEY", b"age-secret-key")


def of_index(connection: Connection, rows: int = ROWS) -> Iterator[Hole | None]:
    """Yield what is wrong with each value that was tried; the newest *rows* of each table."""
    yield from _strangers(connection)
    public = _public_keys(connection)
    seen: set[bytes] = set()
    for table in metadata.sorted_tables:
        wanted = [c for c in table.columns if isinstance(c.type, LargeBinary | Text)]
        if not wanted:
            continue
        newest = select(*wanted).order_by(*(c.desc() for c in table.primary_key.columns))
        for row in connection.execute(newest.limit(rows)):
            for column, value in zip(wanted, row, strict=True):
                raw = value.encode() if isinstance(value, str) else value or b""
                if raw in seen:
                    continue
                if len(raw) == SEED_BYTES:
                    seen.add(raw)
                yield _tried(raw, public, f"{table.name}.{column.name}")


def _public_keys(connection: Connection) -> frozenset[bytes]:
    """Return the keys that batches are sealed to: the guard's and the recipients'."""
    policy = latest(connection)
    named = policy.policy.recipients if policy else ()
    guards = connection.execute(select(guard_keys.c.public_key).limit(ROWS * ROWS)).scalars()
    return frozenset((*guards, *(decode_recipient(each.key) for each in named)))


def _tried(value: bytes, public: frozenset[bytes], where: str) -> Hole | None:
    if any(secret in value for secret in _SECRETS):
        return Hole(line=f"{where} holds a private key, for {Who.DATABASE}")
    if public and len(value) == SEED_BYTES and public_key_of(value) in public:
        line = f"{where} holds a key that opens a half of batches, for {Who.DATABASE}"
        return Hole(line=line)
    return None


def _strangers(connection: Connection) -> Iterator[Hole | None]:
    found = inspect(connection)
    for name in found.get_table_names():
        known = metadata.tables.get(name)
        if name in _TOOLS:
            continue
        if known is None:
            yield Hole(line=f"the table {name} is none of ours, for {Who.DATABASE}")
            continue
        columns = {column["name"] for column in found.get_columns(name)}
        more = columns - set(known.columns.keys())
        yield Hole(line=f"{name} has columns that are none of ours") if more else None
