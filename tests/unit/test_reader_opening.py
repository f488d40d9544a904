"""A reader believes a batch only after every check; each failure has its name."""

from datetime import date

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from reader.opening import Fault, FaultError, open_batch
from tests.fakes.organisation import (
    ANOTHER_ID,
    MONTH,
    NOW,
    Organisation,
    Sealed,
    ed25519,
    public_key_of_identity,
    raw,
)
from wire.category import Category
from wire.collector_http import KeptConsent
from wire.event import Key, Move
from wire.frame import core_hash, encode_core, split
from wire.ids import BatchHash, BootInstant, PolicyDigest
from wire.sealing import new_identity
from wire.shelf import reseal, unshelve

POLICY = PolicyDigest(bytes(range(32)))
ACME = Organisation()
TODAY = NOW.date()


def kept(sealed: Sealed, device: Ed25519PrivateKey | None = None) -> KeptConsent:
    return KeptConsent(
        record=sealed.consent.record,
        signature=sealed.consent.signature,
        device_key=raw(device or ACME.device),
    )


def released(sealed: Sealed, identity: str | None = None) -> bytes:
    """What the guard would hand out for this frame."""
    parts = split(sealed.frame)
    digest = core_hash(parts.core)
    header = unshelve(parts.shelf, ACME.guard_seed, digest)
    return reseal(header, public_key_of_identity(identity or ACME.identity), digest)


def fault(
    sealed: Sealed,
    *,
    frame: bytes | None = None,
    name: BatchHash | None = None,
    consent: KeptConsent | None = None,
    release: bytes | None = None,
    today: date = TODAY,
) -> Fault:
    """Return what is wrong; whatever is not given is right."""
    with pytest.raises(FaultError) as caught:
        open_batch(
            frame if frame is not None else sealed.frame,
            name or sealed.hash,
            consent or kept(sealed),
            release if release is not None else released(sealed),
            identity=ACME.identity,
            today=today,
        )
    return caught.value.fault


@pytest.fixture(scope="module")
def sealed() -> Sealed:
    return ACME.seal(POLICY)


def test_a_batch_with_consent_and_release_opens(sealed: Sealed) -> None:
    """Events, consent and the genuine age file come out."""
    opened = open_batch(
        sealed.frame,
        sealed.hash,
        kept(sealed),
        released(sealed),
        identity=ACME.identity,
        today=NOW.date(),
    )
    (event,) = opened.batch.events
    assert isinstance(event, Key)
    assert opened.checked.consent.category is Category.KEYS
    assert opened.age_header.startswith(b"age-encryption.org/v1\n")
    assert opened.core.day.startswith(MONTH)


def test_a_batch_without_a_consent_record_is_refused(sealed: Sealed) -> None:
    """I10: every record names the grant that allowed it, and there has to be one."""
    with pytest.raises(FaultError) as caught:
        open_batch(
            sealed.frame,
            sealed.hash,
            None,
            released(sealed),
            identity=ACME.identity,
            today=NOW.date(),
        )
    assert caught.value.fault is Fault.NO_CONSENT


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": bytes(16)},
        {"device": bytes(32)},
        {"programme": "other"},
        {"category": Category.SCREEN},
        {"policy_digest": bytes(32)},
    ],
    ids=lambda changes: str(next(iter(changes))),
)
def test_a_consent_to_something_else_does_not_cover_a_batch(changes: dict[str, object]) -> None:
    """Genuine, of this device, and named by the core: but for another thing."""
    consent = ACME.consent(POLICY, None, **changes)
    assert fault(ACME.seal(POLICY, consent=consent)) is Fault.NOT_CONSENTED


def test_a_batch_for_another_purpose_than_agreed_is_refused() -> None:
    """One purpose a consent."""
    assert fault(ACME.seal(POLICY, purpose="marketing")) is Fault.NOT_CONSENTED


def test_a_finer_level_than_agreed_is_refused() -> None:
    """Consent to kinds of keys is no consent to characters, whatever the device sealed."""
    consent = ACME.consent(POLICY, level="nothing")
    assert fault(ACME.seal(POLICY, consent=consent)) is Fault.NOT_CONSENTED


def test_another_consent_record_does_not_stand_in(sealed: Sealed) -> None:
    """The core names one by its hash."""
    other = ACME.consent(POLICY, record_id=ANOTHER_ID)
    wrong = KeptConsent(record=other.record, signature=other.signature, device_key=raw(ACME.device))
    assert fault(sealed, consent=wrong) is Fault.CONSENT_FORGED
    unsigned = msgspec.structs.replace(kept(sealed), signature=bytes(64))
    assert fault(sealed, consent=unsigned) is Fault.CONSENT_FORGED


def test_a_collector_cannot_pass_off_another_device(sealed: Sealed) -> None:
    """The core names the device by its key, so a key that signs something else is none."""
    stranger = ed25519()
    assert fault(sealed, consent=kept(sealed, stranger)) is Fault.NOT_SIGNED
    garbage = msgspec.structs.replace(kept(sealed), device_key=b"short")
    assert fault(sealed, consent=garbage) is Fault.OTHER_DEVICE
    theirs = Organisation(device=stranger, guard_seed=ACME.guard_seed, identity=ACME.identity)
    claimed = theirs.seal(POLICY, device=sealed.core.device)
    assert fault(claimed, consent=kept(claimed, stranger)) is Fault.OTHER_DEVICE


def test_other_bytes_under_the_name_are_refused(sealed: Sealed) -> None:
    """A changed frame, and a genuine one under another name."""
    changed = sealed.frame[:-1] + bytes([sealed.frame[-1] ^ 1])
    assert fault(sealed, frame=changed) is Fault.NOT_SIGNED
    assert fault(sealed, frame=b"") is Fault.NOT_SIGNED
    assert fault(sealed, name=BatchHash(bytes(32))) is Fault.WRONG_HASH


def test_a_batch_whose_time_has_run_out_is_refused(sealed: Sealed) -> None:
    """On its last day it still opens, on the next it does not."""
    open_batch(
        sealed.frame,
        sealed.hash,
        kept(sealed),
        released(sealed),
        identity=ACME.identity,
        today=date(2027, 6, 13),
    )
    assert fault(sealed, today=date(2027, 6, 14)) is Fault.EXPIRED


def test_without_its_own_release_nothing_opens(sealed: Sealed) -> None:
    """None, somebody else's, another batch's."""
    with pytest.raises(FaultError) as caught:
        open_batch(
            sealed.frame,
            sealed.hash,
            kept(sealed),
            None,
            identity=ACME.identity,
            today=NOW.date(),
        )
    assert caught.value.fault is Fault.NOT_RELEASED
    assert fault(sealed, release=released(sealed, new_identity())) is Fault.NOT_RELEASED
    assert fault(sealed, release=released(ACME.seal(POLICY))) is Fault.NOT_RELEASED


def test_an_age_header_of_another_batch_does_not_open(sealed: Sealed) -> None:
    """Also when a dishonest guard seals it to us under this core."""
    parts, other = split(sealed.frame), split(ACME.seal(POLICY).frame)
    header = unshelve(other.shelf, ACME.guard_seed, core_hash(other.core))
    foreign = reseal(header, public_key_of_identity(ACME.identity), core_hash(parts.core))
    assert fault(sealed, release=foreign) is Fault.DOES_NOT_OPEN


def test_an_opening_record_of_another_core_is_refused(sealed: Sealed) -> None:
    """Plaintext and core cannot be exchanged, even by somebody who holds all keys."""
    wrong = ACME.seal(POLICY, opening_core=encode_core(sealed.core))
    assert fault(wrong) is Fault.WRONG_CONTENT


def test_events_of_another_category_are_refused() -> None:
    """A batch of keys in which a pointer moves is not what was agreed to."""
    moved = Move(at=BootInstant(1), x=1, y=2)
    assert fault(ACME.seal(POLICY, (moved,))) is Fault.WRONG_CONTENT
