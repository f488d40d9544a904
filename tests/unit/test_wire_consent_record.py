"""The consent record and its receipt: complete, signed, JSON-LD, and refused when touched."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from pyld import jsonld  # type: ignore[import-untyped]

from tests.fakes.organisation import NOW, Organisation, ed25519, wall
from wire.category import Category
from wire.collector_http import Logged
from wire.consent_event import ConsentEvent, sign_event, verify_event
from wire.consent_receipt import (
    RECEIPT_LABEL,
    Evidence,
    verify_consent_receipt,
    write_consent_receipt,
)
from wire.consent_record import decode_record, encode_record, record_of
from wire.errors import ForgedError, MalformedError, WireError
from wire.grant import CONSENT_LABEL, SignedConsent, grant_hash, verify_consent
from wire.ids import LAST_INSTANT, LEAST_INSTANT, DeviceId, WallInstant
from wire.leaf import Kind, entry, grant_payload
from wire.linked import CONTEXT, ConsentState, instant, parse_instant
from wire.policy import encode_policy, policy_digest
from wire.tlog import Checkpoint, Tree, leaf_hash, sign_checkpoint

ORG: Final = Organisation()
POLICY: Final = ORG.policy()
DIGEST: Final = policy_digest(encode_policy(POLICY))
KEY: Final = ORG.device.public_key()
SIGNED: Final = ORG.consent(DIGEST, POLICY)
STATES: Final = tomllib.loads(
    (Path(__file__).parents[1] / "vectors/dpv/consent-states.toml").read_text("utf-8")
)


def logged(signed: SignedConsent = SIGNED) -> Logged:
    """Return the log's proof of *signed*, with leaves of others around it."""
    leaf, salt, tree = leaf_hash(b"another"), bytes(16), Tree()
    mine = leaf_hash(entry(Kind.GRANT, grant_payload(grant_hash(signed)), salt))
    for each in (leaf, mine, leaf):
        tree.append(each)
    head = Checkpoint(origin="acme.example/log", size=3, root=tree.root(3))
    return Logged(
        salt=salt, index=1, proof=tree.inclusion(1, 3), checkpoint=sign_checkpoint(head, ORG.log)
    )


WITHDRAWN: Final = ConsentEvent(
    grant=grant_hash(SIGNED), state=ConsentState.WITHDRAWN, at=WallInstant(wall(NOW) + 5)
)
EVIDENCE: Final = Evidence(
    signed=SIGNED,
    words=POLICY.words(Category.KEYS),
    notice=POLICY.notice,
    events=(WITHDRAWN,),
    logged=logged(),
)
RECEIPT: Final = write_consent_receipt(EVIDENCE, ORG.device)


def fields(document: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every field of *document* and of what is in it, but the context."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name != "@context":
                yield (*path, name)
                yield from fields(value, (*path, name))
    elif isinstance(document, list):
        for number, value in enumerate(document):
            yield from fields(value, (*path, number))


def without(data: bytes, path: tuple[Any, ...]) -> bytes:
    """Return the document without the field at *path*, otherwise as it was written."""
    document = json.loads(data)
    parent = document
    for step in path[:-1]:
        parent = parent[step]
    del parent[path[-1]]
    return msgspec.json.encode(document)


# --- the record -------------------------------------------------------------------------


def test_a_record_reads_back_as_it_was_written_and_signed() -> None:
    """All of what the policy asks for stands in it, to the nanosecond."""
    record = verify_consent(SIGNED, KEY)
    expected = record_of(
        POLICY,
        DIGEST,
        Category.KEYS,
        record_id=record.record_id,
        subject=ORG.subject,
        device=DeviceId(record.device),
        given_at=wall(NOW),
    )
    assert record == expected
    assert encode_record(record) == SIGNED.record


@pytest.mark.parametrize("path", list(fields(json.loads(SIGNED.record))), ids=str)
def test_a_record_without_one_of_its_fields_is_refused_by_the_name_of_the_field(
    path: tuple[Any, ...],
) -> None:
    """Every field is mandatory, and signing what lacks one does not help."""
    data = without(SIGNED.record, path)
    signed = SignedConsent(record=data, signature=ORG.device.sign(CONSENT_LABEL + data))
    with pytest.raises(MalformedError) as refusal:
        verify_consent(signed, KEY)
    assert str(path[-1]) in str(refusal.value)


def test_a_record_that_is_written_in_another_way_is_refused() -> None:
    """A field that is unknown, doubled or moved would be read differently by others."""
    good = SIGNED.record
    cut = len(good) - 1
    for data in (
        good[:cut] + b',"more":1}',
        good[:cut] + b',"dct:identifier":"b"}',
        good.replace(b'"loc:DE"', b'"loc:DE" '),
        good.replace(b'"loc:DE"', b'"DE"'),
        good.replace(b'"P90D"', b'"P090D"'),
        good.replace(b"dpv:Erase", b"dpv:Share"),
        good.replace(b'"@version":1.1', b'"@version":1.0'),
        good.replace(b"urn:assent:subject:", b"urn:assent:person:", 1),
    ):
        assert data != good
        with pytest.raises(MalformedError):
            decode_record(data)


def test_a_record_says_nothing_of_the_person_but_a_pseudonym() -> None:
    """No name, no address, no host: 16 random bytes, made on the device."""
    subject = json.loads(SIGNED.record)["dpv:hasDataSubject"]
    assert subject == {
        "@id": f"urn:assent:subject:{ORG.subject.hex()}",
        "@type": "dpv:DataSubject",
        "dct:identifier": ORG.subject.hex(),
    }


def test_performance_evaluation_is_prohibited_in_dpvs_own_words() -> None:
    """Whoever reads DPV sees it without knowing us."""
    process = json.loads(SIGNED.record)["dpv:hasProcess"]
    prohibited = [each["dpv:hasPurpose"]["@id"] for each in process["dpv:hasProhibition"]]
    assert "dpv:PersonnelPerformanceManagement" in prohibited
    assert len(prohibited) == len(POLICY.prohibited_purposes)


def test_every_state_is_one_of_dpvs_and_permits_only_what_dpv_lets() -> None:
    """The enumeration is DPV's, with its two states that may justify processing."""
    for state in ConsentState:
        assert state in STATES["valid" if state.permits else "invalid"]


@pytest.mark.parametrize("at", [0, -1, 1, wall(NOW) + 123_456_789])
def test_a_time_is_read_as_it_was_written(at: int) -> None:
    """Nine decimals, so that nothing is rounded."""
    assert parse_instant(instant(WallInstant(at))) == at


def test_a_time_in_no_year_cannot_be_written() -> None:
    """It is refused before anything is signed."""
    with pytest.raises(MalformedError):
        instant(WallInstant(2**80))


@pytest.mark.parametrize("at", [LEAST_INSTANT, LAST_INSTANT])
def test_a_time_that_cannot_be_kept_is_not_read(at: int) -> None:
    """A database's integer has 64 bits: what they do not hold is refused before it gets there."""
    assert parse_instant(instant(WallInstant(at))) == at
    for beyond in (at * 2, at + (1 if at > 0 else -1)):
        with pytest.raises(MalformedError, match="no year that can be kept"):
            parse_instant(instant(WallInstant(beyond)))


# --- the receipt ------------------------------------------------------------------------


def test_a_receipt_is_checked_with_the_public_key_alone() -> None:
    """Record, words, what became of it, and the log's leaf, all from one file."""
    receipt = verify_consent_receipt(RECEIPT, KEY)
    assert receipt.evidence == EVIDENCE
    assert receipt.state is ConsentState.WITHDRAWN
    assert receipt.grant == grant_hash(SIGNED)
    assert verify_consent_receipt(RECEIPT, KEY, ORG.log_key) == receipt
    with pytest.raises(ForgedError):
        verify_consent_receipt(RECEIPT, ed25519().public_key())
    with pytest.raises(WireError):
        verify_consent_receipt(RECEIPT, KEY, ORG.witness_key)


@pytest.mark.parametrize("path", list(fields(json.loads(RECEIPT))), ids=str)
def test_a_receipt_without_one_of_its_fields_is_refused_by_the_name_of_the_field(
    path: tuple[Any, ...],
) -> None:
    """Also when the device signs what lacks it: a receipt that says less is none."""
    document = json.loads(without(RECEIPT, path))
    if path != ("assent:receiptSignature",):
        document["assent:receiptSignature"] = ""
        signature = ORG.device.sign(RECEIPT_LABEL + msgspec.json.encode(document))
        document["assent:receiptSignature"] = msgspec.json.decode(
            msgspec.json.encode(signature), type=str
        )
    data = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
    with pytest.raises(MalformedError) as refusal:
        verify_consent_receipt(data, KEY)
    assert str(path[-1]) in str(refusal.value)


def test_any_changed_byte_of_a_receipt_is_refused() -> None:
    """Each byte of the file in turn, white space and signatures included."""
    for at in range(len(RECEIPT)):
        changed = RECEIPT[:at] + bytes([RECEIPT[at] ^ 1]) + RECEIPT[at + 1 :]
        with pytest.raises(WireError):
            verify_consent_receipt(changed, KEY)


@pytest.mark.parametrize(
    "evidence",
    [
        {"words": "other words"},
        {"events": (ConsentEvent(grant=bytes(32), state=ConsentState.EXPIRED, at=wall(NOW)),)},
        {
            "events": (
                ConsentEvent(grant=grant_hash(SIGNED), state=ConsentState.GIVEN, at=wall(NOW)),
            )
        },
        {"logged": msgspec.structs.replace(logged(), index=0)},
        {"logged": msgspec.structs.replace(logged(), salt=bytes([1] * 16))},
    ],
    ids=["words", "event of another", "a yes as an event", "leaf", "salt"],
)
def test_a_device_cannot_sign_a_receipt_that_contradicts_itself(evidence: dict[str, Any]) -> None:
    """The signature is over what holds together, or the receipt is refused."""
    parts = {name: getattr(EVIDENCE, name) for name in Evidence.__dataclass_fields__}
    with pytest.raises(ForgedError):
        verify_consent_receipt(
            write_consent_receipt(Evidence(**(parts | evidence)), ORG.device), KEY
        )


def test_an_event_is_the_devices_and_names_its_consent() -> None:
    """It travels alone to the collector."""
    signed = sign_event(WITHDRAWN, ORG.device)
    assert verify_event(signed, KEY) == WITHDRAWN
    with pytest.raises(ForgedError):
        verify_event(signed, ed25519().public_key())


# --- JSON-LD ----------------------------------------------------------------------------


def no_network(url: str, _options: object) -> None:
    pytest.fail(f"a context was asked for at {url}")


@pytest.mark.parametrize(
    "data",
    [
        SIGNED.record,
        RECEIPT,
        sign_event(WITHDRAWN, ORG.device).event,
        write_consent_receipt(Evidence(signed=SIGNED, words="", notice=""), ORG.device),
    ],
    ids=["record", "receipt", "event", "receipt without events and leaf"],
)
def test_a_json_ld_processor_expands_and_compacts_it_without_loss(data: bytes) -> None:
    """Every field is a term with an IRI, none is dropped, and no network is asked."""
    document = json.loads(data)
    options = {"documentLoader": no_network}
    expanded = jsonld.expand(document, options)
    assert jsonld.compact(expanded, CONTEXT, options) == document


def test_a_json_ld_processor_sees_dpvs_terms() -> None:
    """What is a term here is an IRI of DPV there."""
    [node] = jsonld.expand(json.loads(SIGNED.record), {"documentLoader": no_network})
    dpv = "https://w3id.org/dpv#"
    assert node["@type"] == [f"{dpv}ConsentRecord"]
    [status] = node[f"{dpv}hasConsentStatus"]
    assert status["@type"] == [f"{dpv}ConsentGiven"]
    [basis] = node[f"{dpv}hasProcess"][0][f"{dpv}hasLegalBasis"]
    assert basis == {"@id": f"{dpv}ExplicitlyExpressedConsent"}


def test_a_receipt_holds_the_record_as_it_was_signed() -> None:
    """With the context before it, what stands there is the signed bytes."""
    body = json.loads(RECEIPT)["dpv:hasRecordOfActivity"]
    assert msgspec.json.encode({"@context": CONTEXT, **body}) == SIGNED.record
