"""`assent-collector consents`: the controller's proof that somebody agreed (GDPR, article 7(1)).

Each consent as the device signed it, the key that checks it, and what became of it; nothing
that was recorded is here.
"""

from contextlib import closing
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, Row, select

from base.paths import paths_for
from collector.index.opening import open_index
from collector.index.tables import consent_events, consents, devices, notices
from collector.premises import Premises
from wire.consent_event import SignedEvent, verify_event
from wire.consent_record import decode_record
from wire.ed25519 import public_key
from wire.ids import WallInstant
from wire.linked import instant


class ConsentFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One consent as the controller may have to prove it (GDPR, article 7(1)); no content."""

    record_id: str
    grant: str
    device: str
    subject: str
    category: str
    level: str
    purpose: str
    policy: str
    words: str  # SHA-256 of what was shown
    state: str
    given_at: str
    ended_at: str  # when it was withdrawn or had expired, or empty
    leaf: int
    record: dict[str, object]  # as signed
    signature: bytes
    device_key: bytes
    told: bool | None  # outside the workstation; None: nobody said to whom


def everything(connection: Connection) -> list[ConsentFacts]:
    """Return every consent that was ever given here, the oldest first."""
    rows = connection.execute(
        select(consents, devices.c.public_key)
        .join(devices, devices.c.device == consents.c.device)
        .order_by(consents.c.leaf)
    ).all()
    return [_facts(connection, row) for row in rows]


def _facts(connection: Connection, row: Row[Any]) -> ConsentFacts:
    record = decode_record(row.record)
    ended = connection.execute(
        select(consent_events)
        .where(consent_events.c.grant == row.grant)
        .order_by(consent_events.c.leaf.desc())
        .limit(1)
    ).one_or_none()
    told = connection.execute(select(notices.c.told_at).where(notices.c.grant == row.grant)).all()
    return ConsentFacts(
        record_id=record.record_id,
        grant=row.grant.hex(),
        device=row.device.hex(),
        subject=row.subject.hex(),
        category=record.category,
        level=record.level,
        purpose=record.purpose,
        policy=row.policy.hex(),
        words=record.words_sha256.hex(),
        state=record.state if ended is None else ended.state,
        given_at=instant(record.given_at),
        ended_at="" if ended is None else instant(_at(ended, row.public_key)),
        leaf=row.leaf,
        record=msgspec.json.decode(row.record),
        signature=row.signature,
        device_key=row.public_key,
        told=all(each.told_at is not None for each in told) if told else None,
    )


def _at(ended: Row[Any], device_key: bytes) -> WallInstant:
    signed = SignedEvent(event=ended.event, signature=ended.signature)
    return verify_event(signed, public_key(device_key)).at


@click.command("consents")
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
def list_consents(*, as_json: bool) -> None:
    """List the consents: your proof that somebody agreed.

    With --json each record as the device signed it, with its key: GDPR, article 7(1). Nothing
    that was recorded is here.

    \b
    Example:
      assent-collector consents --json
    """  # noqa: D301 - click's mark
    premises = Premises(paths_for("collector"))
    premises.config()  # says what to do where nothing is set up yet
    with closing(open_index(premises)) as index, index.reading() as connection:
        known = everything(connection)
    if as_json:
        click.echo(msgspec.json.encode(known))
        return
    table = Table("record", "device", "category", "state", "given (UTC)", "told")
    for one in known:
        told = {None: "nobody named", True: "yes", False: "not yet"}[one.told]
        state = one.state.removeprefix("dpv:").removeprefix("Consent").lower()
        given = one.given_at[:16].replace("T", " ")
        table.add_row(one.record_id[:8], one.device[:8], one.category, state, given, told)
    Console().print(table)
