"""The agent's one door, over real TLS against a server that counts what it is sent."""

import hashlib
import socket
import threading
from pathlib import Path

import msgspec
import pytest

from agent.handover import Answered, NoAnswer
from agent.transport import SLICE_BYTES, Door, same_origin
from base.errors import RejectedError, RetryableError, SetupError
from tests.fakes.proxy import proxying, relay
from tests.fakes.tls import Heard, House, Script, answers, found, head, peer
from wire.collector_http import State
from wire.errors import MalformedError

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return found(tmp_path_factory.mktemp("tls") / "house")


def door(house: House, origin: str) -> Door:
    folder: Path = house.folder
    return Door(origin, (house.pin,), house.ca_pem, folder / "device.pem", folder / "device.key")


def takes(length: int) -> tuple[threading.Event, Script]:
    """Return a script that takes a body of *length* bytes, and an event for its first byte."""
    begun = threading.Event()

    def script(sock: socket.socket, heard: Heard) -> None:
        head(sock, heard)
        sock.sendall(CONTINUE)
        while len(heard.body) < length:
            more = sock.recv(65536)
            if not more:
                return
            heard.body += more
            begun.set()
        sock.sendall(CREATED)

    return begun, script


def test_a_batch_is_put_under_the_hash_of_its_bytes(house: House) -> None:
    """All of them, once, and the answer comes back as it is."""
    frame = bytes(range(256)) * 4096
    name = hashlib.sha256(frame).hexdigest()
    _begun, script = takes(len(frame))
    with peer(script, house) as (origin, heard):
        outcome = door(house, origin).send(name, frame, lambda: True)
    assert outcome == Answered(status=201, body=b"{}")
    assert bytes(heard.body) == frame
    assert heard.heads[0].startswith(f"PUT /v1/batches/{name} ".encode())


def test_a_batch_that_is_taken_back_while_it_is_sent_is_cut(house: House) -> None:
    """Of a large batch only what was on its way already leaves."""
    frame = bytes(8 << 20)
    begun, script = takes(len(frame))
    with peer(script, house) as (origin, heard):
        outcome = door(house, origin).send("aa", frame, lambda: not begun.is_set())
    assert isinstance(outcome, NoAnswer)
    assert 0 < len(heard.body) < len(frame) // 2


def test_a_batch_that_is_taken_back_before_its_first_byte_is_not_sent(house: House) -> None:
    """The server gets the head and no byte of the body."""
    _begun, script = takes(1)
    with peer(script, house) as (origin, heard):
        outcome = door(house, origin).send("aa", bytes(3 * SLICE_BYTES), lambda: False)
    assert isinstance(outcome, NoAnswer)
    assert bytes(heard.body) == b""


def test_a_refusal_comes_back_with_its_line_and_when_to_come_again(house: House) -> None:
    """What the collector says of it, on one line and not too long."""
    said = msgspec.json.encode({"error": "halted: the council\n has stopped it" + "!" * 500})
    script = answers(
        b"HTTP/1.1 503 Service Unavailable",
        b"Retry-After: 7",
        b"Content-Length: %d" % len(said),
        body=said,
    )
    with peer(script, house) as (origin, heard):
        outcome = door(house, origin).send("aa", b"frame", lambda: True)
    assert isinstance(outcome, Answered)
    assert (outcome.status, outcome.retry_after_seconds) == (503, 7)
    assert outcome.says.startswith("halted: the council has stopped it!")
    assert len(outcome.says) <= 200
    assert bytes(heard.body) == b""


@pytest.fixture
def stranger(tmp_path: Path) -> House:
    return found(tmp_path / "stranger")


def test_a_stranger_gets_no_byte(house: House, stranger: House) -> None:
    """Another authority of the same name: no head, no body, and a line that says so."""
    with peer(answers(b"HTTP/1.1 200 OK"), stranger) as (origin, heard):
        outcome = door(house, origin).send("aa", b"frame", lambda: True)
    assert isinstance(outcome, NoAnswer)
    assert "nothing was sent" in outcome.why
    assert heard.heads == []


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, RetryableError), (409, RetryableError), (429, RetryableError), (500, RetryableError),
     (503, RetryableError), (400, RejectedError), (403, RejectedError), (404, RejectedError)],
)  # fmt: skip
def test_a_question_that_is_not_answered_says_whether_to_ask_again(
    house: House, status: int, error: type[Exception]
) -> None:
    """401 and 409 mend themselves: by a renewal, by a registration."""
    script = answers(b"HTTP/1.1 %d No" % status, b"Content-Length: 0")
    with peer(script, house) as (origin, _heard), pytest.raises(error, match=str(status)):
        door(house, origin).state()


def test_the_state_is_read(house: House) -> None:
    """Whether it is halted, and why."""
    body = b'{"halted":true,"why":"stop"}'
    script = answers(b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), body=body)
    with peer(script, house) as (origin, _heard):
        assert door(house, origin).state() == State(halted=True, why="stop")


def test_an_answer_that_is_none_is_malformed(house: House) -> None:
    """Never a KeyError somewhere else."""
    script = answers(b"HTTP/1.1 200 OK", b"Content-Length: 2", body=b"[]")
    with peer(script, house) as (origin, _heard), pytest.raises(MalformedError):
        door(house, origin).state()


def test_the_policy_must_name_the_collector_of_the_enrolment() -> None:
    """One door out; a policy that names another opens none."""
    same_origin("https://a.example", "https://a.example")
    with pytest.raises(SetupError, match="nothing is sent"):
        same_origin("https://b.example", "https://a.example")


# --- through a proxy ----------------------------------------------------------------------


def test_a_batch_goes_through_the_configured_proxy(house: House) -> None:
    """To the one origin, sealed in TLS: the proxy carries bytes."""
    frame = bytes(range(256)) * 64
    _begun, script = takes(len(frame))
    with peer(script, house) as (origin, heard), relay() as (proxy, carried):
        one = Door(origin, (house.pin,), house.ca_pem, proxy=proxy)
        outcome = one.send("aa", frame, lambda: True)
    assert outcome == Answered(status=201, body=b"{}")
    assert bytes(heard.body) == frame
    assert carried.asked == [("127.0.0.1", int(origin.rpartition(":")[2]))]
    assert frame[:16] not in carried.up


def test_why_a_proxy_lets_nothing_through_is_the_line_of_the_status(house: House) -> None:
    """One line, which names the proxy; the batch stays."""
    script = answers(b"HTTP/1.1 407 Proxy Authentication Required")
    with proxying(script) as (proxy, heard):
        one = Door("https://127.0.0.1:9", (house.pin,), house.ca_pem, proxy=proxy)
        outcome = one.send("aa", b"frame", lambda: True)
    assert isinstance(outcome, NoAnswer)
    assert outcome.why == (
        f"the proxy {proxy} asks for a login (407); nothing was sent; "
        "ask IT to let 127.0.0.1:9 through without one"
    )
    assert bytes(heard.body) == b""
