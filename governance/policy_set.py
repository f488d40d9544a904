"""The signed policy: `root.json`, `targets.json` and `policy.json` in one folder.

TUF metadata (python-tuf), signed offline: each party in turn runs `sign` on a copy of the
folder with its own key.  `parties/` holds the parties' public keys for the first root.
Snapshot is in the root's roles from the start, so that publishing through a full TUF
repository later needs no new root.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.exceptions import KeyMismatchError
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # re-exported
    Metadata,
    Root,
    TargetFile,
    Targets,
)
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from base.durable import replace
from base.errors import RejectedError, SetupError
from governance.files import read
from governance.keys import PublicKey, Role, read_public
from governance.lint import Refusal, lint
from wire.parties import LEAST_THRESHOLD, PARTY_FIELD, SIGNING_ROLES, check_parties, signers
from wire.policy import TARGET_NAME, Policy, decode_policy, policy_digest, verify

ROOT_DAYS: Final = 365  # keys are looked at again each year
TARGETS_DAYS: Final = 90  # a policy that nobody confirms any more ends by itself
ROOT_NAME: Final = "root.json"
TARGETS_NAME: Final = "targets.json"
PARTIES_NAME: Final = "parties"
_SERIALIZER: Final = JSONSerializer(compact=False)


class LintError(RejectedError):
    """The policy must not be signed; `refusals` say why."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        count, first = len(refusals), refusals[0]
        super().__init__(
            f"refused for {count} reason{'s' if count > 1 else ''}, first {first.rule.name}: "
            f"{first.where}; `assent-govern lint` says all of it, and how to mend it"
        )
        self.refusals = tuple(refusals)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a policy folder stands: the policy, its digest, and who has signed."""

    policy: Policy
    digest: str
    root_sha256: str
    signers: Mapping[str, bool]
    root_expires: datetime
    targets_expires: datetime


def sign(folder: Path, key: Ed25519PrivateKey, now: datetime) -> Standing:
    """Add this party's signature to root and targets; make both when they are not there yet.

    1. The policy passes the lint.
    2. Root: the one that is there, else a new one over the keys in `parties/`.
    3. No party alone reaches a threshold of that root, and this key is one of its keys.
    4. Targets: the ones that name this policy, else new ones with a higher version.
    5. Sign both; write the root first, since targets mean nothing without it.

    Raises:
        LintError: The policy must not be signed.
        NotCoveredError: One party alone could sign.
        SetupError: Files are missing, or this key is not among the parties' keys.
        RejectedError: The policy's version was not raised.

    """
    document = read(folder / TARGET_NAME)
    policy = decode_policy(document)
    refusals = lint(policy, now.date())
    if refusals:
        raise LintError(refusals)
    root = _root_of(folder, policy, now)
    check_parties(root.to_bytes(_SERIALIZER), policy)
    signer = _signer_for(root.signed, key)
    targets = _targets_for(folder, document, policy, now)
    for metadata in (root, targets):
        metadata.sign(signer, append=True)
    # A crash in between leaves a root with one signature more than the targets; signing
    # again adds what is missing.
    replace(folder / ROOT_NAME, root.to_bytes(_SERIALIZER), mode=0o644)
    replace(folder / TARGETS_NAME, targets.to_bytes(_SERIALIZER), mode=0o644)
    return standing(folder)


def standing(folder: Path) -> Standing:
    """Return where the folder stands; signatures may still be missing.

    Raises:
        SetupError: Files are missing.
        MalformedError: They are not in their format.

    """
    document, root, targets = _signed(folder)
    return Standing(
        policy=decode_policy(document),
        digest=policy_digest(document).hex(),
        root_sha256=hashlib.sha256(root).hexdigest(),
        signers=signers(root, targets),
        root_expires=_load(root, Root, ROOT_NAME).signed.expires,
        targets_expires=_load(targets, Targets, TARGETS_NAME).signed.expires,
    )


def verified(folder: Path, now: datetime) -> Standing:
    """Return where the folder stands, if it stands: as device and guard will check it.

    Raises:
        WireError: Too few signatures, expired, another digest, or one party alone.
        SetupError: Files are missing.

    """
    document, root, targets = _signed(folder)
    policy = verify(root=root, targets=targets, policy=document, now=now)
    check_parties(root, policy)
    return standing(folder)


def _check_given(parties: Sequence[PublicKey], policy: Policy) -> None:
    """Check that the first root gets a key of each party that the policy names.

    Raises:
        SetupError: One is missing.

    """
    for name in (policy.controller.name, policy.representatives.name):
        if name not in {party.party for party in parties}:
            raise SetupError(
                f"the public policy key of {name} is missing; give --public for each party, "
                "each made with --party as the policy has it"
            )


def _root_of(folder: Path, policy: Policy, now: datetime) -> Metadata[Any]:
    path = folder / ROOT_NAME
    if path.exists():
        return _load(read(path), Root, ROOT_NAME)
    parties = [read_public(file) for file in sorted((folder / PARTIES_NAME).glob("*.json"))]
    if not parties:
        raise SetupError(
            f"{folder / PARTIES_NAME} has no public keys; give --public for each party"
        )
    _check_given(parties, policy)
    root = Root(version=1, expires=_after(now, ROOT_DAYS), consistent_snapshot=True)
    for party in parties:
        _refuse_approver(party)
        for role in SIGNING_ROLES:
            root.add_key(_tuf_key(party), role)
            root.roles[role].threshold = LEAST_THRESHOLD
    return Metadata(root)


def _targets_for(folder: Path, document: bytes, policy: Policy, now: datetime) -> Metadata[Any]:
    path = folder / TARGETS_NAME
    version = 1
    if path.exists():
        there = _load(read(path), Targets, TARGETS_NAME)
        named = there.signed.targets.get(TARGET_NAME)
        same = named is not None and named.hashes.get("sha256") == policy_digest(document).hex()
        if same and not there.signed.is_expired(now):
            return there
        before = (named.custom or {}).get("version", 0) if named is not None else 0
        if not same and policy.version <= before:
            raise RejectedError(
                f"version {before} is signed already; raise version in {TARGET_NAME}"
            )
        version = there.signed.version + 1
    target = TargetFile.from_data(TARGET_NAME, document, ["sha256"])
    target.unrecognized_fields["custom"] = {"version": policy.version}
    signed = Targets(
        version=version, expires=_after(now, TARGETS_DAYS), targets={TARGET_NAME: target}
    )
    return Metadata(signed)


def _signer_for(root: Any, key: Ed25519PrivateKey) -> CryptoSigner:  # noqa: ANN401 - tuf's Root
    mine = SSlibKey.from_crypto(key.public_key())
    if mine.keyid not in root.roles["targets"].keyids:
        raise SetupError("this key is not one of the parties' keys in root.json")
    try:
        return CryptoSigner(key, root.keys[mine.keyid])
    except KeyMismatchError:
        raise SetupError(
            "root.json has another key under the name of yours; make it anew"
        ) from None


def _tuf_key(part: PublicKey) -> SSlibKey:
    key = SSlibKey.from_crypto(part.ed25519())
    key.unrecognized_fields[PARTY_FIELD] = part.party
    return key


def _refuse_approver(part: PublicKey) -> None:
    if part.role is not Role.POLICY:
        raise SetupError(f"the key of {part.name} is an {part.role} key, not a policy key")


def _after(now: datetime, days: int) -> datetime:
    return (now + timedelta(days=days)).replace(microsecond=0)


def _load(data: bytes, kind: type, name: str) -> Metadata[Any]:
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
        _ = metadata.signed_bytes  # what has no canonical form cannot be signed either
    except (DeserializationError, RepositoryError, ValueError) as exc:
        why = str(exc) or "it has no canonical form"
        raise SetupError(f"{name} cannot be read: {why}") from exc
    if not isinstance(metadata.signed, kind):
        raise SetupError(f"{name} is metadata of another role")
    return metadata


def _signed(folder: Path) -> tuple[bytes, bytes, bytes]:
    document = read(folder / TARGET_NAME)
    if not (folder / ROOT_NAME).exists():
        raise SetupError(
            f"nobody has signed the policy in {folder} yet; run assent-govern sign {folder}"
        )
    return document, read(folder / ROOT_NAME), read(folder / TARGETS_NAME)
