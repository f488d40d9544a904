"""`assent-govern` as people use it: from two fresh keys to a signed policy and a grant."""

import json
import stat
import time
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.command import outcome
from base.errors import ExitCode, SetupError
from governance.__main__ import cli
from governance.keys import Role, new_key, read_private, read_public
from tests.fakes.organisation import CONTROLLER, COUNCIL, READER, Organisation
from wire.errors import WireError
from wire.grant import AccessGrant, encode_request, verify_access
from wire.ids import WallInstant
from wire.policy import decode_policy, encode_policy


def govern(*args: object, stdin: str = "") -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args], input=stdin, catch_exceptions=False)


def code_of(*args: object) -> int:
    return outcome(cli, "assent-govern", [str(arg) for arg in args], refusals=(WireError,))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    for who, party, name in (("ada", CONTROLLER, "Ada"), ("grace", COUNCIL, "Grace")):
        for role in Role:
            govern("keys", "new", folder / who, "--party", party, "--name", name, "--role", role)
    return folder


@pytest.fixture
def drafted(tmp_path: Path, keys: Path) -> Path:
    acme = Organisation()
    recipient = tmp_path / "reader.recipient"
    recipient.write_text(acme.recipient + "\n")
    policy = acme.policy()
    result = govern(
        *("draft", tmp_path / "acme/policy.json"),
        *("--controller", CONTROLLER, "--controller-contact", "privacy@acme.example"),
        *("--representatives", COUNCIL, "--representatives-contact", "council@acme.example"),
        *("--jurisdiction", "DE", "--origin", "https://collector.acme.example:8443"),
        *("--pin", "ab" * 32, "--log-key", policy.collector.log),
        *("--guard-run-by", "Council Trust", "--guard-key", policy.guard.signing_key),
        *("--guard-lease-key", policy.guard.lease_key),
        *("--collector-lease-key", policy.collector.lease_key),
        *("--witness", policy.guard.witness, "--recipient", f"{READER}={recipient}"),
        *("--approver", keys / "ada/approver-key.public.json"),
        *("--approver", keys / "grace/approver-key.public.json"),
        *("--application", "gedit:Gedit", "--rate", "screen=2", "--level", "window=title"),
        *("--assessment", "DPIA-7", "--assessment-expires", "2999-01-01"),
        *("--review", policy.review),
        *(
            "--justification",
            "screen=to see what a click lands on",
            "--hours",
            "mon-thu=08:30-17:00",
        ),
        *("--hours", "fri,sat=09:00-12:00", "--reconfirm-days", 90),
    )
    assert "0 things to mend" in result.output
    return tmp_path / "acme"


def sign(drafted: Path, keys: Path, who: str, *more: object, stdin: str = "y\n") -> Result:
    return govern("sign", drafted, "--key", keys / who / "policy-key.pem", *more, stdin=stdin)


def publics(keys: Path) -> tuple[object, ...]:
    return tuple(
        item
        for who in ("ada", "grace")
        for item in ("--public", keys / who / "policy-key.public.json")
    )


def test_two_parties_sign_a_drafted_policy_and_anybody_verifies_it(
    drafted: Path, keys: Path
) -> None:
    """Draft, lint, two signatures, verify: each step says what comes next."""
    assert code_of("lint", drafted / "policy.json") == ExitCode.DONE
    first = sign(drafted, keys, "ada", *publics(keys))
    assert f"next: {COUNCIL} runs" in first.output
    assert "Only in: gedit (Gedit)" in first.output
    assert code_of("verify", drafted) == ExitCode.REJECTED
    second = sign(drafted, keys, "grace")
    assert f"signed by {COUNCIL}" in second.output
    assert "NOT YET" not in second.output
    assert code_of("verify", drafted) == ExitCode.DONE

    facts = json.loads(govern("verify", drafted, "--json").output)
    assert facts["signers"] == {CONTROLLER: True, COUNCIL: True}
    assert facts["policy"]["hold_seconds"] == 600


def test_nobody_signs_by_accident(drafted: Path, keys: Path) -> None:
    """Without a yes nothing is signed, and no key is kept."""
    assert (
        CliRunner()
        .invoke(
            cli,
            [str(a) for a in ("sign", drafted, "--key", keys / "ada/policy-key.pem")]
            + [str(a) for a in publics(keys)],
            input="\n",
        )
        .exit_code
        != 0
    )
    assert [path.name for path in drafted.iterdir()] == ["policy.json"]


def test_two_keys_of_one_party_at_the_first_signature_are_refused(
    drafted: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever collects the public keys may have an old one among them."""
    govern("keys", "new", keys / "old", "--party", CONTROLLER)
    given = ("--public", keys / "old/policy-key.public.json", *publics(keys))
    key = ("--key", keys / "ada/policy-key.pem", "--yes")
    assert code_of("sign", drafted, *given, *key) == ExitCode.REJECTED
    assert "gave two keys" in capsys.readouterr().err
    assert [path.name for path in drafted.iterdir()] == ["policy.json"]


def test_a_policy_that_was_changed_after_it_was_signed_is_signed_by_nobody(
    drafted: Path, keys: Path
) -> None:
    """Neither does it look signed, nor does anybody halt it instead of the one in force."""
    sign(drafted, keys, "ada", *publics(keys))
    sign(drafted, keys, "grace")
    path = drafted / "policy.json"
    path.write_text(path.read_text().replace('"hold_seconds": 600', '"hold_seconds": 700'))
    facts = json.loads(govern("show", drafted, "--json").output)
    assert facts["signers"] == {CONTROLLER: False, COUNCIL: False}
    halt = ("halt", drafted, "unheard", "--key", keys / "ada/policy-key.pem")
    assert code_of(*halt, "--out", drafted / "halt.json") == ExitCode.SETUP
    assert not (drafted / "halt.json").exists()


def test_the_lint_prints_name_reason_and_remedy_and_ends_with_6(
    drafted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person reads it; a script sees the exit code and the JSON."""
    path = drafted / "policy.json"
    path.write_text(path.read_text().replace('"hold_seconds": 600', '"hold_seconds": 0'))
    assert code_of("lint", path) == ExitCode.REJECTED
    printed = capsys.readouterr()
    assert "refused  no-hold: hold_seconds is 0" in printed.out
    assert "why   " in printed.out
    assert "mend  " in printed.out
    assert printed.err.count("\n") == 1
    assert code_of("lint", path, "--json") == ExitCode.REJECTED
    (refusal,) = json.loads(capsys.readouterr().out)
    assert set(refusal) == {"name", "where", "why", "mend"}


def test_the_lint_gives_one_reason_for_many_places(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fresh draft has many gaps; why and how to mend them stands there once."""
    govern("draft", tmp_path / "policy.json")
    assert code_of("lint", tmp_path / "policy.json") == ExitCode.REJECTED
    printed = capsys.readouterr()
    assert printed.out.count("refused  not-filled-in: ") > 1
    assert printed.out.count("A draft's gaps are for a person to fill") == 1
    assert printed.err.endswith("things to mend before it can be signed\n")


def test_a_folder_that_nobody_has_signed_says_so(
    drafted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It does not complain of a file that is not there."""
    assert code_of("verify", drafted) == ExitCode.SETUP
    assert "nobody has signed the policy in" in capsys.readouterr().err


def test_a_notice_that_is_no_text_ends_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody gave the notice as a PDF."""
    notice = tmp_path / "notice.pdf"
    notice.write_bytes(b"%PDF-1.7\n\xd0\xd4")
    draft = ("draft", tmp_path / "policy.json", "--notice-file", notice)
    assert code_of(*draft) == ExitCode.SETUP
    assert capsys.readouterr().err == f"assent-govern: {notice} is no text in UTF-8\n"


@pytest.mark.parametrize("option", ["level", "rate", "recipient"])
def test_a_wrong_option_is_called_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    """As it stands on the command line, in the singular."""
    assert code_of("draft", tmp_path / "p.json", f"--{option}", "keys") == ExitCode.USAGE
    assert f"Invalid value for --{option}: 'keys' is not NAME=VALUE" in capsys.readouterr().err


def test_a_broken_file_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback, whatever stands in the file."""
    bad = tmp_path / "policy.json"
    bad.write_text("{")
    assert code_of("lint", bad) == ExitCode.REJECTED
    assert code_of("show", tmp_path) == ExitCode.SETUP
    assert code_of("lint", tmp_path / "absent.json") == ExitCode.USAGE
    assert "Traceback" not in capsys.readouterr().err


def test_a_draft_never_overwrites(drafted: Path) -> None:
    """A policy that somebody edited is not lost to a second draft."""
    before = (drafted / "policy.json").read_bytes()
    assert code_of("draft", drafted / "policy.json") == ExitCode.SETUP
    assert (drafted / "policy.json").read_bytes() == before


def test_an_access_needs_both_approvers_and_shows_what_it_allows(
    drafted: Path, keys: Path, tmp_path: Path
) -> None:
    """A request becomes a grant by two signatures, made one after the other."""
    policy = decode_policy((drafted / "policy.json").read_bytes())
    sign(drafted, keys, "ada", *publics(keys))
    sign(drafted, keys, "grace")
    at = WallInstant(time.time_ns())
    later = WallInstant(at + 30 * 24 * 3600 * 10**9)
    asked = msgspec.structs.replace(
        Organisation().request(), recipient=policy.recipients[0].key, expires_at=later
    )
    request, out = tmp_path / "request.json", tmp_path / "grant.json"
    request.write_bytes(encode_request(asked))
    for who, name, source in (("ada", "Ada", request), ("grace", "Grace", out)):
        key = keys / who / "approver-key.pem"
        result = govern(
            *("approve", source, "--key", key, "--name", name, "--out", out),
            *("--policy", drafted),
            stdin="y\n",
        )
        assert f"{READER} asks to open: keys" in result.output
        assert "first training run" in result.output
    grant = msgspec.json.decode(out.read_bytes(), type=AccessGrant)
    assert verify_access(grant, policy, at) == asked


def test_an_approver_is_asked_about_nothing_that_steers_the_terminal(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A request that moves the cursor up over its own lines is refused before it is shown."""
    request, out = tmp_path / "request.json", tmp_path / "grant.json"
    request.write_bytes(encode_request(Organisation().request(why="a study\x1b[4A\r\x1b[J")))
    key = keys / "ada/approver-key.pem"
    approving = ("approve", request, "--key", key, "--name", "Ada", "--yes", "--out", out)
    assert code_of(*approving) == ExitCode.REJECTED
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert not out.exists()


def test_the_representatives_see_every_line_of_a_policy_that_would_hide_some(
    drafted: Path, keys: Path
) -> None:
    """What a draft holds is shown without its escapes, and the lint says where they are."""
    sign(drafted, keys, "ada", *publics(keys))
    policy = decode_policy((drafted / "policy.json").read_bytes())
    hiding = msgspec.structs.replace(policy.guard, name="Council lock\x1b[3A\x1b[J")
    file = drafted / "policy.json"
    file.write_bytes(encode_policy(msgspec.structs.replace(policy, guard=hiding)))
    assert "Council lock?[3A?[J" in govern("show", drafted).output
    arguments = ["lint", str(file)]
    assert "refused  hidden-text: guard.name" in CliRunner().invoke(cli, arguments).output


def test_an_approval_in_the_wrong_name_is_refused_when_the_policy_is_at_hand(
    drafted: Path, keys: Path, tmp_path: Path
) -> None:
    """`--policy` finds a wrong key before the guard does."""
    policy = decode_policy((drafted / "policy.json").read_bytes())
    sign(drafted, keys, "ada", *publics(keys))
    sign(drafted, keys, "grace")
    asked = msgspec.structs.replace(
        Organisation().request(),
        recipient=policy.recipients[0].key,
        expires_at=WallInstant(time.time_ns() + 30 * 24 * 3600 * 10**9),
    )
    request = tmp_path / "request.json"
    request.write_bytes(encode_request(asked))
    arguments = ("approve", request, "--name", "Ada", "--yes", "--policy", drafted)
    out = tmp_path / "grant.json"
    wrong = code_of(*arguments, "--key", keys / "grace/approver-key.pem", "--out", out)
    assert wrong == ExitCode.REJECTED
    assert not out.exists()


def test_an_expired_request_is_not_approved(keys: Path, tmp_path: Path) -> None:
    """It could not be used, so nobody is asked to sign it."""
    request = tmp_path / "request.json"
    request.write_bytes(encode_request(Organisation().request(expires_at=WallInstant(1))))
    key = keys / "ada/approver-key.pem"
    arguments = ("approve", request, "--key", key, "--name", "Ada", "--yes")
    assert code_of(*arguments, "--out", tmp_path / "grant.json") == ExitCode.REJECTED


def test_a_request_for_more_than_ninety_days_is_not_approved(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The guard would refuse it for weeks, so whoever signs it hears of that at once."""
    request = tmp_path / "request.json"
    later = WallInstant(time.time_ns() + 91 * 24 * 3600 * 10**9)
    request.write_bytes(encode_request(Organisation().request(expires_at=later)))
    out = tmp_path / "grant.json"
    arguments = ("approve", request, "--key", keys / "ada/approver-key.pem", "--name", "Ada")
    assert code_of(*arguments, "--yes", "--out", out) == ExitCode.REJECTED
    assert "90 days" in capsys.readouterr().err
    assert not out.exists()


def test_a_private_key_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    """Mode 0600 in a 0700 folder; a second key goes elsewhere."""
    private, public, part = new_key(
        tmp_path / "k", role=Role.POLICY, party=CONTROLLER, name="Ada", passphrase=None
    )
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(private.parent.stat().st_mode) == 0o700
    assert read_public(public) == part
    assert read_private(private, None).public_key() == part.ed25519()
    with pytest.raises(SetupError, match="already"):
        new_key(tmp_path / "k", role=Role.POLICY, party="x", name="y", passphrase=None)


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    """It may be one's home, or the folder that the parties share; the key is private in it."""
    tmp_path.chmod(0o755)
    private, _public, _part = new_key(
        tmp_path, role=Role.POLICY, party="x", name="y", passphrase=None
    )
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert stat.S_IMODE(private.stat().st_mode) == 0o600


def test_a_locked_key_opens_with_its_passphrase_only(tmp_path: Path) -> None:
    """Neither without nor with another passphrase."""
    private, _public, _part = new_key(
        tmp_path / "k", role=Role.POLICY, party=CONTROLLER, name="Ada", passphrase="correct horse"
    )
    assert isinstance(read_private(private, "correct horse"), Ed25519PrivateKey)
    with pytest.raises(SetupError, match="locked"):
        read_private(private, None)
    with pytest.raises(SetupError, match="another passphrase"):
        read_private(private, "battery staple")
