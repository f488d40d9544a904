"""Everything that a batch has to satisfy before a reader believes it (DESIGN, I10).

`open_batch` is pure and the place to start: a frame, the consent record behind it and the
guard's release go in; the batch comes out, or the name of what is wrong with it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from base.pki import spki_sha256
from reader.pictures import Canvas
from wire.batch import Batch, decode_batch
from wire.category import registry
from wire.collector_http import KeptConsent
from wire.consent_record import ConsentRecord
from wire.errors import WireError
from wire.event import Frame, begins_at, category_of
from wire.frame import Core, Verified, verify
from wire.grant import SignedConsent, grant_hash, verify_consent
from wire.ids import BatchHash, PolicyDigest
from wire.narrowing import widened
from wire.opening import open_body, open_released
from wire.policy import Policy

LATEST_WALL: Final = 253_402_300_800 * 1_000_000_000  # the year 10,000, which ISO dates end before


class Fault(StrEnum):
    """What is wrong with a batch; the numbers are those of `open_batch`."""

    NO_CONSENT = "no-consent"  # 1
    OTHER_DEVICE = "other-device"  # 1
    NOT_SIGNED = "not-signed"  # 2
    WRONG_HASH = "wrong-hash"  # 2
    CONSENT_FORGED = "consent-forged"  # 3
    NOT_CONSENTED = "not-consented"  # 4
    EXPIRED = "expired"  # 5
    NOT_RELEASED = "not-released"  # 6
    DOES_NOT_OPEN = "does-not-open"  # 7
    WRONG_CONTENT = "wrong-content"  # 8


PolicyOf: TypeAlias = Callable[[PolicyDigest], Policy | None]
"""Returns the policy of a digest, None where nobody has it."""


def no_policy(_digest: PolicyDigest) -> Policy | None:
    """Know no policy: then only what was recorded under the policy agreed to is believed."""
    return None


class FaultError(WireError):
    """This batch is refused; `fault` says why, the message says it in words."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A sealed batch whose signature and consent hold."""

    verified: Verified
    consent: ConsentRecord

    @property
    def core(self) -> Core:
        """What the frame says of itself."""
        return self.verified.core


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A batch in the clear, and what allowed it to be recorded."""

    checked: Checked
    age_header: bytes
    batch: Batch

    @property
    def core(self) -> Core:
        """What the frame says of itself."""
        return self.checked.core


def open_batch(
    frame: bytes,
    name: BatchHash,
    kept: KeptConsent | None,
    released: bytes | None,
    *,
    identity: str,
    today: date,
    policy_of: PolicyOf = no_policy,
) -> Opened:
    """Return what is in *frame*, or refuse it.

    What is checked, in this order:

    1. there is a consent record, with the key of the device that the core names;
    2. the frame is the one of that name, and signed by that device;
    3. the record is the one that the core names, signed by the same device;
    4. it covers this batch: subject, programme, purpose, category, and the batch's policy is the
       one agreed to, or is proved to ask for no more (`wire.narrowing`);
    5. the batch may still exist;
    6. the guard released it to this identity, for this core;
    7. the age header is bound to this core, and every chunk of the body is genuine;
    8. the opening record repeats the core, the level is no finer than agreed, and all events
       are of the one category, at times that a calendar has; its pictures can be drawn.

    Raises:
        FaultError: One of them does not hold.

    """
    checked = check_sealed(frame, name, kept, today=today, policy_of=policy_of)
    if released is None:
        raise FaultError(Fault.NOT_RELEASED, "the guard has not released this batch")
    verified = checked.verified
    try:
        header = open_released(released, identity, verified.core_hash)  # 6
    except WireError as exc:
        raise FaultError(Fault.NOT_RELEASED, f"the release does not open: {exc}") from exc
    try:
        plaintext = open_body(header, verified.parts.body, identity, verified.core_hash)  # 7
    except WireError as exc:
        raise FaultError(Fault.DOES_NOT_OPEN, str(exc)) from exc
    try:
        batch = decode_batch(plaintext)
    except WireError as exc:
        raise FaultError(Fault.WRONG_CONTENT, str(exc)) from exc
    _check_content(batch, checked)  # 8
    return Opened(checked=checked, age_header=header, batch=batch)


def _is_in_time(wall_ns: int) -> bool:
    """Whether an instant can be written as a date; a device is not believed to say only those."""
    return 0 <= wall_ns < LATEST_WALL


def check_sealed(
    frame: bytes,
    name: BatchHash,
    kept: KeptConsent | None,
    *,
    today: date,
    policy_of: PolicyOf = no_policy,
) -> Checked:
    """Return what can be known of *frame* without opening it: steps 1 to 5 of `open_batch`.

    Raises:
        FaultError: One of them does not hold.

    """
    if kept is None:  # 1
        raise FaultError(Fault.NO_CONSENT, "there is no consent record for this batch")
    try:
        device = Ed25519PublicKey.from_public_bytes(kept.device_key)
    except ValueError as exc:
        raise FaultError(Fault.OTHER_DEVICE, "the device's key is none") from exc
    try:
        verified = verify(frame, device)  # 2
    except WireError as exc:
        raise FaultError(Fault.NOT_SIGNED, str(exc)) from exc
    core = verified.core
    if core.device != spki_sha256(device):
        raise FaultError(Fault.OTHER_DEVICE, "the core names another device than signed it")
    if verified.batch_hash != name:
        raise FaultError(Fault.WRONG_HASH, "these are not the bytes of that name")
    signed = SignedConsent(record=kept.record, signature=kept.signature)
    try:
        record = verify_consent(signed, device)  # 3
    except WireError as exc:
        raise FaultError(Fault.CONSENT_FORGED, str(exc)) from exc
    if grant_hash(signed) != core.grant:
        raise FaultError(Fault.CONSENT_FORGED, "the core names another consent record")
    _check_consent(record, core)  # 4
    _check_policy(PolicyDigest(record.policy_digest), core, policy_of)
    if not _is_in_time(record.given_at):
        raise FaultError(Fault.NOT_CONSENTED, "consent was given in no year")
    if core.expires < today.isoformat():  # 5
        raise FaultError(Fault.EXPIRED, f"it was to be kept until {core.expires}; delete it")
    return Checked(verified=verified, consent=record)


def _check_consent(record: ConsentRecord, core: Core) -> None:
    for what, agreed, found in (
        ("subject", record.subject, core.subject),
        ("device", record.device, core.device),
        ("programme", record.programme, core.programme),
        ("purpose", record.purpose.value, core.purpose),
        ("category", record.category, core.category),
    ):
        if agreed != found:
            raise FaultError(Fault.NOT_CONSENTED, f"consent was given for another {what}")


def _check_policy(agreed: PolicyDigest, core: Core, policy_of: PolicyOf) -> None:
    if agreed == core.policy:
        return
    before, after = policy_of(agreed), policy_of(core.policy)
    if before is None or after is None:
        raise FaultError(
            Fault.NOT_CONSENTED,
            "consent was given under another policy, and nobody can say that this one is narrower",
        )
    more = widened(before, after)[core.category]
    if more:
        raise FaultError(
            Fault.NOT_CONSENTED,
            f"consent was given under another policy, which this one widens: {', '.join(more)}",
        )


def _check_content(batch: Batch, checked: Checked) -> None:
    core, record = checked.core, checked.consent
    if batch.opening.core_hash != checked.verified.core_hash:
        raise FaultError(Fault.WRONG_CONTENT, "its opening record is of another core")
    level = batch.opening.level
    if not registry()[core.category].covers(record.level, level):
        raise FaultError(Fault.NOT_CONSENTED, f"level {level} is more than was agreed to")
    if any(category_of(event) is not core.category for event in batch.events):
        raise FaultError(Fault.WRONG_CONTENT, f"it holds events that are not of {core.category}")
    opening = batch.opening
    ends = (end for gap in opening.gaps for end in (gap.since, gap.until))
    events = (at for event in batch.events for at in (begins_at(event), event.at))
    moments = (opening.boot, *events, *ends)
    if not all(_is_in_time(opening.wall + at - opening.boot) for at in moments):
        raise FaultError(Fault.WRONG_CONTENT, "it says of events that they happened in no year")
    canvas = Canvas()
    try:
        for frame in sorted(_frames(batch), key=lambda frame: frame.at):
            canvas.draw(frame)
    except WireError as exc:
        raise FaultError(Fault.WRONG_CONTENT, f"a picture in it cannot be drawn: {exc}") from exc


def _frames(batch: Batch) -> Iterator[Frame]:
    return (event for event in batch.events if isinstance(event, Frame))
