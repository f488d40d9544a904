"""A connection to a bus leaves nothing behind, also where nobody collects garbage."""

import asyncio
import gc
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dbus_fast.aio import MessageBus

from agent.capture._atspi import SecureFields
from agent.dbus import BUS, ask_bus, connected
from tests.fakes.buses import bus


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Whatever is closed by the garbage collector alone stays open."""
    gc.disable()
    yield
    gc.enable()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.usefixtures("uncollected")
@pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="needs dbus-daemon")
def test_a_pause_at_any_moment_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connecting, asking or waiting: the thread ends with its connection.

    Without `connected` about one cycle in eighty left a socket to the garbage collector.
    """
    for address in bus(tmp_path, "bus"):
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        before = descriptors()
        for number in range(400):
            fields = SecureFields()
            fields.open()
            time.sleep(number % 40 / 5_000)  # ends somewhere in the first 8 ms
            fields.close()
        assert descriptors() <= before


@pytest.mark.usefixtures("uncollected")
def test_a_connection_that_is_given_up_leaves_no_descriptor(tmp_path: Path) -> None:
    """A pause may come while the bus has not yet said a word."""

    async def gives_up(address: str) -> None:
        async with asyncio.timeout(0.01), connected(MessageBus(bus_address=address)) as session:
            await ask_bus(session, "NameHasOwner", BUS)

    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "mute"))
        mute.listen(20)
        before = descriptors()
        for _ in range(10):
            with pytest.raises(TimeoutError):
                asyncio.run(gives_up(f"unix:path={tmp_path / 'mute'}"))
        assert descriptors() <= before
