"""The receipts on the disk follow the ledger, whatever happens in between."""

import json
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from agent.__main__ import agent
from agent.consent.entries import Expired, Granted, Refused, Registered, Told, Withdrawn
from agent.consent.ledger import Ledger
from agent.consent.policy import PolicyInForce
from agent.consent.states import Consent
from agent.receipts import FOLDER, KEY, Receipts, receipt_files
from base import durable
from base.clock import Now
from base.command import outcome
from base.errors import ExitCode
from base.paths import paths_for
from governance.__main__ import cli as govern
from tests.fakes.organisation import NOW, Organisation, ed25519, wall
from tests.unit.test_wire_consent_record import DIGEST, EVIDENCE, ORG, POLICY, SIGNED, logged
from wire.category import Category
from wire.consent_receipt import verify_consent_receipt
from wire.errors import WireError
from wire.grant import grant_hash
from wire.linked import ConsentState
from wire.policy import encode_policy, policy_digest

AT: Final = Now(boot=1, wall=wall(NOW) + 1, boot_id="b")
IN_FORCE: Final = PolicyInForce(policy=POLICY, digest=DIGEST)
GRANTED: Final = Granted(signed=SIGNED, words=EVIDENCE.words, notice=EVIDENCE.notice)
GRANT: Final = grant_hash(SIGNED)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger.open(tmp_path, ORG.device.public_key(), AT)
    made.append(GRANTED, AT)
    return made


def kept(folder: Path, ledger: Ledger, policy: PolicyInForce = IN_FORCE) -> Path:
    """Let the receipts keep up, as the agent does each second; return the one file."""
    Receipts(folder, ORG.device).keep_up(ledger, policy, AT)
    [path] = receipt_files(folder)
    return path


def state_of(path: Path) -> ConsentState:
    return verify_consent_receipt(path.read_bytes(), ORG.device.public_key()).state


def test_a_consent_has_a_receipt_and_the_key_that_checks_it_beside_it(
    tmp_path: Path, ledger: Ledger
) -> None:
    """Both for their owner alone, and the file is called after day, category and record."""
    path = kept(tmp_path, ledger)
    key = load_pem_public_key((tmp_path / FOLDER / KEY).read_bytes())
    assert key == ORG.device.public_key()
    assert path.name == "2027-03-15-keys-a6f58318.json"
    assert state_of(path) is ConsentState.GIVEN
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_the_proof_of_the_log_comes_into_the_receipt(tmp_path: Path, ledger: Ledger) -> None:
    """Once the collector's log has the consent."""
    path = kept(tmp_path, ledger)
    ledger.append(Registered(grant=GRANT, logged=logged()), AT)
    assert kept(tmp_path, ledger) == path
    receipt = verify_consent_receipt(path.read_bytes(), ORG.device.public_key(), ORG.log_key)
    assert receipt.evidence.logged == logged()


def test_a_withdrawal_is_the_receipts_next_state(tmp_path: Path, ledger: Ledger) -> None:
    """Signed, with its time, and told to the collector until it has confirmed."""
    ledger.append(Withdrawn(category=None), AT)
    assert state_of(kept(tmp_path, ledger)) is ConsentState.WITHDRAWN
    assert [event.state for event in ledger.standing.untold] == [ConsentState.WITHDRAWN]
    ledger.append(Told(grant=GRANT, state=ConsentState.WITHDRAWN), AT)
    assert ledger.standing.untold == ()


def test_a_refusal_has_a_receipt_of_its_own(tmp_path: Path) -> None:
    """Somebody who said no can show it; the collector is told nothing."""
    made = Ledger.open(tmp_path, ORG.device.public_key(), AT)
    signed = ORG.consent(DIGEST, POLICY, state=ConsentState.REFUSED)
    made.append(Refused(signed=signed, words=EVIDENCE.words, notice=EVIDENCE.notice), AT)
    assert state_of(kept(tmp_path, made)) is ConsentState.REFUSED
    assert made.standing.consents[Category.KEYS] is Consent.WITHDRAWN
    assert (made.standing.grants, made.standing.untold) == ({}, ())


def test_a_consent_that_the_policy_outgrew_has_expired(tmp_path: Path, ledger: Ledger) -> None:
    """The receipt says so; and nothing but a click makes it good again."""
    other = ORG.policy(version=2)
    digest = policy_digest(encode_policy(other))
    path = kept(tmp_path, ledger, PolicyInForce(policy=other, digest=digest))
    assert state_of(path) is ConsentState.EXPIRED
    assert ledger.standing.consents[Category.KEYS] is Consent.STALE
    length = (tmp_path / "consent.jsonl").stat().st_size
    kept(tmp_path, ledger, PolicyInForce(policy=other, digest=digest))
    assert (tmp_path / "consent.jsonl").stat().st_size == length


def test_without_a_valid_policy_nothing_expires(tmp_path: Path, ledger: Ledger) -> None:
    """Unknown is no reason to say that somebody's consent is over."""
    path = kept(tmp_path, ledger, PolicyInForce(policy=None, digest=None))
    assert state_of(path) is ConsentState.GIVEN


def test_a_second_yes_is_a_second_receipt_and_ends_the_first(
    tmp_path: Path, ledger: Ledger
) -> None:
    """One record for each act."""
    again = ORG.consent(DIGEST, POLICY, record_id="b6f58318-72e6-46a2-bfd7-f36d795e30cd")
    ledger.append(Granted(signed=again, words=EVIDENCE.words, notice=EVIDENCE.notice), AT)
    Receipts(tmp_path, ORG.device).keep_up(ledger, IN_FORCE, AT)
    states = [state_of(path) for path in receipt_files(tmp_path)]
    assert states == [ConsentState.EXPIRED, ConsentState.GIVEN]


def test_a_receipt_that_was_lost_or_changed_is_written_again_to_the_byte(
    tmp_path: Path, ledger: Ledger
) -> None:
    """The ledger is the truth: after a crash the next start makes the files follow it."""
    path = kept(tmp_path, ledger)
    good = path.read_bytes()
    for spoilt in (None, b"", good[:-1]):
        path.unlink()
        if spoilt is not None:
            path.write_bytes(spoilt)
        assert kept(tmp_path, ledger).read_bytes() == good


def test_what_a_killed_write_left_beside_the_receipts_is_removed_by_the_next_start(
    tmp_path: Path, ledger: Ledger
) -> None:
    """It names a category and a day, and nobody would ever come for it."""
    path = kept(tmp_path, ledger)
    left = path.with_name(f".{path.name}.77.tmp")
    left.write_bytes(path.read_bytes()[:100])
    assert kept(tmp_path, ledger) == path
    assert not left.exists()


def test_a_disk_that_refuses_is_tried_again(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The consent holds all the same, and the receipt comes when there is room."""
    receipts = Receipts(tmp_path, ORG.device)

    def full(_path: Path, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "replace", full)
        receipts.keep_up(ledger, IN_FORCE, AT)
    assert receipt_files(tmp_path) == []
    receipts.keep_up(ledger, IN_FORCE, AT)
    assert len(receipt_files(tmp_path)) == 1


def test_an_expiry_names_the_consent_that_expired(tmp_path: Path, ledger: Ledger) -> None:
    """A line about another one changes nothing."""
    ledger.append(Expired(grant=bytes(32)), AT)
    assert state_of(kept(tmp_path, ledger)) is ConsentState.GIVEN


# --- the two commands -------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return a receipt and its key, where the agent's own commands look for them."""
    monkeypatch.setenv("ASSENT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    state = paths_for("agent").make().state
    ledger = Ledger.open(state, ORG.device.public_key(), AT)
    ledger.append(GRANTED, AT)
    ledger.append(Registered(grant=GRANT, logged=logged()), AT)
    return kept(state, ledger), state / FOLDER / KEY


def test_the_agent_lists_its_receipts_each_checked(files: tuple[Path, Path]) -> None:
    """What, since when, and where it lies."""
    shown = CliRunner().invoke(agent, ["receipts", "--json"], catch_exceptions=False)
    [one] = json.loads(shown.output)
    assert (one["category"], one["state"], one["logged"]) == ("keys", "dpv:ConsentGiven", True)
    assert one["file"] == str(files[0])
    plain = CliRunner().invoke(agent, ["receipts"], catch_exceptions=False).output
    assert "keys" in plain
    assert str(files[0]) in plain


def test_both_commands_refuse_a_receipt_that_was_changed_in_one_line(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And one without a mandatory field by its name; with another key, too."""
    path, key = files
    ways = (
        (agent, "assent-agent", ["receipts", "--verify"]),
        (govern, "assent-govern", ["receipt", "verify", "--key", str(key)]),
    )
    changed, lacking = tmp_path / "changed.json", tmp_path / "lacking.json"
    changed.write_bytes(path.read_bytes().replace(b"training-team", b"training-teal"))
    document = json.loads(path.read_bytes())
    del document["dpv:hasRecordOfActivity"]["dpv:hasNotice"]
    lacking.write_text(json.dumps(document), "utf-8")
    for group, program, words in ways:
        assert outcome(group, program, [*words, str(path)], refusals=(WireError,)) is ExitCode.DONE
        capsys.readouterr()
        for bad, said in ((changed, "not signed"), (lacking, "dpv:hasNotice")):
            code = outcome(group, program, [*words, str(bad)], refusals=(WireError,))
            line = capsys.readouterr().err
            assert code != ExitCode.DONE
            assert said in line
            assert line.count("\n") == 1


def test_the_governance_command_says_what_the_receipt_proves(files: tuple[Path, Path]) -> None:
    """With the public key alone; with the log's key also whose log has it."""
    path, key = files
    words = ["receipt", "verify", str(path), "--key", str(key), "--json"]
    facts = json.loads(CliRunner().invoke(govern, words, catch_exceptions=False).output)
    assert (facts["state"], facts["category"]) == ("dpv:ConsentGiven", "keys, level classes")
    assert "performance-evaluation" in facts["purpose"]
    assert "--log-key" in facts["log"]
    sure = CliRunner().invoke(govern, [*words, "--log-key", ORG.log_key], catch_exceptions=False)
    assert json.loads(sure.output)["log"] == "leaf 1"


def test_a_key_that_is_none_is_one_line(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says which file to give."""
    other = tmp_path / "other.pem"
    other.write_text("no key", "utf-8")
    for group, words in (
        (agent, ["receipts", "--key", str(other)]),
        (govern, ["receipt", "verify", str(files[0]), "--key", str(other)]),
    ):
        assert outcome(group, "x", words, refusals=(WireError,)) is ExitCode.SETUP
        assert "device.pem" in capsys.readouterr().err


def test_before_the_first_consent_there_are_no_receipts_and_that_is_no_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is to be mended then."""
    monkeypatch.setenv("ASSENT_HOME", str(tmp_path / "new"))
    for words, said in (([], "there are none yet"), (["--json"], "[]")):
        shown = CliRunner().invoke(agent, ["receipts", *words], catch_exceptions=False)
        assert (shown.exit_code, shown.output.startswith(said)) == (ExitCode.DONE, True)


def test_another_devices_key_does_not_verify_it(files: tuple[Path, Path]) -> None:
    """Each receipt is of one device."""
    with pytest.raises(WireError):
        verify_consent_receipt(files[0].read_bytes(), ed25519().public_key())
    with pytest.raises(WireError):
        verify_consent_receipt(files[0].read_bytes(), Organisation().device.public_key())
