# ruff: noqa: D301 - click wants a real backspace before examples
"""`assent-agent rights batches`, `deletions` and `accesses`: what is there of you, and who saw it.

Each line is printed only once its proof holds; what has none is said on standard error, and the
command then ends with 6.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from agent import config as configuration
from agent.own import LARGEST_ANSWER_BYTES, Asker, Told
from agent.rights import read_card
from agent.telling import time_of
from agent.transport import Door
from base.clock import SystemClock, require_plausible_clock
from base.errors import RejectedError, RetryableError
from base.lines import one_line
from base.paths import paths_for
from base.process import become_undumpable
from wire.category import Category
from wire.frame import Core
from wire.ids import WallInstant
from wire.leaf import Kind
from wire.me_answers import Access, OwnAccess, OwnBatch, OwnDemand, OwnTombstone
from wire.rights import Request

_SAY_EVERY: Final = 500

KEY: Final = click.option(
    "--key",
    "file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file of your rights key.",
)
_EACH: Final = click.option("--each", is_flag=True, help="A line for each batch, with its hash.")
_JSON: Final = click.option("--json", "as_json", is_flag=True, help="A JSON object in each line.")


@contextmanager
def asker_of(file: Path) -> Iterator[Asker]:
    """Give whoever asks with the rights key in *file*.

    Raises:
        SetupError: The file cannot be used, or the clock is wrong.

    """
    become_undumpable()
    require_plausible_clock()
    card = read_card(file)
    proxy = configuration.proxy_of(configuration.load(paths_for("agent").config))
    door = Door(
        card.origin,
        card.pins,
        card.ca_pem,
        proxy=proxy,
        largest_answer_bytes=LARGEST_ANSWER_BYTES,
    )
    try:
        yield Asker(card=card, door=door, now=lambda: WallInstant(SystemClock().now().wall))
    finally:
        door.close()


@dataclass(kw_only=True)
class Count:
    """How many things were told, and how many of them do not verify."""

    asker: Asker
    told: int = 0
    unproved: int = 0

    def proved(self, told: Iterable[Told[Any, Any]]) -> Iterator[tuple[Any, Any]]:
        """Yield what verifies; say of all else that it does not, and how far it has come."""
        for each in told:
            self.told += 1
            if self.told % _SAY_EVERY == 0 and sys.stderr.isatty():
                click.echo(f"... {self.told}", err=True)
            if each.checked is None:
                self.unproved += 1
                name = getattr(each.shown, "batch_hash", b"").hex() or "a demand"
                click.echo(f"NOT PROVED: {name}: {each.why}", err=True)
            else:
                yield each.shown, each.checked

    def end(self) -> None:
        """End the command as what was found demands.

        Raises:
            RejectedError: Something did not verify.
            RetryableError: The witness has not cosigned what all of it rests on.

        """
        if self.unproved:
            raise RejectedError(
                f"{self.unproved} of {self.told} entries do not verify; do not believe them, and "
                "show this to your representatives"
            )
        if not self.asker.believed.witness:
            click.echo(
                "your file names no witness, so that only the log's own signature was checked; "
                "add the line # witness ... of the notice",
                err=True,
            )
        elif self.asker.cosigned < self.asker.heads:
            raise RetryableError(
                "NOT cosigned by the witness: the log's own signature alone was checked; "
                "the guard may be away, ask again later"
            )


# --- batches ----------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Sum:
    batches: int = 0
    bytes: int = 0
    last_day: str = ""


@click.command("batches")
@KEY
@click.argument("category", required=False, type=click.Choice([c.value for c in Category]))
@_EACH
@_JSON
def batches(file: Path, category: str | None, *, each: bool, as_json: bool) -> None:
    """List what the collector has of you.

    Of CATEGORY, or of all. A line for each day and category: how many batches, their sealed
    size, until when they are kept. Each batch is shown only if the log has it.

    \b
    Examples:
      assent-agent rights batches --key rights-key.txt
      assent-agent rights batches --key rights-key.txt screen --each
    """
    sums: dict[tuple[str, str], _Sum] = {}
    with asker_of(file) as asker:
        count = Count(asker=asker)
        for shown, core in count.proved(asker.batches()):
            if category in (None, core.category):
                _one_batch(shown, core, sums, each=each, as_json=as_json)
    for (day, of), one in sorted(sums.items()):
        until = f"kept until {one.last_day}"
        click.echo(f"{day}  {of:<9} {one.batches:>6} batches {_size(one.bytes):>10}  {until}")
    if not count.told and not as_json:
        click.echo("the collector has nothing of you")
    count.end()


def _one_batch(
    shown: OwnBatch,
    core: Core,
    sums: dict[tuple[str, str], _Sum],
    *,
    each: bool,
    as_json: bool,
) -> None:
    if as_json:
        _line(
            batch=shown.batch_hash.hex(),
            category=core.category,
            day=core.day,
            bytes=shown.bytes,
            received_at=shown.received_at,
            expires=core.expires,
            consent=core.grant.hex(),
            policy=core.policy.hex(),
            leaf=shown.leaf.index,
        )
    elif each:
        click.echo(
            f"{shown.batch_hash.hex()}  {core.day}  {core.category:<9} {_size(shown.bytes):>10}  "
            f"came {time_of(shown.received_at)}, kept until {core.expires}, leaf {shown.leaf.index}"
        )
    else:
        one = sums.setdefault((core.day, core.category), _Sum())
        one.batches += 1
        one.bytes += shown.bytes
        one.last_day = max(one.last_day, core.expires)


# --- deletions --------------------------------------------------------------------------


@click.command("deletions")
@KEY
@_EACH
@_JSON
def deletions(file: Path, *, each: bool, as_json: bool) -> None:
    """List what you demanded, and what is gone.

    Gone is what was erased, deleted by your device, or kept for as long as it may be. An erasure
    is pending until the guard's backups of its keys are gone, 7 days later.

    \b
    Examples:
      assent-agent rights deletions --key rights-key.txt
      assent-agent rights deletions --key rights-key.txt --each
    """
    gone: dict[Kind, int] = {}
    with asker_of(file) as asker:
        count = Count(asker=asker)
        for shown, checked in count.proved(asker.deletions()):
            if isinstance(shown, OwnDemand):
                _one_demand(shown, checked, asker, as_json=as_json)
            elif each or as_json:
                _one_tombstone(shown, as_json=as_json)
            else:
                gone[shown.kind] = gone.get(shown.kind, 0) + 1
    for kind, many in sorted(gone.items()):
        click.echo(f"{many:>6} batches {_ENDED[kind]}")
    if not count.told and not as_json:
        click.echo("nothing of you was erased or deleted here, and you demanded nothing")
    count.end()


_ENDED: Final = {
    Kind.DELETION: "erased, on your demand or by the guard",
    Kind.TOMBSTONE: "deleted by your device",
    Kind.EXPIRY: "gone because their last day was over",
}


def _one_demand(shown: OwnDemand, request: Request, asker: Asker, *, as_json: bool) -> None:
    word = asker.erasure_of(shown)
    days = f"{request.first_day} to {request.last_day}" if request.has_span else "all days"
    if as_json:
        _line(
            demand=request.demand,
            category=request.category,
            first_day=request.first_day,
            last_day=request.last_day,
            received_at=shown.received_at,
            erased=shown.erased,
            guard_erased_at=None if word is None else word.erased_at,
            pending_until=None if word is None else word.pending_until,
            leaf=shown.leaf.index,
        )
        return
    said = f"{request.demand} {request.category or 'everything'}, {days}"
    click.echo(f"{time_of(shown.received_at)}  {said}: {shown.erased} batches erased")
    if word is not None:
        click.echo(
            f"{'':<21}the guard erased {word.keys} keys; its backups of them are gone from "
            f"{time_of(word.pending_until)} on"
        )
    elif request.demand.value == "erase":
        click.echo(f"{'':<21}NOT confirmed by the guard yet")


def _one_tombstone(shown: OwnTombstone, *, as_json: bool) -> None:
    if as_json:
        _line(
            batch=shown.batch_hash.hex(),
            ended=_ENDED[shown.kind],
            made_at=shown.made_at,
            swept_at=shown.swept_at,
            leaf=shown.leaf.index,
        )
        return
    swept = "" if shown.swept_at is not None else ", its bytes are still to be removed"
    click.echo(
        f"{shown.batch_hash.hex()}  {_ENDED[shown.kind]}, {time_of(shown.made_at)}, "
        f"leaf {shown.leaf.index}{swept}"
    )


# --- accesses ---------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Opened:
    access: Access
    batches: int = 0
    times: list[int] = field(default_factory=list)


@click.command("accesses")
@KEY
@_EACH
@_JSON
def accesses(file: Path, *, each: bool, as_json: bool) -> None:
    """List who had batches of yours opened.

    When, what for, and who approved it. Each opening is an entry in the log that the witness
    cosigned, and is shown only if it is there, under the signatures of its approvers.

    \b
    Examples:
      assent-agent rights accesses --key rights-key.txt
      assent-agent rights accesses --key rights-key.txt --json
    """
    known: dict[bytes, _Opened] = {}
    with asker_of(file) as asker:
        count = Count(asker=asker)
        for shown, access in count.proved(asker.accesses()):
            if as_json:
                _access_line(shown, access)
                continue
            opened = known.setdefault(shown.access, _Opened(access=access))
            opened.batches += 1
            opened.times.append(shown.released_at)
            if each:
                at = f"{time_of(shown.released_at)}, leaf {shown.leaf.index}"
                click.echo(f"{shown.batch_hash.hex()}  {_reader(access)}, {at}")
        _warn_of_roots(asker, (one.access for one in known.values()))
    for opened in known.values():
        _say_opened(opened)
    if not count.told and not as_json:
        click.echo("nobody had anything of you opened")
    count.end()


def _say_opened(opened: _Opened) -> None:
    first, last = time_of(min(opened.times)), time_of(max(opened.times))
    when = first if first == last else f"{first} to {last}"
    click.echo(f"{when}  {_reader(opened.access)}: {opened.batches} batches")
    request = opened.access.request
    if request is not None:
        approvers = ", ".join(f"{_plain(n)} ({_plain(p)})" for n, p in opened.access.approvers)
        click.echo(f"  purpose    {_plain(request.purpose)}")
        click.echo(f"  why        {_plain(request.why)}")
        click.echo(f"  approved   {approvers}")


def _access_line(shown: OwnAccess, access: Access) -> None:
    request = access.request
    _line(
        batch=shown.batch_hash.hex(),
        released_at=shown.released_at,
        reader=None if request is None else request.reader,
        purpose=None if request is None else request.purpose,
        why=None if request is None else request.why,
        approved_by=[{"name": name, "party": party} for name, party in access.approvers],
        by_yourself=access.order is not None,
        root=access.root_sha256.hex(),
        leaf=shown.leaf.index,
    )


def _warn_of_roots(asker: Asker, found: Iterable[Access]) -> None:
    """Say so where approvers' keys follow from another root than the file names."""
    roots = {each.root_sha256.hex() for each in found if each.request is not None}
    if roots - {asker.card.root_sha256}:
        click.echo(
            "the approvers' keys are of policies whose root your file does not name "
            f"({', '.join(sorted(roots - {asker.card.root_sha256}))}); ask your representatives "
            "whether it is theirs",
            err=True,
        )


def _reader(access: Access) -> str:
    return "you, with your rights key" if access.request is None else _plain(access.request.reader)


def _plain(said: str) -> str:
    """Return what somebody else wrote as one line that cannot steer a terminal."""
    return one_line(said, 300)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 100_000 else f"{size_bytes / 1e3:.1f} kB"


def _line(**values: object) -> None:
    click.echo(json.dumps(values))
