"""What lies on the disk of an agent, looked at from outside and without changing anything.

For `doctor`: it must find what keeps a stopped agent from recording, and must not mend,
sweep or number anything while another process may be at it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from agent.config import Config, outside_opt_outs
from agent.consent.facts import Situation
from agent.consent.ledger import FILE_NAME as LEDGER
from agent.consent.ledger import Ledger
from agent.consent.policy import PolicyInForce
from agent.consent.seen import SeenClock
from agent.enroll import Device
from agent.guard_keys import GuardKeys
from agent.spool import DELETIONS, HELD, READY
from agent.status import why_frozen
from base.clock import Clock, Now, local_time
from base.paths import Paths
from wire.category import Category
from wire.control import Reason
from wire.errors import UNREADABLE
from wire.hours import is_inside
from wire.policy import Policy

SPOOL: Final = "spool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How much lies in the spool."""

    held: int
    ready: int
    deletions: int
    bytes: int


class _Kind(msgspec.Struct, frozen=True):
    kind: str


class _AnyLine(msgspec.Struct, frozen=True):
    entry: _Kind


def waiting(state: Path) -> Waiting:
    """Return how much lies in the spool below *state*; nothing where it cannot be read."""
    sizes = {name: list(_sizes(state / SPOOL / name)) for name in (HELD, READY)}
    deletions = sum(1 for _ in _named(state / SPOOL / DELETIONS, ".json"))
    total = sum(map(sum, sizes.values()))
    return Waiting(held=len(sizes[HELD]), ready=len(sizes[READY]), deletions=deletions, bytes=total)


def acts(state: Path) -> dict[str, int]:
    """Return how many lines of each kind the record of consents has; nothing else of them."""
    try:
        lines = (state / LEDGER).read_bytes().split(b"\n")[:-1]
    except OSError:
        return {}
    return dict(Counter(map(_kind_of, lines)))


def situation(
    paths: Paths,
    config: Config,
    device: Device,
    policy: PolicyInForce,
    clock: Clock,
    environment: Mapping[str, str],
) -> tuple[Situation, dict[Reason, str]]:
    """Return what the gate would decide on, and what there is to say about its reasons.

    Whose window has the focus and whether the icon is shown is not on the disk: unknown.

    Raises:
        AssentError: The record of consents, or the clock's, cannot be used.

    """
    now = clock.now()
    standing = Ledger.look(paths.state, device.key.public_key())
    doubt = SeenClock(paths.state, standing, now).why_not(now)
    keys = GuardKeys(paths.state, device.subject)
    if policy.policy is not None:
        keys.use_guard(policy.policy.guard.signing_key)
    full = waiting(paths.state).bytes >= config.quota_bytes
    # Keys are fetched once there is a consent: before that, none is missing.
    storable = {c: not full and (c not in standing.grants or keys.has(c, now)) for c in Category}
    unsealed = next(filter(None, (keys.why_not(c, now) for c in standing.grants)), "")
    outside = frozenset[Category]().union(*outside_opt_outs(config, environment).values())
    from agent.redact.proof import why_broken  # noqa: PLC0415 - loads numpy: for `doctor` only

    broken = why_broken()  # tried here, as the sensors try it when they start
    details = {
        Reason.HALTED_BY_ORG: " ".join(why_frozen(standing)),
        Reason.NOT_CONSENTED: standing.lost,
        Reason.CLOCK_UNTRUSTED: standing.clock_doubt or doubt,
        Reason.REDACTOR_DOWN: broken,
        Reason.STORAGE_BLOCKED: f"{config.quota_bytes >> 20} MiB wait to be sent"
        if full
        else unsealed,
    }
    return Situation(
        now=now,
        standing=standing,
        policy=policy,
        clock_doubt=doubt,
        within_hours=None if policy.policy is None else _within_hours(policy.policy, now),
        outside_opt_outs=outside,
        redacting=not broken,
        storable=MappingProxyType(storable),
    ), details


def _within_hours(policy: Policy, now: Now) -> bool:
    return is_inside(policy.hours, local_time(now.wall))


def lock_holder(lock: Path) -> int | None:
    """Return the process that holds *lock*, without touching it (proc(5), locks)."""
    try:
        wanted = str(lock.stat().st_ino)
        lines = Path("/proc/locks").read_text("ascii").splitlines()
    except OSError:
        return None
    for words in map(str.split, lines):
        if words[1] == "FLOCK" and words[5].rpartition(":")[2] == wanted:
            return int(words[4])
    return None


def _named(folder: Path, ending: str) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if path.suffix == ending)
    except OSError:
        return


def _sizes(folder: Path) -> Iterator[int]:
    for path in _named(folder, ".frame"):
        try:
            yield path.stat().st_size
        except OSError:  # sent meanwhile
            continue


def _kind_of(line: bytes) -> str:
    try:
        return msgspec.json.decode(line, type=_AnyLine).entry.kind
    except UNREADABLE:
        return "unreadable"
