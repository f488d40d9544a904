"""Which keys of a reader do what, and when another key is still the same reader."""

import base64
import itertools
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.organisation import NOW, READER, Organisation, ed25519, wall
from wire.age import encode_identity
from wire.category import Category
from wire.errors import ForgedError, NotCoveredError
from wire.grant import verify_access
from wire.narrowing import forbids, widened
from wire.policy import KeyState, Policy, Recipient, decode_policy, encode_policy
from wire.recipients import (
    WORD_LABEL,
    check_opens,
    id_of,
    is_no_wider,
    may_stay,
    sealed_to,
    state_of,
    verify_word,
    word_message,
)
from wire.sealing import new_identity, recipient_of
from wire.succession import entry_of, word_key_of

ACME: Final = Organisation()
OLD, NEXT, LAST, EVE = (new_identity() for _ in range(4))
A = entry_of(READER, OLD)
B = entry_of(READER, NEXT, OLD)
C = entry_of(READER, LAST, NEXT)
SEALED, OPENS, REVOKED = KeyState
STATES: Final = tuple(KeyState)


def now(entry: Recipient, state: KeyState = SEALED, **changes: str) -> Recipient:
    return msgspec.structs.replace(entry, state=state, **changes)


def policy(*recipients: Recipient) -> Policy:
    return ACME.policy(recipients=recipients)


# --- states -----------------------------------------------------------------------------


def test_new_batches_are_sealed_to_keys_that_are_sealed_to_alone() -> None:
    """Neither to one that only opens, nor to one that is revoked."""
    assert sealed_to((now(A, OPENS), now(B), now(C, REVOKED))) == (B,)


def test_a_revoked_key_opens_nothing_and_one_that_opens_does() -> None:
    """Nor one that nobody names."""
    keys = (now(A, OPENS), now(B), now(C, REVOKED))
    check_opens(keys, A.key)
    check_opens(keys, B.key)
    for key, said in ((C.key, "revoked"), (recipient_of(EVE), "does not name")):
        with pytest.raises(NotCoveredError, match=said):
            check_opens(keys, key)


def test_one_key_in_two_states_is_in_the_stricter_one() -> None:
    """However often, in which order and in which spelling it is named."""
    for states in itertools.product(STATES, repeat=2):
        keys = (now(A, states[0]), now(A, states[1], key=A.key.upper()))
        strictest = max(states, key=STATES.index)
        for asked in (A.key, A.key.upper()):
            assert state_of(keys, asked) is strictest
        assert bool(sealed_to(keys)) is (set(states) == {SEALED})


def test_a_grant_for_a_revoked_key_is_refused() -> None:
    """Approved by everybody, and of no use any more."""
    grant = ACME.grant(ACME.request(recipient=A.key))
    request = verify_access(grant, policy(now(A, OPENS), now(B)), wall(NOW))
    assert request.recipient == A.key
    with pytest.raises(NotCoveredError, match="revoked"):
        verify_access(grant, policy(now(A, REVOKED), now(B)), wall(NOW))


def test_a_policy_of_before_reads_as_it_did_and_is_written_as_it_was() -> None:
    """Its keys are sealed to; an earlier version reads what this one writes without rotation."""
    one = policy(Recipient(name=READER, key=A.key))
    text = encode_policy(one)
    for word in (b'"state"', b'"signs"', b'"follows"', b'"word"'):
        assert word not in text
    assert decode_policy(text).recipients[0].state is SEALED
    assert decode_policy(encode_policy(policy(now(A, OPENS), B))).recipients == (now(A, OPENS), B)


# --- what follows what ------------------------------------------------------------------


def test_the_holder_of_a_key_says_what_follows_it() -> None:
    """The same words each time, from the identity alone."""
    verify_word(B, A)
    verify_word(C, B)
    assert entry_of(READER, NEXT, OLD) == B
    assert (B.follows, A.follows, A.word) == (id_of(A.key), "", "")


def test_word_and_key_of_a_fixed_identity_are_those_of_the_specification() -> None:
    """docs/spec/reader-keys-v1.md, for seeds of the bytes 0 to 31 and 32 to 63."""
    before, after = (encode_identity(bytes(range(n, n + 32))) for n in (0, 32))
    made = entry_of("training-team", after, before)
    assert made.signs == "qpjwo8pZN+cCHtgGfacTQDF6Q/w+EByarq1YwdcmywE="
    assert made.follows == "e46974b72b6be7b773c93894eac26486"
    assert made.word == (
        "KowtpNd4eFIITPhD9OpWaPxpmbm3Q67FQkyeRIlHzfo9aKuxXB5REZzv8keTSaEZqavImEtHXn1tc7LV90l2BQ=="
    )


FORGED: Final = {
    "nobody's word": now(B, word=""),
    "another's word": now(B, word=entry_of(READER, NEXT, EVE).word),
    "the word for another key": now(B, word=entry_of(READER, EVE, OLD).word),
    "the word for another reader": now(B, word=entry_of("eve", NEXT, OLD).word),
    "another reader's key by that word": now(B, key=recipient_of(EVE)),
    "of another reader": now(B, name="eve"),
    "followed by another's words": now(B, signs=entry_of(READER, EVE).signs),
    "follows another": now(B, follows=id_of(recipient_of(EVE))),
    "follows nothing": now(B, follows=""),
    "no key": now(B, key="age1pq1nonsense"),
    "no base64": now(B, word="?"),
    "signs with nothing": now(B, signs=""),
    "signs by all": now(B, signs=base64.b64encode(bytes(32)).decode()),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
def test_what_the_holder_did_not_say_is_nobodys_word(forged: Recipient) -> None:
    """Each part of the entry is in the word, or held against the key before."""
    with pytest.raises(ForgedError):
        verify_word(forged, A)
    assert not is_no_wider((A,), (now(A, OPENS), forged))


def test_a_signature_for_something_else_is_no_word() -> None:
    """The label keeps what else that key may sign one day apart."""
    key, message = word_key_of(OLD), word_message(READER, id_of(A.key), B)
    assert message.startswith(WORD_LABEL)
    word = base64.b64encode(key.sign(message.removeprefix(WORD_LABEL))).decode()
    with pytest.raises(ForgedError):
        verify_word(now(B, word=word), A)


def test_a_key_before_that_signs_by_nothing_is_followed_by_nobody() -> None:
    """A policy that never said by what a key signs: nobody can vouch, everybody is asked again."""
    unsaid = now(A, signs="")
    with pytest.raises(ForgedError):
        verify_word(B, unsaid)
    assert not is_no_wider((unsaid,), (now(unsaid, OPENS), B))
    assert not is_no_wider((unsaid,), (now(A, OPENS), B))  # said only now, by who signs policies


# --- the order --------------------------------------------------------------------------

NARROW: Final = {
    "the same": ((A,), (A,)),
    "rotated": ((A,), (now(A, OPENS), B)),
    "rotated, and the old one gone": ((A,), (B,)),
    "rotated twice": ((A,), (now(A, OPENS), now(B, OPENS), C)),
    "rotated twice, the oldest gone": ((A,), (now(B, OPENS), C)),
    "rotated, then the old one revoked": ((A,), (now(A, REVOKED), B)),
    "revoked": ((A,), (now(A, REVOKED),)),
    "a stranger's key revoked": ((A,), (A, now(entry_of("eve", EVE), REVOKED))),
    "no more sealed to": ((A,), (now(A, OPENS),)),
    "gone": ((A,), ()),
}
WIDE: Final = {
    "another reader": ((A,), (A, entry_of("eve", EVE))),
    "another key without a word": ((A,), (now(A, OPENS), entry_of(READER, EVE))),
    "another name": ((A,), (now(A, name="eve"),)),
    "both sealed to": ((A,), (A, B)),
    "a fork": ((A,), (now(A, OPENS), B, entry_of(READER, EVE, OLD))),
    "a fork that opens": ((A,), (now(A, OPENS), B, now(entry_of(READER, EVE, OLD), OPENS))),
    "a fork of a key that only opens": (
        (now(A, OPENS), B),
        (now(A, OPENS), now(B, OPENS), entry_of(READER, EVE, OLD)),
    ),
    "both links sealed to": ((A,), (B, C)),
    "a link is missing": ((A,), (now(A, OPENS), C)),
    "follows a key that only opened": ((now(A, OPENS),), (now(A, OPENS), B)),
    "follows a key that was revoked": ((now(A, REVOKED),), (now(A, REVOKED), B)),
    "sealed to again": ((now(A, OPENS), B), (A, now(B, OPENS))),
    "revoked no more": ((now(A, REVOKED), B), (now(A, OPENS), B)),
    "named twice": ((A,), (A, now(A, OPENS))),
    "signs by another": ((A,), (now(A, signs=entry_of(READER, EVE).signs),)),
    "in a circle": ((A,), (now(B, follows=id_of(C.key)), now(C, OPENS))),
    "follows itself": ((A,), (now(B, follows=id_of(B.key)),)),
    "without end": ((A,), (A, *(now(A, REVOKED, key=f"age1pq1{n}") for n in range(64)))),
}


@pytest.mark.parametrize(("old", "new"), NARROW.values(), ids=NARROW.keys())
def test_the_same_reader_with_another_key_reads_no_more(
    old: tuple[Recipient, ...], new: tuple[Recipient, ...]
) -> None:
    """So nobody's consent is stale for it."""
    assert is_no_wider(old, new)
    assert "recipients" not in widened(policy(*old), policy(*new))[Category.KEYS]


@pytest.mark.parametrize(("old", "new"), WIDE.values(), ids=WIDE.keys())
def test_whatever_is_not_proved_to_be_the_same_reader_is_another_one(
    old: tuple[Recipient, ...], new: tuple[Recipient, ...]
) -> None:
    """A policy that smuggles in another reader's key as a successor asks everybody again."""
    assert not is_no_wider(old, new)
    assert "recipients" in widened(policy(*old), policy(*new))[Category.KEYS]


def test_the_words_of_who_signs_policies_are_worth_nothing() -> None:
    """Every signer together cannot make another key the same reader's."""
    mine = base64.b64encode(ed25519().public_key().public_bytes_raw()).decode()
    for signer in (ACME.controller, ACME.council, ACME.ada, ACME.guard):
        word = base64.b64encode(signer.sign(word_message(READER, id_of(A.key), B))).decode()
        assert not is_no_wider((A,), (now(A, OPENS), now(B, word=word)))
        assert not is_no_wider((A,), (now(A, OPENS, signs=mine), now(B, word=word)))


ENTRIES = st.sampled_from((A, B, C, entry_of("eve", EVE), entry_of(READER, EVE, OLD)))
LISTS = st.lists(st.builds(now, ENTRIES, st.sampled_from(STATES)), max_size=4).map(tuple)


@given(old=LISTS, new=LISTS)
def test_who_reads_by_a_narrower_list_is_vouched_for_by_who_read_before(
    old: tuple[Recipient, ...], new: tuple[Recipient, ...]
) -> None:
    """Whatever the lists: each name that may read did before, and no more keys are sealed to."""
    assert is_no_wider(old, old)
    if is_no_wider(old, new) and new != old:
        able = {r.name for r in new if r.state is not REVOKED}
        assert able <= {r.name for r in old if r.state is not REVOKED}
        assert len(sealed_to(new)) <= sum(r.state is SEALED for r in old)
        assert recipient_of(EVE) not in {r.key for r in new if r.state is not REVOKED} or (
            recipient_of(EVE) in {r.key for r in old} or A in old
        )


# --- what waits on a device -------------------------------------------------------------


def test_what_was_sealed_before_a_rotation_stays_and_before_a_revocation_does_not() -> None:
    """A batch that nobody may open any more is deleted where it waits."""
    rotated, ended = policy(now(A, OPENS), B), policy(now(A, REVOKED), B)
    assert forbids(rotated, policy(A), Category.KEYS) == ()
    assert forbids(ended, rotated, Category.KEYS) == ()
    assert forbids(ended, policy(A), Category.KEYS) == ("recipients",)
    assert not may_stay((now(A, name="eve"),), (A,))


def test_a_reader_with_two_keys_is_named_once() -> None:
    """In words and records; who has no key left is named no more."""
    assert policy(now(A, OPENS), B).readers == (READER,)
    assert policy(now(A, REVOKED)).readers == ()
    before, after = policy(A), policy(now(A, OPENS), B)
    assert before.words(Category.KEYS) == after.words(Category.KEYS)
