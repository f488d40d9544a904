"""A site that is drilled: what a running server does by itself, at the moment a test wants it."""

from collections.abc import Mapping

from base.api import Door
from collector.drill.doors import Listening
from collector.drill.records import Kind, Outcome
from collector.drill.run import Drill, drill
from tests.fakes.site import Site


def listening(site: Site, ports: Mapping[str, int]) -> Listening:
    """Return where *site* listens: at one address, unless *ports* say which door is where."""
    main = int(site.origin.rpartition(":")[2])
    doors = {Door(name): port for name, port in ports.items()} or {Door.DEVICES: main}
    return Listening(
        server=bytes(16),
        doors={door: ("127.0.0.1", port) for door, port in doors.items()},
        pins=site.premises.tls_pins(),
        ca_pem=site.premises.trusted_pem(),
        authority=site.premises.authority().pem.decode(),
    )


def a_drill(site: Site, kind: Kind = Kind.SAMPLE, ports: Mapping[str, int] | None = None) -> Drill:
    site.premises.paths.make()
    return Drill(
        collector=site.collector,
        premises=site.premises,
        listening=listening(site, ports or {}),
        kind=kind,
    )


def drills(site: Site, kind: Kind = Kind.SAMPLE) -> Outcome:
    """Hold a drill on *site*."""
    return drill(a_drill(site, kind))
