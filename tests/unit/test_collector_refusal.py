"""The names of refusals are a contract: written down once, with the status they come with."""

import re
from pathlib import Path

from collector.refusal import RefusedError, Why

SPEC = Path(__file__).resolve().parents[2] / "docs" / "spec" / "collector-http-v1.md"


def test_every_refusal_stands_in_the_specification_beside_its_status() -> None:
    """And the specification names none that does not exist."""
    text = SPEC.read_text("utf-8")
    rows = re.findall(r"^\| ([\d, ]+) \|.*\| ((?:`[a-z-]+` ?)+)\|$", text, re.MULTILINE)
    documented = {
        (int(status), name)
        for statuses, names in rows
        for status in statuses.split(", ")
        for name in re.findall(r"`([a-z-]+)`", names)
    }
    coded = {(int(why.status), why.label) for why in Why}
    assert coded <= documented
    assert {name for _status, name in documented} == {name for _status, name in coded}


def test_a_refusal_that_may_pass_says_when_to_come_back() -> None:
    """429, 503 and 507 carry Retry-After, nothing else does."""
    for why in Why:
        later = RefusedError(why, "line").retry_after_seconds
        assert (later is not None) == (why.status in (429, 503, 507))
