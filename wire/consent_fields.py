"""The fields of a consent record, one class for each node of its JSON-LD.

Nothing is optional and nothing has a default, so a decoder names what is missing.  The
names behind `rename` are those of DPV-27560; docs/spec/consent-record-v1.md has the table.
"""

from typing import Literal

from wire.linked import ConsentState, Part


class Named(Part, frozen=True, rename={"kind": "@type", "name": "schema:name"}):
    """A party by its name."""

    kind: Literal["dpv:Recipient", "dpv:ThirdParty"]
    name: str


class Entity(
    Part,
    frozen=True,
    rename={"kind": "@type", "name": "schema:name", "contact": "schema:contactPoint"},
):
    """Who answers for it, or speaks for the data subjects, and where to reach them."""

    kind: Literal["dpv:DataController", "dpv:Representative"]
    name: str
    contact: str


class Subject(
    Part, frozen=True, rename={"id": "@id", "kind": "@type", "identifier": "dct:identifier"}
):
    """The data subject: a pseudonym, and nothing else."""

    id: str
    kind: Literal["dpv:DataSubject"]
    identifier: str


class Notice(
    Part,
    frozen=True,
    rename={
        "id": "@id",
        "kind": "@type",
        "language": "dct:language",
        "policy": "dct:isPartOf",
    },
):
    """What was shown, in which language, of which policy; `id` is the hash of the words."""

    id: str
    kind: Literal["dpv:ConsentNotice"]
    language: str
    policy: str


class Purpose(Part, frozen=True, rename={"id": "@id", "kind": "@type", "broader": "skos:broader"}):
    """What the data may be used for."""

    id: str
    kind: Literal["dpv:Purpose"]
    broader: Literal["dpv:ResearchAndDevelopment"]


class PurposeName(Part, frozen=True, rename={"id": "@id"}):
    """A purpose by its name."""

    id: str


class Prohibition(Part, frozen=True, rename={"kind": "@type", "purpose": "dpv:hasPurpose"}):
    """What the data must never be used for."""

    kind: Literal["dpv:Prohibition"]
    purpose: PurposeName


class PersonalData(
    Part, frozen=True, rename={"id": "@id", "kind": "@type", "level": "assent:level"}
):
    """The one category, and how much it reveals."""

    id: str
    kind: Literal["dpv:PersonalData"]
    level: str


class StorageLocation(Part, frozen=True, rename={"kind": "@type", "location": "dpv:hasLocation"}):
    """Where it is stored: the collector's origin."""

    kind: Literal["dpv:StorageLocation"]
    location: str


class StorageDuration(Part, frozen=True, rename={"kind": "@type", "duration": "dpv:hasDuration"}):
    """How long it is kept."""

    kind: Literal["dpv:StorageDuration"]
    duration: str


class Assessment(Part, frozen=True, rename={"kind": "@type", "identifier": "dct:identifier"}):
    """The data protection impact assessment that covers it."""

    kind: Literal["dpv:DPIA"]
    identifier: str


class Control(Part, frozen=True, rename={"kind": "@type", "at": "dpv:isExercisedAt"}):
    """How the consent is withdrawn."""

    kind: Literal["dpv:WithdrawConsent"]
    at: str


class Right(
    Part,
    frozen=True,
    rename={"kind": "@type", "title": "dct:title", "at": "dpv:isExercisedAt"},
):
    """A right, and where it is exercised."""

    kind: tuple[Literal["dpv:DataSubjectRight"], str]
    title: str
    at: str


class Process(
    Part,
    frozen=True,
    rename={
        "kind": "@type",
        "identifier": "dct:identifier",
        "purpose": "dpv:hasPurpose",
        "prohibitions": "dpv:hasProhibition",
        "data": "dpv:hasPersonalData",
        "processing": "dpv:hasProcessing",
        "source": "dpv:hasDataSource",
        "storage": "dpv:hasStorageCondition",
        "recipients": "dpv:hasRecipient",
        "guard": "assent:secondLock",
        "basis": "dpv:hasLegalBasis",
        "assessment": "dpv:hasAssessment",
    },
):
    """What is done, with what, for what, by whom; `identifier` is the programme."""

    kind: Literal["dpv:Process"]
    identifier: str
    purpose: Purpose
    prohibitions: tuple[Prohibition, ...]
    data: PersonalData
    processing: tuple[str, ...]
    source: Literal["dpv:DataSubjectDataSource"]
    storage: tuple[StorageLocation, StorageDuration]
    recipients: tuple[Named, ...]
    guard: Named
    basis: Literal["dpv:ExplicitlyExpressedConsent"]
    assessment: Assessment


class Until(Part, frozen=True, rename={"kind": "@type", "description": "dct:description"}):
    """For how long a decision holds, where an event and no date ends it."""

    kind: Literal["dpv:UntilEventDuration"]
    description: str


class Status(
    Part,
    frozen=True,
    rename={
        "state": "@type",
        "at": "dpv:isIndicatedAtTime",
        "duration": "dpv:hasDuration",
        "by": "dpv:isIndicatedBy",
        "method": "dpv:hasIndicationMethod",
    },
):
    """The decision: which, when, until when, by whom and how."""

    state: ConsentState
    at: str
    duration: Until
    by: str
    method: str


class RecordBody(
    Part,
    frozen=True,
    rename={
        "id": "@id",
        "kind": "@type",
        "identifier": "dct:identifier",
        "schema": "dct:conformsTo",
        "device": "assent:signedBy",
        "subject": "dpv:hasDataSubject",
        "controller": "dpv:hasDataController",
        "representatives": "dpv:hasRepresentative",
        "jurisdictions": "dpv:hasJurisdiction",
        "notice": "dpv:hasNotice",
        "process": "dpv:hasProcess",
        "control": "dpv:hasConsentControl",
        "rights": "dpv:hasRight",
        "status": "dpv:hasConsentStatus",
    },
):
    """A consent record as it is written, without its context; receipts hold one whole."""

    id: str
    kind: Literal["dpv:ConsentRecord"]
    identifier: str
    schema: Literal["https://w3id.org/dpv/schema/dpv-27560#record"]
    device: str
    subject: Subject
    controller: Entity
    representatives: Entity
    jurisdictions: tuple[str, ...]
    notice: Notice
    process: Process
    control: Control
    rights: tuple[Right, ...]
    status: tuple[Status]
