"""The texts of the policies under which something was agreed to or recorded on this device.

    policies/DIGEST.json    the bytes of a policy, named by their SHA-256

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

FOLDER: Final = "policies"


def read(state: Path) -> Mapping[PolicyDigest, Policy]:
    """Return the policies that are kept below *state*, without those that cannot be read."""
    found = {}
    try:
        paths = sorted((state / FOLDER).glob("*.json"))
    except OSError:
        return {}
    for path in paths:
        with contextlib.suppress(OSError, MalformedError):
            text = path.read_bytes()
            if policy_digest(text).hex() == path.stem:
                found[policy_digest(text)] = decode_policy(text)
    return found


def keep(state: Path, text: bytes) -> None:
    """Keep the text of a policy that was verified.

    Raises:
        OSError: It is not durable.

    """
    folder = durable.private_folder(state / FOLDER)
    durable.sweep(folder)
    durable.replace(folder / f"{policy_digest(text).hex()}.json", text)
