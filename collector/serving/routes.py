"""What the table of routes (`collector.app.ROUTES`) is written in.

A row says who may ask, what is taken and given, and which refusals are its own; those that
follow from who asks and how are added here, once.  Listeners, the OpenAPI document and the
tests are made from the rows.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from base.api import Body, Door, Operation, Query
from base.metrics import PATH
from base.pki import Role
from collector.refusal import Why
from collector.serving.reached import CALLERS, Endpoint
from wire.category import Category

DEVICE: Final = (Role.DEVICE,)
READER: Final = (Role.READER,)
BOTH: Final = (Role.DEVICE, Role.READER)
ANYBODY: Final[tuple[Role, ...]] = ()

Gives: TypeAlias = Body | Mapping[int, Body]

# --- refusals that many rows share ------------------------------------------------------

ALWAYS: Final = (Why.BAD_REQUEST, Why.TOO_LARGE, Why.NOT_READY, Why.STORAGE_FULL)
STRANGER: Final = (
    *(Why.NO_CERTIFICATE, Why.CERTIFICATE_EXPIRED, Why.UNKNOWN_CLIENT),
    *(Why.REVOKED, Why.OTHER_TENANT, Why.NOT_FOR_DRILLS),
)
STILL: Final = (Why.HALTED, Why.STOPPED)
OF_GRANTS: Final = (*STILL, Why.UNDRILLED, Why.GRANT_REFUSED)
PERSONAL: Final = (  # of what a data subject signed; the rest is of a certificate, if one is shown
    *(Why.FORGED, Why.MALFORMED, Why.NOT_THIS_SUBJECT, Why.NOT_FRESH, Why.NOT_FOUND),
    *(Why.TOO_MANY, Why.CERTIFICATE_EXPIRED, Why.UNKNOWN_CLIENT, Why.REVOKED),
    *(Why.OTHER_TENANT, Why.WRONG_ROLE, Why.NOT_FOR_DRILLS),
)
LIMITED: Final = (Why.TOO_MANY, Why.OVER_QUOTA)

# --- parameters -------------------------------------------------------------------------

NUMBER: Final = "^-?[0-9]{1,17}$"
CATEGORY: Final = tuple(category.value for category in Category)


@dataclass(frozen=True, kw_only=True)
class Row(Operation):
    """An operation, and what answers."""

    endpoint: Endpoint

    def route(self) -> Route:
        """Return what Starlette serves."""
        path = self.path.replace("{tile}", "{tile:path}")  # whose name has folders
        return Route(path, _Asked(self), methods=[self.method], name=self.name)


class _Asked:
    """The ASGI application of one row: a function would be wrapped twice, for every request."""

    def __init__(self, row: Row) -> None:
        self._row = row

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[PATH] = self._row.path
        scope[CALLERS] = self._row.callers
        answer = await self._row.endpoint(Request(scope, receive, send))
        await answer(scope, receive, send)


def row(
    asked: str,
    endpoint: Endpoint,
    callers: tuple[Role, ...],
    says: str,
    *,
    gives: Gives,
    takes: Body | None = None,
    query: tuple[Query, ...] = (),
    refuses: Iterable[Why] = (),
) -> Row:
    """Return the row of *asked*, a method and a path; what is given comes with 200 by default."""
    method, path = asked.split(" ")
    own = (*ALWAYS, *refuses, *_of_callers(callers))
    own += (Why.NOT_FOUND,) if "{" in path else ()
    return Row(
        method=method,
        path=path,
        name="_".join([method.lower(), *re.findall(r"[a-z]+", path.removeprefix("/v1"))]),
        says=says,
        callers=callers,
        doors=_doors(callers),
        takes=takes,
        query=query,
        gives=MappingProxyType(dict(gives) if isinstance(gives, Mapping) else {200: gives}),
        refuses=by_status(own),
        endpoint=endpoint,
    )


def by_status(refusals: Iterable[Why]) -> Mapping[int, tuple[str, ...]]:
    """Return the names of *refusals*, each once, by the status that they come with."""
    found: dict[int, tuple[str, ...]] = {}
    for why in dict.fromkeys(refusals):
        found[int(why.status)] = (*found.get(int(why.status), ()), why.label)
    return MappingProxyType(found)


def _of_callers(callers: tuple[Role, ...]) -> tuple[Why, ...]:
    if not callers:
        return ()
    of_one_role = () if callers == BOTH else (Why.WRONG_ROLE,)
    return (*STRANGER, *of_one_role, *(LIMITED if Role.DEVICE in callers else (Why.TOO_MANY,)))


def _doors(callers: tuple[Role, ...]) -> tuple[Door, ...]:
    """Return where it is asked: whoever comes without a certificate comes from a workstation."""
    to_devices = (Door.DEVICES,) if Role.DEVICE in callers or not callers else ()
    return (*to_devices, *((Door.READERS,) if Role.READER in callers else ()))
