"""Which keys of a reader do what: sealed to, opens, revoked; and which key follows which.  Pure.

A policy lists the keys of its readers, each in a state (`KeyState`):

- *sealed-to*: new batches are sealed to it, and what is sealed to it may be released to it;
- *opens*: nothing new is sealed to it, what was may be released to it;
- *revoked*: nothing is released to it.  It stays in the list, so that everybody knows.

A key is told by what it is (`key_of`), never by its text: one key can be written in two ways,
and if it stands there twice the strictest state holds.

One key *follows* another if the holder of that other one said so: an Ed25519 key that follows
from the identity (`wire.succession`), and that the policy names beside the recipient from the
beginning (`signs`), signs both keys.  Without that word a new key is a new reader
(`is_no_wider`): who signs policies cannot vouch for who reads.  docs/decisions/0056-*.md.
"""

import base64
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature

from wire.age import decode_recipient
from wire.ed25519 import public_key
from wire.errors import ForgedError, MalformedError, NotCoveredError
from wire.ids import key_id
from wire.policy import KeyState, Recipient

WORD_LABEL: Final = b"assent/reader-key-follows/v1\0"
MOST_KEYS: Final = 64  # of all readers: a chain is followed at each comparison of policies

_RANK: Final = {KeyState.REVOKED: 0, KeyState.OPENS: 1, KeyState.SEALED_TO: 2}


# --- what a key is ------------------------------------------------------------------------


@lru_cache(maxsize=256)
def id_of(key: str) -> str:
    """Return the key id of an age1pq... recipient, hexadecimal; "" of what is none.

    A list that holds nonsense is no reason to fail: it is compared, and nobody reads by it.
    """
    try:
        return key_id(decode_recipient(key)).hex()
    except MalformedError:
        return ""


def key_of(recipient: Recipient) -> str:
    """Return what tells this key from others: its key id, or its text where it is no key."""
    return id_of(recipient.key) or recipient.key


def find(recipients: Sequence[Recipient], key: str) -> tuple[Recipient, ...]:
    """Return all entries of the key that `key_of` calls *key*."""
    return tuple(r for r in recipients if key_of(r) == key)


# --- what it may --------------------------------------------------------------------------


def state_of(recipients: Sequence[Recipient], key: str) -> KeyState | None:
    """Return the state of an age1pq... recipient: the strictest that is said; None: not named."""
    return _states(recipients).get(id_of(key) or key)


def sealed_to(recipients: Sequence[Recipient]) -> tuple[Recipient, ...]:
    """Return the keys to which new batches are sealed, each once."""
    states, first = _states(recipients), dict[str, Recipient]()
    for each in recipients:
        first.setdefault(key_of(each), each)
    return tuple(each for key, each in first.items() if states[key] is KeyState.SEALED_TO)


def _states(recipients: Sequence[Recipient]) -> dict[str, KeyState]:
    found: dict[str, KeyState] = {}
    for each in recipients:
        key = key_of(each)
        found[key] = min(each.state, found.get(key, each.state), key=_RANK.__getitem__)
    return found


def check_opens(recipients: Sequence[Recipient], key: str) -> None:
    """Check that what was sealed to this age1pq... recipient may be released to it.

    Raises:
        NotCoveredError: The policy does not name it, or has revoked it.

    """
    state = state_of(recipients, key)
    if state is None or key not in {r.key for r in recipients}:
        raise NotCoveredError("the policy does not name this reader's key as a recipient")
    if state is KeyState.REVOKED:
        raise NotCoveredError("the policy has revoked this key; nothing is released to it any more")


# --- what follows what --------------------------------------------------------------------


def verify_word(entry: Recipient, before: Recipient) -> None:
    """Check that the holder of *before* said that *entry* follows it.

    Raises:
        ForgedError: It is of another reader, follows another key, or that holder did not.

    """
    if entry.name != before.name or not entry.follows or entry.follows != id_of(before.key):
        raise ForgedError(f"this key of {entry.name} does not follow that of {before.name}")
    if not id_of(entry.key) or id_of(entry.key) == entry.follows:
        raise ForgedError(f"this key of {entry.name} is none, or its own successor")
    try:
        signed, key = _raw(entry.word), public_key(_raw(before.signs))
        key.verify(signed, word_message(entry.name, entry.follows, entry))
    except (MalformedError, InvalidSignature):
        line = f"the holder of {before.name}'s key {entry.follows} did not say that this follows it"
        raise ForgedError(line) from None


def word_message(name: str, followed: str, entry: Recipient) -> bytes:
    """Return what is signed: the id of both keys, and, so that a chain holds, by what it signs."""
    ids = bytes.fromhex(followed) + bytes.fromhex(id_of(entry.key))
    # All of these have one length, so that nothing of them can be taken for the name.
    return WORD_LABEL + ids + public_key(_raw(entry.signs)).public_bytes_raw() + name.encode()


def _raw(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise MalformedError("this is not base64") from None


# --- the order ----------------------------------------------------------------------------


def is_no_wider(old: Sequence[Recipient], new: Sequence[Recipient]) -> bool:
    """Whether *new* is proved to let nobody read who could not read by *old*.

    So it is if each key of *new* that is not revoked

    - stands in *old*, just so, and may no more than it might there; or
    - follows, by the word of each one before it, a key that *old* seals to, of the same reader,
      and no key on that way, nor another one that follows the same, is sealed to any more.

    What is named twice, or is no key at all, is proved of nobody.
    """
    if tuple(new) == tuple(old):
        return True
    able = [entry for entry in new if entry.state is not KeyState.REVOKED]
    if len(new) > MOST_KEYS or len({key_of(r) for r in new}) < len(new):
        return False
    followed = [entry.follows for entry in able if entry.follows and not _stood(entry, old)]
    if len(set(followed)) < len(followed):
        return False
    return all(_stood(entry, old) or _follows_on(entry, old, new) for entry in able)


def may_stay(new: Sequence[Recipient], recorded: Sequence[Recipient]) -> bool:
    """Whether each key that a batch was sealed to under *recorded* may still open it."""
    states = _states(new)
    able = {(r.name, key_of(r)) for r in new if states[key_of(r)] is not KeyState.REVOKED}
    return all((r.name, key_of(r)) in able for r in sealed_to(recorded))


def _stood(entry: Recipient, old: Sequence[Recipient]) -> bool:
    """Whether *old* has this entry, and lets it do as much at least."""
    agreed = _alone(old, key_of(entry))
    if agreed is None or (agreed.name, agreed.signs) != (entry.name, entry.signs):
        return False
    return _RANK[entry.state] <= _RANK[agreed.state]


def _follows_on(entry: Recipient, old: Sequence[Recipient], new: Sequence[Recipient]) -> bool:
    for _ in new:  # as many steps as there are keys: a circle leads nowhere
        agreed, now = _alone(old, entry.follows), _alone(new, entry.follows)
        if now is not None and now.state is KeyState.SEALED_TO:
            return False
        before = agreed or now
        if before is None:
            return False
        try:
            verify_word(entry, before)
        except ForgedError:
            return False
        if agreed is not None:
            return agreed.state is KeyState.SEALED_TO
        entry = before
    return False


def _alone(recipients: Sequence[Recipient], key: str) -> Recipient | None:
    """Return the one entry of that key; None where there is none, or where two contradict."""
    found = find(recipients, key) if key else ()
    return found[0] if len(found) == 1 else None
