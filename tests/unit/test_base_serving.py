"""Serving: who connects is known by certificate, and stopping finishes what is under way."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from base.door import ClientRefusedError
from base.errors import SetupError
from base.https import OneDoor
from base.serving import Clients, Credentials, Listener
from tests.fakes.tls import WAIT_SECONDS, House, found, pem_to_der

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def shows_certificate(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the client's certificate as the server knows it."""
    body = scope["state"]["client_cert"] or b"nobody"
    if scope["method"] == "PUT":
        body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def house(tmp_path: Path) -> House:
    return found(tmp_path / "house")


def credentials(house: House, clients: Clients) -> Credentials:
    return Credentials(
        certificate=house.folder / "tls.pem",
        key=house.folder / "tls.key",
        client_authority=house.folder / "ca.pem",
        clients=clients,
    )


@contextmanager
def serving(house: House, clients: Clients = Clients.OPTIONAL) -> Iterator[str]:
    listener = Listener("127.0.0.1", 0)
    thread = threading.Thread(
        target=listener.run, args=(shows_certificate, credentials(house, clients)), daemon=True
    )
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.port}"
    finally:
        listener.stop()
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()


def door(origin: str, house: House, *, certificate: Path | None) -> OneDoor:
    key = house.folder / "device.key" if certificate else None
    return OneDoor(origin, (house.pin,), house.ca_pem, certificate, key, WAIT_SECONDS)


def test_the_application_sees_the_certificate_of_its_client(house: House) -> None:
    """The DER that the client showed, on every request of the connection."""
    certificate = house.folder / "device.pem"
    with serving(house) as origin:
        one = door(origin, house, certificate=certificate)
        for _ in range(2):
            assert one.request("GET", "/").body == pem_to_der(certificate.read_bytes())
        one.close()


def test_a_client_without_certificate_is_nobody_where_that_is_allowed(house: House) -> None:
    """Enrolment begins without one."""
    with serving(house) as origin:
        answer = door(origin, house, certificate=None).request("GET", "/")

    assert answer.body == b"nobody"
    assert "server" not in answer.headers


def test_a_client_without_certificate_is_refused_where_one_is_required(house: House) -> None:
    """And is told why in words."""
    with serving(house, Clients.REQUIRED) as origin, pytest.raises(ClientRefusedError):
        door(origin, house, certificate=None).request("GET", "/")


@pytest.mark.parametrize("clients", Clients)
def test_a_certificate_of_another_authority_is_refused(
    house: House, tmp_path: Path, clients: Clients
) -> None:
    """Optional means none or ours, never somebody else's; no byte of a body is sent."""
    other = found(tmp_path / "other")
    with serving(house, clients) as origin:
        stranger = OneDoor(
            origin,
            (house.pin,),
            house.ca_pem,
            other.folder / "device.pem",
            other.folder / "device.key",
            WAIT_SECONDS,
        )
        with pytest.raises(ClientRefusedError) as caught:
            stranger.request("PUT", "/", b"body")
    assert not caught.value.body_sent


def test_uploads_are_asked_for_by_the_real_server_too(house: House) -> None:
    """Reading the body sends 100 Continue; the door and the server fit together."""
    with serving(house) as origin:
        assert door(origin, house, certificate=None).request("PUT", "/", b"x" * 9).body == b"x" * 9


def test_only_tls_13_is_spoken(house: House) -> None:
    """TLS 1.2 and plain HTTP get no answer of the application."""
    with serving(house) as origin:
        port = int(origin.rpartition(":")[2])
        old = ssl.create_default_context(cadata=house.ca_pem)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with (
            socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as sock,
            pytest.raises((ssl.SSLError, ConnectionResetError)),
        ):
            old.wrap_socket(sock, server_hostname="127.0.0.1")
        with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"HTTP" not in sock.recv(100)


def test_an_answer_does_not_wait_for_an_acknowledgement(house: House) -> None:
    """Nagle's algorithm is off on both ends; with it each answer took 40 ms."""
    took = []
    with serving(house) as origin:
        one = door(origin, house, certificate=None)
        for _ in range(10):
            begun = time.perf_counter()
            one.request("PUT", "/", b"x")
            took.append(time.perf_counter() - begun)
        one.close()
    assert min(took) < 0.03


def test_headers_of_proxies_are_not_believed(house: House) -> None:
    """Nobody stands before us who might say who the client is."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await shows_certificate(scope, receive, send)

    listener = Listener("127.0.0.1", 0)
    thread = threading.Thread(
        target=listener.run, args=(app, credentials(house, Clients.OPTIONAL)), daemon=True
    )
    thread.start()
    one = door(f"https://127.0.0.1:{listener.port}", house, certificate=None)
    one.request("GET", "/", headers={"X-Forwarded-For": "9.9.9.9", "X-Forwarded-Proto": "http"})
    listener.stop()
    thread.join(WAIT_SECONDS)

    assert seen[0]["client"][0] == "127.0.0.1"
    assert seen[0]["scheme"] == "https"


def test_a_port_in_use_is_said_in_one_line() -> None:
    """The second server on a port does not start."""
    first = Listener("127.0.0.1", 0)
    with pytest.raises(SetupError, match=f"cannot listen on 127.0.0.1 port {first.port}"):
        Listener("127.0.0.1", first.port)
    first.close()


def test_a_server_without_its_certificate_does_not_start(house: House) -> None:
    """A missing file is a matter of set-up."""
    (house.folder / "tls.pem").unlink()
    with pytest.raises(SetupError, match="cannot be used"):
        Listener("127.0.0.1", 0).run(shows_certificate, credentials(house, Clients.REQUIRED))


PROGRAM = """
import sys
from pathlib import Path
from base.serving import Clients, Credentials, Listener

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"up"})

folder = Path(sys.argv[1])
listener = Listener("127.0.0.1", 0)
listener.announce(folder / "port")
print(listener.port, flush=True)
listener.run(app, Credentials(certificate=folder / "tls.pem", key=folder / "tls.key",
                              client_authority=folder / "ca.pem", clients=Clients.OPTIONAL))
print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_gracefully(house: House, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end `run`; what comes after it is done, and the exit code is 0."""
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(house.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert child.stdout is not None
    port = child.stdout.readline().strip()
    assert (house.folder / "port").read_text() == f"{port}\n"
    origin = f"https://127.0.0.1:{port}"
    assert door(origin, house, certificate=None).request("GET", "/").body == b"up"
    child.send_signal(number)
    out, err = child.communicate(timeout=WAIT_SECONDS)

    assert (out, err, child.returncode) == ("ended\n", "", 0)
