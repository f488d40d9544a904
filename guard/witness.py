"""The witness: signs that the collector's log only ever grew (C2SP tlog-witness).

`judge` is the whole rule and pure.  `Witness.add` runs it inside one transaction, so that
two submissions at once cannot roll the remembered size back, and commits before it signs.
"""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from guard.database import open_database, transaction
from guard.rings import Held, held
from wire.errors import ForgedError, MalformedError
from wire.ids import WallInstant
from wire.tlog import (
    EMPTY_ROOT,
    Checkpoint,
    cosign,
    parse_verifier_key,
    verify_checkpoint,
    verify_consistency,
)

MOST_PROOF_LINES: Final = 63  # tlog-witness: a tree of 2^63 leaves needs no more
SIZE_TYPE: Final = "text/x.tlog.size"
_NANOSECONDS: Final = 1_000_000_000

_TABLES: Final = sa.MetaData()
_SEEN: Final = sa.Table(
    "seen",
    _TABLES,
    sa.Column("origin", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("root", sa.LargeBinary, nullable=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """The body of an add-checkpoint request."""

    old: int
    proof: tuple[bytes, ...]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """The log grew as it should; this is its new head."""

    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """The answer of tlog-witness to what must not be cosigned."""

    status: int
    why: str
    size: int | None = None  # with 409: what was cosigned last


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned:
    """The signature lines that the log adds to its note: more than one while keys change."""

    line: str


def parse_submission(body: bytes) -> Submission:
    """Return what *body* submits.

    Raises:
        MalformedError: Not the body of an add-checkpoint request.

    """
    try:
        head, blank, note = body.decode("utf-8").partition("\n\n")
        first, *proof = head.split("\n")
        word, _, number = first.partition(" ")
        old = int(number)
        hashes = tuple(base64.b64decode(line, validate=True) for line in proof)
    except ValueError as exc:  # of the encoding, the number or the base64
        raise MalformedError("this is no add-checkpoint request") from exc
    if not blank or word != "old" or str(old) != number or old < 0:
        raise MalformedError("an add-checkpoint request begins with `old` and a size")
    if len(hashes) > MOST_PROOF_LINES:
        raise MalformedError(f"a consistency proof has at most {MOST_PROOF_LINES} lines")
    return Submission(old=old, proof=hashes, note=note)


def judge(  # noqa: PLR0911 - one return a check, as in the list
    submission: Submission, seen: Checkpoint | None, log_key: str
) -> Accept | Refuse:
    """Return whether *submission* may be cosigned, given what was *seen* last.

    The checks are those of tlog-witness, in its order:

    1. the origin is the log that the policy names, else 404;
    2. that log has signed the checkpoint, else 403 (or 400, if it is no checkpoint);
    3. the old size is not larger than the new one, else 400;
    4. the old size is the one cosigned last, else 409 with that size;
    5. a checkpoint of the same size has the same root, else 409;
    6. the proof shows that the old tree is a prefix of the new one, else 422.
    """
    name, _algorithm, _key = parse_verifier_key(log_key)
    if submission.note.partition("\n")[0] != name:  # 1
        return Refuse(status=404, why="this log is not the one that the policy names")
    try:
        new = verify_checkpoint(submission.note, log_key)  # 2
    except ForgedError as exc:
        return Refuse(status=403, why=str(exc))
    except MalformedError as exc:
        return Refuse(status=400, why=str(exc))
    if submission.old > new.size:  # 3
        return Refuse(status=400, why="the old size is larger than the checkpoint's")
    last = seen or Checkpoint(origin=name, size=0, root=EMPTY_ROOT)
    if submission.old != last.size:  # 4
        return Refuse(status=409, why="another size was cosigned last", size=last.size)
    if new.size == last.size and new.root != last.root:  # 5
        return Refuse(status=409, why="two roots of one size: the log was split", size=last.size)
    try:
        _verify_growth(last, new, submission.proof)  # 6
    except ForgedError as exc:
        return Refuse(status=422, why=str(exc))
    return Accept(checkpoint=new)


def _verify_growth(last: Checkpoint, new: Checkpoint, proof: tuple[bytes, ...]) -> None:
    if last.size == 0:
        # Every log begins empty, so there is nothing to prove (RFC 9162 has no such proof).
        if proof:
            raise ForgedError("there is no proof from an empty log; send none")
        return
    verify_consistency(
        old=last.size, new=new.size, proof=proof, old_root=last.root, new_root=new.root
    )


class Witness:
    """Remembers the head of the log, and cosigns a newer one that is consistent with it."""

    def __init__(self, path: Path, name: str, key: Ed25519PrivateKey | Held) -> None:
        """Open the memory in *path*, or begin one."""
        self._engine = open_database(path, _TABLES)
        self._name = name
        self._held = held(key)

    def add(self, submission: Submission, log_key: str, now: WallInstant) -> Cosigned | Refuse:
        """Cosign the submitted checkpoint, or say why not."""
        origin, _algorithm, _key = parse_verifier_key(log_key)
        with transaction(self._engine) as db:
            verdict = judge(submission, _last_seen(db, origin), log_key)
            if isinstance(verdict, Refuse):
                return verdict
            row = {
                "size": verdict.checkpoint.size,
                "root": verdict.checkpoint.root,
                "seen_at": now,
            }
            changed = db.execute(_SEEN.update().where(_SEEN.c.origin == origin).values(**row))
            if changed.rowcount == 0:
                db.execute(_SEEN.insert().values(origin=origin, **row))
        # On the disk: a crash from here on loses a cosignature, which the log asks for again,
        # and never the memory of having given it.
        at = now // _NANOSECONDS
        lines = (cosign(submission.note, self._name, key, at) for key in self._held().every)
        return Cosigned(line="".join(lines))

    def last_seen(self, log_key: str) -> Checkpoint | None:
        """Return the head that was cosigned last, or None."""
        origin, _algorithm, _key = parse_verifier_key(log_key)
        with transaction(self._engine) as db:
            return _last_seen(db, origin)

    def close(self) -> None:
        """Close the memory."""
        self._engine.dispose()


def _last_seen(db: sa.Connection, origin: str) -> Checkpoint | None:
    row = db.execute(sa.select(_SEEN).where(_SEEN.c.origin == origin)).first()
    return None if row is None else Checkpoint(origin=origin, size=row.size, root=row.root)
