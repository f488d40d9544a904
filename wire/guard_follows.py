"""Which keys of a guard follow which: who watches and locks is the same, by other keys.  Pure.

A policy names a guard by three keys.  Others are another guard, and everybody is asked again,
unless the holder of the keys before said so: `Guard.follows` has those, the oldest first, each
with the word of its signing key on the three that came after it.  Who signs policies cannot
vouch for who runs the second lock.  One more witness has one key, and a line of that alone.
docs/decisions/0058-*.md.
"""

import base64
from functools import lru_cache
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from wire.ed25519 import public_key
from wire.errors import ForgedError, MalformedError, WireError
from wire.policy import FormerKeys, Guard, Witness
from wire.tlog import parse_verifier_key

WORD_LABEL: Final = b"assent/guard-keys-follow/v1\0"
WITNESS_LABEL: Final = b"assent/witness-key-follows/v1\0"
MOST_FOLLOWED: Final = 16  # the line is followed at each comparison of policies

Three: TypeAlias = tuple[str, str, str]
"""`signing_key`, `witness` and `lease_key`, as a policy writes them."""


def three_of(named: Guard | FormerKeys) -> Three:
    """Return the keys by which a guard is known."""
    return (named.signing_key, named.witness, named.lease_key)


def raw_keys(guard: Guard) -> tuple[bytes, bytes, bytes]:
    """Return the same as raw public keys.

    Raises:
        MalformedError: One of them is none.

    """
    witness = parse_verifier_key(guard.witness)[2]
    return (raw_key(guard.signing_key), witness, raw_key(guard.lease_key))


def raw_key(text: str) -> bytes:
    """Return the raw Ed25519 key of which *text* is the base64.

    Raises:
        MalformedError: It is none.

    """
    try:
        return public_key(base64.b64decode(text, validate=True)).public_bytes_raw()
    except ValueError as exc:
        raise MalformedError("a key of the guard is not base64") from exc


def sign_following(before: Three, after: Three, signing: Ed25519PrivateKey) -> FormerKeys:
    """Return what a policy says of *before*, whose *signing* key says that *after* follow them.

    Raises:
        MalformedError: A key has a line break in it.

    """
    word = base64.b64encode(signing.sign(_message(before, after))).decode("ascii")
    return FormerKeys(signing_key=before[0], witness=before[1], lease_key=before[2], word=word)


def verify_following(before: FormerKeys, after: Three) -> None:
    """Check that the holder of *before* said that *after* follow them.

    Raises:
        ForgedError: That holder did not.
        MalformedError: A key or the word is not in its format.

    """
    key = public_key(raw_key(before.signing_key))
    try:
        word = base64.b64decode(before.word, validate=True)
        key.verify(word, _message(three_of(before), after))
    except ValueError as exc:
        raise MalformedError("the word of a former key of the guard is not base64") from exc
    except InvalidSignature:
        line = f"the guard's key {before.signing_key} did not say that these follow it"
        raise ForgedError(line) from None


def check_line(guard: Guard) -> None:
    """Check each word of the line that leads to the keys of *guard*.

    Raises:
        WireError: One does not hold, or the line is too long, or it comes back to a key.

    """
    line = [*map(three_of, guard.follows), three_of(guard)]
    if len(guard.follows) > MOST_FOLLOWED:
        raise MalformedError(f"the guard's keys follow more than {MOST_FOLLOWED} others")
    for which in zip(*line, strict=True):
        if len(set(which)) < len(line):
            raise ForgedError("a key of the guard follows itself")
    for before, after in zip(guard.follows, line[1:], strict=True):
        verify_following(before, after)


@lru_cache(maxsize=64)
def is_same(old: Guard, new: Guard) -> bool:
    """Whether the keys of *new* are those of *old*, or are proved to follow them."""
    if three_of(old) == three_of(new):
        return True
    known = [three_of(each) for each in new.follows]
    if three_of(old) not in known:
        return False
    try:
        check_line(new)
    except WireError:
        return False
    return True


def that_follow(signing_key: str, witness: str, guard: Guard | None) -> tuple[Three, ...]:
    """Return the keys that are proved to follow these, the oldest first; none if none are.

    For whoever has no policy but two keys on paper; an empty *witness* is any.
    """
    if guard is None:
        return ()
    line = [*map(three_of, guard.follows), three_of(guard)]
    known = [
        number
        for number, (signing, cosigning, _lease) in enumerate(line)
        if signing == signing_key and witness in ("", cosigning)
    ]
    try:
        check_line(guard)
    except WireError:
        return ()
    return tuple(line[known[0] + 1 :]) if known else ()


# --- one more witness -----------------------------------------------------------------------


def witness_followed(witness: Witness, after: str, key: Ed25519PrivateKey) -> Witness:
    """Return *witness* by the verifier key *after*, as the holder of its present *key* says it.

    Raises:
        MalformedError: A key has a line break in it.

    """
    word = base64.b64encode(key.sign(_lines(WITNESS_LABEL, witness.key, after))).decode("ascii")
    return replace(
        witness,
        key=after,
        follows=(*witness.follows, witness.key)[-MOST_FOLLOWED:],
        words=(*witness.words, word)[-MOST_FOLLOWED:],
    )


def check_witness_line(witness: Witness) -> None:
    """Check each word of the line that leads to the key of *witness*.

    Raises:
        WireError: One does not hold, or the line is too long, or it comes back to a key.

    """
    line = (*witness.follows, witness.key)
    if len(witness.follows) > MOST_FOLLOWED or len(witness.words) != len(witness.follows):
        raise MalformedError(f"the keys of the witness {witness.name} have another number of words")
    if len(set(line)) < len(line):
        raise ForgedError(f"a key of the witness {witness.name} follows itself")
    for before, after, word in zip(witness.follows, line[1:], witness.words, strict=True):
        try:
            signed, key = base64.b64decode(word, validate=True), parse_verifier_key(before)[2]
            public_key(key).verify(signed, _lines(WITNESS_LABEL, before, after))
        except ValueError as exc:
            raise MalformedError(f"a word of the witness {witness.name} is not base64") from exc
        except InvalidSignature:
            line_of = f"the witness's key {before} did not say that {after} follows it"
            raise ForgedError(line_of) from None


@lru_cache(maxsize=64)
def is_same_witness(old: Witness, new: Witness) -> bool:
    """Whether *new* is that of *old*, by its key or by one that is proved to follow it."""
    if (old.name, old.party) != (new.name, new.party):
        return False
    if old.key == new.key:
        return True
    try:
        check_witness_line(new)
    except WireError:
        return False
    return old.key in new.follows


def _message(before: Three, after: Three) -> bytes:
    return _lines(WORD_LABEL, *before, *after)


def _lines(label: bytes, *every: str) -> bytes:
    if any("\n" in each for each in every):
        raise MalformedError("a key of the guard has a line break in it")
    return label + "".join(f"{each}\n" for each in every).encode()
