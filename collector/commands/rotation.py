"""New keys in the place of old ones, without losing a device that was away meanwhile.

Two things wear out: the server's TLS key, which agents pin by the signed policy, and the
authority that certifies clients and server.  Both change in two steps, with a time between
in which old and new are good (docs/guides/rotation.md).

    TLS key      announce: the next key is made, its pin goes into the next policy
                 switch:   it is the server's key from the next start on
    authority    begin:    a new one certifies clients; the old one's certificates stay good
                 finish:   the old one is forgotten, the server's certificate is of the new one

Every step may be interrupted: the same command goes on.  A running server has read its files
and changes at its next start.
"""

from datetime import datetime
from pathlib import Path

from base import durable
from base.errors import SetupError
from base.pki import (
    BACKDATED,
    Authority,
    certificate_hosts,
    load_p256,
    new_server_key,
    private_pem,
)
from collector.premises import Premises
from wire.policy import Policy

# --- the server's key -------------------------------------------------------------------


def announce(premises: Premises) -> tuple[str, str]:
    """Make the next TLS key unless there is one; return the pins of both."""
    if not premises.next_tls_certificate.exists():
        key = new_server_key()
        durable.replace(premises.next_tls_key, private_pem(key))
        # A crash here leaves a key without a certificate, in whose place the next call makes
        # another: nobody has been told its pin.
        certificate = _server_authority(premises).server_certificate(key, _hosts(premises))
        durable.replace(premises.next_tls_certificate, certificate)
    now, coming = premises.tls_pins()
    return now, coming


def switch(premises: Premises, policy: Policy | None) -> str:
    """Put the announced TLS key in the place of the present one; return its pin.

    Raises:
        SetupError: None was announced, or the policy in force does not pin it: agents would
            not recognise the server.

    """
    if not premises.next_tls_certificate.exists():
        raise SetupError("no next key is announced; run assent-collector tls announce first")
    _now, coming = premises.tls_pins()
    if policy is None or coming not in policy.collector.tls_pins:
        raise SetupError(
            f"the policy in force does not pin the next key {coming}; have one signed that names "
            "both, publish it, and give devices the time to fetch it"
        )
    # A crash between these leaves a key and a certificate that do not fit, with which no
    # server starts, and both of the next pair: the same command goes on.
    durable.replace(premises.tls_key, premises.next_tls_key.read_bytes())
    durable.replace(premises.tls_certificate, premises.next_tls_certificate.read_bytes())
    durable.remove(premises.next_tls_certificate)
    durable.remove(premises.next_tls_key)
    return coming


def reissue(premises: Premises) -> None:
    """Write new certificates for the server's keys, which stay: no pin changes."""
    authority, hosts = _server_authority(premises), _hosts(premises)
    for key, certificate in (
        (premises.next_tls_key, premises.next_tls_certificate),
        (premises.tls_key, premises.tls_certificate),
    ):
        if certificate.exists():
            durable.replace(certificate, authority.server_certificate(load_p256(key), hosts))


# --- the authority ----------------------------------------------------------------------


def begin(premises: Premises) -> None:
    """Let a new authority certify clients from the next start on; the old one stays trusted.

    Raises:
        SetupError: A rotation is under way.

    """
    config = premises.paths.config
    if premises.is_rotating:
        raise SetupError("a rotation is under way; run assent-collector ca finish first")
    old = premises.old_authority
    if not (old / "ca.pem").exists():
        durable.private_folder(old)
        Authority.load(config).save(old)
    # A crash from here on leaves the old authority safe in its folder; the same command makes
    # another new one, which has certified nobody yet.
    tenant = premises.config().tenant
    Authority.create(f"Assent collector of {tenant}").save(config)
    both = (config / "ca.pem").read_bytes() + (old / "ca.pem").read_bytes()
    durable.replace(premises.both_authorities, both)


def begun_at(premises: Premises) -> datetime:
    """Return when the present authority was made."""
    return premises.authority().certificate.not_valid_before_utc + BACKDATED


def finish(premises: Premises) -> None:
    """Forget the old authority; the server's certificates are of the new one from now on.

    Raises:
        SetupError: No rotation is under way.

    """
    if not premises.is_rotating:
        raise SetupError("no rotation is under way; assent-collector ca begin begins one")
    for path in (premises.old_authority / "ca.key", premises.old_authority / "ca.pem"):
        if path.exists():
            durable.remove(path)
    reissue(premises)
    durable.remove(premises.both_authorities)  # last: it says that all this is still to do


def _server_authority(premises: Premises) -> Authority:
    """Return who certifies the server: during a rotation the one that every agent knows."""
    old = premises.old_authority
    return Authority.load(old) if (old / "ca.key").exists() else premises.authority()


def _hosts(premises: Premises) -> tuple[str, ...]:
    path: Path = premises.tls_certificate
    try:
        return certificate_hosts(path.read_bytes())
    except OSError as exc:
        raise SetupError(f"{path}: {exc.strerror}; restore it") from exc
