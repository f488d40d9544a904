"""A log on a disk that takes no more."""

import contextlib
import logging
from pathlib import Path

import pytest

from base.logs import start_logging


def test_a_log_that_finds_no_room_loses_a_line_and_says_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard error has each line once; the library would put a traceback behind each."""
    root, http = logging.getLogger(), logging.getLogger("urllib3")
    handlers, level, of_http = list(root.handlers), root.level, http.level
    (tmp_path / "agent.log").symlink_to("/dev/full")
    try:
        start_logging("agent", tmp_path)
        logging.getLogger("agent").warning("the spool could not be moved on")
    finally:
        for handler in set(root.handlers) - set(handlers):
            root.removeHandler(handler)
            with contextlib.suppress(OSError):  # what it still has finds no room either
                handler.close()
        root.setLevel(level)
        http.setLevel(of_http)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("the spool could not be moved on")
