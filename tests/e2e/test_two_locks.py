"""Two locks and a log: from a consent to an export, through the programs' own commands.

Collector, guard, reader and governance are real processes over real TLS; the workstation is a
device without a desktop.  First what the parties do as they should; then collector and
reader conspire, with all that they have; last, what was erased stays closed.
"""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.door import ClientRefusedError, Response
from base.pki import load_ed25519, private_pem, signing_request
from demo.organisation import APPROVERS, READER, Organisation, Plan, ProgramError
from demo.search import Searcher
from guard.keys import Found
from guard.premises import Premises as GuardPremises
from tests.fakes.conspiracy import (
    RELEASED,
    Conspiracy,
    opened_with,
    opens,
    paths,
    pieces,
    secrets_in,
    verdicts,
)
from tests.fakes.device import Device, today
from wire.age import decode_identity
from wire.batch import decode_batch
from wire.category import Category
from wire.collector_http import Enrolment, ErrorAnswer, FrameList, ReleaseOrder, ShownGrant
from wire.event import Key
from wire.frame import batch_hash, core_hash, split
from wire.grant import AccessGrant, access_digest, approve, decode_request, encode_request
from wire.guard_http import LoggedBatch, ReleaseAnswers
from wire.ids import BatchHash, BootInstant
from wire.leaf import Kind, entry, release_payload
from wire.opening import open_body, open_released
from wire.policy import decode_policy
from wire.sealing import new_identity, recipient_of
from wire.shelf import unshelve
from wire.tlog import Checkpoint, Tree, cosign, leaf_hash, sign_checkpoint

pytestmark = pytest.mark.slow

SECRET: Final = "Hausmeister"  # stands in the events; level text, in a test policy
AGE: Final = "age-encryption.org"


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisation]:
    plan = Plan(levels={"keys": "text"}, test_only=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XDG_RUNTIME_DIR", raising=False)  # programs share it no more than a home
        with Organisation(tmp_path_factory.mktemp("acme"), plan) as organisation:
            yield organisation


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


# --- two locks ------------------------------------------------------------------------------


def test_everything_the_collector_has_and_the_readers_identity_open_nothing(
    acme: Organisation, uploaded: list[bytes]
) -> None:
    """Bodies, index, every key and every value of the collector, and the reader's identity."""
    stored, identity = pieces(acme.collector.home), reader_identity(acme)
    assert set(uploaded) <= stored, "the search looks at the right files"
    assert [piece[:80] for piece in stored if AGE.encode() in piece] == []
    assert Searcher(AGE).in_folders([acme.collector.home]) == []
    keys = {decode_identity(identity), *secrets_in(acme.collector.home)}
    assert load_ed25519(acme.collector.home / "config/log.key").private_bytes_raw() in keys
    for frame in uploaded:
        assert opened_with(frame, keys, stored) == []


def test_everything_the_guard_and_the_collector_have_open_nothing_without_the_identity(
    acme: Organisation, device: Device, uploaded: list[bytes]
) -> None:
    """The guard's key brings the age header to light; that is locked to the recipients."""
    keys = secrets_in(acme.guard.home) | secrets_in(acme.collector.home)
    stored = pieces(acme.guard.home) | pieces(acme.collector.home)
    for frame in uploaded:
        parts = split(frame)
        digest = core_hash(parts.core)
        header = unshelve(parts.shelf, guard_seed(acme, device), digest)
        assert header.startswith(AGE.encode())
        assert opened_with(frame, keys, {header, *stored}) == ["unshelve"]
        plaintext = open_body(header, parts.body, reader_identity(acme), digest)
        assert spelled(plaintext) == SECRET, "with the identity the same header opens all"


def test_each_half_lies_with_its_holder_alone(
    acme: Organisation, device: Device, uploaded: list[bytes]
) -> None:
    """The guard's keys are nowhere else, in no spelling; no body is at the guard."""
    seed, config = guard_seed(acme, device), acme.guard.home / "config"
    pems = [(config / name).read_bytes().splitlines()[1] for name in ("signing.key", "witness.key")]
    spellings = (seed, seed.hex().encode(), base64.b64encode(seed)[:-2], *pems)
    at_the_guard = b"".join(pieces(acme.guard.home))
    assert seed in at_the_guard
    others = (acme.collector.home, acme.reader.home, device.folder, acme.policy, acme.keys)
    elsewhere = b"".join(piece for folder in others for piece in pieces(folder))
    assert [spelling for spelling in spellings if spelling in elsewhere] == []
    assert [frame for frame in uploaded if split(frame).body[:64] in at_the_guard] == []


def spelled(plaintext: bytes) -> str:
    """Return what was typed in a batch."""
    return "".join(key.text for key in decode_batch(plaintext).events if isinstance(key, Key))


def reader_identity(acme: Organisation) -> str:
    """Return what opens a release."""
    return (acme.reader.home / "config/identity.txt").read_text().strip()


def guard_seed(acme: Organisation, device: Device) -> bytes:
    """Return the guard's key for the keys of this person in this month."""
    keys = GuardPremises(paths(acme.guard)).keys()
    found = keys.find(device.subject, Category.KEYS, today()[:7])
    keys.close()
    assert isinstance(found, Found)
    return found.seed


# --- as it should be ------------------------------------------------------------------------


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
    assert len(acme.released()) == len(set(acme.released())) == len(uploaded)
    policy = decode_policy((acme.policy / "policy.json").read_bytes())
    assert acme.guard.facts("status")["log_size"] == facts["witnessed"]
    assert policy.recipients[0].name == READER


# --- a conspiracy of collector and reader ---------------------------------------------------


@pytest.fixture(scope="module")
def both(acme: Organisation) -> Iterator[Conspiracy]:
    with Conspiracy(acme) as both:
        yield both


def test_what_is_approved_and_logged_is_released_to_the_reader_alone(
    acme: Organisation, both: Conspiracy, uploaded: list[bytes], grant: Path
) -> None:
    """The good case, by the same hands that try everything else below."""
    whole = read(grant)
    note, batches = both.logs(whole, *uploaded)
    answer = both.ask(whole, note, *batches)
    assert verdicts(answer) == [RELEASED] * len(uploaded)
    for frame, released in zip(uploaded, released_of(answer), strict=True):
        parts = split(frame)
        digest = core_hash(parts.core)
        header = open_released(released, reader_identity(acme), digest)
        assert spelled(open_body(header, parts.body, reader_identity(acme), digest)) == SECRET
        assert opened_with(frame, secrets_in(acme.collector.home), {released}) == []


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request that differs from an approved one in *changes*, or in who approved it."""

    changes: dict[str, object] = field(default_factory=dict)
    approvers: tuple[str, ...] = tuple(APPROVERS)
    guard_says: str = "grant-refused"
    collector_says: str = "grant-refused"


def not_covered(**changes: object) -> Ask:
    """Return a request, approved by both, that does not cover a batch of today's keys."""
    return Ask(changes=changes, guard_says="not-covered", collector_says="not-covered")


ASKS: Final = {
    "nobody approved it": Ask(approvers=()),
    "one approved it, of two": Ask(approvers=("controller",)),
    "one approved it twice": Ask(approvers=("council", "council")),
    "for a prohibited purpose": Ask(changes={"purpose": "performance-evaluation"}),
    "for a purpose of nobody's": Ask(changes={"purpose": "marketing"}),
    "for another programme": Ask(changes={"programme": "other"}),
    "it has expired": Ask(changes={"expires_at": 1}),
    "to a key of their own": Ask(changes={"recipient": recipient_of(new_identity())}),
    "for another category": not_covered(categories=(Category.POINTER,)),
    "for days before": not_covered(last_day=today(-1)),
    "for days after": not_covered(first_day=today(1)),
    "for another reader": Ask(changes={"reader": "other-team"}, guard_says="wrong-reader"),
}


@pytest.mark.parametrize("why", ASKS)
def test_a_logged_and_witnessed_release_without_a_grant_that_covers_it_is_refused(
    acme: Organisation, both: Conspiracy, uploaded: list[bytes], grant: Path, why: str
) -> None:
    """Two approvals of this purpose, category, period and reader: the guard looks for itself.

    An honest collector does not even log it.
    """
    ask, frame = ASKS[why], uploaded[0]
    other = approved(acme, read(grant), ask)
    note, batches = both.logs(other, frame)
    assert verdicts(both.ask(other, note, *batches)) == [ask.guard_says]
    order = ReleaseOrder(grant=other, batches=(batch_hash(frame),))
    body = msgspec.json.encode(order)
    answer = both.as_reader("collector").request("POST", "/v1/releases", body)
    assert refusal(answer) == (403, ask.collector_says)


def test_a_grant_changed_after_it_was_approved_is_refused(
    both: Conspiracy, uploaded: list[bytes], grant: Path
) -> None:
    """The approvals are of those bytes and of no others."""
    whole = read(grant)
    changed = msgspec.structs.replace(whole, request=whole.request.replace(b"demo", b"next"))
    assert changed.request != whole.request
    note, batches = both.logs(changed, uploaded[0])
    assert verdicts(both.ask(changed, note, *batches)) == ["grant-refused"]


# --- no log, no key -------------------------------------------------------------------------


def test_a_release_that_the_witnessed_log_does_not_hold_is_refused(
    both: Conspiracy, uploaded: list[bytes], grant: Path
) -> None:
    """Never logged, with the proof of another leaf; or logged after the checkpoint."""
    whole = read(grant)
    early, (proven,) = both.logs(whole, uploaded[0])
    _note, (late,) = both.logs(whole, uploaded[0])
    late_proof = msgspec.structs.replace(late, index=proven.index, proof=proven.proof)
    salt = secrets.token_bytes(16)
    never = msgspec.structs.replace(proven, salt=salt, entry=release_entry(proven, whole, salt))
    assert verdicts(both.ask(whole, early, proven, never, late, late_proof)) == [
        RELEASED,
        *["not-in-log"] * 3,
    ]


def test_a_checkpoint_that_the_witness_did_not_cosign_is_refused(
    both: Conspiracy, uploaded: list[bytes], grant: Path
) -> None:
    """A second history, signed by the log's own key: bare, or cosigned by a made-up witness."""
    whole = read(grant)
    note, (proven,) = both.logs(whole, uploaded[0])
    fork, forked = second_history(both, whole, proven)
    name = both.witness_key.partition("+")[0]
    made_up = fork + cosign(fork, name, Ed25519PrivateKey.generate(), int(time.time()))
    borrowed = fork + note.splitlines(keepends=True)[-1]
    for other in (fork, made_up, borrowed):
        assert verdicts(both.ask(whole, other, forked)) == ["checkpoint-foreign"]


def test_the_witness_cosigns_no_second_history(
    both: Conspiracy, uploaded: list[bytes], grant: Path
) -> None:
    """Neither of the size that it saw last, nor a longer one with whatever proof."""
    whole = read(grant)
    _note, (proven,) = both.logs(whole, uploaded[0])
    size = both.log.take_up()
    same, _forked = second_history(both, whole, proven)
    longer, _forked = second_history(both, whole, proven, more=3)
    door = both.as_collector()
    proof = "\n".join(base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(3))
    for status, offer in (
        (409, f"old {size}\n\n{same}"),
        (422, f"old {size}\n{proof}\n\n{longer}"),
        (409, f"old 0\n\n{longer}"),
    ):
        assert door.request("POST", "/add-checkpoint", offer.encode()).status == status


def test_the_release_of_one_batch_opens_no_other_of_the_same_day(
    acme: Organisation, both: Conspiracy, uploaded: list[bytes], grant: Path
) -> None:
    """Same person, day, category and key: the core's nonce keeps them apart, at each step."""
    whole, mine = read(grant), reader_identity(acme)
    note, (first, second) = both.logs(whole, *uploaded[:2])
    swapped = msgspec.structs.replace
    leaf = {name: getattr(first, name) for name in ("entry", "salt", "index", "proof")}
    assert verdicts(
        both.ask(
            whole,
            note,
            swapped(second, **leaf),  # the other's leaf
            swapped(second, **leaf, batch_hash=first.batch_hash),  # and the other's name
            swapped(first, shelf=second.shelf),  # all in order, but the other's shelf
            swapped(first, core=second.core, shelf=second.shelf),
        )
    ) == ["leaf-of-another", "leaf-of-another", "shelf-forged", "leaf-of-another"]
    (released,) = released_of(both.ask(whole, note, first))
    parts, others = split(uploaded[0]), split(uploaded[1])
    digest, other_digest = core_hash(parts.core), core_hash(others.core)
    header = open_released(released, mine, digest)
    assert open_body(header, parts.body, mine, digest)
    assert not opens(open_released, released, mine, other_digest)
    assert not opens(open_body, header, others.body, mine, other_digest)
    assert not opens(open_body, header, others.body, mine, digest)


# --- who may ask ----------------------------------------------------------------------------


def test_the_guard_releases_to_the_reader_of_the_grant_and_to_nobody_else(
    acme: Organisation, both: Conspiracy, uploaded: list[bytes], grant: Path, device: Device
) -> None:
    """Another certified reader, the collector, a device, a stranger: none gets a release."""
    whole = read(grant)
    note, batches = both.logs(whole, uploaded[0])
    certificate, key = certified(acme, "guard", "other-team")
    other = both.door_to("guard", certificate, key)
    assert verdicts(both.ask(whole, note, *batches, door=other)) == ["wrong-reader"]
    as_collector = both.as_collector(among_readers=True)
    assert both.ask(whole, note, *batches, door=as_collector).status == 403
    assert both.ask(whole, note, *batches, door=both.as_collector()).status == 404
    of_collector = both.reader.peer("collector") / "client.pem", both.reader.client_key
    of_device = device.folder / "device.pem", device.folder / "device.key"
    # Nobody; and who is certified by the collector, whom the guard ignores.
    for files in ((None, None), of_collector, of_device):
        with pytest.raises(ClientRefusedError):
            both.ask(whole, note, *batches, door=both.door_to("guard", *files))


def test_only_readers_list_and_fetch_frames_and_a_sealed_frame_is_all_they_get(
    acme: Organisation, both: Conspiracy, uploaded: list[bytes], grant: Path, device: Device
) -> None:
    """And only under a grant of its own: another reader's certificate gets not even a list."""
    name = batch_hash(uploaded[0])
    frames = ("/v1/frames", f"/v1/frames/{name.hex()}", f"/v1/frames/{name.hex()}/terms")
    shown = msgspec.json.encode(ShownGrant(grant=read(grant)))
    nobody = both.door_to("collector", None, None)
    files = device.folder / "device.pem", device.folder / "device.key"
    as_device = both.door_to("collector", *files)
    for path in frames:
        at_its_own = device.door.request("POST", path, shown)
        assert refusal(at_its_own) == (404, "not-found")
        assert refusal(as_device.request("POST", path, shown)) == (403, "wrong-role")
        of_guard = both.reader.peer("guard") / "client.pem", both.reader.client_key
        for door in (nobody, both.door_to("collector", *of_guard)):
            with pytest.raises(ClientRefusedError):
                door.request("POST", path, shown)

    other = both.door_to("collector", *certified(acme, "collector", "other-team"))
    for path in frames:
        assert refusal(other.request("POST", path, shown)) == (403, "grant-refused")
    of_grant = both.as_reader("collector")
    listed = msgspec.json.decode(of_grant.request("POST", frames[0], shown).body, type=FrameList)
    assert {frame.batch_hash for frame in listed.frames} >= set(map(batch_hash, uploaded))
    assert of_grant.request("POST", frames[1], shown).body == uploaded[0]
    order = msgspec.json.encode(ReleaseOrder(grant=read(grant), batches=(name,)))
    for door, said in (
        (other, (403, "grant-refused")),
        (as_device, (403, "wrong-role")),
        (device.door, (404, "not-found")),
    ):
        assert refusal(door.request("POST", "/v1/releases", order)) == said


# --- what they do it with -------------------------------------------------------------------


def read(grant: Path) -> AccessGrant:
    """Return the grant in a file."""
    return msgspec.json.decode(grant.read_bytes(), type=AccessGrant)


def approved(acme: Organisation, grant: AccessGrant, ask: Ask) -> AccessGrant:
    """Return the grant's request with the changes of *ask*, really approved by its approvers."""
    request = msgspec.structs.replace(decode_request(grant.request), **ask.changes)
    document = encode_request(request)
    keys = {each: load_ed25519(acme.keys / each / "approver-key.pem") for each in APPROVERS}
    return AccessGrant(
        request=document,
        approvals=tuple(approve(document, APPROVERS[each], keys[each]) for each in ask.approvers),
    )


def certified(acme: Organisation, by: str, name: str) -> tuple[Path, Path]:
    """Return certificate and key of another reader, certified by guard or collector."""
    folder = acme.folder / f"{name}-at-{by}"
    folder.mkdir()
    key = Ed25519PrivateKey.generate()
    (folder / "client.key").write_bytes(private_pem(key))
    (folder / "client.csr").write_bytes(signing_request(key))
    program = {"guard": acme.guard, "collector": acme.collector}[by]
    words = ("certify", "--role", "reader", folder / "client.csr", "--name", name, "--out")
    program.run(*words, folder / "client.pem")
    return folder / "client.pem", folder / "client.key"


def second_history(
    both: Conspiracy, grant: AccessGrant, batch: LoggedBatch, more: int = 0
) -> tuple[str, LoggedBatch]:
    """Return a checkpoint of a log in which this release stands elsewhere, and its proof there."""
    size = both.log.take_up() + more
    leaves = [leaf_hash(secrets.token_bytes(8)) for _ in range(size - 1)]
    tree = Tree([leaf_hash(batch.entry), *leaves])
    head = Checkpoint(origin=both.log.name, size=size, root=tree.root(size))
    note = sign_checkpoint(head, both.collector.log_key())
    return note, msgspec.structs.replace(batch, index=0, proof=tree.inclusion(0, size))


def release_entry(batch: LoggedBatch, grant: AccessGrant, salt: bytes) -> bytes:
    """Return the entry that would announce this release, under another salt."""
    recipient = decode_request(grant.request).recipient
    payload = release_payload(
        BatchHash(batch.batch_hash), core_hash(batch.core), access_digest(grant), recipient
    )
    return entry(Kind.RELEASE, payload, salt)


def released_of(answer: Response) -> list[bytes]:
    """Return what the guard released."""
    batches = msgspec.json.decode(answer.body, type=ReleaseAnswers).batches
    return [batch.released for batch in batches if batch.released is not None]


def refusal(answer: Response) -> tuple[int, str]:
    """Return status and name of a refusal of the collector."""
    said = msgspec.json.decode(answer.body, type=ErrorAnswer).error
    return answer.status, said.partition(":")[0]


# --- erased ---------------------------------------------------------------------------------


def test_after_the_guard_forgot_nobody_can_be_released_anything(
    acme: Organisation, device: Device, grant: Path
) -> None:
    """Erasing the guard's key closes what lies at the collector, and 410 is final."""
    consent, key = device.agree(Category.KEYS), device.guard_key(Category.KEYS)
    frame = device.seal(consent, key, Key(at=BootInstant(1), pressed=True, kind="tab"))
    device.upload(frame)
    device.agree(Category.POINTER)
    acme.guard.run("forget", "--subject", device.subject.hex(), "--yes")
    said = ""
    try:
        acme.reader.run("fetch", "--grant", grant)
    except ProgramError as exc:
        said = str(exc)
    # Or the collector has heard of it already, and has nothing to list any more.
    assert "key-erased" in said or hashlib.sha256(frame).digest() not in acme.stored()
    path = f"/v1/guard-key?category=pointer&month={today()[:7]}"
    assert device.door.request("GET", path).status == 410
