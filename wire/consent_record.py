"""The consent record: what one data subject agreed to, once, for one purpose and category.

`ConsentRecord` is what programs work with, `encode_record` and `decode_record` write and
read it with the fields of ISO/IEC TS 27560:2023, as the W3C guide "Consent Records and
Receipts" (DPV-27560) renders them: docs/spec/consent-record-v1.md has the table.  Every
field is mandatory.  Of the person it holds a pseudonym and nothing else.  It is signed and
named in `wire.grant`.
"""

from collections.abc import Iterable
from typing import Final, Literal, TypeVar
from uuid import UUID

import msgspec

from wire import consent_fields as fields
from wire.category import Category
from wire.errors import MalformedError
from wire.ids import DeviceId, PolicyDigest, SubjectId, WallInstant
from wire.linked import (
    ConsentState,
    decode_linked,
    encode_linked,
    instant,
    parse_hex,
    parse_instant,
)
from wire.policy import Party, Policy, Purpose, words_sha256

SCHEMA: Final = "https://w3id.org/dpv/schema/dpv-27560#record"
WITHDRAW_AT: Final = "the icon's menu, or `assent-agent withdraw`; no reason is asked"
RIGHTS_AT: Final = "the controller, the representatives, or your rights key"
METHOD: Final = "a switch that was off, and a button, in the tray's own window"
UNTIL: Final = "until it is withdrawn, has to be confirmed again, or the policy asks for more"

MOST_DIGITS: Final = 9
_DPV_PURPOSES: Final = {"performance-evaluation": "dpv:PersonnelPerformanceManagement"}
_PURPOSE: Final = "assent:purpose:"
_CATEGORY: Final = "assent:category:"
_SUBJECT: Final = "urn:assent:subject:"
_DEVICE: Final = "urn:assent:device:"
_POLICY: Final = "urn:assent:policy:"
_WORDS: Final = "urn:assent:words:"
_RECORD: Final = "urn:uuid:"
_RANDOM: Final = 4  # of the kinds of UUID: it says nothing of when or where


E = TypeVar("E", Purpose, Category)


class ConsentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What one data subject agreed to, or refused, once; nothing names the person."""

    record_id: str  # UUID 4
    subject: bytes  # SubjectId
    device: bytes  # DeviceId
    controller: Party
    representatives: Party
    jurisdictions: tuple[str, ...]
    programme: str
    purpose: Purpose
    prohibited: tuple[str, ...]  # purposes for which it must never be used
    category: Category
    level: str
    recipients: tuple[str, ...]
    guard: str  # who runs the second lock
    origin: str  # of the collector, where it is stored
    retention_days: int
    assessment: str
    policy_digest: bytes
    words_sha256: bytes  # of the words that stood on the screen
    language: str
    state: ConsentState
    given_at: WallInstant


def record_of(
    policy: Policy,
    digest: PolicyDigest,
    category: Category,
    *,
    record_id: str,
    subject: SubjectId,
    device: DeviceId,
    given_at: WallInstant,
    state: ConsentState = ConsentState.GIVEN,
) -> ConsentRecord:
    """Return the record of a click on what *policy* asks for *category*.

    Raises:
        NotCoveredError: It asks for nothing of that category.

    """
    words = words_sha256(policy, category)
    rule = next(rule for rule in policy.categories if rule.category is category)
    return ConsentRecord(
        record_id=record_id,
        subject=subject,
        device=device,
        controller=policy.controller,
        representatives=policy.representatives,
        jurisdictions=policy.jurisdictions,
        programme=policy.programme,
        purpose=policy.purpose,
        prohibited=policy.prohibited_purposes,
        category=category,
        level=rule.level,
        recipients=policy.readers,
        guard=policy.guard.run_by,
        origin=policy.collector.origin,
        retention_days=rule.retention_days,
        assessment=policy.assessment.id,
        policy_digest=digest,
        words_sha256=words,
        language="en",
        state=state,
        given_at=given_at,
    )


# --- as it is written -------------------------------------------------------------------

PROCESSING: Final = ("dpv:Collect", "dpv:Transfer", "dpv:Store", "dpv:Use", "dpv:Erase")
RIGHTS: Final = (
    ("eu-gdpr:A7-3", "to withdraw this consent", WITHDRAW_AT),
    ("eu-gdpr:A15", "to know what is kept of you, and who opened it", RIGHTS_AT),
    ("eu-gdpr:A17", "to have it erased", RIGHTS_AT),
    ("eu-gdpr:A20", "to get it back", RIGHTS_AT),
    ("eu-gdpr:A77", "to complain to a data protection authority", "the authority where you live"),
)


def encode_record(record: ConsentRecord) -> bytes:
    """Return the one encoding of *record*: the bytes that are signed.

    Raises:
        MalformedError: Its time lies in no year that can be written.

    """
    return encode_linked(body_of(record))


def decode_record(data: bytes) -> ConsentRecord:
    """Return the record in *data*.

    Raises:
        MalformedError: A mandatory field is missing (it is named), or it is written otherwise.

    """
    body = decode_linked(data, fields.RecordBody, "the consent record")
    record = _record_in(body)
    # What is said twice (an id and the IRI with it) is said alike, and lists are as they must be.
    if encode_record(record) != data:
        raise MalformedError("the consent record says two things of one, or not what all must say")
    return record


def body_of(record: ConsentRecord) -> fields.RecordBody:
    """Return *record* as it is written."""
    return fields.RecordBody(
        id=_RECORD + record.record_id,
        kind="dpv:ConsentRecord",
        identifier=record.record_id,
        schema=SCHEMA,
        device=_DEVICE + record.device.hex(),
        subject=fields.Subject(
            id=_SUBJECT + record.subject.hex(),
            kind="dpv:DataSubject",
            identifier=record.subject.hex(),
        ),
        controller=_entity("dpv:DataController", record.controller),
        representatives=_entity("dpv:Representative", record.representatives),
        jurisdictions=tuple(f"loc:{code}" for code in record.jurisdictions),
        notice=fields.Notice(
            id=_WORDS + record.words_sha256.hex(),
            kind="dpv:ConsentNotice",
            language=record.language,
            policy=_POLICY + record.policy_digest.hex(),
        ),
        process=_process(record),
        control=fields.Control(kind="dpv:WithdrawConsent", at=WITHDRAW_AT),
        rights=tuple(
            fields.Right(kind=("dpv:DataSubjectRight", article), title=title, at=at)
            for article, title, at in RIGHTS
        ),
        status=(
            fields.Status(
                state=record.state,
                at=instant(record.given_at),
                duration=fields.Until(kind="dpv:UntilEventDuration", description=UNTIL),
                by=_SUBJECT + record.subject.hex(),
                method=METHOD,
            ),
        ),
    )


def _process(record: ConsentRecord) -> fields.Process:
    return fields.Process(
        kind="dpv:Process",
        identifier=record.programme,
        purpose=fields.Purpose(
            id=_PURPOSE + record.purpose,
            kind="dpv:Purpose",
            broader="dpv:ResearchAndDevelopment",
        ),
        prohibitions=tuple(_prohibitions(record.prohibited)),
        data=fields.PersonalData(
            id=_CATEGORY + record.category, kind="dpv:PersonalData", level=record.level
        ),
        processing=PROCESSING,
        source="dpv:DataSubjectDataSource",
        storage=(
            fields.StorageLocation(kind="dpv:StorageLocation", location=record.origin),
            fields.StorageDuration(
                kind="dpv:StorageDuration", duration=f"P{record.retention_days}D"
            ),
        ),
        recipients=tuple(
            fields.Named(kind="dpv:Recipient", name=name) for name in record.recipients
        ),
        guard=fields.Named(kind="dpv:ThirdParty", name=record.guard),
        basis="dpv:ExplicitlyExpressedConsent",
        assessment=fields.Assessment(kind="dpv:DPIA", identifier=record.assessment),
    )


def _prohibitions(purposes: Iterable[str]) -> Iterable[fields.Prohibition]:
    for purpose in purposes:
        name = fields.PurposeName(id=_DPV_PURPOSES.get(purpose, _PURPOSE + purpose))
        yield fields.Prohibition(kind="dpv:Prohibition", purpose=name)


def _entity(
    kind: Literal["dpv:DataController", "dpv:Representative"], party: Party
) -> fields.Entity:
    return fields.Entity(kind=kind, name=party.name, contact=party.contact)


def _record_in(body: fields.RecordBody) -> ConsentRecord:
    process, status, notice = body.process, body.status[0], body.notice
    dpv = {name: purpose for purpose, name in _DPV_PURPOSES.items()}
    named = [p.purpose.id for p in process.prohibitions]
    return ConsentRecord(
        record_id=_uuid(body.identifier),
        subject=parse_hex(body.subject.identifier, "the data subject"),
        device=parse_hex(body.device.removeprefix(_DEVICE), "the device"),
        controller=Party(name=body.controller.name, contact=body.controller.contact),
        representatives=Party(name=body.representatives.name, contact=body.representatives.contact),
        jurisdictions=tuple(code.removeprefix("loc:") for code in body.jurisdictions),
        programme=process.identifier,
        purpose=_one_of(Purpose, process.purpose.id.removeprefix(_PURPOSE), "purpose"),
        prohibited=tuple(dpv.get(name, name.removeprefix(_PURPOSE)) for name in named),
        category=_one_of(Category, process.data.id.removeprefix(_CATEGORY), "category"),
        level=process.data.level,
        recipients=tuple(recipient.name for recipient in process.recipients),
        guard=process.guard.name,
        origin=process.storage[0].location,
        retention_days=_days(process.storage[1].duration),
        assessment=process.assessment.identifier,
        policy_digest=parse_hex(notice.policy.removeprefix(_POLICY), "the policy"),
        words_sha256=parse_hex(notice.id.removeprefix(_WORDS), "the words"),
        language=notice.language,
        state=status.state,
        given_at=parse_instant(status.at),
    )


def _uuid(text: str) -> str:
    """Return *text*, a UUID in its one form: a device says it, and people see it in lists."""
    try:
        named: UUID | None = UUID(text)
    except ValueError:
        named = None
    if named is None or named.version != _RANDOM or str(named) != text:
        raise MalformedError("the id of a consent record is no random UUID in lower case")
    return text


def _days(duration: str) -> int:
    digits = duration[1:-1]
    if duration != f"P{digits}D" or not digits.isdecimal() or len(digits) > MOST_DIGITS:
        raise MalformedError(f"{duration[:20]!r} is no number of days as in P90D")
    return int(digits)


def _one_of(kind: type[E], text: str, what: str) -> E:
    try:
        return kind(text)
    except ValueError as exc:
        raise MalformedError(f"{text[:40]!r} is no {what} that this version knows") from exc
