"""The root of a policy folder: who can sign, and how one root follows another.

`root.json` is the newest, `N.root.json` those before it.  A new one is made when a party has
another key in `parties/`, when the policy names other lease keys, or when the old one would
expire before what it signs.  It counts once the threshold of the old keys and the threshold of
the new ones have signed it (the TUF specification, 6.1); who lost a key cannot do that alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import Key, SSlibKey  # type: ignore[attr-defined]

from base.durable import private_folder, replace
from base.errors import RejectedError, SetupError
from governance.files import read
from governance.keys import PublicKey, Role, encode_public, read_public
from wire.errors import ForgedError, MalformedError
from wire.lease import tuf_key
from wire.metadata import (
    Metadata,
    Root,
    Timestamp,
    check_line,
    follow_roots,
    metadata_of,
    root_of,
)
from wire.parties import LEAST_THRESHOLD, PARTY_FIELD, SIGNING_ROLES, party_of
from wire.policy import Policy

ROOT_NAME: Final = "root.json"
PARTIES_NAME: Final = "parties"
ROOT_DAYS: Final = 365  # keys are looked at again each year
RENEW_DAYS: Final = 90  # what a root signs lives so long, and must not outlive it


@dataclass(frozen=True, slots=True, kw_only=True)
class NextRoot:
    """The root to sign; `before` is the one that it follows, if any.

    `changes` say in words what is new about it; empty when it is the one that is there.
    """

    root: Metadata[Any]
    before: Metadata[Any] | None
    changes: tuple[str, ...]


def next_root(
    folder: Path, policy: Policy, now: datetime, given: Sequence[PublicKey] = ()
) -> NextRoot:
    """Return the root to sign: the one in *folder*, or the one that has to follow it.

    *given* are public keys of parties that are not in `parties/` yet, or take a place there.

    Raises:
        SetupError: The parties' keys are missing or none, or what is there cannot be read.
        RejectedError: One party gave two keys for the first root.
        MalformedError: A lease key is none.

    """
    there = _newest(folder)
    parties = _parties(folder, there, given)
    _check_given(parties, policy)
    keys = _wanted(parties, policy)
    if there is None:
        return NextRoot(root=_root(1, keys, now), before=None, changes=("the first root",))
    before = _before(folder, there)
    changes = _changes(there.signed, keys, now)
    if not changes:
        return NextRoot(root=there, before=before, changes=())
    if not _counts(there, before):
        # Nobody can have come to trust it, so it needs no successor.
        version = there.signed.version
        return NextRoot(root=_root(version, keys, now), before=before, changes=changes)
    version = there.signed.version + 1
    return NextRoot(root=_root(version, keys, now), before=there, changes=changes)


def keep_earlier(folder: Path, planned: NextRoot) -> None:
    """Keep the root that the new one follows, for all who still trust that one."""
    if planned.before is not None:
        path = folder / f"{planned.before.signed.version}.root.json"
        if not path.exists():
            replace(path, read(folder / ROOT_NAME), mode=0o644)


def keep_parties(folder: Path, given: Sequence[PublicKey]) -> None:
    """Keep the keys that were *given*, for whoever signs next."""
    for part in given:
        kept = private_folder(folder / PARTIES_NAME) / _file_of(part)
        replace(kept, encode_public(part), mode=0o644)


def load(data: bytes, kind: type, name: str) -> Metadata[Any]:
    """Return the metadata in the file *name*.

    Raises:
        SetupError: It is none, or of another role.

    """
    try:
        return metadata_of(data, kind)
    except MalformedError as exc:
        raise SetupError(f"{name} cannot be read: {exc}") from exc


def _newest(folder: Path) -> Metadata[Any] | None:
    path = folder / ROOT_NAME
    return load(read(path), Root, ROOT_NAME) if path.exists() else None


def check_earlier(folder: Path, root: bytes) -> None:
    """Check that the roots that are kept in *folder* lead to *root*.

    Raises:
        SetupError: One cannot be read.
        WireError: One is no root, is missing, or does not lead to the next.

    """
    earlier = {int(path.name.partition(".")[0]): path for path in _kept(folder)}
    check_line([*(read(path) for _number, path in sorted(earlier.items())), root])


def _kept(folder: Path) -> Iterator[Path]:
    return (p for p in folder.glob(f"*.{ROOT_NAME}") if p.name.partition(".")[0].isdecimal())


def _before(folder: Path, root: Metadata[Any]) -> Metadata[Any] | None:
    path = folder / f"{root.signed.version - 1}.root.json"
    return load(read(path), Root, path.name) if path.exists() else None


def _counts(root: Metadata[Any], before: Metadata[Any] | None) -> bool:
    try:
        root_of(root.to_bytes())
        if before is not None:
            follow_roots(before.to_bytes(), [root.to_bytes()])
    except ForgedError:
        return False
    return True


def _parties(
    folder: Path, there: Metadata[Any] | None, given: Sequence[PublicKey]
) -> list[tuple[str, Key]]:
    """Return each party's key: from `parties/`, or from the root where that was left behind."""
    files = sorted((folder / PARTIES_NAME).glob("*.json"))
    parts = {file.name: read_public(file) for file in files}
    for part in given:
        if there is None and parts.get(_file_of(part), part) != part:
            raise RejectedError(f"{part.party} gave two keys; one party signs with one key")
        parts[_file_of(part)] = part
    for part in parts.values():
        _refuse_approver(part)
    if parts:
        return [(part.party, SSlibKey.from_crypto(part.ed25519())) for part in parts.values()]
    if there is None:
        raise SetupError(
            f"{folder / PARTIES_NAME} has no public keys; give --public for each party"
        )
    keys = [there.signed.keys[keyid] for keyid in _keyids(there, "root")]
    return [(party_of(key), key) for key in keys]


def _keyids(root: Metadata[Any], role: str) -> list[str]:
    return [keyid for keyid in root.signed.roles[role].keyids if keyid in root.signed.keys]


def _wanted(parties: Sequence[tuple[str, Key]], policy: Policy) -> dict[str, list[Key]]:
    """Return the keys of each role."""
    signing: list[Key] = [_named(key, party) for party, key in parties]
    lease = [
        _named(tuf_key(policy.collector.lease_key), policy.collector.origin),
        _named(tuf_key(policy.guard.lease_key), policy.guard.run_by),
    ]
    wanted = dict.fromkeys(SIGNING_ROLES, signing)
    wanted[Timestamp.type] = lease
    return wanted


def _named(key: Key, party: str) -> Key:
    key.unrecognized_fields[PARTY_FIELD] = party
    return key


def _root(version: int, keys: Mapping[str, list[Key]], now: datetime) -> Metadata[Any]:
    expires = (now + timedelta(days=ROOT_DAYS)).replace(microsecond=0)
    root = Root(version=version, expires=expires, consistent_snapshot=True)
    for role, of_role in keys.items():
        for key in of_role:
            root.add_key(key, role)
        root.roles[role].threshold = LEAST_THRESHOLD
    return Metadata(root)


def _changes(root: Root, keys: Mapping[str, list[Key]], now: datetime) -> tuple[str, ...]:
    """Return in words what is not as *keys* and the calendar ask for."""
    said = []
    for role, of_role in keys.items():
        gone = set(root.roles[role].keyids) - {key.keyid for key in of_role}
        new = [key for key in of_role if key.keyid not in root.roles[role].keyids]
        said += [f"a new {role} key of {party_of(key)}" for key in new]
        if gone and not new:
            said.append(f"{len(gone)} {role} key{'s' * (len(gone) > 1)} less")
    if root.expires < now + timedelta(days=RENEW_DAYS):
        said.append(f"the root of before expires on {root.expires:%Y-%m-%d}")
    return tuple(said)


def _check_given(parties: Sequence[tuple[str, Key]], policy: Policy) -> None:
    for name in (policy.controller.name, policy.representatives.name):
        if name not in dict(parties):
            raise SetupError(
                f"the public policy key of {name} is missing; give --public for each party, "
                "each made with --party as the policy has it"
            )


def _file_of(part: PublicKey) -> str:
    return "".join(c if c.isalnum() else "-" for c in part.party.lower()) + ".json"


def _refuse_approver(part: PublicKey) -> None:
    if part.role is not Role.POLICY:
        raise SetupError(f"the key of {part.name} is an {part.role} key, not a policy key")
