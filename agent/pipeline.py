"""The path of one event, from the sensor's socket to the spool.

Read `Pipeline.take` first: it is the whole data flow, in order.  The stages do not know
each other; only this module knows the order in which an event meets them.
"""

import heapq
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

import msgspec

from agent.attention import UNREAD_NANOSECONDS, Attention
from agent.consent.hidden import HiddenTimeline
from agent.consent.rates import RateCeiling
from agent.consent.scope import FocusTimeline
from agent.counters import Counters, Drop
from agent.handover import HOLD_BACK_NANOSECONDS, Permit, Rolled, SealedBatch
from agent.roll import Roll
from agent.seal import UnsealableError
from base.clock import Now
from wire.category import Category
from wire.control import Reason
from wire.event import Event, Focus, Frame, Still, begins_at, category_of
from wire.ids import BootInstant, PolicyDigest

_LOG: Final = logging.getLogger(__name__)

_KEPT_BEFORE: Final = HOLD_BACK_NANOSECONDS - UNREAD_NANOSECONDS


class Number(Protocol):
    """Hands out the number of the next event of a category."""

    def __call__(self, category: Category) -> int:
        """Return it; raises OSError when none could be reserved."""
        ...


class Pipeline:
    """The stages, in the order in which an event meets them."""

    def __init__(
        self,
        *,
        timeline: FocusTimeline,
        hidden: HiddenTimeline,
        counters: Counters,
        number: Number,
        seal: Callable[[Rolled], SealedBatch],
        spool: Callable[[SealedBatch, Now], None],
        why_not: Callable[[Category], Reason],
    ) -> None:
        """*why_not* names the reason for which the gate keeps a category out."""
        self._timeline = timeline
        self._hidden = hidden
        self._counters = counters
        self._number = number
        self._seal = seal
        self._spool = spool
        self._why_not = why_not
        self._attention = Attention()
        self._ceiling = RateCeiling()
        self._permits: dict[Category, Permit] = {}
        self._shut_at: dict[Category, int] = {}
        self._held: list[tuple[int, int, Event]] = []  # a heap by time, then arrival
        self._arrivals = 0
        self._roll = Roll(self._lost)
        self._unspooled: list[SealedBatch] = []
        self._forgotten_until = 0

    def take(self, arrived: Iterable[Event], now: Now) -> None:
        """Carry *arrived* into the hold-back, and what has waited long enough to the spool.

        1. gate: is there a permit for its category at its time, within its rate?
        2. hold-back: 500 ms in memory
        3. scope: did a listed program have the focus at its time, within the policy's hours,
           and no field for secrets?
        4. number: the next of its category, never repeated
        5. roll: into the open batch, which may close others
        6. seal: a closed batch to readers, subject and guard
        7. spool: the first time that anything is written
        """
        self.hear(arrived)
        heard_until = self._attention.until(now.boot)
        self._judge(heard_until, now)

    def _judge(self, heard_until: int, now: Now) -> None:
        for event in self._held_until(heard_until - HOLD_BACK_NANOSECONDS):
            permit = self._permits.get(category_of(event))
            if permit is not None and self._in_scope(event, permit):
                self._roll_on(event, permit, now)
        for rolled in self._roll.aged(now):
            self._store(rolled, now)

    def look(self, now: Now) -> None:
        """Take what has waited long enough, as the loop does again and again while it runs."""
        self._attention.look(now.boot)
        self.take((), now)

    def hear(self, arrived: Iterable[Event]) -> None:
        """Carry *arrived* into the hold-back only: the other sensors' word is read after it."""
        for event in arrived:
            if self._passes_gate(event):
                self._hold(event)

    # --- consent moves ----------------------------------------------------------------

    def permit(self, permit: Permit) -> None:
        """Let events of a category in, from the permit's instant on."""
        self._permits[permit.category] = permit
        self._shut_at.pop(permit.category, None)

    def permits(self) -> Mapping[Category, Permit]:
        """Return what is let in now; a category that is being shut is not."""
        return {c: p for c, p in self._permits.items() if c not in self._shut_at}

    def since(self, category: Category) -> BootInstant | None:
        """Return from when on an event of *category* might be kept; None if none might."""
        permit = self._permits.get(category)
        return None if permit is None else permit.since

    def being_shut(self) -> frozenset[Category]:
        """Return what was shut and waits for `settle`."""
        return frozenset(self._shut_at)

    def shut(self, categories: Iterable[Category], at: int) -> None:
        """Shut the gate, now: what is younger than *at* less the hold-back is dropped.

        What is older and still on its way from a sensor is taken until `settle`.  After a stall
        nobody knows since when it should have been shut: all of the stall is dropped.
        """
        at = min(at, self._attention.until(at) + _KEPT_BEFORE)
        for category in categories:
            if category in self._permits and category not in self._shut_at:
                self._shut_at[category] = at
                self._drop_held(category, younger_than=at - HOLD_BACK_NANOSECONDS)
                begins = max(at, self._permits[category].since)
                self._counters.gap_begins(category, BootInstant(begins), self._why_not(category))

    def shut_unless(self, wanted: Iterable[Category], policy: PolicyDigest | None, at: int) -> None:
        """Shut what is not *wanted*, and what is permitted under another policy than *policy*.

        A permit is of one policy: what a newer one narrows is narrowed by a new permit.
        """
        stays = [c for c in wanted if c in self._permits and self._permits[c].policy == policy]
        self.shut(self._permits.keys() - stays, at)

    def shut_under(self) -> Mapping[Category, PolicyDigest]:
        """Return under which policy that was permitted which waits for `settle`."""
        return {category: self._permits[category].policy for category in self._shut_at}

    def settle(self, categories: Iterable[Category], now: Now, *, keep: bool) -> None:
        """End the shut permits: all has arrived that will.

        What was old enough when the gate shut goes its way.  The open batches are sealed, or
        with *keep* False forgotten.
        """
        # Its sources were waited for, and meanwhile all was read that anybody had said before.
        self._judge(now.boot, now)
        for category in [c for c in categories if c in self._shut_at]:
            self._drop_held(category, younger_than=0)
            if keep:
                for rolled in self._roll.close(category, now):
                    self._store(rolled, now)
            else:
                self._counters.drop(Drop.FORGOTTEN, self.discard(category))
            del self._permits[category], self._shut_at[category]

    def discard(self, category: Category) -> int:
        """Forget everything of *category* that is in memory; return how many events."""
        unspooled = [sealed for sealed in self._unspooled if sealed.category is category]
        self._unspooled = [s for s in self._unspooled if s.category is not category]
        self._drop_held(category, younger_than=0)
        return self._roll.discard(category) + sum(sealed.events for sealed in unspooled)

    def forget_since(self, since: Now, now: Now) -> None:
        """Forget everything that happened from *since* to *now*, on its way here too."""
        self._forgotten_until = now.boot
        kept = [entry for entry in self._held if entry[0] < since.boot]
        forgotten = len(self._held) - len(kept)
        self._held = kept
        heapq.heapify(self._held)
        forgotten += self._roll.forget_since(since.boot)
        reaching = [sealed for sealed in self._unspooled if sealed.span.reaches(since)]
        self._unspooled = [s for s in self._unspooled if not s.span.reaches(since)]
        forgotten += sum(sealed.events for sealed in reaching)
        self._counters.drop(Drop.FORGOTTEN, forgotten)
        # Numbers and pictures go on from here: what follows must not lean on what is gone.
        self._roll.break_picture()
        for category in self._permits:
            self._counters.gap_begins(category, BootInstant(now.boot), Drop.FORGOTTEN)

    def close_all(self, now: Now) -> None:
        """Seal every open batch, whatever its age."""
        for category in Category:
            for rolled in self._roll.close(category, now):
                self._store(rolled, now)

    # --- storage ----------------------------------------------------------------------

    @property
    def is_blocked(self) -> bool:
        """Whether a sealed batch could not be written; nothing more may be captured then."""
        return bool(self._unspooled)

    def forget_forbidden(self, forbidden: Callable[[Category, PolicyDigest], bool]) -> None:
        """Forget sealed batches that could not be written and now must not be."""
        gone = [sealed for sealed in self._unspooled if forbidden(sealed.category, sealed.policy)]
        self._unspooled = [sealed for sealed in self._unspooled if sealed not in gone]
        self._counters.drop(Drop.FORGOTTEN, sum(sealed.events for sealed in gone))

    def retry_spool(self, now: Now) -> None:
        """Try again to write what could not be written."""
        waiting, self._unspooled = self._unspooled, []
        for sealed in waiting:
            self._put(sealed, now)

    # --- stages -----------------------------------------------------------------------

    def _passes_gate(self, event: Event) -> bool:
        category = category_of(event)
        permit = self._permits.get(category)
        if permit is None:
            self._counters.drop(self._why_not(category))
            return False
        if begins_at(event) < permit.since:
            self._counters.drop(Drop.EARLY)
            return False
        if begins_at(event) <= self._forgotten_until:
            self._lost(event, Drop.FORGOTTEN)
            return False
        shut_at = self._shut_at.get(category)
        if shut_at is not None and event.at > shut_at - HOLD_BACK_NANOSECONDS:
            self._counters.drop(Drop.HOLD_BACK)
            return False
        if not self._ceiling.allows(event, permit.rate_hz):
            self._lost(event, Drop.OVER_RATE)
            return False
        return True

    def _hold(self, event: Event) -> None:
        self._arrivals += 1
        heapq.heappush(self._held, (event.at, self._arrivals, event))

    def _held_until(self, at: int) -> Iterable[Event]:
        while self._held and self._held[0][0] <= at:
            yield heapq.heappop(self._held)[2]

    def _drop_held(self, category: Category, *, younger_than: int) -> None:
        kept = [
            (at, arrival, event)
            for at, arrival, event in self._held
            if category_of(event) is not category or at <= younger_than
        ]
        self._counters.drop(Drop.HOLD_BACK, len(self._held) - len(kept))
        self._held = kept
        heapq.heapify(self._held)

    def _in_scope(self, event: Event, permit: Permit) -> bool:
        # A window event is the change itself: it names the listed program since its time.
        inside = (
            self._timeline.is_inside(event.at)
            if isinstance(event, Focus)
            else self._timeline.is_settled_inside(event.at)
        )
        if permit.until is not None and event.at >= permit.until:  # the policy's hours were over
            inside = False
        if not inside:
            self._lost(event, Reason.OUTSIDE_SCOPE)
            return False
        # Whose window it is, is no secret; what is pressed, pointed at and shown there is.
        if not isinstance(event, Focus) and not self._hidden.permits(event.at):
            self._hide(event)
            return False
        return True

    def _hide(self, event: Event) -> None:
        """Drop what went to a field for secrets; count how often, for how much is a secret too."""
        begins = self._counters.gap_begins(category_of(event), event.at, Reason.SENSITIVE)
        self._counters.drop(Reason.SENSITIVE, int(begins))
        if isinstance(event, Frame):
            self._roll.break_picture()

    def _roll_on(self, event: Event, permit: Permit, now: Now) -> None:
        category = permit.category
        try:
            number = self._number(category)
        except OSError:
            _LOG.warning("no event number could be reserved on the disk; an event is dropped")
            self._lost(event, Reason.STORAGE_BLOCKED)
            return
        numbered = msgspec.structs.replace(event, sequence=number)
        # Only a picture ends a span without pictures.
        still = isinstance(event, Still)
        gap = None if still else self._counters.gap_ends(category, event.at)
        kept, closed = self._roll.add(numbered, permit, gap, now)
        if kept:
            self._counters.keep(event)
        for rolled in closed:
            self._store(rolled, now)

    def _store(self, rolled: Rolled, now: Now) -> None:
        try:
            sealed = self._seal(rolled)
        except UnsealableError as exc:
            # Plaintext must not wait: without a seal there is nothing that may be kept.
            _LOG.warning("a batch could not be sealed and is dropped: %s", exc)
            self._counters.drop(Drop.UNSEALED, len(rolled.events))
            return
        self._put(sealed, now)

    def _put(self, sealed: SealedBatch, now: Now) -> None:
        try:
            self._spool(sealed, now)
        except OSError as exc:
            _LOG.warning("a sealed batch could not be written (%s); capture closes", exc.strerror)
            self._unspooled.append(sealed)

    def _lost(self, event: Event, why: Reason | Drop) -> None:
        self._counters.drop(why)
        # Fewer moves than there were are no gap, nor is it when no picture is missing.
        if why is not Drop.OVER_RATE and not isinstance(event, Still):
            self._counters.gap_begins(category_of(event), event.at, why)
        if isinstance(event, Frame):
            self._roll.break_picture()
