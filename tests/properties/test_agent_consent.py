"""Consent as a machine: person, machine, organisation and time act in any order.

The real ledger on a real disk, the real facts, the real gate; beside them a few ghosts that
remember what the person was told.  After each step: nothing is captured that the person did
not say yes to, and nothing but a click has let more in.
"""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.consent.clocks import PAUSE_NANOSECONDS, deadline_after
from agent.consent.entries import (
    ClickAwaited,
    ClockConfirmed,
    ClockDoubted,
    Entry,
    Expired,
    Granted,
    Halted,
    HaltLifted,
    NoticeSeen,
    OptedIn,
    OptedOut,
    Paused,
    PolicyChanged,
    Resumed,
    StopLifted,
    Stopped,
    Withdrawn,
)
from agent.consent.facts import Situation, facts_of
from agent.consent.gate import Verdict, decide
from agent.consent.ledger import Ledger
from agent.consent.policy import PolicyInForce
from agent.consent.standing import pause_at
from agent.consent.states import Ending, Pause
from base.clock import NANOSECONDS, Now
from base.errors import ConsentError
from tests.fakes.organisation import Organisation
from tests.fakes.repository import a_lease
from wire.category import Category
from wire.ids import PolicyDigest

ORGANISATION = Organisation()
POLICY = ORGANISATION.policy()
DIGESTS = [PolicyDigest(bytes([n]) * 32) for n in range(3)]
categories = st.sampled_from([Category.KEYS, Category.SCREEN])
some_or_all = st.one_of(st.none(), categories)


class Consent(RuleBasedStateMachine):
    """The acts, the ghosts, and what must hold after each act."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.now = Now(boot=10**12, wall=1_800_000_000 * NANOSECONDS, boot_id="b0")
        self.boots = 0
        self.digest = 0
        self.shown = True
        self.room = True
        self.valid = True
        self.clicked = False  # was the last act a click that may let more in?
        self.environment_cleared = False  # or did something outside come back?
        # Ghosts: what the person was told.
        self.said_yes: dict[Category, int] = {}
        self.said_never: set[Category] = set()
        self.stale: set[Category] = set()  # agreed to, and then widened or halted
        self.paused_until: Now | None = None
        self.must_click = False
        self.stopped: set[str] = set()
        self.halted = False
        self.ledger = self._open()
        self.before = self._verdict()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def _open(self) -> Ledger:
        return Ledger.open(self.folder, ORGANISATION.device.public_key(), self.now)

    def _verdict(self) -> Verdict:
        return decide(
            facts_of(
                Situation(
                    now=self.now,
                    standing=self.ledger.standing,
                    policy=PolicyInForce(
                        policy=POLICY if self.valid else None,
                        digest=DIGESTS[self.digest],
                        lease=a_lease(self.now),
                    ),
                    indicator_shown=self.shown,
                    session_ours=True,
                    inside_scope=True,
                    secret=False,
                    within_hours=True,
                    redacting=True,
                    storable=dict.fromkeys(Category, self.room),
                )
            )
        )

    def _act(self, entry: Entry, *, click: bool = False) -> None:
        self.clicked = click
        self.environment_cleared = False
        self.ledger.append(entry, self.now)

    # --- the person -------------------------------------------------------------------

    @rule(category=categories)
    def grant(self, category: Category) -> None:
        signed = ORGANISATION.consent(DIGESTS[self.digest], category=category)
        self._act(Granted(signed=signed, words="", notice=""), click=True)
        self.said_yes[category] = self.digest
        self.stale.discard(category)

    @rule(category=some_or_all, erase=st.booleans())
    def withdraw(self, *, category: Category | None, erase: bool) -> None:
        self._act(Withdrawn(category=category, erase=erase))
        for each in Category if category is None else [category]:
            self.said_yes.pop(each, None)
            self.stale.discard(each)

    @rule(category=categories)
    def expire(self, category: Category) -> None:
        grant = self.ledger.standing.grants.get(category)
        if grant is not None:
            self._act(Expired(grant=grant.hash))
            self.said_yes.pop(category, None)

    @rule(category=some_or_all)
    def opt_out(self, category: Category | None) -> None:
        self._act(OptedOut(category=category))
        self.said_never |= set(Category) if category is None else {category}

    @rule(category=some_or_all)
    def opt_in(self, category: Category | None) -> None:
        self._act(OptedIn(category=category), click=True)
        self.said_never -= set(Category) if category is None else {category}

    @rule()
    def pause(self) -> None:
        until = deadline_after(self.now, PAUSE_NANOSECONDS)
        self._act(Paused(until_wall=until.wall, until_boot=until.boot))
        self.paused_until = self.now
        self.must_click = False

    @rule()
    def resume(self) -> None:
        self._act(Resumed(), click=True)
        self.paused_until = None
        self.must_click = False

    @rule()
    def close_the_notice(self) -> None:
        self._act(ClickAwaited())
        self.must_click = True

    @rule()
    def see_the_notice(self) -> None:
        """The data subject watches it to its end, which counts only when the pause is over.

        Other than a click it holds only then, and only if none is waited for.
        """
        standing = self.ledger.standing
        over = pause_at(standing, self.now) is Pause.RESUME_PENDING
        may = over and standing.ending is Ending.NOTICE
        if standing.ending is Ending.CLICK:
            assert self.must_click
        if may:
            self._act(NoticeSeen(seconds=60, since=0), click=True)
            began = self.paused_until
            assert began is not None
            assert began.boot_id != self.now.boot_id or (
                self.now.boot - began.boot >= PAUSE_NANOSECONDS
            ), "no pause is shortened"
            assert not self.must_click
            self.paused_until = None
            return
        try:
            self._act(NoticeSeen(seconds=60, since=0))
        except ConsentError:
            return
        raise AssertionError("a notice ended what it may not end")

    @rule()
    def confirm_clock(self) -> None:
        self._act(ClockConfirmed(), click=True)

    # --- time, machine, organisation --------------------------------------------------

    @rule(minutes=st.integers(0, 90))
    def time_passes(self, minutes: int) -> None:
        self.clicked = self.environment_cleared = False
        step = minutes * 60 * NANOSECONDS
        self.now = Now(
            boot=self.now.boot + step, wall=self.now.wall + step, boot_id=self.now.boot_id
        )

    @rule(minutes=st.integers(-600, 600))
    def the_clock_is_set(self, minutes: int) -> None:
        self.clicked = self.environment_cleared = False
        wall = self.now.wall + minutes * 60 * NANOSECONDS
        self.now = Now(boot=self.now.boot, wall=wall, boot_id=self.now.boot_id)

    @rule()
    def the_clock_is_doubted(self) -> None:
        self._act(ClockDoubted(why="set"))

    @rule(reboot=st.booleans())
    def the_agent_starts_again(self, *, reboot: bool) -> None:
        self.clicked = self.environment_cleared = False
        if reboot:
            self.boots += 1
            self.now = Now(boot=5, wall=self.now.wall, boot_id=f"b{self.boots}")
        self.ledger = self._open()

    @rule()
    def the_agent_is_killed_while_restricting(self) -> None:
        self.clicked = self.environment_cleared = False
        self.ledger.restriction().__enter__()
        self.ledger = self._open()
        self.must_click = True

    @rule(what=st.sampled_from(["shown", "room", "valid"]), on=st.booleans())
    def something_outside_changes(self, *, what: str, on: bool) -> None:
        self.clicked = False
        self.environment_cleared = on
        setattr(self, what, on)

    @rule(digest=st.sampled_from(range(len(DIGESTS))))
    def the_policy_changes(self, digest: int) -> None:
        self.clicked = False
        self.environment_cleared = digest in self.said_yes.values()  # what was agreed to is back
        self.digest = digest

    @rule(wider=st.sets(categories))
    def the_change_of_policy_is_noted(self, wider: set[Category]) -> None:
        """What it widens is stale; what it does not widen stands under it from now on."""
        agreed = [c for c in self.ledger.standing.grants if c in self.said_yes]
        fields: dict[Category, tuple[str, ...]] = {c: ("level",) for c in agreed if c in wider}
        self._act(PolicyChanged(policy=DIGESTS[self.digest], widened=fields))
        self.environment_cleared = True  # a narrower policy lets the same go on
        for category in agreed:
            if category in fields:
                self.stale.add(category)
            self.said_yes[category] = self.digest

    @rule()
    def the_organisation_halts(self) -> None:
        self._act(Halted(policy=DIGESTS[self.digest], why="stop"))
        self.halted = True

    @precondition(lambda self: self.halted)
    @rule()
    def the_halt_is_lifted(self) -> None:
        """A new policy has come: nobody's yes outlives a halt."""
        self._act(HaltLifted(policy=DIGESTS[self.digest]))
        self.halted = False
        self.said_yes.clear()
        self.stale.clear()

    @rule(by=st.sampled_from(["collector", "guard"]))
    def a_party_stops(self, by: str) -> None:
        self._act(Stopped(by=by, why="a fault"))
        self.stopped.add(by)

    @rule(by=st.sampled_from(["collector", "guard"]))
    def a_stop_is_lifted(self, by: str) -> None:
        """What it had closed comes back; anything else does not."""
        if by in self.stopped:
            self._act(StopLifted(by=by))
            self.stopped.discard(by)
            self.environment_cleared = True

    # --- what must hold ---------------------------------------------------------------

    @invariant()
    def nothing_is_captured_without_a_yes(self) -> None:
        """I1, and every other thing that the person was told."""
        for category in self._verdict().categories:
            assert self.said_yes.get(category) == self.digest
            assert category not in self.stale
            assert category not in self.said_never
            assert self.paused_until is None
            assert not self.stopped
            assert not self.halted
            assert self.shown
            assert self.room
            assert self.valid
            assert not self.ledger.standing.clock_doubt

    @invariant()
    def nothing_but_a_click_lets_more_in(self) -> None:
        """I4: time, a restart, a crash and the organisation alone never start capture."""
        now = self._verdict()
        if not (self.clicked or self.environment_cleared):
            assert now.categories <= self.before.categories
        self.before = now

    @invariant()
    def a_restart_finds_the_same(self) -> None:
        """What was acknowledged is on the disk."""
        data = {p.name: p.read_bytes() for p in self.folder.iterdir()}
        assert self._open().standing == self.ledger.standing
        assert {p.name: p.read_bytes() for p in self.folder.iterdir()} == data

    @precondition(lambda self: self.paused_until is not None)
    @rule()
    def a_pause_is_shut_whatever_the_clocks_say(self) -> None:
        assert self._verdict().categories == frozenset()


TestConsent = Consent.TestCase
TestConsent.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
