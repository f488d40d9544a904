"""What readers come with in a drill: grants that must open nothing.

A request that nobody approved is made here.  Expired ones are other readers', as the index kept
them.  To try the scope of a grant for itself takes approvals, which only approvers can give:
`assent-collector drill --request` writes a request for days on which nothing was recorded; once
approved, it lies in `drill/` of the configuration.  It opens nothing, whoever has it.
"""

import secrets
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, select

from base.clock import NANOSECONDS
from base.errors import SetupError
from collector.drill.identities import NAME
from collector.drill.probes import Grants
from collector.index.tables import approvals
from collector.policies import latest
from wire.category import Category
from wire.errors import UNREADABLE, WireError
from wire.grant import AccessGrant, AccessRequest, Approval, decode_request, longest_grant
from wire.ids import WallInstant
from wire.policy import Policy
from wire.recipients import sealed_to

LAST_DAY: Final = "2000-12-31"  # there was no such program; no batch is of that day or before
WHY: Final = "for drills: an approved grant for days of nothing, which must open nothing"
KEPT: Final = 3  # grants of others that are tried
_DAY: Final = 24 * 3600 * NANOSECONDS


def grants(connection: Connection, folder: Path, now: WallInstant) -> Grants | None:
    """Return what readers come with; None without a policy, under which nothing can be asked.

    Raises:
        SetupError: A grant in *folder* would open something.

    """
    policy = latest(connection)
    if policy is None:
        return None
    ours = tuple(_read(path) for path in sorted(folder.glob("*.json")))
    return Grants(
        like=_like(policy.policy, WallInstant(now + _DAY)),
        expired=tuple(_of_others(connection, now)),
        other_scope=ours,
    )


def to_be_approved(policy: Policy, now: WallInstant) -> AccessRequest:
    """Return the request for the approvers: for a reader of that name, and days of nothing."""
    lasting = _like(policy, longest_grant(now))
    return msgspec.structs.replace(
        lasting, request_id=secrets.token_hex(16), last_day=LAST_DAY, why=WHY
    )


def _like(policy: Policy, expires_at: WallInstant) -> AccessRequest:
    return AccessRequest(
        request_id=NAME,
        reader=NAME,
        recipient=(*sealed_to(policy.recipients), *policy.recipients)[0].key,
        programme=policy.programme,
        purpose=policy.purpose,
        categories=tuple(Category),
        first_day="2000-01-01",
        last_day="9999-12-31",
        expires_at=expires_at,
        why=NAME,
    )


def _read(path: Path) -> AccessGrant:
    """Return a grant for drills.

    Raises:
        SetupError: It is none, or one that would open something to a drill.

    """
    try:
        grant = msgspec.json.decode(path.read_bytes(), type=AccessGrant)
        request = decode_request(grant.request)
    except (OSError, *UNREADABLE, WireError) as exc:
        raise SetupError(f"{path} is no approved grant for drills: {exc}; remove it") from exc
    if request.reader != NAME:
        raise SetupError(f"{path} is a grant of {request.reader}, not for drills; remove it")
    if request.last_day > LAST_DAY:
        raise SetupError(f"{path} is for days after {LAST_DAY} and could open something; remove it")
    return grant


def _of_others(connection: Connection, now: WallInstant) -> list[AccessGrant]:
    """Return grants of real readers whose time is over; they are for another reader, too."""
    found: dict[bytes, list[Row[Any]]] = {}
    for row in connection.execute(select(approvals)):
        found.setdefault(row.access, []).append(row)
    grants = [
        AccessGrant(
            request=rows[0].request,
            approvals=tuple(Approval(approver=r.approver, signature=r.signature) for r in rows),
        )
        for rows in found.values()
        if _is_over(rows[0].request, now)
    ]
    return grants[:KEPT]


def _is_over(request: bytes, now: WallInstant) -> bool:
    try:
        return decode_request(request).expires_at <= now
    except WireError:
        return False  # of another version, and no drill can say when it ends
