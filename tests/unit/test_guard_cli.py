"""`assent-guard` as its operator uses it, and whom it trusts."""

import json
import os
import signal
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.command import outcome
from base.errors import ExitCode, RejectedError, SetupError
from base.https import OneDoor
from base.paths import paths_for
from base.pki import certificate_hosts, signing_request
from guard.__main__ import cli
from guard.config import Config
from guard.premises import Premises, move_in
from guard.trust import PolicySet, check_successor, load, read_policy_set
from tests.fakes.organisation import NOW, WITNESS_NAME, Organisation, PolicyFolder
from tests.fakes.served import found_guard
from wire.errors import ForgedError, WireError
from wire.policy import Witness
from wire.tlog import ALGORITHM_COSIGNATURE, verifier_key

INIT = (
    *("init", "--origin", "https://127.0.0.1:8444", "--tenant", "acme"),
    *("--name", WITNESS_NAME),
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSENT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    # It cannot be undone, and the test process runs other tests after this one.
    monkeypatch.setattr("guard.__main__.become_undumpable", lambda: None)
    return tmp_path / "home"


def guard(*args: object) -> int:
    return outcome(cli, "assent-guard", [str(arg) for arg in args], refusals=(WireError,))


def adopt(acme: Organisation) -> None:
    """Let the organisation's policies name the guard in ASSENT_HOME."""
    premises = Premises(paths_for("guard"))
    acme.guard, acme.witness = premises.signing_key(), premises.witness_key()
    acme.guard_lease = premises.lease_key()


def publish_now(acme: Organisation, folder: Path, **changes: object) -> PolicyFolder:
    return acme.publish(folder, acme.policy(**changes), at=datetime.now(UTC))


def test_a_guard_is_founded_once_and_prints_what_the_policy_needs(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Signing key, witness, pin and authority; private files are the operator's alone."""
    assert guard(*INIT, "--json") == ExitCode.DONE
    card = json.loads(capsys.readouterr().out)
    keys = {"origin", "signing_key", "witness", "lease_key", "tls_pin", "ca_pem"}
    assert set(card) == {*keys, "readers"}
    assert card["readers"] == card["origin"]
    assert card["witness"].startswith(f"{WITNESS_NAME}+")
    for name in ("ca.key", "tls.key", "signing.key", "witness.key", "lease.key"):
        assert stat.S_IMODE((home / "config" / name).stat().st_mode) == 0o600
    assert guard(*INIT) == ExitCode.SETUP
    assert capsys.readouterr().err.count("\n") == 1
    assert guard("status", "--json") == ExitCode.DONE
    facts = json.loads(capsys.readouterr().out)
    assert facts["signing_key"] == card["signing_key"]
    assert "trust" in facts["policy_trouble"]
    assert facts["keys"] == "fewer than 1,000"


@pytest.mark.parametrize(
    ("origin", "tenant"),
    [
        ("http://127.0.0.1:1", "acme"),
        ("https://127.0.0.1:1/x", "acme"),
        ("https://127.0.0.1:1", "Acme Ltd"),
    ],
)
def test_a_guard_is_not_founded_on_names_it_could_not_use(
    home: Path, origin: str, tenant: str
) -> None:
    """An error in one line, and nothing on the disk."""
    assert guard("init", "--origin", origin, "--tenant", tenant) == ExitCode.SETUP
    assert not (home / "config/config.toml").exists()


def test_without_init_everything_else_says_so(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the next step."""
    for command in (("serve",), ("status",), ("forget", "--subject", "00" * 16, "--yes")):
        assert guard(*command) == ExitCode.SETUP
        assert "assent-guard init" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["keys.sqlite", "witness.sqlite"])
def test_a_database_that_is_gone_is_not_made_anew(
    home: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """A new one would have forgotten every erasure, and cosign whatever log it is shown."""
    assert guard(*INIT) == ExitCode.DONE
    (home / "state" / name).unlink()
    capsys.readouterr()
    assert guard("status") == ExitCode.SETUP
    assert f"{name} is missing or empty" in capsys.readouterr().err
    assert not (home / "state" / name).exists()


def test_a_reader_is_certified_by_name(home: Path, tmp_path: Path) -> None:
    """What the certificate says is decided by the guard, not by the request."""
    guard(*INIT)
    request = tmp_path / "reader.csr"
    request.write_bytes(signing_request(Ed25519PrivateKey.generate()))
    out = tmp_path / "reader.pem"
    arguments = ("certify", "--role", "reader", request, "--name", "team", "--out", out)
    assert guard(*arguments) == ExitCode.DONE
    certificate = x509.load_pem_x509_certificate(out.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [
        "urn:assent:acme:reader:team"
    ]
    assert guard(*arguments[:4], "--name", "a b", "--out", out) == ExitCode.USAGE
    assert guard("certify", "--role", "device", request, "--name", "x", "--out", out) == (
        ExitCode.USAGE
    )
    request.write_text("nonsense")
    assert guard(*arguments) == ExitCode.REJECTED


def test_a_signed_policy_is_installed_and_its_digest_can_be_compared(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With another digest of the root than the parties told, nothing is installed."""
    guard(*INIT)
    acme = Organisation()
    adopt(acme)
    publish_now(acme, tmp_path / "p")
    assert guard("trust", tmp_path / "p", "--root-sha256", "00" * 32, "--yes") == ExitCode.SETUP
    assert not (home / "state/policy-set.json").exists()
    root = read_policy_set(tmp_path / "p").root_sha256
    assert guard("trust", tmp_path / "p", "--root-sha256", root, "--yes") == ExitCode.DONE
    capsys.readouterr()
    guard("status", "--json")
    assert json.loads(capsys.readouterr().out)["policy"] == "version 1 of pilot"


def test_forgetting_a_subject_needs_a_whole_pseudonym(home: Path) -> None:
    """A typo erases nobody."""
    guard(*INIT)
    assert guard("forget", "--subject", "00" * 15, "--yes") == ExitCode.USAGE
    assert guard("forget", "--subject", "zz" * 16, "--yes") == ExitCode.USAGE
    assert guard("forget", "--subject", "00" * 16, "--month", "2027-13", "--yes") == ExitCode.USAGE
    assert guard("forget", "--subject", "00" * 16, "--month", "2027-03", "--yes") == ExitCode.DONE


def test_a_witness_alone_has_no_keys_and_acts_on_a_policy_that_names_it(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is set up, told whose log it watches, and can neither erase nor certify a lease."""
    assert guard(*INIT, "--witness-only", "--json") == ExitCode.DONE
    card = json.loads(capsys.readouterr().out)
    assert (card["signing_key"], card["lease_key"]) == ("", "")
    assert not {"signing.key", "lease.key"} & {f.name for f in (home / "config").iterdir()}
    assert not (home / "state" / "keys.sqlite").exists()
    org = Organisation()
    named = Witness(name="union", party="The Union", key=card["witness"])
    other = verifier_key("union.example", ALGORITHM_COSIGNATURE, bytes(range(32)))
    strange = msgspec.structs.replace(named, key=other)
    now = datetime.now(UTC)
    for each, ends in ((strange, ExitCode.REJECTED), (named, ExitCode.DONE)):
        folder = tmp_path / each.key.encode().hex()[-8:] / "policy"
        org.publish(folder, org.policy(witnesses=(each,), quorum=2), at=now)
        assert guard("trust", folder, "--yes") == ends
    capsys.readouterr()
    assert guard("status") == ExitCode.DONE
    said = capsys.readouterr().out
    assert "witness" in said
    assert "keys" not in said
    for refused in (
        ("forget", "--subject", "00" * 16, "--yes"),
        ("backup", tmp_path / "copy"),
        ("halt", "why"),
        ("stop", "why"),
        ("go-on",),
    ):
        assert guard(*refused) == ExitCode.SETUP
        assert "witness alone" in capsys.readouterr().err


def test_the_program_serves_and_stops(home: Path, tmp_path: Path) -> None:
    """As a process of its own: port announced, TLS answered, SIGTERM ends it well."""
    guard(*INIT)
    port_file = tmp_path / "port"
    card = Premises(paths_for("guard")).card()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "guard", "serve"),
            *("--listen", "127.0.0.1:0", "--port-file", str(port_file)),
        ],
        env={**os.environ},
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        assert b"listens on port" in process.stderr.readline()
        door = OneDoor(
            f"https://127.0.0.1:{port_file.read_text().strip()}", (card.tls_pin,), card.ca_pem
        )
        assert door.request("POST", "/v1/keys", b"{}").status == 401
        door.close()
    finally:
        process.send_signal(signal.SIGTERM)
        _out, _err = process.communicate(timeout=30)
    assert process.returncode == 0


def test_readers_of_a_guard_have_an_address_of_their_own_where_it_is_told_so(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Printed for them, written into config.toml, and a name in the certificate."""
    readers = "https://readers.council.example:8446"
    assert guard(*INIT, "--readers", readers, "--json") == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["readers"] == readers
    premises = Premises(paths_for("guard"))
    assert premises.config().readers_listen == "readers.council.example:8446"
    assert "readers.council.example" in certificate_hosts(premises.tls_certificate.read_bytes())


# --- whom the guard trusts ----------------------------------------------------------------


@pytest.fixture
def acme(tmp_path: Path) -> Organisation:
    organisation = Organisation()
    found_guard(tmp_path / "guard", organisation)
    return organisation


def own(tmp_path: Path) -> Premises:
    from tests.fakes.served import paths  # noqa: PLC0415 - the folder that `acme` founded

    return Premises(paths(tmp_path / "guard"))


def as_set(published: PolicyFolder) -> PolicySet:
    return published.policy_set()


def test_a_policy_that_names_another_guard_is_not_ours(acme: Organisation, tmp_path: Path) -> None:
    """A guard does not act on a policy in which it has no part."""
    keys = own(tmp_path).own_keys()
    other = Organisation()
    with pytest.raises(RejectedError, match="signing_key"):
        check_successor(as_set(other.publish(tmp_path / "a")), None, keys, NOW)
    other.guard = acme.guard
    with pytest.raises(RejectedError, match="witness"):
        check_successor(as_set(other.publish(tmp_path / "b")), None, keys, NOW)
    other.witness = acme.witness
    with pytest.raises(RejectedError, match="lease_key"):
        check_successor(as_set(other.publish(tmp_path / "c")), None, keys, NOW)


def test_an_older_policy_never_takes_the_place_of_a_newer(
    acme: Organisation, tmp_path: Path
) -> None:
    """Nor another one of the same version; signed again it may."""
    keys = own(tmp_path).own_keys()
    first = as_set(acme.publish(tmp_path / "p"))
    second = as_set(acme.publish(tmp_path / "p", acme.policy(version=2)))
    check_successor(second, first, keys, NOW)
    with pytest.raises(RejectedError, match="higher version"):
        check_successor(first, second, keys, NOW)
    later = NOW + timedelta(days=91)
    renewed = as_set(acme.publish(tmp_path / "p", acme.policy(version=2), at=later))
    assert renewed.policy == second.policy
    check_successor(renewed, second, keys, later)


def test_a_policy_under_other_keys_is_refused(acme: Organisation, tmp_path: Path) -> None:
    """Whoever replaces the root needs more than a root of their own."""
    keys = own(tmp_path).own_keys()
    first = as_set(acme.publish(tmp_path / "p"))
    usurper = Organisation(guard=acme.guard, witness=acme.witness, guard_lease=acme.guard_lease)
    second = as_set(usurper.publish(tmp_path / "q", usurper.policy(version=2)))
    with pytest.raises(ForgedError, match="another root"):
        check_successor(second, first, keys, NOW)


def test_a_policy_that_is_not_wholly_signed_or_expired_is_refused(
    acme: Organisation, tmp_path: Path
) -> None:
    """One party alone, or signatures of last year."""
    keys = own(tmp_path).own_keys()
    published = as_set(acme.publish(tmp_path / "p"))
    with pytest.raises(ForgedError):
        check_successor(published, None, keys, NOW + timedelta(days=91))
    changed = published.policy.replace(b'"hold_seconds": 600', b'"hold_seconds": 601')
    swapped = msgspec.structs.replace(published, policy=changed)
    with pytest.raises(ForgedError):
        check_successor(swapped, None, keys, NOW)


def test_an_installed_policy_that_cannot_be_read_is_no_policy(tmp_path: Path) -> None:
    """Fail closed: garbage is an error, absence is none."""
    path = tmp_path / "policy-set.json"
    assert load(path) is None
    path.write_text("{}")
    with pytest.raises(SetupError):
        load(path)


def test_the_configuration_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    """A typo is an error, not a default."""
    premises = own(tmp_path)
    config = Config(origin="https://127.0.0.1:1", tenant="acme", name="n", listen="127.0.0.1:0")
    move_in(premises, config)
    assert premises.config() == config
    with premises.config_file.open("a") as file:
        file.write('surprise = "x"\n')
    with pytest.raises(SetupError, match="surprise"):
        premises.config()


def test_the_guide_names_every_command_and_every_key() -> None:
    """docs/guides/guard.md is enough to run one."""
    guide = (Path(__file__).parents[2] / "docs/guides/guard.md").read_text()
    for command in cli.commands:
        assert f"assent-guard {command}" in guide, command
    for key in Config.__struct_fields__:
        assert f"`{key}`" in guide, key
