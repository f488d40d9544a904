"""Certificate and policy kept current, for as long as the agent runs.

When to try again, and what a person has to know of it; how each is done say `renewal` and
`refresh`.  `delivery` learns what has changed and uses it.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from agent.consent.policy import load
from agent.enroll import Device
from agent.refresh import pins_of, refresh
from agent.renewal import renew
from agent.transport import Door
from agent.upload import back_off, until
from base.clock import NANOSECONDS, Clock
from base.errors import AssentError, RetryableError
from wire.errors import WireError

_LOG: Final = logging.getLogger(__name__)

UPKEEP_SECONDS: Final = 300.0  # how late another policy comes; the lease itself could wait longer
LEAST_SECONDS: Final = 5.0  # between two looks
AFTER_SUSPEND_SECONDS: Final = 30.0


class Upkeep:
    """Keeps what this device shows to the collector, and what it knows of it, current."""

    def __init__(
        self,
        device: Device,
        clock: Clock,
        *,
        open_door: Callable[[tuple[str, ...]], Door],
        on_certificate: Callable[[], None],
        on_policy: Callable[[], None],
        on_news: Callable[[], None],
    ) -> None:
        """Prepare; nothing is asked yet.  *on_news* follows each attempt."""
        self.device = device
        self._clock = clock
        self._open_door = open_door
        self._on_certificate = on_certificate
        self._on_policy = on_policy
        self._on_news = on_news
        self._now = asyncio.Event()
        self._looked_at: int | None = None  # boot clock
        # Each in one line for a person; empty when all is well.
        self.certificate_error = ""
        self.policy_error = ""
        self._disk_failed = False
        self.waits = ""  # why it is tried again soon, where nothing is wrong with us

    def wake(self) -> None:
        """Look at once: the collector does not know our certificate."""
        self._now.set()

    def nudge(self) -> None:
        """Look at once for what lifts a halt or ends a lapse, unless we have just looked.

        A new certificate makes the delivery ask at once, and its answer leads back here.
        """
        now, before = self._clock.now().boot, self._looked_at
        if before is None or now - before >= LEAST_SECONDS * NANOSECONDS:
            self.wake()

    async def run(self) -> None:
        """Keep both current until cancelled, soon again after what may pass by itself."""
        failures = 0
        while True:
            failures = 0 if await self._kept_up() else failures + 1
            self._on_news()
            dice = random.random()  # noqa: S311 - jitter, no secret
            await self._sleep(back_off(failures, dice) if failures else self._pause())

    def _pause(self) -> float:
        """Return how long all is well: at most until half of the lease is over."""
        now = self._clock.now()
        lease = load(self.device.folder, now).lease
        left = UPKEEP_SECONDS if lease is None else lease.half_seconds(now)
        return min(UPKEEP_SECONDS, max(LEAST_SECONDS, left))

    async def _sleep(self, seconds: float) -> None:
        """Sleep by the boot clock: a suspend counts, and after it certificates have run out."""
        end = until(self._clock.now().boot, seconds)
        self._now.clear()
        while (left := end - self._clock.now().boot) > 0 and not self._now.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left / NANOSECONDS, AFTER_SUSPEND_SECONDS)):
                    await self._now.wait()

    async def _kept_up(self) -> bool:
        """Try once; return False for what may pass by itself."""
        self.waits, self._disk_failed = "", False
        self._looked_at = self._clock.now().boot
        try:
            self.certificate_error = await self._trouble_with("certificate", self._renew())
            self.policy_error = await self._trouble_with("policy", self._refresh())
        except RetryableError as exc:
            _LOG.info("certificate and policy wait: %s", exc)
            self.waits = f"the device's certificate and its policy are not looked after: {exc}"
        return not (self.waits or self._disk_failed)

    async def _trouble_with(self, what: str, act: Awaitable[None]) -> str:
        """Return what a person has to know of an attempt; empty when all is well."""
        try:
            await act
        except RetryableError:
            raise
        except OSError as exc:  # a full disk passes, and there are days left
            self._disk_failed = True
            why = f"the new {what} could not be stored: {exc.strerror}"
            _LOG.warning("%s", why)
            return why
        except (AssentError, WireError) as exc:
            _LOG.warning("certificate or policy: %s", exc)
            return str(exc)
        return ""

    async def _renew(self) -> None:
        now = self._clock.now()
        pins = pins_of(self.device)
        device = await asyncio.to_thread(renew, self.device, now, pins)
        if device is not None:
            _LOG.info("the device's certificate was renewed")
            self.device = device
            self._on_certificate()

    async def _refresh(self) -> None:
        folder, origin = self.device.folder, self.device.enrolment.origin
        door = self._open_door(pins_of(self.device))
        try:
            changed = await asyncio.to_thread(refresh, door, folder, origin, self._clock.now())
        finally:
            door.close()
        if changed:
            _LOG.info("the collector has a newer policy, which is in force now")
            self._on_policy()
