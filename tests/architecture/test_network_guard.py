"""The guard of tests/conftest.py, tried."""

import socket
import urllib.request

import pytest


@pytest.mark.parametrize("address", ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"])
def test_a_test_cannot_connect_to_another_machine(
    address: str, request: pytest.FixtureRequest
) -> None:
    """The refusal comes before a packet leaves (192.0.2.0/24 and 2001:db8::/32 are nobody's)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as sock, pytest.raises(AssertionError, match="loopback only"):
        sock.connect((address, 9))
    forgive(request)


def test_a_test_cannot_resolve_a_name(request: pytest.FixtureRequest) -> None:
    """Not even the question leaves the machine."""
    with pytest.raises(AssertionError, match="loopback only"):
        urllib.request.urlopen("http://assent.example/")
    forgive(request)


def test_a_test_reaches_a_server_on_this_machine() -> None:
    """Loopback is open, by address and by name."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, port), timeout=5).close()


def forgive(request: pytest.FixtureRequest) -> None:
    """Let this test pass although the guard has something to report, as it should."""
    attempts: list[str] = request.getfixturevalue("_no_outside_network")
    assert len(attempts) == 1
    attempts.clear()
