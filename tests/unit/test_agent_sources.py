"""Which sensor has what open for which categories."""

import msgspec
import pytest

from agent.sources import CONTEXT, INPUT, SCREEN, plan
from tests.fakes.organisation import Organisation
from wire.category import Category
from wire.control import ContextSettings, InputSettings, ScreenSettings
from wire.policy import Policy


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Organisation().policy()


def test_nothing_permitted_opens_nothing(policy: Policy) -> None:
    """Not even the context source."""
    assert plan(frozenset(), policy) == {}
    assert plan(frozenset(Category), None) == {}


def test_without_a_listed_program_nothing_is_open(policy: Policy) -> None:
    """A list that is empty by default records nothing by default."""
    assert plan(frozenset(Category), msgspec.structs.replace(policy, applications=())) == {}


def test_the_context_source_is_open_with_any_other(policy: Policy) -> None:
    """It says whose window has the focus; without consent for windows it may read no title."""
    wanted = plan(frozenset({Category.KEYS}), policy)
    assert set(wanted) == {CONTEXT, INPUT}
    assert wanted[CONTEXT] == ContextSettings(titles=False, applications=policy.applications)


def test_the_input_sensor_serves_keys_and_pointer_by_name(policy: Policy) -> None:
    """What one of them may not see is not hooked."""
    for keys, pointer in ((True, False), (False, True), (True, True)):
        categories = {Category.KEYS: keys, Category.POINTER: pointer}
        wanted = plan(frozenset(c for c, on in categories.items() if on), policy)
        told = wanted[INPUT]
        assert isinstance(told, InputSettings)
        assert (told.keys, told.pointer, told.key_level) == (keys, pointer, "classes")


def test_moves_are_as_many_as_the_policy_says(policy: Policy) -> None:
    """Where the pointer is watched; its rate is nobody's business where it is not."""
    rule = policy.rule(Category.POINTER)
    assert rule is not None
    for categories, rate in (
        (frozenset({Category.KEYS}), 1000.0),
        (frozenset({Category.KEYS, Category.POINTER}), rule.rate_hz),
    ):
        told = plan(categories, policy)[INPUT]
        assert isinstance(told, InputSettings)
        assert told.move_hz == rate


def test_the_input_sensor_is_told_how_to_watch(policy: Policy) -> None:
    """As the configuration says; it changes nothing about what may be seen."""
    told = plan(frozenset({Category.KEYS}), policy, "pynput")[INPUT]
    assert told == InputSettings(keys=True, pointer=False, key_level="classes", source="pynput")


def test_screens_are_looked_at_as_often_as_the_policy_says(policy: Policy) -> None:
    """The rate is the rule's."""
    wanted = plan(frozenset({Category.SCREEN}), policy)
    rule = policy.rule(Category.SCREEN)
    assert rule is not None
    assert wanted[SCREEN] == ScreenSettings(rate_hz=rule.rate_hz, applications=policy.applications)


def test_titles_are_read_at_level_title_and_with_consent_for_windows(policy: Policy) -> None:
    """Both, or neither."""
    rules = tuple(
        msgspec.structs.replace(rule, level="title") if rule.category is Category.WINDOW else rule
        for rule in policy.categories
    )
    titled = msgspec.structs.replace(policy, categories=rules)
    for categories, titles in ((Category, True), ((Category.KEYS,), False)):
        wanted = plan(frozenset(categories), titled)
        assert wanted[CONTEXT] == ContextSettings(titles=titles, applications=policy.applications)
