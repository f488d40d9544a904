"""Attacks on the signed policy, each by its name and each refused."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.errors import RejectedError, SetupError
from governance import policy_set, roots
from governance.keys import PublicKey, Role
from tests.fakes.organisation import (
    CONTROLLER,
    COUNCIL,
    NOW,
    Organisation,
    PolicyFolder,
    b64,
    ed25519,
    raw,
)
from wire.errors import ForgedError, NotCoveredError, WireError
from wire.lease import verify_lease
from wire.metadata import follow_roots, root_of
from wire.parties import check_parties
from wire.policy import Party, encode_policy, policy_digest


@pytest.fixture
def acme() -> Organisation:
    return Organisation()


def prepare(acme: Organisation, folder: Path, **changes: object) -> Path:
    """Write an unsigned policy and the parties' public keys."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.json").write_bytes(encode_policy(acme.policy(**changes)))
    acme.name_parties(folder)
    return folder


def party(folder: Path, file: str, name: str, key: Ed25519PrivateKey) -> None:
    part = PublicKey(role=Role.POLICY, party=name, name=name, key=b64(raw(key)))
    (folder / "parties" / f"{file}.json").write_bytes(msgspec.json.encode(part))


def rewrite(path: Path, change: Any) -> None:  # noqa: ANN401 - a function on plain JSON
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def test_a_policy_signed_by_both_parties_verifies(acme: Organisation, tmp_path: Path) -> None:
    """Two offline signatures, one after the other, are enough and needed."""
    folder = prepare(acme, tmp_path)
    first = policy_set.sign(folder, acme.controller, NOW)
    assert first.signers == {CONTROLLER: True, COUNCIL: False}
    with pytest.raises(ForgedError, match="1/2"):
        policy_set.verified(folder, NOW)

    second = policy_set.sign(folder, acme.council, NOW)

    assert second.signers == {CONTROLLER: True, COUNCIL: True}
    standing = policy_set.verified(folder, NOW)
    assert standing.policy == acme.policy()
    assert standing.digest == policy_digest((folder / "policy.json").read_bytes()).hex()


def test_one_party_that_signs_twice_is_one_party(acme: Organisation, tmp_path: Path) -> None:
    """The same key again changes nothing."""
    folder = prepare(acme, tmp_path)
    policy_set.sign(folder, acme.controller, NOW)
    policy_set.sign(folder, acme.controller, NOW)
    with pytest.raises(ForgedError, match="1/2"):
        policy_set.verified(folder, NOW)


def test_two_keys_of_one_party_are_refused_before_anything_is_signed(
    acme: Organisation, tmp_path: Path
) -> None:
    """A controller that brings a second key of its own cannot even make the root."""
    folder = prepare(acme, tmp_path)
    party(folder, "3", CONTROLLER, ed25519())
    with pytest.raises(NotCoveredError, match="alone"):
        policy_set.sign(folder, acme.controller, NOW)
    assert not (folder / "root.json").exists()


def test_a_third_party_cannot_replace_the_representatives(
    acme: Organisation, tmp_path: Path
) -> None:
    """With a threshold of two, a friend of the controller would be enough; so it is refused."""
    folder = prepare(acme, tmp_path)
    party(folder, "3", "A Friend Ltd", ed25519())
    with pytest.raises(NotCoveredError, match=f"without {COUNCIL}"):
        policy_set.sign(folder, acme.controller, NOW)


def test_a_policy_without_the_representatives_key_is_refused(
    acme: Organisation, tmp_path: Path
) -> None:
    """Somebody else's key in their place does not do; it is said what to give."""
    folder = prepare(acme, tmp_path)
    acme.name_parties(folder, council="A Friend Ltd")
    with pytest.raises(SetupError, match=f"key of {COUNCIL} is missing; give --public"):
        policy_set.sign(folder, acme.controller, NOW)


def test_a_root_in_which_a_party_has_no_key_is_refused(acme: Organisation, tmp_path: Path) -> None:
    """Whoever made it: what the representatives never signed is not theirs."""
    root = acme.publish(tmp_path).root
    friend = Party(name="A Friend Ltd", contact="friend@example")
    with pytest.raises(NotCoveredError, match="A Friend Ltd holds no root key"):
        check_parties(root, acme.policy(representatives=friend))


def test_one_key_under_two_names_counts_once(acme: Organisation, tmp_path: Path) -> None:
    """TUF counts key ids; a root in which two ids are one key is refused all the same."""
    published = acme.publish(tmp_path)

    def twice(root: Any) -> None:  # noqa: ANN401
        keys = root["signed"]["keys"]
        mine, other = (
            next(i for i, key in keys.items() if key["x-assent-party"] == name)
            for name in (CONTROLLER, COUNCIL)
        )
        keys[other]["keyval"] = keys[mine]["keyval"]

    rewrite(tmp_path / "root.json", twice)
    with pytest.raises(WireError):
        policy_set.verified(tmp_path, NOW)
    with pytest.raises(NotCoveredError, match="twice"):
        check_parties(published.root, acme.policy())


def test_a_threshold_of_one_is_refused(acme: Organisation, tmp_path: Path) -> None:
    """Whoever lowers the threshold in the root is told so."""
    published = acme.publish(tmp_path)
    rewrite(
        tmp_path / "root.json", lambda root: root["signed"]["roles"]["targets"].update(threshold=1)
    )
    with pytest.raises(NotCoveredError, match="two is least"):
        check_parties(published.root, acme.policy())
    with pytest.raises(ForgedError):
        policy_set.verified(tmp_path, NOW)


def test_a_policy_changed_after_signing_is_refused(acme: Organisation, tmp_path: Path) -> None:
    """One byte more, and the digest is another."""
    acme.publish(tmp_path)
    with (tmp_path / "policy.json").open("ab") as file:
        file.write(b"\n")
    with pytest.raises(ForgedError):
        policy_set.verified(tmp_path, NOW)


@pytest.mark.parametrize(("days", "what"), [(91, "targets"), (366, "root")])
def test_signatures_end_by_themselves(
    acme: Organisation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, what: str
) -> None:
    """Targets are good for 90 days, the root for a year if nobody renews it."""
    monkeypatch.setattr(roots, "RENEW_DAYS", 0)
    folder = prepare(acme, tmp_path)
    policy_set.sign(folder, acme.controller, NOW)
    policy_set.sign(folder, acme.council, NOW)
    if what == "root":  # keep the targets fresh
        for key in (acme.controller, acme.council):
            policy_set.sign(folder, key, NOW + timedelta(days=days - 200))
            policy_set.sign(folder, key, NOW + timedelta(days=days - 80))
    policy_set.verified(folder, NOW + timedelta(days=days - 2))
    with pytest.raises(ForgedError, match=f"{what} metadata expired"):
        policy_set.verified(folder, NOW + timedelta(days=days))


def test_the_metadata_of_one_policy_do_not_sign_another(acme: Organisation, tmp_path: Path) -> None:
    """Mix and match: root and targets of version 1 with the policy of version 2."""
    acme.publish(tmp_path / "one")
    acme.publish(tmp_path / "two", acme.policy(version=2))
    (tmp_path / "one/policy.json").write_bytes((tmp_path / "two/policy.json").read_bytes())
    with pytest.raises(ForgedError):
        policy_set.verified(tmp_path / "one", NOW)


def test_metadata_that_nobody_can_sign_are_refused_in_one_line(
    acme: Organisation, tmp_path: Path
) -> None:
    """A number with a point has no canonical form, so there is nothing to put a name under."""
    acme.publish(tmp_path)
    root = json.loads((tmp_path / "root.json").read_text())
    root["signed"]["x-half"] = 0.5
    (tmp_path / "root.json").write_text(json.dumps(root))
    with pytest.raises(SetupError, match="cannot be read: it has no canonical form"):
        policy_set.sign(tmp_path, acme.controller, NOW)


def test_a_new_policy_needs_a_higher_version_and_both_signatures_again(
    acme: Organisation, tmp_path: Path
) -> None:
    """Rolling back is refused, and an old signature does not cover a new policy."""
    acme.publish(tmp_path)
    (tmp_path / "policy.json").write_bytes(encode_policy(acme.policy(hold_seconds=900)))
    with pytest.raises(RejectedError, match="raise version"):
        policy_set.sign(tmp_path, acme.controller, NOW)

    (tmp_path / "policy.json").write_bytes(encode_policy(acme.policy(hold_seconds=900, version=2)))
    half = policy_set.sign(tmp_path, acme.controller, NOW)
    assert half.signers == {CONTROLLER: True, COUNCIL: False}
    policy_set.sign(tmp_path, acme.council, NOW)
    assert policy_set.verified(tmp_path, NOW).policy.hold_seconds == 900


def test_a_refused_policy_is_not_signed(acme: Organisation, tmp_path: Path) -> None:
    """The lint stands before every signature, and nothing is written when it refuses."""
    folder = prepare(acme, tmp_path, hold_seconds=0)
    with pytest.raises(policy_set.LintError, match="no-hold"):
        policy_set.sign(folder, acme.controller, NOW)
    assert not (folder / "root.json").exists()
    assert not (folder / "targets.json").exists()


def test_a_stranger_cannot_sign(acme: Organisation, tmp_path: Path) -> None:
    """A key that is not in the root is told so, and leaves no trace."""
    folder = prepare(acme, tmp_path)
    policy_set.sign(folder, acme.controller, NOW)
    before = (folder / "targets.json").read_bytes()
    with pytest.raises(SetupError, match="not one of the parties' keys"):
        policy_set.sign(folder, ed25519(), NOW)
    assert (folder / "targets.json").read_bytes() == before


def test_another_key_under_the_name_of_ones_own_is_told_in_one_line(
    acme: Organisation, tmp_path: Path
) -> None:
    """A key id is only a name: a root may have something else under it."""
    folder = prepare(acme, tmp_path)
    policy_set.sign(folder, acme.controller, NOW)
    mine, other = (raw_hex(key) for key in (acme.council, ed25519()))
    root = (folder / "root.json").read_text("utf-8")
    assert root.count(mine) == 1
    (folder / "root.json").write_text(root.replace(mine, other), "utf-8")
    with pytest.raises(SetupError, match="another key under the name of yours"):
        policy_set.sign(folder, acme.council, NOW)


def raw_hex(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def test_an_approver_key_signs_no_policy(acme: Organisation, tmp_path: Path) -> None:
    """What may be asked and who may open are decided with different keys."""
    folder = prepare(acme, tmp_path)
    part = PublicKey(role=Role.APPROVER, party=COUNCIL, name=COUNCIL, key=b64(raw(acme.council)))
    (folder / "parties/2.json").write_bytes(msgspec.json.encode(part))
    with pytest.raises(SetupError, match="approver key"):
        policy_set.sign(folder, acme.controller, NOW)


def test_a_signature_that_only_says_it_is_one_counts_for_nothing(
    acme: Organisation, tmp_path: Path
) -> None:
    """The council's key id with the controller's signature under it is no signature."""
    folder = prepare(acme, tmp_path)
    policy_set.sign(folder, acme.controller, NOW)

    def pretend(targets: Any) -> None:  # noqa: ANN401
        root = json.loads((folder / "root.json").read_bytes())
        ids = root["signed"]["roles"]["targets"]["keyids"]
        (mine,) = targets["signatures"]
        other = next(i for i in ids if i != mine["keyid"])
        targets["signatures"].append({"keyid": other, "sig": mine["sig"]})

    rewrite(folder / "targets.json", pretend)
    assert policy_set.standing(folder).signers == {CONTROLLER: True, COUNCIL: False}
    with pytest.raises(ForgedError):
        policy_set.verified(folder, NOW)


# --- the next root ------------------------------------------------------------------------


def everyone_signs(acme: Organisation, folder: Path, at: datetime = NOW) -> None:
    for key in (acme.controller, acme.council):
        policy_set.sign(folder, key, at)


def test_a_root_is_renewed_before_what_it_signs_outlives_it(
    acme: Organisation, tmp_path: Path
) -> None:
    """By whoever signs in time; the one of before stays, for devices that trust it."""
    first = acme.publish(tmp_path).root
    later = NOW + timedelta(days=285)
    everyone_signs(acme, tmp_path, later)
    assert (tmp_path / "1.root.json").read_bytes() == first
    follow_roots(first, [(tmp_path / "root.json").read_bytes()])
    policy_set.verified(tmp_path, NOW + timedelta(days=370))


def test_a_new_key_needs_the_old_one_and_itself(acme: Organisation, tmp_path: Path) -> None:
    """Version 2 of the root counts with the threshold of both; half of it is nothing."""
    first = acme.publish(tmp_path).root
    old, acme.council = acme.council, ed25519()
    acme.name_parties(tmp_path)
    policy_set.sign(tmp_path, acme.controller, NOW)
    policy_set.sign(tmp_path, acme.council, NOW)
    root = (tmp_path / "root.json").read_bytes()
    root_of(root)  # by the new keys all is well
    with pytest.raises(ForgedError, match="1/2"):
        follow_roots(first, [root])
    with pytest.raises(ForgedError, match="1/2"):
        policy_set.verified(tmp_path, NOW)
    policy_set.sign(tmp_path, old, NOW)
    follow_roots(first, [(tmp_path / "root.json").read_bytes()])
    policy_set.verified(tmp_path, NOW)


def test_two_new_keys_cannot_take_over(acme: Organisation, tmp_path: Path) -> None:
    """Whoever replaces both keys at once signs a root that nobody follows."""
    first = acme.publish(tmp_path).root
    acme.controller, acme.council = ed25519(), ed25519()
    acme.name_parties(tmp_path)
    everyone_signs(acme, tmp_path)
    with pytest.raises(ForgedError, match="0/2"):
        follow_roots(first, [(tmp_path / "root.json").read_bytes()])


def test_another_lease_key_in_the_policy_makes_the_next_root(
    acme: Organisation, tmp_path: Path
) -> None:
    """The policy names it, the parties sign it, and the lease of before ends."""
    before = acme.publish(tmp_path)
    first, lease = before.root, acme.lease(before)
    acme.guard_lease = ed25519()
    (tmp_path / "policy.json").write_bytes(encode_policy(acme.policy(version=2)))
    everyone_signs(acme, tmp_path)
    now = PolicyFolder(tmp_path)
    follow_roots(first, [now.root])
    verify_lease(root=now.root, snapshot=now.snapshot, timestamp=acme.lease(now))
    with pytest.raises(ForgedError):
        verify_lease(root=now.root, snapshot=now.snapshot, timestamp=lease)


def test_a_root_whose_lease_keys_are_not_the_policys_is_refused(
    acme: Organisation, tmp_path: Path
) -> None:
    """Two keys of the collector would be a lease without the guard."""
    root = acme.publish(tmp_path).root
    other = msgspec.structs.replace(acme.policy().guard, lease_key=b64(raw(ed25519())))
    with pytest.raises(NotCoveredError, match="not those of the policy"):
        check_parties(root, acme.policy(guard=other))
    same = msgspec.structs.replace(acme.policy().guard, lease_key=acme.policy().collector.lease_key)
    with pytest.raises(NotCoveredError, match="two signatures"):
        check_parties(root, acme.policy(guard=same))


def test_a_lease_key_signs_no_policy(acme: Organisation, tmp_path: Path) -> None:
    """A root in which the collector's online key is a policy key, too, is refused."""
    folder = prepare(acme, tmp_path)
    acme.collector_lease = acme.controller
    (folder / "policy.json").write_bytes(encode_policy(acme.policy()))
    with pytest.raises(NotCoveredError, match="holds no root key"):
        policy_set.sign(folder, acme.controller, NOW)
