"""The data subject's receipts: one file for each consent, written from what the ledger says.

    receipts/2027-03-15-keys-a6f58318.json     a consent, and what became of it
    receipts/device.pem                        the public key by which anybody can check them

The ledger is the truth and the files follow it: after a crash in between, the next start
writes what is missing, to the byte as it would have been.  Nothing of ours reads them back
but the commands that show and verify.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from agent.consent.entries import Expired
from agent.consent.facts import expired
from agent.consent.ledger import Ledger, LedgerError
from agent.consent.policy import PolicyInForce
from agent.disk import Disk
from base import durable
from base.clock import NANOSECONDS, Now
from wire.consent_receipt import Evidence, write_consent_receipt
from wire.consent_record import ConsentRecord, decode_record
from wire.errors import WireError
from wire.ids import GrantHash

_LOG: Final = logging.getLogger(__name__)

FOLDER: Final = "receipts"
KEY: Final = "device.pem"


class Receipts:
    """Keeps the files as the ledger says.  One process does (the agent's lock)."""

    def __init__(self, state: Path, device: Ed25519PrivateKey, disk: Disk = durable) -> None:
        """Remove what a killed write left; nothing is written yet, see `keep_up`."""
        self.folder = state / FOLDER
        durable.sweep(self.folder)
        self._device = device
        self._disk = disk
        self._written: dict[GrantHash, Evidence] = {}

    def keep_up(self, ledger: Ledger, policy: PolicyInForce, now: Now) -> None:
        """Note what a valid policy has outgrown; write what the ledger says and the files do not.

        What fails is tried again the next time.
        """
        try:
            for grant in expired(ledger.standing, policy, now):
                ledger.append(Expired(grant=grant), now)
            evidence = ledger.standing.evidence
            if any(self._written.get(grant) is not shown for grant, shown in evidence.items()):
                self._write(evidence)
        except (LedgerError, WireError) as exc:
            _LOG.error("%s", exc)
        except OSError as exc:
            _LOG.warning("a consent receipt could not be written (%s); tried again", exc.strerror)

    def _write(self, evidence: Mapping[GrantHash, Evidence]) -> None:
        durable.private_folder(self.folder)
        if not self._written:
            self._put(KEY, public_pem(self._device.public_key()))
        for grant, shown in evidence.items():
            if self._written.get(grant) is not shown:
                name = file_name(decode_record(shown.signed.record))
                self._put(name, write_consent_receipt(shown, self._device))
                self._written[grant] = shown

    def _put(self, name: str, data: bytes) -> None:
        path = self.folder / name
        if not path.exists() or path.read_bytes() != data:
            self._disk.replace(path, data)


def file_name(record: ConsentRecord) -> str:
    """Return what the receipt of *record* is called: day, category, begin of its id."""
    day = datetime.fromtimestamp(record.given_at // NANOSECONDS, UTC)
    return f"{day:%Y-%m-%d}-{record.category}-{record.record_id[:8]}.json"


def receipt_files(state: Path) -> list[Path]:
    """Return the receipts that lie below *state*, the oldest first."""
    return sorted((state / FOLDER).glob("*.json"))


def public_pem(key: Ed25519PublicKey) -> bytes:
    """Return the PEM by which others check a receipt."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
