"""One door out: whoever stands in the collector's place gets no byte of a batch.

A real agent has sealed batches to send, and the collector is gone.  In its place come, one
after the other, all the servers of `tests.fakes.impostor`; each counts what it is given.  The
agent's environment is as hostile as environments get: proxies for everything, an authority
of the impostor's, a file for session keys.  After all of it the collector comes back.
"""

import contextlib
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext
from typing import Any, Final, Self

import pytest

from demo.organisation import Organisation, Plan, free_port
from demo.programs import ProgramError
from demo.typist import Load
from demo.workstation import Workstation, children
from tests.fakes.connections import InternetSocket, Recorder, address, internet_sockets
from tests.fakes.impostor import (
    OK,
    Given,
    Impostor,
    namesake_context,
    own_context,
    redirect,
    sibling_context,
    stolen_context,
)
from tests.fakes.planted import planted_in
from wire.category import Category

pytestmark = [pytest.mark.e2e, pytest.mark.steady, pytest.mark.slow]

SOON_SECONDS: Final = 60.0  # machines are slow, and until a first drill has passed it tries again
STEP_SECONDS: Final = 0.05
PROGRAMS: Final = {"agent", "tray", *(f"agent.sensors.{s}" for s in ("input", "screen", "context"))}
TYPING: Final = Load(keys=20, moves=20, text="work", area=(100, 120, 300, 200))

# What `assent-agent status` says of each, and of none of the others.
CAUSES: Final = {
    "nobody": "cannot be reached; later it may work",
    "plain HTTP": "does not speak TLS 1.3; nothing was sent",
    "a self-signed certificate": "(self-signed certificate); nothing was sent",
    "another authority of the same name": "(certificate signature failure); nothing was sent",
    "another key of the right authority": "is not the pinned one; nothing was sent",
    "the stolen key, redirecting": "answered with a redirect (307), which is refused",
    "the stolen key, saying yes": "the collector's receipt does not hold",
}
STRANGERS: Final = (
    "a self-signed certificate",
    "another authority of the same name",
    "another key of the right authority",
)


@dataclass(slots=True, kw_only=True)
class Scene:
    """An agent with batches to send, and a free place where the collector was."""

    organisation: Organisation
    station: Workstation
    folder: Path
    proxy: Impostor
    recorder: Recorder
    port: int
    batches: dict[str, bytes] = field(default_factory=dict)  # sealed and signed, by hash

    def waiting(self) -> dict[str, bytes]:
        """Return the batches that lie in the spool, signed, to be sent."""
        ready = self.station.agent.home / "state/spool/ready"
        return {path.stem: path.read_bytes() for path in ready.glob("*.frame")}

    def contexts(self) -> dict[str, Callable[[], SSLContext]]:
        """Return the TLS of each impostor that has any."""
        own, config = self.folder / "impostor", self.organisation.collector.home / "config"
        return {
            "a self-signed certificate": lambda: own_context(own),
            "another authority of the same name": lambda: namesake_context(own, config / "ca.pem"),
            "another key of the right authority": lambda: sibling_context(own, config),
            "the stolen key, redirecting": lambda: stolen_context(config),
            "the stolen key, saying yes": lambda: stolen_context(config),
        }

    def start_agent(self) -> None:
        """Start the agent anew: a new start tries at once, however long the back-off was."""
        self.station.agent.stop()
        self.station.agent.serve("run")

    def status_when(self, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Return the first status for which *holds*."""
        deadline, status = time.monotonic() + SOON_SECONDS, dict[str, Any]()
        while True:
            with contextlib.suppress(ProgramError):  # it has only begun to start
                status = self.station.status_now()
                if holds(status):
                    return status
            if time.monotonic() >= deadline:
                said = status.get("collector"), self.station.agent.last_lines()
                raise TimeoutError(f"waited {SOON_SECONDS} s; {said}")
            time.sleep(STEP_SECONDS)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """Record a little with the collector away, and pause by command."""
    with tempfile.TemporaryDirectory(prefix="assent-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        with (
            Impostor(free_port(), None, b"HTTP/1.1 200 Connection established\r\n\r\n") as proxy,
            Organisation(folder / "org", Plan(hold_seconds=1, test_only=True)) as organisation,
        ):
            recorder = Recorder(folder / "recorder")
            env = {**hostile(folder, proxy), **recorder.env}
            enrolment = organisation.enrolment_file("ada")
            with Workstation(folder / "ada", enrolment, env) as station:
                yield _scene(folder, organisation, station, proxy, recorder)


def _scene(
    folder: Path,
    organisation: Organisation,
    station: Workstation,
    proxy: Impostor,
    recorder: Recorder,
) -> Scene:
    station.open_terminal()
    station.consent(Category.KEYS, Category.POINTER)
    station.person.activate("work")
    station.wait_for_status("recording", lambda s: len(s["recording"]) == 2)
    port = int((organisation.collector.home / "port").read_text())
    organisation.collector.stop()
    (organisation.collector.home / "port").unlink()
    station.typist.start(TYPING)
    station.wait_for_status("events", lambda s: {"keys", "moves"} <= s["kept"].keys())
    station.agent.run("pause")
    station.typist.stop()
    station.wait_for_status("batches to send", lambda s: s["spool"]["waiting"] == 2)
    scene = Scene(
        organisation=organisation,
        station=station,
        folder=folder,
        proxy=proxy,
        recorder=recorder,
        port=port,
    )
    scene.batches = scene.waiting()
    return scene


def hostile(folder: Path, proxy: Impostor) -> dict[str, str]:
    """Return an environment that would divert, convince or betray a careless client."""
    at = f"http://127.0.0.1:{proxy.port}"
    own_context(folder / "impostor-authority")
    authority = str(folder / "impostor-authority/tls.pem")
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY")
    return {
        **{name: at for each in names for name in (each, each.lower())},
        **dict.fromkeys(("NO_PROXY", "no_proxy"), ""),
        **dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), authority),
        "SSLKEYLOGFILE": str(folder / "session-keys.txt"),
    }


# --- who stands there -----------------------------------------------------------------------


def knock(scene: Scene, who: str, answer: bytes, seen: Callable[[Given], object]) -> Given:
    """Let *who* stand in the collector's place until the agent has said why it sends nothing."""
    context = scene.contexts().get(who, lambda: None)()
    with Impostor(scene.port, context, answer) as impostor:
        scene.start_agent()
        scene.status_when(
            lambda status: CAUSES[who] in status["collector"]["last_error"] and seen(impostor.given)
        )
        check_cause(scene, who)
        scene.station.agent.stop()
    check_nothing_left(scene, impostor.given)
    return impostor.given


def check_cause(scene: Scene, who: str) -> None:
    """Status names this cause and no other, in one line, as JSON and in words."""
    error = scene.station.status()["collector"]["last_error"]
    assert [each for each, words in CAUSES.items() if words in error] == [who]
    assert len(error.splitlines()) == 1
    assert f"trouble    {error}" in scene.station.agent.run("status")


def check_nothing_left(scene: Scene, given: Given) -> None:
    """No byte of any batch was given, and none is missing."""
    assert given.body_bytes == 0
    assert not given.has_frame
    for frame in scene.batches.values():
        pieces = (frame[at : at + 16] for at in range(0, len(frame) - 16, 16))
        assert not any(piece in given.heard for piece in pieces)
    assert scene.waiting() == scene.batches


def test_nobody_there_is_said(scene: Scene) -> None:
    """The collector is down: status says so, and everything waits."""
    scene.start_agent()
    scene.status_when(lambda status: status["collector"]["last_error"])
    check_cause(scene, "nobody")
    check_nothing_left(scene, Given())


def test_plain_http_gets_the_beginning_of_a_handshake(scene: Scene) -> None:
    """A server without TLS sees that somebody wanted TLS, and nothing else."""
    given = knock(scene, "plain HTTP", OK, lambda given: given.connections >= 2)
    assert given.heard.startswith(b"\x16\x03")  # a TLS record: handshake
    assert b"batches" not in given.heard


@pytest.mark.parametrize("who", STRANGERS)
def test_a_server_that_is_not_the_pinned_one_hears_nothing(scene: Scene, who: str) -> None:
    """Self-signed, of a namesake, or of the right authority for another key: no request at all."""
    given = knock(scene, who, OK, lambda given: given.connections >= 2)
    assert given.heard == b""


def test_a_redirect_gets_heads_and_nobody_is_sent_elsewhere(scene: Scene) -> None:
    """With the stolen key the pin holds: it hears who asks for what, and nothing more."""
    config = scene.organisation.collector.home / "config"
    with Impostor(free_port(), stolen_context(config), OK) as elsewhere:
        answer = redirect(f"https://127.0.0.1:{elsewhere.port}")
        who = "the stolen key, redirecting"
        given = knock(scene, who, answer, lambda given: given.heads("PUT"))
    assert elsewhere.given.connections == 0
    check_heads(given, set(scene.batches))


def test_a_yes_that_proves_nothing_ends_no_batch(scene: Scene) -> None:
    """Who says 200 to everything, before the body, gets no body and no batch is given up."""
    who = "the stolen key, saying yes"
    given = knock(scene, who, OK, lambda given: given.heads("PUT"))
    check_heads(given, set(scene.batches))


def check_heads(given: Given, batches: set[str]) -> None:
    """Of batches only names and lengths were said, and nothing was sent without being asked."""
    puts = given.heads("PUT")
    assert puts
    assert {head.split()[1].removeprefix("/v1/batches/") for head in puts} <= batches
    assert all("\r\nExpect: 100-continue" in head for head in puts)
    assert given.heads("POST") == []
    heads = [*puts, *given.heads("GET")]
    assert sum(len(head) + 4 for head in heads) == len(given.heard), "heads are all there is"


# --- where the agent goes -------------------------------------------------------------------


def test_nothing_is_lost_when_the_collector_comes_back(scene: Scene) -> None:
    """Each batch arrives, once, and is receipted; then status has no trouble to tell of."""
    scene.station.agent.stop()
    assert scene.waiting() == scene.batches
    start_collector(scene.organisation)
    scene.start_agent()
    status = scene.status_when(lambda s: s["spool"]["sent"] == 2 and not s["spool"]["waiting"])
    assert status["collector"]["last_error"] == ""
    assert status["collector"]["last_receipt_at"] is not None
    assert status["spool"]["quarantined"] == status["spool"]["forgotten"] == 0
    state = scene.organisation.collector.home / "state"
    stored = (state / "objects").glob("??/*")
    hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in stored}
    assert sorted(hashes - planted_in(state)) == sorted(scene.batches)
    check_calls(scene)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees the sockets of our processes")
def test_recording_and_sending_take_one_socket_to_one_place(scene: Scene) -> None:
    """Agent, tray and sensors hold no internet socket but the agent's own to the collector."""
    station = scene.station
    start_collector(scene.organisation)
    with Watch(station) as watch:
        scene.start_agent()
        station.person.wait_for_tray(SOON_SECONDS)
        station.resume()
        station.person.activate("work")
        station.typist.start(TYPING)
        scene.status_when(lambda status: {"keys", "moves"} <= status["kept"].keys())
        station.agent.run("pause")
        station.typist.stop()
        station.wait_until_sent()
    assert {(sock.table, sock.remote) for sock in watch.seen} == {("tcp", address(scene.port))}
    assert watch.holders == {"agent"}
    check_calls(scene)


def check_calls(scene: Scene) -> None:
    """In all of this module, no program of ours as much as asked for another address."""
    assert scene.recorder.programs >= PROGRAMS
    assert scene.recorder.reached == {("127.0.0.1", str(scene.port))}
    # What urllib3 does when it is imported, to learn whether this machine speaks IPv6.
    assert scene.recorder.bound <= {("::1", "0")}
    assert scene.proxy.given.connections == 0
    assert not (scene.folder / "session-keys.txt").exists()


def start_collector(organisation: Organisation) -> None:
    """Let the real collector serve at its old place, unless it does."""
    collector, port_file = organisation.collector, organisation.collector.home / "port"
    if port_file.exists():
        return
    collector.serve("serve", "--port-file", port_file)
    collector.wait_until("open port", port_file.exists)


class Watch:
    """Looks all the time at the internet sockets of an agent and its children."""

    def __init__(self, station: Workstation) -> None:
        self.seen: set[InternetSocket] = set()
        self.holders: set[str] = set()
        self._station = station
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_how: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.02):
            with contextlib.suppress(ProgramError, FileNotFoundError):  # between two agents
                agent = self._station.agent.pid
                ours, theirs = internet_sockets([agent]), internet_sockets(children(agent))
                self.seen |= ours | theirs
                self.holders |= {"agent"} if ours else set()
                self.holders |= {"a child"} if theirs else set()
