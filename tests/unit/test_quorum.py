"""A quorum of witnesses before each release: who counts, who does not, and who holds up nobody."""

import base64
import contextlib
import dataclasses
import hashlib
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.clock import NANOSECONDS, SystemClock
from base.door import Response
from base.errors import ExitCode
from base.https import OneDoor
from base.pki import Authority, new_server_key, private_pem, spki_sha256
from base.serving import Clients, Credentials, Listener
from collector.commands.setup import connect_witness
from demo.organisation import free_port
from demo.programs import Program
from governance.lint import lint
from guard.app import make_witness
from guard.assembly import Watching
from guard.release import Refusal, Refused, release
from guard.trust import PolicySet
from guard.witness import Witness as Watcher
from tests.fakes.organisation import (
    NOW,
    READER,
    Organisation,
    ed25519,
    public_key_of_identity,
    raw,
    wall,
)
from tests.fakes.site import Site, Workstation, collector_site, listening, refusal, today
from wire.collector_http import ReleaseList, ReleaseOrder
from wire.errors import ForgedError
from wire.guard_http import ReleaseRequest
from wire.ids import WallInstant, key_id
from wire.policy import Policy, Witness
from wire.quorum import cosigners, counted, verify_quorum, with_cosignatures
from wire.tlog import (
    ALGORITHM_COSIGNATURE,
    cosign,
    sign_checkpoint,
    verifier_key,
    verify_checkpoint,
)

AT = int(NOW.timestamp())


@dataclass(kw_only=True)
class One:
    """A witness's name, party and key."""

    name: str
    party: str
    key: Ed25519PrivateKey = field(default_factory=ed25519)

    @property
    def named(self) -> Witness:
        return Witness(
            name=self.name,
            party=self.party,
            key=verifier_key(f"{self.name}.example", ALGORITHM_COSIGNATURE, raw(self.key)),
        )

    def cosigns(self, note: str, at: int = AT) -> str:
        return cosign(note, f"{self.name}.example", self.key, at)


@pytest.fixture
def org() -> Organisation:
    made = Organisation()
    made.tree.append(hashlib.sha256(b"a leaf").digest())
    return made


def watched(org: Organisation, *others: One, quorum: int = 2) -> Policy:
    return org.policy(witnesses=tuple(one.named for one in others), quorum=quorum)


UNION, LAB, STATE = (
    One(name="union", party="The Union"),
    One(name="lab", party="The Lab"),
    One(name="state", party="The State"),
)


# --- the rule -----------------------------------------------------------------------------


def test_a_policy_without_witnesses_asks_for_the_guards_own_as_before(org: Organisation) -> None:
    """Old policies are read as they were meant."""
    note = org.cosigned(org.checkpoint())
    assert org.policy().quorum == 1
    assert verify_quorum(note, org.policy()) > 0
    with pytest.raises(ForgedError):
        verify_quorum(org.checkpoint(), org.policy())


def test_a_quorum_is_as_many_parties_as_the_policy_says(org: Organisation) -> None:
    """Which of them is all the same, but for the guard's own."""
    policy = watched(org, UNION, LAB, STATE, quorum=3)
    note = org.cosigned(org.checkpoint())
    with pytest.raises(ForgedError, match="1 of the 3"):
        verify_quorum(note, policy)
    note += UNION.cosigns(note)
    with pytest.raises(ForgedError, match="not counted: lab, state"):
        verify_quorum(note, policy)
    note += STATE.cosigns(note)
    assert verify_quorum(note, policy) > 0


def test_without_the_guards_own_there_is_no_quorum(org: Organisation) -> None:
    """The guard believes what it has seen itself."""
    policy = watched(org, UNION, LAB, quorum=2)
    note = org.checkpoint()
    note += UNION.cosigns(note) + LAB.cosigns(note)
    with pytest.raises(ForgedError):
        verify_quorum(note, policy)


def test_two_witnesses_of_one_party_are_one(org: Organisation) -> None:
    """However its name is written; so is one of the guard's own party."""
    second = One(name="union-2", party=" the  union")
    guards = One(name="trust-2", party="Council Trust")
    policy = watched(org, UNION, second, guards, LAB, quorum=3)
    note = org.cosigned(org.checkpoint())
    note += UNION.cosigns(note) + second.cosigns(note) + guards.cosigns(note)
    assert len(cosigners(note, policy)) == 2
    with pytest.raises(ForgedError, match="2 of the 3"):
        verify_quorum(note, policy)
    assert verify_quorum(note + LAB.cosigns(note), policy) > 0


def test_the_same_witness_twice_is_one(org: Organisation) -> None:
    """Two signatures of it, or its key under two names and parties."""
    again = dataclasses.replace(UNION, name="somebody", party="Somebody else")
    policy = watched(org, UNION, again, LAB, quorum=3)
    note = org.cosigned(org.checkpoint())
    note += UNION.cosigns(note) + UNION.cosigns(note, AT + 1) + again.cosigns(note)
    with pytest.raises(ForgedError, match="2 of the 3"):
        verify_quorum(note, policy)


def test_a_cosignature_of_an_old_tree_counts_for_nothing(org: Organisation) -> None:
    """It stands under another text."""
    policy = watched(org, UNION)
    old = UNION.cosigns(org.checkpoint())
    org.tree.append(hashlib.sha256(b"one more").digest())
    note = org.cosigned(org.checkpoint())
    with pytest.raises(ForgedError):
        verify_quorum(note + old, policy)


def test_a_witness_that_the_policy_does_not_name_counts_for_nothing(org: Organisation) -> None:
    """Nor one that takes the name of one that is named."""
    policy = watched(org, UNION)
    note = org.cosigned(org.checkpoint())
    imposter = One(name="union", party="The Union")
    for line in (LAB.cosigns(note), imposter.cosigns(note)):
        with pytest.raises(ForgedError):
            verify_quorum(note + line, policy)


def test_what_a_witness_answers_besides_spoils_nothing(org: Organisation) -> None:
    """Nonsense, two lines, somebody else's line, bits without a meaning: left out, one by one."""
    policy = watched(org, UNION, LAB, quorum=3)
    note = org.cosigned(org.checkpoint())
    good = UNION.cosigns(note)
    name, _, blob = good.rstrip("\n").rpartition(" ")
    lies = [
        "",
        "nonsense",
        "\n\n",
        good + good,
        STATE.cosigns(note),
        f"{name} {blob[:-4]}{'A' * 4}\n",
        good.rstrip("\n"),
        f"{name} {base64.b64encode(bytes(76)).decode()}\n",
    ]
    both = with_cosignatures(note, [*lies, good, good, *lies, LAB.cosigns(note)], policy)
    assert both == note + good + LAB.cosigns(note)
    assert verify_quorum(both, policy) > 0


def test_who_changes_its_key_answers_by_both_and_the_one_that_is_named_counts(
    org: Organisation,
) -> None:
    """Several lines of one name, in whatever order; what nobody looks for is not kept."""
    later = One(name="union", party="The Union")
    policy = watched(org, UNION)
    bare = org.checkpoint()
    for answer in (
        UNION.cosigns(bare) + later.cosigns(bare),
        later.cosigns(bare) + UNION.cosigns(bare),
    ):
        note = with_cosignatures(org.cosigned(bare), [answer], policy)
        assert verify_quorum(note, policy) > 0
        assert note == org.cosigned(bare) + UNION.cosigns(bare)
    by_both = org.cosigned(bare) + later.cosigns(bare) + UNION.cosigns(bare)
    assert counted(by_both, policy) == org.cosigned(bare) + UNION.cosigns(bare)
    assert counted(bare + later.cosigns(bare), policy) == bare


def test_the_lint_refuses_a_quorum_that_is_none(org: Organisation) -> None:
    """Out of reach, of one, of the controller, of one party twice, with one key twice."""

    def broken(policy: Policy) -> set[str]:
        return {each.rule.name for each in lint(policy, date(2027, 3, 1))}

    assert broken(watched(org, UNION, LAB, quorum=2)) == set()
    assert broken(watched(org, UNION, LAB, quorum=3)) == set()
    assert broken(watched(org, UNION, quorum=3)) == {"quorum-out-of-reach"}
    assert broken(watched(org, UNION, quorum=1)) == {"quorum-out-of-reach"}
    assert broken(watched(org, quorum=0)) == {"quorum-out-of-reach"}
    controllers = One(name="acme", party=org.policy().controller.name)
    assert broken(watched(org, controllers)) == {"witness-not-independent"}
    nobodys = One(name="x", party=" ")
    assert "witness-not-independent" in broken(watched(org, nobodys))
    second = One(name="union-2", party="THE UNION")
    assert broken(watched(org, UNION, second)) == {"witness-not-independent"}
    again = dataclasses.replace(UNION, name="union", party="Somebody else")
    assert "same-key-twice" in broken(watched(org, UNION, again, LAB))
    bad = msgspec.structs.replace(UNION.named, key="no+key+here")
    assert broken(org.policy(witnesses=(bad,), quorum=2)) == {"bad-key"}


def test_the_guard_releases_nothing_under_too_few(org: Organisation, tmp_path: Path) -> None:
    """It counts itself, whatever collector and reader say."""
    published = org.publish(tmp_path, watched(org, UNION, LAB, quorum=2))
    grant = org.grant()
    note = org.cosigned(org.checkpoint())

    def asked(checkpoint: str) -> object:
        return release(
            ReleaseRequest(grant=grant, checkpoint=checkpoint, batches=()),
            caller=READER,
            policy_set=published.policy_set(),
            find_key=lambda *_: pytest.fail("no key is asked for"),
            now=wall(NOW),
        )

    refused = asked(note)
    assert isinstance(refused, Refused)
    assert refused.refusal is Refusal.CHECKPOINT_FOREIGN
    assert asked(note + LAB.cosigns(note)) == ()


# --- the collector, over TLS --------------------------------------------------------------


@dataclass(kw_only=True)
class Running:
    """A witness alone that listens."""

    one: One
    origin: str
    pin: str
    authority: bytes


@contextlib.contextmanager
def witness_site(
    folder: Path, one: One, policy_set: Callable[[], PolicySet | None]
) -> Iterator[Running]:
    """Run the real witness, with no keys beside it."""
    folder.mkdir()
    authority, key = Authority.create("Witness"), new_server_key()
    authority.save(folder)
    (folder / "tls.key").write_bytes(private_pem(key))
    (folder / "tls.pem").write_bytes(authority.server_certificate(key, ["127.0.0.1"]))
    listener = Listener("127.0.0.1", 0)
    watching = Watching(
        tenant="acme",
        witness=Watcher(folder / "witness.sqlite", f"{one.name}.example", one.key),
        policy_set=policy_set,
        clock=SystemClock(),
    )
    credentials = Credentials(
        certificate=folder / "tls.pem",
        key=folder / "tls.key",
        client_authority=folder / "ca.pem",
        clients=Clients.OPTIONAL,
    )
    with listening(listener, make_witness(watching), credentials):
        yield Running(
            one=one,
            origin=f"https://127.0.0.1:{listener.port}",
            pin=spki_sha256(key.public_key()).hex(),
            authority=authority.pem,
        )
    watching.close()


@contextlib.contextmanager
def liar(folder: Path, one: One, says: Callable[[bytes], bytes | None]) -> Iterator[Running]:
    """Run a server in a witness's place; None: it never answers."""
    folder.mkdir()
    authority, key = Authority.create("Liar"), new_server_key()
    (folder / "tls.key").write_bytes(private_pem(key))
    (folder / "tls.pem").write_bytes(authority.server_certificate(key, ["127.0.0.1"]))
    over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            answer = says(body)
            if answer is None:
                over.wait(60)
                return
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.pem", folder / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Running(
            one=one,
            origin=f"https://127.0.0.1:{server.server_port}",
            pin=spki_sha256(key.public_key()).hex(),
            authority=authority.pem,
        )
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


def joins(site: Site, *running: Running, quorum: int) -> None:
    """Name them in a new policy, and tell the collector where they are."""
    for each in running:
        connect_witness(
            site.premises, origin=each.origin, pins=(each.pin,), authority=each.authority
        )
    site.restart()
    named = tuple(each.one.named for each in running)
    site.publishes(witnesses=named, quorum=quorum)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with collector_site(tmp_path / "site") as made:
        yield made


def orders(site: Site) -> tuple[Response, Callable[[], Response]]:
    """Have a batch stored, ask for its release; return the answer, and how to ask again."""
    ada: Workstation = site.workstation()
    frame = ada.seals(ada.consents())
    keys = (ada.org.identity, ada.org.subject_identity)
    frame = ada.spoils(frame, recipients=tuple(key_id(public_key_of_identity(key)) for key in keys))
    assert ada.puts(frame).status == 201
    request = site.org.request(
        first_day=today(),
        last_day=today(),
        expires_at=WallInstant(site.collector.now() + 3600 * NANOSECONDS),
        programme=site.policy.programme,
    )
    order = ReleaseOrder(grant=site.org.grant(request), batches=(hashlib.sha256(frame).digest(),))
    reader = site.reader(READER)

    def ask() -> Response:
        return reader.request("POST", "/v1/releases", msgspec.json.encode(order))

    return ask(), ask


def test_the_collector_collects_a_quorum_from_witnesses_that_hold_no_keys(
    site: Site, tmp_path: Path
) -> None:
    """Real ones, over TLS; each follows the log itself, and the next head, too."""
    with (
        witness_site(tmp_path / "1", UNION, lambda: site.guard.policy) as one,
        witness_site(tmp_path / "2", LAB, lambda: site.guard.policy) as two,
    ):
        joins(site, one, two, quorum=3)
        answer, again = orders(site)
        for each in (answer, again()):
            assert each.status == 200, each.body
            note = msgspec.json.decode(each.body, type=ReleaseList).checkpoint
            verify_checkpoint(note, site.policy.collector.log)
            assert verify_quorum(note, site.policy) > 0
        door = OneDoor(one.origin, (one.pin,), one.authority.decode())
        for path in ("/v1/release", "/v1/keys", "/v1/erase", "/v1/lease", "/v1/erasures"):
            assert door.request("POST", path, b"{}").status == 404
        door.close()


@pytest.fixture
def union(tmp_path: Path) -> Iterator[Program]:
    """The commands of a witness alone; what it serves ends with the test."""
    program = Program("guard", tmp_path / "union")
    try:
        yield program
    finally:
        program.stop()


def test_a_witness_alone_is_a_program_and_the_collector_s_quorum_counts_it(
    site: Site, union: Program, tmp_path: Path
) -> None:
    """Set up, started, told of the policy, as its guide says; without it nothing is released."""
    origin, port_file = f"https://127.0.0.1:{free_port()}", tmp_path / "port"
    card = union.facts("init", "--witness-only", "--origin", origin, "--tenant", "acme")
    authority = (union.home / "config" / "ca.pem").read_bytes()
    connect_witness(site.premises, origin=origin, pins=(card["tls_pin"],), authority=authority)
    site.restart()
    named = Witness(name="union", party="The Union", key=card["witness"])
    site.publishes(witnesses=(named,), quorum=2)
    answer, again = orders(site)
    assert refusal(answer) == (503, "witnesses-missing")

    union.serve("serve", "--port-file", port_file)
    union.wait_until("an open port", port_file.exists)
    assert refusal(again()) == (503, "witnesses-missing")  # it knows of no log to watch yet
    union.run("trust", site.policy_folder, "--yes")
    answer = again()
    assert answer.status == 200, answer.body
    note = msgspec.json.decode(answer.body, type=ReleaseList).checkpoint
    assert verify_quorum(note, site.policy) > 0
    said = union.facts("status")
    assert said["log_size"] == verify_checkpoint(note, site.policy.collector.log).size
    assert {"signing.key", "lease.key"}.isdisjoint(f.name for f in union.home.rglob("*"))
    assert not (union.home / "state" / "keys.sqlite").exists()
    assert "so nothing is cosigned" in union.log.read_text("utf-8")
    assert union.stop() == ExitCode.DONE


@pytest.mark.parametrize("fault", ["dead", "hangs", "nonsense", "another key", "old tree"])
def test_one_witness_that_fails_stops_no_quorum_and_two_do_by_name(
    site: Site, org: Organisation, tmp_path: Path, fault: str
) -> None:
    """Whatever it does; while the one that is left is not enough, nothing is released."""
    old = LAB.cosigns(org.checkpoint())
    said: dict[str, Callable[[bytes], bytes | None]] = {
        "dead": lambda _body: b"",
        "hangs": lambda _body: None,
        "nonsense": lambda _body: b"\xff\x00 no line",
        "another key": lambda body: (
            dataclasses.replace(LAB, key=ed25519())
            .cosigns(body.decode().partition("\n\n")[2])
            .encode()
        ),
        "old tree": lambda _body: old.encode(),
    }
    with (
        witness_site(tmp_path / "1", UNION, lambda: site.guard.policy) as one,
        contextlib.ExitStack() as lying,
    ):
        two = lying.enter_context(liar(tmp_path / "2", LAB, said[fault]))
        if fault == "dead":
            lying.close()
        joins(site, one, two, quorum=2)
        answer, again = orders(site)
        assert answer.status == 200, answer.body
        site.publishes(quorum=3)
        short = again()
        assert refusal(short) == (503, "witnesses-missing")
        assert b"not counted: lab" in short.body


def test_a_head_that_a_device_compares_with_needs_the_guard_alone(
    site: Site, tmp_path: Path
) -> None:
    """Who is away holds up releases, not recording."""
    with liar(tmp_path / "1", UNION, lambda _body: b"") as one:
        joins(site, one, quorum=2)
    note = site.collector.witnessed.latest(site.collector.now())
    assert verify_checkpoint(note, site.policy.collector.log).size
    with pytest.raises(ForgedError):
        verify_quorum(note, site.policy)


def test_a_witness_signs_no_second_history(site: Site, tmp_path: Path) -> None:
    """It remembers what it saw: that is what it is there for."""
    with witness_site(tmp_path / "1", UNION, lambda: site.guard.policy) as one:
        joins(site, one, quorum=2)
        answer, _again = orders(site)
        assert answer.status == 200
        forked = sign_checkpoint(
            msgspec.structs.replace(
                verify_checkpoint(
                    msgspec.json.decode(answer.body, type=ReleaseList).checkpoint,
                    site.policy.collector.log,
                ),
                root=bytes(32),
            ),
            site.premises.log_key(),
        )
        door = OneDoor(one.origin, (one.pin,), one.authority.decode())
        body = f"old 0\n\n{forked}".encode()
        assert door.request("POST", "/add-checkpoint", body).status in (409, 422)
        door.close()
