"""What `init` and `connect-guard` do: the files of a new collector, and its way to the guard."""

import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base import durable
from base.door import check_listens, decode_pins, host_and_port
from base.errors import SetupError
from base.pki import (
    UNREADABLE,
    Authority,
    check_issued,
    load_ed25519,
    new_server_key,
    private_pem,
    signing_request,
)
from collector.assembly import Collector
from collector.config import first_config, with_guard, with_witness
from collector.index.postgres import PostgresIndex
from collector.index.sqlite import SqliteIndex
from collector.policies import latest
from collector.premises import Premises

_TENANT: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def move_in(
    premises: Premises,
    *,
    origin: str,
    tenant: str,
    listen: str | None,
    readers: str = "",
    hosts: Sequence[str] = (),
    index_url: str = "",
) -> None:
    """Make keys, authority, certificate and configuration: what `init` does.

    *readers* is the origin that readers call, if they have a listener of their own; *index_url*
    the PostgreSQL database in which the index is made, if it is not to be a file.

    Raises:
        SetupError: There is a collector already, or origin or tenant are not usable.

    """
    host, _port = host_and_port(origin)
    if not _TENANT.fullmatch(tenant):
        raise SetupError(f"the tenant {tenant!r} must be of a-z, 0-9 and '-'")
    if premises.config_file.exists():
        raise SetupError(
            f"{premises.config_file} exists; this collector is set up already (or another program "
            "has this folder)"
        )
    listen, readers_listen = listen or _listens(origin), _listens(readers) if readers else ""
    check_listens(listen, readers_listen, "")
    named = {host, *hosts, *([host_and_port(readers)[0]] if readers else [])}
    premises.paths.make()
    authority = Authority.create(f"Assent collector of {tenant}")
    authority.save(premises.paths.config)
    certify_server(premises, authority, new_server_key(), sorted(named))
    config = premises.paths.config
    for path in (config / "log.key", config / "lease.key", _guard_key_file(premises)):
        durable.private_folder(path.parent)
        durable.replace(path, private_pem(Ed25519PrivateKey.generate()))
    request = signing_request(load_ed25519(_guard_key_file(premises)))
    durable.replace(premises.guard_folder / "client.csr", request)
    if index_url:
        _make_in_postgres(index_url)
    else:
        SqliteIndex(premises.index_file).close()
    # Last, because its presence says that all the rest is there: init may be run again
    # after a crash, and then makes everything anew.
    text = first_config(
        origin=origin.rstrip("/"),
        tenant=tenant,
        listen=listen,
        readers_listen=readers_listen,
        index_url=index_url,
    )
    durable.replace(premises.config_file, text)


def still_to_do(collector: Collector) -> list[str]:
    """Return what a server lacks that was set up a moment ago, a line each."""
    with collector.index.reading() as connection:
        policy = latest(connection)
    lines = []
    if collector.guard is None:
        lines.append("no guard yet, so nothing can be opened: run assent-collector connect-guard")
    if policy is None:
        lines.append("no policy yet, so nothing is taken: run assent-collector publish FOLDER")
    return lines


def _make_in_postgres(url: str) -> None:
    with closing(PostgresIndex(url, any_version=True)) as index:
        index.create()


def certify_server(
    premises: Premises,
    authority: Authority,
    key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
) -> None:
    """Write the server's key and a certificate for *hosts*."""
    durable.replace(premises.tls_key, private_pem(key))
    durable.replace(premises.tls_certificate, authority.server_certificate(key, hosts))


def connect_guard(
    premises: Premises, *, origin: str, pins: tuple[str, ...], authority: bytes, certificate: bytes
) -> None:
    """Keep how to reach the guard; again for another certificate, or other pins.

    Raises:
        SetupError: The origin or a pin is none, the files do not belong together, or
            config.toml names another guard already.

    """
    host_and_port(origin)
    decode_pins(pins)
    key = load_ed25519(_guard_key_file(premises)).public_key()
    check_issued(certificate, authority, key)
    config = with_guard(premises.config_file.read_bytes(), origin.rstrip("/"), pins)
    durable.replace(premises.guard_folder / "ca.pem", authority)
    durable.replace(premises.guard_folder / "client.pem", certificate)
    durable.replace(premises.config_file, config)


def connect_witness(
    premises: Premises, *, origin: str, pins: tuple[str, ...], authority: bytes
) -> None:
    """Keep how to reach one more witness; again for another authority, or other pins.

    Raises:
        SetupError: The origin or a pin is none, or the authority no certificate.

    """
    decode_pins(pins)
    try:
        x509.load_pem_x509_certificate(authority)
    except UNREADABLE as exc:
        raise SetupError("the authority is no certificate; give the witness's ca.pem") from exc
    config = with_witness(premises.config_file.read_bytes(), origin.rstrip("/"), pins)
    path = premises.witness_authority(origin.rstrip("/"))
    durable.private_folder(path.parent)
    durable.replace(path, authority)
    durable.replace(premises.config_file, config)


def _guard_key_file(premises: Premises) -> Path:
    return premises.guard_folder / "client.key"


def _listens(origin: str) -> str:
    host, port = host_and_port(origin)
    return f"{_address(host)}:{port}"


def _address(host: str) -> str:
    """Return what to listen on for an origin of this host: itself if it is an address."""
    if re.fullmatch(r"[0-9.]+", host):
        return host
    return f"[{host}]" if ":" in host else "0.0.0.0"  # noqa: S104 - a name says nothing of interfaces
