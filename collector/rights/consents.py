"""Consent records: the controller's proof that somebody agreed, and a leaf for each.

A batch is taken only under a record that is here, so nothing is stored for which nobody
can show a yes.
"""

from collections.abc import Callable
from typing import Final

import msgspec
from sqlalchemy import Connection, func, or_, select, update

from collector.auth import Device
from collector.index.tables import consent_events, consents, devices
from collector.ingest.taken_back import OF_SUBJECTS, check_not_taken_back, check_not_withdrawn
from collector.log import append
from collector.policies import known
from collector.refusal import RefusedError, Why
from collector.rights import notices
from wire.category import Category, registry
from wire.consent_event import SignedEvent, verify_event
from wire.consent_record import ConsentRecord, decode_record, record_of
from wire.errors import WireError
from wire.frame import Core
from wire.grant import SignedConsent, grant_hash, verify_consent
from wire.ids import DeviceId, GrantHash, PolicyDigest, SubjectId, WallInstant
from wire.leaf import Kind, event_payload, grant_payload
from wire.linked import ConsentState
from wire.narrowing import widened
from wire.policy import Policy, words_sha256

# Of one device: whoever enrolls anew after losing a state is another one.  Each has a key at
# the guard for every category and month, so a device must not make them without end.
MOST_SUBJECTS: Final = 4


def register(
    connection: Connection, device: Device, signed: SignedConsent, now: WallInstant
) -> tuple[int, bool]:
    """Keep a consent record; return the number of its leaf and whether it is new.

    Raises:
        RefusedError: Not signed by this device, about another, or not what a policy asks for.

    """
    grant = grant_hash(signed)
    leaf = connection.execute(
        select(consents.c.leaf).where(consents.c.grant == grant, consents.c.device == device.id)
    ).scalar()
    if leaf is not None:
        return int(leaf), False
    try:
        record = verify_consent(signed, device.key)
    except WireError as exc:
        raise RefusedError(Why.FORGED, str(exc)) from exc
    if record.device != device.id:
        raise RefusedError(Why.NOT_THIS_DEVICE, "the consent record is of another device")
    if len(record.subject) != 16 or len(record.policy_digest) != 32:
        raise RefusedError(Why.MALFORMED, "a subject pseudonym is 16 bytes, a digest 32")
    policy = known(connection, PolicyDigest(record.policy_digest))
    _check(record, policy)
    _check_subject(connection, device, record)
    demanded = OF_SUBJECTS.all(connection, subjects=[record.subject])
    check_not_taken_back(demanded, record.category, "", given_at=record.given_at, came_at=now)
    leaf = append(connection, Kind.GRANT, grant_payload(grant), now)
    connection.execute(
        consents.insert().values(
            grant=grant,
            device=device.id,
            subject=record.subject,
            category=record.category,
            policy=record.policy_digest,
            record=signed.record,
            signature=signed.signature,
            given_at=record.given_at,
            received_at=now,
            leaf=leaf,
        )
    )
    notices.note(connection, device, record, grant, record.state, record.given_at, now)
    return leaf, True


def end(
    connection: Connection, device: Device, signed: SignedEvent, now: WallInstant
) -> tuple[int, bool]:
    """Keep what became of a consent; return the number of its leaf and whether it is new.

    Raises:
        RefusedError: Not signed by this device, or about a consent that is not here.

    """
    try:
        event = verify_event(signed, device.key)
    except WireError as exc:
        raise RefusedError(Why.FORGED, str(exc)) from exc
    if event.state.permits:
        raise RefusedError(Why.MALFORMED, "a yes is a consent record, and no event")
    grant = GrantHash(event.grant)
    kept = connection.execute(
        select(consents.c.record).where(consents.c.grant == grant, consents.c.device == device.id)
    ).scalar()
    if kept is None:
        raise RefusedError(Why.CONSENT_UNKNOWN, "no consent record of that hash is here")
    leaf = connection.execute(
        select(consent_events.c.leaf).where(
            consent_events.c.grant == grant, consent_events.c.state == event.state
        )
    ).scalar()
    if leaf is not None:
        return int(leaf), False
    leaf = append(connection, Kind.CONSENT_EVENT, event_payload(signed.event), now)
    connection.execute(
        consent_events.insert().values(
            grant=grant,
            state=event.state,
            event=signed.event,
            signature=signed.signature,
            received_at=now,
            leaf=leaf,
        )
    )
    later = or_(consents.c.ended_at.is_(None), consents.c.ended_at > event.at)
    connection.execute(
        update(consents).where(consents.c.grant == grant, later).values(ended_at=event.at)
    )
    notices.note(connection, device, decode_record(kept), grant, event.state, event.at, now)
    return leaf, True


def check_covers(
    policy: Callable[[PolicyDigest], Policy], agreed: PolicyDigest, core: Core
) -> None:
    """Check that a consent given under the policy *agreed* covers a batch recorded under its own.

    Raises:
        RefusedError: That policy was not published here, or asks for more.

    """
    if agreed == core.policy:
        return
    more = widened(policy(agreed), policy(core.policy))[core.category]
    if more:
        raise RefusedError(
            Why.CONSENT_MISMATCH,
            f"the consent was given under another policy, and this one widens {', '.join(more)}",
        )


def subject_of(connection: Connection, device: Device, category: Category) -> SubjectId:
    """Return whose consent this device handed in last for *category*, if it stands.

    One that has ended counts only where none stands: what became of it may be told late.

    Raises:
        RefusedError: Nobody's, or it was withdrawn.

    """
    ends = select(func.max(consent_events.c.leaf)).where(consent_events.c.grant == consents.c.grant)
    withdrawn = ends.where(consent_events.c.state == ConsentState.WITHDRAWN.value)
    found = connection.execute(
        select(consents.c.subject, withdrawn.scalar_subquery().label("withdrawn"))
        .where(consents.c.device == device.id, consents.c.category == category)
        .order_by(
            ends.scalar_subquery().is_not(None),
            consents.c.received_at.desc(),
            consents.c.leaf.desc(),
        )
        .limit(1)
    ).one_or_none()
    if found is None:
        raise RefusedError(
            Why.CONSENT_UNKNOWN, f"no consent record for {category} is here; send it first"
        )
    check_not_withdrawn(found.withdrawn)
    return SubjectId(found.subject)


def _check_subject(connection: Connection, device: Device, record: ConsentRecord) -> None:
    # A pseudonym is no secret to readers, so knowing one must not be enough to speak for it.
    others = (
        select(consents.c.leaf)
        .join(devices, devices.c.device == consents.c.device)
        .where(
            consents.c.subject == record.subject,
            consents.c.device != device.id,
            devices.c.revoked_at.is_(None),
        )
    )
    if connection.execute(others.limit(1)).first() is not None:
        raise RefusedError(Why.NOT_THIS_SUBJECT, "another device speaks for this data subject")
    own = select(consents.c.subject).where(consents.c.device == device.id).distinct()
    named = {row.subject for row in connection.execute(own)} | {record.subject}
    if len(named) > MOST_SUBJECTS:
        raise RefusedError(Why.NOT_THIS_SUBJECT, "this device speaks for too many data subjects")


def _check(record: ConsentRecord, policy: Policy) -> None:
    rule = policy.rule(record.category)
    if record.programme != policy.programme:
        raise RefusedError(Why.NOT_THIS_PROGRAMME, "the consent record is of another programme")
    if rule is None:
        raise RefusedError(Why.CATEGORY_REFUSED, f"the policy does not ask for {record.category}")
    if not registry()[record.category].covers(rule.level, record.level):
        raise RefusedError(Why.CONSENT_MISMATCH, "the policy does not ask for that level")
    if record.purpose != policy.purpose:
        raise RefusedError(Why.CONSENT_MISMATCH, "the policy has another purpose")
    if record.words_sha256 != words_sha256(policy, record.category):
        raise RefusedError(Why.CONSENT_MISMATCH, "other words than the policy's were shown")
    if not record.state.permits:
        raise RefusedError(Why.CONSENT_MISMATCH, "it records a no")
    asked = record_of(
        policy,
        PolicyDigest(record.policy_digest),
        record.category,
        record_id=record.record_id,
        subject=SubjectId(record.subject),
        device=DeviceId(record.device),
        given_at=record.given_at,
        state=record.state,
    )
    # Less than the policy allows is fine; anything else has to be what it says.
    if msgspec.structs.replace(record, level=asked.level) != asked:
        raise RefusedError(Why.CONSENT_MISMATCH, "it does not say what the policy says")
