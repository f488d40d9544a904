"""`assent-reader` alone: keys, requests, and one line for everything that is missing."""

import json
import stat
from pathlib import Path

import msgspec
import pytest

from base.command import outcome
from base.errors import ExitCode
from base.paths import paths_for
from base.pki import Authority, Role, client_uri, requested_key
from reader.__main__ import cli
from reader.opening import Fault
from reader.premises import Premises
from tests.fakes.organisation import Organisation
from wire.errors import WireError
from wire.grant import AccessGrant, decode_request, encode_request
from wire.sealing import recipient_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSENT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    # It cannot be undone, and the test process runs other tests after this one.
    monkeypatch.setattr("reader.__main__.become_undumpable", lambda: None)
    return tmp_path / "home"


def reader(*args: object) -> int:
    return outcome(cli, "assent-reader", [str(arg) for arg in args], refusals=(WireError,))


def ask(out: Path, **changes: str) -> int:
    words = {
        "programme": "pilot",
        "category": "keys",
        "from": "2027-03-01",
        "to": "2027-03-31",
        "why": "first training run",
    } | changes
    return reader("request", *(w for k, v in words.items() for w in (f"--{k}", v)), "--out", out)


def test_keys_are_made_once_and_fit_together(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Recipient of the identity, request of the client key; private files are 0600."""
    assert reader("keygen", "--name", "training-team", "--json") == ExitCode.DONE
    facts = json.loads(capsys.readouterr().out)
    premises = Premises(paths_for("reader"))
    assert facts["recipient"] == recipient_of(premises.identity()) == premises.recipient()
    requested_key(Path(facts["csr"]).read_bytes())
    for path in (premises.identity_file, premises.client_key, premises.settings_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = premises.identity_file.read_bytes()
    assert reader("keygen", "--name", "training-team") == ExitCode.SETUP
    assert premises.identity_file.read_bytes() == before


def test_a_name_that_no_certificate_can_carry_is_refused(home: Path) -> None:
    """Before any key is made."""
    assert reader("keygen", "--name", "Training Team") == ExitCode.SETUP
    assert not home.exists()


def test_a_request_asks_for_exactly_what_was_typed(home: Path, tmp_path: Path) -> None:
    """And it is what approvers and the guard read."""
    reader("keygen", "--name", "training-team")
    out = tmp_path / "request.json"
    assert ask(out, category="screen") == ExitCode.DONE
    asked = decode_request(out.read_bytes())
    assert asked.reader == "training-team"
    assert asked.recipient == Premises(paths_for("reader")).recipient()
    assert (asked.first_day, asked.last_day) == ("2027-03-01", "2027-03-31")
    assert [c.value for c in asked.categories] == ["screen"]
    assert encode_request(asked) == out.read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"from": "2027-04-01"},
        {"from": "yesterday"},
        {"to": "2027-02-30"},
        {"why": "  "},
        {"days": "0"},
        {"days": "365"},
    ],
)
def test_a_request_without_sense_is_not_written(
    home: Path, tmp_path: Path, changes: dict[str, str]
) -> None:
    """No days, no reason, no end: said at once, not by the approver."""
    reader("keygen", "--name", "training-team")
    assert ask(tmp_path / "request.json", **changes) == ExitCode.SETUP
    assert not (tmp_path / "request.json").exists()


def test_without_keys_and_doors_every_command_says_what_to_do_first(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on standard error, exit code 3."""
    grant = tmp_path / "grant.json"
    grant.write_bytes(b"{}")
    for command in (("open",), ("verify",), ("status",), ("export", "--out", tmp_path / "x")):
        assert reader(*command) == ExitCode.SETUP
        assert capsys.readouterr().err.rstrip().endswith("run assent-reader keygen first")
    reader("keygen", "--name", "training-team")
    capsys.readouterr()
    assert reader("fetch", "--grant", grant) == ExitCode.REJECTED
    assert "not an approved grant" in capsys.readouterr().err
    grant.write_bytes(msgspec.json.decode(approved(), type=AccessGrant).request)
    assert reader("fetch", "--grant", grant) == ExitCode.REJECTED
    assert "a request that nobody has approved" in capsys.readouterr().err
    grant.write_bytes(approved())
    assert reader("fetch", "--grant", grant) == ExitCode.SETUP
    assert "run assent-reader connect collector first" in capsys.readouterr().err
    assert reader("export", "--out", tmp_path / "x") == ExitCode.SETUP
    assert not (tmp_path / "x").exists()


def test_an_empty_library_verifies_and_says_that_it_is_empty(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is wrong with nothing."""
    reader("keygen", "--name", "training-team")
    capsys.readouterr()
    assert reader("verify", "--json") == ExitCode.DONE
    assert json.loads(capsys.readouterr().out) == {
        "opened": {},
        "data_subjects": 0,
        "faults": {},
    }
    for command in ("open", "verify"):  # and claims nothing of what is not there
        assert reader(command) == ExitCode.DONE
        said = capsys.readouterr().out
        assert said == "Nothing is here yet; run assent-reader fetch --grant GRANT.\n"


def test_status_says_what_is_still_missing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To whom this reader is not connected yet, and by which command it will be."""
    reader("keygen", "--name", "training-team")
    capsys.readouterr()
    assert reader("status") == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    for peer in ("collector", "guard"):
        assert f"{peer:10} none yet: run assent-reader connect" in lines


def test_a_door_is_where_and_by_which_key(home: Path, tmp_path: Path) -> None:
    """An origin that is none is refused, a peer that is none is a usage error."""
    reader("keygen", "--name", "training-team")
    guard = Authority.create("the guard")
    (tmp_path / "ca.pem").write_bytes(guard.pem)
    uri = client_uri("acme", Role.READER, "training-team")
    request = Premises(paths_for("reader")).request_file.read_bytes()
    (tmp_path / "mine.pem").write_bytes(guard.certify(request, uri))
    files = ("--ca", tmp_path / "ca.pem", "--certificate", tmp_path / "mine.pem")
    words = ("--pin", "ab" * 32, *files)
    assert reader("connect", "guard", "--origin", "https://127.0.0.1:1", *words) == ExitCode.DONE
    assert Premises(paths_for("reader")).door("guard").origin == "https://127.0.0.1:1"
    assert reader("connect", "guard", "--origin", "http://127.0.0.1", *words) == ExitCode.SETUP
    origin = ("--origin", "https://127.0.0.1:1")
    assert reader("connect", "guard", *origin, "--pin", "ab", *files) == ExitCode.SETUP
    mixed = ("--ca", tmp_path / "ca.pem", "--certificate", tmp_path / "ca.pem")
    assert reader("connect", "guard", *origin, "--pin", "ab" * 32, *mixed) == ExitCode.SETUP
    assert reader("connect", "agent", "--origin", "https://127.0.0.1", *words) == ExitCode.USAGE


def approved() -> bytes:
    return msgspec.json.encode(Organisation().grant())


def test_the_guide_names_every_command_and_every_fault() -> None:
    """docs/guides/reader.md is enough to read with, and explains each refusal."""
    guide = (Path(__file__).parents[2] / "docs/guides/reader.md").read_text()
    for command in cli.commands:
        assert f"assent-reader {command}" in guide, command
    for fault in Fault:
        assert f"`{fault}`" in guide, fault
