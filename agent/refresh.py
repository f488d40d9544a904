"""The policy that the collector has now: put in force if it is newer and signed as ours is.

What a device trusts is the root of its enrolment; the collector can neither choose another
nor go back to an older policy.  What this version cannot read does not replace what it can:
the policy in force holds until it expires.
"""

from pathlib import Path

import msgspec

from agent.consent.policy import FILES, PolicyFiles, install, put_right, read
from agent.enroll import Device
from agent.transport import Door, same_origin
from base.clock import Now
from base.errors import RejectedError
from wire.errors import UNREADABLE, MalformedError, WireError
from wire.policy import decode_policy


class _Signed(msgspec.Struct, frozen=True):
    version: int


class _Metadata(msgspec.Struct, frozen=True):
    signed: _Signed


def pins_of(device: Device) -> tuple[str, ...]:
    """Return the pins that lead to the collector, also where the policy has expired meanwhile.

    They were signed when they were fetched.  An expired policy allows no capture and no
    upload; it does say where to ask for the next one.
    """
    try:
        return decode_policy(read(device.folder).text).collector.tls_pins
    except (OSError, WireError):
        return device.enrolment.tls_pins


def refresh(door: Door, folder: Path, origin: str, now: Now) -> bool:
    """Put the collector's policy in force in *folder*; return whether it is another.

    In this order: the signed metadata are others than ours; the root is ours; the policy is
    signed and can be read; it is newer; it names our collector; all three files.

    Raises:
        RetryableError: No answer that may be believed.
        RejectedError: It is of another root, or older, or this version cannot read it.
        SetupError: It names another collector.
        OSError: The disk failed, or the policy in force cannot be read.

    """
    put_right(folder, now)
    ours = read(folder)
    targets = door.policy_file(FILES[1])
    if targets == ours.targets:
        return False
    theirs = PolicyFiles(
        root=door.policy_file(FILES[0]), targets=targets, text=door.policy_file(FILES[2])
    )
    if theirs.root != ours.root:
        raise RejectedError(
            "the collector has a policy of another root; the one you know holds; ask who runs "
            "the programme for a new enrolment file"
        )
    try:
        policy = theirs.verified(now)
    except MalformedError as exc:
        raise RejectedError(
            f"the collector has a policy that this version cannot use ({exc}); the one you know "
            "holds until it expires; install a newer assent"
        ) from exc
    except WireError as exc:
        raise RejectedError(
            f"the collector has a policy that will not do ({exc}); the one you know holds"
        ) from exc
    _check_newer(ours, theirs)
    same_origin(policy.collector.origin, origin)
    install(folder, theirs)
    return True


def _check_newer(ours: PolicyFiles, theirs: PolicyFiles) -> None:
    newer = _version(theirs.targets) > _version(ours.targets)
    if theirs.digest != ours.digest:
        old, new = decode_policy(ours.text).version, decode_policy(theirs.text).version
        newer = newer and new > old
    if not newer:
        raise RejectedError(
            "the collector has an older policy than the one you know, which holds; ask who "
            "runs the programme"
        )


def _version(metadata: bytes) -> int:
    try:
        return msgspec.json.decode(metadata, type=_Metadata).signed.version
    except UNREADABLE as exc:
        raise MalformedError("the policy's metadata cannot be read") from exc
