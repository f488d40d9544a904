"""A device of ill will, and frames that come ahead of being asked for (decision 62)."""

import fcntl
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from collector.guard.watch import Watch
from collector.ingest.receive import Knock, Receiver
from collector.store.files import LOCK
from tests.fakes.site import refusal
from tests.fakes.staffed import WORKERS, Staffed, hash_of, staffed_site

pytestmark = pytest.mark.slow

MANY = 24


def test_of_one_device_a_worker_takes_one_frame_at_a_time_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many connections it opens: else it fills the disk with what is then refused."""
    times: list[int] = []
    knocked = Receiver.knocked

    def counted(receiver: Receiver, knocks: list[Knock]) -> object:
        times.append(len(knocks))
        return knocked(receiver, knocks)

    monkeypatch.setattr(Receiver, "knocked", counted)
    with staffed_site(tmp_path, monkeypatch) as staffed:
        frame = staffed.home.seals(staffed.home.consents())
        for number in range(2, 10):  # both workers gave leave
            door = staffed.site.door(*staffed.home.files)
            each = staffed.again(frame, number)
            assert door.request("PUT", f"/v1/batches/{hash_of(each).hex()}", each).status == 201
        times.clear()
        frames = [staffed.again(frame, number) for number in range(100, 100 + MANY)]
        with all_but_the_last_byte(staffed, frames) as connections:
            staffed.site.halts()
            for each, connection in zip(frames, connections, strict=True):
                connection.sendall(each[-1:])
            for connection in connections:
                assert connection.recv(64).startswith(b"HTTP/1.1 503")
        assert MANY - sum(times) <= WORKERS


def test_what_was_refused_while_others_came_without_a_gap_goes_in_an_hour_or_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its removal has to wait for a gap; no erasure would find it, for it has no row."""
    with staffed_site(tmp_path, monkeypatch) as staffed:
        site, frame = staffed.site, staffed.home.seals(staffed.home.consents())
        assert staffed.home.puts(frame).status == 201
        staffed.waits_for(lambda: list(site.collector.store.unsettled()) == [])
        site.halts()
        refused = staffed.again(frame, 2)
        with (site.premises.objects / LOCK).open("rb") as others:
            fcntl.flock(others, fcntl.LOCK_SH)
            assert refusal(staffed.home.puts(refused)) == (503, "halted")
        watch = Watch(site.collector)
        watch.tidy()
        assert site.collector.store.get(hash_of(refused)) == refused
        site.clock.moved += timedelta(hours=1, seconds=1)
        watch.tidy()
        assert site.collector.store.get(hash_of(refused)) is None
        assert site.collector.store.get(hash_of(frame)) == frame
        assert list(site.collector.store.unsettled()) == []


def test_however_a_frame_is_framed_it_is_taken_whole_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two lengths, a length and chunks, a length that lies: what comes ahead is read strictly."""
    with staffed_site(tmp_path, monkeypatch) as staffed:
        frame = staffed.home.seals(staffed.home.consents())
        assert staffed.home.puts(frame).status == 201
        for number, (said, good) in enumerate(FRAMED.items(), 10):
            door = staffed.site.door(*staffed.home.files)  # leave, at whichever worker
            each = staffed.again(frame, 100 + number)
            assert door.request("PUT", f"/v1/batches/{hash_of(each).hex()}", each).status == 201
            frames = [staffed.again(frame, number)]
            with all_but_the_last_byte(staffed, frames, said) as [connection]:
                connection.sendall(frames[0][-1:])
                assert connection.recv(64)[:10] == (b"HTTP/1.1 2" if good else b"HTTP/1.1 4"), said
            taken = staffed.site.collector.store.get(hash_of(frames[0]))
            assert taken == (frames[0] if good else None), said
        staffed.waits_for(lambda: list(staffed.site.collector.store.unsettled()) == [])


FRAMED = {
    "content-length: {n}": True,
    "transfer-encoding: chunked": False,  # what follows is no chunk
    "content-length: {n}\r\ntransfer-encoding: chunked": False,
    "content-length: {n}\r\ncontent-length: {n}": False,
    "content-length: {n}, {n}": False,
    "content-length: +{n}": False,
    "content-length: 0": False,
    "content-length: 99": False,
}


def test_who_hangs_up_leaves_nothing_without_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the last byte, or after it: what is stored then is stored for a row."""
    with staffed_site(tmp_path, monkeypatch) as staffed:
        frame, store = staffed.home.seals(staffed.home.consents()), staffed.site.collector.store
        for number in range(2, 10):
            each = staffed.again(frame, number)
            assert staffed.home.puts(each).status == 201
        frames = [staffed.again(frame, number) for number in range(20, 40)]
        with all_but_the_last_byte(staffed, frames) as connections:
            for each, connection in list(zip(frames, connections, strict=True))[10:]:
                connection.sendall(each[-1:])
        assert staffed.home.puts(staffed.again(frame, 50)).status == 201  # comes after them
        staffed.waits_for(lambda: list(store.unsettled()) == [])
        receipt = staffed.site.collector.receiver.receipt
        for each in frames:
            assert (store.get(hash_of(each)) is None) == (receipt(hash_of(each)) is None)
        assert [store.get(hash_of(each)) for each in frames[:10]] == [None] * 10


@contextmanager
def all_but_the_last_byte(
    staffed: Staffed, frames: list[bytes], framed: str = "content-length: {n}"
) -> Iterator[list[ssl.SSLSocket]]:
    context = ssl.create_default_context(cadata=staffed.site.premises.trusted_pem())
    context.load_cert_chain(*staffed.home.files)
    port = int(staffed.site.origin.rpartition(":")[2])
    connections = []
    try:
        for frame in frames:
            raw = socket.create_connection(("127.0.0.1", port), timeout=30)
            connections.append(context.wrap_socket(raw, server_hostname="127.0.0.1"))
            head = (
                f"PUT /v1/batches/{hash_of(frame).hex()} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
                f"{framed.format(n=len(frame))}\r\n\r\n"
            )
            connections[-1].sendall(head.encode() + frame[:-1])
        yield connections
    finally:
        for connection in connections:
            connection.close()
