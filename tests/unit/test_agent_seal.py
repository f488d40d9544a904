"""A rolled batch sealed: what its core says, who opens it, and what cannot be sealed."""

import hashlib
from datetime import UTC, datetime

import msgspec
import pytest

from agent.handover import Permit, Rolled
from agent.seal import Sealer, UnsealableError
from base.clock import NANOSECONDS, Now
from tests.fakes.organisation import Organisation
from wire.age import decode_identity
from wire.batch import Batch, decode_batch
from wire.category import Category
from wire.errors import NotForUsError
from wire.event import Event, Frame, Key, Rectangle
from wire.frame import core_hash, decode_core, split_unsigned
from wire.ids import BootInstant, DeviceId, GrantHash, PolicyDigest, key_id
from wire.opening import open_body, open_released
from wire.policy import KeyState, Recipient
from wire.sealing import new_identity, recipient_of
from wire.shelf import unshelve
from wire.xwing import public_key_of

ORGANISATION = Organisation()
POLICY = ORGANISATION.policy()
GUARD_KEY = public_key_of(ORGANISATION.guard_seed)
WALL = int(datetime(2027, 3, 15, 12, tzinfo=UTC).timestamp()) * NANOSECONDS
ANCHOR = Now(boot=100 * NANOSECONDS, wall=WALL, boot_id="one")


def sealer(**changes: object) -> Sealer:
    made = {
        "policy": POLICY,
        "origin": POLICY.collector.origin,
        "device": DeviceId(b"d" * 32),
        "subject": ORGANISATION.subject,
        "subject_key": recipient_of(ORGANISATION.subject_identity),
        "guard_keys": {(Category.KEYS, "2027-03"): GUARD_KEY},
        **changes,
    }
    return Sealer(**made)  # type: ignore[arg-type]  # a test changes one of them


def rolled(*events: Event, category: Category = Category.KEYS) -> Rolled:
    permit = Permit(
        category=category,
        grant=GrantHash(b"g" * 32),
        policy=PolicyDigest(b"p" * 32),
        level="classes",
        rate_hz=10,
        since=BootInstant(0),
    )
    return Rolled(
        permit=permit,
        day="2027-03-15",
        events=events or (key(90), key(95)),
        anchor=ANCHOR,
        counters={"kept": 2},
        gaps=(),
    )


def key(second: int) -> Key:
    return Key(at=BootInstant(second * NANOSECONDS), pressed=True, kind="letter")


def opened(unsigned: bytes, identity: str) -> Batch:
    core, shelf, body = split_unsigned(unsigned)
    digest = core_hash(core)
    header = unshelve(shelf, ORGANISATION.guard_seed, digest)
    return decode_batch(open_body(header, body, identity, digest))


def test_the_core_says_where_the_batch_belongs_and_what_allowed_it() -> None:
    """I10: grant and policy, one category, one day, and until when it may be kept."""
    sealed = sealer().seal(rolled())
    core = decode_core(split_unsigned(sealed.unsigned)[0])
    assert (core.grant, core.policy) == (b"g" * 32, b"p" * 32)
    assert (core.category, core.day) == (Category.KEYS, "2027-03-15")
    assert core.subject == ORGANISATION.subject
    assert core.guard_key == key_id(GUARD_KEY)
    assert core.origin == POLICY.collector.origin
    rule = POLICY.rule(Category.KEYS)
    assert rule is not None
    kept = datetime.fromisoformat(core.expires) - datetime.fromisoformat(core.day)
    assert kept.days == rule.retention_days
    assert sealed.expires == core.expires


def test_a_batch_is_sealed_to_keys_that_are_sealed_to_and_to_no_other() -> None:
    """A key that only opens, or is revoked, opens nothing that is sealed from now on."""
    old, new, gone = (new_identity() for _ in range(3))
    states = {old: KeyState.OPENS, new: KeyState.SEALED_TO, gone: KeyState.REVOKED}
    keys = [Recipient(name="team", key=recipient_of(i), state=s) for i, s in states.items()]
    policy = msgspec.structs.replace(POLICY, recipients=(*keys, keys[1]))  # named twice is once
    sealed = sealer(policy=policy).seal(rolled())
    core = decode_core(split_unsigned(sealed.unsigned)[0])
    mine = (new, ORGANISATION.subject_identity)
    assert core.recipients == tuple(key_id(public_key_of(decode_identity(i))) for i in mine)
    assert opened(sealed.unsigned, new).events == rolled().events
    for identity in (old, gone):
        with pytest.raises(NotForUsError):
            opened(sealed.unsigned, identity)


@pytest.mark.parametrize(
    "identity",
    [ORGANISATION.identity, ORGANISATION.subject_identity],
    ids=["reader", "subject"],
)
def test_reader_and_subject_open_it_after_the_guard(identity: str) -> None:
    """Both find the same events, and the opening that ties the clocks."""
    batch = opened(sealer().seal(rolled()).unsigned, identity)
    assert batch.events == rolled().events
    assert (batch.opening.boot, batch.opening.wall) == (ANCHOR.boot, ANCHOR.wall)
    assert batch.opening.level == "classes"


def test_nobody_else_opens_it() -> None:
    """Not even with the guard's help."""
    with pytest.raises(NotForUsError):
        opened(sealer().seal(rolled()).unsigned, new_identity())


def test_the_local_age_header_opens_it_on_the_device() -> None:
    """So that the subject can look inside without the guard, while it is here."""
    sealed = sealer().seal(rolled())
    core, _shelf, body = split_unsigned(sealed.unsigned)
    identity = ORGANISATION.subject_identity
    header = open_released(sealed.age_header, identity, core_hash(core))
    plaintext = open_body(header, body, identity, core_hash(core))
    assert decode_batch(plaintext).events == rolled().events


def test_the_span_is_that_of_the_events_on_both_clocks() -> None:
    """By which "forget the last minutes" finds it."""
    span = sealer().seal(rolled()).span
    assert (span.first_boot, span.last_boot) == (90 * NANOSECONDS, 95 * NANOSECONDS)
    assert (span.first_wall, span.last_wall) == (WALL - 10 * NANOSECONDS, WALL - 5 * NANOSECONDS)
    assert span.boot_id == "one"


def test_no_content_lies_in_the_clear() -> None:
    """Neither in the frame nor in what is remembered beside it."""
    secret = "correct horse battery"
    typed = tuple(
        Key(at=BootInstant(n), pressed=True, kind="letter", text=secret) for n in range(1, 50)
    )
    data = msgspec.json.encode(sealer().seal(rolled(*typed)))
    sealed = sealer().seal(rolled(*typed))
    assert secret.encode() not in data + sealed.unsigned + sealed.age_header


@pytest.mark.parametrize(
    ("changes", "category", "says"),
    [
        ({"guard_keys": {}}, Category.KEYS, "no key of the guard"),
        ({"guard_keys": {(Category.KEYS, "2027-04"): GUARD_KEY}}, Category.KEYS, "no key"),
        ({}, Category.SCREEN, "no key"),
        ({"policy": msgspec.structs.replace(POLICY, categories=())}, Category.KEYS, "no key"),
    ],
)
def test_what_lacks_a_key_or_a_rule_cannot_be_sealed(
    changes: dict[str, object], category: Category, says: str
) -> None:
    """Then it must not be captured; see the gate's STORAGE_BLOCKED."""
    with pytest.raises(UnsealableError, match=says):
        sealer(**changes).seal(rolled(category=category))


def test_what_is_larger_than_a_frame_is_not_made() -> None:
    """The collector would refuse it for ever."""
    noise = Rectangle(x=0, y=0, width=1, height=1, pixels=b"".join(_noise()))
    frame = Frame(
        at=BootInstant(1), key=True, left=0, top=0, width=1, height=1, rectangles=(noise,)
    )
    keys = {(Category.SCREEN, "2027-03"): GUARD_KEY}
    with pytest.raises(UnsealableError, match="larger"):
        sealer(guard_keys=keys).seal(rolled(frame, category=Category.SCREEN))


def _noise() -> list[bytes]:
    return [hashlib.sha256(n.to_bytes(4)).digest() for n in range((9 << 20) // 32)]
