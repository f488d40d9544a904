# ruff: noqa: D301 - click wants a real backspace before examples
"""`assent-guard tls`: the server's certificate, before it expires."""

import click

from base.durable import replace
from base.errors import SetupError
from base.pki import certificate_expires_at, certificate_hosts, load_p256
from guard.premises import our_premises


@click.group()
def tls() -> None:
    """Renew the server's certificate.

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
    try:
        hosts = certificate_hosts(path.read_bytes())
    except OSError as exc:
        raise SetupError(f"{path}: {exc.strerror}; restore it") from exc
    made = premises.authority().server_certificate(load_p256(premises.tls_key), hosts)
    replace(path, made)
    click.echo(f"{path}  until {certificate_expires_at(made):%Y-%m-%d}. Start the guard again.")
