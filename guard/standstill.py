# ruff: noqa: D301 - click wants a real backspace before examples
"""`assent-guard halt`, `stop` and `go-on`: everybody stands still, or goes on after a stop."""

from pathlib import Path
from typing import Final

import click

from base.clock import SystemClock
from base.command import EXISTING_FILE
from base.errors import SetupError
from guard.halt import Halts
from guard.premises import our_premises
from guard.trust import load
from wire.halting import LONGEST_WHY, decode_halt, verify_halt
from wire.ids import WallInstant
from wire.policy import policy_digest


@click.command("halt")
@click.argument("why", required=False)
@click.option("--statement", type=EXISTING_FILE, help="A halt that a party signed, without WHY.")
def halt_command(why: str | None, statement: Path | None) -> None:
    """Halt the programme for everybody, until a new policy.

    WHY is one line that says what for. The collector hears it within seconds, and agents close.
    No key is handed out, nothing is released; erasures go on. Only a new policy, signed by all
    parties and taken with `assent-guard trust`, lifts it.

    \b
    Example:
      assent-guard halt "the dashboards show more than was agreed"
      assent-guard halt --statement halt.json   (made by `assent-govern halt`)
    """
    if (why is None) == (statement is None):
        raise click.UsageError("say why in one line, or give a party's --statement")
    premises = our_premises()
    premises.check_lock()
    by, installed = f"the guard {premises.config().name}", load(premises.policy_file)
    if statement is not None:
        if installed is None:
            raise SetupError("no policy is installed, so there is nothing to halt")
        digest = policy_digest(installed.policy)
        said, by = verify_halt(decode_halt(statement.read_bytes()), installed.root, digest)
        why = said.why
    changed = Halts(premises.halt_file).call(installed, _one_line(why or ""), by, _now())
    done = f"The programme is halted, said by {by}. Only a new policy lifts that."
    click.echo(done if changed else "Nothing changed; it was so already.")


@click.command()
@click.argument("why")
def stop(why: str) -> None:
    """Stop everybody for as long as something is amiss.

    WHY is one line that says what for. As a halt, but over as soon as you say
    `assent-guard go-on`: agents open again by themselves, nobody is asked anew.

    \b
    Example:
      assent-guard stop "the log's last entries are being looked at"
    """
    premises = our_premises()
    premises.check_lock()
    changed = Halts(premises.halt_file).stop(_one_line(why), _now())
    click.echo("The programme stands still." if changed else "It was stopped already.")


@click.command("go-on")
def go_on() -> None:
    """End what `assent-guard stop` began; a halt stays.

    \b
    Example:
      assent-guard go-on
    """
    premises = our_premises()
    premises.check_lock()
    halts = Halts(premises.halt_file)
    click.echo("The stop is over." if halts.go_on() else "Nobody had stopped it here.")
    left = halts.state(load(premises.policy_file))
    if left.halted:
        click.echo(f"It is still halted: {left.why} (said by {left.by})")


COMMANDS: Final = (halt_command, stop, go_on)


def _now() -> WallInstant:
    return WallInstant(SystemClock().now().wall)


def _one_line(why: str) -> str:
    return " ".join(why.split())[:LONGEST_WHY]
