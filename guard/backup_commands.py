# ruff: noqa: D301, FBT001 - click wants a real backspace before examples, and flags as bool
"""`assent-guard backup` and `restore`: a copy of the second lock, and the way back."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from base.clock import NANOSECONDS, SystemClock, require_plausible_clock
from base.command import EXISTING_FILE
from base.stored import require_kept
from guard.backup import BACKUP_DAYS, back_up, restore
from guard.premises import our_premises
from wire.ids import WallInstant


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(file: Path) -> None:
    """Copy the keys to FILE.

    The guard may run meanwhile. The copy is as good as the second lock: keep it on an encrypted
    medium, apart from everything else, and destroy it after a week. It cannot be restored then.

    \b
    Example:
      assent-guard backup /media/safe/keys-2027-03-01
    """
    premises = our_premises()
    premises.check_lock()
    require_plausible_clock()
    require_kept(premises.keys_file)
    now = SystemClock().now().wall
    back_up(premises.keys_file, file, WallInstant(now))
    until = datetime.fromtimestamp(now / NANOSECONDS, UTC) + timedelta(days=BACKUP_DAYS)
    click.echo(f"{file}  can be restored until {until:%Y-%m-%d %H:%M} UTC; destroy it then")


@click.command("restore")
@click.argument("file", type=EXISTING_FILE)
@click.option(
    "--erasures-lost",
    is_flag=True,
    help="keys.erased is lost: what was erased since the copy will open again.",
)
def restore_command(file: Path, erasures_lost: bool) -> None:
    """Put a copy of lost keys back.

    FILE is what `assent-guard backup` wrote, less than a week old; the guard must not run. What was
    erased since the copy was made is erased again, as long as keys.erased is there. Move damaged
    keys away first: those that are there are never replaced.

    \b
    Example:
      assent-guard restore /media/safe/keys-2027-03-01
    """
    premises = our_premises()
    premises.check_lock()
    require_plausible_clock()
    now = WallInstant(SystemClock().now().wall)
    with premises.alone():
        made_at = restore(file, premises.keys_file, now, erasures_lost=erasures_lost)
        premises.keys().close()  # erases again what was erased since
    made = datetime.fromtimestamp(made_at / NANOSECONDS, UTC)
    click.echo(f"restored as of {made:%Y-%m-%d %H:%M} UTC")
    click.echo("What was sealed to keys that were made after that is closed for good.")
    if erasures_lost:
        click.echo("Whoever had something erased since then has to ask for it again: say so.")
