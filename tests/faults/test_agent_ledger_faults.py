"""Every durable write of the ledger broken in every way; then a restart looks at the file.

What was acknowledged holds.  What was not acknowledged may hold or not, but never leads to
more capture without a click: a restart after it is RESUME_PENDING or more restricted.
"""

from pathlib import Path

import pytest

from agent.consent.entries import Entry, Granted, NoticeSeen, OptedOut, Paused, Resumed, Withdrawn
from agent.consent.ledger import Ledger, LedgerError
from agent.consent.standing import Standing
from agent.consent.states import Consent, Flag, Pause
from base import durable
from base.clock import Now
from tests.fakes.disk import BreakingDisk, CrashError, How
from tests.fakes.organisation import Organisation
from wire.category import Category
from wire.ids import PolicyDigest

AT = Now(boot=5, wall=1_000_000, boot_id="one")
ORGANISATION = Organisation()
DEVICE = ORGANISATION.device.public_key()


def acts() -> list[Entry]:
    digest = PolicyDigest(b"\1" * 32)
    return [
        Granted(signed=ORGANISATION.consent(digest), words="", notice=""),
        OptedOut(category=Category.SCREEN),
        Granted(
            signed=ORGANISATION.consent(digest, category=Category.POINTER), words="", notice=""
        ),
        Paused(until_wall=2_000_000, until_boot=1_000_005),
        Resumed(),
        Paused(until_wall=AT.wall, until_boot=AT.boot),
        NoticeSeen(seconds=60, since=0),
        Withdrawn(category=Category.KEYS),
    ]


def captures(standing: Standing) -> frozenset[Category]:
    """Return what these acts would let in, all else being well."""
    if standing.pause is not Pause.RUNNING:
        return frozenset()
    return frozenset(
        category
        for category in Category
        if standing.consents[category] is Consent.GIVEN and standing.flags[category] is Flag.CLEAR
    )


@pytest.mark.parametrize("how", How)
@pytest.mark.parametrize("at", range(1, 7))
@pytest.mark.parametrize("inside_restriction", [False, True])
def test_after_any_fault_a_restart_captures_no_more_than_was_acknowledged(
    *, tmp_path: Path, how: How, at: int, inside_restriction: bool
) -> None:
    """The one sentence that the ledger is for."""
    disk = BreakingDisk(at, how)
    ledger = Ledger.open(tmp_path, DEVICE, AT, disk)
    acknowledged = ledger.standing
    failed = False
    for entry in acts():
        try:
            if inside_restriction:
                with ledger.restriction():
                    ledger.append(entry, AT)
            else:
                ledger.append(entry, AT)
        except (LedgerError, CrashError):
            failed = True
            break
        acknowledged = ledger.standing
    assert failed is disk.broke is True
    if how in (How.FAILS, How.FULL, How.FULL_WITHIN, How.PERSISTS_BUT_FAILS):
        assert ledger.standing == acknowledged  # memory and answer say the same
    again = Ledger.open(tmp_path, DEVICE, AT, durable)
    assert captures(again.standing) <= captures(acknowledged)
    assert captures(again.standing) == frozenset()  # a click is needed after each of these
    assert again.standing.lost == ""
    assert len(again.standing.evidence) >= len(acknowledged.evidence)


@pytest.mark.parametrize("how", [How.FAILS, How.FULL, How.FULL_WITHIN, How.PERSISTS_BUT_FAILS])
@pytest.mark.parametrize("at", range(1, 7))
def test_what_failed_can_be_done_again(tmp_path: Path, how: How, at: int) -> None:
    """The next append mends the file, and a restart finds exactly what was acknowledged."""
    ledger = Ledger.open(tmp_path, DEVICE, AT, BreakingDisk(at, how))
    for entry in acts():
        try:
            ledger.append(entry, AT)
        except LedgerError:
            ledger.append(entry, AT)
    again = Ledger.open(tmp_path, DEVICE, AT, durable)
    assert again.standing == ledger.standing
    assert captures(again.standing) == {Category.POINTER}
