"""The files of the guard's own keys, at every step of a change, and its commands."""

import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from base import durable
from base.clock import NANOSECONDS, SystemClock
from base.command import outcome
from base.errors import ExitCode, SetupError
from base.paths import paths_for
from base.pki import Role
from governance.__main__ import cli as govern_cli
from guard import rings
from guard.__main__ import cli
from guard.keys_commands import following
from guard.premises import Premises
from guard.rings import FORMER_SECONDS, Chest, Kind, Ring, held
from guard.trust import OwnKeys, OwnWitness, install, load
from guard.witness import Cosigned, Submission
from tests.fakes.organisation import MONTH, WITNESS_NAME, Organisation, ed25519, raw, wall
from tests.fakes.organisation import NOW as DAY
from tests.fakes.served import found_guard, serve_guard
from wire.category import Category
from wire.errors import ForgedError, WireError
from wire.guard_follows import sign_following, three_of, witness_followed
from wire.guard_http import KeyAnswer, KeyRequest, verify_key
from wire.ids import WallInstant
from wire.narrowing import widened
from wire.policy import Guard, Policy, Witness, decode_policy, encode_policy
from wire.tlog import ALGORITHM_COSIGNATURE, verifier_key, verify_cosignature

NOW = WallInstant(SystemClock().now().wall)
LATER = WallInstant(NOW + (FORMER_SECONDS + 1) * NANOSECONDS)


@pytest.fixture
def chest(tmp_path: Path) -> Chest:
    made = Chest(tmp_path, tuple(Kind))
    made.make_first()
    return made


def names(chest: Chest) -> list[str]:
    return sorted(path.name for path in chest.folder.iterdir())


def public(chest: Chest, *, coming: bool = False) -> tuple[bytes, ...]:
    keys = [chest.announced(kind) if coming else chest.now(kind) for kind in Kind]
    return tuple(raw(key) for key in keys if key is not None)


FIRST = ["lease.key", "signing.key", "witness.key"]


def test_what_is_announced_is_the_same_each_time_and_changes_nothing(chest: Chest) -> None:
    """But that everybody may have a signature by it, too."""
    present = public(chest)
    assert public(chest, coming=True) == ()
    chest.announce()
    coming = public(chest, coming=True)
    chest.announce()
    assert public(chest, coming=True) == coming
    assert public(chest) == present
    assert not chest.settle(present, NOW)
    ring = chest.ring(Kind.SIGNING, NOW)
    assert [raw(key) for key in ring.every] == [present[0], coming[0]]


def test_the_change_leaves_the_former_keys_for_as_long_as_a_lease_lasts(chest: Chest) -> None:
    """Then they are destroyed, and not before."""
    former = public(chest)
    chest.announce()
    coming = public(chest, coming=True)
    assert chest.settle(coming, NOW)
    assert not chest.settle(coming, LATER)
    assert public(chest) == coming
    assert [raw(key) for key in chest.ring(Kind.LEASE, NOW).every] == [coming[2], former[2]]
    assert not chest.retire(NOW)
    assert [raw(key) for key in chest.ring(Kind.LEASE, LATER).every] == [coming[2]]
    assert chest.retire(LATER)
    assert not chest.retire(LATER)
    assert names(chest) == sorted([*FIRST, "keys.switched.json"])


class PowerCutError(Exception):
    """The machine goes off."""


STEPS = range(1, 16)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("persisted", [True, False], ids=["persisted", "lost"])
def test_a_crash_at_any_write_of_the_change_loses_no_key(
    chest: Chest, monkeypatch: pytest.MonkeyPatch, *, step: int, persisted: bool
) -> None:
    """The policy names the next ones: they are there, and the same call goes on."""
    former = public(chest)
    chest.announce()
    coming = public(chest, coming=True)
    left = step

    def failing(real: Callable[..., None]) -> Callable[..., None]:
        def write(*args: object, **kwargs: object) -> None:
            nonlocal left
            left -= 1
            if left == 0 and not persisted:
                raise PowerCutError
            real(*args, **kwargs)
            if left == 0:
                raise PowerCutError

        return write

    with monkeypatch.context() as patched:
        patched.setattr(rings, "replace", failing(durable.replace))
        patched.setattr(rings, "remove", failing(durable.remove))
        try:
            chest.settle(coming, NOW)
            whole = True
        except PowerCutError:
            whole = False
    assert whole == (step > 13)  # three times four, and when it was
    for number, kind in enumerate(Kind):
        ring = chest.ring(kind, NOW)
        assert raw(ring.led_by(coming[number]).now) == coming[number]
        assert former[number] in {raw(key) for key in ring.every}
    chest.settle(coming, NOW)
    assert public(chest) == coming
    beside = [f"{kind}.former.key" for kind in Kind]
    assert names(chest) == sorted([*FIRST, *beside, "keys.switched.json"])
    for number, kind in enumerate(Kind):
        every = [raw(key) for key in chest.ring(kind, NOW).every]
        assert every == [coming[number], former[number]]


def test_a_change_revives_no_keys_of_the_change_before(
    chest: Chest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nobody had asked since, and it dies right after the new date."""
    oldest = public(chest)
    chest.announce()
    chest.settle(public(chest, coming=True), NOW)
    chest.announce()

    def dated(path: Path, data: bytes) -> None:
        durable.replace(path, data)
        raise PowerCutError

    monkeypatch.setattr(rings, "replace", dated)
    with pytest.raises(PowerCutError):
        chest.settle(public(chest, coming=True), LATER)
    for number, kind in enumerate(Kind):
        assert oldest[number] not in {raw(key) for key in chest.ring(kind, LATER).every}


def test_a_crash_while_they_are_announced_leaves_some_that_nobody_was_told(chest: Chest) -> None:
    """The next call makes the others."""
    chest.announce()
    kept = public(chest, coming=True)
    (chest.folder / "lease.next.key").unlink()
    assert public(chest, coming=True) == ()
    chest.announce()
    assert public(chest, coming=True)[:2] == kept[:2]


def test_former_keys_of_which_nobody_knows_since_when_are_good_no_more(chest: Chest) -> None:
    """As where the folder was put together from two copies."""
    chest.announce()
    chest.settle(public(chest, coming=True), NOW)
    chest.switched_file.write_bytes(b"{")
    assert len(chest.ring(Kind.SIGNING, NOW).every) == 1
    assert chest.retire(NOW)


def test_a_key_that_is_not_there_leads_nothing() -> None:
    """And no other one takes its place."""
    key = ed25519()
    assert raw(held(key)().led_by(raw(key)).now) == raw(key)
    with pytest.raises(SetupError, match="restore"):
        Ring(key).led_by(raw(ed25519()))


# --- the commands -------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSENT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return tmp_path / "home"


def guard(*args: object) -> int:
    return outcome(cli, "assent-guard", [str(arg) for arg in args], refusals=(WireError,))


def govern(*args: object) -> int:
    return outcome(govern_cli, "assent-govern", [str(arg) for arg in args], refusals=(WireError,))


INIT = (
    *("init", "--origin", "https://127.0.0.1:8444", "--tenant", "acme"),
    *("--name", WITNESS_NAME),
)


def premises() -> Premises:
    return Premises(paths_for("guard"))


@pytest.fixture
def acme(home: Path) -> Organisation:
    """An organisation whose policies name the guard at home."""
    assert not home.exists()
    assert guard(*INIT) == ExitCode.DONE
    made, ours = Organisation(), premises()
    made.guard, made.witness = ours.signing_key(), ours.witness_key()
    made.guard_lease = ours.lease_key()
    return made


def signs(acme: Organisation, folder: Path, policy: Policy) -> Path:
    acme.publish(folder, policy, at=datetime.now(UTC))
    return folder


def test_the_way_of_the_guide_asks_nobody_again(
    acme: Organisation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Announce, rotate, sign, trust: three commands, and a policy that widens nothing."""
    folder, entry = tmp_path / "policy", tmp_path / "guard.json"
    before = acme.policy()
    assert guard("trust", signs(acme, folder, before), "--yes") == ExitCode.DONE
    assert guard("keys", "announce", "--out", entry) == ExitCode.DONE
    assert guard("keys", "announce") == ExitCode.DONE
    said = capsys.readouterr().out
    assert said.count(entry.read_text()) == 2
    assert guard("status") == ExitCode.DONE
    assert "next keys" in capsys.readouterr().out
    assert govern("guard", "rotate", folder / "policy.json", entry) == ExitCode.DONE
    assert "No consent becomes stale" in capsys.readouterr().out
    after = decode_policy((folder / "policy.json").read_bytes())
    assert not any(widened(before, after).values())
    assert govern("lint", folder / "policy.json") == ExitCode.DONE
    assert guard("trust", signs(acme, folder, after), "--yes") == ExitCode.DONE
    assert "next keys, which take the place" in capsys.readouterr().out
    own = premises().own_keys()
    assert isinstance(own, OwnKeys)
    assert own.three == (after.guard.signing_key, after.guard.witness, after.guard.lease_key)
    assert premises().next_keys() is None
    assert guard("status") == ExitCode.DONE
    assert "former keys" in capsys.readouterr().out
    for path in (tmp_path / "home/config").glob("*.key"):
        assert path.stat().st_mode & 0o077 == 0


def test_a_second_change_makes_a_line_of_three(acme: Organisation, tmp_path: Path) -> None:
    """Who skipped the policy between finds its keys in it."""
    folder, entry = tmp_path / "policy", tmp_path / "guard.json"
    first = acme.policy()
    assert guard("trust", signs(acme, folder, first), "--yes") == ExitCode.DONE
    policy = first
    for _ in range(2):
        assert guard("keys", "announce", "--out", entry) == ExitCode.DONE
        assert govern("guard", "rotate", folder / "policy.json", entry) == ExitCode.DONE
        policy = decode_policy((folder / "policy.json").read_bytes())
        assert guard("trust", signs(acme, folder, policy), "--yes") == ExitCode.DONE
    assert len(policy.guard.follows) == 2
    assert not any(widened(first, policy).values())


def changed(policy: Policy, **keys: str) -> Policy:
    made = msgspec.structs.replace(policy.guard, **keys)
    return msgspec.structs.replace(policy, version=policy.version + 1, guard=made)


def test_a_policy_that_mixes_the_sets_or_names_a_former_key_is_refused(
    acme: Organisation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The guard that is meant by it does not exist; the installed policy stays."""
    folder, entry = tmp_path / "policy", tmp_path / "guard.json"
    before = acme.policy()
    assert guard("trust", signs(acme, folder, before), "--yes") == ExitCode.DONE
    assert guard("keys", "announce", "--out", entry) == ExitCode.DONE
    coming = msgspec.json.decode(entry.read_bytes(), type=Guard)
    mixed = changed(before, witness=coming.witness)
    refused = signs(acme, tmp_path / "mixed", mixed)
    capsys.readouterr()
    assert guard("trust", refused, "--yes") != ExitCode.DONE
    assert "another guard" in capsys.readouterr().err
    assert govern("guard", "rotate", folder / "policy.json", entry) == ExitCode.DONE
    after = decode_policy((folder / "policy.json").read_bytes())
    assert guard("trust", signs(acme, folder, after), "--yes") == ExitCode.DONE
    back = changed(
        after,
        signing_key=before.guard.signing_key,
        witness=before.guard.witness,
        lease_key=before.guard.lease_key,
    )
    back = msgspec.structs.replace(back, guard=msgspec.structs.replace(back.guard, follows=()))
    signed = signs(acme, folder, back)
    capsys.readouterr()
    assert guard("trust", signed, "--yes") != ExitCode.DONE
    assert "another guard" in capsys.readouterr().err
    installed = load(premises().policy_file)
    assert installed is not None
    assert decode_policy(installed.policy) == after


def test_announced_keys_are_taken_back_until_a_policy_names_them(
    acme: Organisation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then others are announced, and a policy with the first ones is for nobody."""
    folder, entry = tmp_path / "policy", tmp_path / "guard.json"
    assert guard("keys", "announce") != ExitCode.DONE  # there is no policy that names any
    assert guard("trust", signs(acme, folder, acme.policy()), "--yes") == ExitCode.DONE
    assert guard("keys", "take-back", "--yes") == ExitCode.SETUP
    assert guard("keys", "announce", "--out", entry) == ExitCode.DONE
    assert guard("keys", "take-back", "--yes") == ExitCode.DONE
    assert premises().next_keys() is None
    assert guard("keys", "announce") == ExitCode.DONE
    assert govern("guard", "rotate", folder / "policy.json", entry) == ExitCode.DONE
    after = decode_policy((folder / "policy.json").read_bytes())
    capsys.readouterr()
    assert guard("trust", signs(acme, folder, after), "--yes") != ExitCode.DONE
    assert "another guard" in capsys.readouterr().err


def test_an_interrupted_trust_is_brought_to_its_end_by_the_next_command(
    acme: Organisation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy was installed, and no file had its new name yet."""
    folder, entry = tmp_path / "policy", tmp_path / "guard.json"
    assert guard("trust", signs(acme, folder, acme.policy()), "--yes") == ExitCode.DONE
    assert guard("keys", "announce", "--out", entry) == ExitCode.DONE
    assert govern("guard", "rotate", folder / "policy.json", entry) == ExitCode.DONE
    after = decode_policy((folder / "policy.json").read_bytes())
    with monkeypatch.context() as patched:
        patched.setattr(Premises, "settle", lambda _self, _now: False)
        assert guard("trust", signs(acme, folder, after), "--yes") == ExitCode.DONE
    coming = premises().next_keys()
    assert coming is not None
    assert guard("keys", "announce") == ExitCode.DONE  # others: these are the present ones now
    assert premises().own_keys() == coming
    assert premises().next_keys() not in (None, coming)


@pytest.mark.parametrize("spoilt", ["forged", "of another guard", "no key", "the present one"])
def test_the_next_policy_takes_no_keys_that_do_not_follow(
    acme: Organisation, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoilt: str
) -> None:
    """But with --ask-again, and then everybody is."""
    folder, entry = tmp_path / "policy", tmp_path / "guard.json"
    before = acme.policy()
    assert guard("trust", signs(acme, folder, before), "--yes") == ExitCode.DONE
    assert guard("keys", "announce", "--out", entry) == ExitCode.DONE
    made = msgspec.json.decode(entry.read_bytes(), type=Guard)
    other = Organisation().policy().guard
    made = {
        "forged": msgspec.structs.replace(made, lease_key=other.lease_key),
        "of another guard": other,
        "no key": msgspec.structs.replace(made, signing_key="?"),
        "the present one": before.guard,
    }[spoilt]
    entry.write_bytes(msgspec.json.encode(made))
    text = (folder / "policy.json").read_bytes()
    assert govern("guard", "rotate", folder / "policy.json", entry) == ExitCode.REJECTED
    assert (folder / "policy.json").read_bytes() == text
    capsys.readouterr()
    again = govern("guard", "rotate", folder / "policy.json", entry, "--ask-again")
    if spoilt in ("no key", "the present one"):
        assert again == ExitCode.REJECTED
        return
    assert again == ExitCode.DONE
    assert "is asked again" in capsys.readouterr().out
    assert not decode_policy((folder / "policy.json").read_bytes()).guard.follows
    entry.write_text(json.dumps({"follows": 1}))
    assert govern("guard", "rotate", folder / "policy.json", entry) != ExitCode.DONE


def test_a_witness_alone_changes_its_key_by_the_same_commands(home: Path, tmp_path: Path) -> None:
    """Nobody is asked again, and it cosigns by both until a day after its policy names the next."""
    assert not home.exists()
    assert guard(*INIT, "--witness-only") == ExitCode.DONE
    acme, folder, entry = Organisation(), tmp_path / "policy", tmp_path / "guard.json"
    own = premises().own_keys()
    assert isinstance(own, OwnWitness)
    union = Witness(name="union", party="The Union", key=own.witness)
    before = msgspec.structs.replace(acme.policy(), witnesses=(union,), quorum=2)
    assert guard("trust", signs(acme, folder, before), "--yes") == ExitCode.DONE
    assert guard("keys", "announce", "--out", entry) == ExitCode.DONE
    assert govern("guard", "rotate", folder / "policy.json", entry) == ExitCode.DONE
    after = decode_policy((folder / "policy.json").read_bytes())
    assert not any(widened(before, after).values())
    assert govern("lint", folder / "policy.json") == ExitCode.DONE
    for policy in (before, after):
        assert guard("trust", signs(acme, folder, policy), "--yes") == ExitCode.DONE
        watching = premises().opened(SystemClock())
        note = acme.checkpoint()
        seen = watching.witness.last_seen(acme.log_key)
        submission = Submission(old=seen.size if seen else 0, proof=(), note=note)
        answer = watching.witness.add(submission, acme.log_key, NOW)
        watching.close()
        assert isinstance(answer, Cosigned)
        for each in (before, after):
            verify_cosignature(note + answer.line, each.witnesses[0].key)
    assert premises().own_keys().witness == after.witnesses[0].key
    assert after.witnesses[0].follows == (own.witness,)


@pytest.mark.parametrize("spoilt", ["forged", "of another", "the present one"])
def test_the_next_policy_takes_no_witness_that_does_not_follow(tmp_path: Path, spoilt: str) -> None:
    """But with --ask-again, and then everybody is, where the quorum needs it."""
    acme, file, entry = Organisation(), tmp_path / "policy.json", tmp_path / "guard.json"
    first, second = ed25519(), ed25519()
    keys = [verifier_key("union.example", ALGORITHM_COSIGNATURE, raw(k)) for k in (first, second)]
    union = Witness(name="union", party="The Union", key=keys[0])
    before = msgspec.structs.replace(acme.policy(), witnesses=(union,), quorum=2)
    file.write_bytes(encode_policy(before))
    made = {
        "forged": witness_followed(union, keys[1], second),
        "of another": msgspec.structs.replace(
            witness_followed(union, keys[1], first), name="union", follows=(keys[1],)
        ),
        "the present one": union,
    }[spoilt]
    entry.write_bytes(msgspec.json.encode(made))
    assert govern("guard", "rotate", file, entry) == ExitCode.REJECTED
    if spoilt == "forged":
        assert govern("guard", "rotate", file, entry, "--ask-again") == ExitCode.DONE
        after = decode_policy(file.read_bytes())
        assert widened(before, after)[Category.KEYS] == ("quorum",)
        assert not after.witnesses[0].follows


def test_a_guard_that_serves_goes_by_the_next_keys_from_one_answer_to_the_next(
    tmp_path: Path,
) -> None:
    """No restart, and both signatures before and after; a day later only the present one."""
    acme = Organisation()
    ours = found_guard(tmp_path / "guard", acme)
    before = acme.policy()
    with serve_guard(ours) as served:
        served.trust(acme.publish(tmp_path / "policy", before))
        door = served.door(Role.COLLECTOR, "main")
        asked = KeyRequest(subject=b"s" * 16, category=Category.KEYS, month=MONTH)

        def signs(policy: Policy) -> bool:
            answer = door.request("POST", "/v1/keys", msgspec.json.encode(asked))
            assert answer.status == 200, answer.body
            key = msgspec.json.decode(answer.body, type=KeyAnswer)
            with contextlib.suppress(ForgedError):
                verify_key(key, asked, policy.guard.signing_key)
                return True
            return False

        ours.chest().announce()
        coming = ours.next_keys()
        assert isinstance(coming, OwnKeys)
        word = sign_following(three_of(before.guard), coming.three, ours.signing_key())
        made = following(before.guard, word, coming.three)
        after = msgspec.structs.replace(before, version=2, guard=made)
        assert signs(before)
        assert signs(after)
        install(ours.policy_file, acme.publish(tmp_path / "policy", after).policy_set())
        assert signs(before)
        assert signs(after)
        ours.settle(wall(DAY))
        assert signs(before)
        assert signs(after)
        served.clock.at += timedelta(seconds=FORMER_SECONDS + 1)
        assert not signs(before)
        assert signs(after)
        assert not (tmp_path / "guard/config/signing.former.key").exists()
        door.close()
