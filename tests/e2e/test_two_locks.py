"""Two locks and a log: from a consent to an export, through the programs' own commands.

Collector, guard, reader and governance are real processes over real TLS; the workstation is a
device without a desktop.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from demo.organisation import READER, Organisation, Plan, ProgramError
from tests.fakes.device import Device, today
from wire.age import decode_identity
from wire.category import Category
from wire.collector_http import Enrolment
from wire.errors import WireError
from wire.event import Key
from wire.frame import core_hash, split
from wire.ids import BootInstant
from wire.opening import open_body, open_released
from wire.policy import decode_policy

pytestmark = pytest.mark.slow

SECRET = "Hausmeister"  # stands in the events; level text, in a test policy


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisation]:
    folder = tmp_path_factory.mktemp("acme")
    plan = Plan(levels={"keys": "text"}, test_only=True)
    runtime = os.environ.pop("XDG_RUNTIME_DIR", None)  # six programs share it no more than a home
    try:
        with Organisation(folder, plan) as organisation:
            yield organisation
    finally:
        if runtime is not None:
            os.environ["XDG_RUNTIME_DIR"] = runtime


@pytest.fixture(scope="module")
def device(acme: Organisation) -> Device:
    enrolment = msgspec.json.decode(acme.enrolment_file("ann").read_bytes(), type=Enrolment)
    return Device(acme.folder / "ann", enrolment).enrol()


@pytest.fixture(scope="module")
def uploaded(device: Device) -> list[bytes]:
    """Three batches of keys, each of which spells a word, and what was sent."""
    consent = device.agree(Category.KEYS)
    guard_key = device.guard_key(Category.KEYS)
    frames = []
    for _ in range(3):
        typed = tuple(
            Key(at=BootInstant(at), sequence=at, pressed=True, kind="letter", text=letter)
            for at, letter in enumerate(SECRET)
        )
        frames.append(device.seal(consent, guard_key, *typed))
        device.upload(frames[-1])
    return frames


@pytest.fixture(scope="module")
def grant(acme: Organisation, uploaded: list[bytes]) -> Path:
    return acme.access_grant("keys")


def test_one_approval_of_two_gets_nothing(
    acme: Organisation, uploaded: list[bytes], grant: Path
) -> None:
    """The reader's own program says so; collector and guard would, too."""
    half = acme.folder / "half.json"
    whole = json.loads(grant.read_bytes())
    half.write_text(json.dumps({**whole, "approvals": whole["approvals"][:1]}))
    with pytest.raises(ProgramError, match=r"exit code 6.*1 of 2 approvals"):
        acme.reader.run("fetch", "--grant", half)
    assert acme.reader.facts("status")["frames"] == 0


def test_everything_the_collector_has_and_the_readers_identity_open_nothing(
    acme: Organisation, uploaded: list[bytes]
) -> None:
    """Two locks: the collector's whole folder holds no age header and no key that opens one."""
    identity = (acme.reader.home / "config/identity.txt").read_text()
    assert decode_identity(identity)
    kept = [path for path in acme.collector.home.rglob("*") if path.is_file()]
    stored = {path.read_bytes() for path in kept}
    assert set(uploaded) <= stored  # the search looks at the right files
    for content in stored:
        assert b"age-encryption.org" not in content
        assert SECRET.encode() not in content
    for frame in uploaded:
        parts = split(frame)
        for header in (parts.shelf, parts.core, parts.body[:8192]):
            with pytest.raises(WireError):
                open_body(header, parts.body, identity, core_hash(parts.core))
            with pytest.raises(WireError):
                open_released(header, identity, core_hash(parts.core))


def test_the_reader_opens_exports_and_joins_what_was_released(
    acme: Organisation, uploaded: list[bytes], grant: Path, device: Device
) -> None:
    """Fetch, again fetch, open, verify, export: what was typed comes out, once."""
    tally = acme.reader.facts("fetch", "--grant", grant)
    assert (tally["listed"], tally["fetched"], tally["released"]) == (3, 3, 3)
    again = acme.reader.facts("fetch", "--grant", grant)
    assert (again["fetched"], again["released"], again["here_already"]) == (0, 0, 3)

    report = acme.reader.facts("verify")
    assert report["opened"]["keys"]["batches"] == 3
    assert report["opened"]["keys"]["events"] == 3 * len(SECRET)
    assert report["data_subjects"] == 1
    assert report["faults"] == {}
    assert "keys" in acme.reader.run("open", "--joined", acme.folder / "joined")
    joined = sorted((acme.folder / "joined").glob("*.age"))
    assert len(joined) == 3
    assert joined[0].read_bytes().startswith(b"age-encryption.org/v1\n")

    out = acme.folder / "export"
    said = acme.reader.run("export", "--out", out)
    assert "PLAINTEXT" in said
    lines = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert "".join(sorted(line["text"] for line in lines)) == "".join(sorted(SECRET * 3))
    assert {line["subject"] for line in lines} == {device.subject.hex()}


def test_plaintext_lies_in_exports_alone(acme: Organisation) -> None:
    """After all of it, no other file of any program holds what was typed."""
    found = [
        path
        for path in acme.folder.rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    ]
    assert found == []  # an export has it a letter a line
    holding = [
        path
        for path in acme.folder.rglob("*")
        if path.is_file() and b'"text":"H"' in path.read_bytes()
    ]
    assert holding == [acme.folder / "export/events.jsonl"]


def test_the_log_holds_one_release_for_each_batch_that_was_opened(
    acme: Organisation, uploaded: list[bytes]
) -> None:
    """No log, no key: releases logged are batches opened, however often they were fetched."""
    facts = acme.collector.facts("status")
    assert facts["counts"]["releases"] == len(uploaded)
    policy = decode_policy((acme.policy / "policy.json").read_bytes())
    assert acme.guard.facts("status")["log_size"] == facts["witnessed"]
    assert policy.recipients[0].name == READER


def test_after_the_guard_forgot_nobody_can_be_released_anything(
    acme: Organisation, device: Device, grant: Path
) -> None:
    """Erasing the guard's key closes what lies at the collector, and 410 is final."""
    consent, key = device.agree(Category.KEYS), device.guard_key(Category.KEYS)
    device.upload(device.seal(consent, key, Key(at=BootInstant(1), pressed=True, kind="tab")))
    acme.guard.run("forget", "--subject", device.subject.hex(), "--yes")
    with pytest.raises(ProgramError, match="key-erased 1"):
        acme.reader.run("fetch", "--grant", grant)
    path = f"/v1/guard-key?category=pointer&month={today()[:7]}"
    device.agree(Category.POINTER)
    assert device.door.request("GET", path).status == 410
