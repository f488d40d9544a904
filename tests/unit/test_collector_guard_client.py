"""The way to the guard: what it may answer, and what the collector does not believe."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from base.errors import SetupError
from base.paths import Paths
from base.serving import Clients, Credentials, Listener
from collector.commands.setup import move_in
from collector.config import GuardConfig
from collector.guard.client import GuardClient
from collector.index.sqlite import SqliteIndex
from collector.log import Log, append
from collector.premises import Premises
from collector.refusal import RefusedError, Why
from tests.fakes.organisation import b64, ed25519, raw
from tests.fakes.site import listening
from tests.fakes.tls import House, found
from wire.category import Category
from wire.guard_http import KeyRequest, sign_key
from wire.ids import WallInstant
from wire.leaf import Kind
from wire.tlog import (
    ALGORITHM_COSIGNATURE,
    cosign,
    verifier_key,
    verify_checkpoint,
    verify_consistency,
    verify_cosignature,
)

REQUEST = KeyRequest(subject=bytes(16), category=Category.KEYS, month="2027-03")
PUBLIC = bytes(1216)
WITNESS = "witness.example"


class Answers:
    """A guard that answers as it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.signing = ed25519()
        self.witness = ed25519()
        self.asked: list[bytes] = []
        self.answer: Callable[[bytes], Response] = lambda _body: Response(status_code=500)

    @property
    def signing_key(self) -> str:
        return b64(raw(self.signing))

    @property
    def witness_key(self) -> str:
        return verifier_key(WITNESS, ALGORITHM_COSIGNATURE, raw(self.witness))

    async def __call__(self, request: Request) -> Response:
        self.asked.append(await request.body())
        return self.answer(self.asked[-1])

    def key(self, by: Ed25519PrivateKey, request: KeyRequest = REQUEST) -> Response:
        return Response(msgspec.json.encode(sign_key(request, PUBLIC, by)))


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def premises(tmp_path: Path) -> Premises:
    made = Premises(
        Paths(
            config=tmp_path / "config",
            state=tmp_path / "state",
            logs=tmp_path / "logs",
            runtime=tmp_path / "run",
        )
    )
    move_in(made, origin="https://127.0.0.1:1", tenant="acme", listen=None)
    return made


@pytest.fixture
def client(answers: Answers, premises: Premises, tmp_path: Path) -> Iterator[GuardClient]:
    house = found(tmp_path / "house")
    listener = Listener("127.0.0.1", 0)
    install(premises, house)
    config = GuardConfig(origin=f"https://127.0.0.1:{listener.port}", tls_pins=(house.pin,))
    app = Starlette(
        routes=[
            Route("/v1/keys", answers.__call__, methods=["POST"]),
            Route("/add-checkpoint", answers.__call__, methods=["POST"]),
        ]
    )
    credentials = Credentials(
        certificate=house.folder / "tls.pem",
        key=house.folder / "tls.key",
        client_authority=house.folder / "ca.pem",
        clients=Clients.REQUIRED,
    )
    with listening(listener, app, credentials):
        yield GuardClient(premises, config)


def install(premises: Premises, house: House) -> None:
    (premises.guard_folder / "ca.pem").write_text(house.ca_pem)
    for theirs, ours in (("device.pem", "client.pem"), ("device.key", "client.key")):
        (premises.guard_folder / ours).write_bytes((house.folder / theirs).read_bytes())


@pytest.fixture
def log(premises: Premises) -> Log:
    index = SqliteIndex(premises.index_file)
    with index.writing() as connection:
        for n in range(5):
            append(connection, Kind.BATCH, b"%d" % n, WallInstant(1))
    return Log(index, ed25519(), "log.example/acme")


def test_a_key_with_the_guards_signature_is_taken(client: GuardClient, answers: Answers) -> None:
    """Asked with subject, category and month, and no more."""
    answers.answer = lambda _body: answers.key(answers.signing)
    assert client.key(REQUEST, answers.signing_key).public_key == PUBLIC
    assert msgspec.json.decode(answers.asked[0], type=KeyRequest) == REQUEST


@pytest.mark.parametrize("spoil", ["another signer", "another month", "garbage", "empty"])
def test_a_key_that_does_not_verify_is_not_handed_on(
    client: GuardClient, answers: Answers, spoil: str
) -> None:
    """A key of the collector's own, or for another request, would be the end of two locks."""
    other = msgspec.structs.replace(REQUEST, month="2027-04")
    answers.answer = {
        "another signer": lambda _body: answers.key(ed25519()),
        "another month": lambda _body: answers.key(answers.signing, other),
        "garbage": lambda _body: Response(b"<html>"),
        "empty": lambda _body: Response(b"{}"),
    }[spoil]
    with pytest.raises(RefusedError, match="does not verify") as caught:
        client.key(REQUEST, answers.signing_key)
    assert caught.value.why is Why.GUARD_UNREACHABLE


@pytest.mark.parametrize(
    ("status", "why"),
    [(410, Why.ERASED), (403, Why.GUARD_UNREACHABLE), (503, Why.GUARD_UNREACHABLE)],
)
def test_a_refusal_of_the_guard_has_a_name(
    client: GuardClient, answers: Answers, status: int, why: Why
) -> None:
    """Erased is final, everything else may pass."""
    answers.answer = lambda _body: Response(b"{}", status)
    with pytest.raises(RefusedError) as caught:
        client.key(REQUEST, answers.signing_key)
    assert caught.value.why is why


def test_a_guard_that_redirects_or_is_away_is_unreachable(
    client: GuardClient, answers: Answers, premises: Premises
) -> None:
    """No byte of the request goes anywhere else."""
    answers.answer = lambda _body: Response(status_code=307, headers={"location": "/v1/keys"})
    with pytest.raises(RefusedError, match="does not answer"):
        client.key(REQUEST, answers.signing_key)
    away = GuardConfig(origin="https://127.0.0.1:1", tls_pins=("00" * 32,))
    with pytest.raises(RefusedError, match="does not answer"):
        GuardClient(premises, away).key(REQUEST, answers.signing_key)


def cosigning(answers: Answers, *, last_seen: list[int]) -> Callable[[bytes], Response]:
    """Answer as a witness of the C2SP protocol that has seen *last_seen* leaves."""

    def answer(body: bytes) -> Response:
        text, note = body.decode().split("\n\n", 1)
        old = int(text.split("\n")[0].removeprefix("old "))
        if old != last_seen[0]:
            return Response(f"{last_seen[0]}\n", 409, media_type="text/x.tlog.size")
        last_seen[0] = int(note.split("\n")[1])
        return Response(cosign(note, WITNESS, answers.witness, 1_800_000_000))

    return answer


def test_a_checkpoint_comes_back_cosigned(client: GuardClient, answers: Answers, log: Log) -> None:
    """First from nothing, then with a proof from what the witness has seen."""
    answers.answer = cosigning(answers, last_seen=[0])
    note = client.cosign(log, answers.witness_key)
    assert verify_checkpoint(note, log.verifier_key).size == 5
    assert verify_cosignature(note, answers.witness_key) == 1_800_000_000
    assert client.cosign(log, answers.witness_key) == note  # the same size again, old 5
    assert [asked.split(b"\n")[0] for asked in answers.asked] == [b"old 0", b"old 5"]


def test_a_witness_that_has_seen_more_than_we_know_corrects_us(
    client: GuardClient, answers: Answers, log: Log
) -> None:
    """After a restart: 409 with its size, then the consistency proof from there."""
    answers.answer = cosigning(answers, last_seen=[3])
    client.cosign(log, answers.witness_key)
    lines = answers.asked[-1].decode().split("\n\n", 1)[0].split("\n")

    assert lines[0] == "old 3"
    old = verify_checkpoint(log.checkpoint(3), log.verifier_key)
    new = verify_checkpoint(log.checkpoint(5), log.verifier_key)
    proof = [base64.b64decode(line) for line in lines[1:]]
    verify_consistency(old=3, new=5, proof=proof, old_root=old.root, new_root=new.root)


@pytest.mark.parametrize(
    "seen",
    [b"99\n", b"no number", b"1" * 5_000, b"9" * (4 << 20)],
    ids=["more", "no number", "digits that no integer has", "an answer full of digits"],
)
def test_a_witness_that_has_seen_another_log_gets_nothing_further(
    client: GuardClient, answers: Answers, log: Log, seen: bytes
) -> None:
    """More leaves than there are, or nonsense: said, and not tried for ever."""
    answers.answer = lambda _body: Response(seen, 409)
    with pytest.raises(RefusedError) as caught:
        client.cosign(log, answers.witness_key)
    assert caught.value.why is Why.GUARD_UNREACHABLE
    assert len(answers.asked) == 1


def test_a_witness_that_says_once_that_it_has_seen_more_is_asked_anew(
    client: GuardClient, answers: Answers, log: Log
) -> None:
    """What it once said too much of is no reason to offer it no head until the next start."""
    honest = cosigning(answers, last_seen=[3])
    answers.answer = lambda _body: Response(b"99\n", 409)
    with pytest.raises(RefusedError, match="seen more of the log"):
        client.cosign(log, answers.witness_key)
    answers.answer = honest
    note = client.cosign(log, answers.witness_key)
    assert verify_cosignature(note, answers.witness_key) == 1_800_000_000
    assert [asked.split(b"\n")[0] for asked in answers.asked] == [b"old 0", b"old 0", b"old 3"]


def test_a_cosignature_of_somebody_else_is_not_believed(
    client: GuardClient, answers: Answers, log: Log
) -> None:
    """By another key, over another checkpoint, or no text at all."""
    old = log.checkpoint(3)
    for answer in (
        lambda body: Response(cosign(body.decode().split("\n\n", 1)[1], WITNESS, ed25519(), 1)),
        lambda _body: Response(cosign(old, WITNESS, answers.witness, 1)),
        lambda _body: Response(b"\xff\xfe"),
        lambda _body: Response(b""),
    ):
        answers.answer = answer
        with pytest.raises(RefusedError, match="does not verify"):
            client.cosign(log, answers.witness_key)


def test_a_guard_folder_that_is_not_complete_is_found_at_start(premises: Premises) -> None:
    """Not at the first release."""
    config = GuardConfig(origin="https://127.0.0.1:1", tls_pins=("00" * 32,))
    with pytest.raises(SetupError, match="connect-guard"):
        GuardClient(premises, config)
