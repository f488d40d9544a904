"""Approvals of access: an approver reads a request in plain words, and signs its bytes.

The file that goes round is JSON: first the bare request, then a grant (the request's bytes
and the approvals so far).  Both are taken; a grant is written.
"""

import base64
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.durable import replace
from base.errors import RejectedError
from governance.files import read
from wire.errors import UNREADABLE, MalformedError, NotCoveredError
from wire.grant import AccessGrant, AccessRequest, approve, check_life, decode_request
from wire.ids import WallInstant
from wire.policy import Policy
from wire.recipients import check_opens


def read_grant(path: Path) -> AccessGrant:
    """Return the grant in *path*, or the bare request there as a grant without approvals.

    Raises:
        SetupError: Not there.
        MalformedError: Neither a grant nor a request.

    """
    document = read(path)
    try:
        grant = msgspec.json.decode(document, type=AccessGrant)
    except UNREADABLE:
        grant = AccessGrant(request=document, approvals=())
    decode_request(grant.request)
    return grant


def write_grant(path: Path, grant: AccessGrant) -> None:
    """Write *grant*, whole or not at all."""
    replace(path, msgspec.json.format(msgspec.json.encode(grant), indent=2) + b"\n")


def check_worth_approving(request: AccessRequest, now: WallInstant) -> None:
    """Refuse a request that could not be used any more, or that would last too long.

    Raises:
        RejectedError: It has expired, ends too far from now, or covers no day.

    """
    try:
        check_life(request, now)
    except NotCoveredError as exc:
        raise RejectedError(f"this request is worth no approval: {exc}") from exc
    if request.last_day < request.first_day or not request.categories:
        raise RejectedError("this request covers no day or no category")


def check_against_policy(
    request: AccessRequest, policy: Policy, name: str, key: Ed25519PrivateKey
) -> None:
    """Refuse what the guard would refuse anyway, before anybody signs it.

    Raises:
        RejectedError: Another programme or purpose, a recipient or an approver whom the
            policy does not name, or a key that is not this approver's.

    """
    mine = base64.b64encode(key.public_key().public_bytes_raw()).decode("ascii")
    if request.programme != policy.programme or request.purpose != policy.purpose:
        raise RejectedError(f"the policy is for {policy.programme} and {policy.purpose} only")
    try:
        check_opens(policy.recipients, request.recipient)
    except NotCoveredError as exc:
        raise RejectedError(str(exc)) from exc
    if mine not in {approver.key for approver in policy.approvers if approver.name == name}:
        raise RejectedError(f"the policy has no approver {name} with this key")


def add_approval(
    grant: AccessGrant, others: AccessGrant | None, name: str, key: Ed25519PrivateKey
) -> AccessGrant:
    """Return *grant* with *name*'s approval, and with those of *others*: the file it goes to.

    Raises:
        MalformedError: *others* is a grant for another request.

    """
    if others is not None and others.request != grant.request:
        raise MalformedError("the file to write holds a grant for another request")
    mine = approve(grant.request, name, key)
    there = {a.approver: a for g in (others, grant) if g is not None for a in g.approvals}
    there[name] = mine
    return AccessGrant(request=grant.request, approvals=tuple(there.values()))
