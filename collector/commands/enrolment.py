# ruff: noqa: D301 - click wants a real backspace before examples
"""The commands that say who may come, and from where: enrolment files, jurisdictions."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec

from base import durable
from base.clock import NANOSECONDS, SystemClock, require_plausible_clock
from base.errors import SetupError
from collector import enrol, policies
from collector.index.opening import opened_index
from collector.jurisdiction import chosen, place, served, served_now
from collector.premises import our_premises
from wire.collector_http import Enrolment
from wire.ids import WallInstant
from wire.text import is_plain

MOST_LABEL: Final = 200
DAY: Final = 24 * 3600 * NANOSECONDS
_ANY_FILE: Final = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--out", type=_ANY_FILE, required=True, help="The enrolment file to write (0600).")
@click.option(
    "--days",
    type=click.IntRange(1, 90),
    default=7,
    show_default=True,
    help="How long the file can be used.",
)
@click.option("--for", "label", default="", help="Whom to tell of consents: see notify_command.")
@click.option(
    "--jurisdiction",
    "where",
    default="",
    help="One of the policy's, as in DE; needed if it has several.",
)
def token(out: Path, days: int, label: str, where: str) -> None:
    """Write an enrolment file for one device.

    It holds a token that works once, in one jurisdiction: hand it over privately. What is given
    with --for is kept here, and handed to the notify_command of config.toml with each consent.

    \b
    Example:
      assent-collector token --out ada.enrol.json --for ada@acme.example --jurisdiction DE
      assent-agent enroll ada.enrol.json            (on Ada's workstation)
    """
    if len(label) > MOST_LABEL or not is_plain(label):
        raise click.UsageError(f"--for is one line of at most {MOST_LABEL} characters")
    if out.exists():
        raise SetupError(f"{out} is there already; one device, one file")
    premises = our_premises()
    config = premises.config()
    require_plausible_clock()
    now = WallInstant(SystemClock().now().wall)
    expires_at = WallInstant(now + days * DAY)
    with opened_index(premises) as index, index.writing() as connection:
        current = policies.latest(connection)
        if current is None:
            raise SetupError("no policy is in force; run assent-collector publish first")
        root_sha256 = policies.root_sha256(current)
        where = chosen(where, served(current.policy, config.jurisdictions))
        secret = enrol.new_token(connection, now, expires_at, jurisdiction=where, label=label)
    enrolment = Enrolment(
        origin=config.origin,
        tls_pins=premises.tls_pins(),
        ca_pem=premises.trusted_pem(),
        token=secret,
        root_sha256=root_sha256,
        expires_at=expires_at,
    )
    durable.replace(out, msgspec.json.format(msgspec.json.encode(enrolment)) + b"\n")
    until = f"{datetime.fromtimestamp(expires_at / NANOSECONDS, UTC):%Y-%m-%d}"
    click.echo(f"{out}  for one device in {where}, until {until}; whoever has it can enroll")


@click.command()
@click.argument("device")
@click.argument("where", metavar="JURISDICTION")
def jurisdiction(device: str, where: str) -> None:
    """Say in which jurisdiction a device is from now on.

    For a person who moves, and for devices that were enrolled before this was asked. Six digits
    of the id DEVICE are enough; JURISDICTION is one of the policy's.

    \b
    Example:
      assent-collector jurisdiction 3f1c9a DE
    """
    premises = our_premises()
    with opened_index(premises) as index, index.writing() as connection:
        where = chosen(where, served_now(connection, premises.config().jurisdictions))
        found = enrol.named(connection, device)
        place(connection, found, where)
    click.echo(f"{found.hex()}  is in {where}")
