"""A connection to a bus leaves nothing behind, also where nobody collects garbage."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.fakes.buses import bus

# In a process of their own: in ours others open and close descriptors meanwhile.
PAUSES = """
import gc, os, time
from agent.capture._atspi import SecureFields

def cycle(number):
    fields = SecureFields()
    fields.open()
    time.sleep(number % 40 / 5_000)  # ends somewhere in the first 8 ms
    fields.close()

cycle(39)
gc.collect()
gc.disable()
before = len(os.listdir("/proc/self/fd"))
for number in range(400):
    cycle(number)
print(len(os.listdir("/proc/self/fd")) - before)
"""
GIVES_UP = """
import asyncio, contextlib, gc, os, sys
from dbus_fast.aio import MessageBus
from agent.dbus import connected

async def gives_up():
    async with asyncio.timeout(0.01), connected(MessageBus(bus_address=sys.argv[1])):
        raise AssertionError("nobody answers there")

gc.disable()
before = len(os.listdir("/proc/self/fd"))
for _ in range(10):
    with contextlib.suppress(TimeoutError):
        asyncio.run(gives_up())
print(len(os.listdir("/proc/self/fd")) - before)
"""


def left_by(program: str, address: str) -> int:
    """Return how many descriptors *program* has more in the end than before."""
    env = {**os.environ, "DBUS_SESSION_BUS_ADDRESS": address, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, address]
    ran = subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=120)
    return int(ran.stdout)


@pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="needs dbus-daemon")
def test_a_pause_at_any_moment_leaves_no_descriptor(tmp_path: Path) -> None:
    """Connecting, asking or waiting: the thread ends with its connection.

    Without `connected` about one cycle in eighty left a socket to the garbage collector.
    """
    for address in bus(tmp_path, "bus"):
        assert left_by(PAUSES, address) <= 0


def test_a_connection_that_is_given_up_leaves_no_descriptor(tmp_path: Path) -> None:
    """A pause may come while the bus has not yet said a word."""
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "mute"))
        mute.listen(20)
        assert left_by(GIVES_UP, f"unix:path={tmp_path / 'mute'}") <= 0
