"""What the errors of `wire` quote of the bytes that they refuse."""

import json
import pickle

import pytest

from governance.audit.findings import Finding, Rule
from wire.collector_http import decode
from wire.errors import LONGEST, ForgedError, MalformedError
from wire.rights import Requests

EVIL = "\x1b]0;owned\x07\x1b[2J\nrecording: OFF\u202e\x9b2J"


def test_a_field_of_a_stranger_steers_no_terminal() -> None:
    """A collector's answer with an unknown field: its name is quoted, and is one line."""
    body = json.dumps(
        {"requests": [{"request": "", "rights_key": "", "signature": "", EVIL: 1}]}
    ).encode()
    with pytest.raises(MalformedError) as refused:
        decode(body, Requests)
    assert "owned" in str(refused.value)
    assert str(refused.value).isprintable()
    assert f"{refused.value}".isprintable()


def test_no_message_is_as_long_as_a_stranger_likes() -> None:
    """Quoted or not, it is cut; and it travels between processes as it is."""
    error = ForgedError(EVIL + "x" * 10**6)
    assert len(str(error)) == LONGEST
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own


def test_a_finding_is_one_line_whatever_a_bundle_calls_its_files() -> None:
    """An audit names the files that do not belong; their names are somebody else's."""
    finding = Finding(rule=Rule.FILE_CHANGED, what=f"x{EVIL}")
    assert finding.line.isprintable()
