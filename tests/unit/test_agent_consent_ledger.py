"""The ledger: what a restart finds, and what each thing that can go wrong leaves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from agent.consent.entries import (
    RESTRICT,
    ClickAwaited,
    ClockConfirmed,
    ClockDoubted,
    Entry,
    ErasureAsked,
    Expired,
    Granted,
    Halted,
    HaltLifted,
    NoticeSeen,
    OptedIn,
    OptedOut,
    Paused,
    PolicyChanged,
    Refused,
    Registered,
    Resumed,
    StopLifted,
    Stopped,
    Told,
    Withdrawn,
)
from agent.consent.ledger import FILE_NAME, MARK_NAME, Ledger, LedgerError
from agent.consent.standing import Standing, pause_at
from agent.consent.states import Consent, Ending, Flag, IllegalMoveError, Pause
from base import durable
from base.clock import Now
from base.errors import ConsentError
from tests.fakes.organisation import Organisation
from wire.category import Category
from wire.grant import grant_hash
from wire.ids import PolicyDigest
from wire.linked import ConsentState

AT = Now(boot=5, wall=1_000_000, boot_id="one")


@pytest.fixture(scope="module")
def organisation() -> Organisation:
    return Organisation()


def opened(folder: Path, organisation: Organisation, now: Now = AT) -> Ledger:
    return Ledger.open(folder, organisation.device.public_key(), now)


def granted(organisation: Organisation, category: Category = Category.KEYS) -> Granted:
    return Granted(
        signed=organisation.consent(PolicyDigest(b"\1" * 32), category=category),
        words="",
        notice="",
    )


def paused() -> Paused:
    return Paused(until_wall=2_000_000, until_boot=1_000_005)


def over() -> Paused:
    """Return a pause whose time is over at AT."""
    return Paused(until_wall=AT.wall, until_boot=AT.boot)


def file(folder: Path) -> Path:
    return folder / FILE_NAME


def test_no_file_is_no_consent(tmp_path: Path, organisation: Organisation) -> None:
    """A missing ledger is NOT_CONSENTED, and nothing is written for looking."""
    assert opened(tmp_path, organisation).standing == Standing()
    assert list(tmp_path.iterdir()) == []


ACTS: dict[str, Callable[[Organisation], list[Entry]]] = {
    "grant": lambda o: [granted(o)],
    "two grants": lambda o: [granted(o), granted(o, Category.SCREEN)],
    "withdrawn": lambda o: [granted(o), Withdrawn(category=Category.KEYS, erase=True)],
    "all withdrawn": lambda o: [granted(o), Withdrawn(category=None)],
    "granted again": lambda o: [
        granted(o),
        Withdrawn(category=Category.KEYS, erase=True),
        granted(o),
    ],
    "opted out": lambda _: [OptedOut(category=Category.SCREEN)],
    "out and in": lambda _: [OptedOut(category=None), OptedIn(category=Category.KEYS)],
    "paused": lambda _: [paused()],
    "resumed": lambda _: [paused(), Resumed()],
    "seen": lambda _: [over(), NoticeSeen(seconds=60, since=1)],
    "awaited": lambda _: [over(), ClickAwaited()],
    "stopped": lambda _: [Stopped(by="guard", why="drill"), Stopped(by="collector", why="")],
    "lifted": lambda _: [Stopped(by="guard", why="drill"), StopLifted(by="guard")],
    "halt lifted": lambda o: [
        granted(o),
        Halted(policy=b"\1" * 32, why="stop"),
        HaltLifted(policy=b"\2" * 32),
    ],
    "halted": lambda _: [Halted(policy=b"\1" * 32, why="stop")],
    "doubted": lambda _: [ClockDoubted(why="set")],
    "confirmed": lambda _: [ClockDoubted(why="set"), ClockConfirmed()],
    "registered": lambda o: [granted(o), Registered(grant=grant_hash(granted(o).signed))],
    "refused": lambda o: [
        Refused(signed=granted(o).signed, words="w", notice="n"),
    ],
    "expired": lambda o: [granted(o), Expired(grant=grant_hash(granted(o).signed))],
    "told": lambda o: [
        granted(o),
        Withdrawn(category=None),
        Told(grant=grant_hash(granted(o).signed), state=ConsentState.WITHDRAWN),
    ],
    "unknown": lambda _: [Registered(grant=b"g"), Registered(grant=b"g", known=False)],
}


@pytest.mark.parametrize("acts", ACTS.values(), ids=ACTS.keys())
def test_a_restart_finds_exactly_what_was_written_down(
    tmp_path: Path,
    organisation: Organisation,
    acts: Callable[[Organisation], list[Entry]],
) -> None:
    """Replaying the file gives the same standing as writing it did."""
    ledger = opened(tmp_path, organisation)
    for entry in acts(organisation):
        ledger.append(entry, AT)
    again = opened(tmp_path, organisation)
    assert again.standing == ledger.standing
    assert not (tmp_path / MARK_NAME).exists()


@pytest.mark.parametrize(
    "acts",
    [
        [NoticeSeen(seconds=60, since=0)],
        [paused(), NoticeSeen(seconds=60, since=0)],
        [over(), ClickAwaited(), NoticeSeen(seconds=60, since=0)],
        [StopLifted(by="guard")],
        [HaltLifted(policy=b"\1")],
    ],
    ids=["no pause", "a pause that runs", "a click is awaited", "no stop", "no halt"],
)
def test_what_would_open_and_does_not_follow_is_refused(
    tmp_path: Path, organisation: Organisation, acts: list[Entry]
) -> None:
    """Nothing of it is written: the tables hold for whoever asks."""
    ledger = opened(tmp_path, organisation)
    for entry in acts[:-1]:
        ledger.append(entry, AT)
    before = ledger.standing
    with pytest.raises(ConsentError):
        ledger.append(acts[-1], AT)
    assert ledger.standing == before
    assert opened(tmp_path, organisation).standing == before


def test_a_stop_outlives_a_halt_and_a_halt_a_stop(
    tmp_path: Path, organisation: Organisation
) -> None:
    """Each has its own end, and neither end is the other's."""
    ledger = opened(tmp_path, organisation)
    ledger.append(Stopped(by="guard", why="drill"), AT)
    ledger.append(Halted(policy=b"\1" * 32, why="stop"), AT)
    ledger.append(HaltLifted(policy=b"\2" * 32), AT)
    assert ledger.standing.stopped == {"guard": "drill"}
    ledger.append(Halted(policy=b"\2" * 32, why="again"), AT)
    ledger.append(StopLifted(by="guard"), AT)
    assert ledger.standing.halted is not None


@pytest.mark.parametrize("before", [[], [paused()], [over()]], ids=["running", "paused", "over"])
def test_after_an_unclean_stop_no_notice_ends_a_pause(
    tmp_path: Path, organisation: Organisation, before: list[Entry]
) -> None:
    """A click is needed; a pause that is on the disk keeps its length until then."""
    ledger = opened(tmp_path, organisation)
    for entry in before:
        ledger.append(entry, AT)
    ledger.restriction().__enter__()
    again = opened(tmp_path, organisation)
    assert again.standing.ending is Ending.CLICK
    assert again.standing.paused_until == ledger.standing.paused_until
    later = Now(boot=10**15, wall=10**18, boot_id="one")
    assert pause_at(again.standing, later) is Pause.RESUME_PENDING
    with pytest.raises(ConsentError):
        again.append(NoticeSeen(seconds=60, since=0), later)
    again.append(Resumed(), later)
    assert again.standing.pause is Pause.RUNNING


def test_what_the_acts_add_up_to(tmp_path: Path, organisation: Organisation) -> None:
    """Grants, flags, pause, halt and doubt are where the acts left them."""
    ledger = opened(tmp_path, organisation)
    ledger.append(granted(organisation), AT)
    ledger.append(granted(organisation, Category.SCREEN), AT)
    ledger.append(Withdrawn(category=Category.KEYS, erase=True), AT)
    ledger.append(OptedOut(category=Category.POINTER), AT)
    ledger.append(paused(), AT)
    standing = ledger.standing
    assert standing.consents[Category.KEYS] is Consent.WITHDRAWN
    assert standing.consents[Category.SCREEN] is Consent.GIVEN
    assert set(standing.grants) == {Category.SCREEN}
    assert len(standing.evidence) == 2
    assert [each.category for each in standing.erasing] == [Category.KEYS]
    assert standing.flags[Category.POINTER] is Flag.OPTED_OUT
    assert standing.pause is Pause.PAUSED
    assert standing.paused_until is not None
    assert standing.last_seen == AT


@pytest.mark.parametrize("kept", [1, 10, 100, -2])
def test_a_last_line_that_was_cut_short_is_put_aside_and_needs_a_click(
    tmp_path: Path, organisation: Organisation, kept: int
) -> None:
    """It was never acknowledged; but somebody asked for something, and nobody knows what."""
    ledger = opened(tmp_path, organisation)
    ledger.append(granted(organisation), AT)
    whole = file(tmp_path).read_bytes()
    ledger.append(OptedOut(category=None), AT)
    last = file(tmp_path).read_bytes()[len(whole) :]
    file(tmp_path).write_bytes(whole + last[:kept])
    again = opened(tmp_path, organisation)
    assert again.standing.consents[Category.KEYS] is Consent.GIVEN
    assert again.standing.flags[Category.KEYS] is Flag.CLEAR
    assert again.standing.pause is Pause.RESUME_PENDING
    assert file(tmp_path).with_suffix(".torn").read_bytes() == last[:kept]
    assert opened(tmp_path, organisation).standing.pause is Pause.RESUME_PENDING


RESTRICTING: dict[str, Entry] = {
    "days to erase": ErasureAsked(category=None, first_day="2026-01-01", last_day="2026-01-02"),
    "withdrawn": Withdrawn(category=Category.KEYS),
    "opted out": OptedOut(category=None),
    "paused": paused(),
    "stopped": Stopped(by="guard", why="drill"),
    "halted": Halted(policy=b"\1" * 32, why="stop"),
    "doubted": ClockDoubted(why="set"),
    "asked again": PolicyChanged(policy=b"\2" * 32, widened={Category.KEYS: ("hold",)}),
}


@pytest.mark.parametrize("entry", RESTRICTING.values(), ids=RESTRICTING.keys())
def test_a_no_whose_newline_is_lost_holds(
    tmp_path: Path, organisation: Organisation, entry: Entry
) -> None:
    """It may have been acknowledged; if it was not, it does no harm."""
    ledger = opened(tmp_path, organisation)
    ledger.append(granted(organisation), AT)
    ledger.append(entry, AT)
    whole = file(tmp_path).read_bytes()
    file(tmp_path).write_bytes(whole[:-1])
    looked = Ledger.look(tmp_path, organisation.device.public_key())
    assert looked == ledger.standing
    again = opened(tmp_path, organisation)
    assert file(tmp_path).read_bytes().startswith(whole)
    assert again.standing.consents == ledger.standing.consents
    assert again.standing.flags == ledger.standing.flags
    assert again.standing.stopped == ledger.standing.stopped
    assert again.standing.halted == ledger.standing.halted
    assert again.standing.erasing == ledger.standing.erasing
    assert again.standing.clock_doubt == ledger.standing.clock_doubt
    assert again.standing.paused_until == ledger.standing.paused_until
    assert again.standing.ending is Ending.CLICK
    assert opened(tmp_path, organisation).standing == again.standing


OPENING: dict[str, Callable[[Organisation], tuple[Entry, Entry]]] = {
    "granted": lambda o: (OptedOut(category=Category.SCREEN), granted(o)),
    "opted in": lambda _: (OptedOut(category=None), OptedIn(category=None)),
    "resumed": lambda _: (paused(), Resumed()),
    "seen": lambda _: (over(), NoticeSeen(seconds=60, since=0)),
    "the stop lifted": lambda _: (Stopped(by="guard", why="drill"), StopLifted(by="guard")),
    "the halt lifted": lambda _: (Halted(policy=b"1", why="stop"), HaltLifted(policy=b"2")),
    "the clock confirmed": lambda _: (ClockDoubted(why="set"), ClockConfirmed()),
}


@pytest.mark.parametrize("acts", OPENING.values(), ids=OPENING.keys())
def test_a_yes_whose_newline_is_missing_is_put_aside(
    tmp_path: Path,
    organisation: Organisation,
    acts: Callable[[Organisation], tuple[Entry, Entry]],
) -> None:
    """A crash within the write leaves the same: nobody was told that it holds."""
    ledger = opened(tmp_path, organisation)
    before, opening = acts(organisation)
    ledger.append(before, AT)
    first, said = file(tmp_path).read_bytes(), ledger.standing
    ledger.append(opening, AT)
    last = file(tmp_path).read_bytes()[len(first) : -1]
    file(tmp_path).write_bytes(first + last)
    assert Ledger.look(tmp_path, organisation.device.public_key()) == said
    again = opened(tmp_path, organisation)
    assert (again.standing.consents, again.standing.flags) == (said.consents, said.flags)
    assert (again.standing.stopped, again.standing.halted) == (said.stopped, said.halted)
    assert again.standing.clock_doubt == said.clock_doubt
    assert again.standing.ending is Ending.CLICK
    assert file(tmp_path).with_suffix(".torn").read_bytes() == last


def test_an_act_that_is_kept_without_a_newline_either_restricts_or_opens() -> None:
    """Whoever adds one has to say which; none is in doubt."""
    neither = {Registered, Told}
    opening = {type(each[1]) for each in (act(Organisation()) for act in OPENING.values())}
    assert {*RESTRICT, *opening, *neither} == set(get_args(Entry))
    assert not opening & set(RESTRICT)


@pytest.mark.parametrize("instead", [*(10 ^ 1 << bit for bit in range(8)), *b" \t\r}0"])
def test_damage_of_the_last_newline_is_damage_of_the_ledger(
    tmp_path: Path, organisation: Organisation, instead: int
) -> None:
    """No crash leaves it; a withdrawal that was acknowledged must not come undone by one bit."""
    ledger = opened(tmp_path, organisation)
    ledger.append(granted(organisation), AT)
    ledger.append(Withdrawn(category=None), AT)
    file(tmp_path).write_bytes(file(tmp_path).read_bytes()[:-1] + bytes([instead]))
    with pytest.raises(LedgerError, match="in the place of the last newline"):
        Ledger.look(tmp_path, organisation.device.public_key())
    again = opened(tmp_path, organisation)
    assert again.standing.grants == {}
    assert set(again.standing.consents.values()) == {Consent.UNKNOWN}
    assert "in the place of the last newline" in again.standing.lost


def test_a_restriction_that_was_not_finished_needs_a_click(
    tmp_path: Path, organisation: Organisation
) -> None:
    """The agent was killed after the gate was shut and before the line was written."""
    ledger = opened(tmp_path, organisation)
    ledger.append(granted(organisation), AT)
    context = ledger.restriction()
    context.__enter__()
    ledger.append(Registered(grant=b"g"), AT)  # something else is written meanwhile
    assert opened(tmp_path, organisation).standing.pause is Pause.RESUME_PENDING


def test_a_finished_restriction_leaves_no_mark(tmp_path: Path, organisation: Organisation) -> None:
    """A restart after a clean pause asks for nothing more than the pause does."""
    ledger = opened(tmp_path, organisation)
    with ledger.restriction():
        ledger.append(paused(), AT)
    assert not (tmp_path / MARK_NAME).exists()


BROKEN: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "a line is missing": lambda lines: [lines[0], lines[2]],
    "two lines are exchanged": lambda lines: [lines[1], lines[0], lines[2]],
    "a line is there twice": lambda lines: [lines[0], lines[1], lines[1], lines[2]],
    "the first line is missing": lambda lines: lines[1:],
    "a byte was changed": lambda lines: [lines[0].replace(b"wall", b"wa1l"), *lines[1:]],
    "a line is empty": lambda lines: [lines[0], b"", *lines[1:]],
    "a line is garbage": lambda lines: [*lines, b"\xff\xfe garbage"],
    "a kind is of a later version": lambda lines: [
        *lines[:2],
        lines[2].replace(b"OptedOut", b"Teleported"),
    ],
}


@pytest.mark.parametrize("break_it", BROKEN.values(), ids=BROKEN.keys())
def test_a_file_that_cannot_be_read_is_kept_aside_and_nothing_is_consented(
    tmp_path: Path,
    organisation: Organisation,
    break_it: Callable[[list[bytes]], list[bytes]],
) -> None:
    """Unreadable consent is no consent, and what was there is never deleted."""
    ledger = opened(tmp_path, organisation)
    for entry in (granted(organisation), granted(organisation, Category.SCREEN)):
        ledger.append(entry, AT)
    ledger.append(OptedOut(category=Category.POINTER), AT)
    lines = break_it(file(tmp_path).read_bytes().splitlines())
    broken = b"\n".join(lines) + b"\n"
    file(tmp_path).write_bytes(broken)
    again = opened(tmp_path, organisation)
    assert again.standing.grants == {}
    assert set(again.standing.consents.values()) == {Consent.UNKNOWN}
    assert "kept as" in again.standing.lost
    (aside,) = tmp_path.glob("consent.unreadable-*.jsonl")
    assert aside.read_bytes() == broken
    assert "kept as" in opened(tmp_path, organisation).standing.lost


def test_a_grant_that_another_device_signed_is_no_grant(
    tmp_path: Path, organisation: Organisation
) -> None:
    """A ledger cannot be carried to another machine, nor written by hand."""
    ledger = Ledger.open(tmp_path, organisation.device.public_key(), AT)
    ledger.append(granted(organisation), AT)
    stranger = Organisation()
    again = opened(tmp_path, stranger)
    assert again.standing.grants == {}
    assert "not signed by this device" in again.standing.lost


def test_an_entry_that_the_tables_refuse_is_not_written(
    tmp_path: Path, organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that could not be replayed must never come to be."""
    ledger = opened(tmp_path, organisation)
    monkeypatch.setattr("agent.consent.states.PAUSE", {})
    with pytest.raises(IllegalMoveError):
        ledger.append(paused(), AT)
    assert not file(tmp_path).exists()


def test_lines_are_readable_and_chained(tmp_path: Path, organisation: Organisation) -> None:
    """The data subject can read the file: one act a line, JSON, numbered."""
    ledger = opened(tmp_path, organisation)
    ledger.append(paused(), AT)
    ledger.append(Resumed(), AT)
    first, second = map(json.loads, file(tmp_path).read_text("utf-8").splitlines())
    assert (first["n"], second["n"]) == (0, 1)
    assert first["entry"]["kind"] == "Paused"
    assert second["prev"] != first["prev"]


class PersistsButFails:
    """A disk whose appends are all there and all reported as failed."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return getattr(durable, name)  # type: ignore[no-any-return]

    def append(self, path: Path, data: bytes, *, mode: int = 0o600) -> None:
        durable.append(path, data, mode=mode)
        raise OSError(5, "Input/output error")


def test_a_failed_append_changes_nothing_and_leaves_the_mark(
    tmp_path: Path, organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be written down does not hold; the next line follows the last good one."""
    ledger = opened(tmp_path, organisation)
    ledger.append(granted(organisation), AT)
    before = ledger.standing
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_disk", PersistsButFails())
        with pytest.raises(LedgerError, match="Input/output error"):
            ledger.append(OptedOut(category=None), AT)
    assert ledger.standing == before
    assert (tmp_path / MARK_NAME).exists()
    ledger.append(paused(), AT)
    again = opened(tmp_path, organisation)
    assert again.standing.flags == before.flags
    assert again.standing.pause is Pause.PAUSED
