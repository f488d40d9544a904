"""One request to the collector: the question, and what its answer has to prove.

`delivery` makes it, in a worker thread, and carries out what the answer means.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, assert_never

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.calls import Calls
from agent.consent.standing import Standing
from agent.erasures import Erasures
from agent.handover import Outcome
from agent.spool import Spool
from agent.transport import Door
from agent.upload import Delete, Erase, Register, Send, Task, Tell
from wire.collector_http import Deleted, Logged, decode, verify_carried, verify_logged
from wire.consent_event import sign_event
from wire.frame import core_hash, split
from wire.ids import BatchHash
from wire.leaf import Kind, deletion_payload, event_payload, grant_payload
from wire.receipt import decode_receipt, verify_receipt


class Host(Protocol):
    """Who knows of consents and halts; the service is it."""

    calls: Calls

    @property
    def standing(self) -> Standing:
        """Where consent stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knock:
    """One attempt: the door, and what its answer has to prove."""

    door: Door
    call: Callable[[], Outcome]
    check: Callable[[bytes], object]


class Knocks:
    """Prepares them."""

    def __init__(self, host: Host, spool: Spool, erasures: Erasures) -> None:
        """Nothing is asked yet."""
        self._host = host
        self._spool = spool
        self._erasures = erasures

    def prepare(self, task: Task, door: Door, log: str, device: Ed25519PrivateKey) -> Knock:
        """Prepare the request for *task*; for a batch, mark it before its first byte.

        *log* is the verifier key of the collector's log.

        Raises:
            OSError: It could not be marked; nothing may be sent.

        """
        match task:
            case Delete(name=name):
                payload = deletion_payload(BatchHash(bytes.fromhex(name)))
                return Knock(
                    door=door,
                    call=lambda: door.delete(name),
                    check=lambda body: verify_logged(
                        decode(body, Deleted).tombstone, Kind.TOMBSTONE, payload, log
                    ),
                )
            case Erase(name=name):
                asked = self._erasures.find(name).signed
                return Knock(
                    door=door,
                    call=lambda: door.demand(asked),
                    check=lambda body: verify_carried(body, asked.digest, log),
                )
            case Register(grant=grant):
                signed = self._host.standing.evidence[grant].signed
                return Knock(
                    door=door,
                    call=lambda: door.register(signed),
                    check=lambda body: verify_logged(
                        decode(body, Logged), Kind.GRANT, grant_payload(grant), log
                    ),
                )
            case Tell(grant=grant, state=state):
                events = self._host.standing.evidence[grant].events
                event = sign_event(next(e for e in events if e.state is state), device)
                return Knock(
                    door=door,
                    call=lambda: door.tell(event),
                    check=lambda body: verify_logged(
                        decode(body, Logged), Kind.CONSENT_EVENT, event_payload(event.event), log
                    ),
                )
            case Send(name=name):
                return self._with_batch(door, name, log)
            case _:
                assert_never(task)

    def _with_batch(self, door: Door, name: str, log: str) -> Knock:
        frame = self._spool.read(name)
        batch, core = BatchHash(bytes.fromhex(name)), core_hash(split(frame).core)
        self._spool.mark_maybe_sent(name)
        return Knock(
            door=door,
            call=lambda: door.send(name, frame, lambda: self._may_leave(name)),
            check=lambda body: verify_receipt(decode_receipt(body), batch, core, log),
        )

    def _may_leave(self, name: str) -> bool:
        """Whether a batch is still to be sent; asked again and again while it is, in a thread."""
        return self._spool.has(name) and not self._host.calls.freeze
