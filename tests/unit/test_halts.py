"""Halt and stop between guard, collector and governance: any one calls, none lifts alone."""

import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import cast

import msgspec
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from base.door import Response
from base.errors import SetupError
from collector.guard.client import GuardClient
from collector.guard.watch import OUTAGE_SECONDS, Watch
from collector.refusal import RefusedError, Why
from governance.__main__ import cli as govern
from guard.halt import Halts
from tests.conftest import NewPlace
from tests.fakes.organisation import Organisation, ed25519
from tests.fakes.site import Site, collector_site, refusal
from wire.collector_http import State
from wire.errors import ForgedError, MalformedError, NotCoveredError, WireError
from wire.guard_http import GuardState
from wire.halting import Halt, SignedHalt, decode_halt, sign_halt, verify_halt
from wire.ids import PolicyDigest, WallInstant
from wire.policy import policy_digest

AT = WallInstant(1_800_000_000_000_000_000)


@pytest.fixture
def site(tmp_path: Path, new_place: NewPlace) -> Iterator[Site]:
    with collector_site(tmp_path / "site", index_url=new_place(tmp_path).url) as site:
        yield site


def state(site: Site) -> State:
    answer: Response = site.door().request("GET", "/v1/state")
    return msgspec.json.decode(answer.body, type=State)


class Way:
    """The way to the guard, which may be closed."""

    def __init__(self, guard: GuardClient | None) -> None:
        self.guard = guard
        self.open = True

    def state(self) -> GuardState:
        if not self.open or self.guard is None:
            raise RefusedError(Why.GUARD_UNREACHABLE, "it is away")
        return self.guard.state()


def guard_halts(site: Site, why: str) -> None:
    assert Halts(site.guard.folder / "halt.json").call(site.guard.policy, why, "the guard", AT)


def test_a_halt_at_the_guard_is_everybodys_after_one_look(site: Site) -> None:
    """The collector says it to every agent, refuses uploads, and logs it."""
    workstation = site.workstation()
    frame = workstation.seals(workstation.consents())
    leaves = site.collector.log.checkpoint()
    guard_halts(site, "the council was not heard")
    Watch(site.collector).look()
    assert state(site) == State(halted=True, why="the council was not heard (said by the guard)")
    assert refusal(workstation.puts(frame)) == (503, "halted")
    assert site.collector.log.checkpoint() != leaves
    assert workstation.deletes(frame).status == 200  # a no waits for nobody


def test_a_halted_guard_hands_out_no_key_even_to_a_collector_that_goes_on(site: Site) -> None:
    """A collector that hides the halt gets nothing to seal to, and nothing released."""
    workstation = site.workstation()
    workstation.consents()
    guard_halts(site, "stop")
    assert refusal(workstation.asks_key()) == (503, "guard-unreachable")


def test_a_new_policy_lifts_a_halt_and_nothing_else_does(site: Site) -> None:
    """Neither looking again, nor going on, nor a new start of the collector."""
    guard_halts(site, "stop")
    watch = Watch(site.collector)
    watch.look()
    site.goes_on()
    watch.look()
    assert state(site).halted
    (site.guard.folder / "halt.json").unlink()  # a guard that forgets lifts nothing either
    watch.look()
    assert state(site).halted
    site.publishes()
    watch.look()
    assert not state(site).halted


def test_a_halt_of_the_guard_ends_with_the_policy_it_was_called_for(site: Site) -> None:
    """Installing the next one, which all signed, is what lifts it there too."""
    guard_halts(site, "stop")
    site.publishes()
    Watch(site.collector).look()
    assert state(site) == State(halted=False, why="")


def test_a_guard_that_is_away_for_long_stops_the_programme_until_it_answers(site: Site) -> None:
    """A short absence stops nobody; the stop lifts by itself."""
    way = Way(site.collector.guard)
    watch = Watch(dataclasses.replace(site.collector, guard=cast("GuardClient", way)))
    way.open = False
    watch.look()
    assert state(site).stopped == ""
    site.clock.moved += timedelta(seconds=OUTAGE_SECONDS + 1)
    watch.look()
    assert "does not answer" in state(site).stopped
    assert not state(site).halted
    assert refusal(site.enrols(site.token(), ed25519())) == (503, "stopped")
    way.open = True
    watch.look()
    assert state(site) == State(halted=False, why="")


def test_a_stop_at_the_guard_is_everybodys_until_it_goes_on(site: Site) -> None:
    """A second look changes nothing; what others began stays."""
    halts = Halts(site.guard.folder / "halt.json")
    watch = Watch(site.collector)
    assert halts.stop("the log is being looked at", AT)
    assert not halts.stop("another reason", AT)
    watch.look()
    watch.look()
    assert state(site).stopped == "the log is being looked at (said by the guard)"
    assert not state(site).halted
    assert refusal(site.enrols(site.token(), ed25519())) == (503, "stopped")
    site.stops("the disk is changed")
    assert halts.go_on()
    assert not halts.go_on()
    watch.look()
    assert state(site).stopped == "the disk is changed"
    site.goes_on()
    assert state(site) == State(halted=False, why="")


def test_a_stopped_guard_hands_out_no_key_until_it_goes_on(site: Site) -> None:
    """Nor does it for a collector that has not heard of the stop, or hides it."""
    workstation = site.workstation()
    workstation.consents()
    halts = Halts(site.guard.folder / "halt.json")
    assert halts.stop("the log is being looked at", AT)
    assert refusal(workstation.asks_key()) == (503, "guard-unreachable")
    assert halts.go_on()
    assert workstation.asks_key().status == 200


def test_a_damaged_stop_is_none_that_is_over(site: Site) -> None:
    """Nobody knows what it said: the guard says which file it is, and goes on with nothing."""
    halts = Halts(site.guard.folder / "halt.json")
    halts.stop_path.write_bytes(b"{")
    with pytest.raises(SetupError, match=r"stop\.json cannot be used"):
        halts.state(site.guard.policy)


def test_a_stop_by_command_outlives_the_guards_return(site: Site) -> None:
    """Each cause ends for itself."""
    site.stops("the disk is changed")
    Watch(site.collector).look()
    assert state(site).stopped == "the disk is changed"
    site.goes_on()
    assert state(site).stopped == ""


# --- statements -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def acme() -> Organisation:
    return Organisation()


def signed(acme: Organisation, folder: Path) -> tuple[bytes, PolicyDigest]:
    published = acme.publish(folder)
    return published.root, policy_digest(published.policy)


def test_one_party_alone_can_call_a_halt(acme: Organisation, tmp_path: Path) -> None:
    """Each of them; the statement says whose it is."""
    root, digest = signed(acme, tmp_path)
    halt = Halt(policy=digest, why="stop", called_at=AT)
    for key, party in ((acme.controller, "Acme Ltd"), (acme.council, "Works Council of Acme")):
        assert verify_halt(sign_halt(halt, key), root, digest) == (halt, party)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda s: msgspec.structs.replace(s, signature=bytes(64)), ForgedError),
        (lambda s: msgspec.structs.replace(s, signature=b""), ForgedError),
        (lambda s: msgspec.structs.replace(s, halt=s.halt.replace(b"stop", b"fine")), ForgedError),
    ],
)
def test_a_changed_statement_is_no_halt(
    acme: Organisation, tmp_path: Path, spoil: object, expected: type[WireError]
) -> None:
    """Not one byte of it."""
    root, digest = signed(acme, tmp_path)
    one = sign_halt(Halt(policy=digest, why="stop", called_at=AT), acme.council)
    assert callable(spoil)
    with pytest.raises(expected):
        verify_halt(spoil(one), root, digest)


def test_a_statement_for_another_policy_and_garbage_are_refused(
    acme: Organisation, tmp_path: Path
) -> None:
    """An old halt cannot be used again under the policy that lifted it."""
    root, digest = signed(acme, tmp_path)
    one = sign_halt(Halt(policy=bytes(32), why="stop", called_at=AT), acme.council)
    with pytest.raises(NotCoveredError):
        verify_halt(one, root, digest)
    with pytest.raises(MalformedError):
        decode_halt(b"{}")
    garbage = SignedHalt(halt=b"x", signature=acme.council.sign(b"assent/halt/v1\0x"))
    with pytest.raises(MalformedError):
        verify_halt(garbage, root, digest)


def test_govern_writes_a_halt_that_collector_and_guard_take(
    acme: Organisation, tmp_path: Path
) -> None:
    """With a party's key; somebody else's key is refused and writes nothing."""
    root, digest = signed(acme, tmp_path / "acme")
    out, key = tmp_path / "halt.json", tmp_path / "key.pem"

    def run() -> tuple[int, str]:
        line = ["halt", str(tmp_path / "acme"), "not\nagreed", "--key", str(key), "--out", str(out)]
        result = CliRunner().invoke(govern, line)
        return result.exit_code, result.output + str(result.exception)

    key.write_bytes(ed25519().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert "not one of the parties' keys" in run()[1]
    assert not out.exists()
    key.write_bytes(acme.council.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    code, said = run()
    assert (code, "Works Council" in said) == (0, True)
    halt, party = verify_halt(decode_halt(out.read_bytes()), root, digest)
    assert (halt.why, party) == ("not agreed", "Works Council of Acme")
    assert "exists" in run()[1]
