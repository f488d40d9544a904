"""The workers of one listener: started, replaced when one dies, ended together.

A worker that dies takes with it what it had under way: nothing of that was acknowledged, and
the devices send it again.  One that no longer answers is killed.  Another one takes its
place, so that one bad frame or one hungry kernel does not keep a whole fleet waiting.  When
workers die all the time something is wrong that a restart does not mend: then everything
ends, for whoever runs us to see.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec
from starlette.types import ASGIApp

from base.errors import SetupError
from base.serving import GRACE_SECONDS, Credentials, Listener
from collector.store.opening import RUN
from collector.workers.messages import Ping, Stop
from collector.workers.tunnel import Tunnel
from collector.workers.worker import Told, look_seldom

_log = logging.getLogger(__name__)

MOST_DEATHS: Final = 10  # of all workers within `DEATHS_SECONDS`
DEATHS_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 5.0  # after one that could not be started
PING_SECONDS: Final = 10.0
MOST_UNANSWERED: Final = 12  # in a row, of a worker that has begun; counted, so that a machine
# that slept, or an owner that was held up, kills nobody
PATIENCE_SECONDS: Final = GRACE_SECONDS + 10.0  # for a worker that was told to end


class Crew:
    """Serves a listener by workers, one for each of its sockets."""

    def __init__(self, listener: Listener, kept_open: Sequence[int] = ()) -> None:
        """The descriptors *kept_open* stay open until the last worker has ended."""
        self._listener = listener
        self._kept_open = tuple(kept_open)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._stopped = False
        self._failed: SetupError | None = None
        self._tunnels: dict[int, Tunnel] = {}
        self._deaths: deque[float] = deque(maxlen=MOST_DEATHS)

    def run(self, app: ASGIApp, credentials: Credentials | None) -> None:
        """Serve *app* until SIGTERM or SIGINT, or until `stop` is called.

        Raises:
            SetupError: Certificate or key cannot be used, or workers die all the time.

        """
        try:
            if credentials is None:
                raise SetupError("workers serve over TLS only")
            credentials.check()
            look_seldom()
            asyncio.run(self._run(app, credentials))
        finally:
            self._listener.close()

    def stop(self) -> None:
        """Let `run` end, from another thread, also one that has not begun."""
        self._stopped = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it is over already
                self._loop.call_soon_threadsafe(self._stopping.set)

    # --- while it runs ----------------------------------------------------------------

    async def _run(self, app: ASGIApp, credentials: Credentials) -> None:
        self._loop = asyncio.get_running_loop()
        if self._stopped:
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread
                self._loop.add_signal_handler(number, self._obey, number)
        async with asyncio.TaskGroup() as group:
            for listening in self._listener.descriptors:
                group.create_task(self._keep_working(app, credentials, listening))
            await self._stopping.wait()
            self._listener.close()  # who comes now is turned away, and does not wait
            for tunnel in self._tunnels.values():
                tunnel.line.say(Stop())
        if self._failed is not None:
            raise self._failed

    def _obey(self, number: int) -> None:
        _log.info("stopped by signal %d", number)
        self._stopping.set()

    async def _keep_working(self, app: ASGIApp, credentials: Credentials, listening: int) -> None:
        """Have a worker serve the socket *listening*, one after the other if need be."""
        while not self._stopping.is_set():
            try:
                status = await self._one_life(app, credentials, listening)
            except OSError as exc:  # no memory, no process: that may be over in a moment
                _log.error("a worker could not be started: %s; tried again", exc.strerror)
                await self._rest()
                continue
            if self._stopping.is_set():
                return
            _log.error("a worker ended with status %d; another takes its place", status)
            self._deaths.append(time.monotonic())
            if len(self._deaths) == MOST_DEATHS and self._deaths[-1] - self._deaths[0] < (
                DEATHS_SECONDS
            ):
                self._failed = SetupError("the workers end all the time; the log says why")
                self._stopping.set()

    async def _rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY_SECONDS):
                await self._stopping.wait()

    async def _one_life(self, app: ASGIApp, credentials: Credentials, listening: int) -> int:
        """Start a worker; return its exit status when it has ended.

        Raises:
            OSError: It cannot be started now.

        """
        ended = asyncio.Event()
        tunnel = Tunnel(app, ended.set)
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                child = self._start(credentials, listening, theirs.fileno())
            except OSError:
                ours.close()
                raise
        await asyncio.get_running_loop().create_unix_connection(lambda: tunnel.line, sock=ours)
        self._tunnels[child.pid] = tunnel
        if self._stopping.is_set():
            tunnel.line.say(Stop())
        try:
            await self._until(ended, child, tunnel)
        finally:
            del self._tunnels[child.pid]
            status = await asyncio.to_thread(_waited_for, child)
        return status

    async def _until(
        self, ended: asyncio.Event, child: "subprocess.Popen[bytes]", tunnel: Tunnel
    ) -> None:
        """Wait until a worker has hung up; one that hangs, or does not after `Stop`, is ended."""
        life = asyncio.create_task(ended.wait())
        stop = asyncio.create_task(self._stopping.wait())
        pinging = asyncio.create_task(_ping(child, tunnel))
        try:
            await asyncio.wait({life, stop}, return_when=asyncio.FIRST_COMPLETED)
            _, late = await asyncio.wait({life}, timeout=PATIENCE_SECONDS)
            if late:
                _log.error("a worker did not end; it is killed, and devices send again")
                child.kill()
            await life
        finally:
            stop.cancel()
            pinging.cancel()

    def _start(
        self, credentials: Credentials, listening: int, line: int
    ) -> "subprocess.Popen[bytes]":
        told = Told(
            owner=os.getpid(),
            run=RUN,
            line=line,
            listener=listening,
            certificate=str(credentials.certificate),
            key=str(credentials.key),
            client_authority=str(credentials.client_authority),
            clients=credentials.clients.name,
            log_level=logging.getLogger().level,
        )
        words = msgspec.json.encode(told).decode()
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "collector.workers.worker", words],
            pass_fds=(line, listening, *self._kept_open),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )


async def _ping(child: "subprocess.Popen[bytes]", tunnel: Tunnel) -> None:
    """Kill a worker that no longer answers.

    One that has not yet begun is let alone: what it waits for, the next one would wait for too.
    """
    unanswered = 0
    while unanswered < MOST_UNANSWERED:
        before = tunnel.words
        tunnel.line.say(Ping())
        await asyncio.sleep(PING_SECONDS)
        unanswered = unanswered + 1 if before and tunnel.words == before else 0
    _log.error("a worker hangs; it is killed, and devices send again")
    child.kill()


def _waited_for(child: "subprocess.Popen[bytes]") -> int:
    """Return the exit status of a worker that has hung up; it gets no time to think it over."""
    try:
        return child.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()
