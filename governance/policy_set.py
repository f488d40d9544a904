"""The signed policy in one folder: `root.json`, `snapshot.json`, `targets.json`, `policy.json`.

TUF metadata (python-tuf), signed offline: each party in turn runs `sign` on a copy of the
folder with its own key.  `parties/` holds the parties' public keys; where they, the lease keys
that the policy names or the calendar ask for it, `sign` makes the next root (`governance.roots`).
The timestamp is not here: collector and guard make it together, again and again (`wire.lease`).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.exceptions import KeyMismatchError
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]
from tuf.api.metadata import MetaFile, TargetFile  # type: ignore[attr-defined]  # re-exported
from tuf.api.serialization.json import JSONSerializer

from base.durable import replace
from base.errors import RejectedError, SetupError
from governance.files import read
from governance.keys import PublicKey
from governance.lint import Refusal, lint
from governance.roots import (
    ROOT_NAME,
    NextRoot,
    check_earlier,
    keep_earlier,
    keep_parties,
    load,
    next_root,
)
from wire.ids import PolicyDigest
from wire.metadata import Metadata, Root, Snapshot, Targets, sha256
from wire.parties import check_parties, signers
from wire.policy import (
    TARGET_NAME,
    TARGETS_NAME,
    Policy,
    decode_policy,
    policy_digest,
    verify,
)

TARGETS_DAYS: Final = 90  # a policy that nobody confirms any more ends by itself
SNAPSHOT_NAME: Final = "snapshot.json"
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


def sign(
    folder: Path, key: Ed25519PrivateKey, now: datetime, given: Sequence[PublicKey] = ()
) -> Standing:
    """Add this party's signature to root, snapshot and targets; make those that are missing.

    1. The policy passes the lint.
    2. Root: the one that is there, or the next one where keys or calendar ask for it.
    3. No party alone reaches a threshold of that root, and this key is one of its keys, or one
       of those that it replaces: then it signs the root alone.
    4. Targets: the ones that name this policy, else new ones with a higher version; snapshot
       likewise, naming these targets.
    5. Sign all; write the root first, since the others mean nothing without it.

    *given* are the public keys of parties, which go to `parties/`.

    Raises:
        LintError: The policy must not be signed.
        NotCoveredError: One party alone could sign.
        SetupError: Files are missing, or this key is not among the parties' keys.
        RejectedError: The policy's version was not raised, or one party gave two keys.

    """
    document = read(folder / TARGET_NAME)
    policy = decode_policy(document)
    refusals = lint(policy, now.date())
    if refusals:
        raise LintError(refusals)
    planned = next_root(folder, policy, now, given)
    root = planned.root
    check_parties(root.to_bytes(_SERIALIZER), policy)
    signer, signs_all = _signer_for(planned, key)
    targets = _targets_for(folder, document, policy, now, anew=bool(planned.changes))
    snapshot = _snapshot_for(folder, targets, now)
    root.sign(signer, append=True)
    if signs_all:
        for metadata in (snapshot, targets):
            metadata.sign(signer, append=True)
    # A crash in between leaves keys that no root names yet, or a root with one signature more
    # than the targets; signing again adds what is missing.
    keep_parties(folder, given)
    keep_earlier(folder, planned)
    replace(folder / ROOT_NAME, root.to_bytes(_SERIALIZER), mode=0o644)
    replace(folder / SNAPSHOT_NAME, snapshot.to_bytes(_SERIALIZER), mode=0o644)
    replace(folder / TARGETS_NAME, targets.to_bytes(_SERIALIZER), mode=0o644)
    return standing(folder)


def standing(folder: Path) -> Standing:
    """Return where the folder stands; signatures may still be missing.

    Nobody has signed a policy that the targets do not name, whoever signed the one before.

    Raises:
        SetupError: Files are missing, or are no metadata.
        MalformedError: The policy or a signature is not in its format.

    """
    files = _signed(folder)
    root, digest = load(files["root"], Root, ROOT_NAME), policy_digest(files["policy"])
    targets = load(files["targets"], Targets, TARGETS_NAME).signed
    load(files["snapshot"], Snapshot, SNAPSHOT_NAME)
    signed = signers(files["root"], files["targets"])
    return Standing(
        policy=decode_policy(files["policy"]),
        digest=digest.hex(),
        root_sha256=sha256(files["root"]),
        signers=signed if is_named(targets, digest) else dict.fromkeys(signed, False),
        root_expires=root.signed.expires,
        targets_expires=targets.expires,
    )


def is_named(targets: Targets, digest: PolicyDigest) -> bool:
    """Whether whoever signs *targets* signs the policy of *digest*."""
    named = targets.targets.get(TARGET_NAME)
    return named is not None and named.hashes.get("sha256") == digest.hex()


def verified(folder: Path, now: datetime) -> Standing:
    """Return where the folder stands, if it stands: as device and guard will check it.

    Raises:
        WireError: Too few signatures, expired, another digest, one party alone, or an earlier
            root that does not lead to this one.
        SetupError: Files are missing.

    """
    files = _signed(folder)
    check_parties(files["root"], verify(**files, now=now))
    check_earlier(folder, files["root"])
    return standing(folder)


def _targets_for(
    folder: Path, document: bytes, policy: Policy, now: datetime, *, anew: bool
) -> Metadata[Any]:
    path = folder / TARGETS_NAME
    version = 1
    if path.exists():
        there = load(read(path), Targets, TARGETS_NAME)
        named = there.signed.targets.get(TARGET_NAME)
        same = is_named(there.signed, policy_digest(document))
        if same and not anew and not there.signed.is_expired(now):
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


def _snapshot_for(folder: Path, targets: Metadata[Any], now: datetime) -> Metadata[Any]:
    """Return the snapshot that names *targets*; by version, since signatures are still to come."""
    path, version = folder / SNAPSHOT_NAME, 1
    if path.exists():
        there = load(read(path), Snapshot, SNAPSHOT_NAME)
        named = there.signed.meta.get(TARGETS_NAME)
        same = named is not None and named.version == targets.signed.version
        if same and not there.signed.is_expired(now):
            return there
        version = there.signed.version + 1
    meta = {TARGETS_NAME: MetaFile(version=targets.signed.version)}
    return Metadata(Snapshot(version=version, expires=targets.signed.expires, meta=meta))


def _signer_for(planned: NextRoot, key: Ed25519PrivateKey) -> tuple[CryptoSigner, bool]:
    """Return what signs with *key*, and whether it may sign more than the root."""
    mine = SSlibKey.from_crypto(key.public_key())
    root, before = planned.root.signed, planned.before
    if mine.keyid in root.roles["targets"].keyids:
        return _signing(key, root.keys[mine.keyid]), True
    if before is not None and mine.keyid in before.signed.roles["root"].keyids:
        return _signing(key, before.signed.keys[mine.keyid]), False
    raise SetupError("this key is not one of the parties' keys in root.json")


def _signing(key: Ed25519PrivateKey, named: SSlibKey) -> CryptoSigner:
    try:
        return CryptoSigner(key, named)
    except KeyMismatchError:
        raise SetupError(
            "root.json has another key under the name of yours; make it anew"
        ) from None


def _after(now: datetime, days: int) -> datetime:
    return (now + timedelta(days=days)).replace(microsecond=0)


def _signed(folder: Path) -> dict[str, bytes]:
    document = read(folder / TARGET_NAME)
    if not (folder / ROOT_NAME).exists():
        raise SetupError(
            f"nobody has signed the policy in {folder} yet; run assent-govern sign {folder}"
        )
    names = {"root": ROOT_NAME, "snapshot": SNAPSHOT_NAME, "targets": TARGETS_NAME}
    return {"policy": document} | {role: read(folder / name) for role, name in names.items()}
