"""What operators may know of a running collector: whether it can work, and how much it does.

Numbers tell of the server, or of at least ten people together (`base.crowd`); the table of
them, for people, stands in docs/guides/operators.md.
"""

import hashlib
import secrets
from typing import Final

from starlette.types import Scope

from base import openapi, operators
from base.clock import why_implausible
from base.metrics import Exposition, Seen
from collector import policies
from collector.app import ROUTES
from collector.assembly import Collector
from collector.auth import Device, Reader
from collector.drill.schedule import Schedule
from collector.guard.watch import Watch
from collector.operators.gauges import Numbers, gauges
from collector.premises import Premises
from collector.serving.reached import CALLER
from wire.collector_http import PROTOCOL, PROTOCOL_HEADER, ErrorAnswer

_NOBODY_KNOWS: Final = secrets.token_bytes(32)  # so that an address cannot be found by trying


def who(scope: Scope) -> bytes | None:
    """Return what tells one person's requests from another's; None for a reader's."""
    match scope.get(CALLER):
        case Reader():
            return None
        case Device(id=device):
            return device
        case _:  # nobody yet: an address is one party, whoever is behind it
            address = str((scope.get("client") or ("", 0))[0])
            return hashlib.blake2b(address.encode(), key=_NOBODY_KNOWS).digest()


def document() -> bytes:
    """Return the OpenAPI document."""
    described = openapi.document(
        "Assent collector",
        (*ROUTES, *operators.OPERATIONS),
        error=ErrorAnswer,
        version="{}.{}".format(*PROTOCOL),
        headers={PROTOCOL_HEADER: r"^\d+\.\d+$"},
    )
    return openapi.encoded(described)


def desk(
    collector: Collector,
    premises: Premises,
    watch: Watch,
    seen: Seen,
    *,
    clear: bool,
    drills: Schedule | None = None,
) -> operators.Desk:
    """Return what operators are told; in the *clear* they show no certificates.

    Raises:
        SetupError: They would have to, and none is listed.

    """
    config = collector.config
    return operators.Desk(
        checks=checks(collector, drills),
        metrics=Exposition(seen, gauges(Numbers(collector, premises, watch))).text,
        document=document(),
        tenant=config.tenant,
        names=operators.names_let_in(config.operators.names, clear=clear),
        clock=collector.clock,
    )


def checks(collector: Collector, drills: Schedule | None = None) -> tuple[operators.Check, ...]:
    """Return what has to be so before this collector can do its work."""

    def drilled() -> str:
        return drills.why_waiting() if drills else ""

    def policy() -> str:
        with collector.index.reading() as connection:
            there = policies.latest(connection) is not None
        return "" if there else "none was published; run assent-collector publish"

    def room() -> str:
        free = collector.store.free_bytes()
        full = free is not None and free < collector.config.limits.spare_bytes
        return "the disk is full: make room on it" if full else ""

    def guard() -> str:
        return "" if collector.guard else "none is connected; run assent-collector connect-guard"

    return (
        operators.Check("clock", lambda: why_implausible(collector.clock.now().wall) or ""),
        operators.Check("policy", policy),
        operators.Check("guard", guard),
        operators.Check("room", room),
        operators.Check("drill", drilled),
    )
