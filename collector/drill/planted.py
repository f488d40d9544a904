"""Sealed batches of nobody, one a category, so that a drill always has something to ask for.

Each is a frame in every respect that can be told from outside: scope, hash, signature.  There
is no person, no consent and no key behind it: pseudonym, recipients, shelf and body are random,
and the device's key is thrown away, so nobody will ever open it, and it belongs to no statistic.
It lies in the store as any other, has no leaf in the log, and is in no reader's list.
"""

import secrets
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, delete, select

from base.pki import spki_sha256
from collector.assembly import Collector
from collector.drill.probes import Object
from collector.index.tables import planted
from collector.policies import Published, latest
from collector.release.frames import today
from wire.category import Category
from wire.frame import (
    KEY_ID_BYTES,
    Core,
    batch_hash,
    core_hash,
    encode_core,
    join_unsigned,
    signed_message,
    trailer,
)
from wire.ids import BatchHash, DeviceId, GrantHash, KeyId, SubjectId, WallInstant

SHELF_BYTES: Final = 2_800  # as sealed ones have
BODY_BYTES: Final = 4 << 10
NEVER: Final = "9999-12-31"


def plant(collector: Collector, now: WallInstant) -> list[Object]:
    """Return the planted batches, one a category, put there where they are missing."""
    with collector.index.reading() as connection:
        policy = latest(connection)
        known = stored(connection)
    if policy is None:
        return []
    there = {one.category: one for one in known if collector.store.get(one.batch)}
    for category in Category:
        if category not in there:
            there[category] = _put(collector, category, policy, now)
    return list(there.values())


def stored(connection: Connection) -> list[Object]:
    """Return what was planted."""
    rows = connection.execute(select(planted.c.batch, planted.c.category, planted.c.day)).all()
    return [
        Object(batch=BatchHash(row.batch), category=Category(row.category), day=row.day)
        for row in rows
    ]


def _put(collector: Collector, category: Category, policy: Published, now: WallInstant) -> Object:
    """Store a new one: file, then row, as `receive` does; a crash leaves a mark, which goes."""
    key = Ed25519PrivateKey.generate()
    day = today(now)
    core = Core(
        origin=collector.config.origin,
        tenant=collector.config.tenant,
        programme=policy.policy.programme,
        device=DeviceId(spki_sha256(key.public_key())),
        subject=SubjectId(secrets.token_bytes(16)),
        policy=policy.digest,
        grant=GrantHash(secrets.token_bytes(32)),
        category=category,
        day=day,
        recipients=(KeyId(secrets.token_bytes(KEY_ID_BYTES)),),
        guard_key=KeyId(secrets.token_bytes(KEY_ID_BYTES)),
        purpose=policy.policy.purpose,
        expires=NEVER,
    )
    encoded = encode_core(core)
    frame = _frame(encoded, key)
    batch = batch_hash(frame)
    mark = collector.store.put(batch, frame)
    with collector.index.writing() as connection:
        before = select(planted.c.batch).where(planted.c.category == category)
        old = [BatchHash(name) for name in connection.execute(before).scalars()]
        connection.execute(delete(planted).where(planted.c.category == category))
        connection.execute(
            planted.insert().values(
                batch=batch,
                core_hash=core_hash(encoded),
                programme=core.programme,
                purpose=core.purpose,
                category=category,
                day=day,
                expires=NEVER,
                public_key=key.public_key().public_bytes_raw(),
            )
        )
    mark.settle()
    for gone in old:
        collector.store.remove(gone)
    return Object(batch=batch, category=category, day=day)


def _frame(core: bytes, key: Ed25519PrivateKey) -> bytes:
    shelf, body = secrets.token_bytes(SHELF_BYTES), secrets.token_bytes(BODY_BYTES)
    signature = key.sign(signed_message(core, shelf, body, 0))
    return join_unsigned(core, shelf, body) + trailer(0, signature)
