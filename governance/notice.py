"""The notice that whoever is asked reads first, written out of the rest of a policy.

`notice.txt` is the form; what it promises is listed and tested, sentence by sentence
(`governance.claims`).  A policy may bring its own notice; `assent-govern review --policy` says
which of its sentences are none of these.
"""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Final

from wire.policy import Policy

FORM: Final = "notice.txt"
TEST_NOTICE: Final = (
    "This is a test. It may record the characters you type: do no real work while it runs."
)


def notice_of(policy: Policy) -> str:
    """Return the notice of *policy*, whatever it has in its field `notice`."""
    form = resources.files("governance").joinpath(FORM).read_text(encoding="utf-8").strip()
    text = form.format_map(words_of(policy))
    return f"{TEST_NOTICE}\n\n{text}" if policy.test_only else text


def words_of(policy: Policy) -> Mapping[str, str]:
    """Return what stands in the gaps of the form for *policy*."""
    kept = max((rule.retention_days for rule in policy.categories), default=0)
    return {
        "controller": policy.controller.name,
        "controller_contact": policy.controller.contact,
        "representatives": policy.representatives.name,
        "representatives_contact": policy.representatives.contact,
        "readers": _listed(policy.readers) or "nobody yet",
        "guard": policy.guard.name,
        "guard_run_by": policy.guard.run_by,
        "hold": _span(policy.hold_seconds),
        "retention": _counted(kept, "day"),
    }


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _span(seconds: int) -> str:
    """Return *seconds* in the largest unit of which there are two, rounded down to the half."""
    for unit, length in (("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{2 * seconds // length / 2:g} {unit}"
    return _counted(seconds, "second")


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
