"""Somebody who is let in and sends large bodies that do not end, over many connections."""

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from base.places import SHARE
from collector.ingest import intake
from collector.serving import reached
from tests.fakes.site import UNLIMITED, collector_site
from tests.fakes.tls import WAIT_SECONDS

MANY = 40


@pytest.mark.parametrize("framed", ["content-length: 1000000", "transfer-encoding: chunked"])
def test_a_device_does_not_fill_the_collector_s_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, framed: str
) -> None:
    """So many of its bodies are read at a time; what it says in few bytes waits for none."""
    now, highest = 0, 0
    bounded = intake.bounded

    async def counted(headers: object, receive: object, bounds: intake.Bounds) -> bytes:
        nonlocal now, highest
        large = bounds.largest_bytes > reached.SMALL_BYTES
        now, highest = now + large, max(highest, now + large)
        try:
            return await bounded(headers, receive, bounds)  # type: ignore[arg-type]
        finally:
            now -= large

    monkeypatch.setattr(reached, "bounded", counted)
    limits = f"{UNLIMITED}body_seconds = 0.5\n"
    with collector_site(tmp_path, limits) as site, ExitStack() as ends:
        home = site.workstation()
        context = ssl.create_default_context(cadata=site.premises.trusted_pem())
        context.load_cert_chain(*home.files)
        port = int(site.origin.rpartition(":")[2])

        def asks(_number: int) -> ssl.SSLSocket:
            raw = ends.enter_context(socket.create_connection(("127.0.0.1", port), WAIT_SECONDS))
            one = ends.enter_context(context.wrap_socket(raw, server_hostname="127.0.0.1"))
            one.sendall(f"POST /v1/consents HTTP/1.1\r\nhost: x\r\n{framed}\r\n\r\n".encode())
            return one

        with ThreadPoolExecutor(8) as threads:
            sent = list(threads.map(asks, range(MANY)))
        home.consents()
        for one in sent:
            assert one.recv(64).startswith(b"HTTP/1.1 503")
    assert 0 < highest <= reached.BODIES // SHARE
