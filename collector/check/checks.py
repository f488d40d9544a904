"""What is tried, in this order; later checks use what earlier ones have found out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from base.errors import AssentError
from collector.check import entry, handing_in, logbook
from collector.check.verdicts import DeviationError, LeftOutError, Result, Verdict
from collector.check.visit import Visit
from wire.errors import WireError


@dataclass(frozen=True, slots=True)
class Check:
    """One sentence of the specification, and what tries it."""

    name: str
    tries: Callable[[Visit], None]

    @property
    def says(self) -> str:
        """The sentence: the first line of what tries it."""
        return (self.tries.__doc__ or "").partition("\n")[0]


def versions(visit: Visit) -> None:
    """Each answer says of which protocol it is."""
    if visit.headless:
        raise DeviationError(f"Assent-Protocol: 1.x is missing, first at {visit.headless[0]}")


def refusals(visit: Visit) -> None:
    """Each refusal has a name, and one that passes the time to come back."""
    if visit.nameless:
        raise DeviationError(visit.nameless[0])


CHECKS: Final = (
    Check("state", entry.state),
    Check("token-unknown", entry.unknown_token),
    Check("enrolment", entry.enrols),
    Check("token-once", entry.token_is_used),
    Check("renewal", entry.renews),
    Check("strangers", entry.strangers),
    Check("no-reading", entry.no_reading),
    Check("no-other-verb", entry.no_other_verb),
    Check("unknown-fields", entry.unknown_fields),
    Check("unknown-path", entry.no_such_path),
    Check("policy", entry.policy),
    Check("policy-names", entry.policy_by_name),
    Check("rights", entry.rights),
    Check("log-head", logbook.signed_head),
    Check("consent-first", handing_in.before_consent),
    Check("consent-refused", handing_in.bad_consents),
    Check("consent", handing_in.consent),
    Check("guard-key", handing_in.guard_key),
    Check("batch", handing_in.batches),
    Check("batch-again", handing_in.again),
    Check("frame-refused", handing_in.bad_frames),
    Check("too-large", handing_in.too_large),
    Check("scope", handing_in.scope),
    Check("category", handing_in.category),
    Check("dates", handing_in.dates),
    Check("leaves", logbook.leaves),
    Check("deletion", handing_in.deletes),
    Check("deletion-before", handing_in.deletes_before),
    Check("withdrawal", handing_in.withdraws),
    Check("taken-back", handing_in.cleans_up),
    Check("log-goes-on", logbook.goes_on),
    Check("log-tiles", logbook.tiles),
    Check("log-beyond", logbook.no_such_tile),
    Check("witnessed", logbook.witnessed),
    Check("protocol", versions),
    Check("refusals", refusals),
)


def verdicts(visit: Visit) -> Iterator[Verdict]:
    """Try everything; yield what each check came to."""
    for check in CHECKS:
        yield _verdict(check, visit)


def _verdict(check: Check, visit: Visit) -> Verdict:
    try:
        check.tries(visit)
    except LeftOutError as exc:
        return Verdict(check=check.name, result=Result.LEFT_OUT, said=str(exc))
    except (AssentError, WireError) as exc:
        return Verdict(check=check.name, result=Result.FAILED, said=str(exc))
    return Verdict(check=check.name, result=Result.PASSED, said=check.says)
