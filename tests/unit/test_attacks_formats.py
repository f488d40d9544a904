"""What an attacker writes into our formats, and that it is refused as what it is.

Each test is one attempt.  Wherever bytes of others are read, only a `WireError` may come out:
anything else is a request that ends in "defect", or an export that never finishes.
"""

import base64
from collections.abc import Callable
from pathlib import Path

import cbor2
import msgspec
import pytest
from backports import zstd
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from governance.lint import lint
from reader.request import check_request
from tests.fakes.organisation import NOW, Organisation, b64, ed25519, raw, wall
from wire import ed25519 as ed25519_of
from wire.age import decode_identity, decode_recipient
from wire.batch import Batch, Opening, decode_batch, encode_batch, padded_bytes
from wire.category import Category
from wire.collector_http import EnrolRequest, decode
from wire.errors import ForgedError, MalformedError, NotCoveredError, WireError
from wire.frame import Core, decode_core, encode_core
from wire.grant import (
    CONSENT_LABEL,
    AccessGrant,
    Approval,
    SignedConsent,
    approve,
    decode_request,
    encode_request,
    longest_grant,
    verify_access,
    verify_consent,
)
from wire.ids import (
    BootInstant,
    CoreHash,
    DeviceId,
    GrantHash,
    KeyId,
    PolicyDigest,
    SubjectId,
    WallInstant,
)
from wire.parties import check_parties
from wire.policy import Approver, Policy, decode_policy
from wire.receipt import decode_receipt
from wire.sealing import new_identity, recipient_of
from wire.tlog import (
    ALGORITHM_COSIGNATURE,
    ALGORITHM_ED25519,
    Checkpoint,
    cosign,
    sign_checkpoint,
    verifier_key,
    verify_checkpoint,
    verify_cosignature,
)

ACME = Organisation()
CORE = Core(
    origin="https://collector.example:8443",
    tenant="acme",
    programme="pilot",
    device=DeviceId(bytes(32)),
    subject=SubjectId(bytes(16)),
    policy=PolicyDigest(bytes(32)),
    grant=GrantHash(bytes(32)),
    category=Category.KEYS,
    day="2027-03-15",
    recipients=(KeyId(bytes(16)),),
    guard_key=KeyId(bytes(16)),
    purpose="train-computer-use",
    expires="2027-06-13",
)


# --- core ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    {
        "nested arrays": b"\x81" * 4000 + b"\x00",
        "nested tags": b"\xc6" * 4000 + b"\x00",
        "a fraction of 2^62 digits": b"\xa1\x01\xc4\x82\x1b\x40" + bytes(7) + b"\x03",
        "a float of 2^31 bits": b"\xa1\x01\xc5\x82\x1a\x80\x00\x00\x00\x03",
        "a rational over nothing": b"\xa1\x01\xd8\x1e\x82\x01\x00",
        "a pattern": b"\xa1\x01\xd8\x23" + cbor2.dumps("(a" * 100),
        "a map that holds itself": b"\xd8\x1c\xa1\x01\xd8\x1d\x00",
        "2^31 elements": b"\xa1\x01\x9a\x7f\xff\xff\xff",
        "2^60 bytes": b"\xa1\x01\x5b\x10" + bytes(7),
        "text that is no UTF-8": b"\xa1\x02\x62\xff\xfe",
        "a date before all dates": b"\xa1\x01\xd8\x64\x3b" + b"\xff" * 8,
    }.items(),
    ids=lambda item: item[0],
)
def test_cbor_that_nobody_asked_for_is_malformed(data: tuple[str, bytes]) -> None:
    """Tags run code of the decoder; lengths and nesting lie."""
    with pytest.raises(MalformedError):
        decode_core(data[1])


@pytest.mark.parametrize("bend", ["float key", "long integer", "indefinite", "key twice", "tail"])
def test_a_core_has_one_encoding(bend: str) -> None:
    """Two byte strings that mean one core would be two hashes for one batch."""
    good = encode_core(CORE)
    bent = {
        "float key": b"\xb0\xf9\x3c\x00\x01" + good[3:],
        "long integer": b"\xb0\x18\x01\x01" + good[3:],
        "indefinite": b"\xbf" + good[1:] + b"\xff",
        "key twice": b"\xb1\x01\x01" + good[1:],
        "tail": good + b"\x00",
    }[bend]
    with pytest.raises(MalformedError):
        decode_core(bent)


@pytest.mark.parametrize("field", ["day", "expires"])
@pytest.mark.parametrize("day", ["２０２７-０３-１５", "9999-99-99", "2027-02-30", "20270315"])  # noqa: RUF001
def test_a_day_that_never_comes_is_no_day(field: str, day: str) -> None:
    """Digits of other scripts sort behind all dates: such a batch would never expire."""
    with pytest.raises(MalformedError, match="ISO date"):
        decode_core(encode_core(msgspec.structs.replace(CORE, **{field: day})))


@pytest.mark.parametrize(
    "recipients", [(), (b"short",), (bytes(16), b"x" * 700), (bytes(16), bytes(16))]
)
def test_recipients_are_key_ids_and_nothing_else(recipients: tuple[KeyId, ...]) -> None:
    """Else the clear part of a frame could carry what the sealed part must not say."""
    with pytest.raises(MalformedError, match="recipients"):
        decode_core(encode_core(msgspec.structs.replace(CORE, recipients=recipients)))


def test_a_core_of_another_schema_is_refused() -> None:
    """The one schema of this version; free text there would leave in the clear."""
    with pytest.raises(MalformedError, match="schema"):
        decode_core(encode_core(msgspec.structs.replace(CORE, schema="what was typed: hunter2")))


# --- batch --------------------------------------------------------------------------------


def padded(packed: bytes) -> bytes:
    zeros = padded_bytes(len(packed) + 8) - len(packed) - 8
    return packed + b"\x50\x2a\x4d\x18" + zeros.to_bytes(4, "little") + bytes(zeros)


OPENING = b"\x91\x98\xa7opening\xc4\x20" + bytes(32) + b"\x01\x01\xa0\x80\x90"


@pytest.mark.parametrize(
    "plain",
    {
        "2^32 records": b"\xdd\xff\xff\xff\xff",
        "2^32 counters": OPENING[:-2] + b"\xdf\xff\xff\xff\xff",
        "nested five million times": OPENING + b"\x91" * 5_000_000 + b"\xc0",
        "text that is no UTF-8": b"\x91\x97\xa7opening\xc4\x20" + bytes(32) + b"\x01\x01\xa1\xff",
        "nothing": b"",
        "an empty list": b"\x90",
    }.items(),
    ids=lambda item: item[0],
)
def test_msgpack_that_lies_is_malformed(plain: tuple[str, bytes]) -> None:
    """A device is not believed: its batch is refused, the others are still exported."""
    with pytest.raises(MalformedError):
        decode_batch(padded(zstd.compress(plain[1])))


def test_a_batch_that_unpacks_to_more_than_any_of_ours_is_refused() -> None:
    """64 MiB and a byte; nothing beyond the bound is unpacked."""
    with pytest.raises(MalformedError, match="too large"):
        decode_batch(padded(zstd.compress(bytes((64 << 20) + 1))))


@pytest.mark.parametrize("where", ["before", "between", "second frame", "foreign padding"])
def test_a_batch_has_no_room_for_stowaways(where: str) -> None:
    """Bytes that other zstd tools skip, and we would not see."""
    opening = Opening(
        core_hash=CoreHash(bytes(32)),
        wall=WallInstant(1),
        boot=BootInstant(1),
        level="classes",
        counters={},
        gaps=(),
    )
    good = encode_batch(Batch(opening=opening, events=()))
    stowaway = b"\x50\x2a\x4d\x18\x04\x00\x00\x00hide"
    end = good.index(b"\x50\x2a\x4d\x18")
    bent = {
        "before": stowaway + good,
        "between": good[:end] + stowaway + good[end:],
        "second frame": good[:end] + zstd.compress(b"hide") + good[end:],
        "foreign padding": good[:-1] + b"x" if good.endswith(b"\0") else good + b"x",
    }[where]
    assert decode_batch(good).events == ()
    with pytest.raises(MalformedError):
        decode_batch(bent)


# --- keys in text -------------------------------------------------------------------------


def test_a_key_is_written_in_ascii() -> None:
    """The Kelvin sign becomes k when it is made small: two texts would be one key."""
    identity = new_identity()  # begins AGE-SECRET-KEY, so there is a K
    with pytest.raises(MalformedError):
        decode_identity(identity.replace("K", "\u212a"))
    with pytest.raises(MalformedError):
        decode_recipient(recipient_of(identity).upper().replace("K", "\u212a"))


# --- notes of the log ---------------------------------------------------------------------

LOG, NAME = ed25519(), "log.example/acme"
LOG_KEY = verifier_key(NAME, ALGORITHM_ED25519, raw(LOG))


def signed(text: str) -> str:
    """Return a note over any text, signed by the log as it really would be."""
    good = sign_checkpoint(Checkpoint(origin=NAME, size=1, root=bytes(32)), LOG)
    line = good.rpartition("\n\n")[2]
    key_id = base64.b64decode(line.split(" ")[2])[:4]
    blob = base64.b64encode(key_id + LOG.sign(text.encode())).decode()
    return f"{text}\n\u2014 {NAME} {blob}\n"


ROOT64 = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"{NAME}\n+1\n{ROOT64}\n",
        f"{NAME}\n01\n{ROOT64}\n",
        f"{NAME}\n1_0\n{ROOT64}\n",
        f"{NAME}\n \u0663\n{ROOT64}\n",
        f"{NAME}\n-1\n{ROOT64}\n",
        f"{NAME}\n{2**63}\n{ROOT64}\n",
        f"{NAME}\n{'9' * 5000}\n{ROOT64}\n",
        f"{NAME}\n1\n{ROOT64}\nextension\n",
        f"{NAME}\n1\n{ROOT64[:-4]}\n",
        f"{NAME}\n1\n{ROOT64[:-2]}B=\n",
        f"{NAME}\u20281\n{ROOT64}\n",
        f"{NAME}\r\n1\n{ROOT64}\n",
        f"{NAME}\n1\n{ROOT64}\n\n{NAME}\n2\n{ROOT64}\n",
    ],
)
def test_a_checkpoint_has_one_form_even_when_its_log_signs_another(text: str) -> None:
    """Signs, zeros, underscores, digits of other scripts, sizes past 2^63 - 1, more lines."""
    assert verify_checkpoint(signed(f"{NAME}\n7\n{ROOT64}\n"), LOG_KEY).size == 7
    with pytest.raises(WireError):
        verify_checkpoint(signed(text), LOG_KEY)


def test_a_note_of_somebody_else_under_the_same_name_is_forged() -> None:
    """Name and key together make a signer; more signatures of others change nothing."""
    head = Checkpoint(origin=NAME, size=3, root=bytes(32))
    forged, genuine = sign_checkpoint(head, ed25519()), sign_checkpoint(head, LOG)
    with pytest.raises(ForgedError):
        verify_checkpoint(forged, LOG_KEY)
    other_line = forged.rpartition("\n\n")[2]
    assert verify_checkpoint(genuine + other_line, LOG_KEY) == head
    assert verify_checkpoint(genuine + genuine.rpartition("\n\n")[2], LOG_KEY) == head


def test_a_log_cannot_cosign_for_its_witness() -> None:
    """One key used as both would be one party; the algorithms keep them apart."""
    note = sign_checkpoint(Checkpoint(origin=NAME, size=3, root=bytes(32)), LOG)
    witness = verifier_key(NAME, ALGORITHM_COSIGNATURE, raw(LOG))
    with pytest.raises(ForgedError):
        verify_cosignature(note, witness)
    with pytest.raises(MalformedError):
        verify_cosignature(note, LOG_KEY)
    with pytest.raises(ForgedError):
        verify_cosignature(note + cosign(note, NAME, ed25519(), 1), witness)


# --- grants -------------------------------------------------------------------------------


def test_a_request_says_everything_once() -> None:
    """A field twice: an approver's own tool may show the first, and the guard takes the last."""
    good = encode_request(ACME.request())
    twice = good.replace(b'"why"', b'"last_day": "2027-12-31",\n  "why"')
    with pytest.raises(MalformedError):
        decode_request(twice)
    with pytest.raises(MalformedError):
        decode_request(good + b"\n")


@pytest.mark.parametrize("day", ["20270301", "2027-3-1", "", "~", "２０２７-03-01"])  # noqa: RUF001
def test_a_request_names_days_that_sort(day: str) -> None:
    """Collector and guard compare them as text and as days, and have to agree."""
    with pytest.raises(MalformedError):
        decode_request(encode_request(ACME.request(first_day=day)))


@pytest.mark.parametrize("field", ["why", "reader", "programme", "purpose", "request_id"])
@pytest.mark.parametrize("sign", ["\x1b[4A\r\x1b[J", "\n", "\x9b2J", "\u202e", "\u2067"])
def test_a_request_cannot_rewrite_what_its_approver_is_shown(field: str, sign: str) -> None:
    """Else a reader asks for everything, and the terminal shows one harmless day."""
    with pytest.raises(MalformedError, match="cannot be shown"):
        decode_request(encode_request(ACME.request(**{field: f"a study{sign}of one toolbar"})))


def test_a_request_may_have_every_blank_that_a_policy_may_have() -> None:
    """The no-break space of French is no escape sequence; the lint of policies lets it through."""
    request = ACME.request(why="\u00ab\u00a0la barre d'outils\u00a0\u00bb")
    check_request(request)
    assert decode_request(encode_request(request)) == request
    assert verify_access(ACME.grant(request), ACME.policy(), wall(NOW)) == request


@pytest.mark.parametrize("asked", [0, -1, 1])
def test_no_policy_lets_one_party_alone_approve(asked: int) -> None:
    """The lint refuses such a policy; whoever signs without it gains nothing."""
    policy = ACME.policy(approval_threshold=asked)
    for approvers in ((), ("Ada",)):
        with pytest.raises(NotCoveredError, match="approvals"):
            verify_access(ACME.grant(approvers=approvers), policy, wall(NOW))
    assert verify_access(ACME.grant(), policy, wall(NOW)) == ACME.request()


def test_one_key_under_two_names_is_one_approval() -> None:
    """However it is written: base64 has blanks, line feeds and stray bits to offer."""
    key = base64.b64encode(raw(ACME.ada)).decode()
    stray = key[:-2] + chr(ord(key[-2]) + 1) + "="  # the two bits that mean nothing
    for other in (key, stray):
        policy = ACME.policy(
            approvers=(
                Approver(name="Ada", party="Acme Ltd", key=key),
                Approver(name="Grace", party="Works Council of Acme", key=other),
            )
        )
        request = encode_request(ACME.request())
        both = tuple(approve(request, name, ACME.ada) for name in ("Ada", "Grace"))
        with pytest.raises(NotCoveredError, match="1 of 2"):
            verify_access(AccessGrant(request=request, approvals=both), policy, wall(NOW))


def second_of_acme(party: str) -> tuple[Ed25519PrivateKey, Policy]:
    """Return the key of a third approver, and the policy that says they are of *party*."""
    alan, good = ed25519(), ACME.policy()
    key = base64.b64encode(raw(alan)).decode()
    second = Approver(name="Alan", party=party, key=key)
    return alan, ACME.policy(approvers=(*good.approvers, second))


def test_one_approval_many_times_costs_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader could keep guard and collector busy with copies of it, while a halt waits."""
    grant = ACME.grant()
    many = AccessGrant(request=grant.request, approvals=grant.approvals * 10_000)
    looked_at: list[bytes] = []
    monkeypatch.setattr("wire.grant.public_key", looked_at.append)
    with pytest.raises(NotCoveredError, match="named twice"):
        verify_access(many, ACME.policy(), wall(NOW))
    assert looked_at == []


@pytest.mark.parametrize("party", ["Acme Ltd", " acme  LTD ", "Acme\u00a0Ltd"])
def test_people_of_one_party_are_one_approval(party: str) -> None:
    """However many of them sign, and however the policy spells whose they are."""
    alan, policy = second_of_acme(party)
    request = encode_request(ACME.request())
    ada, both = approve(request, "Ada", ACME.ada), approve(request, "Alan", alan)
    with pytest.raises(NotCoveredError, match="1 of 2"):
        verify_access(AccessGrant(request=request, approvals=(ada, both)), policy, wall(NOW))
    grace = approve(request, "Grace", ACME.grace)
    for approvals in ((both, grace), (ada, both, grace)):
        grant = AccessGrant(request=request, approvals=approvals)
        assert verify_access(grant, policy, wall(NOW)) == ACME.request()


def test_three_approvals_of_two_parties_are_not_three() -> None:
    """The threshold counts parties, as the least of two does."""
    alan, policy = second_of_acme("Acme Ltd")
    policy = msgspec.structs.replace(policy, approval_threshold=3)
    request = encode_request(ACME.request())
    signed = (("Ada", ACME.ada), ("Alan", alan), ("Grace", ACME.grace))
    approvals = tuple(approve(request, name, key) for name, key in signed)
    with pytest.raises(NotCoveredError, match="2 of 3"):
        verify_access(AccessGrant(request=request, approvals=approvals), policy, wall(NOW))


def test_a_key_under_two_parties_is_of_the_first() -> None:
    """Whoever holds it signs twice, and is counted once; so does a name that stands there twice."""
    key = base64.b64encode(raw(ACME.ada)).decode()
    council = ACME.policy().approvers[1]
    request = encode_request(ACME.request())
    for name in ("Alan", "Ada"):
        other = Approver(name=name, party=council.party, key=key)
        policy = ACME.policy(approvers=(ACME.policy().approvers[0], other))
        approvals = tuple(approve(request, each, ACME.ada) for each in dict.fromkeys(("Ada", name)))
        with pytest.raises(NotCoveredError, match="1 of 2"):
            verify_access(AccessGrant(request=request, approvals=approvals), policy, wall(NOW))


def test_a_grant_lasts_ninety_days_at_most() -> None:
    """Approved or not: whoever wants it for longer asks again, and is seen to."""
    last = longest_grant(wall(NOW))
    asked = ACME.request(expires_at=last)
    assert verify_access(ACME.grant(asked), ACME.policy(), wall(NOW)) == asked
    for expires_at in (last + 1, 2**63 - 1):
        grant = ACME.grant(ACME.request(expires_at=WallInstant(expires_at)))
        with pytest.raises(NotCoveredError, match="too long"):
            verify_access(grant, ACME.policy(), wall(NOW))


@pytest.mark.parametrize("key", ["", "AAAA", "not base64!", "\n" + "A" * 43 + "="])
def test_an_approver_without_a_key_approves_nothing(key: str) -> None:
    """A policy with such a key is a wire error for whoever acts on it, not a defect."""
    policy = ACME.policy(approvers=(Approver(name="Ada", party="Acme Ltd", key=key),))
    with pytest.raises(WireError):
        verify_access(ACME.grant(), policy, wall(NOW))


@pytest.mark.parametrize("name", ["Ad\u0430", "Ada ", "ADA", "Ada\0"])
def test_a_name_that_looks_like_an_approvers_is_nobodys(name: str) -> None:
    """Cyrillic, blanks, other case: names are compared byte by byte."""
    request = encode_request(ACME.request())
    grant = AccessGrant(request=request, approvals=(approve(request, name, ACME.ada),))
    with pytest.raises(ForgedError, match="not an approver"):
        verify_access(grant, ACME.policy(), wall(NOW))


# --- JSON of others -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":"\xff"}',
        b'{"\xff":1}',
        b"\xff",
        b'{"a":' + b"[" * 200_000,
        b'{"record_id":"\\ud800"}',
    ],
)
def test_json_that_is_no_utf_8_or_too_deep_is_malformed(data: bytes) -> None:
    """Msgspec raises other errors for these than for other mistakes."""
    device = ed25519()
    signature = device.sign(CONSENT_LABEL + data)
    consent = SignedConsent(record=data, signature=signature)
    readers: tuple[Callable[[bytes], object], ...] = (
        decode_request,
        decode_policy,
        decode_receipt,
        lambda text: decode(text, EnrolRequest),
        lambda _text: verify_consent(consent, device.public_key()),
    )
    for read in readers:
        with pytest.raises(MalformedError):
            read(data)


# --- keys ---------------------------------------------------------------------------------

ANYBODYS = bytes([1]) + bytes(31)  # the neutral point: R || 0 signs everything, R being it


def test_the_library_takes_signatures_that_nobody_made() -> None:
    """Why `wire.ed25519` is there; when this fails, it can go."""
    Ed25519PublicKey.from_public_bytes(ANYBODYS).verify(ANYBODYS + bytes(32), b"anything")


@pytest.mark.parametrize("sign", [0x00, 0x80])
@pytest.mark.parametrize("y", sorted(ed25519_of._SMALL_ORDER))  # noqa: SLF001 - each of them
def test_a_key_in_whose_name_anybody_can_sign_is_no_key(y: bytes, sign: int) -> None:
    """As an approver's, a log's, a guard's or a party's."""
    key = y[:-1] + bytes([y[-1] | sign])
    with pytest.raises(MalformedError):
        ed25519_of.public_key(key)
    policy = ACME.policy(
        approvers=(
            Approver(name="Ada", party="Acme Ltd", key=b64(raw(ACME.ada))),
            Approver(name="Grace", party="Works Council of Acme", key=b64(key)),
        )
    )
    request = encode_request(ACME.request())
    forged = Approval(approver="Grace", signature=ANYBODYS + bytes(32))
    approvals = (approve(request, "Ada", ACME.ada), forged)
    with pytest.raises(MalformedError, match="Grace"):
        verify_access(AccessGrant(request=request, approvals=approvals), policy, wall(NOW))
    assert "bad-key" in {refusal.rule.name for refusal in lint(policy, NOW.date())}


@pytest.mark.parametrize("bend", ["blanks", "upper case", "anybody's", "another kind"])
def test_a_party_cannot_hold_two_keys_by_spelling_one_twice(bend: str, tmp_path: Path) -> None:
    """Python reads hexadecimal with blanks, so the same key looked like that of another party."""
    published = ACME.publish(tmp_path)
    metadata = msgspec.json.decode(published.root)
    own = raw(ACME.controller).hex()
    council = next(
        key for key in metadata["signed"]["keys"].values() if key["keyval"]["public"] != own
    )
    council["keyval"]["public"] = {
        "blanks": own[:2] + " " + own[2:],
        "upper case": own.upper(),
        "anybody's": ANYBODYS.hex(),
        "another kind": own,
    }[bend]
    if bend == "another kind":
        council["keytype"] = "ecdsa"
    with pytest.raises(WireError):
        check_parties(msgspec.json.encode(metadata), ACME.policy())
