"""`assent-agent receipts`: lists the receipts that lie here, each checked, or checks one file."""

import json
from pathlib import Path
from typing import Final

import click
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent import receipts
from base.errors import SetupError, line_of
from base.paths import paths_for
from wire.consent_receipt import verify_consent_receipt
from wire.linked import instant

# Whether it may be read shows where it is read: a mode is to be mended, not a command line.
EXISTING: Final = click.Path(path_type=Path, exists=True, dir_okay=False, readable=False)


@click.command("receipts")
@click.option("--verify", type=EXISTING, metavar="FILE", help="Check this receipt instead.")
@click.option("--key", type=EXISTING, metavar="PEM", help="By this key instead of the device's.")
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
def show_receipts(*, verify: Path | None, key: Path | None, as_json: bool) -> None:
    """List your consent receipts, each checked.

    A receipt is your own copy of what you agreed to: keep it wherever you like. Anybody can
    check it with the public key beside it (device.pem), without us.

    \b
    Example:
      assent-agent receipts --verify ~/Documents/2027-03-15-keys-a6f58318.json
    """  # noqa: D301 - click's mark
    state = paths_for("agent").state
    if verify is None and key is None and not (state / receipts.FOLDER).exists():
        click.echo("[]" if as_json else "there are none yet: the first comes with your consent")
        return
    by = read_key(key if key is not None else state / receipts.FOLDER / receipts.KEY)
    files = receipts.receipt_files(state) if verify is None else [verify]
    shown = [look(path, by) for path in files]
    if as_json:
        click.echo(json.dumps([msgspec.to_builtins(each) for each in shown], indent=2))
        return
    for each in shown:
        click.echo(f"{each.category:<8} {each.state:<24} since {each.since}  {each.file}")
    click.echo(f"{len(shown)} checked: signed by this device, nothing changed")


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One receipt that was checked, as the command shows it."""

    file: str
    record_id: str
    grant: str
    category: str
    state: str
    since: str
    logged: bool


def look(path: Path, key: Ed25519PublicKey) -> Shown:
    """Return what the receipt at *path* says, after checking all of it.

    Raises:
        SetupError: It cannot be read.
        WireError: Not a receipt, or not signed as it must be; the message says which.

    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise SetupError(line_of(exc)) from exc
    receipt = verify_consent_receipt(data, key)
    events = receipt.evidence.events
    return Shown(
        file=str(path),
        record_id=receipt.record.record_id,
        grant=receipt.grant.hex(),
        category=receipt.record.category,
        state=receipt.state,
        since=instant(events[-1].at if events else receipt.record.given_at)[:19] + "Z",
        logged=receipt.evidence.logged is not None,
    )


def read_key(path: Path) -> Ed25519PublicKey:
    """Return the public key in the PEM file at *path*.

    Raises:
        SetupError: It cannot be read, or is another kind of key.

    """
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except FileNotFoundError:
        raise SetupError(
            f"{path} is not here: receipts come with your first consent (or give --key)"
        ) from None
    except (OSError, ValueError, UnsupportedAlgorithm) as exc:
        raise SetupError(
            f"{path} is no public key in PEM; give the device.pem of the receipt"
        ) from exc
    if not isinstance(key, Ed25519PublicKey):
        raise SetupError(f"{path} is no Ed25519 key; give the receipt's device.pem")
    return key
