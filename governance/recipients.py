"""The next version of a policy, in which a reader's key is followed by another, or revoked.  Pure.

What each state means, and which key follows which, says `wire.recipients`; here the same rules
are a policy's next step, refused where they would not hold.
"""

from collections.abc import Sequence

import msgspec

from base.errors import RejectedError
from wire.errors import ForgedError
from wire.policy import KeyState, Policy, Recipient
from wire.recipients import find, id_of, key_of, verify_word


def rotated(policy: Policy, made: Recipient, *, ask_again: bool = False) -> Policy:
    """Return the next version, in which *made* is sealed to and the key before it only opens.

    With *ask_again* nobody's word is needed: then it is a new reader, and every consent stale.

    Raises:
        RejectedError: It is no key, is there already, or follows none to which is sealed.

    """
    if not id_of(made.key):
        raise RejectedError("this is no reader's key; give the recipient.json of assent-reader")
    if find(policy.recipients, key_of(made)):
        raise RejectedError("the policy names this key already")
    before = _sealed_to(policy.recipients, made.name)
    if ask_again:
        made = msgspec.structs.replace(made, follows="", word="")
    else:
        try:
            verify_word(made, before)
        except ForgedError as exc:
            line = "or, if it was rotated twice, let everybody be asked again: --ask-again"
            raise RejectedError(f"{exc}; give the recipient.json of that reader, {line}") from exc
    made = msgspec.structs.replace(made, state=KeyState.SEALED_TO)
    return _next(policy, (*_with(policy.recipients, before, KeyState.OPENS), made))


def revoked(policy: Policy, prefix: str) -> Policy:
    """Return the next version, in which the key whose id begins with *prefix* opens nothing.

    Raises:
        RejectedError: None or several begin so, or it is revoked already.

    """
    named = [r for r in policy.recipients if prefix and id_of(r.key).startswith(prefix.lower())]
    if len(named) != 1:
        listed = ", ".join(f"{r.name} {id_of(r.key)}" for r in policy.recipients)
        raise RejectedError(f"{len(named)} keys begin with {prefix!r}; there are {listed}")
    if named[0].state is KeyState.REVOKED:
        raise RejectedError("this key is revoked already")
    return _next(policy, _with(policy.recipients, named[0], KeyState.REVOKED))


def _sealed_to(recipients: Sequence[Recipient], name: str) -> Recipient:
    found = [r for r in recipients if r.name == name and r.state is KeyState.SEALED_TO]
    if len(found) != 1:
        raise RejectedError(f"the policy seals to {len(found)} keys of {name}, and has to to one")
    return found[0]


def _with(
    recipients: Sequence[Recipient], one: Recipient, state: KeyState
) -> tuple[Recipient, ...]:
    changed = msgspec.structs.replace(one, state=state)
    return tuple(changed if r is one else r for r in recipients)


def _next(policy: Policy, recipients: tuple[Recipient, ...]) -> Policy:
    return msgspec.structs.replace(policy, version=policy.version + 1, recipients=recipients)
