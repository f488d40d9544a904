"""A log of decisions is judged again: an honest one is accepted, a forged one is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.consent.gate import decide
from agent.consent.states import Act, Consent, Flag, Pause
from agent.decisions import MOST_BYTES, Decision, Decisions
from tests.model.moves import CLICKED, RESTRICTING
from tests.model.replay import NotAcceptedError, replay
from tests.model.world import ALL_WELL, ONE, Kept, PolicyState, Rules, World, situation_of
from wire.control import Reason

RULES = Rules()
ACTS = [Act.GRANT, Act.PAUSE, Act.RESUME, Act.OPT_OUT, Act.OPT_IN, Act.WITHDRAW]


def note(decisions: Decisions, world: World) -> None:
    situation = situation_of(world, None)
    facts = RULES.facts(world)
    decisions.note(situation, facts, decide(facts))


def honest(file: Path) -> Decisions:
    """Write what an agent decides while the data subject does everything once."""
    decisions, kept = Decisions(), Kept()
    decisions.write_to(file)
    for act in ACTS:
        kept = RULES.written(kept, {**CLICKED, **RESTRICTING}[act])
        note(
            decisions,
            World(up=True, kept=kept, policy=PolicyState.VALID, surroundings=ALL_WELL),
        )
    return decisions


def test_an_honest_log_is_accepted(tmp_path: Path) -> None:
    """Six acts, six decisions, two with an open source."""
    file = tmp_path / "decisions.jsonl"
    decisions = honest(file)
    assert replay(file) == len(decisions.last) == len(ACTS)
    assert [d.reason for d in decisions.last if ONE in d.sources] == [Reason.ACTIVE] * 3
    assert file.stat().st_mode & 0o777 == 0o600


FORGERIES: dict[str, Callable[[Decision], dict[str, Any]]] = {
    "another reason": lambda _: {"reason": Reason.SENSITIVE},
    "a source more": lambda _: {"sources": [ONE]},
    "a category more": lambda _: {"categories": [ONE]},
    "a fact turned round": lambda d: (
        {"facts": {**d.facts, "indicator_shown": "NO"}} if d.sources else {}
    ),
    "a fact that the gate does not have": lambda d: {"facts": {**d.facts, "moon": "YES"}},
    "a value that no fact has": lambda d: {"facts": {**d.facts, "indicator_shown": "MAYBE"}},
    "a pause that was never ended": lambda _: {"pause": Pause.PAUSED},
    "a flag that nobody lowered": lambda d: {"flag": {**d.flag, ONE: Flag.OPTED_OUT}},
    "a consent that nobody gave": lambda d: {"consent": {**d.consent, ONE: Consent.UNKNOWN}},
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_log_is_refused(
    forge: Callable[[Decision], dict[str, Any]], tmp_path: Path
) -> None:
    """Whichever part of whichever decision was changed, where it changes anything."""
    file = tmp_path / "decisions.jsonl"
    lines = list(honest(file).last)
    for n, line in enumerate(lines):
        forged = msgspec.structs.replace(line, **forge(line))
        if forged == line:
            continue
        whole = [*lines[:n], forged, *lines[n + 1 :]]
        file.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in whole))
        with pytest.raises(NotAcceptedError):
            replay(file)


def test_a_change_that_no_table_has_is_refused(tmp_path: Path) -> None:
    """A withdrawn consent does not become one that was never given, whatever the gate says."""
    file = tmp_path / "decisions.jsonl"
    first, *_, last = honest(file).last
    assert last.consent[ONE] is Consent.WITHDRAWN
    never = msgspec.structs.replace(last, consent={**last.consent, ONE: Consent.UNKNOWN})
    file.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in (first, never)))
    with pytest.raises(NotAcceptedError, match="no move leads from given to unknown"):
        replay(file)


def test_a_start_without_a_record_consents_to_nothing(tmp_path: Path) -> None:
    """The record was lost: a new run knows of no yes, and that is the only way it may differ."""
    file = tmp_path / "decisions.jsonl"
    given, *_ = honest(file).last
    other = Decisions()
    note(other, World(up=True, policy=PolicyState.VALID, surroundings=ALL_WELL))
    lost = other.last[-1]
    assert given.consent[ONE] is Consent.GIVEN
    for run, accepted in ((given.run, False), (given.run + 1, True)):
        after = msgspec.structs.replace(lost, run=run, at=given.at + 1)
        file.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in (given, after)))
        if accepted:
            assert replay(file) == 2
        else:
            with pytest.raises(NotAcceptedError, match="no move leads from given to unknown"):
                replay(file)


def test_time_that_goes_back_is_refused(tmp_path: Path) -> None:
    """Within one run; a restart begins anew."""
    file = tmp_path / "decisions.jsonl"
    first, second, *_ = honest(file).last
    for run, accepted in ((second.run, False), (second.run + 1, True)):
        earlier = msgspec.structs.replace(second, at=first.at - 1, run=run)
        file.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in (first, earlier)))
        if accepted:
            assert replay(file) == 2
        else:
            with pytest.raises(NotAcceptedError, match="time went back"):
                replay(file)


def test_what_a_killed_agent_leaves_is_no_forgery_and_other_bytes_are(tmp_path: Path) -> None:
    """Only the last line may be cut short."""
    file = tmp_path / "decisions.jsonl"
    honest(file)
    written = file.read_bytes()
    file.write_bytes(written[:-20])
    assert replay(file) == len(ACTS) - 1
    for bad in (written + b"nonsense", b"nonsense\n" + written):
        file.write_bytes(bad)
        with pytest.raises(NotAcceptedError, match="is no decision"):
            replay(file)


def test_a_decision_is_kept_once_and_says_nothing_of_content(tmp_path: Path) -> None:
    """The same again is not written; there is no field for a name, a title or a key."""
    file = tmp_path / "decisions.jsonl"
    decisions, world = Decisions(), World(up=True, surroundings=ALL_WELL)
    for _ in range(3):
        note(decisions, world)
    decisions.write_to(file)
    note(decisions, world)
    assert replay(file) == len(decisions.last) == 1
    assert {*Decision.__struct_fields__} == {
        "run", "at", "consent", "flag", "pause", "facts", "own", "sources", "categories",
        "reasons", "reason", "shown",
    }  # fmt: skip


def test_by_default_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decisions are in memory alone until a file is named."""
    monkeypatch.chdir(tmp_path)
    decisions = Decisions()
    decisions.write_where_asked({"ASSENT_DECISIONS": ""})
    note(decisions, World(up=True, surroundings=ALL_WELL))
    assert list(tmp_path.iterdir()) == []
    decisions.write_where_asked({"ASSENT_DECISIONS": str(tmp_path / "named")})
    assert replay(tmp_path / "named") == 1


def test_a_file_that_cannot_be_written_or_is_full_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent goes on; the log says so once."""
    decisions, kept = Decisions(), Kept()
    decisions.write_to(tmp_path / "no folder" / "decisions.jsonl")
    for kind in (CLICKED[Act.GRANT], RESTRICTING[Act.PAUSE]):
        kept = RULES.written(kept, kind)
        note(decisions, World(up=True, kept=kept, surroundings=ALL_WELL))
    assert caplog.text.count("cannot be written") == 1
    full = Decisions()
    full._written = MOST_BYTES  # noqa: SLF001 - rather than writing it all
    full.write_to(tmp_path / "full.jsonl")
    note(full, World(up=True, surroundings=ALL_WELL))
    assert "is full" in caplog.text
    assert not (tmp_path / "full.jsonl").exists()
