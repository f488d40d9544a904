"""Every promise is listed in docs/claims.toml, and each that is listed has living tests.

The texts are read again here: a sentence that is added, changed or taken out has to be
added, changed or taken out of the list, with what proves it.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from governance.claims import Claim, Kind, Where, review
from tests.architecture.promises import of_markdown, sentences
from tests.architecture.source import ROOT

KILLS: Final = {"skip", "xfail"}
PLANTED: Final = '''
"""A file of tests as they must not be named by a claim."""

import pytest

@pytest.mark.skip(reason="later")
def test_skipped(): pass

@pytest.mark.xfail
def test_expected_to_fail(): pass

@pytest.mark.skipif(True, reason="not here")
def test_skipped_somewhere(): pass

def test_gives_up():
    pytest.skip("no time")

@pytest.mark.install
def test_in_a_clean_debian(): pass

@pytest.mark.parametrize("it", [1])
def test_living(it): assert it

def helps(): pass
'''


def of(where: Where) -> list[Claim]:
    return [claim for claim in review().claim if claim.where is where]


# --- the texts and the list ---------------------------------------------------------------


@pytest.mark.parametrize("where", Where)
def test_every_sentence_of_the_texts_is_listed_and_no_other(where: Where) -> None:
    """Word for word, in the same order: whoever changes a promise changes the list."""
    said, listed = sentences(where), [claim.says for claim in of(where)]
    gone = [f"not in the text any more: {s}" for s in (Counter(listed) - Counter(said))]
    new = [
        f"not listed: {s}\n  (was it: {get_close_matches(s, listed, 1)}?)"
        for s in (Counter(said) - Counter(listed))
    ]
    assert [*gone, *new] == []
    assert said == listed


def test_a_sentence_is_found_wherever_it_stands() -> None:
    """In a table, in a list, behind a bold word, with a link, with the test that shows it."""
    page = """# Heading

**Bold** is one. [Two](two.md) has a `word` and 0.1 s
(`tests/unit/test_x.py`, and more). Shown by `tests/unit/test_y.py`,
`tests/unit/test_z.py`.

| head | row |
|---|---|
| I1 | **Title.** A rule. | `tests/unit/test_x.py` |

- a point (`tests/a.py`; but not this)
- another
"""
    assert list(of_markdown(page)) == [
        "Bold is one.",
        "Two has a word and 0.1 s (and more).",
        "Title.",
        "A rule.",
        "a point (but not this)",
        "another",
    ]


def test_the_texts_are_really_read() -> None:
    """An empty list of sentences would be complete."""
    assert [len(sentences(where)) > least for where, least in zip(Where, (10, 10, 60), strict=True)]
    assert any("pause for 30 minutes" in s for s in sentences(Where.NOTICE))
    assert any(s.startswith("No source is open") for s in sentences(Where.THREAT_MODEL))


def test_every_claim_has_its_own_name() -> None:
    """People and mutations call it by that."""
    names = [claim.id for claim in review().claim]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert [name for name in names if not re.fullmatch(r"[a-z0-9-]+", name)] == []


def test_what_promises_nothing_says_why() -> None:
    """Sparingly: most sentences are promises, and an invariant always is."""
    silent = [c.id for c in review().claim if c.kind is not Kind.PROMISE and not c.note]
    assert silent == []
    assert all(c.kind is Kind.PROMISE for c in review().claim if re.match(r"i\d", c.id))
    assert 3 * len(review().promises) > 2 * len(review().claim)


# --- the tests ----------------------------------------------------------------------------


def test_every_promise_has_a_living_test() -> None:
    """It exists, nothing skips it or expects it to fail, and `make test` runs it."""
    problems = [
        f"{claim.id}: {problem}"
        for claim in review().claim
        for test in claim.tests
        if (problem := problem_of(test))
    ]
    assert problems == []
    assert [claim.id for claim in review().promises if not claim.tests] == []


def test_every_promise_has_a_test_that_runs_everywhere() -> None:
    """Some look at more as root, or with a session bus; none of them stands alone."""
    alone = [
        claim.id
        for claim in review().promises
        if claim.tests and all("skipif" in marks(test) for test in claim.tests)
    ]
    assert alone == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("test_skipped", "skip"),
        ("test_expected_to_fail", "xfail"),
        ("test_gives_up", "gives up"),
        ("test_in_a_clean_debian", "make test"),
        ("test_of_long_ago", "no such test"),
        ("helps", "no such test"),
        ("test_living", ""),
        ("test_skipped_somewhere", ""),
    ],
)
def test_a_test_that_proves_nothing_is_found(tmp_path: Path, name: str, says: str) -> None:
    """The check would hold nothing if it took everything."""
    path = tmp_path / "test_planted.py"
    path.write_text(PLANTED, "utf-8")
    found = problem_of(f"{path}::{name}")
    assert (says in found) if says else not found


def test_a_file_that_is_skipped_or_missing_is_found(tmp_path: Path) -> None:
    """By a mark of the whole file; or it was renamed."""
    path = tmp_path / "test_planted.py"
    path.write_text("pytestmark = [pytest.mark.skip]\ndef test_it(): pass\n", "utf-8")
    assert "skip" in problem_of(f"{path}::test_it")
    assert "no such file" in problem_of(f"{tmp_path}/test_none.py::test_it")


@cache
def parsed(path: str) -> ast.Module | None:
    file = ROOT / path
    return ast.parse(file.read_text("utf-8")) if file.is_file() else None


def function(test: str) -> ast.FunctionDef | None:
    path, _, name = test.partition("::")
    tree = parsed(path)
    found = [n for n in (tree.body if tree else ()) if isinstance(n, ast.FunctionDef)]
    return next((f for f in found if f.name == name and name.startswith("test_")), None)


def marks(test: str) -> set[str]:
    """Return the marks of a test and of its file."""
    tree, found = parsed(test.partition("::")[0]), function(test)
    assert tree is not None
    assert found is not None
    whole = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]
    return {name for node in (*whole, *found.decorator_list) for name in _marks(node)}


def problem_of(test: str) -> str:
    """Return why *test* proves nothing; empty when it does."""
    if parsed(test.partition("::")[0]) is None:
        return f"{test}: no such file"
    found = function(test)
    if found is None:
        return f"{test}: no such test"
    if dead := marks(test) & KILLS:
        return f"{test} is marked {', '.join(dead)}"
    if "install" in marks(test):
        return f"{test} is not run by `make test`"
    called = {ast.unparse(n.func) for n in ast.walk(found) if isinstance(n, ast.Call)}
    if called & {"pytest.skip", "pytest.xfail", "pytest.importorskip"}:
        return f"{test} gives up by itself"
    return ""


def _marks(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and ast.unparse(each.value) == "pytest.mark":
            yield each.attr
