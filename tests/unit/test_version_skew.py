"""An agent and a collector one version apart: refused by name where it must be, no batch lost."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cbor2
import msgspec
import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]  # theirs
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tuf.api.metadata import (  # type: ignore[attr-defined]  # theirs
    Metadata,
    Snapshot,
    TargetFile,
    Targets,
)

from agent.consent.entries import Registered
from agent.consent.policy import read_fetched
from agent.delivery import Delivery
from agent.enroll import CERTIFICATE, KEY, read_file
from agent.refresh import refresh
from agent.transport import Door
from base.errors import RejectedError, SetupError
from collector.app import build
from collector.assembly import Collector
from tests.fakes import site as sites
from tests.fakes.delivering import Delivering
from tests.fakes.organisation import PolicyFolder
from tests.fakes.site import Site, refusal
from wire import frame as frames
from wire.collector_http import PROTOCOL, newer_protocol
from wire.errors import MalformedError, UnknownVersionError
from wire.frame import Core, batch_hash, decode_core, join_unsigned, split
from wire.grant import grant_hash
from wire.lease import cosign, offer
from wire.policy import encode_policy
from wire.sealing import sign

# --- the collector is one version ahead -----------------------------------------------------


class NextCollector:
    """The next version of the collector: each JSON answer has fields that this agent lacks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started: list[Message] = []

        async def more(message: Message) -> None:
            if message["type"] == "http.response.start":
                started.append(message)
                return
            (start,), body = started, message.get("body", b"")
            if scope["path"].startswith("/v1/policy/"):  # signed: not the collector's to change
                await send(start)
                await send(message)
                return
            body = _with_more(body)
            headers = [
                (name, b"1.7" if name == b"assent-protocol" else value)
                for name, value in start["headers"]
                if name != b"content-length"
            ]
            headers.append((b"content-length", b"%d" % len(body)))
            await send({**start, "headers": headers})
            await send({**message, "body": body})

        await self._app(scope, receive, more)


def _with_more(body: bytes) -> bytes:
    try:
        said = json.loads(body)
    except ValueError:
        return body
    return json.dumps({**said, "colour": "green", "more": {"a": [1]}}).encode()


def upgrade(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the next version of the collector in the place of this one."""

    def next_build(collector: Collector) -> ASGIApp:
        return NextCollector(build(collector))

    monkeypatch.setattr(sites, "build", next_build)
    site.restart()


def test_a_collector_that_says_more_is_understood(
    site: Site, laptop: Delivering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Receipts, keys, consents, state, renewals: fields that nobody knows are not looked at."""
    upgrade(site, monkeypatch)
    frame = laptop.seal()
    laptop.deliver(lambda _: laptop.spool.number_sent() == 1)
    assert site.collector.store.get(batch_hash(frame)) == frame
    assert laptop.spool.batches() == []
    laptop.spool.ask_deletion(batch_hash(frame), "forgotten")
    laptop.deliver(lambda _: laptop.spool.deletions() == [])
    door = laptop.device.door(site.premises.tls_pins())
    assert not door.state().halted
    assert door.is_newer


def test_the_present_collector_is_no_newer_one(site: Site, laptop: Delivering) -> None:
    """It says its version in each answer, errors too; a device says none."""
    door = laptop.device.door(site.premises.tls_pins())
    assert not door.state().halted
    assert not door.is_newer
    said = site.door().request("GET", "/nothing").headers["assent-protocol"]
    assert said == "{}.{}".format(*PROTOCOL)


@pytest.mark.parametrize(
    ("said", "newer"),
    [("1.1", False), ("1.2", True), ("2.0", True), ("0.9", False), ("", False), ("1", False),
     ("one.two", False), ("1.-1", False), ("9" * 99 + ".0", False), ("\u0661.\u0662", False)],
)  # fmt: skip
def test_what_a_collector_says_of_its_version(said: str, *, newer: bool) -> None:
    """Numbers that are higher; nonsense counts for nothing."""
    assert newer_protocol(said) is newer


@pytest.mark.parametrize("change", ["a field", "a level", "a category"])
def test_a_policy_that_this_version_cannot_read_is_said_and_the_one_in_force_holds(
    site: Site, laptop: Delivering, tmp_path: Path, change: str
) -> None:
    """Signed by both parties, but of a later version: one line, and batches go on."""
    held, later = read_fetched(laptop.folder), _later_policy(site, change)

    class NextDoor(Door):
        def policy_file(self, name: str) -> bytes | None:
            return later.get(name)

    files = laptop.folder / CERTIFICATE, laptop.folder / KEY
    door = NextDoor(site.origin, site.premises.tls_pins(), site.premises.trusted_pem(), *files)
    with pytest.raises(RejectedError, match="install a newer assent") as caught:
        refresh(door, laptop.folder, site.origin, laptop.clock.now())
    assert "\n" not in str(caught.value)
    assert "holds until its lease ends" in str(caught.value)
    assert read_fetched(laptop.folder) == held
    frame = laptop.seal()
    laptop.deliver(lambda _: laptop.spool.number_sent() == 1)
    assert site.collector.store.get(batch_hash(frame)) == frame


def _later_policy(site: Site, change: str) -> dict[str, bytes]:
    """Sign, as a later version would, a policy with what this one does not know."""
    policy = msgspec.structs.replace(site.policy, version=site.policy.version + 1)
    plain = json.loads(encode_policy(policy))
    match change:
        case "a field":
            plain["colour"] = "green"
        case "a level":
            plain["categories"][0]["level"] = "thoughts"
        case _:
            plain["categories"][0]["category"] = "microphone"
    text = json.dumps(plain).encode()
    return _signed(site, text)


def _signed(site: Site, text: bytes) -> dict[str, bytes]:
    """Sign bytes that our own tools would refuse to sign, and lease them."""
    folder = PolicyFolder(site.policy_folder)
    keys = (site.org.controller, site.org.council)
    target = TargetFile.from_data("policy.json", text, ["sha256"])
    targets = Metadata[Targets].from_bytes(folder.targets)
    targets.signed.version += 1
    targets.signed.targets["policy.json"] = target
    snapshot = Metadata[Snapshot].from_bytes(folder.snapshot)
    snapshot.signed.version += 1
    snapshot.signed.meta["targets.json"].version = targets.signed.version
    for metadata in (targets, snapshot):
        metadata.signatures.clear()
        for key in keys:
            signer = CryptoSigner(key, SSlibKey.from_crypto(key.public_key()))
            metadata.sign(signer, append=True)
    framed, now = snapshot.to_bytes(), datetime.now(UTC).replace(microsecond=0)
    offered = offer(
        snapshot=framed,
        version=int(now.timestamp()) + 60,
        expires=now + timedelta(hours=1),
        key=site.org.collector_lease,
    )
    return {
        "timestamp.json": cosign(offered, site.org.guard_lease),
        f"{snapshot.signed.version}.snapshot.json": framed,
        f"{targets.signed.version}.targets.json": targets.to_bytes(),
        f"{target.hashes['sha256']}.policy.json": text,
    }


def test_an_enrolment_file_of_a_later_version_is_refused_in_one_line(
    site: Site, laptop: Delivering, tmp_path: Path
) -> None:
    """It says that a newer version may be what is missing."""
    path = tmp_path / "later.json"
    path.write_bytes(_with_more(msgspec.json.encode(site.enrolment_file())))
    with pytest.raises(SetupError, match="install a newer assent") as caught:
        read_file(path, laptop.clock.now())
    assert "\n" not in str(caught.value)


# --- the agent is one version ahead ---------------------------------------------------------


def later_frame(laptop: Delivering, **changes: object) -> bytes:
    """Return a frame as the next version of the agent would sign it."""
    parts = split(laptop.station.seals(laptop.signed))
    numbered = cbor2.loads(parts.core)
    names = [field.name for field in msgspec.structs.fields(Core)] + ["later"]
    numbered |= {names.index(name) + 1: value for name, value in changes.items()}
    core = cbor2.dumps(numbered, canonical=True)
    return sign(join_unsigned(core, parts.shelf, parts.body), 7, laptop.station.org.device)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema": "assent/batch-v2+zstd"}, "schema"),
        ({"schema": "assent/batch-v2+zstd", "category": "microphone"}, "schema"),
        ({"schema": "assent/batch-v2+zstd", "later": [1, 2]}, "schema"),
        ({"schema": "assent/batch-v2+zstd", "later": "é" * 20 + "e"}, "schema"),
        ({"suite": 2}, "suite 2"),
        ({"suite": 2, "later": b"later", "category": "microphone"}, "suite 2"),
    ],
    ids=["schema", "category", "field", "another end", "suite", "all of it"],
)
def test_a_frame_of_a_later_version_is_refused_by_name_and_not_stored(
    site: Site, laptop: Delivering, changes: dict[str, object], says: str
) -> None:
    """501, which says who has to be upgraded; whatever else is new in it."""
    frame = later_frame(laptop, **changes)
    answer = laptop.station.puts(frame)
    assert refusal(answer) == (501, "version-unknown")
    assert says.encode() in answer.body
    assert b"the device is newer than this collector" in answer.body
    assert site.collector.store.get(batch_hash(frame)) is None
    with pytest.raises(UnknownVersionError):
        decode_core(split(frame).core)


def test_unknown_fields_of_a_known_version_are_malformed(laptop: Delivering) -> None:
    """What is new needs a new number: a core that only has more in it is refused for good."""
    answer = laptop.station.puts(later_frame(laptop, later="later"))
    assert refusal(answer) == (422, "malformed")


def test_a_layout_of_a_later_version_is_told_from_what_is_no_frame_at_all() -> None:
    """By the digit in the magic."""
    with pytest.raises(UnknownVersionError):
        split(b"\x89ASB2\r\n\x1a" + bytes(200))
    with pytest.raises(MalformedError) as caught:
        split(b"\x89PNG\r\n\x1a\n" + bytes(200))
    assert not isinstance(caught.value, UnknownVersionError)


def test_batches_of_a_newer_agent_wait_for_the_collector_and_hold_up_nothing(
    site: Site, laptop: Delivering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept, said in one line, offered again; the upgraded collector gets them all."""
    newer, older = put(laptop, later_frame(laptop, suite=2)), laptop.seal()

    def others_went(delivery: Delivery) -> bool:
        return laptop.spool.number_sent() == 1 and "version-unknown" in delivery.last_error

    laptop.deliver(others_went)
    assert site.collector.store.get(batch_hash(older)) == older
    (waiting,) = laptop.spool.ready()
    assert waiting.hash == batch_hash(newer)

    monkeypatch.setattr(frames, "SUITE", 2)  # the collector is upgraded
    laptop.deliver(lambda _: laptop.spool.number_sent() == 2)
    assert site.collector.store.get(batch_hash(newer)) == newer
    assert laptop.spool.batches() == []


def put(laptop: Delivering, frame: bytes) -> bytes:
    """Put a frame of the next version into the spool, as that version would have."""
    laptop.seal()
    (model,) = laptop.spool.ready()
    name, folder = batch_hash(frame).hex(), laptop.folder / "spool/ready"
    (folder / f"{name}.local").write_bytes((folder / f"{model.name}.local").read_bytes())
    (folder / f"{name}.frame").write_bytes(frame)
    laptop.spool.drop(model.name)
    laptop.reopen()
    return frame


def test_a_collector_that_has_left_this_protocol_behind_loses_no_batch(
    site: Site, laptop: Delivering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """404 to every request: all is kept, nothing set aside, and one line says why."""

    async def gone(scope: Scope, _receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        body = b'{"error":"not-found: this is v2"}'
        headers = [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 404, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    waiting = [laptop.seal(), laptop.seal()]
    laptop.write_down(Registered(grant=grant_hash(laptop.signed)))
    monkeypatch.setattr(sites, "build", lambda _collector: gone)
    site.restart()
    laptop.deliver(lambda delivery: "of another version than this assent" in delivery.last_error)
    assert {spooled.hash for spooled in laptop.spool.ready()} == {*map(batch_hash, waiting)}
    assert laptop.spool.number_quarantined() == 0
