"""What `assent-guard` says of the lock: people in tens, keys in thousands; and what it is told."""

from typing import Final

from base.crowd import people_in_words, things_in_words
from guard.halt import Halts
from guard.premises import Premises
from guard.trust import load
from wire.policy import Policy

NO_LOCK: Final = dict.fromkeys(
    ("halted", "stopped", "keys", "subjects", "erasures", "untold", "run_out")
)


def of_lock(premises: Premises, policy: Policy | None) -> dict[str, object]:
    """Return what is held, under which policy or none."""
    keys = premises.keys()
    try:
        count = keys.count()
        untold = len(keys.untold(policy.collector.origin)) if policy else None
    finally:
        keys.close()
    state = Halts(premises.halt_file).state(load(premises.policy_file))
    return {
        "halted": state.why,
        "stopped": state.stopped,
        "keys": things_in_words(count.keys),
        "subjects": people_in_words(count.subjects),
        "erasures": people_in_words(count.erasures),
        "untold": untold,
        "run_out": things_in_words(count.run_out),
    }


def remember(premises: Premises, policy: Policy) -> None:
    """Keep how long it has batches kept before it is in force: a server may not see it in time."""
    keys = premises.keys()
    try:
        keys.remember(policy)
    finally:
        keys.close()
