"""Mutated bytes into everything that reads bytes of others: nothing is accepted, nothing crashes.

A share in `make test`, the full size in `make soak`; the campaigns are in `fuzz/`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fuzz import fuzz_files, fuzz_frames, fuzz_http, fuzz_messages, fuzz_policies, fuzz_wire
from fuzz.campaign import Campaign, Tally, Target, attack, spread
from tests.conftest import Size

SEED = 20
Figure = Callable[[str], None]


@pytest.fixture
def them(tmp_path: Path) -> Iterator[fuzz_frames.Receivers]:
    with fuzz_frames.receivers(tmp_path) as receivers:
        yield receivers


# --- what a finding is --------------------------------------------------------------------


def test_every_receiver_takes_the_genuine_frames(them: fuzz_frames.Receivers) -> None:
    """The control: what is refused below is refused for its mutation and for nothing else."""
    for frame, released in zip(them.genuine, them.released, strict=True):
        them.library.released = released
        tally = Tally()
        for target in (them.wire, them.at_collector, them.reader, them.guard_and_reader):
            assert tally.attempt(target, frame), (target.name, tally.lines())


def test_a_frame_that_is_accepted_and_one_that_crashes_are_found() -> None:
    """A campaign that can find nothing would show nothing."""
    tally = Tally()
    takes_all = Target(name="takes all", decode=len, seeds=(b"x",), refuses=())
    tally.must_refuse(takes_all, b"changed")
    crashes = Target(name="crashes", decode=lambda _d: 1 / 0, seeds=(b"x",), refuses=(OSError,))
    tally.add(attack((crashes,), 3, SEED))

    assert (tally.accepted, tally.crashes) == (1, 3)
    assert [found.target for found in tally.findings] == ["takes all", *["crashes"] * 3]
    assert "ZeroDivisionError" in tally.findings[1].trace


# --- frames -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_no_mutated_frame_is_accepted_by_anybody(size: Size, figure: Figure) -> None:
    """Changed on the way: format, collector and reader each refuse every one."""
    count = size(share=20_000, full=1_000_000)
    tally = spread(fuzz_frames.outsider, count, SEED)
    figure(
        f"{count:,} mutated frames, each to format, collector and reader: "
        f"{tally.accepted} accepted, {tally.crashes} crashes"
    )
    _check(tally)
    assert tally.tried == {"wire": count, "collector": count, "reader": count}


@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_nothing_opens_that_a_device_changed_after_sealing(size: Size, figure: Figure) -> None:
    """Signed anew by the enrolled device itself: the guard or the reader refuses every one."""
    count = size(share=600, full=30_000)
    tally = spread(fuzz_frames.insider, count, SEED)
    figure(
        f"{count:,} frames changed and signed anew by their device: "
        f"{tally.accepted} opened, {tally.crashes} crashes"
    )
    _check(tally)
    assert tally.refused["guard and reader"] == count


# --- everything else ----------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize(
    ("campaign", "share", "full"),
    [
        pytest.param(fuzz_wire.campaign, 6_000, 500_000, id="decoders-of-wire"),
        pytest.param(fuzz_messages.campaign, 6_000, 500_000, id="messages-between-processes"),
        pytest.param(fuzz_files.campaign, 3_000, 200_000, id="files-and-state"),
        pytest.param(fuzz_policies.campaign, 1_200, 100_000, id="policies-and-metadata"),
        pytest.param(fuzz_http.collector, 1_200, 60_000, id="requests-to-the-collector"),
        pytest.param(fuzz_http.guard, 1_000, 60_000, id="requests-to-the-guard"),
    ],
)
def test_only_the_documented_errors_come_out(
    campaign: Campaign, share: int, full: int, size: Size, figure: Figure
) -> None:
    """Whatever others wrote, wrongly: a named refusal, never a crash."""
    count = size(share=share, full=full)
    tally = spread(campaign, count, SEED)
    figure(f"{count:,} mutated inputs: {tally.crashes} crashes")
    _check(tally)
    assert sum(tally.refused.values()) > 0


def _check(tally: Tally) -> None:
    assert (tally.accepted, tally.crashes) == (0, 0), "\n".join(tally.lines())
