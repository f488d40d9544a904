"""The way to the collector: opened with the pins that the policy names, anew when they change."""

from collections.abc import Callable
from typing import TypeAlias

from agent.enroll import Enrolment
from agent.transport import Door, same_origin
from wire.policy import Policy

OpenDoor: TypeAlias = Callable[[tuple[str, ...]], Door]
"""Opens a door that knows the collector by these pins."""


class Doorway:
    """Keeps one door open for as long as it leads to where the policy says."""

    def __init__(self, open_door: OpenDoor) -> None:
        """Prepare; nothing is connected yet."""
        self._open = open_door
        self._door: Door | None = None
        self._pins: tuple[str, ...] = ()

    def to(self, policy: Policy, enrolment: Enrolment) -> Door:
        """Return the door that *policy* names.

        Raises:
            SetupError: It leads elsewhere than where this device was enrolled.

        """
        same_origin(policy.collector.origin, enrolment.origin)
        if self._door is None or self._pins != policy.collector.tls_pins:
            self.close()
            self._pins = policy.collector.tls_pins
            self._door = self._open(self._pins)
        return self._door

    def close(self) -> None:
        """Close the door; the next one is opened anew, with the certificate of then."""
        if self._door is not None:
            self._door.close()
        self._door = None
