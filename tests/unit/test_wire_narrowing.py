"""What is not proved narrowing is widening: every field of a policy has its place in the order."""

import types
from collections.abc import Iterator
from typing import Any, Final, get_args, get_origin

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.organisation import Organisation
from wire.category import Category
from wire.hours import minutes
from wire.narrowing import CATEGORY, GENERAL, OF_RULE, WHOLE, forbids, narrowed, widened, words
from wire.policy import (
    Application,
    Approver,
    CategoryRule,
    FormerKeys,
    Hours,
    Policy,
    Purpose,
    Recipient,
    Weekday,
    Witness,
)

ORGANISATION: Final = Organisation()
KEYS: Final = CategoryRule(category=Category.KEYS, level="text", rate_hz=10.0, retention_days=30)
SCREEN: Final = CategoryRule(
    category=Category.SCREEN, level="window", rate_hz=1.0, retention_days=30, justification="clicks"
)
GEDIT, CALC = (Application(process=p, window_class=p.title()) for p in ("gedit", "soffice"))
ANN, BOB = (Recipient(name=n, key=f"age1pq1{n}") for n in ("ann", "bob"))
ADA, GRACE, ALAN = (Approver(name=n, party=n[0], key=n) for n in ("ada", "grace", "alan"))
FORMER = FormerKeys(signing_key="AAAA", witness="x+y+z", lease_key="AAAA", word="AAAA")
UNION, LAB = (Witness(name=n, party=n, key=n) for n in ("union", "lab"))
MORNING, DAY = (
    (Hours(days=(Weekday.MONDAY, Weekday.TUESDAY), begin="09:00", end=end),)
    for end in ("12:00", "17:00")
)
BASE: Final = ORGANISATION.policy(
    categories=(KEYS, SCREEN),
    applications=(GEDIT, CALC),
    recipients=(ANN, BOB),
    approvers=(ADA, GRACE),
    approval_threshold=2,
    hours=DAY,
    reconfirm_days=90,
    test_only=True,
    prohibited_purposes=("performance-evaluation", "sale"),
    jurisdictions=("DE", "FR"),
    hold_seconds=600,
    lease_seconds=3600,
    witnesses=(UNION,),
    quorum=2,
)


def replaced(policy: Policy, path: str, value: object) -> Policy:
    """Return *policy* with the field at *path* ("guard.name") set to *value*."""
    head, _, rest = path.partition(".")
    if rest:
        value = msgspec.structs.replace(getattr(policy, head), **{rest: value})
    return msgspec.structs.replace(policy, **{head: value})


def with_keys(**changes: object) -> Policy:
    return replaced(BASE, "categories", (msgspec.structs.replace(KEYS, **changes), SCREEN))


# For each general field: values that ask for no more than BASE, and values that do.
ALL: Final[dict[str, tuple[list[object], list[object]]]] = {
    "version": ([1, 2, 99], []),
    "programme": (["pilot"], ["other"]),
    "controller.name": ([], ["Beta Ltd"]),
    "controller.contact": ([], ["x@y.example"]),
    "representatives.name": ([], ["Nobody"]),
    "representatives.contact": ([], ["x@y.example"]),
    "jurisdictions": ([("FR", "DE")], [("DE",), ("DE", "FR", "US"), ()]),
    "purpose": ([Purpose.TRAIN_COMPUTER_USE], ["another-purpose"]),
    "prohibited_purposes": (
        [("sale", "performance-evaluation", "attendance")],
        [("performance-evaluation",), ()],
    ),
    "applications": (
        [(GEDIT,), (CALC, GEDIT), ()],
        [
            (GEDIT, CALC, Application(process="vi", window_class="Vi")),
            (Application(process="gedit", window_class="Other"),),
        ],
    ),
    "hold_seconds": ([600, 601], [599, 0]),
    "recipients": (
        [(ANN,), (BOB, ANN), ()],
        [(ANN, BOB, Recipient(name="eve", key="k")), (Recipient(name="ann", key="age1pq1eve"),)],
    ),
    "guard.name": ([], ["another guard"]),
    "guard.run_by": ([], ["Acme Ltd"]),
    "guard.signing_key": ([], ["AAAA"]),
    "guard.witness": ([], ["x+y+z"]),
    "guard.lease_key": ([], ["AAAA"]),
    "guard.follows": ([(FORMER,)], []),  # judged with the keys, see test_wire_guard_follows.py
    "collector.origin": ([], ["https://elsewhere.example"]),
    "collector.tenant": ([], ["other"]),
    "collector.tls_pins": ([("ab" * 32,), ()], [("cd" * 32,), ("ab" * 32, "cd" * 32)]),
    "collector.log": ([], ["x+y+z"]),
    "collector.lease_key": ([], ["AAAA"]),
    "lease_seconds": ([3600, 60], [3601, 24 * 3600]),
    "approvers": ([(ADA,), (GRACE, ADA)], [(ADA, GRACE, ALAN), (ALAN,)]),
    "approval_threshold": ([2, 3], [1, 0]),
    "assessment.id": ([], ["DPIA-8"]),
    "assessment.expires": (
        ["2028-01-01", "2027-12-31"],
        ["2028-01-02", "never", "", "9999-12-31"],
    ),
    "review": ([], ["cd" * 32, ""]),
    "notice": ([], ["Something else.", ""]),
    "test_only": ([True, False], []),
    "hours": (
        [DAY, MORNING, (*MORNING, *MORNING)],
        [(), (Hours(days=(Weekday.SUNDAY,), begin="09:00", end="10:00"),), (*DAY, *[
            Hours(days=(Weekday.MONDAY,), begin="17:00", end="17:01")
        ])],
    ),
    "reconfirm_days": ([90, 30, 1], [91, 180]),
    "witnesses": ([(UNION,), ()], []),  # judged with the quorum, see below
    "quorum": ([2, 3], [1, 0]),
}  # fmt: skip
ONE: Final[dict[str, tuple[list[object], list[object]]]] = {
    CATEGORY: ([], []),  # has tests of its own: a rule cannot change its category
    "level": (["text", "classes"], ["a level of tomorrow"]),
    "rate_hz": ([10.0, 9.9, 0.0], [10.1, float("inf"), float("nan")]),
    "retention_days": ([30, 1], [31, 10_000]),
    "justification": ([""], ["because"]),
}


def cases(
    table: dict[str, tuple[list[object], list[object]]], which: int
) -> list[tuple[str, object]]:
    return [(name, value) for name, both in table.items() for value in both[which]]


# --- the tables are complete --------------------------------------------------------------


def parts(of: type) -> Iterator[tuple[str, type]]:
    """Yield each field of a struct with its type; of a struct inside one, its fields instead."""
    for field in msgspec.structs.fields(of):
        inner = field.type
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            yield from ((f"{field.name}.{name}", kind) for name, kind in parts(inner))
        else:
            yield field.name, inner


def listed(kind: Any) -> Iterator[type]:  # noqa: ANN401 - a type of the typing module
    """Yield the structs of which a field's list is made."""
    if get_origin(kind) is tuple:
        for each in get_args(kind):
            if isinstance(each, type) and issubclass(each, msgspec.Struct):
                yield each
    else:
        assert not isinstance(kind, types.UnionType), kind


def test_every_field_of_a_policy_has_its_place() -> None:
    """Whoever adds a field to a policy or to a part of one has to say what narrows it."""
    placed = {field.name for field in GENERAL}
    assert len(placed) == len(GENERAL)
    assert placed | {"categories"} == {name for name, _kind in parts(Policy)}
    assert {field.name for field in OF_RULE} == set(CategoryRule.__struct_fields__)
    lists = {each for _name, kind in parts(Policy) for each in listed(kind)}
    assert lists == {CategoryRule, *WHOLE}
    for part, fields in WHOLE.items():
        assert fields == part.__struct_fields__, part  # type: ignore[attr-defined]
        assert not any(list(listed(kind)) for _name, kind in parts(part))


def test_every_field_is_tried_below() -> None:
    """And in the direction that widens, but where there is none."""
    assert set(ALL) == {field.name for field in GENERAL}
    assert set(ONE) == {field.name for field in OF_RULE}
    only_narrow = {name for name, (_no, more) in {**ALL, **ONE}.items() if not more}
    assert only_narrow == {"version", "test_only", "witnesses", "guard.follows", CATEGORY}


def test_every_field_has_words_for_a_data_subject() -> None:
    """Each its own, or nobody could tell two apart."""
    said = [*(field.words for field in GENERAL), *(field.words for field in OF_RULE)]
    assert all(said)
    assert len(set(said)) == len(said)
    assert words(("level", "notice")) == "how much it reveals; what the notice says"


# --- each field, in both directions -------------------------------------------------------


@pytest.mark.parametrize(("name", "value"), cases(ALL, 1))
def test_a_general_field_that_widens_widens_every_category(name: str, value: object) -> None:
    """Exactly that field is named, for each category that is asked for."""
    found = widened(BASE, replaced(BASE, name, value))
    assert found == {
        Category.KEYS: (name,),
        Category.SCREEN: (name,),
        Category.POINTER: (),
        Category.WINDOW: (),
    }


@pytest.mark.parametrize(("name", "value"), cases(ALL, 0))
def test_a_general_field_that_narrows_widens_nothing(name: str, value: object) -> None:
    """Consents stand."""
    assert not any(widened(BASE, replaced(BASE, name, value)).values())


@pytest.mark.parametrize(("name", "value"), cases(ONE, 1))
def test_a_rule_that_widens_widens_its_category_alone(name: str, value: object) -> None:
    """Whoever agreed to something else is not asked again."""
    if name == "justification":
        found = widened(BASE, with_keys(justification=value))
    else:
        found = widened(BASE, with_keys(**{name: value}))
    assert found[Category.KEYS] == (name,)
    assert not any(names for category, names in found.items() if category is not Category.KEYS)


@pytest.mark.parametrize(("name", "value"), cases(ONE, 0))
def test_a_rule_that_narrows_widens_nothing(name: str, value: object) -> None:
    """Less of the same needs no new yes."""
    assert not any(widened(BASE, with_keys(**{name: value})).values())


def test_a_level_that_reveals_more_widens_and_less_narrows() -> None:
    """By the order of the registry."""
    low = with_keys(level="classes")
    assert widened(low, BASE)[Category.KEYS] == ("level",)
    assert narrowed(BASE, low)[Category.KEYS] == ("level",)


def test_more_witnesses_widen_nothing_where_each_quorum_holds_one_of_before() -> None:
    """The first ones beside the guard's own, or as many more as the quorum grows by."""
    alone = msgspec.structs.replace(BASE, witnesses=(), quorum=1)
    assert not any(widened(alone, BASE).values())
    more = msgspec.structs.replace(BASE, witnesses=(UNION, LAB), quorum=3)
    assert not any(widened(BASE, more).values())
    assert widened(more, BASE)[Category.KEYS] == ("quorum",)
    for others in ((UNION, LAB), (LAB,)):
        weaker = msgspec.structs.replace(BASE, witnesses=others)
        assert widened(BASE, weaker)[Category.KEYS] == ("quorum",)
    assert widened(BASE, alone)[Category.KEYS] == ("quorum",)


def test_a_test_that_becomes_one_widens() -> None:
    """Only a test may record characters."""
    real = replaced(BASE, "test_only", False)  # noqa: FBT003 - the value of the field
    assert widened(real, BASE)[Category.KEYS] == ("test_only",)


def test_a_category_that_was_not_asked_for_widens_itself_alone() -> None:
    """And one that is not asked for any more widens nothing, whatever else has changed."""
    fewer = replaced(BASE, "categories", (SCREEN,))
    assert widened(fewer, BASE)[Category.KEYS] == (CATEGORY,)
    assert widened(fewer, BASE)[Category.SCREEN] == ()
    assert widened(BASE, replaced(fewer, "notice", "new"))[Category.KEYS] == ()


def test_a_category_with_two_rules_is_never_proved_narrow() -> None:
    """Nobody can say which of them was agreed to."""
    twice = replaced(BASE, "categories", (KEYS, KEYS, SCREEN))
    assert widened(BASE, twice)[Category.KEYS] == (CATEGORY,)
    assert widened(twice, BASE)[Category.KEYS] == (CATEGORY,)


# --- what lies sealed on the device -------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "why"),
    [
        (replaced(BASE, "categories", (SCREEN,)), (CATEGORY,)),
        (with_keys(level="classes"), ("level",)),
        (with_keys(rate_hz=1.0), ("rate_hz",)),
        (with_keys(retention_days=7), ("retention_days",)),
        (replaced(BASE, "applications", (GEDIT,)), ("applications",)),
        (replaced(BASE, "recipients", (ANN,)), ("recipients",)),
        (replaced(BASE, "hours", MORNING), ("hours",)),
        (replaced(BASE, "guard.run_by", "somebody else"), ("guard.run_by",)),
        (replaced(BASE, "hold_seconds", 900), ()),  # it goes on waiting, as the new one says
        (replaced(BASE, "approval_threshold", 3), ()),  # is asked when it is opened
        (with_keys(rate_hz=100.0), ()),
        (replaced(BASE, "notice", "new"), ()),
        (BASE, ()),
    ],
)
def test_a_policy_forbids_what_was_recorded_beyond_it(new: Policy, why: tuple[str, ...]) -> None:
    """Narrower forbids; wider and other words do not, the batch keeps to what was agreed."""
    assert forbids(new, BASE, Category.KEYS) == why


# --- laws ---------------------------------------------------------------------------------


def of_field(name: str) -> st.SearchStrategy[object]:
    value: Any = BASE
    for part in name.split("."):
        value = getattr(value, part)
    return st.sampled_from([value, *ALL[name][0], *ALL[name][1]])


RULES: Final = st.builds(
    CategoryRule,
    category=st.just(Category.KEYS),
    level=st.sampled_from(["text", "classes"]),
    rate_hz=st.sampled_from([1.0, 10.0, 100.0]),
    retention_days=st.sampled_from([1, 30, 90]),
    justification=st.sampled_from(["", "because"]),
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """A policy that differs from BASE in a few fields, so that the order relates many of them."""
    policy = BASE
    for name in draw(st.lists(st.sampled_from(sorted(ALL)), max_size=4, unique=True)):
        policy = replaced(policy, name, draw(of_field(name)))
    keys = draw(st.sampled_from([(KEYS,), ()]) | RULES.map(lambda rule: (rule,)))
    screen = draw(st.sampled_from([(SCREEN,), ()]))
    return msgspec.structs.replace(policy, categories=(*keys, *screen))


def permits(policy: Policy, category: Category) -> object:
    """What of a policy the order looks at, in one form: lists as sets, hours as minutes."""
    rule = policy.rule(category)
    if rule is None:
        return None
    plain: dict[str, Any] = {}
    for name, _kind in parts(Policy):
        value: Any = policy
        for part in name.split("."):
            value = getattr(value, part)
        plain[name] = frozenset(value) if isinstance(value, tuple) else value
    plain["hours"] = minutes(policy.hours)
    del plain["version"], plain["categories"]
    del plain["guard.follows"]  # says only why the keys are the same guard's
    return plain, rule


@given(policies())
def test_nothing_is_widened_against_itself(policy: Policy) -> None:
    """Reflexive."""
    assert not any(widened(policy, policy).values())
    assert not any(narrowed(policy, policy).values())
    assert not any(forbids(policy, policy, category) for category in Category)


@settings(max_examples=300)
@given(policies(), policies(), policies())
def test_what_narrows_twice_narrows_at_once(one: Policy, two: Policy, three: Policy) -> None:
    """Transitive, for each category: so a chain of narrower policies needs its ends only."""
    first, second, both = widened(one, two), widened(two, three), widened(one, three)
    for category in Category:
        if not first[category] and not second[category]:
            assert not both[category]
        # And no field widens over both steps that did not widen in one of them.
        assert set(both[category]) <= {*first[category], *second[category], CATEGORY} or (
            two.rule(category) is None
        )


@settings(max_examples=300)
@given(policies(), policies())
def test_two_policies_that_narrow_each_other_permit_the_same(one: Policy, two: Policy) -> None:
    """Antisymmetric, but for the number and for how lists and hours are written."""
    there, back = widened(one, two), widened(two, one)
    for category in Category:
        if not there[category] and not back[category]:
            assert permits(one, category) == permits(two, category)


@settings(max_examples=200)
@given(policies(), st.sampled_from(cases(ALL, 1)))
def test_a_widened_field_is_found_in_any_policy(
    policy: Policy, widening: tuple[str, object]
) -> None:
    """Whatever else the two have in common, or one of them narrows."""
    name, value = widening
    plain = replaced(policy, name, _value(BASE, name))
    found = widened(plain, replaced(policy, name, value))
    for category in Category:
        assert (name in found[category]) is (policy.rule(category) is not None)


def _value(policy: Policy, name: str) -> object:
    value: Any = policy
    for part in name.split("."):
        value = getattr(value, part)
    return value
