"""Logs: rotated, the owner's alone, naming nobody, and never in the way."""

import base64
import errno
import json
import logging
import random
import re
import stat
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

import pytest

from base import logs
from base.discretion import Discretion


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """Return the root logger, as it was before afterwards."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield root
    for added in [h for h in root.handlers if h not in before]:
        root.removeHandler(added)
        added.close()
    root.setLevel(level)


def test_a_log_is_rotated_and_stays_below_its_most(
    root: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four older ones, the newest last; each is its owner's alone."""
    monkeypatch.setattr(logs, "LARGEST_BYTES", 2000)
    logs.start_logging("agent", tmp_path)
    for number in range(400):
        logging.getLogger("test").info("line %d", number)
    kept = sorted(tmp_path.iterdir())
    assert [path.name for path in kept] == ["agent.log", *(f"agent.log.{n}" for n in range(1, 5))]
    assert all(path.stat().st_size <= 2000 for path in kept)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in kept)
    assert "line 399" in (tmp_path / "agent.log").read_text("utf-8")


def test_a_log_that_cannot_be_written_is_not_in_the_way(
    root: logging.Logger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A full disk costs lines of the log; no traceback comes in their place."""
    logs.start_logging("agent", tmp_path)
    kept = next(h for h in root.handlers if isinstance(h, RotatingFileHandler))

    def full(_text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(kept.stream, "write", full)
    logging.getLogger("test").info("something")
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.endswith("something\n")


def test_a_line_names_nobody_whatever_is_put_into_it(
    root: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the traceback of a defect."""
    monkeypatch.setenv("USER", "zorabelle")
    monkeypatch.setenv("HOME", "/home/zorabelle")
    logs.start_logging("agent", tmp_path)
    try:
        Path("/home/zorabelle/Letter").read_bytes()
    except FileNotFoundError:
        logging.getLogger("test").exception("batch %s of zora@acme.example", "ab" * 32)
    text = (tmp_path / "agent.log").read_text("utf-8")
    assert "Traceback" in text
    assert "zora" not in text
    assert "ab" * 10 not in text
    assert "~/Letter" in text


@pytest.mark.parametrize(
    "text",
    [
        "gir1.2-ayatanaappindicator3-0.1 and python3-gi",
        "the policy cannot be read (No such file or directory); enrol this device again",
        "2026-03-01 12:00:00,123 INFO agent.service: indicator: shown",
        "https://collector.example:8443/v1/state answered 503: not-ready",
        "org.kde.StatusNotifierWatcher",
    ],
)
def test_what_names_nobody_is_left_as_it_is(text: str) -> None:
    """Or no log could be read any more."""
    assert Discretion().hide(text) == text


def test_what_chance_made_is_hidden_though_it_has_no_digit() -> None:
    """One in fifty of sixteen bytes in base64; of these nine in ten look like no name."""
    chance = random.Random(1127)  # noqa: S311 - the same codes each time
    codes = [base64.b64encode(chance.randbytes(16)).decode().rstrip("=") for _ in range(10_000)]
    without = [code for code in codes if not any(map(str.isdigit, code))]
    left = [code for code in without if Discretion().hide(code) == code]
    assert len(without) > 100
    assert len(left) * 8 < len(without)


# --- the form for programs ----------------------------------------------------------------


def lines(folder: Path) -> list[dict[str, object]]:
    """Return the objects in a log of the form `json`."""
    text = (folder / "guard.log").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_structured_line_is_an_object_whose_event_is_the_same_each_time(
    root: logging.Logger, tmp_path: Path
) -> None:
    """What happened, and the numbers of it, apart: so that lines of a kind can be counted."""
    logs.start_logging("guard", tmp_path, form=logs.Form.JSON)
    logger = logging.getLogger("guard.app")
    logger.info("released %d of %d batches", 3, 4)
    logger.warning("released %d of %d batches", 0, 9)
    first, second = lines(tmp_path)
    assert first.keys() == {"at", "level", "where", "event", "numbers", "says"}
    assert (first["level"], first["where"]) == ("info", "guard.app")
    assert first["event"] == second["event"] == "released %d of %d batches"
    assert (first["numbers"], second["numbers"]) == ([3, 4], [0, 9])
    assert first["says"] == "released 3 of 4 batches"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", str(first["at"]))


def test_a_structured_line_is_as_discreet_as_any(root: logging.Logger, tmp_path: Path) -> None:
    """Whatever an argument, a message or a trace holds: no id, no key, no home folder."""
    logs.start_logging("guard", tmp_path, form=logs.Form.JSON)
    device, address = "ab" * 32, "ada@acme.example"
    logger = logging.getLogger("guard")
    logger.info("device %s asks", device)
    logger.info(f"device {device} asks")  # noqa: G004 - as somebody might write it
    try:
        raise ValueError(f"{address} at {Path.home()}/x")  # noqa: TRY301 - a trace is wanted
    except ValueError:
        logger.exception("not possible")
    text = (tmp_path / "guard.log").read_text("utf-8")
    assert "asks" in text
    assert "ValueError" in text
    assert [found for found in (device, address, "\n ") if found in text] == []
    assert [line["level"] for line in lines(tmp_path)] == ["info", "info", "error"]


def test_a_line_with_no_arguments_or_strange_ones_is_written(
    root: logging.Logger, tmp_path: Path
) -> None:
    """A mapping, as logging allows, an object, line breaks: one line each."""
    logs.start_logging("guard", tmp_path, form=logs.Form.JSON)
    logger = logging.getLogger("guard")
    logger.info("nothing\nmore")
    logger.info("%(many)d batches", {"many": 2})
    logger.info("%s", object())
    assert [line["numbers"] for line in lines(tmp_path)][:2] == [[], []]
    assert len((tmp_path / "guard.log").read_text("utf-8").splitlines()) == 3


STEERING = "\x1b]0;owned\x07\x1b[2J\x9b1m\r\n2026-11-28 ERROR agent: forged\u202e line"


def raised(text: str) -> BaseException:
    """Return a group of an error that another one led to; each says *text*."""

    def fail() -> None:
        raise ExceptionGroup(text, [OSError(text), ValueError(text)]) from OSError(text)

    with pytest.raises(ExceptionGroup) as caught:
        fail()
    return caught.value


@pytest.mark.parametrize("form", logs.Form)
def test_nobody_writes_lines_or_escapes_into_our_log(
    form: logs.Form, root: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a stranger said is within one line, also in the errors of a traceback."""
    logs.start_logging("agent", tmp_path, form=form)
    group = raised(STEERING)
    group.add_note(STEERING)
    logging.getLogger("agent").error("it said %s", STEERING, exc_info=group)
    lines = (tmp_path / "agent.log").read_text("utf-8").split("\n")[:-1]
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("2026-11-28 ERROR") for line in lines)
    if form is logs.Form.TEXT:
        assert sum("forged" in line for line in lines) == 1 + 4  # message; chain, group, its two
        assert any(line.strip().startswith("raise ExceptionGroup") for line in lines)
    else:
        [only] = lines
        assert "forged" in json.loads(only)["says"]


@pytest.mark.parametrize("form", logs.Form)
def test_the_traceback_of_a_worker_keeps_its_lines(
    form: logs.Form, root: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It comes with the record, and not in its message, which is one line."""
    logs.start_logging("collector", tmp_path, form=form)
    trace = logs.trace_of(raised(STEERING))
    logging.getLogger("app").error("100% lost", extra={logs.TRACE: trace})
    written = (tmp_path / "collector.log").read_text("utf-8")
    if form is logs.Form.TEXT:
        assert written.endswith(f"app: 100% lost\n{trace}\n")
    else:
        assert json.loads(written)["trace"] == trace
