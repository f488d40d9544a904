"""The whole agent with fake sensors, tray and collector that speak the real protocols."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import control
from agent.config import Config
from agent.consent.states import Flag
from agent.consent.states import Pause as PauseState
from agent.counters import Drop
from agent.receipts import receipt_files
from base.errors import SetupError
from tests.fakes.workstation import (
    HOLD_BACK,
    Workstation,
    capturing,
    eventually,
    key,
    move,
    nothing_is_open,
    play,
    running,
    texts,
    the,
)
from wire.category import Category
from wire.consent_receipt import ConsentReceipt, verify_consent_receipt
from wire.control import (
    Answer,
    AwaitClick,
    Command,
    ConfirmClock,
    Done,
    FocusSeen,
    Forget,
    GetNotice,
    GetStatus,
    Grant,
    Heartbeat,
    InputSettings,
    Notice,
    NoticeInSight,
    OptIn,
    OptOut,
    Pause,
    Quit,
    Reason,
    Refused,
    Resume,
    Silent,
    Status,
    Withdraw,
)
from wire.event import Focus, Move
from wire.ids import BootInstant
from wire.linked import ConsentState


@pytest.fixture
def station(tmp_path: Path) -> Workstation:
    return Workstation.enrolled(tmp_path)


# --- yes --------------------------------------------------------------------------------


def test_nothing_is_open_before_a_yes(station: Workstation) -> None:
    """A fresh agent says NOT_CONSENTED and opens no source."""

    async def story() -> None:
        async with running(station):
            status = await station.tray.until(lambda s: s.indicator == "")
            assert status.reason is Reason.NOT_CONSENTED
            assert status.recording == ()
            assert nothing_is_open(station)

    play(story())


def test_the_notice_has_the_words_that_a_grant_must_name(station: Workstation) -> None:
    """What is shown is what is agreed to: other words are refused."""

    async def story() -> None:
        async with running(station):
            notice = await station.tray.say(GetNotice())
            assert isinstance(notice, Notice)
            assert {item.category for item in notice.items} == {
                rule.category for rule in station.policy.categories
            }
            refused = await station.tray.say(Grant(category=Category.KEYS, words_sha256=b"\0" * 32))
            assert isinstance(refused, Refused)
            assert nothing_is_open(station)

    play(story())


def test_what_is_typed_in_a_listed_program_after_a_yes_reaches_the_collector(
    station: Workstation,
) -> None:
    """Grant, register, the guard's key, open, type, wait, seal, send, receipt: gone from here."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            assert isinstance(the(station, "input").settings, InputSettings)
            assert not the(station, "screen").is_open
            the(station, "input").emit(key(station, "h"), key(station, "i"))
            await asyncio.sleep(HOLD_BACK + 0.2)
            assert isinstance(await station.tray.say(Pause()), Silent)
            await eventually(lambda: len(station.collector.frames) == 1)
            await eventually(lambda: service.spool.number_sent() == 1)
            assert list((station.paths.state / "spool" / "ready").iterdir()) == []
        assert texts(station.opened()) == "hi"

    play(story())


def test_the_window_category_comes_from_what_the_context_sensor_says(
    station: Workstation,
) -> None:
    """A listed window that gets the focus is a Focus event; any other is nothing."""

    async def story() -> None:
        async with capturing(station, Category.WINDOW):
            await station.focus(inside=False)
            await asyncio.sleep(HOLD_BACK + 0.2)
            await station.tray.say(Pause())
            await eventually(lambda: len(station.collector.frames) == 1)
        windows = [event for event in station.opened() if isinstance(event, Focus)]
        assert [window.process for window in windows] == [station.policy.applications[0].process]

    play(story())


def test_a_window_that_is_told_of_late_is_in_front_from_when_it_was_allowed(
    station: Workstation,
) -> None:
    """The sensor's word was under way when the permit came, and no other word follows it."""

    async def story() -> None:
        async with running(station) as service:
            before = station.clock.now().boot
            await station.agree(Category.WINDOW)
            await eventually(lambda: Category.WINDOW in service.pipeline.permits())
            await eventually(lambda: station.sensors["context"].is_open)
            await station.focus(at=before)
            await asyncio.sleep(HOLD_BACK + 0.2)
            await station.tray.say(Pause())
            await eventually(lambda: len(station.collector.frames) == 1)
        assert Drop.EARLY not in service.counters.dropped
        (window,) = [event for event in station.opened() if isinstance(event, Focus)]
        assert window.at > before

    play(story())


def test_what_is_typed_outside_is_counted_and_goes_nowhere(station: Workstation) -> None:
    """Events of a program that is not listed leave a number and nothing else."""

    async def story() -> None:
        async with capturing(station, Category.KEYS):
            await station.focus(inside=False)
            await asyncio.sleep(0.15)
            status = await station.tray.until(lambda s: s.reason is Reason.OUTSIDE_SCOPE)
            assert status.recording == ()
            assert the(station, "input").is_open
            the(station, "input").emit(key(station, "x"))
            status = await station.tray.until(lambda s: "outside-scope" in s.dropped)
            assert status.dropped["outside-scope"] == 1
            await station.tray.say(Pause())
        assert station.opened() == []

    play(story())


# --- silence ----------------------------------------------------------------------------


def test_pause_is_silence(station: Workstation) -> None:
    """What is older than the hold-back is kept; nothing younger, and nothing after the answer."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            the(station, "input").emit(key(station, "o"))
            await asyncio.sleep(HOLD_BACK + 0.05)
            the(station, "input").emit(key(station, "y"))
            silent = await station.tray.say(Pause())
            assert isinstance(silent, Silent)
            assert nothing_is_open(station)
            assert all(
                sensor.closed_at <= silent.at
                for sensor in station.sensors.values()
                if sensor.opened
            )
            assert service.pipeline.permits() == {}
            status = await station.tray.until(lambda s: s.reason is Reason.PAUSED_UNTIL)
            assert status.paused_until is not None
            await eventually(lambda: len(station.collector.frames) == 1)
        events = station.opened()
        assert texts(events) == "o"
        assert all(event.at <= silent.at for event in events)

    play(story())


def test_a_pause_that_ran_out_stays_shut_while_only_time_passes(station: Workstation) -> None:
    """Time alone never starts capture; a click does."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            await station.tray.say(Pause())
            station.clock.pass_by(31 * 60)
            await station.tray.until(lambda s: s.reason is Reason.RESUME_PENDING)
            station.clock.pass_by(24 * 3600)
            # The lease ran out, too; it is the pause that is to keep it shut.
            await eventually(lambda: service.policy.holds(station.clock.now()))
            for second in range(200):  # in sight, and nobody knows of anybody who sees it
                await sight(station, second)
            assert nothing_is_open(station)
            assert isinstance(await station.tray.say(Resume()), Done)
            await eventually(lambda: the(station, "input").is_open)

    play(story())


async def sight(station: Workstation, second: int, input_ms: int | None = None) -> None:
    """Let a second pass in which the notice is in sight, and the tray say so."""
    station.clock.pass_by(1)
    station.tray.sees(NoticeInSight(for_ms=second * 1000, input_ms=input_ms))
    station.tray.sees(Heartbeat())
    assert isinstance(await station.tray.say(GetNotice()), Notice)  # it has been heard


async def paused_and_over(station: Workstation) -> Status:
    await station.tray.say(Pause())
    station.clock.pass_by(31 * 60)
    return await station.tray.until(lambda s: s.reason is Reason.RESUME_PENDING)


def test_a_notice_that_was_seen_for_a_minute_ends_a_pause_that_ran_out(
    station: Workstation,
) -> None:
    """By somebody who is there; it says how long it will take, and is written down first."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            status = await paused_and_over(station)
            assert (status.resumes_in, status.counting) == (60, False)
            for second in range(59):
                await sight(station, second, input_ms=0)
            status = await station.tray.until(lambda s: (s.resumes_in or 60) < 10)
            assert status.counting
            assert nothing_is_open(station)
            await sight(station, 59, input_ms=0)
            await sight(station, 60, input_ms=0)
            await eventually(lambda: the(station, "input").is_open)
            assert service.standing.pause is PauseState.RUNNING
        lines = (station.paths.state / "consent.jsonl").read_text("utf-8").splitlines()
        assert json.loads(lines[-1])["entry"]["kind"] == "NoticeSeen"
        async with running(station):
            await station.tray.until(lambda s: s.reason is not Reason.RESUME_PENDING)

    play(story())


def test_a_notice_that_is_closed_waits_for_a_click_also_after_a_restart(
    station: Workstation,
) -> None:
    """However long it is in sight afterwards."""

    async def story() -> None:
        async with capturing(station, Category.KEYS):
            await paused_and_over(station)
            await sight(station, 0, input_ms=0)
            assert isinstance(await station.tray.say(AwaitClick()), Done)
            await station.tray.until(lambda s: s.resumes_in is None)
            for second in range(100):
                await sight(station, second, input_ms=0)
            assert nothing_is_open(station)
        async with running(station):
            status = await station.tray.until(lambda s: s.reason is Reason.RESUME_PENDING)
            assert status.resumes_in is None

    play(story())


@pytest.mark.parametrize("way", ["setting", "icon", "paused again", "halt"])
def test_no_time_of_the_notice_counts_while_something_else_is_in_the_way(
    station: Workstation, way: str
) -> None:
    """The data subject's own setting, an icon that is gone, another pause, a halt."""

    async def story() -> None:
        config = Config(resume="click") if way == "setting" else None
        async with capturing(station, Category.KEYS, config=config) as service:
            await paused_and_over(station)
            for second in range(30):
                await sight(station, second, input_ms=0)
            match way:
                case "icon":
                    station.icons[-1].say("gone")
                case "paused again":
                    await station.tray.say(Pause())
                case "halt":
                    service.calls.halt("halted")
                case _:
                    assert service.config.resume == "click"
            for second in range(30, 100):
                await sight(station, second, input_ms=0)
            assert nothing_is_open(station)
            station.icons[-1].say("")
            for second in range(100, 130):  # it begins anew, so half a minute is not enough
                await sight(station, second, input_ms=0)
            assert nothing_is_open(station)

    play(story())


def test_a_pause_keeps_its_length_over_a_restart(station: Workstation) -> None:
    """The disk is believed: a restart neither ends nor prolongs a pause."""

    async def story() -> None:
        async with capturing(station, Category.KEYS):
            await station.tray.say(Pause())
            status = await station.tray.until(lambda s: s.reason is Reason.PAUSED_UNTIL)
        async with running(station):
            again = await station.tray.until(lambda s: s.reason is Reason.PAUSED_UNTIL)
            assert again.paused_until == status.paused_until

    play(story())


def test_a_restart_records_again_once_the_icon_is_proved(station: Workstation) -> None:
    """Consent lasts; the indicator is proved anew each time."""

    async def story() -> None:
        async with capturing(station, Category.KEYS):
            pass
        async with running(station):
            station.icons[-1].say("hidden")
            await eventually(lambda: nothing_is_open(station))
            station.icons[-1].say("")
            await eventually(lambda: the(station, "input").is_open)

    play(story())


def test_opting_out_of_one_category_closes_that_one_alone(station: Workstation) -> None:
    """The others go on, under a new epoch; what was kept of that one is gone."""

    async def story() -> None:
        async with capturing(station, Category.KEYS, Category.POINTER) as service:
            sensor = the(station, "input")
            sensor.emit(key(station, "s"), move(station))
            await asyncio.sleep(HOLD_BACK + 0.2)
            epoch = sensor.epoch
            assert isinstance(await station.tray.say(OptOut(category=Category.KEYS)), Silent)
            assert set(service.pipeline.permits()) == {Category.POINTER}
            await eventually(lambda: sensor.is_open and sensor.epoch > epoch)
            assert isinstance(sensor.settings, InputSettings)
            assert not sensor.settings.keys
            assert sensor.settings.pointer
            await station.focus()
            await asyncio.sleep(0.15)
            sensor.emit(key(station, "t"), move(station, 2))
            await asyncio.sleep(HOLD_BACK + 0.2)
            await station.tray.say(Pause())
            await eventually(lambda: len(station.collector.frames) == 1)
        events = station.opened()
        assert texts(events) == ""
        assert [event.x for event in events if isinstance(event, Move)] == [1, 2]

    play(story())


def test_opting_out_asks_back_what_may_have_been_sent(station: Workstation) -> None:
    """A batch without a receipt is deleted here and asked of the collector by its hash."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            station.collector.reachable = True
            the(station, "input").emit(key(station))
            await asyncio.sleep(HOLD_BACK + 0.2)
            station.collector.reachable = False
            await station.tray.say(Pause())
            await eventually(lambda: any(b.local.maybe_sent for b in service.spool.ready()))
            (batch,) = service.spool.ready()
            await station.tray.say(OptOut(category=Category.KEYS))
            assert service.spool.ready() == []
            assert service.spool.deletions() == [batch.name]
            station.collector.reachable = True
            await eventually(lambda: station.collector.deleted == [batch.name])
            await eventually(lambda: service.spool.deletions() == [])

    play(story())


def test_withdrawing_with_erase_asks_for_all_that_was_sent(station: Workstation) -> None:
    """What the collector has of that category is asked back, until it has confirmed."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            the(station, "input").emit(key(station))
            await asyncio.sleep(HOLD_BACK + 0.2)
            await station.tray.say(Pause())
            await eventually(lambda: service.spool.number_sent() == 1)
            assert station.collector.frames != {}
            await station.tray.say(Withdraw(category=Category.KEYS, erase=True))
            await eventually(lambda: service.erasures.outstanding() == [])
            assert station.collector.frames == {}
            assert station.collector.deleted == []  # one request, not one for each batch
            [request] = station.collector.demanded
            assert (request.category, request.has_span) == (Category.KEYS, False)
            assert service.spool.number_sent() == 0
            status = await station.tray.until(lambda s: s.reason is Reason.NOT_CONSENTED)
            assert not any(each.granted for each in status.categories)
        async with running(station) as service:
            assert service.erasures.outstanding() == []
            assert len(station.collector.demanded) == 1

    play(story())


def test_a_yes_its_withdrawal_and_a_no_are_in_the_receipts_and_the_collector_is_told(
    station: Workstation,
) -> None:
    """The receipt comes with the log's proof, says what became of it, and so does the collector."""
    key = station.organisation.device.public_key()

    def receipts() -> dict[Category, ConsentReceipt]:
        read = [
            verify_consent_receipt(p.read_bytes(), key) for p in receipt_files(station.paths.state)
        ]
        return {receipt.record.category: receipt for receipt in read}

    def is_logged() -> bool:
        keys = receipts().get(Category.KEYS)
        return keys is not None and keys.evidence.logged is not None

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            await eventually(is_logged)
            given = receipts()[Category.KEYS]
            assert given.state is ConsentState.GIVEN
            assert service.status().receipts == str(receipt_files(station.paths.state)[0].parent)

            await station.tray.say(Withdraw(category=Category.KEYS))
            await station.tray.say(Withdraw(category=Category.SCREEN))
            await eventually(lambda: station.collector.events != [])
            await eventually(lambda: len(receipts()) == 2)
            [told] = station.collector.events
            assert (told.grant, told.state) == (given.grant, ConsentState.WITHDRAWN)
            await eventually(lambda: receipts()[Category.KEYS].state is ConsentState.WITHDRAWN)
            assert receipts()[Category.SCREEN].state is ConsentState.REFUSED
            await eventually(lambda: service.standing.untold == ())

    play(story())


def test_forgetting_the_last_minutes_deletes_open_and_held_batches(station: Workstation) -> None:
    """Capture goes on, but what was recorded before the click is gone."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            station.collector.reachable = False
            the(station, "input").emit(key(station, "f"))
            await asyncio.sleep(HOLD_BACK + 0.2)
            service.pipeline.close_all(station.clock.now())
            the(station, "input").emit(key(station, "g"))
            await asyncio.sleep(0.05)
            assert service.spool.number_held() == 1
            assert isinstance(await station.tray.say(Forget(minutes=1)), Done)
            assert service.spool.number_held() == 0
            the(station, "input").emit(key(station, "h"))
            await asyncio.sleep(HOLD_BACK + 0.2)
            station.collector.reachable = True
            await station.tray.say(Pause())
            await eventually(lambda: len(station.collector.frames) == 1)
        assert texts(station.opened()) == "h"

    play(story())


def test_a_sensor_that_does_not_answer_is_killed_and_counts_as_closed(
    station: Workstation,
) -> None:
    """Silence is the kernel's: the answer to a pause does not wait for a sensor that hangs."""

    async def story() -> None:
        async with capturing(station, Category.KEYS):
            hanging = the(station, "input")
            hanging.hangs = True
            before = station.clock.now().boot
            silent = await station.tray.say(Pause())
            assert isinstance(silent, Silent)
            assert silent.at - before < 1e9
            assert not hanging.is_open
            await eventually(lambda: the(station, "input") is not hanging)

    play(story())


# --- no light, no capture ---------------------------------------------------------------


def test_the_end_of_the_tray_closes_capture(station: Workstation) -> None:
    """SIGKILL of the tray is end-of-file on its channel; another tray has to be proved first."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            first = station.tray
            first.kill()
            await eventually(lambda: service.verdict.reason is Reason.INDICATOR_MISSING, 0.5)
            await eventually(lambda: nothing_is_open(station), 0.5)
            await eventually(lambda: station.tray is not first)
            await eventually(lambda: the(station, "input").is_open)

    play(story())


def test_an_icon_that_is_shown_no_more_closes_capture(station: Workstation) -> None:
    """The desktop's word counts, whatever the tray says."""

    async def story() -> None:
        async with capturing(station, Category.KEYS):
            station.icons[-1].say("the panel is gone")
            await eventually(lambda: nothing_is_open(station), 0.3)
            status = await station.tray.until(lambda s: s.reason is Reason.INDICATOR_MISSING)
            assert "the panel is gone" in status.detail

    play(story())


def test_a_tray_that_hangs_closes_capture(station: Workstation) -> None:
    """Three heartbeats that did not come are one tray too few."""

    async def story() -> None:
        async with capturing(station, Category.KEYS):
            station.tray.beats = False
            station.clock.pass_by(4)
            await eventually(lambda: nothing_is_open(station))

    play(story())


# --- who may say what -------------------------------------------------------------------


@pytest.mark.parametrize("command", [Resume(), OptIn(), ConfirmClock(), NoticeInSight(for_ms=1)])
def test_a_script_cannot_relax_anything(station: Workstation, command: Resume) -> None:
    """What can lead to more capture is refused on the named socket, and says how it is done."""

    async def story() -> None:
        async with capturing(station, Category.KEYS):
            await station.tray.say(Pause())
            answer = await ask(station, command)
            assert answer == Refused(why=control.ONLY_IN_THE_TRAY)
            assert nothing_is_open(station)

    play(story())


def test_a_script_can_restrict(station: Workstation) -> None:
    """Pausing is everybody's right who is the data subject on this machine."""

    async def story() -> None:
        async with capturing(station, Category.KEYS):
            assert isinstance(await ask(station, Pause()), Silent)
            assert nothing_is_open(station)
            status = await ask(station, GetStatus())
            assert isinstance(status, Status)
            assert status.reason is Reason.PAUSED_UNTIL

    play(story())


async def ask(station: Workstation, command: Command) -> Answer | None:
    return await asyncio.to_thread(control.ask, station.paths.runtime, command)


def test_a_second_agent_is_refused(station: Workstation) -> None:
    """Two agents would capture and number twice."""

    async def story() -> None:
        async with running(station):
            with pytest.raises(SetupError, match="another agent"):
                station.service()

    play(story())


def test_quit_ends_the_agent_and_seals_what_is_open(station: Workstation) -> None:
    """Quit is a stop, not a loss."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            the(station, "input").emit(key(station, "q"))
            await asyncio.sleep(HOLD_BACK + 0.2)
            assert isinstance(await station.tray.say(Quit()), Done)
            await eventually(lambda: nothing_is_open(station))
        assert service.spool.number_held() + len(service.spool.ready()) == 1

    play(story())


def test_an_opt_out_from_outside_holds_and_is_lowered_by_a_click_alone(
    station: Workstation,
) -> None:
    """The machine can opt out; when it changes its mind, nothing starts by itself."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            station.outside["machine"] = frozenset(Category)
            await station.tray.until(lambda s: s.reason is Reason.OPTED_OUT)
            await eventually(lambda: nothing_is_open(station))
            assert isinstance(await station.tray.say(OptIn()), Refused)
            station.outside.clear()
            await asyncio.sleep(1.2)
            assert service.verdict.reason is Reason.OPTED_OUT
            assert isinstance(await station.tray.say(OptIn()), Done)
            await eventually(lambda: the(station, "input").is_open)

    play(story())


def test_an_opt_out_from_outside_is_adopted_for_every_category_at_once(
    station: Workstation,
) -> None:
    """Not one a second: a place that soon changes its mind would leave the others as they were."""

    async def story() -> None:
        async with running(station) as service:
            named = {Category.KEYS, Category.POINTER, Category.SCREEN}
            station.outside["machine"] = frozenset(named)
            await eventually(lambda: service.standing.flags[Category.KEYS] is Flag.OPTED_OUT)
            station.outside.clear()
            await eventually(lambda: not service.outside)
            raised = {c for c, flag in service.standing.flags.items() if flag is Flag.OPTED_OUT}
            assert raised == named

    play(story())


# --- what else can be in the way --------------------------------------------------------


def test_a_clock_that_was_set_closes_capture_until_the_subject_confirms(
    station: Workstation,
) -> None:
    """More than five seconds between the two clocks, and neither is believed, restart or not."""

    async def story() -> None:
        async with capturing(station, Category.KEYS):
            station.clock.wall_shift += int(3600e9)
            await station.tray.until(lambda s: s.reason is Reason.CLOCK_UNTRUSTED)
            await eventually(lambda: nothing_is_open(station))
        station.clock.boot_id = "boot-2"
        async with running(station):
            await station.tray.until(lambda s: s.reason is Reason.CLOCK_UNTRUSTED)
            assert isinstance(await station.tray.say(ConfirmClock()), Done)
            await eventually(lambda: the(station, "input").is_open)

    play(story())


def test_a_halt_closes_freezes_uploads_and_survives_a_restart(station: Workstation) -> None:
    """Whoever halts is believed at once; taking it back is not enough to start again."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            station.collector.halted = "the council has stopped it"
            service.delivery.wake()
            status = await station.tray.until(lambda s: s.reason is Reason.HALTED_BY_ORG)
            assert "the council has stopped it" in status.detail
            await eventually(lambda: nothing_is_open(station))
        station.collector.halted = ""
        async with running(station):
            await station.tray.until(lambda s: s.reason is Reason.HALTED_BY_ORG)
            assert station.collector.frames == {}

    play(story())


def test_a_stop_closes_survives_a_restart_offline_and_ends_with_its_cause(
    station: Workstation,
) -> None:
    """What the collector said last counts until it says something else; then no click is needed."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            station.collector.stopped = "the guard does not answer"
            service.delivery.wake()
            status = await station.tray.until(lambda s: s.reason is Reason.HALTED_BY_ORG)
            assert "the guard does not answer" in status.detail
            assert "by itself" in status.detail
            await eventually(lambda: nothing_is_open(station))
        station.collector.reachable = False
        station.collector.stopped = ""
        async with running(station) as service:
            await station.tray.until(lambda s: s.reason is Reason.HALTED_BY_ORG)
            assert nothing_is_open(station)
            station.collector.reachable = True
            service.delivery.wake()
            await eventually(lambda: the(station, "input").is_open)

    play(story())


def test_without_the_guards_key_nothing_is_open(station: Workstation) -> None:
    """What could not be sealed is not captured; once the key is there, it is."""

    async def story() -> None:
        station.collector.reachable = False
        async with running(station) as service:
            await station.agree(Category.KEYS)
            status = await station.tray.until(lambda s: s.reason is Reason.STORAGE_BLOCKED)
            assert "guard" in status.detail
            await station.tray.until(lambda s: "nobody answers" in s.collector.last_error)
            assert nothing_is_open(station)
            station.collector.reachable = True
            service.delivery.wake()
            await eventually(lambda: the(station, "input").is_open)

    play(story())


def test_a_full_spool_closes_capture_and_says_so(station: Workstation) -> None:
    """Nothing is dropped to make room: capture stops instead."""

    async def story() -> None:
        async with capturing(station, Category.KEYS, config=Config(quota_bytes=100)):
            station.collector.reachable = False
            the(station, "input").emit(key(station))
            await asyncio.sleep(HOLD_BACK + 0.2)
            await station.tray.say(Pause())
            await station.tray.say(Resume())
            await station.tray.until(lambda s: s.reason is Reason.STORAGE_BLOCKED)
            assert nothing_is_open(station)

    play(story())


def test_a_spool_that_cannot_be_moved_on_is_said_until_it_can(
    station: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits here and does not leave is not in the log alone."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:

            def fail(*_arguments: object) -> None:
                raise OSError(5, "Input/output error")

            with monkeypatch.context() as patch:
                patch.setattr(service.spool, "leave_hold", fail)
                line = "the spool could not be moved on: Input/output error"
                await station.tray.until(lambda s: s.collector.last_error == line)
            await station.tray.until(lambda s: not s.collector.last_error)

    play(story())


def test_a_restriction_that_cannot_be_written_down_stays_in_force(
    station: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the fsync fails, everything stays shut, the answer says so, and a restart asks."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:

            def fail(*_arguments: object, **_options: object) -> None:
                raise OSError(28, "No space left on device")

            monkeypatch.setattr(service.ledger, "_disk", FailingDisk(fail))
            answer = await station.tray.say(Pause())
            assert isinstance(answer, Refused)
            assert "No space left" in answer.why
            await asyncio.sleep(0.3)
            assert nothing_is_open(station)
            assert service.verdict.reason is Reason.PAUSED_UNTIL
        async with running(station):
            await station.tray.until(lambda s: s.reason is Reason.RESUME_PENDING)
            assert nothing_is_open(station)

    play(story())


class FailingDisk:
    """A disk on which everything fails in the same way."""

    def __init__(self, fail: Callable[..., None]) -> None:
        self.replace = self.append = self.remove = self.sync_folder = fail


def test_a_sensor_that_crashes_is_started_and_opened_again(station: Workstation) -> None:
    """The others go on meanwhile."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            crashed = the(station, "input")
            crashed.kill()
            await eventually(lambda: the(station, "input") is not crashed)
            assert the(station, "context").is_open
            station.clock.pass_by(6)  # the back-off of a source that failed
            await eventually(lambda: the(station, "input").is_open)
            assert service.verdict.sources

    play(story())


def test_focus_of_a_program_that_the_policy_does_not_list_is_outside_whatever_is_said(
    station: Workstation,
) -> None:
    """The agent compares with its own policy; it does not take the sensor's word."""

    async def story() -> None:
        async with capturing(station, Category.KEYS) as service:
            at = BootInstant(station.clock.now().boot)
            seen = FocusSeen(at=at, inside=True, process="keepassxc", window_class="KeePassXC")
            the(station, "context").emit(focus=(seen,))
            await eventually(lambda: service.verdict.reason is Reason.OUTSIDE_SCOPE)

    play(story())
