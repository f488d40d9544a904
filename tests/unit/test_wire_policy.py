"""The words that a data subject agrees to, and the one way to a policy."""

from pathlib import Path
from typing import Final

import msgspec
import pytest

from governance import policy_set
from tests.fakes.organisation import NOW, Organisation
from wire.category import Category
from wire.errors import MalformedError, NotCoveredError
from wire.policy import CategoryRule, Policy, Purpose, verify, words_sha256

ORGANISATION: Final = Organisation()
GOOD: Final = ORGANISATION.policy()


def keys(**changes: object) -> Policy:
    """Return a policy that asks for keys alone, its rule changed."""
    rule = CategoryRule(category=Category.KEYS, level="classes", rate_hz=100.0, retention_days=90)
    return msgspec.structs.replace(GOOD, categories=(msgspec.structs.replace(rule, **changes),))


def test_the_words_are_a_person_s_words() -> None:
    """Who is asked reads sentences: no names of levels, no machine words."""
    words = keys().words(Category.KEYS)
    assert words == (
        "Which kind of key you press and release (letter, digit, arrow and so on), and when;"
        " never which letter or digit.\n"
        "Never recorded: Anything typed while a program outside the list has the focus.\n"
        "Used to train AI that uses computers, never for performance evaluation, disciplinary"
        " action, attendance control or sale to third parties. Opened by training-team, each"
        " time only after the guard, run by Council Trust, has found it logged. Kept for 90 days."
    )


def test_the_words_are_those_of_the_policy_s_level_alone() -> None:
    """Nobody has to find out which half of a sentence is meant."""
    words = keys(level="text").words(Category.KEYS)
    assert "with the character it types" in words
    assert "Which kind of key" not in words


def test_other_levels_and_days_have_another_hash() -> None:
    """Consent to the one is none to the other."""
    policies = (keys(), keys(level="text"), keys(retention_days=1))
    assert len({words_sha256(policy, Category.KEYS) for policy in policies}) == len(policies)


def test_one_day_is_a_day() -> None:
    """Numbers have their grammar."""
    assert keys(retention_days=1).words(Category.KEYS).endswith("Kept for 1 day.")


def test_each_purpose_has_words() -> None:
    """A new purpose cannot be shown by the name that it has in code."""
    assert all(purpose.words.startswith("to ") for purpose in Purpose)


def test_there_are_no_words_for_what_is_not_asked_or_not_known() -> None:
    """Without words there is nothing to agree to."""
    with pytest.raises(NotCoveredError, match="does not ask for screen"):
        keys().words(Category.SCREEN)
    with pytest.raises(NotCoveredError, match="'everything'"):
        keys(level="everything").words(Category.KEYS)


def test_a_signed_policy_with_an_unknown_level_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A level of a later version, whose lint knows it: unknown is no, for the whole policy."""
    monkeypatch.setattr(policy_set, "lint", lambda *_: ())
    published = ORGANISATION.publish(tmp_path, keys(level="everything"))
    with pytest.raises(MalformedError, match="'everything'"):
        verify(**published.files(), now=NOW)
