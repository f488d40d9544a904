"""`assent-govern review`: what is promised and what proves it, and which policies name that."""

import hashlib
import json
from pathlib import Path
from typing import Final

import msgspec
import pytest
from click.testing import CliRunner, Result

from base.command import outcome
from base.errors import ExitCode
from governance import claims
from governance.__main__ import cli
from governance.claims import Kind, review
from governance.describe import policy_in_words
from governance.notice import TEST_NOTICE
from governance.policy_set import LintError
from governance.review_command import beyond
from tests.fakes.organisation import Organisation
from wire.errors import WireError
from wire.policy import Policy, encode_policy

ORGANISATION: Final = Organisation()
GOOD: Final = ORGANISATION.policy()


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, ["review", *map(str, args)])


def code_of(*args: object) -> int:
    words = ["review", *map(str, args)]
    return outcome(cli, "assent-govern", words, refusals=(WireError,))


def written(folder: Path, policy: Policy) -> Path:
    path = folder / "policy.json"
    path.write_bytes(encode_policy(policy))
    return path


def plain(text: str) -> str:
    return " ".join(text.split())


def test_the_review_prints_every_sentence_with_its_tests() -> None:
    """A works council reads sentences: what is promised, and what each test says is so."""
    shown = plain(run().output)
    for claim in review().claim:
        assert plain(claim.says) in shown
        assert claim.note in shown
        for test in claim.tests:
            path, _, name = test.partition("::")
            assert f"- {name.removeprefix('test_').replace('_', ' ')} [{path}]" in shown
    assert f"{len(review().promises)} promises" in shown
    assert f"review {review().digest}" in shown


def test_the_review_fits_on_paper() -> None:
    """It is printed and discussed: no line is longer than a page is wide."""
    assert max(map(len, review().text.splitlines())) <= 120


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    """`sha256sum` is all that anybody needs to check it."""
    out = tmp_path / "review.txt"
    shown = run("--out", out)
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    assert shown.output == f"review  {digest}\n"
    assert out.read_text("utf-8") in run().output


def test_whatever_changes_in_a_promise_is_another_review() -> None:
    """A sentence, a test less, a promise that becomes a limit, another form."""
    first = review().promises[0]
    changes = (
        msgspec.structs.replace(first, says="Something else."),
        msgspec.structs.replace(first, tests=first.tests[1:]),
        msgspec.structs.replace(first, kind=Kind.LIMIT, note="because"),
    )
    others = [
        msgspec.structs.replace(review(), claim=(changed, *review().claim)).digest
        for changed in changes
    ]
    others.append(msgspec.structs.replace(review(), version=2).digest)
    assert len({review().digest, *others}) == 1 + len(others)


def test_a_policy_that_names_this_review_is_told_so(tmp_path: Path) -> None:
    """And every sentence of the notice that we write is one of those listed."""
    shown = run("--policy", written(tmp_path, GOOD))
    assert shown.exit_code == 0
    assert "no test" not in shown.output
    assert shown.output.endswith("policy.json  names this review\n")


@pytest.mark.parametrize("named", ["", "cd" * 32])
def test_a_policy_that_names_another_review_ends_with_6(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], named: str
) -> None:
    """Of an earlier version, or none."""
    path = written(tmp_path, msgspec.structs.replace(GOOD, review=named))
    assert code_of("--policy", path) == ExitCode.REJECTED
    printed = capsys.readouterr()
    assert f"names {named or 'no review'}, not this one" in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("named", ["", "cd" * 32])
def test_a_policy_that_names_another_review_is_not_signed(tmp_path: Path, named: str) -> None:
    """What runs is what was reviewed, or it does not run."""
    with pytest.raises(LintError, match="review"):
        ORGANISATION.publish(tmp_path, msgspec.structs.replace(GOOD, review=named))
    assert not (tmp_path / "root.json").exists()


def test_a_release_that_promises_something_else_needs_another_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy of before is not signed again by a version whose review nobody read."""
    first, *others = review().claim
    later = msgspec.structs.replace(
        review(), claim=(msgspec.structs.replace(first, says="Less."), *others)
    )
    monkeypatch.setattr("governance.checks.review", lambda: later)
    with pytest.raises(LintError, match="another-review"):
        ORGANISATION.publish(tmp_path, GOOD)


def test_a_sentence_of_a_notice_that_nothing_proves_is_named(tmp_path: Path) -> None:
    """Whoever writes their own promise answers for it; nobody takes it for one of ours."""
    own = "We throw away what you type at home. Trust us!"
    path = written(
        tmp_path, msgspec.structs.replace(GOOD, notice=f"{GOOD.notice}\n\n{own}", hold_seconds=60)
    )
    shown = run("--policy", path).output
    assert "no test  We throw away what you type at home." in shown
    assert "no test  Trust us!" in shown
    # The hold was changed and the notice was not, so that sentence is not so any more.
    assert "no test  What was recorded waits on your computer for 10 minutes" in shown
    assert shown.count("no test") == 3


def test_the_sentence_of_a_test_policy_is_ours() -> None:
    """It says that characters may be recorded, which the lint asks it to say."""
    notice = f"{TEST_NOTICE}\n\n{GOOD.notice}"
    assert beyond(msgspec.structs.replace(GOOD, test_only=True, notice=notice), review()) == ()


def test_scripts_get_the_same_as_json(tmp_path: Path) -> None:
    """Each claim with the ids of its tests, as pytest takes them."""
    facts = json.loads(run("--json", "--policy", written(tmp_path, GOOD)).output)
    assert facts["digest"] == review().digest
    assert [each["id"] for each in facts["claims"]] == [claim.id for claim in review().claim]
    assert facts["claims"][2]["tests"] == list(review().claim[2].tests)
    assert facts["policy"] == {"review": review().digest, "is_this_one": True, "beyond": []}


def test_signers_see_which_review_the_policy_names() -> None:
    """Before they say yes."""
    assert any(review().digest in line for line in policy_in_words(GOOD))


def test_the_list_that_is_installed_is_the_one_in_the_docs() -> None:
    """One file: whoever changes the page changes what is signed."""
    installed = Path(claims.__file__).with_name("claims.toml")
    assert installed.resolve() == Path(__file__).parents[2] / "docs" / "claims.toml"
