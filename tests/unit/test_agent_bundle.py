"""The bundle for whoever helps: what it holds is listed here, and nobody is named in it."""

import asyncio
import base64
import io
import json
import shutil
import socket
import stat
import tarfile
from pathlib import Path
from typing import Any, Final

import pytest

from agent import doctor
from agent.bundle import write
from agent.consent.entries import Halted
from agent.consent.ledger import Ledger
from agent.enroll import CERTIFICATE, KEY
from base.clock import SystemClock
from tests.fakes.workstation import Workstation

USER: Final = "zorabelle"
HOME: Final = f"/home/{USER}"
TOKEN: Final = "Tok3nThatOpensADoorForOneDevice_0123456789-ab"
IDENTITY: Final = "AGE-SECRET-KEY-PQ-1QQPQYPQSZQGPQYQSZQGPQYQSZQGPQYQSZ"
TITLE: Final = "Dear Quentin, about my illness"
HOST: Final = "zoras-laptop"
PROXY: Final = "gate.zora-and-sons.example"

FILES: Final = {
    "assent-doctor/README.txt",
    "assent-doctor/findings.json",
    "assent-doctor/versions.json",
    "assent-doctor/platform.json",
    "assent-doctor/config.json",
    "assent-doctor/state.json",
    "assent-doctor/log.txt",
}
KEYS: Final = {
    "findings.json": {"name", "mark", "what", "mend"},
    "platform.json": {
        *("kernel", "machine", "distribution", "processors", "LANG"),
        *("XDG_CURRENT_DESKTOP", "XDG_SESSION_TYPE", "DESKTOP_SESSION"),
    },
    "config.json": {"quota_bytes", "log_level", "opt_out", "input_source", "proxy", "resume"},
    "state.json": {"files", "set aside", "acts", "spool"},
}


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workstation:
    """Return a workstation of somebody with a name, on whose every corner it stands."""
    for name, value in (("USER", USER), ("LOGNAME", USER), ("HOME", HOME)):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(socket, "gethostname", lambda: HOST)
    return Workstation.enrolled(tmp_path / "agent")


def planted(station: Workstation) -> list[str]:
    """Put a canary wherever something could come from; return all that must not come out."""
    paths, now = station.paths, SystemClock().now()
    ledger = Ledger.open(paths.state, station.device.key.public_key(), now)
    ledger.append(Halted(policy=b"", why=f"{TITLE}, said {USER}"), now)
    pseudonym = bytes(station.device.subject)
    names = [station.policy.controller.name, station.policy.guard.run_by]
    canaries = [
        *(USER, HOME, HOST, PROXY, TOKEN, IDENTITY, TITLE, "zora@acme.example", *names),
        *(pseudonym.hex(), base64.b64encode(pseudonym).decode(), station.device.id.hex()),
        *(paths.state / KEY).read_text("ascii").splitlines()[1:-1],
        *(paths.state / CERTIFICATE).read_text("ascii").splitlines()[1:-1],
    ]
    log = [line for line in canaries if line != TITLE]  # no line of ours has a title to log
    log += [f"{HOME}/Documents/letter.odt", f"https://{HOST}/x", (paths.state / KEY).read_text()]
    (paths.logs / "agent.log").write_text("\n".join(log) + "\nthe end\n", "utf-8")
    (paths.config / "config.toml").write_text(
        f'# {TITLE}\nlog_level = "debug"\nproxy = "http://{PROXY}:3128"\n', "utf-8"
    )
    held = paths.state / "spool/held"
    held.mkdir(parents=True)
    (held / f"{TITLE}.frame").write_text(TITLE, "utf-8")
    (paths.state / f"consent.unreadable-{USER}.jsonl").write_text(TITLE, "utf-8")
    return canaries


def bundle(station: Workstation, path: Path, **environment: str) -> dict[str, str]:
    """Write one; return what is in it."""
    paths, clock = station.paths, SystemClock()
    findings = asyncio.run(doctor.examine(paths, clock, environment))
    write(path, doctor.PROGRAM, findings, paths, clock, environment)
    with tarfile.open(path) as archive:
        found = {}
        for member in archive.getmembers():
            content = archive.extractfile(member)
            assert content is not None
            assert (member.uname, member.gname, member.uid, member.mtime) == ("", "", 0, 0)
            found[member.name] = content.read().decode()
    return found


def document(found: dict[str, str], name: str) -> Any:  # noqa: ANN401 - JSON
    return json.loads(found[f"assent-doctor/{name}"])


def test_it_holds_exactly_what_is_listed(station: Workstation, tmp_path: Path) -> None:
    """A further file or field has to be thought about here."""
    found = bundle(station, tmp_path / "b.tar.gz", LANG="C.UTF-8", SSH_AUTH_SOCK="secret")
    assert set(found) == FILES
    for name, keys in KEYS.items():
        parts = document(found, name)
        for part in parts if isinstance(parts, list) else [parts]:
            assert set(part) == keys, name
    assert "secret" not in "".join(found.values())
    assert document(found, "versions.json")["cryptography"]
    assert stat.S_IMODE((tmp_path / "b.tar.gz").stat().st_mode) == 0o600


def test_no_name_no_key_no_content_leaves_with_it(station: Workstation, tmp_path: Path) -> None:
    """Canaries in the environment, the log, the configuration, the ledger, the spool."""
    canaries = planted(station)
    found = bundle(station, tmp_path / "b.tar.gz", HOME=HOME, USER=USER)
    text = "".join(found.values()).lower()
    assert [canary for canary in canaries if canary.lower() in text] == []
    assert "quentin" not in text
    assert found["assent-doctor/log.txt"].endswith("the end\n")  # the log really is in it
    assert "~/documents/letter.odt" in text
    assert document(found, "state.json")["spool"]["held"] == 1
    assert document(found, "state.json")["acts"] == {"Halted": 1}
    assert document(found, "config.json")["log_level"] == "debug"


def test_the_search_would_have_found_them(station: Workstation, tmp_path: Path) -> None:
    """The control: what was planted lies where the bundle is made from."""
    canaries = planted(station)
    there = b"".join(p.read_bytes() for p in station.folder.rglob("*") if p.is_file())
    there += b"".join(str(p).encode() for p in station.folder.rglob("*"))
    raw = bytes(station.device.subject)
    kept = [c for c in canaries if c.encode() not in there and c != raw.hex()]
    assert kept == []


def test_a_machine_on_which_nothing_is_set_up_has_one_too(tmp_path: Path) -> None:
    """That is when somebody asks for help."""
    station = Workstation.enrolled(tmp_path / "agent")
    shutil.rmtree(station.paths.state)
    station.paths.make()
    (station.paths.config / "config.toml").write_text("colour = 'blue'\n", "utf-8")
    found = bundle(station, tmp_path / "b.tar.gz")
    assert document(found, "config.json") == {"unreadable": True}
    assert found["assent-doctor/log.txt"] == "there is no log\n"
    assert io.StringIO(found["assent-doctor/README.txt"]).readline().startswith("This file")
