"""Who agreed to what, and until when: consent records, what became of them, demands."""

from collections.abc import Mapping
from typing import Final

import msgspec

from base.pki import spki_sha256
from governance.audit.findings import Rule
from governance.audit.history import History
from governance.audit.policies import Policies, Published
from governance.audit.reading import FoundError
from governance.audit.times import GRACE, Times
from wire import audit
from wire.category import Category, registry
from wire.consent_event import SignedEvent, verify_event
from wire.consent_record import ConsentRecord, record_of
from wire.days import days_of_consent
from wire.ed25519 import public_key
from wire.errors import WireError
from wire.grant import SignedConsent, grant_hash, verify_consent
from wire.guard_order import Order, verify_order
from wire.ids import DeviceId, GrantHash, PolicyDigest, SubjectId, WallInstant
from wire.leaf import Kind, event_payload, grant_payload, order_payload, request_payload
from wire.linked import ConsentState
from wire.rights import Demand, Request, SignedErasure, verify_erasure, verify_request

FOREVER: Final = 2**62


class Consent(msgspec.Struct, frozen=True, kw_only=True):
    """A consent that stands in the log, for one category."""

    leaf: int
    device_key: bytes
    device: bytes
    subject: bytes
    category: Category
    programme: str
    purpose: str
    policy: PolicyDigest
    given_at: WallInstant
    reconfirm_days: int  # of the policy agreed to
    ended_at: WallInstant | None = None  # by the device's clock; the first of what is said
    withdrawn: int = FOREVER  # the leaf that says so

    def days(self, reconfirm_days: int) -> tuple[str, str]:
        """Return the first and last day of batches under a policy with these *reconfirm_days*."""
        return days_of_consent(self.given_at, self.ended_at, self.reconfirm_days, reconfirm_days)


class Demanded(msgspec.Struct, frozen=True, kw_only=True):
    """What a data subject demanded, and its leaf."""

    leaf: int
    request: Request

    def takes_back(self, consent: Consent) -> bool:
        """Whether what *consent* allowed may not come any more, or (erasure) not remain."""
        request = self.request
        mine = request.subject == consent.subject and request.category in (None, consent.category)
        return mine and consent.given_at <= request.made_at


class Ordered(msgspec.Struct, frozen=True, kw_only=True):
    """What the guard erased by its own hand, and its leaf."""

    leaf: int
    order: Order


def consent_in(
    line: audit.ConsentLine, history: History, policies: Policies
) -> tuple[GrantHash, Consent]:
    """Return the consent in *line*, and the hash by which batches name it.

    Raises:
        FoundError: It is not in the log, not signed by its device, or not what its policy asks.

    """
    signed = SignedConsent(record=line.record, signature=line.signature)
    grant = grant_hash(signed)
    history.open(line.leaf, Kind.GRANT, grant_payload(grant), line.salt)
    try:
        key = public_key(line.device_key)
        record = verify_consent(signed, key)
    except WireError as exc:
        raise FoundError(Rule.CONSENT_FORGED, line.leaf, str(exc)) from exc
    if spki_sha256(key) != record.device:
        what = "the consent record names another device than signed it"
        raise FoundError(Rule.CONSENT_FORGED, line.leaf, what)
    policy = policies.find(record.policy_digest)
    if policy is None or policy.leaf > line.leaf:
        what = f"consent to policy {record.policy_digest.hex()}, which had not been published"
        raise FoundError(Rule.POLICY_NOT_IN_FORCE, line.leaf, what)
    _check_says(record, policy, line.leaf)
    return grant, Consent(
        leaf=line.leaf,
        device_key=line.device_key,
        device=record.device,
        subject=record.subject,
        category=record.category,
        programme=record.programme,
        purpose=record.purpose,
        policy=policy.digest,
        given_at=record.given_at,
        reconfirm_days=policy.policy.reconfirm_days,
    )


def _check_says(record: ConsentRecord, policy: Published, leaf: int) -> None:
    """Check that the record says exactly what the policy asks, at its level or a lower one."""
    try:
        asked = record_of(
            policy.policy,
            PolicyDigest(record.policy_digest),
            record.category,
            record_id=record.record_id,
            subject=SubjectId(record.subject),
            device=DeviceId(record.device),
            given_at=record.given_at,
            state=record.state,
        )
    except WireError as exc:
        raise FoundError(Rule.NOT_CONSENTED, leaf, str(exc)) from exc
    covers = registry()[record.category].covers(asked.level, record.level)
    if not covers or msgspec.structs.replace(record, level=asked.level) != asked:
        what = "the consent record does not say what its policy asks"
        raise FoundError(Rule.NOT_CONSENTED, leaf, what)
    if not record.state.permits:
        raise FoundError(Rule.NOT_CONSENTED, leaf, "it records a no")


def ended(
    line: audit.EventLine, history: History, consents: Mapping[GrantHash, Consent]
) -> tuple[GrantHash, Consent]:
    """Return the consent that *line* ended, as it stands since.

    Raises:
        FoundError: It is not in the log, or not signed by the device of that consent.

    """
    history.open(line.leaf, Kind.CONSENT_EVENT, event_payload(line.event), line.salt)
    signed = SignedEvent(event=line.event, signature=line.signature)
    grant, consent = _named_in(line, consents)
    try:
        event = verify_event(signed, public_key(consent.device_key))
    except WireError as exc:
        raise FoundError(Rule.CONSENT_FORGED, line.leaf, str(exc)) from exc
    if event.grant != grant or event.state.permits:
        raise FoundError(Rule.CONSENT_FORGED, line.leaf, "it does not end that consent")
    ended_at = event.at if consent.ended_at is None else min(consent.ended_at, event.at)
    is_over = event.state is ConsentState.WITHDRAWN
    withdrawn = min(consent.withdrawn, line.leaf) if is_over else consent.withdrawn
    return grant, msgspec.structs.replace(consent, ended_at=ended_at, withdrawn=withdrawn)


def _named_in(
    line: audit.EventLine, consents: Mapping[GrantHash, Consent]
) -> tuple[GrantHash, Consent]:
    """Return the consent that an event names; nothing of the event is believed yet."""
    tail = line.event.partition(b"urn:assent:consent:")[2][:64]
    try:
        grant = GrantHash(bytes.fromhex(tail.decode("ascii")))
        return grant, consents[grant]
    except (ValueError, KeyError):
        what = "it ends a consent that is not shown"
        raise FoundError(Rule.UNEXPLAINED, line.leaf, what) from None


def demanded(line: audit.DemandLine, history: History, policies: Policies) -> Demanded:
    """Return the demand in *line*.

    Raises:
        FoundError: It is not in the log, or not the data subject's own.

    """
    history.open(line.leaf, Kind.DELETION, request_payload(line.signed.digest), line.salt)
    policy = policies.before(line.leaf)
    if policy is None:
        raise FoundError(Rule.DEMAND_FORGED, line.leaf, "no policy was in force")
    try:
        request = verify_request(line.signed, policy.policy.collector.origin)
    except WireError as exc:
        raise FoundError(Rule.DEMAND_FORGED, line.leaf, str(exc)) from exc
    if not line.signed.device_key and line.signed.appointment:
        raise FoundError(Rule.DEMAND_FORGED, line.leaf, "an appointment of nobody")
    return Demanded(leaf=line.leaf, request=request)


def ordered(line: audit.OrderLine, history: History, policies: Policies) -> Ordered:
    """Return the order in *line*.

    Raises:
        FoundError: It is not in the log, or not of the guard of a policy that was published.

    """
    history.open(line.leaf, Kind.DELETION, order_payload(line.signed.digest), line.salt)
    why = "no policy was in force"
    for policy in policies.known:
        if policy.leaf > line.leaf:
            continue
        asked = policy.policy
        try:
            order = verify_order(line.signed, asked.collector.origin, asked.guard.signing_key)
        except WireError as exc:
            why = str(exc)
        else:
            return Ordered(leaf=line.leaf, order=order)
    raise FoundError(Rule.DEMAND_FORGED, line.leaf, why)


def check_confirmed(line: audit.DemandLine, policies: Policies, times: Times) -> None:
    """Check that the guard has signed for an erasure, once there was time enough.

    Raises:
        FoundError: It has not, or that is not its signature.

    """
    if line.guard is None:
        late = times.head > times.by(line.leaf) + GRACE
        if _demand_of(line) == Demand.ERASE and late:
            what = "the guard has not signed that it erased its keys"
            raise FoundError(Rule.UNCONFIRMED, line.leaf, what)
        return
    keys = {each.policy.guard.signing_key for each in policies.known}
    if not any(_is_word(line.guard, line.signed.digest, key) for key in keys):
        raise FoundError(Rule.UNCONFIRMED, line.leaf, "the guard's receipt is not by the guard")


def _demand_of(line: audit.DemandLine) -> Demand:
    return msgspec.json.decode(line.signed.request, type=Request).demand


def _is_word(word: SignedErasure, request: bytes, key: str) -> bool:
    try:
        verify_erasure(word, request, key)
    except WireError:
        return False
    return True
