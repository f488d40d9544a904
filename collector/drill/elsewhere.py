"""Somebody enrols from where nobody is served: a token of a drill's own, which must be refused.

The token is in memory and in the index alone, for a jurisdiction that no policy can name (codes
of countries have no space), and gone with the probe; so is the device that a hole would enrol.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, delete

from base.api import Door
from base.clock import NANOSECONDS
from base.pki import signing_request
from base.volley import request
from collector import enrol
from collector.drill.probes import Probe, Who
from collector.index import Index
from collector.index.tables import devices, tokens
from wire.collector_http import EnrolRequest
from wire.ids import WallInstant

NOWHERE: Final = "a drill's"
LIFE_SECONDS: Final = 60


@contextmanager
def from_elsewhere(index: Index, now: WallInstant, headers: dict[str, str]) -> Iterator[Probe]:
    """Yield what is asked; afterwards nothing of it is left, also of a drill that died."""
    until = WallInstant(now + LIFE_SECONDS * NANOSECONDS)
    with index.writing() as connection:
        _forget(connection)
        token = enrol.new_token(connection, now, until, jurisdiction=NOWHERE)
    csr = signing_request(Ed25519PrivateKey.generate()).decode("ascii")
    body = msgspec.json.encode(EnrolRequest(token=token, csr=csr))
    try:
        yield Probe(
            who=Who.ELSEWHERE,
            door=Door.DEVICES,
            what="POST /v1/enroll",
            request=request("POST", "/v1/enroll", headers, body),
        )
    finally:
        with index.writing() as connection:
            _forget(connection)


def _forget(connection: Connection) -> None:
    for table in (tokens, devices):
        connection.execute(delete(table).where(table.c.jurisdiction == NOWHERE))
