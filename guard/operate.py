"""What operators may know of a running guard: whether it can work, and how much it holds.

Of whose keys it makes or erases, not even a count of the requests is told; the table of the
numbers stands in docs/guides/operators.md.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from starlette.types import Scope

from base import openapi, operators
from base.clock import NANOSECONDS, why_implausible
from base.crowd import in_tens
from base.metrics import PATH, Described, Exposition, Gauge, Seen, Values
from base.pki import certificate_expires_at
from guard.app import ROUTES
from guard.assembly import Answered, Guard
from guard.config import Config
from guard.premises import Premises
from wire.policy import decode_policy

OF_ONE_PERSON: Final = frozenset({"/v1/keys", "/v1/erase", "/v1/erasures"})
_ONE: Final = b"the collector"  # asks for everybody: never ten, so never shown


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why nothing was done; of a release that was refused as a whole, the check, too."""

    error: str
    refused: str | None = None


def who(scope: Scope) -> bytes | None:
    """Return one party for what is asked about one person, None for the rest."""
    return _ONE if scope.get(PATH) in OF_ONE_PERSON else None


def document() -> bytes:
    """Return the OpenAPI document."""
    described = openapi.document(
        "Assent guard", (*ROUTES, *operators.OPERATIONS), error=Refusal, version="1.0"
    )
    return openapi.encoded(described)


def desk(
    guard: Guard, premises: Premises, config: Config, seen: Seen, *, clear: bool
) -> operators.Desk:
    """Return what operators are told; in the *clear* they show no certificates.

    Raises:
        SetupError: They would have to, and none is listed.

    """
    numbers = Numbers(guard, premises)
    told = [Gauge(described, functools.partial(read, numbers)) for described, read in GAUGES]
    return operators.Desk(
        checks=checks(guard),
        metrics=Exposition(seen, told).text,
        document=document(),
        tenant=config.tenant,
        names=operators.names_let_in(config.operators.names, clear=clear),
        clock=guard.clock,
    )


def checks(guard: Guard) -> tuple[operators.Check, ...]:
    """Return what has to be so before this guard can do its work."""

    def policy() -> str:
        try:
            guard.policy()
        except Answered as exc:
            return str(exc)
        return ""

    def keys() -> str:
        guard.keys.count()
        return ""

    return (
        operators.Check("clock", lambda: why_implausible(guard.clock.now().wall) or ""),
        operators.Check("policy", policy),
        operators.Check("keys", keys),
    )


@dataclass(frozen=True, slots=True)
class Numbers:
    """Looks them up, each anew."""

    guard: Guard
    premises: Premises

    def subjects(self) -> Values:
        """Count, in tens."""
        return {(): in_tens(self.guard.keys.count().subjects)}

    def halted(self) -> Values:
        """Ask the files."""
        return {(): self.guard.state().halted}

    def stopped(self) -> Values:
        """Ask the files."""
        return {(): bool(self.guard.state().stopped)}

    def policy(self) -> Values:
        """Ask the file, whether it is valid or not."""
        installed = self.guard.policy_set()
        return {(): decode_policy(installed.policy).version if installed else 0}

    def certificate(self) -> Values:
        """Look at the file that a start would take."""
        until = certificate_expires_at(self.premises.tls_certificate.read_bytes()).timestamp()
        return {(): until - self.guard.clock.now().wall / NANOSECONDS}


GAUGES: Final[tuple[tuple[Described, Callable[[Numbers], Values]], ...]] = (
    (
        Described("assent_subjects_with_keys", "data subjects whose keys are here, in tens"),
        Numbers.subjects,
    ),
    (Described("assent_halted", "1 while a halt holds"), Numbers.halted),
    (Described("assent_stopped", "1 while there is a stop"), Numbers.stopped),
    (
        Described("assent_policy_version", "of the installed policy; 0 if there is none"),
        Numbers.policy,
    ),
    (
        Described("assent_certificate_left_seconds", "until the TLS certificate runs out"),
        Numbers.certificate,
    ),
)
