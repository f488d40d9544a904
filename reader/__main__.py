# ruff: noqa: D301, FBT001 - click wants a real backspace before examples, and flags as bool
"""`assent-reader`: ask for access, fetch what was released, open it, export it."""

from contextlib import closing, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NoReturn

import click
import msgspec
from rich.console import Console
from rich.table import Table

from base.clock import NANOSECONDS, SystemClock, require_plausible_clock
from base.command import EXISTING_FILE, epilog_of, run, say, version_option
from base.durable import private_folder, replace
from base.errors import RejectedError, SetupError
from base.paths import paths_for
from base.process import become_undumpable, forbid_tracing
from reader.connect_command import connect_command
from reader.export import jsonl
from reader.fetch import Collector, Guard, Tally, fetch
from reader.keys import Key, all_keys, named, of_period
from reader.keys_command import keygen, keys_command
from reader.library import Library
from reader.opening import Fault, Opened
from reader.premises import PEERS, Premises
from reader.progress import looked_at, opening_again, progress
from reader.request import check_request, of_keys, valid_until
from reader.verify import Opener, Report
from wire.category import Category
from wire.errors import UNREADABLE, MalformedError, WireError
from wire.grant import AccessGrant, AccessRequest, decode_request, encode_request
from wire.ids import BatchHash, WallInstant
from wire.policy import Purpose

ANY_FILE = click.Path(dir_okay=False, path_type=Path)
ANY_FOLDER = click.Path(file_okay=False, path_type=Path)
JSON = click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=epilog_of("assent-reader", "reader"),
)
@version_option()
def cli() -> None:
    """Read what people agreed to share.

    Nothing opens without a release that was approved, and logged.

    \b
      assent-reader keygen --name training-team
      (the policy names the recipient; collector and guard certify reader.csr)
      assent-reader connect collector --origin ... --pin ... --ca ... --certificate ...
      assent-reader connect guard --origin ... --pin ... --ca ... --certificate ...
      assent-reader request --category keys --from 2027-03-01 --to 2027-03-31 \\
          --programme pilot --why "first training run" --out request.json
      (the approvers make grant.json of it)
      assent-reader fetch --grant grant.json
      assent-reader open
    """
    forbid_tracing()  # most commands read an identity, if only to name its key


# --- set up -------------------------------------------------------------------------------


cli.add_command(keygen)
cli.add_command(keys_command)


cli.add_command(connect_command)


# --- asking and fetching ------------------------------------------------------------------


@cli.command("request")
@click.option("--programme", required=True, help="As the policy has it.")
@click.option(
    "--purpose",
    default=Purpose.TRAIN_COMPUTER_USE.value,
    show_default=True,
    type=click.Choice([p.value for p in Purpose]),
    help="As the policy has it.",
)
@click.option(
    "--category",
    "categories",
    required=True,
    multiple=True,
    type=click.Choice([c.value for c in Category]),
    help="What to open; repeatable.",
)
@click.option("--from", "first_day", required=True, metavar="YYYY-MM-DD", help="First day (UTC).")
@click.option("--to", "last_day", required=True, metavar="YYYY-MM-DD", help="Last day, included.")
@click.option("--why", required=True, help="What for; the approvers read it before they sign.")
@click.option(
    "--days",
    "valid_days",
    default=30,
    show_default=True,
    help="How many days it is valid; 90 at most.",
)
@click.option("--key", default="", help="The key to ask for; else those of the period.")
@click.option("--out", required=True, type=ANY_FILE, help="The request, for the approvers.")
def request_command(  # noqa: PLR0913, PLR0917 - an argument is an option
    programme: str,
    purpose: str,
    categories: tuple[str, ...],
    first_day: str,
    last_day: str,
    why: str,
    valid_days: int,
    key: str,
    out: Path,
) -> None:
    """Write a request for access.

    It opens nothing until the approvers have signed it. A request is for one key; where your
    key was changed within the period, there is one more for the older key.

    \b
    Example:
      assent-reader request --programme pilot --category keys --category screen \\
          --from 2027-03-01 --to 2027-03-31 --why "first training run" --out request.json
    """
    premises = _premises()
    asked = AccessRequest(
        request_id="",
        reader=premises.settings().name,
        recipient="",
        programme=programme,
        purpose=purpose,
        categories=tuple(sorted({Category(category) for category in categories})),
        first_day=first_day,
        last_day=last_day,
        expires_at=valid_until(_now(), valid_days),
        why=" ".join(why.split()),
    )
    check_request(asked)
    for path, one in of_keys(asked, out, _keys_for(premises, key, first_day, last_day)):
        replace(path, encode_request(one), mode=0o644)
        click.echo(f"{path}  request {one.request_id}, valid until {_day(one.expires_at)}")
    click.echo(f"next: each approver runs assent-govern approve {out} ...")


@cli.command("fetch")
@click.option("--grant", "grant_file", required=True, type=EXISTING_FILE, help="Approved request.")
@JSON
def fetch_command(grant_file: Path, as_json: bool) -> None:
    """Download what the grant covers, and have it released.

    May be stopped and run again. What was recorded today comes tomorrow, unless who runs the
    collector says otherwise.

    Each batch that is released stands in the collector's log, for the people concerned to see.

    \b
    Example:
      assent-reader fetch --grant grant.json
    """
    premises = _premises()
    grant = _grant(grant_file)
    library = _library(premises)
    with (
        closing(Collector(premises)) as collector,
        closing(Guard(premises)) as guard,
        progress("frames", "releases", shown=not as_json) as told,
    ):
        tally = fetch(grant, library, collector, guard, now=_now(), progress=told)
    if as_json:
        click.echo(msgspec.json.encode(tally))
    else:
        _say_tally(tally)
    if tally.refused:
        raise RejectedError(f"refused: {_counted(tally.refused)}")


# --- opening ------------------------------------------------------------------------------


@cli.command("open")
@click.option("--joined", type=ANY_FOLDER, help="Write each as an age file for stock tools.")
@JSON
def open_command(joined: Path | None, as_json: bool) -> None:
    """Open everything that was released, in memory, and say what it is.

    With --joined each batch becomes HASH.age, the genuine age file that it is: any age
    tool that knows the post-quantum recipient opens it with identity.txt. These files need
    no guard any more, so keep them as carefully as plaintext.

    \b
    Example:
      assent-reader open
      assent-reader open --joined joined/
    """
    become_undumpable()
    opener = _opener(_premises())
    report, written = Report(), 0
    for batch, result in looked_at(opener, shown=not as_json):
        report.add(batch, result)
        if joined is not None and isinstance(result, Opened):
            body = result.checked.verified.parts.body
            replace(private_folder(joined) / f"{batch.hex()}.age", result.age_header + body)
            written += 1
    _show_report(report, as_json=as_json)
    if joined is not None and not as_json:
        click.echo(f"{joined}  {written} age files")
    _refuse_faults(report)


@cli.command("verify")
@JSON
def verify_command(as_json: bool) -> None:
    """Check every batch here, from signature to content.

    Writes nothing; says what is wrong.

    \b
    Example:
      assent-reader verify --json
    """
    become_undumpable()
    report = Report()
    for batch, result in looked_at(_opener(_premises()), shown=not as_json):
        report.add(batch, result)
    _show_report(report, as_json=as_json)
    _refuse_faults(report)
    if report.opened and not as_json:
        click.echo("verified: each batch names a consent that covers it, and was released to us")


@cli.command("export")
@click.option("--out", required=True, type=ANY_FOLDER, help="A new folder.")
@JSON
def export_command(out: Path, as_json: bool) -> None:
    """Write all that was released as PLAINTEXT: JSON Lines, PNG.

    A batch that is refused is left out; the exit code is 6 then.

    \b
    Example:
      assent-reader export --out export-2027-03/
    """
    become_undumpable()
    premises = _premises()
    opener = _opener(premises)
    report, batches = Report(), list[BatchHash]()
    for batch, result in looked_at(opener, shown=not as_json):
        report.add(batch, result)
        if isinstance(result, Opened):
            batches.append(batch)
    if not batches:
        _refuse_faults(report)
        raise SetupError("nothing is released here yet; run assent-reader fetch first")
    # Each is opened once to see what there is, and once to write it down.
    with opening_again(opener, 2 * len(batches), shown=not as_json) as again:
        exported = jsonl.export(batches, again, out, _now())
    if as_json:
        click.echo(msgspec.json.encode(exported))
        _refuse_faults(report)
        return
    click.echo(
        f"{out}  {exported.events} events of {exported.batches} batches, "
        f"{exported.pictures} pictures, {exported.bytes} bytes"
    )
    if waiting := len(report.faults.get(Fault.NOT_RELEASED, ())):
        click.echo(f"left out: {waiting} that wait for release; run assent-reader fetch again")
    click.echo(
        "PLAINTEXT of people's work lies there now. PLAINTEXT.txt says what that asks of you."
    )
    _refuse_faults(report)


@cli.command()
@JSON
def status(as_json: bool) -> None:
    """Say who this reader is and what is here; opens nothing.

    \b
    Example:
      assent-reader status
    """
    premises = _premises()
    name = premises.settings().name
    library = _library(premises)
    frames = list(library.batches())
    doors = {peer: premises.door(peer).origin for peer in PEERS if _knows(premises, peer)}
    facts = {
        "name": name,
        "recipient": premises.recipient(),
        "frames": len(frames),
        "released": sum(library.has_release(batch) for batch in frames),
        **doors,
    }
    if as_json:
        click.echo(msgspec.json.encode(facts))
        return
    facts["recipient"] = str(premises.recipient_file)  # the key itself fills a screen
    for peer in PEERS:
        facts.setdefault(peer, "none yet: run assent-reader connect")
    for key, value in facts.items():
        say(f"{key:10} {value}")


# --- small parts --------------------------------------------------------------------------


def _premises() -> Premises:
    return Premises(paths_for("reader"))


def _library(premises: Premises) -> Library:
    premises.settings()  # says what to do where nothing is set up yet
    return Library(premises.paths.make().state)


def _opener(premises: Premises) -> Opener:
    library = _library(premises)
    newest, *older = (key.identity for key in all_keys(premises))
    return Opener(library=library, identity=newest, older=tuple(older), today=_today())


def _keys_for(premises: Premises, key: str, first_day: str, last_day: str) -> tuple[Key, ...]:
    """Return the key that was asked for, or those of the period; then the newest at least."""
    every = all_keys(premises)
    return (named(every, key),) if key else of_period(every, first_day, last_day) or every[:1]


def _knows(premises: Premises, peer: str) -> bool:
    return (premises.peer(peer) / "door.toml").exists()


def _grant(path: Path) -> AccessGrant:
    try:
        grant = msgspec.json.decode(path.read_bytes(), type=AccessGrant)
    except UNREADABLE as exc:
        with suppress(MalformedError):
            decode_request(path.read_bytes())
            raise RejectedError(
                f"{path} is a request that nobody has approved; each approver runs assent-govern "
                "approve, and the grant is what they give you"
            ) from exc
        raise MalformedError(f"{path}: not an approved grant: {exc}") from exc
    decode_request(grant.request)
    return grant


def _say_tally(tally: Tally) -> None:
    click.echo(f"{tally.listed} batches listed, {tally.fetched} fetched ({tally.bytes} bytes)")
    click.echo(f"{tally.released} released now, {tally.here_already} before")
    if not tally.listed:
        click.echo("Nothing of it is there, or not yet: what was recorded today comes tomorrow.")
    if tally.erased:
        click.echo(f"{tally.erased} erased meanwhile")
    if tally.other_key:
        click.echo(f"{tally.other_key} sealed to another key: ask with that one (request --key)")


def _show_report(report: Report, *, as_json: bool) -> None:
    if as_json:
        click.echo(
            msgspec.json.encode(
                {
                    "opened": report.opened,
                    "data_subjects": len(report.subjects),
                    "faults": report.faults,
                }
            )
        )
        return
    if not report.opened and not report.faults:
        click.echo("Nothing is here yet; run assent-reader fetch --grant GRANT.")
        return
    table = Table("category", "batches", "events", "bytes", "from (UTC)", "to (UTC)")
    for category, total in sorted(report.opened.items()):
        numbers = (str(total.batches), str(total.events), str(total.bytes))
        table.add_row(category, *numbers, _time(total.first), _time(total.last))
    Console().print(table)
    click.echo(f"data subjects: {len(report.subjects)}")
    for fault, names in sorted(report.faults.items()):
        said = "waiting for release" if fault is Fault.NOT_RELEASED else f"REFUSED, {fault}"
        say(f"{said}: {len(names)} (first {names[0][:16]})")


def _refuse_faults(report: Report) -> None:
    if report.refused:
        counted = {
            fault.value: len(names)
            for fault, names in report.faults.items()
            if fault is not Fault.NOT_RELEASED
        }
        raise RejectedError(f"{report.refused} batches are refused: {_counted(counted)}")


def _counted(reasons: dict[str, int]) -> str:
    return ", ".join(f"{why} {count}" for why, count in sorted(reasons.items()))


def _now() -> WallInstant:
    require_plausible_clock()  # by another, everything that is here would be expired, or nothing
    return WallInstant(SystemClock().now().wall)


def _today() -> date:
    return datetime.fromtimestamp(_now() // NANOSECONDS, UTC).date()


def _day(at: int) -> str:
    return f"{datetime.fromtimestamp(at // NANOSECONDS, UTC):%Y-%m-%d}"


def _time(at: int | None) -> str:
    if at is None:
        return ""
    return f"{datetime.fromtimestamp(at // NANOSECONDS, UTC):%Y-%m-%d %H:%M}"


def main() -> NoReturn:
    """Run the command line."""
    run(cli, "assent-reader", refusals=(WireError,))


if __name__ == "__main__":
    main()
