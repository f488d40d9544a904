"""Two programmes that went wrong, as policies: each is refused, with exactly these errors."""

from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from base.errors import RejectedError
from governance.__main__ import cli
from governance.lint import RULES
from wire.policy import decode_policy, encode_policy

REFUSED: Final = Path(__file__).parents[2] / "docs/examples/refused"
POLICIES: Final = sorted(REFUSED.glob("*.json"))
# What people said about each at the time; the lint has to find all of it.
SAID: Final = {
    "halted-programme": {
        "text-outside-test",  # keystrokes and private conversations
        "performance-not-prohibited",
        "application-not-exact",  # the whole company, every program
        "endless-retention",
        "no-hold",  # pauses were an afterthought: nothing could be taken back
        "no-representatives",  # nobody had been asked
        "guard-run-by-controller",  # it lay readable
        "assessment-expired",
        "another-review",  # the implementation fell short of its own privacy review
    },
    "screenshots-by-word-of-mouth": {
        "continuous-screenshots",  # every few minutes
        "silent-notice",  # it was said, and never written
        "shared-administrator",
        "no-assessment",
        "no-review",
        "performance-not-prohibited",
    },
}


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_the_policy_is_refused_with_the_errors_beside_it_and_no_others(path: Path) -> None:
    """Line by line as `assent-govern lint` prints them."""
    ran = CliRunner().invoke(cli, ["lint", str(path)])
    assert isinstance(ran.exception, RejectedError)
    assert ran.output == path.with_suffix(".errors.txt").read_text("utf-8")
    named = {line.split()[1].rstrip(":") for line in ran.output.splitlines() if line[0] == "r"}
    assert named <= {rule.name for rule in RULES}
    assert SAID[path.stem] <= named


def test_both_are_here_and_are_policies_that_could_be_signed_but_for_the_lint() -> None:
    """Readable and as `draft` writes them: they fail for what they ask, not for their form."""
    assert {path.stem for path in POLICIES} == set(SAID)
    for path in POLICIES:
        assert encode_policy(decode_policy(path.read_bytes())) == path.read_bytes()
