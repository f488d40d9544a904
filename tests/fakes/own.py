"""A data subject who asks about their own data, and a reader who had it opened."""

import hashlib
import secrets
from typing import TypeVar

import msgspec

from base.clock import NANOSECONDS
from base.door import Response
from base.https import OneDoor
from tests.fakes.organisation import raw
from tests.fakes.site import Site, Workstation, today
from wire.collector_http import ReleaseOrder, decode
from wire.grant import AccessGrant
from wire.ids import BatchHash, WallInstant
from wire.me import About, Query, ReturnOrder, SignedQuery, SignedReturn, sign_query, sign_return
from wire.me_answers import Believed
from wire.rights import Speaker

T = TypeVar("T")


def hash_of(frame: bytes) -> BatchHash:
    return BatchHash(hashlib.sha256(frame).digest())


def sent(workstation: Workstation) -> bytes:
    frame = workstation.seals(workstation.consents())
    assert workstation.puts(frame).status == 201
    return frame


def query_of(workstation: Workstation, about: About, **changes: object) -> SignedQuery:
    """Return a query of this data subject, by the rights key unless `speaker` says otherwise."""
    speaker = changes.pop("speaker", None) or workstation.org.speaker(device=False)
    assert isinstance(speaker, Speaker)
    query = Query(
        nonce=secrets.token_bytes(16),
        origin=workstation.site.origin,
        subject=workstation.org.subject,
        about=about,
        made_at=workstation.site.collector.now(),
    )
    return sign_query(msgspec.structs.replace(query, **changes), speaker)


def asks(
    site: Site, signed: SignedQuery | SignedReturn, what: str, door: OneDoor | None = None
) -> Response:
    """Hand it in over a door without a certificate, or over *door*."""
    return (door or site.door()).request("POST", f"/v1/me/{what}", msgspec.json.encode(signed))


def told(workstation: Workstation, about: About, kind: type[T], **changes: object) -> T:
    """Return what the collector tells this data subject."""
    answer = asks(workstation.site, query_of(workstation, about, **changes), about)
    assert answer.status == 200, answer.body
    return decode(answer.body, kind)


def order_of(workstation: Workstation, *batches: bytes, **changes: object) -> SignedReturn:
    """Return an order of these batches, by the rights key unless `speaker` says otherwise."""
    speaker = changes.pop("speaker", None) or workstation.org.speaker(device=False)
    assert isinstance(speaker, Speaker)
    order = ReturnOrder(
        nonce=secrets.token_bytes(16),
        origin=workstation.site.origin,
        subject=workstation.org.subject,
        recipient=workstation.recipient,
        batches=batches,
        made_at=workstation.site.collector.now(),
    )
    return sign_return(msgspec.structs.replace(order, **changes), speaker)


def approved(site: Site, **changes: object) -> AccessGrant:
    usual: dict[str, object] = {
        "first_day": today(),
        "last_day": today(),
        "expires_at": WallInstant(site.collector.now() + 3600 * NANOSECONDS),
        "programme": site.policy.programme,
    }
    return site.org.grant(site.org.request(**(usual | changes)))


def opened(reader: OneDoor, grant: AccessGrant, *frames: bytes) -> None:
    """Let *reader* have *frames* released."""
    order = ReleaseOrder(grant=grant, batches=tuple(hash_of(frame) for frame in frames))
    answer = reader.request("POST", "/v1/releases", msgspec.json.encode(order))
    assert answer.status == 200, answer.body


def believed(workstation: Workstation) -> Believed:
    """Return the keys that this data subject has."""
    policy = workstation.site.policy
    return Believed(
        origin=workstation.site.origin,
        log=policy.collector.log,
        witness=policy.guard.witness,
        guard=policy.guard.signing_key,
        subject=workstation.org.subject,
        rights_key=raw(workstation.org.rights_key),
    )
