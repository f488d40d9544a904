"""`assent-agent`: runs the agent, shows what it does, and restricts it.

Nothing here can start capture: granting, opting in and resuming take a click in the tray.
"""

import asyncio
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from agent import config as configuration
from agent import control, doctor, enroll, erasures, offline
from agent.bundle import write as write_bundle
from agent.commands import MOST_MINUTES
from agent.config_shown import show_config
from agent.consent.policy import load as load_policy
from agent.installation import Installation, begin_anew, run_until_replaced
from agent.offline import Restriction
from agent.receipts_shown import show_receipts
from agent.rights import rights_card
from agent.rights_commands import rights
from agent.service import Service
from agent.telling import show, time_of
from agent.transport import Door
from base import durable
from base.clock import SystemClock
from base.command import a_day, epilog_of, version_option
from base.command import run as run_command
from base.errors import AssentError, ConsentError, ExitCode, RetryableError, SetupError
from base.logs import start_logging
from base.paths import Paths, paths_for
from base.process import become_undumpable
from wire.category import Category
from wire.control import (
    Answer,
    Done,
    Erase,
    Forget,
    GetStatus,
    OptOut,
    Pause,
    Refused,
    Silent,
    Status,
    Withdraw,
)
from wire.errors import WireError

CATEGORIES: Final = click.Choice([category.value for category in Category])
as_json = click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=epilog_of("assent-agent", "agent"),
)
@version_option()
def agent() -> None:
    """Records your work only while you agree, and shows and stops it at any time.

    Commands can only restrict.  To agree, opt in or resume, use the menu of the tray icon.

    \b
    Examples:
      assent-agent status              what is recorded right now, or why nothing is
      assent-agent pause --forget 5    silence for 30 minutes, and the last 5 forgotten
      assent-agent opt-out screen      never record the screen again
      assent-agent doctor              what keeps it from working here, and how to mend it
    """  # noqa: D301 - click's mark


# --- running ----------------------------------------------------------------------------


@agent.command("run")
@click.option("--verbose", is_flag=True, help="Log decisions too (never what was captured).")
def run_agent(*, verbose: bool) -> None:
    """Run the agent in this desktop session.

    It ends when it is stopped or you choose Quit. What it did (never what was captured, never
    who) stands in agent.log, 1 MiB and four older ones, in the folder that
    `assent-agent config` and `assent-agent doctor` name.

    \b
    Example:
      assent-agent run --verbose
    """  # noqa: D301 - click's mark
    become_undumpable()
    paths = paths_for("agent").make()
    settings = configuration.load(paths.config)
    start_logging(doctor.PROGRAM, paths.logs, verbose=verbose or settings.log_level == "debug")
    device = enroll.load_device(paths.state, configuration.proxy_of(settings))
    desktop = doctor.display(os.environ)
    if desktop.blocks and not doctor.is_wayland(os.environ):  # there the icon can say why
        raise SetupError(f"{desktop.what}: {desktop.mend}")
    if asyncio.run(_run(paths, settings, device)):
        begin_anew()


async def _run(paths: Paths, settings: configuration.Config, device: enroll.Device) -> bool:
    service = Service(paths, settings, device)
    service.decisions.write_where_asked(os.environ)
    return await run_until_replaced(service, Installation())


@agent.command("enroll")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--rights-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write your rights key to this file, for you alone, instead of showing it.",
)
def enroll_device(file: Path, rights_key: Path | None) -> None:
    """Make this device one of the programme that FILE comes from.

    Nothing is recorded by that: you are asked first, in a window of the tray. A device that was
    away for too long enrols again with a new FILE, and keeps what it has.

    \b
    Example:
      assent-agent enroll ~/Downloads/assent-enrolment.json --rights-key ~/rights.key
    """  # noqa: D301 - click's mark
    become_undumpable()
    paths = paths_for("agent").make()
    now = SystemClock().now()
    if rights_key is not None and rights_key.exists():
        raise click.UsageError(f"{rights_key} exists; choose a file that does not")

    wanted = enroll.read_file(file, now)

    def keep(identity: str) -> None:
        if enroll.is_in_memory(paths.runtime):
            durable.replace(paths.runtime / enroll.IDENTITY, identity.encode("ascii") + b"\n")
        card = rights_card(identity, wanted, load_policy(paths.state, now).policy)
        if rights_key is None:
            click.echo("Your rights key follows.  It is shown only now: print it or keep it safe.")
            click.echo(
                "With it you read, get back and erase what was recorded, without this device."
            )
            click.echo(card, nl=False)
            return
        durable.replace(rights_key, card.encode("ascii"))
        click.echo(f"Your rights key is in {rights_key}; keep it somewhere safe, not only here.")

    proxy = configuration.proxy_of(configuration.load(paths.config))
    open_door = functools.partial(Door, proxy=proxy)
    if (paths.state / enroll.ENROLMENT).exists():
        if rights_key is not None:
            raise SetupError(
                "this device has a rights key already, which stays as it is; "
                "to enrol it again, leave out --rights-key"
            )
        enroll.enroll_again(wanted, paths.state, now, open_door)
        click.echo("This device is enrolled again.  What you agreed to and what waits is kept.")
        click.echo("next: assent-agent run (if it runs already, stop it first)")
        return
    enroll.enroll(wanted, paths.state, now, open_door, keep)
    click.echo("This device is enrolled.  Nothing is recorded until you agree in the tray.")
    click.echo("next: assent-agent run")


# --- looking ----------------------------------------------------------------------------


@agent.command("status")
@as_json
def show_status(*, as_json: bool) -> None:
    """Say what is recorded right now, or why nothing is.

    And what was kept, dropped and sent, and what waits. Ends with 5 when no agent runs.

    \b
    Example:
      assent-agent status --json
    """  # noqa: D301 - click's mark
    answer = control.ask(paths_for("agent").runtime, GetStatus())
    if answer is None:
        if as_json:
            _print({"running": False})
        raise RetryableError(
            "the agent is not running, so nothing is recorded; start it with `assent-agent run`"
        )
    if not isinstance(answer, Status):
        raise AssentError("the agent gave an answer to another question; restart it")
    if as_json:
        _print({"running": True, **msgspec.to_builtins(answer)})
    else:
        show(answer)


agent.add_command(show_receipts)


agent.add_command(show_config)


@agent.command("doctor")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write a .tar.gz to hand to who helps you.",
)
@as_json
def examine(*, bundle: Path | None, as_json: bool) -> None:
    """Find what keeps it from recording here, and say how to mend it.

    Ends with 3 if something is out of order; your own decisions (a pause, an opt-out) are told
    and are not. It also says where the log lies.

    The bundle holds findings, versions, settings, counts and the last lines of the log: plain
    text, without anything that was recorded, without keys, names or this computer's name.

    \b
    Example:
      assent-agent doctor --bundle assent-doctor.tar.gz
    """  # noqa: D301 - click's mark
    if bundle is not None and bundle.exists():
        raise click.UsageError(f"{bundle} exists; choose a file that does not")
    paths, clock = paths_for("agent"), SystemClock()
    findings = asyncio.run(doctor.examine(paths, clock, os.environ))
    if as_json:
        _print([msgspec.to_builtins(finding) for finding in findings])
    else:
        for finding in findings:
            click.echo(f"{finding.mark:<8} {finding.name}: {finding.what}")
            if finding.mend:
                click.echo(f"         {finding.mend}")
    if bundle is not None:
        inside = write_bundle(bundle, doctor.PROGRAM, findings, paths, clock, os.environ)
        click.echo(
            f"{bundle}  {', '.join(inside)}; look through it before you hand it on", err=True
        )
    if any(finding.blocks for finding in findings):
        raise click.exceptions.Exit(ExitCode.SETUP)


# --- restricting ------------------------------------------------------------------------


@agent.command("pause")
@click.option(
    "--forget",
    type=click.IntRange(0, MOST_MINUTES),
    default=0,
    metavar="MINUTES",
    help="Forget the last minutes too; a week of them at most.",
)
@as_json
def pause(*, forget: int, as_json: bool) -> None:
    """Stop recording for 30 minutes; then a notice asks how to go on.

    \b
    Example:
      assent-agent pause --forget 5
    """  # noqa: D301 - click's mark
    _restrict(Pause(forget_minutes=forget), as_json=as_json)


@agent.command("opt-out")
@click.argument("category", type=CATEGORIES, required=False)
@click.option("--all", "everything", is_flag=True, help="All categories, instead of one.")
@as_json
def opt_out(*, category: str | None, everything: bool, as_json: bool) -> None:
    """Never record CATEGORY.

    What of it is still on this machine is deleted. Opting in again takes a click in the tray.

    \b
    Example:
      assent-agent opt-out screen
      assent-agent opt-out --all
    """  # noqa: D301 - click's mark
    _restrict(OptOut(category=_category(category, everything=everything)), as_json=as_json)


@agent.command("withdraw")
@click.argument("category", type=CATEGORIES, required=False)
@click.option("--all", "everything", is_flag=True, help="All categories, instead of one.")
@click.option("--erase", is_flag=True, help="Also ask for the deletion of what was sent.")
@as_json
def withdraw(*, category: str | None, everything: bool, erase: bool, as_json: bool) -> None:
    """Take back your consent for CATEGORY.

    What of it is still on this machine is deleted. Agreeing again takes a click in the tray.

    \b
    Example:
      assent-agent withdraw screen
      assent-agent withdraw --all --erase
    """  # noqa: D301 - click's mark
    chosen = _category(category, everything=everything)
    _restrict(Withdraw(category=chosen, erase=erase), as_json=as_json)


@agent.command("forget")
@click.argument("minutes", type=click.IntRange(1, MOST_MINUTES))
@as_json
def forget(*, minutes: int, as_json: bool) -> None:
    """Delete what was recorded in the last MINUTES.

    What is still on this machine is gone at once; what was on its way is asked back. MINUTES is at
    most 10080, a week.

    \b
    Example:
      assent-agent forget 15
    """  # noqa: D301 - click's mark
    _restrict(Forget(minutes=minutes), as_json=as_json)


@agent.command("erase")
@click.option(
    "--from",
    "first",
    required=True,
    callback=a_day,
    metavar="DAY",
    help="First day, as in 2027-03-15.",
)
@click.option(
    "--to",
    "last",
    required=True,
    callback=a_day,
    metavar="DAY",
    help="Last day, before today; in UTC, both count.",
)
@click.argument("category", type=CATEGORIES, required=False)
@as_json
def erase(*, first: str, last: str, category: str | None, as_json: bool) -> None:
    """Erase what was recorded on past days.

    Of CATEGORY or of all, here and at the collector; your consent stays. What nobody has
    confirmed yet is listed by `assent-agent erasures`.

    \b
    Example:
      assent-agent erase --from 2027-03-01 --to 2027-03-05 screen
    """  # noqa: D301 - click's mark
    chosen = None if category is None else Category(category)
    _restrict(Erase(first_day=first, last_day=last, category=chosen), as_json=as_json)


@agent.command("erasures")
@as_json
def show_erasures(*, as_json: bool) -> None:
    """List what was asked to be erased, and who has confirmed it.

    An erasure is confirmed when the collector's log has it and the guard has signed that its
    keys are gone; it is pending until the guard's backups of them are gone too (7 days).

    \b
    Example:
      assent-agent erasures --json
    """  # noqa: D301 - click's mark
    now, found = SystemClock().now().wall, erasures.look(paths_for("agent").state)
    if as_json:
        _print([{"outstanding": a.is_outstanding, "says": a.words(now)} for a in found])
        return
    for asked in found:
        click.echo(asked.words(now))
    if not found:
        click.echo("nothing was asked to be erased")


def _category(category: str | None, *, everything: bool) -> Category | None:
    if (category is None) is not everything:
        raise click.UsageError("name one category, or say --all")
    return None if category is None else Category(category)


def _restrict(command: Restriction, *, as_json: bool) -> None:
    paths = paths_for("agent").make()
    answer = control.ask(paths.runtime, command)
    if answer is None:
        become_undumpable()
        answer = offline.restrict(paths, command, SystemClock())
    _report(command, answer, as_json=as_json)


def _of(command: Restriction) -> str:
    match command:
        case OptOut(category=Category() as category) | Withdraw(category=Category() as category):
            return f"of {category} "
        case _:
            return ""


def _report(command: Restriction, answer: Answer, *, as_json: bool) -> None:
    match answer:
        case Refused(why=why):
            raise AssentError(why)
        case Silent(at=at, wall=wall):
            text = f"silent since {time_of(wall)}: nothing {_of(command)}later exists anywhere"
            facts: dict[str, Any] = {"silent": True, "at": at, "wall": wall}
        case Done(detail=detail):
            text, facts = detail, {"done": detail}
        case _:
            raise AssentError("the agent gave an answer to another question; restart it")
    if as_json:
        _print(facts)
    else:
        click.echo(text)


agent.add_command(rights)

# --- what only a click can do -----------------------------------------------------------


def _refuse(name: str, what: str) -> Callable[[], None]:
    # Whatever stands behind it on the line, the answer is this one.
    anything = {"ignore_unknown_options": True, "allow_extra_args": True}

    said = f"{what}: only in the tray's own window.\n\nNo command can; this one ends with 4."

    @agent.command(name, help=said, context_settings=anything)
    def refuse() -> None:
        raise ConsentError(control.ONLY_IN_THE_TRAY)

    return refuse


for _name, _what in (
    ("grant", "Agree to a category"),
    ("opt-in", "Lower an opt-out flag"),
    ("resume", "Resume after a pause"),
):
    _refuse(_name, _what)


def _print(facts: object) -> None:
    click.echo(json.dumps(facts, indent=2, default=str))


def main() -> None:
    """Run the command line and end the process."""
    run_command(agent, "assent-agent", refusals=(WireError,))


if __name__ == "__main__":
    main()
