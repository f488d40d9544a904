"""The rights key on a machine without the device: its file, its commands, and what they believe."""

import base64
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent.__main__ import agent
from agent.handover import Answered, NoAnswer, Outcome
from agent.rights import read_card, request_of, rights, rights_card, say
from agent.transport import Door
from base.command import outcome
from base.errors import ExitCode, RejectedError, RetryableError, SetupError
from base.pki import Authority
from tests.fakes.site import Site, Workstation, collector_site, refusal
from wire.category import Category
from wire.collector_http import Carried, decode
from wire.errors import WireError
from wire.ids import WallInstant
from wire.rights import Demand, SignedRequest


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with collector_site(tmp_path_factory.mktemp("site") / "site") as site:
        yield site


@pytest.fixture
def ada(site: Site) -> Workstation:
    return site.workstation()


@pytest.fixture
def key(site: Site, ada: Workstation, tmp_path: Path) -> Path:
    """Return the file of the data subject's rights key, as enrolment writes it."""
    path = tmp_path / "rights-key.txt"
    text = rights_card(ada.org.subject_identity, site.enrolment_file(), site.policy)
    path.write_text(text, "ascii")
    return path


def run(*words: object) -> int:
    return outcome(agent, "assent-agent", ["rights", *map(str, words)], refusals=(WireError,))


def test_a_file_of_before_the_collector_s_keys_changed_goes_on_with_the_lines_of_today(
    site: Site, ada: Workstation, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As docs/guides/rotation.md prints them; until then nothing is sent."""
    assert ada.puts(ada.seals(ada.consents())).status == 201
    kept = [x for x in key.read_text().splitlines() if not x.startswith(("# pin", "# authority"))]
    authorities = Authority.create("another").pem, site.premises.client_authority.read_bytes()
    pins = "00" * 32, site.premises.tls_pin()
    for pin, authority, ends in zip(pins, authorities, (5, 0), strict=True):
        lines = [f"# pin {pin}", f"# authority {base64.b64encode(authority).decode()}"]
        key.write_text("\n".join([*kept, *lines]))
        assert run("withdraw", "--key", key) == ends
        said = capsys.readouterr()
        assert ("nothing was sent" in said.err) is (ends == ExitCode.LATER)


def test_whoever_left_erases_with_the_file_alone(
    ada: Workstation, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No device, no certificate: collector and guard each prove their half."""
    frame = ada.seals(ada.consents())
    assert ada.puts(frame).status == 201
    assert run("erase", "--key", key) == ExitCode.DONE
    said = capsys.readouterr().out
    assert "deleted 1 batches" in said
    assert "guard has erased" in said
    assert refusal(ada.puts(frame)) == (410, "erased")


def test_whoever_left_withdraws_and_the_device_is_told(ada: Workstation, key: Path) -> None:
    """Of one category, or of all; the other goes on."""
    late = ada.seals(ada.consents())
    assert run("withdraw", "--key", key, "pointer") == ExitCode.DONE
    assert ada.puts(late).status == 201
    assert run("withdraw", "--key", key) == ExitCode.DONE
    assert refusal(ada.puts(ada.seals(ada.consent()))) == (410, "erased")
    assert len(ada.hears()) == 2


def test_the_rights_key_cannot_grant() -> None:
    """Some show, the others take away."""
    assert set(rights.commands) == {
        *("withdraw", "erase", "batches", "deletions", "accesses", "get-back")
    }


def test_anothers_key_does_nothing_here(site: Site, ada: Workstation, key: Path) -> None:
    """It speaks for its own pseudonym only, of which nothing is here."""
    frame = ada.seals(ada.consents())
    assert ada.puts(frame).status == 201
    stranger = site.workstation().org.subject_identity
    key.write_text(rights_card(stranger, site.enrolment_file(), site.policy), "ascii")
    assert run("erase", "--key", key) == ExitCode.REJECTED
    assert ada.puts(frame).status == 200  # it is still there


@pytest.mark.parametrize("line", ["AGE-SECRET", "# collector", "# pin", "# authority", "# guard"])
def test_a_file_that_lacks_a_line_says_which(key: Path, line: str) -> None:
    """One copied from paper is easily incomplete."""
    kept = [each for each in key.read_text().splitlines() if not each.startswith(line)]
    key.write_text("\n".join(kept))
    with pytest.raises(SetupError, match="it lacks"):
        read_card(key)
    key.write_bytes(b"\xff")
    with pytest.raises(SetupError, match="cannot be read"):
        read_card(key)


class _Says(Door):
    """A collector that gives this answer."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def demand(self, signed: SignedRequest) -> Outcome:
        del signed
        return self._outcome


def test_a_collector_that_only_says_so_is_not_believed(
    site: Site, ada: Workstation, key: Path
) -> None:
    """A proof for another request, a guard's word for another, or none at all."""
    card, now = read_card(key), WallInstant(site.collector.now())
    ada.consents()
    one = request_of(card, Demand.ERASE, Category.KEYS, now)
    two = request_of(card, Demand.ERASE, None, now)
    first, second = (decode(ada.asks(each).body, Carried) for each in (one, two))
    mixed = msgspec.structs.replace(first, guard=second.guard)
    for answer in (second, mixed):
        with pytest.raises(RejectedError, match="proves nothing"):
            say(card, one, _Says(Answered(status=200, body=msgspec.json.encode(answer))))
    with pytest.raises(RejectedError, match="proves nothing"):
        say(card, one, _Says(Answered(status=200, body=b"{}")))
    with pytest.raises(RetryableError):
        say(card, one, _Says(NoAnswer(why="nobody answers")))
    assert say(card, one, _Says(Answered(status=200, body=msgspec.json.encode(first)))) == first
