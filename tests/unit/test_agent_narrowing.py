"""A policy that changes: what it narrows holds at once, what it widens waits for a new yes."""

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import pytest

from agent.consent import texts
from agent.consent.confirmation import confirm_by, is_due, is_offered
from agent.consent.entries import Granted, Halted, HaltLifted, Withdrawn
from agent.consent.facts import UNKNOWN, consent_at, facts_of, policy_changed, why_stale
from agent.consent.gate import decide
from agent.consent.ledger import Ledger
from agent.consent.policy import PolicyInForce
from agent.consent.refresh import refresh
from agent.consent.standing import Grant as Given
from agent.consent.standing import Standing
from agent.consent.states import Consent
from agent.status import notice_of
from base.clock import NANOSECONDS, Now, local_time
from tests.fakes.organisation import NOW as THEN
from tests.fakes.organisation import Organisation, wall
from tests.fakes.repository import a_lease
from tests.fakes.workstation import (
    HOLD_BACK,
    Workstation,
    capturing,
    eventually,
    key,
    play,
    running,
    the,
)
from tests.fakes.workstation import (
    texts as typed,
)
from tests.unit.test_agent_consent_facts import situation
from tests.unit.test_agent_status import status
from wire.category import Category
from wire.control import InputSettings, Pause, Reason, ScreenSettings
from wire.grant import SignedConsent, grant_hash, verify_consent
from wire.ids import PolicyDigest, WallInstant
from wire.policy import Application, Hours, Policy, Weekday, encode_policy, policy_digest

ACME: Final = Organisation()
BASE: Final = ACME.policy(
    applications=(
        Application(process="gedit", window_class="Gedit"),
        Application(process="soffice", window_class="Calc"),
    ),
    reconfirm_days=180,
)
NARROWER: Final = msgspec.structs.replace(BASE, version=2, applications=BASE.applications[:1])
WIDER: Final = msgspec.structs.replace(BASE, version=3, hold_seconds=1)
DAY: Final = 86_400 * NANOSECONDS
NOW: Final = Now(boot=1_000, wall=wall(THEN) + DAY, boot_id="one")
LEASE: Final = a_lease(Now(boot=0, wall=0, boot_id="none"), seconds=1 << 33)  # outlasts them all


def digest(policy: Policy) -> PolicyDigest:
    return policy_digest(encode_policy(policy))


def in_force(policy: Policy, *earlier: Policy) -> PolicyInForce:
    return PolicyInForce(
        policy=policy,
        digest=digest(policy),
        lease=LEASE,
        earlier={digest(each): each for each in earlier},
    )


def yes(signed: SignedConsent) -> Granted:
    return Granted(signed=signed, words="", notice="")


def ledger_of(folder: Path, *policies: Policy, category: Category = Category.KEYS) -> Ledger:
    """Return a ledger with a yes to each of *policies*, in order."""
    ledger = Ledger.open(folder, ACME.device.public_key(), NOW)
    for policy in policies:
        signed = ACME.consent(digest(policy), category=category)
        ledger.append(yes(signed), NOW)
    return ledger


def state(standing: Standing, policy: PolicyInForce) -> Consent:
    return consent_at(standing, policy, Category.KEYS, NOW)


# --- which consent stands under which policy ------------------------------------------------


def test_a_consent_stands_under_a_narrower_policy(tmp_path: Path) -> None:
    """Nobody is asked again for less than what was agreed to."""
    standing = ledger_of(tmp_path, BASE).standing
    assert state(standing, in_force(BASE)) is Consent.GIVEN
    assert state(standing, in_force(NARROWER, BASE)) is Consent.GIVEN


def test_a_consent_is_stale_under_a_wider_policy_and_the_field_is_named(tmp_path: Path) -> None:
    """Until it is granted again."""
    standing = ledger_of(tmp_path, BASE).standing
    assert state(standing, in_force(WIDER, BASE)) is Consent.STALE
    assert why_stale(standing, in_force(WIDER, BASE), Category.KEYS) == ("hold_seconds",)
    again = ledger_of(tmp_path, WIDER).standing
    assert state(again, in_force(WIDER, BASE)) is Consent.GIVEN


def test_a_policy_that_nobody_can_compare_is_wider(tmp_path: Path) -> None:
    """The text agreed to was lost: unknown is no."""
    standing = ledger_of(tmp_path, BASE).standing
    assert state(standing, in_force(NARROWER)) is Consent.STALE
    assert why_stale(standing, in_force(NARROWER), Category.KEYS) == (UNKNOWN,)
    gone = PolicyInForce(policy=None, digest=digest(NARROWER), earlier={digest(BASE): BASE})
    assert state(standing, gone) is Consent.STALE


def test_what_was_narrowed_and_is_widened_again_takes_a_new_yes(tmp_path: Path) -> None:
    """I4: an organisation that narrows and widens starts nothing, though all was agreed to once."""
    ledger = ledger_of(tmp_path, BASE)
    narrow = in_force(NARROWER, BASE)
    noted = policy_changed(ledger.standing, narrow)
    assert noted is not None
    assert noted.widened == {}
    ledger.append(noted, NOW)
    assert policy_changed(ledger.standing, narrow) is None
    assert state(ledger.standing, narrow) is Consent.GIVEN
    back = in_force(BASE, BASE, NARROWER)
    assert state(ledger.standing, back) is Consent.STALE
    assert why_stale(ledger.standing, back, Category.KEYS) == ("applications",)
    noted = policy_changed(ledger.standing, back)
    assert noted is not None
    ledger.append(noted, NOW)
    for policy in (back, narrow, in_force(WIDER, BASE, NARROWER)):  # whatever comes next
        assert state(ledger.standing, policy) is Consent.STALE
    found = Ledger.open(tmp_path, ACME.device.public_key(), NOW).standing
    assert found == ledger.standing


def test_a_change_is_noted_for_what_was_agreed_to_and_for_nothing_else(tmp_path: Path) -> None:
    """Without any grant a new policy is no line in the record."""
    assert policy_changed(Standing(), in_force(WIDER)) is None
    standing = ledger_of(tmp_path, BASE).standing
    noted = policy_changed(standing, in_force(WIDER, BASE))
    assert noted is not None
    assert noted.widened == {Category.KEYS: ("hold_seconds",)}


def test_a_halt_makes_every_consent_stale_whatever_policy_lifts_it(tmp_path: Path) -> None:
    """Lifting a halt takes a new policy, and a new yes, also from who said it meanwhile."""
    ledger = ledger_of(tmp_path, BASE)
    ledger.append(Halted(policy=digest(BASE), why="stop"), NOW)
    ledger.append(yes(ACME.consent(digest(BASE))), NOW)  # while it is halted
    ledger.append(HaltLifted(policy=digest(NARROWER)), NOW)
    lifted = in_force(NARROWER, BASE)
    assert state(ledger.standing, lifted) is Consent.STALE
    ledger.append(yes(ACME.consent(digest(NARROWER))), NOW)
    assert state(ledger.standing, lifted) is Consent.GIVEN


# --- confirmation ---------------------------------------------------------------------------


def given(first: int, last: int) -> Given:
    """A consent of which the first yes came on day *first* and the last on day *last*."""
    signed = ACME.consent(digest(BASE), given_at=WallInstant(last * DAY))
    record = verify_consent(signed, ACME.device.public_key())
    return Given(
        signed=signed, record=record, hash=grant_hash(signed), first_at=WallInstant(first * DAY)
    )


@pytest.mark.parametrize(
    ("first", "last", "most", "due"),
    [
        (0, 0, 180, 30),
        (0, 10, 180, 30),  # agreed again because the policy changed: not the confirmation yet
        (0, 22, 180, 30),
        (0, 23, 180, 203),  # in the week before, it is
        (0, 30, 180, 210),
        (0, 210, 180, 390),
        (0, 0, 14, 14),  # the policy may ask sooner
        (0, 14, 14, 28),
        (0, 30, 90, 120),
        (0, 0, 9_999, 30),  # and never later
        (0, 30, 9_999, 210),
    ],
)
def test_a_consent_is_confirmed_after_a_month_and_then_twice_a_year(
    first: int, last: int, most: int, due: int
) -> None:
    """To the nanosecond; it is offered in the week before."""
    policy = msgspec.structs.replace(BASE, reconfirm_days=most)
    grant, at = given(first, last), due * DAY
    assert confirm_by(grant, policy) == at
    for moment, offered, over in (
        (at - 7 * DAY - 1, False, False),
        (at - 7 * DAY, True, False),
        (at - 1, True, False),
        (at, True, True),
    ):
        now = Now(boot=1, wall=moment, boot_id="one")
        assert is_due(grant, policy, now) is over
        assert is_offered(grant, policy, now) is offered


def test_a_consent_that_is_due_is_stale_and_what_was_withdrawn_begins_anew(tmp_path: Path) -> None:
    """The first month counts from the first yes after a withdrawal."""
    ledger = ledger_of(tmp_path, BASE)
    late = dataclasses.replace(NOW, wall=wall(THEN) + 30 * DAY)
    assert consent_at(ledger.standing, in_force(BASE), Category.KEYS, late) is Consent.STALE
    ledger.append(Withdrawn(category=None), late)
    new = ACME.consent(digest(BASE), given_at=WallInstant(late.wall))
    ledger.append(yes(new), late)
    assert ledger.standing.grants[Category.KEYS].first_at == late.wall
    assert consent_at(ledger.standing, in_force(BASE), Category.KEYS, late) is Consent.GIVEN


def test_the_tray_hears_in_time_what_to_confirm_and_what_is_new(tmp_path: Path) -> None:
    """A week before, afterwards, and when the policy widens: each in words, with its switch off."""
    standing = ledger_of(tmp_path, BASE).standing
    soon = dataclasses.replace(NOW, wall=wall(THEN) + 25 * DAY)
    shown = status(standing=standing, policy=in_force(BASE), now=soon)
    keys = next(each for each in shown.categories if each.category is Category.KEYS)
    assert (keys.granted, keys.confirm_by) == (True, wall(THEN) + 30 * DAY)
    seen = situation(standing=standing, policy=in_force(BASE), now=soon)
    item = next(i for i in notice_of(BASE, seen).items if i.category is Category.KEYS)
    assert not item.granted
    assert "You have agreed to this until 14 April 2027" in item.again

    late = dataclasses.replace(NOW, wall=wall(THEN) + 31 * DAY)
    shown = status(standing=standing, policy=in_force(BASE), now=late)
    assert shown.reason is Reason.CONSENT_STALE
    assert "It is time to say again whether you agree: Keyboard." in shown.detail

    shown = status(standing=standing, policy=in_force(WIDER, BASE), now=NOW)
    keys = next(each for each in shown.categories if each.category is Category.KEYS)
    assert keys.asks_more == "how long it stays here before it is sent"
    assert "Keyboard (how long it stays here before it is sent)" in shown.detail


# --- hours ----------------------------------------------------------------------------------


@pytest.mark.parametrize("within", [False, None])
def test_outside_the_hours_nothing_is_captured(*, within: bool | None) -> None:
    """Also while nobody knows what the policy's hours are."""
    verdict = decide(facts_of(situation(within_hours=within)))
    assert (verdict.reason, verdict.categories) == (Reason.OUTSIDE_SCOPE, frozenset())
    assert "at this hour" in status(within_hours=False).detail


# --- the texts ------------------------------------------------------------------------------


def test_the_texts_agreed_to_are_kept_and_only_as_they_were(tmp_path: Path) -> None:
    """A file that is not what its name says is none."""
    assert texts.read(tmp_path) == {}
    texts.keep(tmp_path, encode_policy(BASE))
    texts.keep(tmp_path, encode_policy(NARROWER))
    assert texts.read(tmp_path) == {digest(BASE): BASE, digest(NARROWER): NARROWER}
    changed = tmp_path / f"policy-{digest(BASE).hex()}.json"
    changed.write_bytes(encode_policy(WIDER))
    (tmp_path / "policy-junk.json").write_bytes(b"{")
    assert texts.read(tmp_path) == {digest(NARROWER): NARROWER}


# --- the whole agent ------------------------------------------------------------------------


def change(station: Workstation, **changes: object) -> None:
    """Put a newer policy, signed by both parties, in force on the workstation."""
    version = station.policy.version + 1
    station.policy = msgspec.structs.replace(station.policy, version=version, **changes)
    signed = station.organisation.publish(
        station.folder / "policy", station.policy, at=datetime.now(UTC)
    )
    now = station.clock.now()
    station.repository.publish(signed, datetime.fromtimestamp(now.wall // NANOSECONDS, UTC))
    refresh(station.paths.state, station.repository.fetch, now)


def rules(station: Workstation, **changes: object) -> tuple[object, ...]:
    return tuple(msgspec.structs.replace(rule, **changes) for rule in station.policy.categories)


@pytest.fixture
def station(tmp_path: Path) -> Workstation:
    return Workstation.enrolled(tmp_path, applications=BASE.applications)


def test_a_narrower_rate_holds_at_once_and_without_a_question(station: Workstation) -> None:
    """The source is opened anew with it, under the same consent."""

    async def story() -> None:
        async with capturing(station, Category.SCREEN) as service:
            first = the(station, "screen").settings
            assert isinstance(first, ScreenSettings)
            change(station, categories=rules(station, rate_hz=0.5))
            await eventually(lambda: service.policy.policy == station.policy)
            await eventually(lambda: len(the(station, "screen").opened) == 2)
            second = the(station, "screen").settings
            assert isinstance(second, ScreenSettings)
            assert (first.rate_hz, second.rate_hz) == (1.0, 0.5)
            permit = service.pipeline.permits()[Category.SCREEN]
            assert (permit.rate_hz, permit.policy) == (0.5, service.policy.digest)

    play(story())


def test_a_wider_policy_closes_what_it_widens_until_the_next_yes(station: Workstation) -> None:
    """And says in words what is new; the other category goes on."""

    async def story() -> None:
        async with capturing(station, Category.KEYS, Category.SCREEN) as service:
            longer = [
                msgspec.structs.replace(rule, retention_days=91)
                if rule.category is Category.SCREEN
                else rule
                for rule in station.policy.categories
            ]
            change(station, categories=tuple(longer))
            await eventually(lambda: not the(station, "screen").is_open)
            await eventually(lambda: set(service.pipeline.permits()) == {Category.KEYS})
            shown = {each.category: each for each in service.status().categories}
            assert shown[Category.SCREEN].asks_more == "how long it is kept"
            assert shown[Category.KEYS].granted
            await station.agree(Category.SCREEN)
            await eventually(lambda: Category.SCREEN in service.pipeline.permits())

    play(story())


@pytest.mark.parametrize("what", ["category", "applications", "hold", "notice"])
def test_what_waits_on_the_disk_goes_if_the_new_policy_forbids_it(
    station: Workstation, what: str
) -> None:
    """A category that is gone, a program off the list (it might be in there); not other changes."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            station.collector.reachable = False
            the(station, "input").emit(key(station))
            await asyncio.sleep(HOLD_BACK + 0.2)
            await station.tray.say(Pause())
            await eventually(lambda: len(service.spool.batches()) == 1)
            before = service.policy.digest
            rules_left = tuple(r for r in station.policy.categories if r.category != Category.KEYS)
            changes: dict[str, dict[str, object]] = {
                "category": {"categories": rules_left},
                "applications": {"applications": BASE.applications[1:]},
                "hold": {"hold_seconds": 900},
                "notice": {"notice": station.policy.notice + "\n\nMore."},
            }
            change(station, **changes[what])
            await eventually(lambda: service.policy.digest != before)
            if what in {"category", "applications"}:
                await eventually(lambda: service.spool.batches() == [])
            else:
                await asyncio.sleep(1.2)  # another look around would have deleted it
                assert len(service.spool.batches()) == 1

    play(story())


def test_what_is_open_when_a_policy_forbids_it_is_never_written(station: Workstation) -> None:
    """Neither hold-back nor open batch reaches the spool."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            the(station, "input").emit(key(station, "x"))
            await asyncio.sleep(HOLD_BACK + 0.2)
            change(station, applications=BASE.applications[1:])
            await eventually(lambda: service.policy.policy == station.policy)
            context = the(station, "context")  # is opened anew, with what is listed now
            await eventually(lambda: len(context.opened) == 2 and context.is_open)
            await eventually(lambda: Category.KEYS in service.pipeline.permits())
            await station.focus()
            await asyncio.sleep(0.15)
            the(station, "input").emit(key(station, "y"))
            await asyncio.sleep(HOLD_BACK + 0.2)
            await station.tray.say(Pause())
            await eventually(lambda: service.spool.number_sent() == 1)
        assert typed(station.opened()) == "y"

    play(story())


def test_a_restart_under_another_policy_knows_what_was_agreed_to(station: Workstation) -> None:
    """The text is on the disk, so a consent stands, and what is forbidden goes before all else."""

    async def story() -> None:
        async with capturing(station, Category.KEYS):
            station.collector.reachable = False
            the(station, "input").emit(key(station))
            await asyncio.sleep(HOLD_BACK + 0.2)
            await station.tray.say(Pause())
        change(station, applications=BASE.applications[1:])
        async with running(station) as service:
            assert service.spool.batches() == []
            granted = [each.category for each in service.status().categories if each.granted]
            assert granted == [Category.KEYS]
        assert station.collector.frames == {}

    play(story())


def test_outside_the_hours_no_source_is_open_and_no_event_of_later_is_kept(tmp_path: Path) -> None:
    """They end by the clock on the wall; what happened before their end is kept."""
    station = Workstation.enrolled(tmp_path)
    local = local_time(station.clock.now().wall)
    noon = (local + timedelta(days=1)).replace(hour=12, minute=0)
    station.clock.pass_by((noon - local).total_seconds())
    day = tuple(Weekday)[noon.weekday()]
    change(station, hours=(Hours(days=(day,), begin="00:00", end="12:30"),))

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            until = service.pipeline.permits()[Category.KEYS].until
            assert until is not None
            now = service.clock.now()
            assert 25 * 60 < (until - now.boot) / NANOSECONDS < 31 * 60
            station.clock.pass_by((until - now.boot) / 1e9 + 1)
            await eventually(lambda: not the(station, "input").is_open)
            await eventually(lambda: service.status().reason is Reason.OUTSIDE_SCOPE)
            shown = service.status()
            assert shown.outside_hours
            assert shown.recording == ()
            station.clock.pass_by(24 * 3600)  # the same hour of another day of the week
            await asyncio.sleep(1.2)
            assert not the(station, "input").is_open
            assert isinstance(the(station, "input").opened[0], InputSettings)

    play(story())


def test_nothing_is_asked_again_after_a_restart_without_a_change(station: Workstation) -> None:
    """The record grows by no line."""

    async def story() -> None:
        async with capturing(station, Category.KEYS):
            pass
        lines = (station.paths.state / "consent.jsonl").read_bytes().count(b"\n")
        async with running(station):
            await asyncio.sleep(1.2)
        assert (station.paths.state / "consent.jsonl").read_bytes().count(b"\n") == lines

    play(story())
