"""What a drill asks, as whom, and what an answer means.  Values only: `attack` does the asking.

Two tables: of each object, in each role that must not have it (`of_object`), and of each row
of the collector's table of routes, everybody whom the row does not name (`of_routes`), so that
a route that is added is tried without anybody thinking of it.
"""

import base64
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

import msgspec

from base.api import Door, Operation
from base.pki import Role
from base.volley import Answer, request
from collector.drill.identities import MARK
from collector.refusal import Why
from wire.category import Category
from wire.grant import AccessGrant, AccessRequest, encode_request
from wire.ids import BatchHash, WallInstant


class Who(StrEnum):
    """As whom a drill comes; each must be refused."""

    ANONYMOUS = "somebody without a certificate"
    STRANGER = "a certificate of another authority"
    EXPIRED = "a certificate that has expired"
    OTHER_TENANT = "a device of another tenant"
    GUARD = "the guard"
    OPERATOR = "an operator"
    OTHER_DEVICE = "another device"
    DEVICE = "a device that reads"
    READER = "a reader without a grant"
    EXPIRED_GRANT = "a reader whose grant has expired"
    OTHER_SCOPE = "a reader whose grant is for something else"
    ELSEWHERE = "a device of a jurisdiction that is not served"
    LOCAL_USER = "another user of this machine"
    STORE = "who has the store alone"
    DATABASE = "who has the database alone"


ROLES: Final = {
    Who.ANONYMOUS: None,
    Who.OTHER_DEVICE: Role.DEVICE,
    Who.DEVICE: Role.DEVICE,
    Who.READER: Role.READER,
    Who.EXPIRED_GRANT: Role.READER,
    Who.OTHER_SCOPE: Role.READER,
    Who.GUARD: Role.COLLECTOR,
    Who.OPERATOR: Role.OPERATOR,
    Who.OTHER_TENANT: Role.DEVICE,
}
"""What stands in the certificate of those who get as far as a request."""

CATEGORY_WORDS: Final = {category: f"a frame of {category.value}" for category in Category}
_REFUSALS: Final = frozenset({401, 403, 404, 405, 410, 422})
_SHUT: Final = frozenset({Why.HALTED.label, Why.STOPPED.label, Why.UNDRILLED.label})
_PLACES: Final = {
    "name": "policy.json",
    "tile": "0/000.p/1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """Something stored, which nobody below may have."""

    batch: BatchHash
    category: Category
    day: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What readers come with: a request that nobody approved, and grants that were approved."""

    like: AccessRequest  # covers whatever category and day are put into it
    expired: tuple[AccessGrant, ...] = ()
    other_scope: tuple[AccessGrant, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One thing to be asked."""

    who: Who
    door: Door
    what: str
    request: bytes
    batch: BatchHash | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """A probe that was answered where it must be refused: one line, and about which object."""

    line: str
    batch: BatchHash | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmade(Hole):
    """A probe that could not be made: who cannot look does not know."""


# --- what an answer means -----------------------------------------------------------------


def judge(probe: Probe, answer: Answer) -> Hole | None:
    """Return what is wrong with *answer*; None if it refuses."""
    if answer.status in _REFUSALS or (answer.status == 503 and _name(answer) in _SHUT):
        return None
    if answer.status < 400:
        size = answer.headers.get(MARK, str(answer.size))
        return Hole(
            line=f"{probe.what} was answered with {answer.status} ({size} bytes) to {probe.who} "
            f"at the {probe.door} listener",
            batch=probe.batch,
        )
    return not_made(probe, f"the answer was {answer.status}")


def not_made(probe: Probe, why: str) -> Unmade:
    """Return that *probe* could not be made."""
    line = f"{probe.what} could not be asked for as {probe.who} at the {probe.door} listener: {why}"
    return Unmade(line=line, batch=probe.batch)


def _name(answer: Answer) -> str:
    found = re.match(rb'{"error":"([a-z-]+)', answer.said)
    return found[1].decode() if found else ""


# --- of each object -----------------------------------------------------------------------


def of_object(
    one: Object, like: AccessRequest, reading: Door, headers: dict[str, str]
) -> list[Probe]:
    """Return what is asked of *one*; *reading* is the door that readers come to."""
    what = CATEGORY_WORDS[one.category]
    # All of them with a request that would cover it, had anybody approved it.
    read = _read(one, _unapproved(like, one.category, one.day), headers)
    # Whoever has the frame already gets its receipt: nobody but the device that sent it.
    put = request("PUT", f"/v1/batches/{one.batch.hex()}", headers, b"?")
    asked = [
        (Who.ANONYMOUS, Door.DEVICES, read),
        (Who.OTHER_DEVICE, Door.DEVICES, put),
        (Who.DEVICE, reading, read),
        (Who.GUARD, reading, read),
        (Who.READER, reading, read),
    ]
    return [
        Probe(who=who, door=door, what=what, request=sent, batch=one.batch)
        for who, door, sent in asked
    ]


def of_orders(
    objects: Iterable[Object], grants: Grants, reading: Door, headers: dict[str, str], most: int
) -> Iterator[Probe]:
    """Yield what readers ask about *objects* with grants that allow nothing of it.

    Of a category and day, the list; of at most *most* together, the first one's frame, what it
    was recorded under, and a release of all: a grant is judged before any object is looked at.
    """
    alike: dict[tuple[Category, str], list[Object]] = {}
    for one in objects:
        alike.setdefault((one.category, one.day), []).append(one)
    for (category, day), group in alike.items():
        for who, grant in _shown(grants, category, day):
            asked = _of_grant(group, grant, headers, most)
            for one, sent in ((group[0], _list(grant, headers)), *asked):
                yield Probe(
                    who=who,
                    door=reading,
                    what=CATEGORY_WORDS[category],
                    request=sent,
                    batch=one.batch,
                )


def _of_grant(
    group: Sequence[Object], grant: bytes, headers: dict[str, str], most: int
) -> Iterator[tuple[Object, bytes]]:
    for start in range(0, len(group), most):
        ordered = group[start : start + most]
        yield ordered[0], _read(ordered[0], grant, headers)
        yield ordered[0], _read(ordered[0], grant, headers, "/terms")
        yield ordered[0], _order(ordered, grant, headers)


def _shown(grants: Grants, category: Category, day: str) -> Iterator[tuple[Who, bytes]]:
    yield Who.READER, _unapproved(grants.like, category, day)
    expired = [msgspec.json.encode(grant) for grant in grants.expired]
    ended = msgspec.structs.replace(grants.like, expires_at=WallInstant(1))
    for grant in expired or [_unapproved(ended, category, day)]:
        yield Who.EXPIRED_GRANT, grant
    for each in grants.other_scope:
        yield Who.OTHER_SCOPE, msgspec.json.encode(each)


def _read(one: Object, grant: bytes, headers: dict[str, str], what: str = "") -> bytes:
    body = b'{"grant":' + grant + b"}"
    return request("POST", f"/v1/frames/{one.batch.hex()}{what}", headers, body)


def _list(grant: bytes, headers: dict[str, str]) -> bytes:
    return request("POST", "/v1/frames", headers, b'{"grant":' + grant + b"}")


def _order(objects: Iterable[Object], grant: bytes, headers: dict[str, str]) -> bytes:
    names = b",".join(b'"' + base64.b64encode(one.batch) + b'"' for one in objects)
    body = b'{"grant":' + grant + b',"batches":[' + names + b"]}"
    return request("POST", "/v1/releases", headers, body)


@lru_cache(maxsize=4096)
def _unapproved(like: AccessRequest, category: Category, day: str) -> bytes:
    """Return a grant, without a single approval, that would cover this category and day."""
    asked = msgspec.structs.replace(like, categories=(category,), first_day=day, last_day=day)
    return msgspec.json.encode(AccessGrant(request=encode_request(asked), approvals=()))


# --- of each route ------------------------------------------------------------------------


def of_routes(
    table: Iterable[Operation],
    doors: Collection[Door],
    batches: Collection[BatchHash],
    headers: dict[str, str],
) -> Iterator[Probe]:
    """Yield, for each row of *table*, everybody whom it does not name, at each of *doors*."""
    batch = next(iter(batches), BatchHash(bytes(32)))
    for row in table:
        if not row.callers:
            continue
        path = _path(row.path, batch)
        body = b"{}" if row.method == "POST" else b"?" if row.method == "PUT" else b""
        sent = request(row.method, path, headers, body)
        for who, role in ROLES.items():
            named = role is not None and role in row.callers and who is not Who.OTHER_TENANT
            doors_of = [d for d in doors if d is Door.DEVICES or role is not None]
            if not named and who not in (Who.OTHER_DEVICE, Who.EXPIRED_GRANT, Who.OTHER_SCOPE):
                for door in doors_of:
                    what = f"{row.method} {row.path}"
                    yield Probe(who=who, door=door, what=what, request=sent)


def _path(path: str, batch: BatchHash) -> str:
    places = {**_PLACES, "batch": batch.hex()}
    return re.sub(r"{(\w+)}", lambda found: places[found[1]], path)
