"""A halt signed by one party, for collector or guard to carry out."""

from datetime import datetime
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.durable import replace
from base.errors import SetupError
from governance.files import read
from governance.policy_set import is_named
from governance.roots import ROOT_NAME, load
from wire.errors import ForgedError
from wire.halting import LONGEST_WHY, Halt, sign_halt, verify_halt
from wire.ids import PolicyDigest, WallInstant
from wire.metadata import Targets
from wire.policy import TARGET_NAME, TARGETS_NAME, policy_digest


def call(folder: Path, out: Path, key: Ed25519PrivateKey, why: str, at: datetime) -> str:
    """Write to *out* the halt of the policy in *folder*; return whose it is.

    Raises:
        SetupError: Files are missing, *out* is there already, or the key is no party's; or the
            policy there is not the one that was signed, whose halt nobody would take.
        MalformedError: The root cannot be read.

    """
    if out.exists():
        raise SetupError(f"{out} exists; choose a file that does not")
    digest, root = _signed_digest(folder), read(folder / ROOT_NAME)
    now = WallInstant(int(at.timestamp() * 1e9))
    line = " ".join(why.split())[:LONGEST_WHY]
    signed = sign_halt(Halt(policy=digest, why=line, called_at=now), key)
    try:
        _halt, party = verify_halt(signed, root, digest)
    except ForgedError as exc:
        raise SetupError("this key is not one of the parties' keys in root.json") from exc
    replace(out, msgspec.json.encode(signed), mode=0o644)
    return party


def _signed_digest(folder: Path) -> PolicyDigest:
    digest = policy_digest(read(folder / TARGET_NAME))
    if not is_named(load(read(folder / TARGETS_NAME), Targets, TARGETS_NAME).signed, digest):
        raise SetupError(
            f"{folder / TARGET_NAME} is not the policy that {TARGETS_NAME} names; give the folder"
            " as it was signed"
        )
    return digest
