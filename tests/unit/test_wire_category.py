"""The registry: levels in order, each with its own sentence."""

import pytest

from wire.category import Category, registry


@pytest.mark.parametrize("category", Category)
def test_each_level_has_a_sentence_that_names_no_level(category: Category) -> None:
    """A person reads what is recorded, not what we call it."""
    entry = registry()[category]
    for sentence in (entry.never, *entry.levels.values()):
        assert sentence[0].isupper()
        assert sentence.endswith(".")
        assert "level" not in sentence
    assert len(set(entry.levels.values())) == len(entry.levels)


def test_the_lowest_level_of_keys_makes_no_characters() -> None:
    """What a draft asks for when nobody says anything else."""
    assert registry()[Category.KEYS].lowest_level == "classes"


@pytest.mark.parametrize(
    ("agreed", "level", "covered"),
    [
        ("text", "classes", True),
        ("text", "text", True),
        ("classes", "classes", True),
        ("classes", "text", False),
        ("text", "everything", False),
        ("everything", "classes", False),
        ("everything", "everything", False),
    ],
)
def test_a_level_covers_itself_and_what_reveals_less(
    agreed: str, level: str, *, covered: bool
) -> None:
    """Who agreed to more agreed to less; a level that is unknown covers and is nothing."""
    assert registry()[Category.KEYS].covers(agreed, level) is covered
