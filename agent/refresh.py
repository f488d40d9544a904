"""The policy that the collector has now, and its lease: `consent.refresh` through our door.

What a device trusts is the root of its enrolment; the collector can neither choose another
nor go back to an older policy.  What this version cannot read does not replace what it can:
the policy in force holds until its lease ends.
"""

from pathlib import Path

from agent.consent import refresh as tuf
from agent.consent.policy import read_fetched
from agent.enroll import Device, from_origin
from agent.transport import Door
from base.clock import Now
from wire.errors import WireError
from wire.policy import decode_policy, policy_digest


def pins_of(device: Device) -> tuple[str, ...]:
    """Return the pins that lead to the collector, also where the policy has expired meanwhile.

    They were signed when they were fetched.  An expired policy allows no capture and no
    upload; it does say where to ask for the next one.
    """
    try:
        fetched = read_fetched(device.folder)
        if fetched is not None:
            return decode_policy(fetched.policy).collector.tls_pins
    except (OSError, WireError):
        pass
    return device.enrolment.tls_pins


def refresh(door: Door, folder: Path, origin: str, now: Now) -> bool:
    """Put the collector's policy in force in *folder*; return whether it is another.

    Raises:
        RetryableError: No answer that may be believed.
        RejectedError: It is not signed as it must be, or older, or this version cannot read it.
        SetupError: It names another collector.
        OSError: The disk failed.

    """
    try:
        before = read_fetched(folder)
    except OSError:
        before = None
    in_force = tuf.refresh(folder, door.policy_file, now, from_origin(origin))
    return before is None or policy_digest(before.policy) != in_force.digest
