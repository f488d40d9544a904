# ruff: noqa: D301 - click wants a real backspace before examples
"""The commands that make the programme stand still, or go on after a stop."""

from pathlib import Path
from typing import Final

import click

from base.clock import SystemClock
from base.command import EXISTING_FILE
from base.errors import SetupError
from collector import halt, policies
from collector.drill import records
from collector.index.opening import opened_index
from collector.premises import our_premises
from wire.halting import LONGEST_WHY, decode_halt, verify_halt
from wire.ids import WallInstant


@click.command("halt")
@click.argument("why", required=False)
@click.option("--statement", type=EXISTING_FILE, help="A halt that a party signed, without WHY.")
def halt_command(why: str | None, statement: Path | None) -> None:
    """Halt the programme for everybody, until a new policy.

    WHY is one line that says what for. Agents close within seconds; uploads and releases are
    refused, deletions go on. A halt is lifted only by publishing a policy with a higher version,
    signed by all parties; then every data subject is asked anew. What is over by itself is a stop.

    \b
    Example:
      assent-collector halt "the works council asked for it"
      assent-collector halt --statement halt.json   (made by `assent-govern halt`)
    """
    if (why is None) == (statement is None):
        raise click.UsageError("say why in one line, or give a party's --statement")
    by = halt.OURS
    with opened_index(our_premises()) as index, index.writing() as connection:
        if statement is not None:
            current = policies.latest(connection)
            if current is None:
                raise SetupError("no policy is in force, so there is nothing to halt")
            signed = decode_halt(statement.read_bytes())
            said, by = verify_halt(signed, current.root, current.digest)
            why = said.why
        changed = halt.call_halt(connection, _line(why or ""), _now(), by)
    done = f"The programme is halted, said by {by}. Only a new policy lifts that."
    click.echo(done if changed else "Nothing changed; it was so already.")


@click.command()
@click.argument("why")
def stop(why: str) -> None:
    """Stop everybody for as long as something is amiss.

    WHY is one line that says what for. As a halt, but over as soon as somebody says
    `assent-collector go-on`: agents open again by themselves, nobody is asked anew. The collector
    stops by itself when the guard has not answered for two minutes, and goes on with the guard's
    next answer.

    \b
    Example:
      assent-collector stop "the store is moved to another disk"
    """
    with opened_index(our_premises()) as index, index.writing() as connection:
        changed = halt.call_stop(connection, _line(why), _now(), halt.Cause.CALLED)
    click.echo("The programme stands still." if changed else "It was stopped already.")


@click.command("go-on")
def go_on() -> None:
    """End a stop that you called, or a drill; a halt stays.

    That of a drill only if one has passed since: mend what it found, then run
    `assent-collector drill`.

    \b
    Example:
      assent-collector go-on
    """
    with opened_index(our_premises()) as index, index.writing() as connection:
        changed = halt.go_on(connection, _now(), halt.Cause.CALLED)
        drilled = records.go_on(connection, _now())
        left = halt.state(connection)
    if drilled is False and not changed:
        raise SetupError(
            "a drill has failed, and none has passed since: mend what it found, run "
            "assent-collector drill, then go-on again"
        )
    over = changed or drilled
    click.echo("The stop is over." if over else "Nobody had stopped it by command.")
    if left.halted or left.stopped:
        click.echo(f"It still stands still: {left.why or left.stopped}")


COMMANDS: Final = (halt_command, stop, go_on)


def _now() -> WallInstant:
    return WallInstant(SystemClock().now().wall)


def _line(why: str) -> str:
    return " ".join(why.replace("\0", " ").split())[:LONGEST_WHY]
