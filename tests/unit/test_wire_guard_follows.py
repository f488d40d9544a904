"""Which keys of a guard follow which, and that nobody but their holder can say so."""

from itertools import pairwise

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.fakes.organisation import CONTROLLER, Organisation, b64, raw
from wire.category import Category
from wire.errors import ForgedError, MalformedError, WireError
from wire.guard_follows import (
    MOST_FOLLOWED,
    check_line,
    is_same,
    raw_keys,
    sign_following,
    three_of,
    verify_following,
    witness_followed,
)
from wire.narrowing import forbids, widened
from wire.policy import FormerKeys, Guard, Policy, Witness, decode_policy, encode_policy
from wire.quorum import cosigners
from wire.tlog import ALGORITHM_COSIGNATURE, cosign, verifier_key

ACME = Organisation()
SIGNING = [ACME.guard, *(Ed25519PrivateKey.generate() for _ in range(MOST_FOLLOWED + 2))]
POLICY = ACME.policy()
KEYS_GENERAL = ("guard.signing_key", "guard.witness", "guard.lease_key")


def three(signing: Ed25519PrivateKey) -> tuple[str, str, str]:
    """Return the keys of a guard that signs by *signing*."""
    if signing is ACME.guard:
        return three_of(POLICY.guard)
    witness = Ed25519PrivateKey.from_private_bytes(raw(signing))
    lease = Ed25519PrivateKey.from_private_bytes(raw(witness))
    name = verifier_key("council.example/guard", ALGORITHM_COSIGNATURE, raw(witness))
    return b64(raw(signing)), name, b64(raw(lease))


def line(*keys: Ed25519PrivateKey) -> tuple[FormerKeys, ...]:
    """Return former keys, each of which says that the next one follows it."""
    return tuple(sign_following(three(one), three(other), one) for one, other in pairwise(keys))


def guard(*keys: Ed25519PrivateKey, follows: tuple[FormerKeys, ...] | None = None) -> Guard:
    """Return the guard of the last of *keys*, which follows the others."""
    signing_key, witness, lease_key = three(keys[-1])
    return msgspec.structs.replace(
        POLICY.guard,
        signing_key=signing_key,
        witness=witness,
        lease_key=lease_key,
        follows=line(*keys) if follows is None else follows,
    )


def policy(of: Guard) -> Policy:
    return msgspec.structs.replace(POLICY, version=POLICY.version + 1, guard=of)


FIRST, SECOND, THIRD, EVE = SIGNING[:4]


def test_a_guard_whose_keys_follow_asks_nobody_again() -> None:
    """Consents stand, and what waits on a device under the policy before may stay."""
    after = policy(guard(FIRST, SECOND))
    assert not any(widened(POLICY, after).values())
    assert forbids(after, POLICY, Category.KEYS) == ()


def test_who_skipped_a_policy_finds_the_whole_line() -> None:
    """From the first keys to the third, and from the second."""
    after = policy(guard(FIRST, SECOND, THIRD))
    assert not any(widened(POLICY, after).values())
    assert not any(widened(policy(guard(FIRST, SECOND)), after).values())
    assert forbids(after, POLICY, Category.KEYS) == ()


def test_the_way_back_is_another_guard() -> None:
    """A device that goes by the later keys is not led back to those that a thief may have."""
    after = policy(guard(FIRST, SECOND))
    assert set(KEYS_GENERAL) <= set(widened(after, POLICY)[Category.KEYS])
    back = policy(guard(FIRST, EVE))  # by the word of the former key, which was stolen
    assert set(KEYS_GENERAL) <= set(widened(after, back)[Category.KEYS])
    over = policy(guard(FIRST, SECOND, FIRST))
    assert set(KEYS_GENERAL) <= set(widened(after, over)[Category.KEYS])


SAID = line(FIRST, SECOND)[0]
FORGED = {
    "no word": (),
    "of nobody": (msgspec.structs.replace(SAID, word=""),),
    "no base64": (msgspec.structs.replace(SAID, word="?"),),
    "on other keys": line(FIRST, THIRD),
    "by another": (msgspec.structs.replace(SAID, word=line(EVE, SECOND)[0].word),),
    "other witness": (msgspec.structs.replace(SAID, witness=three(EVE)[1]),),
    "other lease key": (msgspec.structs.replace(SAID, lease_key=three(EVE)[2]),),
    "a link is missing": (*line(FIRST, EVE), *line(THIRD, SECOND)),
    "behind a forgery": (*line(FIRST, SECOND), *line(EVE, THIRD)),
}


@pytest.mark.parametrize("follows", FORGED.values(), ids=FORGED)
def test_without_the_word_of_each_one_before_it_is_another_guard(
    follows: tuple[FormerKeys, ...],
) -> None:
    """All who sign policies together cannot say whose the second lock is."""
    after = policy(guard(SECOND, follows=follows))
    assert set(KEYS_GENERAL) <= set(widened(POLICY, after)[Category.KEYS])
    assert "guard.signing_key" in forbids(after, POLICY, Category.KEYS)


def test_one_key_alone_that_changed_is_looked_at_like_all_three() -> None:
    """Nobody puts another witness beside a signing key that stayed."""
    other = msgspec.structs.replace(POLICY.guard, witness=three(EVE)[1])
    assert widened(POLICY, policy(other))[Category.KEYS] == ("guard.witness",)
    other = msgspec.structs.replace(POLICY.guard, lease_key=three(EVE)[2])
    assert widened(POLICY, policy(other))[Category.KEYS] == ("guard.lease_key",)


def test_another_who_runs_it_is_asked_about_though_the_keys_follow() -> None:
    """The word says that the keys are one hand's, not that the hand is the same."""
    sold = msgspec.structs.replace(guard(FIRST, SECOND), run_by=CONTROLLER)
    assert widened(POLICY, policy(sold))[Category.KEYS] == ("guard.run_by",)


def test_a_line_that_is_too_long_or_comes_back_holds_nothing() -> None:
    """It is followed at each comparison, so it has an end."""
    check_line(guard(*SIGNING[: MOST_FOLLOWED + 1]))
    with pytest.raises(MalformedError):
        check_line(guard(*SIGNING[: MOST_FOLLOWED + 2]))
    assert not is_same(POLICY.guard, guard(*SIGNING[: MOST_FOLLOWED + 2]))
    with pytest.raises(ForgedError, match="follows itself"):
        check_line(guard(FIRST, SECOND, FIRST))


def test_keys_with_a_line_break_are_signed_by_nobody() -> None:
    """Else two lists of keys could have one text."""
    odd = (three(SECOND)[0] + "\n", *three(SECOND)[1:])
    with pytest.raises(MalformedError):
        sign_following(three(FIRST), (odd[0], odd[1], odd[2]), FIRST)
    with pytest.raises(WireError):
        verify_following(SAID, (odd[0], odd[1], odd[2]))


def test_a_policy_without_former_keys_is_what_it_was_to_the_byte() -> None:
    """An earlier version of this program reads it."""
    assert b"follows" not in encode_policy(POLICY)
    after = policy(guard(FIRST, SECOND))
    assert decode_policy(encode_policy(after)) == after


def test_what_is_no_key_is_said_to_be_none() -> None:
    """And does not end in something else than an error of the wire."""
    assert raw_keys(POLICY.guard)[0] == raw(ACME.guard)
    for changes in ({"signing_key": "?"}, {"lease_key": "AAAA"}, {"witness": "x"}):
        with pytest.raises(MalformedError):
            raw_keys(msgspec.structs.replace(POLICY.guard, **changes))


# --- one more witness ---------------------------------------------------------------------


def key_of(key: Ed25519PrivateKey) -> str:
    return verifier_key("union.example", ALGORITHM_COSIGNATURE, raw(key))


UNION = Witness(name="union", party="The Union", key=key_of(FIRST))
SECOND_KEY = witness_followed(UNION, key_of(SECOND), FIRST)
THIRD_KEY = witness_followed(SECOND_KEY, key_of(THIRD), SECOND)


def watched(*others: Witness, quorum: int = 2) -> Policy:
    return msgspec.structs.replace(POLICY, witnesses=others, quorum=quorum)


def test_a_witness_whose_key_follows_is_the_same_in_a_quorum() -> None:
    """At the next policy, at the one after it, and for who skipped one."""
    for before, after in ((UNION, SECOND_KEY), (SECOND_KEY, THIRD_KEY), (UNION, THIRD_KEY)):
        assert not any(widened(watched(before), watched(after)).values())
    assert widened(watched(THIRD_KEY), watched(UNION))[Category.KEYS] == ("quorum",)


OTHERS = {
    "no word": msgspec.structs.replace(UNION, key=key_of(SECOND)),
    "by another": witness_followed(UNION, key_of(SECOND), EVE),
    "on another key": msgspec.structs.replace(SECOND_KEY, key=key_of(EVE)),
    "no base64": msgspec.structs.replace(SECOND_KEY, words=("?",)),
    "a word too many": msgspec.structs.replace(SECOND_KEY, words=SECOND_KEY.words * 2),
    "of another party": msgspec.structs.replace(SECOND_KEY, party="The Lab"),
    "of another name": msgspec.structs.replace(SECOND_KEY, name="lab"),
    "follows no key": msgspec.structs.replace(SECOND_KEY, follows=("x+y+z",)),
    "follows itself": witness_followed(SECOND_KEY, key_of(FIRST), SECOND),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_witness_that_does_not_follow_is_another_one(other: Witness) -> None:
    """A quorum that it may be in is weaker than the one that was agreed to."""
    before = UNION if other.key != UNION.key else THIRD_KEY
    assert "quorum" in widened(watched(before), watched(other))[Category.KEYS]


def test_two_that_follow_one_are_of_one_party_and_one_in_a_quorum() -> None:
    """So whoever forks a witness gains no voice."""
    fork = witness_followed(UNION, key_of(THIRD), FIRST)
    both = watched(SECOND_KEY, fork, quorum=3)
    note = ACME.cosigned(ACME.checkpoint())
    for key in (SECOND, THIRD):
        note += cosign(note, "union.example", key, 1_800_000_000)
    assert len(cosigners(note, both)) == 2
