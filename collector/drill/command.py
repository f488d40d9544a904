# ruff: noqa: D301, FBT001 - click wants a real backspace before examples, and flags as bool
"""`assent-collector drill`: attack the running server now, and say what came of it."""

from contextlib import closing
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import Progress

from base import durable
from base.clock import NANOSECONDS, SystemClock, require_plausible_clock
from base.errors import AssentError, ExitCode, SetupError
from collector import policies
from collector.assembly import Collector
from collector.drill.doors import of_the_server
from collector.drill.grants import to_be_approved
from collector.drill.records import Kind, Outcome
from collector.drill.run import Drill, drill
from collector.index.opening import opened_index
from collector.premises import Premises, our_premises
from wire.grant import encode_request
from wire.ids import WallInstant


class DrillFailedError(AssentError):
    """Something was answered that must be refused, or could not be tried."""

    exit_code = ExitCode.FAILED


@click.command("drill")
@click.option("--all", "everything", is_flag=True, help="Ask for every batch, not a sample.")
@click.option("--sample", type=click.IntRange(1, 100_000), help="Batches to draw at random.")
@click.option(
    "--request",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Drill nothing; write a request that approvers sign for drills.",
)
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
def drill_command(
    everything: bool, sample: int | None, request: Path | None, as_json: bool
) -> None:
    """Try everything that must be refused.

    It attacks the running server over TLS, in every role that must not have something:
    nobody, another device, a device that reads, a reader without a grant or with one that
    is over, the guard; and it looks at files and index as a thief of them would. One answer,
    or one thing that could not be tried, stops the programme for everybody. The server does
    the same by itself, hourly. When something was mended, a drill that passes and
    `assent-collector go-on` lift the stop.

    \b
    Example:
      assent-collector drill
      assent-collector drill --all
      assent-collector drill --request drill-request.json
    """
    premises = our_premises()
    require_plausible_clock()
    if request is not None:
        _write_request(premises, request)
        return
    outcome = _held(premises, everything=everything, sample=sample)
    if as_json:
        click.echo(msgspec.json.encode(outcome))
    else:
        _say(outcome)
    if not outcome.passed:
        found = outcome.holes[0] if outcome.holes else "nothing could be tried"
        raise DrillFailedError(
            f"a drill failed: {found}; the programme stands still until it is mended, a drill "
            "has passed, and you said assent-collector go-on"
        )


def _held(premises: Premises, *, everything: bool, sample: int | None) -> Outcome:
    config = premises.config()
    listening = of_the_server(premises)
    console = Console(stderr=True)
    with (
        closing(Collector.beside(premises)) as collector,
        Progress(console=console, disable=not console.is_terminal, transient=True) as bars,
    ):
        task = bars.add_task("batches", total=None)
        return drill(
            Drill(
                collector=collector,
                premises=premises,
                listening=listening,
                kind=Kind.ALL if everything else Kind.SAMPLE,
                sample=sample or config.drills.sample,
                progress=lambda done: bars.update(task, completed=done),
            )
        )


def _say(outcome: Outcome) -> None:
    seconds = (outcome.ended_at - outcome.began_at) / NANOSECONDS
    said = "passed" if outcome.passed else "FAILED"
    click.echo(f"{said}: {outcome.probes} probes of {outcome.objects} batches in {seconds:.1f} s")
    for line in outcome.left_out:
        click.echo(f"left out: {line}")
    for line in outcome.holes:
        click.echo(f"hole: {line}")


def _write_request(premises: Premises, out: Path) -> None:
    with opened_index(premises) as index, index.reading() as connection:
        current = policies.latest(connection)
    if current is None:
        raise SetupError("no policy is in force; run assent-collector publish first")
    asked = to_be_approved(current.policy, WallInstant(SystemClock().now().wall))
    durable.replace(out, encode_request(asked))
    folder = premises.paths.config / "drill"
    click.echo(f"{out}  for days of nothing: whoever has it, once approved, opens nothing")
    click.echo(f"next: the approvers run assent-govern approve; then put the grant into {folder}/")
