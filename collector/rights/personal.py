"""Whether a data subject's query is their own, of this moment, and not answered before.

In this order, so that a stranger costs two signatures and one look-up: the signature and what
it is over; a certificate, where one is shown, is a device's; somebody of that pseudonym was
here; the device that signed is not revoked; the query is fresh, and new.
"""

import contextlib
from collections.abc import Iterator

from sqlalchemy import Connection, delete, select

from base.clock import NANOSECONDS
from collector import auth
from collector.assembly import Collector
from collector.index.tables import asked, consents, devices
from collector.refusal import RefusedError, Why
from wire.errors import ExpiredError, ForgedError, NotCoveredError, WireError
from wire.ids import SubjectId
from wire.me import (
    FRESH_SECONDS,
    ORDER_SECONDS,
    About,
    Query,
    ReturnOrder,
    SignedQuery,
    SignedReturn,
    check_fresh,
    verify_query,
    verify_return,
)


def query_of(collector: Collector, signed: SignedQuery, about: About) -> Query:
    """Return what is asked; whether it was asked before is `use_up`'s to say.

    Raises:
        RefusedError: It is not the data subject's own, or not of this moment.

    """
    with refusing():
        query = verify_query(signed, collector.config.origin, about)
    with collector.index.reading() as connection:
        check_known(connection, SubjectId(query.subject))
        if signed.device_key:
            check_device(connection, signed.device_key)
    if signed.device_key and about is About.FRAME:
        raise RefusedError(Why.NOT_THIS_DEVICE, "a device fetches nothing; use the rights key")
    with refusing():
        check_fresh(query.made_at, collector.now(), FRESH_SECONDS)
    return query


def use_up(collector: Collector, query: Query) -> None:
    """Let *query* count once: remember it until it would be too old in any case.

    Raises:
        RefusedError: It was asked before.

    """
    now = collector.now()
    until = query.made_at + FRESH_SECONDS * NANOSECONDS
    before = select(asked.c.until).where(asked.c.nonce == query.nonce)
    with collector.index.writing() as connection:
        connection.execute(delete(asked).where(asked.c.until < now))
        if connection.execute(before).first() is not None:  # nobody else writes meanwhile
            raise RefusedError(Why.NOT_FRESH, "this query was answered already; sign a new one")
        connection.execute(asked.insert().values(nonce=query.nonce, until=until))


def order_of(collector: Collector, signed: SignedReturn) -> ReturnOrder:
    """Return what is ordered; the same order may come again, and gets the same answer.

    Raises:
        RefusedError: It is not the data subject's own, or more than a day old.

    """
    with refusing():
        order = verify_return(signed, collector.config.origin)
    with collector.index.reading() as connection:
        check_known(connection, SubjectId(order.subject))
    with refusing():
        check_fresh(order.made_at, collector.now(), ORDER_SECONDS)
    return order


def check_certificate(collector: Collector, certificate: bytes | None) -> None:
    """Check that whoever shows a certificate on the way of data subjects is a device.

    None is needed.  A reader's, and a revoked device's, is refused whatever was signed.

    Raises:
        RefusedError: It is another's.

    """
    if certificate is not None:
        now = collector.now()
        client = auth.claimed(certificate, collector.config.tenant, now)
        if auth.device(auth.caller(collector.index, client, now)).drill:
            raise RefusedError(Why.NOT_FOR_DRILLS, "a drill is answered nothing")


def check_known(connection: Connection, subject: SubjectId) -> None:
    """Check that *subject* ever agreed to anything here.

    Raises:
        RefusedError: Never.

    """
    known = select(consents.c.leaf).where(consents.c.subject == subject)
    if connection.execute(known.limit(1)).first() is None:
        raise RefusedError(Why.NOT_FOUND, "nothing of this data subject was ever here")


def check_device(connection: Connection, device_key: bytes) -> None:
    """Check that the device with this key is enrolled and not revoked.

    Raises:
        RefusedError: It is not.

    """
    revoked = select(devices.c.revoked_at).where(devices.c.public_key == device_key)
    device = connection.execute(revoked).one_or_none()
    if device is None or device.revoked_at is not None:
        raise RefusedError(Why.REVOKED, "this device is revoked or unknown; use the rights key")


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Turn what is wrong with something signed into a refusal."""
    try:
        yield
    except ExpiredError as exc:
        raise RefusedError(Why.NOT_FRESH, str(exc)) from exc
    except ForgedError as exc:
        raise RefusedError(Why.FORGED, str(exc)) from exc
    except NotCoveredError as exc:
        raise RefusedError(Why.NOT_THIS_SUBJECT, str(exc)) from exc
    except WireError as exc:
        raise RefusedError(Why.MALFORMED, str(exc)) from exc
