"""A real PostgreSQL server, Debian's, in a folder of its own, for as long as the tests run.

It listens on a Unix socket in that folder and on nothing else.  initdb and postgres refuse to
run as root; then they run as an account without rights.
"""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from collector.index.postgres import PostgresIndex

SECONDS: Final = 120.0  # to start or to end, on a busy machine
PROGRAMS: Final = Path("/usr/lib/postgresql")
TEMPLATE: Final = "assent_template"
# Nothing here outlives the machine, so nothing has to be on its disk; a server that is killed
# loses nothing by it.
FAST: Final = ("fsync=off", "full_page_writes=off", "shared_buffers=32MB", "listen_addresses=")


def program(name: str) -> str:
    """Return the newest of Debian's programs of this name."""
    found = sorted(PROGRAMS.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    assert found, "PostgreSQL is missing: packaging/setup/setup.sh postgres"
    return str(found[-1])


@dataclass(kw_only=True)
class Server:
    """One server; `start` and `stop` as often as a test wants."""

    folder: Path
    settings: tuple[str, ...] = FAST
    _names: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _running: "subprocess.Popen[bytes] | None" = None

    def initialise(self) -> None:
        """Make its files, once."""
        if os.geteuid() == 0:
            account = pwd.getpwnam("nobody")
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        options = ("--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=trust")
        made = [program("initdb"), *options, "--username=assent", f"--pgdata={self.data}"]
        subprocess.run(_unprivileged(made), check=True, capture_output=True, cwd=self.folder)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Start it, and wait until it lets somebody in."""
        settings = (*self.settings, f"unix_socket_directories={self.folder}")
        options = [part for each in settings for part in ("-c", each)]
        with (self.folder / "log").open("ab") as log:
            self._running = subprocess.Popen(
                _unprivileged([program("postgres"), "-D", str(self.data), *options]),
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                assert self._running.poll() is None, (self.folder / "log").read_text("utf-8")
                assert time.monotonic() < deadline, "the server does not start"
                time.sleep(0.02)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT disconnects everybody, SIGQUIT is as good as a crash."""
        if self._running is not None:
            self._running.send_signal(how)
            self._running.wait(SECONDS)
            self._running = None

    def url(self, database: str) -> str:
        return f"postgresql://assent@/{database}?host={self.folder}"

    def empty(self) -> str:
        """Return the URL of a new database with nothing in it."""
        return self.new("template1")

    def index(self) -> str:
        """Return the URL of a new database with the tables of an index."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            known = "SELECT 1 FROM pg_database WHERE datname = %s"
            if connection.execute(known, (TEMPLATE,)).fetchone() is None:
                connection.execute(f"CREATE DATABASE {TEMPLATE}")
                template = PostgresIndex(self.url(TEMPLATE), any_version=True)
                template.create()
                template.close()
        return self.new(TEMPLATE)

    def new(self, template: str) -> str:
        """Return the URL of a new database that is a copy of *template*."""
        name = f"t{next(self._names)}"
        made = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(made.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)


@contextlib.contextmanager
def server(settings: tuple[str, ...] = FAST) -> Iterator[Server]:
    """Run a new server; afterwards it is gone, with all that was in it."""
    # Not below pytest's own folders: the account that it runs as could not get there.
    folder = Path(tempfile.mkdtemp(prefix="assent-postgres-"))
    running = Server(folder=folder, settings=settings)
    try:
        running.initialise()
        running.start()
        yield running
    finally:
        running.stop(signal.SIGQUIT)
        shutil.rmtree(folder)


def _unprivileged(command: list[str]) -> list[str]:
    """Return *command* so that it is not root's, and ends when we do, however that happens."""
    rights = ["--pdeathsig=QUIT"]
    if os.geteuid() == 0:
        account = pwd.getpwnam("nobody")
        rights += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    return ["setpriv", *rights, "--", *command]
