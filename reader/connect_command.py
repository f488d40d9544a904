# ruff: noqa: D301 - click wants a real backspace before examples
"""`assent-reader connect`: where collector and guard are, and how we know them."""

from pathlib import Path

import click

from base.command import EXISTING_FILE
from base.paths import paths_for
from reader.premises import PEERS, Premises, connect


@click.command("connect")
@click.argument("peer", type=click.Choice(PEERS))
@click.option("--origin", required=True, help="What readers call there: https://host:port.")
@click.option("--pin", "pins", required=True, multiple=True, help="SHA-256 of its key; repeatable.")
@click.option("--ca", type=EXISTING_FILE, required=True, help="Its authority's certificate.")
@click.option(
    "--certificate", type=EXISTING_FILE, required=True, help="What it made of reader.csr."
)
def connect_command(
    peer: str, origin: str, pins: tuple[str, ...], ca: Path, certificate: Path
) -> None:
    """Say how to reach collector or guard; again after a renewal.

    Again, too, when its key is to change: then with both pins. The files are those of the same
    party: its authority's certificate, and what it made of reader.csr.

    \b
    Example:
      assent-reader connect guard --origin https://guard.council.example:8444 \\
          --pin 3f1c... --ca guard-ca.pem --certificate reader-at-guard.pem
    """
    premises = Premises(paths_for("reader"))
    premises.settings()
    connect(
        premises,
        peer,
        origin=origin,
        pins=pins,
        authority=ca.read_bytes(),
        certificate=certificate.read_bytes(),
    )
    click.echo(f"the {peer} is {origin}")
