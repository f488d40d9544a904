"""The command line: what an operator does, from nothing to a serving collector."""

import contextlib
import http.client
import json
import os
import signal
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.command import outcome
from base.errors import ExitCode
from base.https import OneDoor
from base.pki import (
    Authority,
    Role,
    certificate_hosts,
    client_of,
    client_uri,
    signing_request,
)
from benchmarks.meter import tree
from collector.__main__ import cli
from collector.assembly import Collector
from collector.commands.setup import still_to_do
from collector.config import Config, Limits, read_config
from collector.premises import our_premises
from tests.fakes.organisation import Organisation, ed25519
from tests.fakes.postgres import Server
from tests.fakes.tls import WAIT_SECONDS, pem_to_der
from wire.collector_http import Certified, Enrolment, EnrolRequest, State
from wire.errors import WireError
from wire.halting import Halt, sign_halt
from wire.ids import WallInstant
from wire.policy import policy_digest

ROOT = Path(__file__).resolve().parents[2]
ORIGIN = "https://127.0.0.1:8443"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSENT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return tmp_path / "home"


def does(*arguments: str) -> str:
    """Run a command that has to succeed; return what it prints."""
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run a command that has to fail; return its exit code and its one line."""
    code = outcome(cli, "assent-collector", list(arguments), refusals=(WireError,))
    err = capsys.readouterr().err
    assert err.startswith("assent-collector: "), err
    assert err.count("\n") == 1
    return code, err.removeprefix("assent-collector: ").rstrip()


def initialised() -> dict[str, str]:
    facts = json.loads(does("init", "--origin", ORIGIN, "--tenant", "acme", "--json"))
    return {str(name): str(value) for name, value in facts.items()}


def signed_policy(folder: Path, facts: dict[str, str], **changes: object) -> Organisation:
    """Sign a policy that names this collector; return who signed it."""
    org = Organisation()
    policy = org.policy()
    about = msgspec.structs.replace(
        policy.collector,
        origin=facts["origin"],
        log=facts["log_key"],
        lease_key=facts["lease_key"],
        tls_pins=(facts["tls_pin"],),
    )
    about = msgspec.structs.replace(about, **changes)
    org.publish(folder, msgspec.structs.replace(policy, collector=about), at=datetime.now(UTC))
    return org


# --- init -------------------------------------------------------------------------------


def test_init_makes_everything_once_and_says_what_a_policy_names(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keys, certificates, config; a second init touches nothing."""
    said = does("init", "--origin", ORIGIN, "--tenant", "acme")
    assert "tls_pin" in said
    assert "127.0.0.1:8443/acme+" in said  # the log's verifier key
    before = {path: path.read_bytes() for path in (home / "config").rglob("*") if path.is_file()}
    code, line = fails(capsys, "init", "--origin", ORIGIN, "--tenant", "acme")

    assert code == ExitCode.SETUP
    assert "is set up already" in line
    assert {p: p.read_bytes() for p in (home / "config").rglob("*") if p.is_file()} == before


def test_everything_that_is_written_is_private(home: Path) -> None:
    """0600 files in 0700 folders, the index too."""
    initialised()
    for path in home.rglob("*"):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


@pytest.mark.parametrize(
    ("origin", "tenant"),
    [
        ("http://a.example", "acme"),
        ("https://a.example/x", "acme"),
        (ORIGIN, "Acme Ltd"),
        (ORIGIN, ""),
        (ORIGIN, "a:b"),
    ],
)
def test_init_refuses_what_could_not_be_named(
    home: Path, capsys: pytest.CaptureFixture[str], origin: str, tenant: str
) -> None:
    """And leaves nothing behind."""
    code, _line = fails(capsys, "init", "--origin", origin, "--tenant", tenant)
    assert code == ExitCode.SETUP
    assert not (home / "config").exists()


def test_an_interrupted_init_can_be_run_again(home: Path) -> None:
    """config.toml comes last, so its absence means: begin anew."""
    initialised()
    (home / "config" / "config.toml").unlink()
    initialised()


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("devices",),
        ("serve",),
        ("token", "--out", "x"),
        ("halt", "why"),
        ("stop", "why"),
        ("go-on",),
        ("revoke", "abcdef"),
    ],
)
def test_every_command_says_when_nothing_is_set_up(
    home: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    """One line with what to do; nothing is created."""
    code, line = fails(capsys, *command)
    assert code == ExitCode.SETUP
    assert "run assent-collector init first" in line
    assert not home.exists()


@pytest.mark.parametrize("command", [("status",), ("serve",), ("consents",), ("devices",)])
def test_an_index_that_is_gone_is_not_made_anew(
    home: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    """A new one would know of no consent, no deletion and no leaf of the log."""
    does("init", "--origin", ORIGIN, "--tenant", "acme")
    (home / "state/index.sqlite").unlink()
    code, line = fails(capsys, *command)
    assert code == ExitCode.SETUP
    assert "index.sqlite is missing or empty" in line
    assert not (home / "state/index.sqlite").exists()


@pytest.mark.slow
def test_init_makes_the_index_in_the_database_that_it_is_told(
    home: Path, postgres: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command works there, no file is made, and a database in use is not taken."""
    url = postgres.empty()
    first = ("init", "--origin", ORIGIN, "--tenant", "acme", "--index", url)
    does(*first)
    assert read_config(home / "config" / "config.toml").index.url == url
    assert "fewer than 10" in does("status")
    does("stop", "the store is moved")
    assert not (home / "state" / "index.sqlite").exists()

    (home / "config" / "config.toml").unlink()
    code, line = fails(capsys, *first)
    assert code == ExitCode.SETUP
    assert "holds an index already; nothing was changed" in line


def test_a_password_on_the_command_line_is_refused_before_anything_is_set_up(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would stand in config.toml, and in the list of processes."""
    url = "postgresql://ada:secret@db.example/assent"
    code, line = fails(capsys, "init", "--origin", ORIGIN, "--tenant", "acme", "--index", url)
    assert code == ExitCode.SETUP
    assert "has a password in it" in line
    assert "secret" not in line
    assert not (home / "config" / "config.toml").exists()


# --- config.toml ------------------------------------------------------------------------


def test_the_config_that_init_writes_has_the_defaults(home: Path) -> None:
    """Every commented line in it is the default, so that it can be read as documentation."""
    initialised()
    path = home / "config" / "config.toml"
    config = read_config(path)
    assert config == Config(origin=ORIGIN, tenant="acme", listen="127.0.0.1:8443")
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join(
            line.removeprefix("# ")
            if (line.startswith(("# ", "# [")) and "=" in line) or line.startswith("# [")
            else line
            for line in lines
        )
    )
    assert read_config(path) == config
    assert {f"{name} = " in path.read_text() for name in Limits.__struct_fields__} == {True}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("orgin = 'x'", "orgin"),
        ("origin = 'https://a.example'\ntenant = 'a'\nlisten = 1", "listen"),
        ("origin = 'https://a.example'\ntenant = 'a'", "listen"),
        ("[limits]\nframe_byte = 1", "frame_byte"),
        (f"origin = '{ORIGIN}'\ntenant = 'a'\nlisten = 'x:1'\n[limits]\nframe_byte = 1", "frame"),
        ("not toml", "mend it"),
        ("origin = 'http://a'\ntenant = 'a'\nlisten = 'x:1'", "is no origin: it is https://"),
    ],
)
def test_a_mistake_in_the_config_is_one_line(
    home: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    """An unknown key is a mistake: it would otherwise be a setting that does nothing."""
    initialised()
    (home / "config" / "config.toml").write_text(text)
    code, line = fails(capsys, "status")
    assert code == ExitCode.SETUP
    assert said in line


def test_two_listeners_at_one_address_are_a_mistake(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said by init, before anything is made, and by serve; not by the system, as "in use"."""
    same = "https://127.0.0.1:8443"
    assert fails(capsys, "init", "--origin", same, "--tenant", "acme", "--readers", same) == (
        ExitCode.SETUP,
        "readers_listen is the address of listen; give it another port",
    )
    assert not (home / "config").exists()
    initialised()
    config = home / "config" / "config.toml"
    listen = read_config(config).listen
    config.write_text(f'readers_listen = "{listen}"\n{config.read_text()}')
    assert "readers_listen is the address of listen" in fails(capsys, "serve")[1]


def test_a_server_says_what_it_lacks(home: Path) -> None:
    """Whoever starts it too early waits for batches that nobody can send."""
    initialised()
    premises = our_premises()
    with contextlib.closing(Collector.open(premises)) as collector:
        lacking = still_to_do(collector)
    assert ["connect-guard" in lacking[0], "publish" in lacking[1]] == [True, True]


@pytest.mark.parametrize("listen", ["8443", ":8443", "host", "host:port", "host:99999"])
def test_an_address_to_listen_on_has_host_and_port(
    home: Path, capsys: pytest.CaptureFixture[str], listen: str
) -> None:
    """Found before anything listens."""
    initialised()
    code, line = fails(capsys, "serve", "--listen", listen)
    assert code == ExitCode.SETUP
    assert "is not host:port" in line


# --- policy and tokens ------------------------------------------------------------------


def test_a_published_policy_is_in_force_and_tokens_carry_its_root(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The enrolment file is all that a device needs to know."""
    facts = initialised()
    code, line = fails(capsys, "token", "--out", str(tmp_path / "early.json"))
    assert (code, "publish first" in line) == (ExitCode.SETUP, True)

    signed_policy(tmp_path / "policy", facts)
    text = (tmp_path / "policy" / "policy.json").read_bytes()
    assert policy_digest(text).hex() in does("publish", str(tmp_path / "policy"))
    assert "already" in does("publish", str(tmp_path / "policy"))
    does("token", "--out", str(tmp_path / "ada.json"), "--days", "2")
    file = msgspec.json.decode((tmp_path / "ada.json").read_bytes(), type=Enrolment)

    assert stat.S_IMODE((tmp_path / "ada.json").stat().st_mode) == 0o600
    assert (file.origin, file.tls_pins) == (ORIGIN, (facts["tls_pin"],))
    assert file.ca_pem == Path(facts["ca_pem"]).read_text()
    left_days = file.expires_at / 1e9 / 86400 - datetime.now(UTC).timestamp() / 86400
    assert 1.9 < left_days < 2.1
    assert json.loads(does("status", "--json"))["policy_version"] == 1


def test_a_policy_for_another_collector_is_not_published(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found here, not on every workstation."""
    facts = initialised()
    signed_policy(tmp_path / "policy", facts, tenant="other")
    code, line = fails(capsys, "publish", str(tmp_path / "policy"))
    assert (code, "names the tenant other" in line) == (ExitCode.REJECTED, True)

    (tmp_path / "policy" / "policy.json").write_text("{}")
    code, _line = fails(capsys, "publish", str(tmp_path / "policy"))
    assert code == ExitCode.REJECTED


# --- readers, guard, halt ---------------------------------------------------------------


def test_a_reader_is_certified_and_revoked_by_name(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The certificate names tenant, role and reader."""
    initialised()
    (tmp_path / "reader.csr").write_bytes(signing_request(ed25519()))
    arguments = ("certify", "--role", "reader", "--name", "team", str(tmp_path / "reader.csr"))
    printed = client_of(pem_to_der(does(*arguments).encode()))
    assert (printed.tenant, printed.role, printed.name) == ("acme", Role.READER, "team")
    does(*arguments, "--out", str(tmp_path / "reader.pem"))
    assert client_of(pem_to_der((tmp_path / "reader.pem").read_bytes())).name == "team"

    assert "reader team" in does("revoke", "--reader", "team")
    assert "no reader" in fails(capsys, "revoke", "--reader", "other")[1]
    (tmp_path / "reader.csr").write_text("nothing")
    assert fails(capsys, *arguments)[0] == ExitCode.REJECTED


def test_the_guard_is_connected_once(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Origin and pins stand in config.toml, certificates beside it; said again, they are these."""
    facts = initialised()
    guard = Authority.create("the guard")
    ca, certificate = tmp_path / "ca.pem", tmp_path / "client.pem"
    ca.write_bytes(guard.pem)
    uri = client_uri("acme", Role.COLLECTOR, "main")
    certificate.write_bytes(guard.certify(Path(facts["guard_csr"]).read_bytes(), uri))
    arguments = ("connect-guard", "--origin", "https://guard.example:8444/", "--pin", "ab" * 32)
    files = ("--ca", str(ca), "--certificate", str(certificate))
    does(*arguments, *files)
    does(*arguments, *files)

    config = read_config(home / "config" / "config.toml")
    assert config.guard is not None
    assert (config.guard.origin, config.guard.tls_pins) == (
        "https://guard.example:8444",
        ("ab" * 32,),
    )
    assert json.loads(does("status", "--json"))["guard"] == "https://guard.example:8444"
    # Its key is to change: with both pins, and later with the new one alone.
    for pins in (("ab" * 32, "cd" * 32), ("cd" * 32,)):
        said = [word for pin in pins for word in ("--pin", pin)]
        does(*arguments[:3], *said, *files)
        assert read_config(home / "config" / "config.toml").guard == msgspec.structs.replace(
            config.guard, tls_pins=pins
        )
    # Another guard is another matter, and so is what was written by hand.
    other = ("connect-guard", "--origin", "https://elsewhere.example", *arguments[3:])
    assert "another guard" in fails(capsys, *other, *files)[1]
    path = home / "config" / "config.toml"
    path.write_text(path.read_text("utf-8").replace("tls_pins = [", "tls_pins =  ["))
    before = path.read_bytes()
    assert "change tls_pins there" in fails(capsys, *arguments, *files)[1]
    assert path.read_bytes() == before


def test_further_witnesses_are_connected_one_by_one(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with its pin and its authority; again changes nothing but what is said anew."""
    initialised()
    ca, nonsense = tmp_path / "ca.pem", tmp_path / "nonsense"
    ca.write_bytes(Authority.create("a witness").pem)
    nonsense.write_text("no certificate")
    for name in ("union", "lab", "union"):
        url = f"https://{name}.example:8444/"
        does("connect-witness", url, "--pin", "ab" * 32, "--ca", str(ca))
    config = read_config(home / "config" / "config.toml")
    assert [each.origin for each in config.witnesses] == [
        "https://union.example:8444",
        "https://lab.example:8444",
    ]
    kept = our_premises().witness_authority("https://lab.example:8444")
    assert kept.read_bytes() == ca.read_bytes()
    url = "https://union.example:8444"
    for pin, file, said in (
        ("ab" * 32, nonsense, "no certificate"),
        ("ab", ca, "pin"),
    ):
        code, line = fails(capsys, "connect-witness", url, "--pin", pin, "--ca", str(file))
        assert code == ExitCode.SETUP
        assert said in line
    does("connect-witness", url, "--pin", "ab" * 32, "--pin", "cd" * 32, "--ca", str(ca))
    pins = {
        each.origin: each.tls_pins for each in read_config(home / "config/config.toml").witnesses
    }
    assert pins == {url: ("ab" * 32, "cd" * 32), "https://lab.example:8444": ("ab" * 32,)}
    assert f"witnesses  {url}, https://lab.example:8444" in does("status")


def test_an_index_of_this_version_needs_nothing(home: Path) -> None:
    """Nobody is told to stop everything for a migration that there is not."""
    initialised()
    for words in (("migrate",), ("migrate", "--yes")):
        assert does(*words).splitlines()[-1] == "There is nothing to do."


def test_what_does_not_belong_together_is_not_kept(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half a pin, a file that is no certificate, and the collector's own authority."""
    facts = initialised()
    guard = Authority.create("the guard")
    ca, certificate = tmp_path / "ca.pem", tmp_path / "client.pem"
    ca.write_bytes(guard.pem)
    uri = client_uri("acme", Role.COLLECTOR, "main")
    certificate.write_bytes(guard.certify(Path(facts["guard_csr"]).read_bytes(), uri))

    def said(pin: str, ca: Path, certificate: Path) -> str:
        files = ("--ca", str(ca), "--certificate", str(certificate))
        words = ("connect-guard", "--origin", "https://guard.example:8444", "--pin", pin, *files)
        return fails(capsys, *words)[1]

    assert "cut short" in said("abcd", ca, certificate)
    assert "not hexadecimal" in said("zz", ca, certificate)
    assert "no certificate in PEM" in said("ab" * 32, ca, Path(facts["guard_csr"]))
    assert "another authority" in said("ab" * 32, Path(facts["ca_pem"]), certificate)
    assert "another key" in said("ab" * 32, ca, ca)
    assert read_config(home / "config" / "config.toml").guard is None


def test_a_halt_is_logged_and_no_command_lifts_it(home: Path) -> None:
    """It is a leaf; saying it twice is saying it; going on is for stops only."""
    initialised()
    assert "is halted" in does("halt", "works council")
    assert "so already" in does("halt", "again")
    assert "still stands still" in does("go-on")
    facts = json.loads(does("status", "--json"))
    assert (facts["halted"], facts["why"]) == (True, "works council (said by the collector)")
    assert facts["counts"]["leaves"] == 1
    assert "HALTED: works council" in does("status")
    assert "unhalt" not in cli.commands


def test_a_stop_is_logged_and_ends_with_one_word(home: Path) -> None:
    """Both are leaves, and neither is a halt."""
    initialised()
    assert "stands still" in does("stop", "the disk is changed")
    assert "already" in does("stop", "again")
    facts = json.loads(does("status", "--json"))
    assert (facts["halted"], facts["stopped"]) == (False, "the disk is changed")
    assert "STOPPED: the disk is changed" in does("status")
    assert "is over" in does("go-on")
    facts = json.loads(does("status", "--json"))
    assert (facts["stopped"], facts["counts"]["leaves"]) == ("", 2)


def test_a_halt_signed_by_one_party_is_taken_and_another_signature_is_not(
    home: Path, tmp_path: Path
) -> None:
    """One party is enough, and it has to be one; another policy's halt halts nothing."""
    org = signed_policy(tmp_path / "policy", initialised())
    does("publish", str(tmp_path / "policy"))
    digest = policy_digest((tmp_path / "policy" / "policy.json").read_bytes())
    file = tmp_path / "halt.json"

    def says(key: Ed25519PrivateKey, policy: bytes) -> tuple[int, str]:
        halt = Halt(policy=policy, why="nobody\nasked us", called_at=WallInstant(1))
        file.write_bytes(msgspec.json.encode(sign_halt(halt, key)))
        result = CliRunner().invoke(cli, ["halt", "--statement", str(file)])
        return result.exit_code, str(result.exception) + result.output

    assert "not signed" in says(ed25519(), digest)[1]
    assert "another policy" in says(org.council, bytes(32))[1]
    assert json.loads(does("status", "--json"))["halted"] is False
    code, said = says(org.council, digest)
    assert (code, "Works Council" in said) == (0, True)
    assert json.loads(does("status", "--json"))["why"].startswith("nobody asked us")


def test_revoke_names_one_thing(home: Path) -> None:
    """A device or a reader."""
    initialised()
    for arguments in (("revoke",), ("revoke", "ab", "--reader", "team")):
        assert CliRunner().invoke(cli, arguments).exit_code == ExitCode.USAGE


def test_help_teaches_with_an_example() -> None:
    """Every command shows at least one."""
    for name in cli.commands:
        said = CliRunner().invoke(cli, [name, "--help"]).output
        assert "Example:" in said, name
        assert f"assent-collector {name}" in said


# --- serve ------------------------------------------------------------------------------


def test_a_served_collector_enrols_and_shows_a_halt_at_once(home: Path, tmp_path: Path) -> None:
    """The command line works beside the running server; SIGTERM ends it with 0."""
    facts = initialised()
    signed_policy(tmp_path / "policy", facts)
    does("publish", str(tmp_path / "policy"))
    does("token", "--out", str(tmp_path / "ada.json"))
    file = msgspec.json.decode((tmp_path / "ada.json").read_bytes(), type=Enrolment)
    command = [sys.executable, "-m", "collector", "serve", "--listen", "127.0.0.1:0"]
    child = subprocess.Popen(
        [*command, "--port-file", str(tmp_path / "port")],
        cwd=ROOT,
        env={**os.environ, "ASSENT_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline().startswith(f"serving {ORIGIN} on port ")
    for pid in tree(child.pid):  # the keys of log, authority and TLS are in memory
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        [core] = [line.split() for line in limits if line.startswith("Max core file size")]
        assert core[4:6] == ["0", "0"]
    port = int((tmp_path / "port").read_text())
    door = OneDoor(f"https://127.0.0.1:{port}", file.tls_pins, file.ca_pem, timeout=WAIT_SECONDS)
    request = EnrolRequest(token=file.token, csr=signing_request(ed25519()).decode())
    answer = door.request("POST", "/v1/enroll", msgspec.json.encode(request))
    assert answer.status == 201
    device = client_of(
        pem_to_der(msgspec.json.decode(answer.body, type=Certified).certificate.encode())
    ).name

    assert json.loads(does("devices", "--json"))[0]["device"] == device
    assert device[:16] in does("devices")
    assert f"{device}  is in DE" in does("jurisdiction", device[:8], "DE")
    does("halt", "works council")
    state = msgspec.json.decode(door.request("GET", "/v1/state").body, type=State)
    assert state == State(halted=True, why="works council (said by the collector)")
    assert "Revoked" in does("revoke", device[:8])
    second = subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        env={**os.environ, "ASSENT_HOME": str(home)},
        capture_output=True,
        text=True,
    )
    assert second.returncode == ExitCode.SETUP
    assert "another assent-collector serves" in second.stderr

    child.send_signal(signal.SIGTERM)
    _out, err = child.communicate(timeout=WAIT_SECONDS)
    assert child.returncode == 0, err
    logs = err + "".join(path.read_text() for path in (home / "logs").iterdir())
    assert device not in logs
    assert file.token not in logs


def test_each_listener_says_its_port_and_sigterm_ends_them_all(home: Path, tmp_path: Path) -> None:
    """As an operator starts it: three ports, in files beside each other, and one end."""
    initialised()
    path = home / "config" / "config.toml"
    text = path.read_text().replace('listen = "', 'readers_listen = "127.0.0.1:0"\nlisten = "', 1)
    path.write_text(f'{text}\n[operators]\nlisten = "127.0.0.1:0"\n')
    child = subprocess.Popen(
        [
            *(sys.executable, "-m", "collector", "serve", "--listen", "127.0.0.1:0"),
            *("--port-file", str(tmp_path / "port")),
        ],
        cwd=ROOT,
        env={**os.environ, "ASSENT_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    said = [child.stdout.readline().split(" on port ") for _ in range(3)]
    assert [what for what, _port in said] == [
        f"serving {ORIGIN}",
        "serving readers",
        "serving operators",
    ]
    files = [tmp_path / name for name in ("port", "port.readers", "port.operators")]
    assert [file.read_text() for file in files] == [port for _what, port in said]
    connection = http.client.HTTPConnection("127.0.0.1", int(said[2][1]), timeout=WAIT_SECONDS)
    connection.request("GET", "/readyz")
    answer = connection.getresponse()
    assert answer.status == 503
    assert json.loads(answer.read())["waits_for"].keys() == {"policy", "guard"}
    connection.close()
    child.send_signal(signal.SIGTERM)
    _out, err = child.communicate(timeout=WAIT_SECONDS)
    assert (child.returncode, "Traceback" in err) == (0, False), err


def test_init_names_the_readers_listener_where_it_is_told_to(home: Path) -> None:
    """Its host stands in the certificate, its address in config.toml, its origin is printed."""
    readers = "https://readers.acme.example:8445"
    facts = json.loads(
        does("init", "--origin", ORIGIN, "--tenant", "acme", "--readers", readers, "--json")
    )
    assert facts["readers"] == readers
    assert read_config(home / "config" / "config.toml").readers_listen == "0.0.0.0:8445"
    hosts = certificate_hosts((home / "config" / "tls.pem").read_bytes())
    assert set(hosts) == {"readers.acme.example", "127.0.0.1"}


def test_readers_call_what_devices_call_where_nothing_is_said_of_them(home: Path) -> None:
    """As before there were listeners."""
    assert initialised()["readers"] == ORIGIN
    assert read_config(home / "config" / "config.toml").readers_listen == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('readers_listen = "somewhere"', "is not host:port"),
        ('log_form = "xml"', "log_form"),
        ("[operators]\nlisten = 9464", "listen"),
        ('[operators]\nwhere = "x"', "where"),
        ("[limits]\ndevice_uploads_per_minute = -1", "device_uploads_per_minute"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(
    home: Path, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    """What is wrong, before anything listens."""
    initialised()
    path = home / "config" / "config.toml"
    path.write_text(path.read_text().replace("# client_days", f"{line}\n# client_days", 1))
    code, told = fails(capsys, "serve")
    assert code == ExitCode.SETUP
    assert said in told


def test_an_operator_is_certified_as_one(home: Path, tmp_path: Path) -> None:
    """By role and name; no list is kept, config.toml is the list."""
    initialised()
    (tmp_path / "prometheus.csr").write_bytes(signing_request(ed25519()))
    out = tmp_path / "prometheus.pem"
    role = ("--role", "operator", "--name", "prometheus", "--out", str(out))
    said = does("certify", str(tmp_path / "prometheus.csr"), *role)
    assert "operator prometheus" in said
    client = client_of(pem_to_der(out.read_bytes()))
    assert (client.role, client.name, client.tenant) == (Role.OPERATOR, "prometheus", "acme")
    assert json.loads(does("status", "--json"))["counts"]["readers"] == 0
