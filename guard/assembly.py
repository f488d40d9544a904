"""A running guard: its parts, and what holds before any question is answered.

`Premises.open` makes one from the files of this machine; `guard.app` is how it is asked.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.clock import Clock, why_implausible
from base.errors import AssentError, SetupError
from guard.halt import Halts
from guard.keys import Keys
from guard.lease import Leases
from guard.rings import Held, Ring, held
from guard.trust import PolicySet
from guard.witness import Witness
from wire.errors import WireError
from wire.guard_follows import raw_key
from wire.guard_http import (
    GuardState,
)
from wire.ids import WallInstant
from wire.policy import Policy, decode_policy

_log = logging.getLogger(__name__)


class Answered(AssentError):  # noqa: N818 - not a defect: an answer given early
    """The request ends here, with this status and line."""

    def __init__(self, status: int, message: str, **more: object) -> None:
        super().__init__(message)
        self.status = status
        self.more = more


@dataclass(frozen=True, kw_only=True)
class Watching:
    """A witness of the log; `policy_set` gives what is installed now, or None."""

    tenant: str
    witness: Witness
    policy_set: Callable[[], PolicySet | None]
    clock: Clock

    def now(self) -> WallInstant:
        """Return the wall clock.

        Raises:
            Answered: It is wrong for sure.

        """
        wall = self.clock.now().wall
        if why := why_implausible(wall):
            _log.error("%s", why)
            raise Answered(503, "this guard's clock is wrong; its operator has to set it")
        return WallInstant(wall)

    def installed(self) -> PolicySet:
        """Return the installed policy, unverified.

        Raises:
            Answered: There is none.

        """
        found = self.policy_set()
        if found is None:
            raise Answered(503, "this guard has no policy yet; its operator runs `trust`")
        return found

    def policy(self) -> Policy:
        """Return the installed policy, verified as of now.

        Raises:
            Answered: There is none, or it has expired.

        """
        try:
            return self.installed().verified(datetime.fromtimestamp(self.now() / 1e9, UTC))
        except WireError as exc:
            raise Answered(503, f"this guard's policy is not valid any more: {exc}") from exc

    def origin(self) -> str:
        """Return the collector that the policy names, expired or not: erasing never ends."""
        return decode_policy(self.installed().policy).collector.origin

    def log_key(self) -> str:
        """Return the verifier key of the log that the policy names, expired or not.

        A log has to be able to grow when everything else has ended: its last entries are
        deletions.
        """
        return decode_policy(self.installed().policy).collector.log

    def close(self) -> None:
        """Close its files."""
        self.witness.close()


@dataclass(frozen=True, kw_only=True)
class Guard(Watching):
    """The second lock: a witness that also holds keys."""

    signing_key: Ed25519PrivateKey | Held
    keys: Keys
    leases: Leases
    halts: Halts

    def close(self) -> None:
        """Close its files."""
        self.keys.close()
        super().close()

    def signing(self) -> Ring:
        """Return its signing keys, that one first which the installed policy names.

        Raises:
            Answered: There is no policy, or that key is not here.

        """
        named = decode_policy(self.installed().policy).guard.signing_key
        try:
            return held(self.signing_key)().led_by(raw_key(named))
        except SetupError as exc:
            _log.error("%s", exc)
            raise Answered(503, "this guard lacks a key that its policy names") from exc

    def state(self) -> GuardState:
        """Return whether a halt holds here, and whether there is a stop."""
        return self.halts.state(self.policy_set())

    def check_running(self) -> None:
        """Check that neither a halt nor a stop holds.

        Raises:
            Answered: One does.

        """
        if why := self.why_still():
            raise Answered(503, why)

    def why_still(self) -> str:
        """Return why the programme stands still here, and whose word that is; empty if not."""
        state = self.state()
        if state.halted:
            return f"the programme is halted: {state.why} (said by {state.by})"
        return f"the programme stands still for now: {state.stopped}" if state.stopped else ""
