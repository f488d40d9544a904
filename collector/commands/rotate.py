# ruff: noqa: D301, FBT001 - click wants a real backspace before examples, and flags as bool
"""`assent-collector tls` and `assent-collector ca`: what an operator types to change keys."""

from datetime import timedelta

import click

from base.clock import NANOSECONDS, SystemClock
from base.errors import SetupError
from base.paths import paths_for
from base.pki import certificate_expires_at
from collector import enrol, policies
from collector.commands import rotation
from collector.index.opening import open_index
from collector.premises import Premises
from wire.ids import WallInstant
from wire.policy import Policy

RESTART = "Start the collector again."


@click.group()
def tls() -> None:
    """Change the key that agents pin, or its certificate.

    \b
    Example:
      assent-collector tls announce
      assent-collector tls switch         (once a policy with both pins is out)
    """


@tls.command()
def announce() -> None:
    """Make the next TLS key, and show the pins of both.

    The next policy has to name both pins. Nothing changes for the running server; typed again,
    it shows the same pins.

    \b
    Example:
      assent-collector tls announce
    """
    premises = _premises()
    now, coming = rotation.announce(premises)
    policy = _policy(premises)
    known = policy is not None and coming in policy.collector.tls_pins
    click.echo(f"pin       {now}")
    click.echo(f"next pin  {coming}")
    click.echo(
        "The policy in force names both. Once devices had the time to fetch it: tls switch."
        if known
        else "Have a policy signed that names both, and publish it."
    )
    click.echo("Readers take both: assent-reader connect collector, --pin twice.")


@tls.command()
def switch() -> None:
    """Let the announced TLS key be the server's from now on.

    Refused while the policy in force does not pin it.

    \b
    Example:
      assent-collector tls switch
    """
    premises = _premises()
    pin = rotation.switch(premises, _policy(premises))
    click.echo(f"The server's pin is {pin}. {RESTART}")
    click.echo("A reader that does not know it connects again. Then announce the next key.")


@tls.command()
def renew() -> None:
    """Write a new certificate for the same TLS key.

    No pin changes. A server certificate lives 825 days.

    \b
    Example:
      assent-collector tls renew
    """
    premises = _premises()
    rotation.reissue(premises)
    until = certificate_expires_at(premises.tls_certificate.read_bytes())
    click.echo(f"The server has a new certificate, until {until:%Y-%m-%d}. {RESTART}")


@click.group()
def ca() -> None:
    """Change the authority that certifies devices and readers.

    \b
    Example:
      assent-collector ca begin
      assent-collector ca finish          (once the old one's certificates have run out)
    """


@ca.command()
def begin() -> None:
    """Let a new authority certify devices and readers.

    Certificates of the old one stay good until they expire, and devices come to trust both when
    they renew.

    \b
    Example:
      assent-collector ca begin
    """
    premises = _premises()
    rotation.begin(premises)
    click.echo(f"A new authority certifies from now on. {RESTART}")
    click.echo("New enrolment files hold both. Certify readers again (assent-collector certify);")
    click.echo(f"they connect again with that certificate, and with --ca {_both(premises)}.")


@ca.command()
@click.option("--force", is_flag=True, help="Even if certificates of the old one are still good.")
def finish(force: bool) -> None:
    """Forget the old authority.

    Refused while certificates of it are good. Devices that were away since the new one began
    have to enrol again.

    \b
    Example:
      assent-collector ca finish
    """
    premises = _premises()
    if not premises.is_rotating:
        raise SetupError("no rotation is under way; assent-collector ca begin begins one")
    # Certificates say seconds: whoever was certified within that second counts as before.
    since = WallInstant((int(rotation.begun_at(premises).timestamp()) + 1) * NANOSECONDS)
    life = timedelta(days=premises.config().client_days)
    index = open_index(premises)
    try:
        with index.reading() as connection:
            good, away = enrol.certified_before(connection, since, life, _now())
    finally:
        index.close()
    if good and not force:
        raise SetupError(
            f"{good} certificates of the old authority are still good; wait until they have "
            "expired or were renewed, or say --force"
        )
    rotation.finish(premises)
    click.echo(f"The old authority is forgotten. {RESTART}")
    if gone := away + good:
        click.echo(f"Of devices and readers, {gone} know only the old one: they enrol again.")


def _both(premises: Premises) -> str:
    return str(premises.both_authorities)


def _premises() -> Premises:
    premises = Premises(paths_for("collector"))
    premises.config()  # says what to do where nothing is set up yet
    return premises


def _policy(premises: Premises) -> Policy | None:
    index = open_index(premises)
    try:
        with index.reading() as connection:
            published = policies.latest(connection)
    finally:
        index.close()
    return None if published is None else published.policy


def _now() -> WallInstant:
    return WallInstant(SystemClock().now().wall)
