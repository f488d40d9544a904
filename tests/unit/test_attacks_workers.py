"""What a worker of the collector could do that somebody took over, and what it comes to."""

import hashlib
from datetime import date

import msgspec
import pytest

import collector.ingest.intake
from collector.ingest.intake import Account, account_of
from reader.opening import Fault, FaultError, check_sealed
from tests.fakes.site import Site, fetches, refusal, today
from wire.collector_http import Terms
from wire.frame import Verifies
from wire.ids import BatchHash


class Believes:
    """Finds every signature good."""

    def verify(self, _signature: bytes, _data: bytes) -> None:
        """Say nothing against it."""


def believing(frame: bytes, batch: BatchHash, _key: Verifies) -> Account:
    """Take in what comes, as somebody might who holds a worker."""
    return account_of(frame, batch, Believes())


def hash_of(frame: bytes) -> BatchHash:
    return BatchHash(hashlib.sha256(frame).digest())


def test_what_a_worker_lets_in_without_a_signature_no_reader_opens(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stored, receipted and logged; whoever reads it says what is wrong with it."""
    ada = site.workstation()
    signed = ada.consents()
    frame = ada.seals(signed)
    forged = frame[:-1] + bytes([frame[-1] ^ 1])
    assert refusal(ada.puts(forged)) == (422, "forged")
    monkeypatch.setattr(collector.ingest.intake, "account_of", believing)
    assert ada.puts(forged).status == 201
    name = hash_of(forged)

    reader = site.reader("training-team")
    stored = fetches(reader, site.grant(), name).body
    assert stored == forged
    answer = fetches(reader, site.grant(), name, "/terms")
    kept = msgspec.json.decode(answer.body, type=Terms).consent
    day = date.fromisoformat(today())
    assert check_sealed(frame, hash_of(frame), kept, today=day).verified.core.grant
    with pytest.raises(FaultError) as caught:
        check_sealed(stored, name, kept, today=day)
    assert caught.value.fault is Fault.NOT_SIGNED
