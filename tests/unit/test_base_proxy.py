"""Through a proxy: TLS and pin hold inside the tunnel, and a proxy that meddles gets nothing."""

import contextlib
import re
import socket
import ssl
from pathlib import Path

import pytest

from base.door import (
    DoorError,
    ProxyRefusedError,
    UnreachableError,
    UntrustedServerError,
    WrongPinError,
)
from base.errors import SetupError
from base.https import OneDoor
from base.proxy import Proxy, proxy_at
from tests.fakes.proxy import ESTABLISHED, proxying, relay
from tests.fakes.tls import SECRET, WAIT_SECONDS, Heard, House, drain, found, head, peer


@pytest.fixture
def house(tmp_path: Path) -> House:
    return found(tmp_path / "house")


def door(origin: str, house: House, proxy: Proxy, *, timeout: float = WAIT_SECONDS) -> OneDoor:
    files = house.folder / "device.pem", house.folder / "device.key"
    return OneDoor(origin, (house.pin,), house.ca_pem, *files, timeout, proxy=proxy)


def accepting(sock: socket.socket, heard: Heard) -> None:
    """Take uploads as a good server does."""
    while True:
        head(sock, heard)
        length = re.search(rb"content-length: (\d+)", heard.heads[-1], re.IGNORECASE)
        wanted = len(heard.body) + int(length[1]) if length else 0
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" if length else b"")
        while len(heard.body) < wanted:
            heard.body += sock.recv(65536)
        sock.sendall(b"HTTP/1.1 201 Created\r\ncontent-length: 4\r\n\r\ndone")


def port_of(origin: str) -> int:
    return int(origin.rpartition(":")[2])


def test_a_batch_goes_through_a_proxy_which_learns_host_and_port_alone(house: House) -> None:
    """One CONNECT without any header of ours, then TLS from end to end."""
    with peer(accepting, house) as (origin, heard), relay() as (proxy, carried):
        one = door(origin, house, proxy)
        for _ in range(2):
            assert one.request("PUT", "/v1/batches/aa", SECRET).body == b"done"
        one.close()

    target = b"127.0.0.1:%d" % port_of(origin)
    assert carried.heads == [b"CONNECT %s HTTP/1.1\r\nHost: %s" % (target, target)]
    assert bytes(heard.body) == SECRET * 2
    assert b"batches" not in carried.up
    assert SECRET[:13] not in carried.up
    assert carried.up.startswith(b"\x16\x03")  # a TLS handshake record


def test_a_proxy_that_inspects_tls_gets_no_request(house: House, tmp_path: Path) -> None:
    """It shows a certificate of its own authority: no head, no body, and the line says so."""
    inspector = found(tmp_path / "inspector", name="House")

    def inspecting(sock: socket.socket, heard: Heard) -> None:
        head(sock, heard)
        sock.sendall(ESTABLISHED)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(inspector.folder / "tls.pem", inspector.folder / "tls.key")
        with context.wrap_socket(sock, server_side=True) as inside:
            drain(inside, heard)

    with (
        peer(accepting, house) as (origin, behind),
        proxying(inspecting) as (proxy, heard),
        pytest.raises(UntrustedServerError, match="inspects TLS must exempt this host") as caught,
    ):
        door(origin, house, proxy).request("PUT", "/v1/batches/aa", SECRET)

    assert str(proxy) in str(caught.value)
    assert bytes(heard.body) == b""
    assert behind.heads == []


def test_a_proxy_that_leads_to_another_key_of_the_right_authority_gets_no_request(
    house: House, tmp_path: Path
) -> None:
    """The pin is checked inside the tunnel."""
    other = found(tmp_path / "other")
    with (
        peer(accepting, other) as (elsewhere, heard),
        relay(instead=("127.0.0.1", port_of(elsewhere))) as (proxy, _carried),
        pytest.raises(WrongPinError, match="not the pinned one"),
    ):
        OneDoor(
            "https://127.0.0.1:1", (house.pin,), other.ca_pem, timeout=WAIT_SECONDS, proxy=proxy
        ).request("PUT", "/v1/batches/aa", SECRET)
    assert heard.heads == []


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
         r"asks for a login \(407\); nothing was sent; ask IT to let 127\.0\.0\.1:\d+ through"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n",
         r"answered with a redirect, which is refused \(302\)"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\n<blocked>",
         r"does not let 127\.0\.0\.1:\d+ through \(403\); nothing was sent; ask IT to allow"),
        (b"HTTP/1.0 502 Bad Gateway\r\n\r\n", r"cannot reach 127\.0\.0\.1:\d+ \(502\)"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "answers as no HTTP proxy does"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 4096, "answers as no HTTP proxy does"),
        (b"", "answers as no HTTP proxy does"),
    ],
    ids=["login", "redirect", "forbidden", "gateway", "no HTTP", "endless head", "hangs up"],
)  # fmt: skip
def test_a_proxy_that_does_not_connect_gets_no_byte_of_a_batch(
    house: House, answer: bytes, says: str
) -> None:
    """It has heard whom we want to reach; the line says what to do."""

    def refusing(sock: socket.socket, heard: Heard) -> None:
        head(sock, heard)
        sock.sendall(answer)
        sock.shutdown(socket.SHUT_WR)
        drain(sock, heard)

    with (
        proxying(refusing) as (proxy, heard),
        pytest.raises(ProxyRefusedError, match=says) as caught,
    ):
        door("https://127.0.0.1:9", house, proxy).request("PUT", "/v1/batches/aa", SECRET)

    assert not caught.value.body_sent
    assert len(str(caught.value).splitlines()) == 1
    assert [h.split(b" ")[0] for h in heard.heads] == [b"CONNECT"]
    assert bytes(heard.body) == b""


def test_a_proxy_that_answers_in_the_servers_place_gets_the_beginning_of_a_handshake(
    house: House,
) -> None:
    """It says that it is connected, and goes on in plain HTTP: no request follows."""

    def answering(sock: socket.socket, heard: Heard) -> None:
        head(sock, heard)
        sock.sendall(ESTABLISHED + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")
        drain(sock, heard)

    with proxying(answering) as (proxy, heard), pytest.raises(DoorError, match="nothing was sent"):
        door("https://127.0.0.1:9", house, proxy).request("PUT", "/v1/batches/aa", SECRET)
    assert b"PUT" not in heard.body
    assert SECRET[:13] not in heard.body


def test_a_proxy_that_is_silent_or_away_is_tried_again_later(house: House) -> None:
    """Nobody waits for ever, and the line names the proxy, not the collector."""

    def silent(sock: socket.socket, heard: Heard) -> None:
        head(sock, heard)
        drain(sock, heard)

    with proxying(silent) as (proxy, _), pytest.raises(UnreachableError, match=str(proxy)):
        door("https://127.0.0.1:9", house, proxy, timeout=0.3).request("GET", "/v1/state")
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        nobody = Proxy(host="127.0.0.1", port=reserved.getsockname()[1])
    with pytest.raises(UnreachableError, match=f"{nobody} cannot be reached"):
        door("https://127.0.0.1:9", house, nobody).request("GET", "/v1/state")


def test_with_a_proxy_nobody_else_is_called(house: House) -> None:
    """Not the server past it when the proxy refuses: IT has its reasons."""
    with peer(accepting, house) as (origin, heard), socket.create_server(("127.0.0.1", 0)) as none:
        away = Proxy(host="127.0.0.1", port=none.getsockname()[1])
        none.close()
        with contextlib.suppress(UnreachableError):
            door(origin, house, away).request("PUT", "/v1/batches/aa", SECRET)
    assert heard.heads == []
    assert heard.failures == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://proxy.example:3128", Proxy(host="proxy.example", port=3128)),
        (" http://proxy.example:3128/ \n", Proxy(host="proxy.example", port=3128)),
        ("http://[::1]:8080", Proxy(host="::1", port=8080)),
    ],
)
def test_a_proxy_is_written_as_an_address(text: str, expected: Proxy) -> None:
    """And read back as it was written."""
    assert proxy_at(text) == expected
    assert str(proxy_at(text)) == text.strip().rstrip("/")


@pytest.mark.parametrize(
    "text",
    ["", "proxy.example:3128", "http://proxy.example", "https://proxy.example:3128",
     "socks5://proxy.example:1080", "http://proxy.example:3128/path", "http://proxy.example:99999"],
)  # fmt: skip
def test_what_is_no_proxy_is_refused_with_an_example(text: str) -> None:
    """Only plain HTTP proxies with a port; what else there is says so in one line."""
    with pytest.raises(SetupError, match=r"write it as in http://proxy\.example:3128"):
        proxy_at(text)


def test_a_login_in_the_address_is_refused() -> None:
    """It would travel in the clear, and lie in a configuration file."""
    with pytest.raises(SetupError, match="without one") as caught:
        proxy_at("http://ada:geheim@proxy.example:3128")
    assert "geheim" not in str(caught.value)
