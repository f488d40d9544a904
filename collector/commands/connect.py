# ruff: noqa: D301 - click wants a real backspace before examples
"""`connect-guard` and `connect-witness`: whom the collector asks, and how it knows them."""

from pathlib import Path

import click

from base.command import EXISTING_FILE
from collector.commands.setup import connect_guard, connect_witness
from collector.premises import our_premises


@click.command("connect-guard")
@click.option("--origin", required=True, help="The guard: https://host:port.")
@click.option("--pin", "pins", required=True, multiple=True, help="SHA-256 of its key; repeatable.")
@click.option("--ca", type=EXISTING_FILE, required=True, help="Its authority's certificate.")
@click.option(
    "--certificate", type=EXISTING_FILE, required=True, help="What it made of guard/client.csr."
)
def connect_guard_command(origin: str, pins: tuple[str, ...], ca: Path, certificate: Path) -> None:
    """Say which guard to work with.

    Again when it certified us anew, or changes its key: then with both pins. Takes effect when
    the collector is started again.

    \b
    Example:
      assent-collector connect-guard --origin https://guard.example:8444 \\
          --pin 3f1c... --ca guard-ca.pem --certificate collector.pem
    """
    premises = our_premises()
    premises.config()
    connect_guard(
        premises,
        origin=origin,
        pins=pins,
        authority=ca.read_bytes(),
        certificate=certificate.read_bytes(),
    )
    click.echo(f"The guard is {origin}. Start the collector again.")


@click.command("connect-witness")
@click.argument("origin", metavar="URL")
@click.option("--pin", "pins", required=True, multiple=True, help="SHA-256 of its key; repeatable.")
@click.option("--ca", type=EXISTING_FILE, required=True, help="Its authority's certificate.")
def connect_witness_command(origin: str, pins: tuple[str, ...], ca: Path) -> None:
    """Say where one more witness is.

    URL is its origin, as in the example; what it cosigns counts if the policy names its key among
    the witnesses. Again when its TLS key changes: then with both pins. Takes effect when the
    collector is started again.

    \b
    Example:
      assent-collector connect-witness https://witness.example:8444 \\
          --pin 3f1c... --ca witness-ca.pem
    """
    premises = our_premises()
    premises.config()
    connect_witness(premises, origin=origin, pins=pins, authority=ca.read_bytes())
    click.echo(f"The witness {origin} is asked, too. Start the collector again.")
