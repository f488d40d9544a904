"""`make demo`: the whole path of an event in one minute, on a desktop that nobody sits at.

A throw-away organisation with all its parties, a workstation with a scripted data subject,
half a minute of work with a pause in it, and everything up to the reader's export.  The
desktop is always a virtual one, so that nothing of yours is recorded by trying it out.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from base.errors import AssentError, ExitCode
from demo.organisation import Organisation, Plan
from demo.story import SECRET, Facts, tell
from demo.workstation import Workstation

WIDTH: Final = 120  # where no terminal says how wide it is
PLAN: Final = Plan(
    levels={"keys": "text"},
    rates={"keys": 500.0, "pointer": 500.0, "screen": 2.0},
    hold_seconds=2,
    test_only=True,
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where everything goes, new or empty; below the temporary folder when left out.",
)
def main(folder: Path | None) -> None:
    """Show the whole path of an event: consent, capture, pause, release, export.

    Takes about a minute, needs no display, and leaves its folder for you to look at.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    place = folder or Path(tempfile.mkdtemp(prefix="assent-demo-"))
    if place.is_dir() and any(place.iterdir()):
        click.echo(f"assent-demo: {place} is not empty; name a new folder", err=True)
        sys.exit(ExitCode.SETUP)
    try:
        facts = run(place.absolute(), console)
    except AssentError as exc:
        console.print(f"assent-demo: {exc}", style="bold red", markup=False)
        console.print(f"What the programs said is below {place}", markup=False)
        sys.exit(exc.exit_code)
    show(facts, place, console)
    troubles = facts.troubles()
    for trouble in troubles:
        console.print(f"assent-demo: {trouble}", style="bold red", markup=False)
    sys.exit(1 if troubles else 0)


def run(folder: Path, console: Console) -> Facts:
    """Found the organisation, set up the workstation and live the story."""
    started = time.monotonic()

    def say(step: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:5.1f} s[/dim]  {step}")

    def note(outcome: str) -> None:
        console.print(f"         [green]{outcome}[/green]")

    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    say("An organisation is founded: keys, policy signed by both parties, collector, guard")
    with Organisation(folder / "organisation", PLAN) as organisation:
        say("A workstation starts: virtual desktop, agent, sensors, tray")
        enrolment = organisation.enrolment_file("workstation")
        with Workstation(folder / "workstation", enrolment) as station:
            return tell(organisation, station, pictures, say, note)


def show(facts: Facts, folder: Path, console: Console) -> None:
    """Print the tables, and where to look."""
    events = Table(title="Events", title_justify="left")
    events.add_column("kind")
    for heading in ("injected while recording", "injected while paused", "captured"):
        events.add_column(heading, justify="right")
    for kind in ("keys", "buttons", "scrolls", "moves", "windows", "frames"):
        recording, paused = facts.injected[kind], facts.injected_paused[kind]
        by_desktop = kind in ("windows", "frames")
        events.add_row(
            kind,
            "-" if by_desktop else str(recording),
            "-" if by_desktop else str(paused),
            str(facts.captured[kind]),
        )
    console.print()
    console.print(events)
    console.print(
        "Moves are thinned out as the policy says; a person's clicks on tray and windows add."
    )
    console.print()
    path = Table(title="Path", title_justify="left", show_header=False)
    path.add_row("sealed batches", f"{facts.batches}, {facts.sealed_bytes:,} bytes")
    path.add_row(
        "last event to its receipt",
        f"{facts.seconds_to_receipt:.1f} s, of which {PLAN.hold_seconds} s hold",
    )
    path.add_row("typed while recording, then opened", "\n".join(facts.recorded_texts()))
    path.add_row("typed while paused", SECRET)
    memory = f"the memory of {facts.searched_processes} processes"
    path.add_row(
        "search for it",
        f"{len(facts.hits)} found in {facts.searched_files} files "
        f"({facts.searched_bytes / 1e6:.1f} MB) and "
        + (memory if facts.searched_processes else "no memory: only root may read it"),
    )
    path.add_row(
        "planted controls", f"{len(facts.planted & facts.controls)} of {len(facts.planted)} found"
    )
    console.print(path)
    console.print("\nWhere to look")
    places = {
        "screenshots of consent, menu, resume": folder / "pictures",
        "what the reader exported (plaintext)": facts.export,
        "age files for stock age tools": facts.joined,
        "what the collector has (sealed)": folder / "organisation/collector/state",
        "policy and who signed it": folder / "organisation/policy",
        "the agent's state": folder / "workstation/agent/state",
    }
    for what, where in places.items():
        console.print(f"  {what:<38} {where}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
