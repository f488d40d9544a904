"""The listeners of a collector: devices, readers, operators, each at an address of its own.

What a listener does not serve is not there: whoever comes to the devices' address finds no
path that lists or reads what was handed in, whatever certificate they hold.
"""

from base import operators
from base.api import Door
from base.metrics import Measured, Seen
from base.serving import Clients, Credentials, Listeners, Served
from collector.app import EVERY_DOOR, build
from collector.assembly import Collector
from collector.config import Config
from collector.drill.schedule import Schedule
from collector.guard.watch import Watch
from collector.operators.app import desk, who
from collector.premises import Premises
from collector.workers.crew import Crew


def bind(config: Config) -> Listeners:
    """Bind what the configuration names.

    Raises:
        SetupError: An address is none, in use, not ours, or forbidden to us.

    """
    return Listeners(
        {
            Door.DEVICES: config.listen,
            Door.READERS: config.readers_listen,
            Door.OPERATORS: config.operators.listen,
        },
        abreast=max(1, config.workers),
    )


def served(
    listeners: Listeners,
    collector: Collector,
    premises: Premises,
    watch: Watch,
    drills: Schedule | None = None,
    lock: int | None = None,
) -> list[Served]:
    """Return what is served where, the devices first.

    With the *lock* of this server (`Premises.alone`) devices come to workers, if config.toml
    does not say otherwise, who keep it for as long as one of them lives.

    Raises:
        SetupError: Operators would have to show certificates, and none is listed.

    """
    seen, found = Seen(), []
    for door, listener in listeners.bound.items():
        credentials = credentials_for(premises, door)
        if door is Door.OPERATORS:
            clear = listener.is_loopback
            told = desk(collector, premises, watch, seen, clear=clear, drills=drills)
            found.append(Served(listener, operators.build(told), None if clear else credentials))
            continue
        # For all, where there is no other.
        doors = EVERY_DOOR if EVERY_DOOR - listeners.bound.keys() else {door}
        app = Measured(build(collector, doors), seen, door, who)
        if door is Door.DEVICES and lock is not None and collector.config.workers:
            found.append(Served(Crew(listener, [lock]), app, credentials))
        else:
            found.append(Served(listener, app, credentials))
    return found


def credentials_for(premises: Premises, door: Door) -> Credentials:
    """Return the server's certificate, and whether a client has to show one at *door*."""
    return Credentials(
        certificate=premises.tls_certificate,
        key=premises.tls_key,
        client_authority=premises.client_authority,
        # A device enrols before it has a certificate; everybody else is certified by hand.
        clients=Clients.OPTIONAL if door is Door.DEVICES else Clients.REQUIRED,
    )
