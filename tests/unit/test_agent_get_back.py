"""`assent-agent rights get-back`: files that the person alone opens, and nothing believed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from agent.__main__ import agent
from agent.get_back import Tally, Wanted, get_back
from agent.own import Asker
from agent.own_shown import Count
from agent.rights import read_card, rights_card
from agent.transport import Door
from base.command import outcome
from base.errors import ExitCode, RejectedError
from tests.fakes.own import hash_of, sent
from tests.fakes.site import PLAINTEXT, Site, Workstation, collector_site, today
from wire.errors import NotForUsError, WireError
from wire.frame import core_hash, split
from wire.me import SignedQuery, SignedReturn
from wire.me_answers import Returned
from wire.opening import open_body
from wire.sealing import new_identity

HEADER_END = b"\n---"


@pytest.fixture(autouse=True)
def _dumpable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the command in this process, which has to go on as it is."""
    monkeypatch.setattr("agent.own_shown.become_undumpable", lambda: None)


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
    words = ("rights", "get-back", *words)
    return outcome(agent, "assent-agent", [*map(str, words)], refusals=(WireError,))


def cut(file: bytes) -> tuple[bytes, bytes]:
    """Return header and payload of an age file."""
    end = file.index(b"\n", file.index(HEADER_END) + len(HEADER_END)) + 1
    return file[:end], file[end:]


def named(frame: bytes) -> str:
    return f"{today()}-keys-{hash_of(frame).hex()}.age"


def test_each_batch_becomes_an_age_file_that_the_person_alone_opens(
    ada: Workstation, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing else is written; what is there is not fetched again."""
    frames, mine = [sent(ada) for _ in range(2)], tmp_path / "mine"
    assert run("--key", key, "--out", mine) == ExitCode.DONE
    assert "2 batches are written" in capsys.readouterr().out
    assert {path.name for path in mine.iterdir()} == {named(frame) for frame in frames}
    assert mine.stat().st_mode & 0o777 == 0o700
    for frame in frames:
        path, digest = mine / named(frame), core_hash(split(frame).core)
        assert path.stat().st_mode & 0o777 == 0o600
        header, body = cut(path.read_bytes())
        assert open_body(header, body, ada.org.subject_identity, digest) == PLAINTEXT
        assert PLAINTEXT not in path.read_bytes()
        with pytest.raises(NotForUsError):
            open_body(header, body, new_identity(), digest)
    (mine / named(frames[0])).unlink()
    assert run("--key", key, "--out", mine) == ExitCode.DONE
    assert "1 batches are written" in (said := capsys.readouterr().out)
    assert "1 were there already" in said


def test_only_what_is_asked_for_is_fetched(ada: Workstation, key: Path, tmp_path: Path) -> None:
    """By category, by days, by hash."""
    first, second = sent(ada), sent(ada)
    for number, (words, expected) in enumerate(
        (
            (("screen",), set()),
            (("--from", today(1)), set()),
            (("--to", today(-1)), set()),
            (("--from", today(), "--to", today(), "keys"), {named(first), named(second)}),
            (("--batch", hash_of(second).hex()), {named(second)}),
        )
    ):
        out = tmp_path / str(number)
        assert run("--key", key, "--out", out, *words) == ExitCode.DONE
        assert {path.name for path in out.iterdir()} == expected


@pytest.mark.parametrize("words", [("--from", "20270301"), ("--to", "x"), ("--batch", "ab")])
def test_nonsense_on_the_command_line_is_said(
    key: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Before anybody is asked."""
    assert run("--key", key, "--out", tmp_path / "mine", *words) == ExitCode.USAGE
    assert not (tmp_path / "mine").exists()


class Liar(Door):
    """A collector whose answers are changed on their way."""

    def __init__(self, door: Door, what: str, change: Callable[[bytes], bytes]) -> None:
        self._real, self._what, self._change = door, what, change

    def own(self, what: str, signed: SignedQuery | SignedReturn) -> bytes:
        body = self._real.own(what, signed)
        return self._change(body) if what.startswith(self._what) else body


@pytest.fixture
def fetches(site: Site, key: Path, tmp_path: Path) -> Iterator[Callable[..., Tally]]:
    card = read_card(key)
    door = Door(card.origin, card.pins, card.ca_pem)

    def fetch(what: str, change: Callable[[bytes], bytes]) -> Tally:
        liar = Liar(door, what, change)
        asker = Asker(card=card, door=liar, now=site.collector.now, wait=lambda _seconds: None)
        told = Count(asker=asker).proved(asker.batches())
        return get_back(asker, told, Wanted(), tmp_path / "mine")

    yield fetch
    door.close()


def changed(**changes: object) -> Callable[[bytes], bytes]:
    """Return what changes the first batch of an answer to an order."""

    def change(body: bytes) -> bytes:
        answer = msgspec.json.decode(body, type=Returned)
        first, *rest = answer.batches
        first = msgspec.structs.replace(first, **changes)
        return msgspec.json.encode(msgspec.structs.replace(answer, batches=(first, *rest)))

    return change


def uncosigned(body: bytes) -> bytes:
    answer = msgspec.json.decode(body, type=Returned)
    lines = answer.checkpoint.splitlines(keepends=True)
    return msgspec.json.encode(msgspec.structs.replace(answer, checkpoint="".join(lines[:-1])))


@pytest.mark.parametrize(
    "change",
    [
        changed(batch_hash=bytes(32)),
        changed(core_hash=bytes(32)),
        uncosigned,
        lambda _body: b"{}",
        lambda _body: b"\xff",
    ],
    ids=["batch", "core", "uncosigned", "empty", "nonsense"],
)
def test_an_answer_that_proves_nothing_ends_it(
    ada: Workstation,
    fetches: Callable[..., Tally],
    change: Callable[[bytes], bytes],
    tmp_path: Path,
) -> None:
    """No file is written from it."""
    sent(ada)
    with pytest.raises(RejectedError, match="do not believe it"):
        fetches("return", change)
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize(
    ("what", "change", "why"),
    [
        ("return", changed(released=None, error="the key was erased"), "the key was erased"),
        ("return", changed(released=b"x" * 2000), "what came is not it"),
        ("frames", lambda body: body[:-1] + bytes([body[-1] ^ 1]), "other bytes"),
        ("frames", lambda _body: b"short", "what came is not it"),
    ],
)
def test_a_batch_that_is_not_it_is_named_and_not_written(
    ada: Workstation,
    fetches: Callable[..., Tally],
    tmp_path: Path,
    what: str,
    change: Callable[[bytes], bytes],
    why: str,
) -> None:
    """The others are."""
    frame = sent(ada)
    tally = fetches(what, change)
    assert tally.written == 0
    assert why in tally.refused[hash_of(frame).hex()]
    assert list((tmp_path / "mine").iterdir()) == []
