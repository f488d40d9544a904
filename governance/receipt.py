"""`assent-govern receipt verify`: checks a data subject's receipt with the public key alone."""

from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from base.clock import NANOSECONDS
from base.command import EXISTING_FILE, say
from base.errors import SetupError
from governance.files import read
from wire.consent_receipt import ConsentReceipt, verify_consent_receipt
from wire.ed25519 import public_key


@click.group("receipt")
def receipt() -> None:
    """Check the receipts that data subjects hold.

    \b
    Example:
      assent-govern receipt verify 2027-03-15-keys-a6f58318.json --key device.pem
    """  # noqa: D301 - click's mark


@receipt.command("verify")
@click.argument("file", type=EXISTING_FILE)
@click.option("--key", required=True, type=EXISTING_FILE, help="The device.pem beside it.")
@click.option("--log-key", default="", help="The log's verifier key, to check the leaf by it too.")
@click.option("--json", "as_json", is_flag=True, help="Print facts as JSON.")
def verify(*, file: Path, key: Path, log_key: str, as_json: bool) -> None:
    """Check a consent receipt offline.

    FILE is the receipt as its holder gave it to you. Any changed byte and any missing field is
    refused, and named. Whose key it is, the receipt cannot prove: `assent-collector consents
    --json` has the device keys.

    \b
    Example:
      assent-govern receipt verify 2027-03-15-keys-a6f58318.json --key device.pem
    """  # noqa: D301 - click's mark
    found = verify_consent_receipt(read(file), _key(key), log_key)
    facts = _facts(found, by_log=bool(log_key))
    if as_json:
        click.echo(msgspec.json.encode(facts))
        return
    for name, value in facts.items():
        say(f"{name:<11} {value}")


def _facts(found: ConsentReceipt, *, by_log: bool) -> dict[str, str]:
    record = found.record
    leaf = found.evidence.logged
    log = "not in the log yet" if leaf is None else f"leaf {leaf.index}"
    if leaf is not None and not by_log:
        log += " (give --log-key to check whose log)"
    return {
        "record": record.record_id,
        "grant": found.grant.hex(),
        "state": found.state,
        "given": _time(record.given_at),
        **{event.state.removeprefix("dpv:"): _time(event.at) for event in found.evidence.events},
        "subject": record.subject.hex(),
        "device": record.device.hex(),
        "controller": record.controller.name,
        "purpose": f"{record.purpose}; never {', '.join(record.prohibited)}",
        "category": f"{record.category}, level {record.level}",
        "recipients": ", ".join(record.recipients),
        "kept for": f"{record.retention_days} days",
        "log": log,
    }


def _key(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(read(path))
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise SetupError(f"{path} is no public key in PEM; give the receipt's device.pem") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise SetupError(f"{path} is no Ed25519 key; give the receipt's device.pem")
    return public_key(key.public_bytes_raw())


def _time(at: int) -> str:
    return f"{datetime.fromtimestamp(at // NANOSECONDS, UTC):%Y-%m-%d %H:%M:%S} UTC"
