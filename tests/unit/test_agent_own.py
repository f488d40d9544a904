"""The rights key shows what is there of a person and who saw it; what is not believed of it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from agent.__main__ import agent
from agent.own import Asker
from agent.rights import read_card, rights_card
from agent.transport import Door
from base.command import outcome
from base.errors import ExitCode, RejectedError, RetryableError
from base.https import OneDoor
from tests.fakes.organisation import READER
from tests.fakes.own import approved, hash_of, opened, sent
from tests.fakes.site import Site, Workstation, collector_site
from wire.errors import WireError
from wire.ids import WallInstant
from wire.me import SignedQuery, SignedReturn
from wire.me_answers import OwnAccesses, OwnBatches


@pytest.fixture(autouse=True)
def _dumpable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the command in this process, which has to go on as it is."""
    monkeypatch.setattr("agent.own_shown.become_undumpable", lambda: None)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with collector_site(tmp_path_factory.mktemp("site") / "site") as site:
        yield site


@pytest.fixture(scope="module")
def reader(site: Site) -> OneDoor:
    return site.reader(READER)


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


def test_batches_are_listed_by_day_and_category_or_each_by_its_hash(
    ada: Workstation, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And as JSON, for whoever wants to look further."""
    frames = [sent(ada) for _ in range(2)]
    assert run("batches", "--key", key) == ExitCode.DONE
    assert "keys           2 batches" in capsys.readouterr().out
    assert run("batches", "--key", key, "screen", "--each") == ExitCode.DONE
    assert capsys.readouterr().out == ""
    assert run("batches", "--key", key, "--each") == ExitCode.DONE
    said = capsys.readouterr().out
    assert all(hash_of(frame).hex() in said for frame in frames)
    assert run("batches", "--key", key, "--json") == ExitCode.DONE
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["batch"] for line in lines] == [hash_of(frame).hex() for frame in frames]
    assert {line["category"] for line in lines} == {"keys"}


def test_what_was_erased_is_listed_with_how_long_it_is_pending(
    ada: Workstation, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demand, what the guard signed, and each batch that is gone."""
    frame = sent(ada)
    assert run("erase", "--key", key) == ExitCode.DONE
    capsys.readouterr()
    assert run("deletions", "--key", key) == ExitCode.DONE
    said = capsys.readouterr().out
    assert "erase everything, all days: 1 batches erased" in said
    assert "the guard erased 1 keys; its backups of them are gone from" in said
    assert "1 batches erased, on your demand or by the guard" in said
    assert run("deletions", "--key", key, "--each") == ExitCode.DONE
    assert hash_of(frame).hex() in capsys.readouterr().out
    assert run("batches", "--key", key) == ExitCode.DONE
    assert "has nothing of you" in capsys.readouterr().out


def test_who_had_it_opened_is_listed_with_purpose_and_approvers(
    site: Site,
    ada: Workstation,
    key: Path,
    reader: OneDoor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One paragraph a request, with the reason that its approvers read."""
    frames = [sent(ada) for _ in range(2)]
    assert run("accesses", "--key", key) == ExitCode.DONE
    assert "nobody had anything of you opened" in capsys.readouterr().out
    opened(reader, approved(site, why="to try it"), *frames)
    assert run("accesses", "--key", key) == ExitCode.DONE
    shown = capsys.readouterr()
    assert f"{READER}: 2 batches" in shown.out
    assert "Ada (" in shown.out
    assert "to try it" in shown.out
    assert shown.err == ""


def test_a_file_of_an_earlier_version_is_told_what_it_cannot_check(
    ada: Workstation,
    site: Site,
    reader: OneDoor,
    key: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It has no witness and no root; everything else is checked."""
    opened(reader, approved(site), sent(ada))
    lines = key.read_text().splitlines()
    key.write_text("\n".join(one for one in lines if not one.startswith(("# witness", "# root"))))
    assert run("accesses", "--key", key) == ExitCode.DONE
    said = capsys.readouterr().err
    assert "names no witness" in said
    assert "whose root your file does not name" in said


class Liar(Door):
    """A collector whose answers are changed on their way."""

    def __init__(self, door: Door, change: Callable[[bytes], bytes]) -> None:
        self._real, self._change = door, change

    def own(self, what: str, signed: SignedQuery | SignedReturn) -> bytes:
        return self._change(self._real.own(what, signed))

    def close(self) -> None:
        self._real.close()


@pytest.fixture
def lying(site: Site, key: Path) -> Iterator[Callable[[Callable[[bytes], bytes]], Asker]]:
    card = read_card(key)
    door = Door(card.origin, card.pins, card.ca_pem)

    def asker(change: Callable[[bytes], bytes]) -> Asker:
        now: Callable[[], WallInstant] = site.collector.now
        return Asker(card=card, door=Liar(door, change), now=now, wait=lambda _seconds: None)

    yield asker
    door.close()


def test_what_does_not_verify_is_said_and_not_shown(
    site: Site,
    ada: Workstation,
    reader: OneDoor,
    lying: Callable[[Callable[[bytes], bytes]], Asker],
) -> None:
    """A batch of another hash, an access without its approvals."""
    opened(reader, approved(site), sent(ada))

    def other_hash(body: bytes) -> bytes:
        page = msgspec.json.decode(body, type=OwnBatches)
        changed = [msgspec.structs.replace(b, batch_hash=bytes(32)) for b in page.batches]
        return msgspec.json.encode(msgspec.structs.replace(page, batches=tuple(changed)))

    def unapproved(body: bytes) -> bytes:
        page = msgspec.json.decode(body, type=OwnAccesses)
        changed = [msgspec.structs.replace(g, approvals=()) for g in page.grants]
        return msgspec.json.encode(msgspec.structs.replace(page, grants=tuple(changed)))

    (batch,) = lying(other_hash).batches()
    assert batch.checked is None
    assert batch.why
    (access,) = lying(unapproved).accesses()
    assert "approvals" in access.why


def test_nonsense_and_the_same_page_for_ever_end_the_command(
    ada: Workstation, lying: Callable[[Callable[[bytes], bytes]], Asker]
) -> None:
    """No answer of a collector keeps a person waiting without end."""
    sent(ada)

    def for_ever(body: bytes) -> bytes:
        page = msgspec.json.decode(body, type=OwnBatches)
        return msgspec.json.encode(msgspec.structs.replace(page, next="0"))

    for change in (lambda _body: b"{}", lambda _body: b"\xff", for_ever):
        with pytest.raises(RejectedError, match="do not believe it"):
            list(lying(change).batches())


def test_who_asks_too_often_waits_as_long_as_it_is_told(lying: Callable[..., Asker]) -> None:
    """Three times, and never for longer than a minute and a half."""
    waited: list[float] = []
    asker = lying(bytes)
    asker.wait = waited.append

    def busy(seconds: float) -> Callable[[], None]:
        def ask() -> None:
            raise RetryableError("too many", retry_after_seconds=seconds)

        return ask

    with pytest.raises(RetryableError):
        asker.patiently(busy(3.0))
    with pytest.raises(RetryableError):
        asker.patiently(busy(900.0))
    assert waited == [3.0, 3.0]
