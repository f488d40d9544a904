"""The listeners of a guard: its collector, readers, operators, each at an address of its own."""

from base import operators
from base.api import Door
from base.metrics import Measured, Seen
from base.serving import Clients, Credentials, Listeners, Served
from guard.app import EVERY_DOOR, make_app, make_witness
from guard.assembly import Guard, Watching
from guard.config import Config
from guard.operate import desk, who
from guard.premises import Premises


def bind(config: Config) -> Listeners:
    """Bind what the configuration names.

    Raises:
        SetupError: An address is none, in use, not ours, or forbidden to us.

    """
    return Listeners(
        {
            Door.COLLECTOR: config.listen,
            Door.READERS: config.readers_listen,
            Door.OPERATORS: config.operators.listen,
        }
    )


def served(
    listeners: Listeners, watching: Watching, premises: Premises, config: Config
) -> list[Served]:
    """Return what is served where, the collector first.

    Raises:
        SetupError: Operators would have to show certificates, and none is listed.

    """
    seen, found = Seen(), list[Served]()
    if not isinstance(watching, Guard):
        credentials = credentials_for(premises, Door.COLLECTOR)
        return [
            Served(listener, make_witness(watching), credentials)
            for listener in listeners.bound.values()
        ]
    guard = watching
    for door, listener in listeners.bound.items():
        credentials = credentials_for(premises, door)
        if door is Door.OPERATORS:
            clear = listener.is_loopback
            told = desk(guard, premises, config, seen, clear=clear)
            found.append(Served(listener, operators.build(told), None if clear else credentials))
            continue
        # For both, where there is no other.
        doors = EVERY_DOOR if EVERY_DOOR - listeners.bound.keys() else {door}
        app = Measured(make_app(guard, doors), seen, door, who)
        found.append(Served(listener, app, credentials))
    return found


def credentials_for(premises: Premises, door: Door) -> Credentials:
    """Return the server's certificate, and whether a client has to show one at *door*."""
    return Credentials(
        certificate=premises.tls_certificate,
        key=premises.tls_key,
        client_authority=premises.authority_file,
        # add-checkpoint needs none (C2SP tlog-witness); everybody else shows one.
        clients=Clients.OPTIONAL if door is Door.COLLECTOR else Clients.REQUIRED,
    )
