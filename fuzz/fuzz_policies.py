"""Mutated policies and their TUF metadata into everybody who reads them.

Half of the metadata are signed again after they were changed: that is what a party could do
who holds a key, and it gets past the signatures to whatever reads what was signed.
"""

import json
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.exceptions import FormatError
from securesystemslib.formats import encode_canonical

import agent.consent.policy
import governance.policy_set
import guard.trust
from agent.consent.policy import Fetched
from base.clock import Now
from base.errors import RejectedError, SetupError
from collector import policies
from fuzz.campaign import Tally, Target, attack, scratch
from fuzz.mutation import odd_json
from governance.describe import policy_in_words
from governance.lint import lint
from tests.fakes.organisation import NOW, Organisation, PolicyFolder, raw, wall
from wire.category import Category
from wire.errors import WireError
from wire.parties import check_parties, signers
from wire.policy import Policy, decode_policy

AT: Final = Now(boot=1, wall=wall(NOW), boot_id="fuzz")
Read: TypeAlias = Callable[[Path], object]
FILES: Final = ("root.json", "snapshot.json", "targets.json", "policy.json")


def campaign(count: int, seed: int) -> Tally:
    """Try *count* policies, in turn for each target."""
    with scratch() as folder:
        return attack(targets(folder), count, seed)


def targets(folder: Path) -> tuple[Target, ...]:
    """Return every reader of a policy, below *folder*."""
    org = Organisation()
    signed = org.publish(folder / "signed")
    lease = org.lease(signed)
    policy = org.policy()
    again = _Signers(org)
    both = (SetupError, RejectedError, WireError)
    return (
        Target(
            name="policy",
            decode=_read_policy,
            seeds=(signed.policy,),
            refuses=(WireError,),
            spoil=odd_json,
        ),
        Target(
            name="root",
            decode=lambda data: _read_root(data, policy),
            seeds=(signed.root,),
            refuses=(WireError,),
            spoil=again.spoil,
        ),
        Target(
            name="targets",
            decode=lambda data: signers(signed.root, data),
            seeds=(signed.targets,),
            refuses=(WireError,),
            spoil=again.spoil,
        ),
        *(
            Target(
                name=f"{who}, {name}",
                decode=_WithOne(folder / f"{who}-{name}", signed, name, read),
                seeds=((signed.folder / name).read_bytes(),),
                refuses=refuses,
                spoil=odd_json if name == "policy.json" else again.spoil,
            )
            for name in FILES
            for who, read, refuses in (
                ("agent", lambda where: _by_agent(where, lease), ()),
                ("collector", _by_collector, both),
                ("guard", lambda where: _by_guard(where, org, signed), both),
                ("governance", lambda where: _by_governance(where, org), both),
            )
        ),
    )


# --- who reads ----------------------------------------------------------------------------


def _read_policy(data: bytes) -> object:
    """Decode, then do what governance does with a draft that nobody has signed."""
    policy = decode_policy(data)
    for rule in policy.categories:
        policy.words(Category(rule.category))
    return lint(policy, NOW.date()), policy_in_words(policy)


def _read_root(data: bytes, policy: Policy) -> object:
    check_parties(data, policy)
    return None


def _by_agent(folder: Path, lease: bytes) -> object:
    """Judge what a refresh would have brought."""
    signed = PolicyFolder(folder)
    fetched = Fetched(
        root=signed.root,
        snapshot=signed.snapshot,
        targets=signed.targets,
        policy=signed.policy,
        timestamp=lease,
        boot=AT.boot,
        wall=AT.wall,
        boot_id=AT.boot_id,
        first_boot=AT.boot,
    )
    return agent.consent.policy.judge(fetched, AT)


def _by_collector(folder: Path) -> object:
    return policies.read_folder(folder, wall(NOW))


def _by_guard(folder: Path, org: Organisation, installed: PolicyFolder) -> object:
    own = guard.trust.OwnKeys(
        signing_key=raw(org.guard), witness=org.witness_key, lease_key=raw(org.guard_lease)
    )
    before = guard.trust.read_policy_set(installed.folder)
    offered = guard.trust.read_policy_set(folder)
    return guard.trust.check_successor(offered, before, own, NOW)


def _by_governance(folder: Path, org: Organisation) -> object:
    """Look at the folder, then sign it once more, later."""
    governance.policy_set.standing(folder)
    return governance.policy_set.sign(folder, org.council, NOW + timedelta(days=1))


# --- what is tried ------------------------------------------------------------------------


class _WithOne:
    """Reads a folder in which one of the files is what is tried."""

    def __init__(self, folder: Path, signed: PolicyFolder, name: str, read: Read) -> None:
        self._folder, self._signed, self._name, self._read = folder, signed, name, read
        folder.mkdir()
        signed_parties = signed.folder / "parties"
        (folder / "parties").mkdir()
        for party in signed_parties.iterdir():
            (folder / "parties" / party.name).write_bytes(party.read_bytes())

    def __call__(self, data: bytes) -> object:
        for name in FILES:
            genuine = (self._signed.folder / name).read_bytes()
            (self._folder / name).write_bytes(data if name == self._name else genuine)
        return self._read(self._folder)


class _Signers:
    """The parties' keys, used for what no party would sign."""

    def __init__(self, org: Organisation) -> None:
        self._keys: tuple[Ed25519PrivateKey, ...] = (org.controller, org.council)

    def spoil(self, metadata: bytes, chance: random.Random) -> bytes:
        """Return *metadata* changed, half of the time signed again by everybody."""
        changed = odd_json(metadata, chance)
        if chance.random() < 0.5:
            return changed
        try:
            document = json.loads(metadata)
            document["signed"] = json.loads(
                odd_json(json.dumps(document["signed"]).encode(), chance)
            )
            message = str(encode_canonical(document["signed"])).encode()
            ids = [signature["keyid"] for signature in document["signatures"]]
        except (ValueError, TypeError, FormatError, RecursionError):
            return changed
        # Which id is whose does not matter: each is tried with each key.
        document["signatures"] = [
            {"keyid": keyid, "sig": key.sign(message).hex()}
            for keyid, key in zip(ids, chance.sample(self._keys, len(self._keys)), strict=True)
        ]
        return json.dumps(document).encode()
