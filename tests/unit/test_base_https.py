"""The one door: what stands there is told apart, and nothing of a body goes to a stranger."""

import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from base.door import (
    ClientRefusedError,
    DoorError,
    GarbledAnswerError,
    NotContinuedError,
    NotTlsError,
    RedirectedError,
    UnreachableError,
    UntrustedServerError,
    WrongHostError,
    WrongPinError,
    host_and_port,
)
from base.errors import SetupError
from base.https import OneDoor
from tests.fakes.tls import SECRET, WAIT_SECONDS, Heard, House, answers, drain, found, head, peer

OK = (b"HTTP/1.1 200 OK", b"content-length: 2")


@pytest.fixture
def house(tmp_path: Path) -> House:
    return found(tmp_path / "house")


def door(
    origin: str, house: House, *, pins: tuple[str, ...] = (), timeout: float = WAIT_SECONDS
) -> OneDoor:
    return OneDoor(
        origin,
        pins or (house.pin,),
        house.ca_pem,
        house.folder / "device.pem",
        house.folder / "device.key",
        timeout,
    )


def accepting(sock: socket.socket, heard: Heard) -> None:
    """Take uploads as a good server does, request after request."""
    while True:
        head(sock, heard)
        length = re.search(rb"content-length: (\d+)", heard.heads[-1], re.IGNORECASE)
        wanted = len(heard.body) + int(length[1]) if length else 0
        if length and b"100-continue" in heard.heads[-1]:
            sock.sendall(
                b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
            )
            while len(heard.body) < wanted:
                heard.body += sock.recv(65536)
        sock.sendall(b"HTTP/1.1 201 Created\r\nX-Name: Value\r\ncontent-length: 4\r\n\r\ndone")


def test_a_body_is_sent_whole_to_the_server_that_we_know(house: House) -> None:
    """The good case: 100 Continue, body, answer; headers of the answer in lower case."""
    with peer(accepting, house) as (origin, heard):
        answer = door(origin, house).request("PUT", "/v1/x", SECRET, {"X-Own": "1"})

        assert (answer.status, answer.body) == (201, b"done")
        assert answer.headers["x-name"] == "Value"
        assert bytes(heard.body) == SECRET
        assert b"X-Own: 1" in heard.heads[0]
        assert heard.heads[0].startswith(b"PUT /v1/x HTTP/1.1\r\n")


def test_one_connection_serves_several_requests(house: House) -> None:
    """A door keeps its connection: uploads need no handshake each."""
    accepted = []

    def counting(sock: socket.socket, heard: Heard) -> None:
        accepted.append(sock)
        accepting(sock, heard)

    with peer(counting, house) as (origin, heard):
        one = door(origin, house)
        for _ in range(3):
            assert one.request("PUT", "/v1/x", SECRET).status == 201
        assert one.request("GET", "/v1/x").status == 201
        assert len(accepted) == 1
        one.close()
        assert one.request("GET", "/v1/x").status == 201  # closed is not for ever
        one.close()

    assert len(accepted) == 2
    assert bytes(heard.body) == SECRET * 3


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_gets_no_byte_of_the_body(house: House, status: int) -> None:
    """A server with our pin that answers with a redirect has read headers and nothing else."""
    script = answers(
        b"HTTP/1.1 %d Moved" % status, b"location: https://elsewhere.example/", b"content-length: 0"
    )
    with (
        peer(script, house) as (origin, heard),
        pytest.raises(RedirectedError, match=f"redirect \\({status}\\)") as caught,
    ):
        door(origin, house).request("PUT", "/v1/x", SECRET)

    assert not caught.value.body_sent
    assert len(heard.heads) == 1
    assert bytes(heard.body) == b""


def test_a_redirect_of_a_request_without_body_is_refused_too(house: House) -> None:
    """GET is not followed either."""
    with (
        peer(answers(b"HTTP/1.1 302 Found", b"location: /y", b"content-length: 0"), house) as (
            origin,
            heard,
        ),
        pytest.raises(RedirectedError),
    ):
        door(origin, house).request("GET", "/v1/x")

    assert len(heard.heads) == 1


def test_a_certificate_of_another_authority_of_the_same_name_gets_nothing(
    house: House, tmp_path: Path
) -> None:
    """The name of the authority means nothing, its key does: not even a head is sent."""
    other = found(tmp_path / "other", name="House")
    with (
        peer(accepting, other) as (origin, heard),
        pytest.raises(UntrustedServerError, match="not of the authority that we trust"),
    ):
        door(origin, house, pins=(house.pin, other.pin)).request("PUT", "/v1/x", SECRET)

    assert heard.heads == []
    assert bytes(heard.body) == b""


def test_a_server_with_another_key_gets_nothing(house: House) -> None:
    """A certificate in perfect order with a key that is not pinned: not even a head is sent."""
    with (
        peer(accepting, house) as (origin, heard),
        pytest.raises(WrongPinError, match="not the pinned one"),
    ):
        door(origin, house, pins=("00" * 32,)).request("PUT", "/v1/x", SECRET)

    assert heard.heads == []
    assert bytes(heard.body) == b""


def test_a_certificate_for_another_host_gets_nothing(tmp_path: Path) -> None:
    """The right authority and pin do not help a server of another name."""
    elsewhere = found(tmp_path / "elsewhere", hosts=("collector.example",))
    with (
        peer(accepting, elsewhere) as (origin, heard),
        pytest.raises(WrongHostError, match="for another host"),
    ):
        door(origin, elsewhere).request("PUT", "/v1/x", SECRET)

    assert heard.heads == []


def test_plain_http_gets_nothing(house: House) -> None:
    """Something that speaks HTTP without TLS sees the beginning of a handshake and no more."""

    def plain(sock: socket.socket, heard: Heard) -> None:
        heard.raw += sock.recv(65536)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        drain(sock, heard)

    with (
        peer(plain, None) as (origin, heard),
        pytest.raises(NotTlsError, match=r"does not speak TLS 1\.3"),
    ):
        door(origin, house).request("PUT", "/v1/x", SECRET)

    assert heard.raw.startswith(b"\x16")  # a TLS handshake record
    assert b"PUT" not in heard.raw + heard.body
    assert SECRET[:13] not in heard.raw + heard.body


def test_a_peer_that_hangs_up_at_the_handshake_is_not_tls(house: House) -> None:
    """Closed where TLS begins: said so."""
    with (
        peer(lambda sock, heard: heard.raw.extend(sock.recv(9)), None) as (origin, _heard),
        pytest.raises(NotTlsError, match=r"where TLS 1\.3 begins"),
    ):
        door(origin, house).request("GET", "/v1/x")


def test_an_older_tls_is_not_enough(house: House) -> None:
    """TLS 1.2 does not hide the client's certificate: refused."""
    with peer(accepting, house, tls12=True) as (origin, heard), pytest.raises(NotTlsError):
        door(origin, house).request("PUT", "/v1/x", SECRET)

    assert heard.heads == []


def test_nobody_there_is_unreachable(house: House) -> None:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    with pytest.raises(UnreachableError, match="cannot be reached") as caught:
        door(f"https://127.0.0.1:{port}", house).request("PUT", "/v1/x", SECRET)
    assert not caught.value.body_sent


def test_silence_instead_of_100_continue_sends_nothing(house: House) -> None:
    """A server that waits for the body without asking for it does not get it."""

    def silent(sock: socket.socket, heard: Heard) -> None:
        head(sock, heard)
        drain(sock, heard)

    with (
        peer(silent, house) as (origin, heard),
        pytest.raises(NotContinuedError, match=r"within 0\.3 s") as caught,
    ):
        door(origin, house, timeout=0.3).request("PUT", "/v1/x", SECRET)

    assert not caught.value.body_sent
    assert bytes(heard.body) == b""


@pytest.mark.parametrize("status", [200, 403, 410, 413, 503])
def test_a_final_answer_before_the_body_is_the_answer(house: House, status: int) -> None:
    """What was decided by the head alone needs no body: the answer is returned, whole."""
    script = answers(
        b"HTTP/1.1 %d Enough" % status, b"retry-after: 7", b"content-length: 5", body=b"error"
    )
    with peer(script, house) as (origin, heard):
        answer = door(origin, house).request("PUT", "/v1/x", SECRET)

    assert (answer.status, answer.body) == (status, b"error")
    assert answer.retry_after_seconds == 7
    assert bytes(heard.body) == b""


def test_a_connection_lost_after_the_body_began_says_that_it_may_have_been_sent(
    house: House,
) -> None:
    """The agent must know whether a batch may have arrived."""

    def breaking(sock: socket.socket, heard: Heard) -> None:
        head(sock, heard)
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        sock.recv(10)

    with (
        peer(breaking, house) as (origin, _heard),
        pytest.raises(UnreachableError, match="ended the connection") as caught,
    ):
        door(origin, house).request("PUT", "/v1/x", SECRET)
    assert caught.value.body_sent


@pytest.mark.parametrize(
    "script",
    [
        answers(b"HTTP/1.1 200 OK", b"content-length: 70000", body=b"x" * 70000),
        answers(
            b"HTTP/1.1 200 OK", b"transfer-encoding: chunked", body=b"11170\r\n" + b"x" * 70000
        ),
    ],
    ids=["announced", "in chunks"],
)
def test_an_answer_that_is_too_large_is_not_read(
    house: House, script: Callable[[socket.socket, Heard], None]
) -> None:
    """The door holds at most what it was told to, however the length is announced."""
    with peer(script, house) as (origin, _heard):
        small = OneDoor(origin, (house.pin,), house.ca_pem, largest_answer_bytes=65535)
        with pytest.raises(GarbledAnswerError, match="more than 65535 bytes"):
            small.request("GET", "/v1/x")


@pytest.mark.parametrize(
    "script",
    [
        answers(b"HTTP/1.1 200 OK", b"content-length: 99", body=b"short"),
        answers(b"HTTP/1.1 200 OK", b"server: co", body=b""),
        answers(b"SSH-2.0-OpenSSH_9.2"),
    ],
    ids=["cut short", "without its length", "no HTTP"],
)
def test_an_answer_that_is_none_is_an_error(
    house: House, script: Callable[[socket.socket, Heard], None]
) -> None:
    """A truncated or foreign answer is never taken for an answer."""

    def once(sock: socket.socket, heard: Heard) -> None:
        sock.settimeout(0.3)  # then close, so that the client sees the end
        script(sock, heard)

    with peer(once, house) as (origin, _heard), pytest.raises(GarbledAnswerError):
        door(origin, house).request("GET", "/v1/x")


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_refused_client_certificate_is_said_in_words(house: House, method: str) -> None:
    """Under TLS 1.3 it looks like a closed connection; the person reads what it means."""
    body = SECRET if method == "PUT" else None
    with (
        peer(head, house) as (origin, heard),  # closes after the head, without an answer
        pytest.raises(ClientRefusedError, match="renew it or enroll again"),
    ):
        door(origin, house).request(method, "/v1/x", body)
    assert bytes(heard.body) == b""


def test_no_variable_of_the_environment_is_looked_at(
    house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Proxies, authorities and key logs of the environment do not exist for the door."""
    with peer(accepting, house) as (origin, heard), socket.create_server(("127.0.0.1", 0)) as proxy:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))

        assert door(origin, house).request("PUT", "/v1/x", SECRET).status == 201

    assert bytes(heard.body) == SECRET
    assert not (tmp_path / "keys.log").exists()


def test_several_threads_may_use_one_door(house: House) -> None:
    """Each request gets its own answer."""

    def echo(sock: socket.socket, heard: Heard) -> None:
        head(sock, heard)
        path = heard.heads[-1].split(b" ")[1]
        sock.sendall(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"
            % (len(path), path)
        )

    paths = [f"/{n}" for n in range(8)]
    with peer(echo, house) as (origin, _heard), ThreadPoolExecutor(len(paths)) as threads:
        one = door(origin, house)
        seen = list(threads.map(lambda path: one.request("GET", path).body, paths))

    assert seen == [path.encode() for path in paths]


@pytest.mark.parametrize(
    "origin",
    [
        "http://a.example",
        "https://",
        "https://a.example/path",
        "https://user@a.example",
        "https://a.example?x",
        "https://a.example:99999",
        "a.example",
        "",
    ],
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    """One scheme, one host, one port; nothing else."""
    with pytest.raises(SetupError, match="is no origin"):
        host_and_port(origin)


def test_a_door_without_pins_or_with_unreadable_files_is_not_built(house: House) -> None:
    """Mistakes of configuration are found before the first connection."""
    with pytest.raises(SetupError, match="pins"):
        OneDoor("https://127.0.0.1", (), house.ca_pem)
    with pytest.raises(SetupError, match="hexadecimal"):
        OneDoor("https://127.0.0.1", ("no hex",), house.ca_pem)
    with pytest.raises(SetupError, match="no PEM certificate"):
        OneDoor("https://127.0.0.1", (house.pin,), "nothing")
    with pytest.raises(SetupError, match="cannot be used"):
        OneDoor("https://127.0.0.1", (house.pin,), house.ca_pem, house.folder / "none.pem")


@pytest.mark.parametrize("path", ["", "v1", "//elsewhere.example/x", "https://elsewhere.example/"])
def test_a_path_cannot_name_another_host(house: House, path: str) -> None:
    """Only paths on the one origin can be asked for."""
    with pytest.raises(ValueError, match="one slash"):
        door("https://127.0.0.1:1", house).request("GET", path)


def test_every_cause_is_one_line_and_to_be_tried_again_later() -> None:
    """Whatever stands at the door, no batch is given up for it."""
    for kind in DoorError.__subclasses__():
        assert kind("x").exit_code == 5
