"""The second lock itself: one X-Wing seed for each data subject, category and month.

A seed is made at the first request and committed before its public key leaves, so no batch
is ever sealed to a key that a crash could lose.  Erasing is deleting seeds: at once,
whatever the number of batches, and final, also for an old copy of the file that is put back:
`guard.erasures` knows of it, and whoever opens the file deletes them again.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from base.errors import AssentError, SetupError
from guard import expiry
from guard.database import open_database, reading, transaction, truncate_log
from guard.erasures import Demanded, Erasures, Ordered
from wire.category import Category
from wire.ids import KeyId, SubjectId, WallInstant, key_id
from wire.policy import Policy
from wire.rights import Request
from wire.xwing import public_key_of

ALL: Final = ""  # in `erased`: every category, every month
_SEED_BYTES: Final = 32
_ORDER: Final = ("erased_at", "subject", "category", "month")

_TABLES: Final = sa.MetaData()
_KEYS: Final = sa.Table(
    "keys",
    _TABLES,
    sa.Column("subject", sa.LargeBinary, primary_key=True),
    sa.Column("category", sa.Text, primary_key=True),
    sa.Column("month", sa.Text, primary_key=True),
    sa.Column("seed", sa.LargeBinary, nullable=False),
    sa.Column("key_id", sa.LargeBinary, nullable=False),
    sa.Column("made_at", sa.BigInteger, nullable=False),
)
_ERASED: Final = sa.Table(
    "erased",
    _TABLES,
    sa.Column("subject", sa.LargeBinary, primary_key=True),
    sa.Column("category", sa.Text, primary_key=True),
    sa.Column("month", sa.Text, primary_key=True),
    sa.Column("erased_at", sa.BigInteger, nullable=False),
)


_REQUESTS: Final = sa.Table(
    "requests",  # erasures that a data subject asked for; asked again, nothing more goes
    _TABLES,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("subject", sa.LargeBinary, nullable=False),
    sa.Column("gone", sa.Integer, nullable=False),
    sa.Column("erased_at", sa.BigInteger, nullable=False),
)
_TOLD: Final = sa.Table(
    "told",  # erasures by the guard's own hand of which a collector has proved that it obeyed
    _TABLES,
    sa.Column("origin", sa.Text, primary_key=True),
    sa.Column("subject", sa.LargeBinary, primary_key=True),
    sa.Column("category", sa.Text, primary_key=True),
    sa.Column("month", sa.Text, primary_key=True),
    sa.Column("told_at", sa.BigInteger, nullable=False),
)


_ONE: Final = sa.select(_KEYS.c.seed, _KEYS.c.key_id).where(  # made once: that costs most
    _KEYS.c.subject == sa.bindparam("of"),
    _KEYS.c.category == sa.bindparam("in"),
    _KEYS.c.month == sa.bindparam("at"),
)


_RETENTIONS, _LOOKS, _STEPPED = expiry.tables(_TABLES)


class ErasedError(AssentError):
    """The key was erased, and will not be made again."""


class OutOfSeasonError(AssentError):
    """A key is made for the last, this and the next month only."""


class Missing(Enum):
    """Why there is no key."""

    ERASED = "erased"
    NEVER_MADE = "never made"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A seed, and the id by which a core names its public key."""

    seed: bytes
    key_id: KeyId


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """How many keys a request has erased, and when."""

    keys: int
    erased_at: WallInstant


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many keys there are, and how many erasures were asked for."""

    keys: int
    subjects: int
    erasures: int
    run_out: int  # keys that were erased when the retention of their month was over


class Keys:
    """The guard's keys, in an SQLite file of their own."""

    def __init__(self, path: Path) -> None:
        """Open *path*, or make it; and erase what was erased after it was copied.

        Raises:
            SetupError: It is damaged, or it knows of erasures that the file beside it does not.

        """
        self._engine = open_database(path, _TABLES)
        self._erasures = Erasures(path)
        self._catch_up()
        # A crash in `forget`, after its commit, leaves erased seeds in the log before it.
        truncate_log(self._engine)

    def public_key(
        self, subject: SubjectId, category: Category, month: str, now: WallInstant
    ) -> bytes:
        """Return the public key for this subject, category and month; make it if need be.

        Raises:
            ErasedError: It was erased.
            OutOfSeasonError: There is none, and *month* is not last, this or next month.

        """
        with transaction(self._engine) as db:
            if _is_erased(db, subject, category, month):
                raise ErasedError(f"the key for {category} of {month} was erased")
            row = db.execute(_ONE, _named(subject, category, month)).first()
            if row is not None:
                return public_key_of(row.seed)
            if month not in _season(now):
                raise OutOfSeasonError(f"no key is made for {month} now; check the device's clock")
            seed = secrets.token_bytes(_SEED_BYTES)
            public_key = public_key_of(seed)
            db.execute(
                _KEYS.insert().values(
                    subject=subject,
                    category=category.value,
                    month=month,
                    seed=seed,
                    key_id=key_id(public_key),
                    made_at=now,
                )
            )
        # Committed: only now may the public key leave.  A crash before this line leaves at
        # most a seed to which nothing was ever sealed.
        return public_key

    def find(self, subject: SubjectId, category: Category, month: str) -> Found | Missing:
        """Return the seed for this subject, category and month, or why there is none."""
        with self.finding() as find:
            return find(subject, category, month)

    @contextmanager
    def finding(self) -> Iterator[Callable[[SubjectId, Category, str], Found | Missing]]:
        """Yield `find` for many keys; what is erased meanwhile is not found any more."""
        with reading(self._engine) as db:
            yield partial(_found, db)

    def erase(self, digest: bytes, request: Request, now: WallInstant) -> Gone:
        """Carry out a data subject's request, once; return what of it is gone, and since when.

        Unlike after `forget`, a new key for the same month can be made: for what is agreed to
        afterwards.  It opens nothing of what was sealed to the old one.
        """
        with transaction(self._engine) as db:
            before = _carried_out(db, digest)
        if before is not None:
            return before
        # Our clock may have been set back: what is here now was made before, whatever its date.
        newest = sa.select(sa.func.max(_KEYS.c.made_at)).where(_KEYS.c.subject == request.subject)
        with transaction(self._engine) as db:
            made_at = db.execute(newest).scalar()
        erasure = Demanded(digest=digest, request=request, at=max(now, made_at or now))
        self._erasures.add(erasure)
        with transaction(self._engine) as db:
            # One transaction: a crash leaves either all of it undone or all of it done.
            gone = _carried_out(db, digest) or _carry_out(db, erasure)
        # The deleted pages are zero in the database, but still whole in the log before it.
        truncate_log(self._engine)
        return gone

    def forget(
        self,
        subject: SubjectId,
        category: Category | None,
        month: str | None,
        now: WallInstant,
    ) -> int:
        """Erase the keys of a subject, of one category, of one month; return how many.

        Whatever is asked for is remembered as erased, also where no key was made yet.
        """
        erasure = Ordered(
            subject=subject,
            category=ALL if category is None else category.value,
            month=ALL if month is None else month,
            at=now,
        )
        self._erasures.add(erasure)
        with transaction(self._engine) as db:
            # One transaction: a crash leaves either all of it undone or all of it done.
            gone = _obey(db, erasure)
        # The deleted pages are zero in the database, but still whole in the log before it.
        truncate_log(self._engine)
        return gone

    def remember(self, policy: Policy) -> None:
        """Keep for how long *policy* has batches kept, where no earlier one had it longer."""
        with transaction(self._engine) as db:
            _remember(db, policy)

    def let_run_out(self, policy: Policy | None, now: WallInstant) -> int:
        """Erase the keys of months whose retention is over; return how many.

        *policy* is the installed one.  Nothing is written down elsewhere: a copy of before that is
        put back is looked through in the same way.
        """
        with transaction(self._engine) as db:
            if policy is not None:
                _remember(db, policy)
            gone = _run_out(db, now)
        if gone:
            truncate_log(self._engine)
        return gone

    def _catch_up(self) -> None:
        """Carry out what the database does not know of: it is an older copy, or we crashed."""
        with transaction(self._engine) as db:
            erasures = self._erasures.read()  # within: each is written there first
            known = _known(db)
            unknown = known - {_name(erasure) for erasure in erasures}
            if unknown:
                raise SetupError(
                    f"{self._erasures.path} lacks {len(unknown)} erasures that were carried out; "
                    "nothing was changed: restore its newest copy"
                )
            for erasure in erasures:
                if _name(erasure) in known:
                    continue
                if isinstance(erasure, Ordered):
                    _obey(db, erasure)
                else:
                    _carry_out(db, erasure)
                known.add(_name(erasure))

    def untold(self, origin: str) -> list[Ordered]:
        """Return what `forget` erased and the collector at *origin* has not obeyed; oldest first.

        What an old copy does not know to be told is told again, which does no harm.
        """
        same = [_TOLD.c[name] == _ERASED.c[name] for name in ("subject", "category", "month")]
        told = sa.select(_TOLD.c.told_at).where(*same, _TOLD.c.origin == origin)
        return self._erased(~told.exists())

    def ordered(self) -> list[Ordered]:
        """Return all that `forget` erased, told or not; oldest first."""
        return self._erased()

    def _erased(self, *which: sa.ColumnElement[bool]) -> list[Ordered]:
        oldest_first = (_ERASED.c[name] for name in _ORDER)
        with transaction(self._engine) as db:
            rows = db.execute(sa.select(_ERASED).where(*which).order_by(*oldest_first)).all()
        return [
            Ordered(
                subject=row.subject,
                category=row.category,
                month=row.month,
                at=WallInstant(row.erased_at),
            )
            for row in rows
        ]

    def note_told(self, origin: str, order: Ordered, now: WallInstant) -> None:
        """Note that the collector at *origin* has obeyed: it is not told again."""
        values = {"subject": order.subject, "category": order.category, "month": order.month}
        told = _TOLD.insert().prefix_with("OR IGNORE")
        with transaction(self._engine) as db:
            db.execute(told.values(origin=origin, told_at=now, **values))

    def count(self) -> Count:
        """Return how many keys and erasures there are."""
        with transaction(self._engine) as db:
            keys, subjects = db.execute(
                sa.select(sa.func.count(), sa.func.count(sa.distinct(_KEYS.c.subject))).select_from(
                    _KEYS
                )
            ).one()
            erasures = sum(
                db.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
                for table in (_ERASED, _REQUESTS)
            )
            run_out = db.execute(sa.select(_LOOKS.c.gone)).scalar() or 0
        return Count(keys=keys, subjects=subjects, erasures=erasures, run_out=run_out)

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()


def _found(
    db: sa.Connection, subject: SubjectId, category: Category, month: str
) -> Found | Missing:
    row = db.execute(_ONE, _named(subject, category, month)).first()
    if row is not None:
        return Found(seed=row.seed, key_id=KeyId(row.key_id))
    asked = sa.select(_REQUESTS.c.gone).where(_REQUESTS.c.subject == subject)
    if _is_erased(db, subject, category, month) or db.execute(asked).first() is not None:
        return Missing.ERASED
    return Missing.NEVER_MADE


def _named(subject: SubjectId, category: Category, month: str) -> dict[str, object]:
    return {"of": subject, "in": category.value, "at": month}


def _name(erasure: Demanded | Ordered) -> tuple[bytes, str, str]:
    """Return by what an erasure is told from others."""
    if isinstance(erasure, Demanded):
        return erasure.digest, ALL, ALL
    return erasure.subject, erasure.category, erasure.month


def _known(db: sa.Connection) -> set[tuple[bytes, str, str]]:
    """Return the names of all erasures that the database knows of."""
    ordered = db.execute(sa.select(_ERASED.c.subject, _ERASED.c.category, _ERASED.c.month))
    demanded = db.execute(sa.select(_REQUESTS.c.digest)).scalars()
    return {(row[0], row[1], row[2]) for row in ordered} | {(d, ALL, ALL) for d in demanded}


def _carried_out(db: sa.Connection, digest: bytes) -> Gone | None:
    """Return what a request has erased, if it was carried out before."""
    asked = sa.select(_REQUESTS.c.gone, _REQUESTS.c.erased_at).where(_REQUESTS.c.digest == digest)
    row = db.execute(asked).first()
    return row and Gone(keys=row.gone, erased_at=WallInstant(row.erased_at))


def _carry_out(db: sa.Connection, erasure: Demanded) -> Gone:
    """Delete what a request means, as far as it was made before; note that."""
    request, mine = erasure.request, _KEYS.c.subject == erasure.request.subject
    before = sa.select(_KEYS.c.category, _KEYS.c.month).where(mine, _KEYS.c.made_at <= erasure.at)
    meant = [row for row in db.execute(before) if request.covers_month(row.category, row.month)]
    for row in meant:
        one = (_KEYS.c.category == row.category, _KEYS.c.month == row.month)
        db.execute(_KEYS.delete().where(mine, *one))
    gone = Gone(keys=len(meant), erased_at=erasure.at)
    db.execute(
        _REQUESTS.insert().values(
            digest=erasure.digest, subject=request.subject, gone=gone.keys, erased_at=erasure.at
        )
    )
    return gone


def _obey(db: sa.Connection, erasure: Ordered) -> int:
    """Delete what was ordered, and note that it is never made again; return how many keys."""
    where = [_KEYS.c.subject == erasure.subject]
    if erasure.category != ALL:
        where.append(_KEYS.c.category == erasure.category)
    if erasure.month != ALL:
        where.append(_KEYS.c.month == erasure.month)
    db.execute(
        _ERASED.insert()
        .prefix_with("OR IGNORE")
        .values(
            subject=erasure.subject,
            category=erasure.category,
            month=erasure.month,
            erased_at=erasure.at,
        )
    )
    return db.execute(_KEYS.delete().where(*where)).rowcount


def _remember(db: sa.Connection, policy: Policy) -> None:
    for category, days in expiry.kept_days(policy).items():
        before = sa.select(_RETENTIONS.c.days).where(_RETENTIONS.c.category == category.value)
        known = db.execute(before).scalar()
        if known is None or known < days:
            new = _RETENTIONS.insert().prefix_with("OR REPLACE")
            db.execute(new.values(category=category.value, days=days))


def _run_out(db: sa.Connection, now: WallInstant) -> int:
    row = db.execute(sa.select(_LOOKS)).first()
    steps = expiry.may_step(db.execute(sa.select(_STEPPED.c.at)).scalar(), now)
    at = expiry.judged_by(row.at if row else None, now, steps=steps)
    if steps:
        db.execute(_STEPPED.insert().prefix_with("OR REPLACE").values(one=1, at=now))
    gone = 0
    for kept in db.execute(sa.select(_RETENTIONS)).all():
        over = _KEYS.c.month < expiry.first_month_needed(at, kept.days)
        gone += db.execute(_KEYS.delete().where(_KEYS.c.category == kept.category, over)).rowcount
    ever = gone + (row.gone if row else 0)
    new = _LOOKS.insert().prefix_with("OR REPLACE")
    db.execute(new.values(one=1, at=at, gone=ever))
    return gone


def _is_erased(db: sa.Connection, subject: SubjectId, category: Category, month: str) -> bool:
    wanted = sa.select(_ERASED.c.erased_at).where(
        _ERASED.c.subject == subject,
        _ERASED.c.category.in_((ALL, category.value)),
        _ERASED.c.month.in_((ALL, month)),
    )
    return db.execute(wanted).first() is not None


def _season(now: WallInstant) -> tuple[str, str, str]:
    """Return last, this and next month in UTC: clocks differ, and batches wait in spools."""
    today = datetime.fromtimestamp(now // 1_000_000_000, UTC)
    number = today.year * 12 + today.month - 1
    last, this, after = (f"{n // 12}-{n % 12 + 1:02d}" for n in (number - 1, number, number + 1))
    return last, this, after
