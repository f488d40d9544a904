# ruff: noqa: D301, FBT001 - click wants a real backspace before examples, and flags as bool
"""`assent-guard tls`: the server's certificate before it expires, and another key for it.

Collector and readers pin the key.  It changes in two steps, with a time between in which they
know both.  A running server has read its files, and changes at its next start.
"""

from pathlib import Path

import click

from base.durable import remove, replace
from base.errors import SetupError
from base.pki import (
    certificate_expires_at,
    certificate_hosts,
    certificate_spki_sha256_of_pem,
    load_p256,
    new_server_key,
    private_pem,
)
from guard.premises import Premises, our_premises


@click.group()
def tls() -> None:
    """Renew the server's certificate, or change its key.

    \b
    Example:
      assent-guard tls renew
    """


@tls.command()
def renew() -> None:
    """Renew the certificate; the key stays.

    So no pin changes. Collector and readers know the key and the authority, and need not do
    anything. The server takes it at its next start.

    \b
    Example:
      assent-guard tls renew
    """
    premises = our_premises()
    premises.config()
    path = premises.tls_certificate
    made = _certificate(premises, premises.tls_key)
    replace(path, made)
    if premises.next_tls_certificate.exists():
        replace(premises.next_tls_certificate, _certificate(premises, premises.next_tls_key))
    click.echo(f"{path}  until {certificate_expires_at(made):%Y-%m-%d}. Start the guard again.")


@tls.command()
def announce() -> None:
    """Make the key that is to follow, once, and print both pins.

    Nothing changes yet. Collector and readers connect again with both pins; when all of them
    have, switch.

    \b
    Example:
      assent-guard tls announce
    """
    premises = our_premises()
    premises.config()
    if not premises.next_tls_certificate.exists():
        replace(premises.next_tls_key, private_pem(new_server_key()))
        # A crash here leaves a key without a certificate, in whose place the next call makes
        # another: nobody has been told its pin.
        replace(premises.next_tls_certificate, _certificate(premises, premises.next_tls_key))
    click.echo(f"now   {_pin(premises.tls_certificate)}")
    click.echo(f"next  {_pin(premises.next_tls_certificate)}")
    if premises.config().witness_only:
        click.echo("The collector takes both: assent-collector connect-witness, --pin twice.")
        return
    click.echo("Collector (connect-guard) and readers (connect guard) take both: --pin twice.")


@tls.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def switch(yes: bool) -> None:
    """Let the announced key be the server's from its next start on.

    Who does not know its pin no longer connects: no key is handed out to a collector, nothing
    released to a reader, and two minutes later the programme stops.

    \b
    Example:
      assent-guard tls switch
    """
    premises = our_premises()
    premises.config()
    if not premises.next_tls_certificate.exists():
        raise SetupError("no next key is announced; run assent-guard tls announce first")
    coming = _pin(premises.next_tls_certificate)
    if not yes:
        click.confirm(f"Do the collector and all readers know {coming}?", abort=True)
    # A crash between these leaves a key and a certificate that do not fit, with which no server
    # starts, and both of the next pair: the same command goes on.
    replace(premises.tls_key, premises.next_tls_key.read_bytes())
    replace(premises.tls_certificate, premises.next_tls_certificate.read_bytes())
    remove(premises.next_tls_certificate)
    remove(premises.next_tls_key)
    click.echo(f"tls_pin  {coming}. Start the guard again; then nobody needs the former pin.")


def _certificate(premises: Premises, key: Path) -> bytes:
    path = premises.tls_certificate
    try:
        hosts = certificate_hosts(path.read_bytes())
    except OSError as exc:
        raise SetupError(f"{path}: {exc.strerror}; restore it") from exc
    return premises.authority().server_certificate(load_p256(key), hosts)


def _pin(certificate: Path) -> str:
    return certificate_spki_sha256_of_pem(certificate.read_bytes()).hex()
