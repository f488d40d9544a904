# ruff: noqa: D301 - click wants a real backspace before examples
"""`assent-govern halt`: what any one party can say alone."""

from pathlib import Path

import click

from base.command import EXISTING_FILE
from governance import halting
from governance.options import ANY_FILE, PASSPHRASE, now, private_key


@click.command("halt")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("why")
@click.option("--key", type=EXISTING_FILE, required=True, help="A policy key of your party.")
@click.option("--out", type=ANY_FILE, required=True, help="The statement to write.")
@PASSPHRASE
def halt(folder: Path, why: str, key: Path, out: Path, passphrase_file: Path | None) -> None:
    """Halt the programme in your party's name.

    FOLDER is the signed policy that is in force, WHY one line that says what for. The statement
    takes effect once collector or guard are given it.

    \b
    Example:
      assent-govern halt acme "the council was not heard" --key rep/policy-key.pem --out halt.json
    """
    private = private_key(key, passphrase_file)
    click.echo(f"{out}  the halt of {halting.call(folder, out, private, why, now())}")
    click.echo(f"next: assent-collector halt --statement {out} (or assent-guard)")
