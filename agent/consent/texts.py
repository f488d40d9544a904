"""The texts of the policies under which something was agreed to or recorded on this device.

    policy-DIGEST.json    the bytes of a policy, named by their SHA-256

A consent stands under a later policy only if that asks for no more, and for this the text
agreed to has to be at hand when the collector has long published another one.  They were
verified when they came; here their name proves that they are the same bytes.  One that is
lost makes what was agreed to under it stale, and never the other way round.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from base import durable
from wire.errors import MalformedError
from wire.ids import PolicyDigest
from wire.policy import Policy, decode_policy, policy_digest

_NAME: Final = "policy-{}.json"


def read(state: Path) -> Mapping[PolicyDigest, Policy]:
    """Return the policies that are kept in *state*, without those that cannot be read."""
    found = {}
    try:
        paths = sorted(state.glob(_NAME.format("*")))
    except OSError:
        return {}
    for path in paths:
        with contextlib.suppress(OSError, MalformedError):
            text = path.read_bytes()
            if path.name == _NAME.format(policy_digest(text).hex()):
                found[policy_digest(text)] = decode_policy(text)
    return found


def keep(state: Path, text: bytes) -> None:
    """Keep the text of a policy that was verified.

    Raises:
        OSError: It is not durable.

    """
    durable.replace(state / _NAME.format(policy_digest(text).hex()), text)
