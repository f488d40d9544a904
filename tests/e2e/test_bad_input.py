"""Bad input to the real programs: one clear line, the documented exit code, nothing lost.

Every case runs a command as its own process on a copy of a program's folders, damages one
thing, and looks at four: the exit code, standard error, the logs, and every file that was
there before.  The desktop's part (no display, no tray host, no D-Bus, a full disk while it
records) is in `test_bad_surroundings.py`.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import pytest

from agent import erasures
from agent.enroll import ENROLMENT
from base.errors import ExitCode
from demo.organisation import Organisation, Plan
from tests.conftest import Size
from tests.fakes.damage import (
    DAMAGES,
    GARBAGE,
    Damage,
    a_folder,
    empty,
    foreign,
    garbled,
    newer,
    truncated,
)
from tests.fakes.device import Device
from tests.fakes.governed import governed
from wire.category import Category
from wire.collector_http import Enrolment
from wire.event import Key
from wire.ids import BootInstant

pytestmark = [pytest.mark.slow, pytest.mark.soak]

ROOT: Final = Path(__file__).resolve().parents[2]
SECONDS: Final = 120.0
FAKETIME: Final = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
NO_OVERRIDE: Final = "-dac_override,-dac_read_search"  # root without it obeys modes


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    line: str
    code: int
    out: str
    err: str
    home: Path

    def fails(self, *codes: int) -> str:
        """Check that it failed as it should, in one line; return that line."""
        assert self.code in codes, (self.line, self.code, self.err)
        lines = [line for line in self.err.splitlines() if line]
        assert len(lines) == 1, (self.line, self.err)
        program, colon, said = lines[0].partition(": ")
        assert colon, lines
        assert program.startswith("assent-"), lines
        assert len(said) > 20, lines  # what happened, and what to do
        self.has_no_traceback()
        return said

    def has_no_traceback(self) -> None:
        """Neither on the terminal nor in a log."""
        logs = [p.read_text("utf-8", "replace") for p in (self.home / "logs").glob("*")]
        for text in (self.out, self.err, *logs):
            assert "Traceback" not in text, (self.line, text)


def run(module: str, home: Path, *words: str | Path, **environment: str) -> Ran:
    """Run one command on the folders in *home*, as root without root's right to read anything."""
    command = [sys.executable, "-P", "-m", module, *map(str, words)]
    if os.getuid() == 0:
        command = ["setpriv", "--bounding-set", NO_OVERRIDE, "--", *command]
    env = {name: value for name, value in os.environ.items() if name not in DESKTOP}
    ran = subprocess.run(
        command,
        env={**env, "ASSENT_HOME": str(home), **environment},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return Ran(f"{module} {words}", ran.returncode, ran.stdout, ran.stderr, home)


DESKTOP: Final = ("DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "XDG_SESSION_TYPE")


# --- an organisation that has lived a little ----------------------------------------------


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisation]:
    """Return one whose reader has fetched a batch, and whose every file is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XDG_RUNTIME_DIR", raising=False)
        with Organisation(tmp_path_factory.mktemp("acme"), Plan(hold_seconds=1)) as organisation:
            yield organisation


@pytest.fixture(scope="module")
def device(acme: Organisation) -> Device:
    """Return a device that has handed in a batch."""
    enrolment = msgspec.json.decode(acme.enrolment_file("ann").read_bytes(), type=Enrolment)
    return Device(acme.folder / "ann", enrolment).enrol()


@pytest.fixture(scope="module")
def frame(acme: Organisation, device: Device) -> bytes:
    """Return a batch that was uploaded, released and fetched."""
    consent = device.agree(Category.KEYS)
    typed = Key(at=BootInstant(1), sequence=1, pressed=True, kind="letter", text="")
    sealed = device.seal(consent, device.guard_key(Category.KEYS), typed)
    device.upload(sealed)
    acme.reader.run("fetch", "--grant", acme.access_grant("keys"))
    return sealed


@pytest.fixture(scope="module")
def lived(acme: Organisation, agent_home: Path, frame: bytes) -> dict[str, Path]:
    """Return the folders of each program as they lie on the disk while nothing runs."""
    acme.stop()
    homes = {name: acme.folder / name for name in ("collector", "guard", "reader")}
    copies = {name: copied(home, acme.folder / f"{name}-lived") for name, home in homes.items()}
    bring(acme, copies)
    acme.serve()
    shutil.copy(acme.folder / "access-grant-1.json", copies["reader"] / "grant.json")
    governance = acme.folder / "governance-lived"
    governance.mkdir(mode=0o700)
    return {**copies, "agent": agent_home, "governance": governed(governance)}


def bring(acme: Organisation, homes: dict[str, Path]) -> None:
    """Lay the signed policy and a party's halt beside collector and guard; halt the guard."""
    statement = acme.folder / "halt.json"
    key = acme.keys / "controller/policy-key.pem"
    acme.governance.run("halt", acme.policy, "unheard", "--key", key, "--out", statement)
    for name in ("collector", "guard"):
        shutil.copytree(acme.policy, homes[name] / "given/acme")
        shutil.copy(statement, homes[name] / "given")
    for word in ("halt", "stop"):
        assert run("guard", homes["guard"], word, "unheard").code == 0


@pytest.fixture(scope="module")
def agent_home(acme: Organisation) -> Path:
    """Return the folders of an agent that was enrolled and restricted a little."""
    home = acme.folder / "agent-home"
    home.mkdir(mode=0o700)
    key = acme.folder / "rights.key"
    assert run("agent", home, "enroll", acme.enrolment_file("bob"), "--rights-key", key).code == 0
    assert run("agent", home, "opt-out", "screen").code == 0
    numbers = {"events": {"keys": 4097}, "batch": 3}
    (home / "state/numbers.json").write_text(json.dumps(numbers), "utf-8")
    hashes = {"hash": "qrs=" * 11 + "", "category": "keys", "expires": "2099-01-01"}
    hashes["hash"] = "q" * 43 + "="
    (home / "state/spool/sent.jsonl").write_text(json.dumps(hashes) + "\n", "utf-8")
    return home


# --- one thing is wrong -------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A file of a program, the command that meets it, and what else may happen to it."""

    file: str
    words: tuple[str, ...]
    codes: tuple[int, ...] = (ExitCode.SETUP,)
    has_version: bool = False
    harmless: tuple[Damage, ...] = ()  # documented: it goes on without it, or puts it aside

    def damages(self) -> tuple[Damage, ...]:
        """Return what can be wrong with it and must be refused."""
        every = (*DAMAGES, newer) if self.has_version else DAMAGES
        return tuple(damage for damage in every if damage not in self.harmless)


PAUSE: Final = ("pause",)
UNREAD: Final = (garbled, truncated, empty, foreign)
AGENT: Final = (
    Case("config/config.toml", ("config",), harmless=(empty,)),  # what is not set has a default
    Case("state/enrolment.json", PAUSE, has_version=True),
    Case("state/device.key", PAUSE),
    Case("state/numbers.json", PAUSE, has_version=True),
    # A damaged record of consents is put aside and nothing is consented (agent.consent.ledger).
    Case("state/consent.jsonl", PAUSE, has_version=True, harmless=UNREAD),
    Case("state/spool/sent.jsonl", PAUSE, has_version=True, harmless=UNREAD),
)
STATUS: Final = ("status",)
OF_SQLITE: Final = (ExitCode.SETUP, ExitCode.LATER)
SERVE: Final = ("serve", "--listen", "127.0.0.1:0")
NO_GOOD: Final = (ExitCode.SETUP, ExitCode.REJECTED)
HALT: Final = ("halt", "--statement", "given/halt.json")
COLLECTOR: Final = (
    Case("config/config.toml", STATUS, harmless=(truncated,)),  # its second half is remarks
    Case("config/log.key", STATUS),
    Case("config/tls.pem", STATUS, (ExitCode.SETUP, ExitCode.REJECTED)),
    Case("config/tls.key", SERVE),
    Case("config/ca.key", SERVE),
    Case("config/ca.pem", SERVE),
    Case("config/guard/client.pem", SERVE),
    Case("config/guard/client.key", SERVE),
    Case("config/guard/ca.pem", SERVE),
    Case("config/lease.key", SERVE),
    Case("state/index.sqlite", STATUS, OF_SQLITE, has_version=True),
    Case("given/acme/snapshot.json", ("publish", "given/acme"), NO_GOOD),
    # A folder there is a mistake in the command line, and shows how it is used.
    Case("given/halt.json", HALT, NO_GOOD, harmless=(a_folder,)),
)
GUARD: Final = (
    Case("config/config.toml", STATUS),
    Case("config/signing.key", STATUS),
    Case("config/witness.key", STATUS),
    Case("config/lease.key", STATUS),
    Case("config/tls.pem", STATUS, (ExitCode.SETUP, ExitCode.REJECTED)),
    Case("config/ca.key", STATUS),
    Case("config/ca.pem", STATUS),
    Case("config/tls.key", SERVE),
    Case("state/policy-set.json", STATUS, has_version=True),
    Case("state/keys.sqlite", STATUS, OF_SQLITE, has_version=True),
    # Nothing was erased in this organisation.
    Case("state/keys.erased", STATUS, harmless=(truncated, empty)),
    Case("state/witness.sqlite", STATUS, OF_SQLITE, has_version=True),
    Case("state/halt.json", STATUS, has_version=True),
    Case("state/stop.json", STATUS, has_version=True),
    Case("given/acme/snapshot.json", ("trust", "given/acme", "--yes"), NO_GOOD),
    Case("given/halt.json", HALT, NO_GOOD, harmless=(a_folder,)),
)
FETCH: Final = ("fetch", "--grant", "grant.json")
READER: Final = (
    Case("config/reader.toml", STATUS),
    Case("config/keys.json", ("keys", "list"), has_version=True),
    Case("config/identity.txt", ("verify",), (ExitCode.SETUP, ExitCode.REJECTED)),
    Case("config/collector/door.toml", STATUS),
    Case("config/guard/door.toml", STATUS),
    Case("config/client.key", FETCH),
    Case("config/collector/ca.pem", FETCH),
    Case("config/collector/client.pem", FETCH),
    Case("config/guard/ca.pem", FETCH),
    Case("config/guard/client.pem", FETCH),
    Case("grant.json", FETCH, (ExitCode.SETUP, ExitCode.REJECTED)),
    Case("state/library.json", STATUS, has_version=True, harmless=UNREAD),
    Case("state/frames/*.frame", ("verify",), (ExitCode.SETUP, ExitCode.REJECTED)),
    Case("state/releases/*.json", ("verify",), has_version=True),
    Case("state/consents/*.json", ("verify",)),
)
# What else may be wrong with them is in tests/unit/test_governance_files.py.
SIGN: Final = ("sign", "policy", "--key", "ada/policy-key.pem", "--yes")
APPROVE: Final = ("approve", "request.json", "--key", "ada/approver-key.pem", "--name", "Ada")
APPROVED: Final = (*APPROVE, "--yes", "--out", "new.json")
OF_BYTES: Final = (ExitCode.SETUP, ExitCode.REJECTED)
GOVERNANCE: Final = (
    Case("policy/policy.json", SIGN, OF_BYTES),
    Case("policy/root.json", SIGN, OF_BYTES),
    Case("policy/targets.json", SIGN, OF_BYTES),
    Case("ada/policy-key.pem", SIGN, harmless=(a_folder,)),  # that is 2: it is named in the line
    Case("ada/approver-key.pem", APPROVED, harmless=(a_folder,)),
    Case("request.json", APPROVED, OF_BYTES, harmless=(a_folder,)),
)
PROGRAMS: Final = {
    "agent": AGENT,
    "collector": COLLECTOR,
    "guard": GUARD,
    "reader": READER,
    "governance": GOVERNANCE,
}
# What lies in a program's folders and is none of its files to read, or is in another table.
ELSEWHERE: Final = re.compile(
    r"logs/.*|run/.*|port(\.\w+)?|output\.log|.*-(shm|wal)|state/(agent\.)?lock"
    r"|config/(guard/client\.csr|reader\.csr|recipient\.(txt|json))"  # for the other party
    r"|state/objects/.*"  # sealed: what is wrong with one shows at guard and reader
    r"|state/(device\.pem|tuf/.*)"  # unit/test_agent_files.py
    r"|given/acme/.*"  # unit/test_policy_files.py
    r"|state/(timestamp|lease)\.json"  # unit/test_collector_lease.py
)
EVERY: Final = [
    pytest.param(module, case, id=f"{module}:{case.file}")
    for module, cases in PROGRAMS.items()
    for case in cases
]


@pytest.mark.parametrize(("module", "case"), EVERY)
def test_a_file_that_cannot_be_used_is_one_line_and_nothing_is_touched(
    lived: dict[str, Path], tmp_path: Path, size: Size, module: str, case: Case
) -> None:
    """Unreadable, garbage, cut short, a folder in its place, of a later version.

    The share has one damage a file, another one for each, and all later versions.
    """

    def meets(damage: Damage) -> tuple[Damage, str]:
        home = copied(lived[module], tmp_path / damage.__name__)
        path = next(iter(home.glob(case.file)), home / case.file)
        if not path.exists():  # a file that a person may write: config.toml of the agent
            path.write_text('log_level = "info"\n', "utf-8")
        damage(path)
        before = everything(home)
        ran = run(module, home, *case.words)
        said = ran.fails(*case.codes)
        after = everything(home)
        assert {name: after.get(name) for name in before} == before, (damage.__name__, said)
        return damage, said

    damages = case.damages()
    first = PROGRAMS[module].index(case)
    some = [damages[(first + n) % len(damages)] for n in range(size(share=1, full=len(damages)))]
    with ThreadPoolExecutor(2) as pool:
        said = dict(pool.map(meets, {*some, *({newer} if case.has_version else ())}))
    if case.has_version:
        assert "later version" in said[newer]


@pytest.mark.parametrize("module", [name for name in PROGRAMS if name != "governance"])
def test_every_file_of_a_program_is_in_the_table(lived: dict[str, Path], module: str) -> None:
    """A new one without a row ends here, and so does a row whose file nobody makes any more."""
    home = lived[module]
    rows = [case.file for case in PROGRAMS[module]]
    known = {path for row in rows for path in home.glob(row)}
    files = {path for path in home.rglob("*") if path.is_file()}
    named = {str(path.relative_to(home)) for path in files - known}
    assert [name for name in sorted(named) if not ELSEWHERE.fullmatch(name)] == []
    unmade = [row for row in rows if not list(home.glob(row))]
    assert unmade == [row for row in unmade if row == "config/config.toml"]  # a person's


def test_a_record_of_consents_that_cannot_be_read_is_put_aside_whole(
    agent_home: Path, tmp_path: Path
) -> None:
    """Nothing is consented then, and the bytes are all still there."""
    home = copied(agent_home, tmp_path / "home")
    ledger = home / "state/consent.jsonl"
    ledger.write_bytes(GARBAGE + ledger.read_bytes())
    before = ledger.read_bytes()
    ran = run("agent", home, "pause")
    assert ran.code == 0, ran.err
    ran.has_no_traceback()
    (aside,) = (home / "state").glob("consent.unreadable-*.jsonl")
    assert aside.read_bytes() == before
    assert "set aside" not in ran.err


def test_what_was_sent_and_cannot_be_read_is_kept_for_who_can(
    agent_home: Path, tmp_path: Path
) -> None:
    """An erasure may have to ask for it."""
    home = copied(agent_home, tmp_path / "home")
    sent = home / "state/spool/sent.jsonl"
    sent.write_bytes(GARBAGE + sent.read_bytes())
    before = sent.read_bytes()
    assert run("agent", home, "pause").code == 0
    assert sent.with_suffix(".unreadable").read_bytes() == before
    assert len(sent.read_bytes().splitlines()) == 1  # the good line


# --- strangers' bytes: enrolment files, frames ----------------------------------------------


def test_a_wrong_enrolment_file_is_one_line_and_the_device_stays_as_it_was(
    acme: Organisation, tmp_path: Path
) -> None:
    """Unknown, used, garbage, cut short, of a later version, of another collector's key."""
    good = acme.enrolment_file("carol")
    file = json.loads(good.read_bytes())
    used = acme.folder / "ann.enrol"
    wrong: dict[str, tuple[object, int]] = {
        "unknown-token": ({**file, "token": "A" * 43}, ExitCode.REJECTED),
        "no-token": ({**file, "token": "é"}, ExitCode.REJECTED),
        "expired": ({**file, "expires_at": 1}, ExitCode.SETUP),
        "other-root": ({**file, "root_sha256": "0" * 64}, ExitCode.REJECTED),
        "other-pin": ({**file, "tls_pins": ["0" * 64]}, ExitCode.LATER),
        "no-pin": ({**file, "tls_pins": []}, ExitCode.SETUP),
        "no-origin": ({**file, "origin": "ftp://x"}, ExitCode.SETUP),
        "nobody-there": ({**file, "origin": "https://127.0.0.1:9"}, ExitCode.LATER),
        "unknown-key": ({**file, "colour": 1}, ExitCode.SETUP),
        "later": ({**file, "version": 2}, ExitCode.SETUP),
        "list": ([], ExitCode.SETUP),
    }
    if used.exists():
        wrong["used"] = (json.loads(used.read_bytes()), ExitCode.REJECTED)
    for name, (document, code) in wrong.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(document), "utf-8")
        # "other-root" spends the token before it is seen, so that comes on its own.
        if name == "other-root":
            fresh = json.loads(acme.enrolment_file("dave").read_bytes())
            path.write_text(json.dumps({**fresh, "root_sha256": "0" * 64}), "utf-8")
        home = tmp_path / name
        home.mkdir(mode=0o700)
        said = run("agent", home, "enroll", path, "--rights-key", home / "rights").fails(code)
        assert not (home / "state/enrolment.json").exists(), said
        assert not (home / "rights").exists(), said
    for name, data in (("garbled", GARBAGE), ("cut", good.read_bytes()[:99]), ("empty", b"")):
        path = tmp_path / name
        path.write_bytes(data)
        run("agent", tmp_path, "enroll", path).fails(ExitCode.SETUP)
    assert run("agent", tmp_path, "enroll", good, "--rights-key", tmp_path / "r").code == 0


def test_foreign_cut_and_oversized_frames_are_refused_by_name_and_nothing_changes(
    acme: Organisation, device: Device, frame: bytes
) -> None:
    """The collector goes on serving; what was stored is still there."""
    before = acme.collector.facts("status"), acme.stored()
    strange = {
        "malformed": [GARBAGE, frame[:-1], frame[: len(frame) // 2], b"", frame + b"x", b"GIF89a"],
        "too-large": [b"\x89ASB1\r\n\x1a" + bytes(8 << 20)],
    }
    for name, frames in strange.items():
        for each in frames:
            path = f"/v1/batches/{hashlib.sha256(each).hexdigest()}"
            answer = device.door.request("PUT", path, each)
            assert 400 <= answer.status < 500, (name, answer)
            assert name in answer.body.decode(), answer.body
            assert b"\n" not in answer.body
    forged = device.door.request(
        "PUT",
        f"/v1/batches/{hashlib.sha256(frame[:-1] + b'!').hexdigest()}",
        frame[:-1] + bytes([frame[-1] ^ 1]),
    )
    assert b"wrong-hash" in forged.body
    assert (acme.collector.facts("status"), acme.stored()) == before
    logs = "".join(p.read_text("utf-8") for p in (acme.collector.home / "logs").iterdir())
    assert "Traceback" not in logs + acme.collector.log.read_text("utf-8")


def test_a_reader_refuses_strange_frames_by_name_and_keeps_the_good_ones(
    lived: dict[str, Path], tmp_path: Path
) -> None:
    """One line, and the exit code for what will never do."""
    home = copied(lived["reader"], tmp_path / "home")
    (good,) = (home / "state/frames").glob("*.frame")
    for number, data in enumerate((GARBAGE, good.read_bytes()[:-9], b"", bytes(9 << 20))):
        (home / f"state/frames/{number:064x}.frame").write_bytes(data)
    before = everything(home)
    ran = run("reader", home, "verify", "--json")
    said = ran.fails(ExitCode.REJECTED)
    assert "4 batches are refused" in said
    assert json.loads(ran.out)["opened"]["keys"]["batches"] == 1
    assert everything(home) == before


# --- a clock that is wrong ------------------------------------------------------------------

CLOCKS: Final = {"1970": "1970-01-02 00:00:00", "2100": "2100-01-01 00:00:00"}


def wrong_clock(year: str) -> dict[str, str]:
    """Return what makes the wall clock of a process say *year*; boot and monotonic are right."""
    if not Path(FAKETIME).exists():
        pytest.skip("libfaketime is not installed (packaging/setup/apt-desktop.txt)")
    return {
        "LD_PRELOAD": FAKETIME,
        "FAKETIME": f"@{CLOCKS[year]}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


@pytest.mark.parametrize("year", CLOCKS)
def test_the_clock_of_a_child_really_is_wrong(year: str) -> None:
    """Python itself reads it; without this the tests below could not fail."""
    shown = subprocess.run(
        [sys.executable, "-c", "import time; print(time.gmtime().tm_year)"],
        env={**os.environ, **wrong_clock(year)},
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    )
    assert shown.stdout.strip() == year


@pytest.mark.parametrize("year", CLOCKS)
def test_a_wrong_clock_is_one_line_and_dates_nothing(
    lived: dict[str, Path], acme: Organisation, tmp_path: Path, year: str
) -> None:
    """Of every program, whatever would give something a date or judge by one."""
    clock = wrong_clock(year)
    token = acme.enrolment_file(f"clock-{year}")
    grant = acme.folder / "access-grant-1.json"
    csr = lived["reader"] / "config/reader.csr"
    new = tmp_path / "new"
    new.mkdir(mode=0o700)
    certify = ("certify", "--role", "reader", csr, "--name", "x", "--out", new / "x.pem")
    key = acme.keys / "controller/policy-key.pem"
    tried: tuple[tuple[str, Path, tuple[str | Path, ...]], ...] = (
        ("agent", new, ("enroll", token)),
        ("collector", lived["collector"], SERVE),
        ("collector", lived["collector"], ("token", "--out", new / "token")),
        ("collector", lived["collector"], ("publish", acme.policy)),
        ("collector", lived["collector"], certify),
        ("collector", new, ("init", "--origin", "https://127.0.0.1:1", "--tenant", "a")),
        ("guard", lived["guard"], SERVE),
        ("guard", lived["guard"], certify),
        ("guard", lived["guard"], ("trust", acme.policy, "--yes")),
        ("guard", new, ("init", "--origin", "https://127.0.0.1:1", "--tenant", "a")),
        ("reader", lived["reader"], ("verify",)),
        ("reader", lived["reader"], ("fetch", "--grant", grant)),
        ("governance", new, ("verify", acme.policy)),
        ("governance", new, ("sign", acme.policy, "--key", key, "--yes")),
    )
    before = {home: everything(home) for home in lived.values()}
    with ThreadPoolExecutor(2) as pool:
        lines = pool.map(
            lambda one: run(one[0], one[1], *one[2], **clock).fails(ExitCode.SETUP), tried
        )
        assert all(f"the year {year}" in line and "set it right" in line for line in lines)
    assert {home: everything(home) for home in lived.values()} == before
    assert [path for path in new.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("year", CLOCKS)
def test_a_no_of_the_data_subject_needs_no_right_clock(
    lived: dict[str, Path], tmp_path: Path, year: str
) -> None:
    """It is asked for durably, and covers what was agreed to, not what is to come."""
    home = copied(lived["agent"], tmp_path / "home")
    ran = run("agent", home, "withdraw", "--all", "--erase", **wrong_clock(year))
    assert ran.code == 0, ran.err
    assert ran.err == ""
    (asked,) = erasures.look(home / "state")
    assert asked.is_outstanding
    enrolled_at = (lived["agent"] / "state" / ENROLMENT).stat().st_mtime_ns
    assert enrolled_at <= asked.request.made_at <= time.time_ns()
    found = run("agent", home, "doctor", **wrong_clock(year))
    assert found.code == ExitCode.SETUP
    assert f"the year {year}" in found.out
    found.has_no_traceback()


def copied(home: Path, to: Path) -> Path:
    """Copy a home, without the sockets in it."""

    def sockets(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if (Path(folder) / name).is_socket()]

    shutil.copytree(home, to, ignore=sockets, symlinks=True)
    return to


def everything(home: Path) -> dict[str, str]:
    """Return every file that is kept, by its digest; logs, locks and SQLite's own aside."""
    found = {}
    for path in home.rglob("*"):
        name = str(path.relative_to(home))
        if name.startswith(("logs", "run", "port", "output")) or name.endswith(("-shm", "lock")):
            continue
        mode = path.stat().st_mode
        if path.is_file():
            path.chmod(mode | 0o400)
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
            path.chmod(mode)
        else:
            found[name] = "folder"
    return found
