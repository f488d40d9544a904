"""A request for access, before anybody has approved it."""

import secrets
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Final

import msgspec

from base.errors import SetupError
from reader.keys import SHORT, Key
from wire.grant import LONGEST_GRANT_DAYS, AccessRequest
from wire.ids import WallInstant
from wire.text import is_plain

_DAY_NANOSECONDS: Final = 86_400 * 1_000_000_000


def new_request_id() -> str:
    """Return a name for a request that no other one has."""
    return secrets.token_hex(16)


def of_keys(
    asked: AccessRequest, out: Path, keys: Sequence[Key]
) -> Iterator[tuple[Path, AccessRequest]]:
    """Yield *asked* for each of *keys*, and its file: *out* for the first, beside it for others."""
    for number, key in enumerate(keys):
        path = out if not number else out.with_name(f"{out.stem}.{key.id[:SHORT]}{out.suffix}")
        yield (
            path,
            msgspec.structs.replace(asked, request_id=new_request_id(), recipient=key.recipient),
        )


def valid_until(now: WallInstant, days: int) -> WallInstant:
    """Return when a grant that is asked for now ends.

    Raises:
        SetupError: Not a sensible number of days.

    """
    if not 1 <= days <= LONGEST_GRANT_DAYS:
        raise SetupError(f"a grant is valid for 1 to {LONGEST_GRANT_DAYS} days")
    return WallInstant(now + days * _DAY_NANOSECONDS)


def check_request(request: AccessRequest) -> None:
    """Refuse a request that no approver could make sense of.

    Raises:
        SetupError: It asks for no day or no category, gives no reason, or not in one line.

    """
    try:
        first, last = date.fromisoformat(request.first_day), date.fromisoformat(request.last_day)
    except ValueError as exc:
        raise SetupError(f"a day is written as in 2027-03-31: {exc}") from exc
    if last < first:
        raise SetupError(f"the last day, {last}, is before the first, {first}")
    if not request.categories:
        raise SetupError("name at least one category")
    if not request.why.strip():
        raise SetupError("say why: the approvers will read it before they sign")
    if not is_plain(request.why + request.programme + request.purpose):
        raise SetupError("write one line of text only; the approvers will read it on a terminal")
