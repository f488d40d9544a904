"""Before they sign, people read what a new policy widens, narrows, and whom it asks again."""

import json
from pathlib import Path
from typing import Final

import msgspec
from click.testing import CliRunner

from governance.__main__ import cli
from governance.diff import difference, in_words
from tests.fakes.organisation import Organisation
from wire.category import Category
from wire.policy import Policy, encode_policy

OLD: Final = Organisation().policy()


def changed(**changes: object) -> Policy:
    return msgspec.structs.replace(OLD, version=2, **changes)


def rules(category: Category, **changes: object) -> Policy:
    return changed(
        categories=tuple(
            msgspec.structs.replace(rule, **changes) if rule.category is category else rule
            for rule in OLD.categories
        )
    )


def said(new: Policy) -> str:
    return "\n".join(in_words(OLD, new))


def test_the_same_again_asks_nobody() -> None:
    """Only the number is another."""
    assert "No consent becomes stale" in said(changed())
    assert said(changed()).count("  stays as it is") == len(Category)


def test_what_one_category_widens_asks_those_who_agreed_to_it_again() -> None:
    """By its title, with the field and its meaning."""
    text = said(rules(Category.SCREEN, rate_hz=5.0, retention_days=7))
    assert "Whoever agreed to Screen is asked again" in text
    assert "  widens   rate_hz: how often it is recorded" in text
    assert "  narrows  retention_days: how long it is kept" in text
    assert text.count("stays as it is") == len(Category) - 1


def test_a_new_notice_asks_everybody_again() -> None:
    """What concerns all widens all."""
    changes = difference(OLD, changed(notice="Other words."))
    assert all(each.makes_stale and each.widens == ("notice",) for each in changes)


def test_a_category_that_comes_or_goes_makes_no_consent_stale() -> None:
    """Nobody has agreed to the first, and of the second nothing is left to agree to."""
    fewer = changed(categories=OLD.categories[1:])
    assert "is not asked for any more; what waits on devices is deleted" in said(fewer)
    assert "No consent becomes stale" in said(fewer)
    back = "\n".join(in_words(fewer, msgspec.structs.replace(OLD, version=3)))
    assert "is asked for, and was not before" in back
    assert "No consent becomes stale" in back


def test_a_policy_without_a_higher_version_is_said_to_reach_nobody() -> None:
    """Devices never go back."""
    assert "no device will take it" in said(msgspec.structs.replace(OLD, notice="x"))


def test_the_command_says_the_same_in_words_and_as_json(tmp_path: Path) -> None:
    """Signers read the one, scripts the other."""
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_bytes(encode_policy(OLD))
    new.write_bytes(encode_policy(rules(Category.KEYS, retention_days=365)))
    ran = CliRunner().invoke(cli, ["diff", str(old), str(new)])
    assert ran.exit_code == 0
    assert "Whoever agreed to Keyboard is asked again" in ran.output
    facts = json.loads(CliRunner().invoke(cli, ["diff", "--json", str(old), str(new)]).output)
    stale = {each["category"]: each["widens"] for each in facts if each["stale"]}
    assert stale == {"keys": ["retention_days"]}
