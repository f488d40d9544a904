"""The conformance suite: our collector passes, and whoever does one thing otherwise is caught.

What deviates is our own collector with something in front of it that changes one answer, or asks
in another's name; each is caught by the check that is about it.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import pytest
from sqlalchemy import func, select
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from base.command import outcome
from base.errors import ExitCode
from base.serving import Clients, Credentials, Listener
from collector.__main__ import cli
from collector.app import build
from collector.check.checks import CHECKS, verdicts
from collector.check.verdicts import Result, Verdict
from collector.check.visit import visiting
from collector.index.tables import batches, devices
from tests.fakes.site import Site, collector_site, listening
from wire.errors import WireError
from wire.rights import Requests, SignedRequest

pytestmark = pytest.mark.slow


@dataclass(kw_only=True)
class Answer:
    """What is about to be said."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    def change(self, **fields: Any) -> None:  # noqa: ANN401 - whatever JSON has
        """Put other fields into a body of JSON."""
        self.body = msgspec.json.encode(msgspec.json.decode(self.body) | fields)

    def say(self, status: int, body: Any) -> None:  # noqa: ANN401 - whatever JSON has
        self.status, self.body = status, msgspec.json.encode(body)


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """Which answers are changed, and how; and which check is to find it."""

    caught_by: str
    asked: str  # matches "METHOD path"
    change: "Change"
    only: int = 0  # this status; 0: any


@dataclass
class Deviating:
    """Stands in front of a collector and does one thing otherwise."""

    app: ASGIApp
    one: Deviation
    before: dict[str, bytes] = field(default_factory=dict)  # the first answer to each path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = f"{scope['method']} {scope['path']}" if scope["type"] == "http" else ""
        if not re.fullmatch(self.one.asked, asked):
            await self.app(scope, receive, send)
            return
        said: list[Message] = []

        async def keep(message: Message) -> None:
            said.append(message)

        await self.app(scope, receive, keep)
        answer = Answer(
            status=said[0]["status"],
            headers=dict(said[0]["headers"]),
            body=b"".join(part.get("body", b"") for part in said[1:]),
        )
        if self.one.only in (0, answer.status):
            self.one.change(answer, self)
            self.before.setdefault(scope["path"], answer.body)
        answer.headers[b"content-length"] = str(len(answer.body)).encode()
        headers = list(answer.headers.items())
        start = {"type": "http.response.start", "status": answer.status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": answer.body})


def flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def instead(status: int, body: Any) -> "Change":  # noqa: ANN401 - whatever JSON has
    return lambda answer, _front: answer.say(status, body)


def without_header(answer: Answer, _front: Deviating) -> None:
    del answer.headers[b"assent-protocol"]


def without_a_name(answer: Answer, _front: Deviating) -> None:
    answer.body = b"<html>Not found</html>"


def other_bytes(answer: Answer, _front: Deviating) -> None:
    answer.body = flipped(answer.body)


def same_as_before(answer: Answer, front: Deviating) -> None:
    answer.body = front.before.get("/v1/log/checkpoint", answer.body)


def other_time(answer: Answer, _front: Deviating) -> None:
    answer.change(received_at=1)


def next_leaf(answer: Answer, _front: Deviating) -> None:
    answer.change(index=msgspec.json.decode(answer.body)["index"] + 1)


def no_proof(answer: Answer, _front: Deviating) -> None:
    answer.change(proof=[])


def not_stored(answer: Answer, _front: Deviating) -> None:
    answer.change(stored=True)


def unsigned(answer: Answer, _front: Deviating) -> None:
    answer.change(signature="A" * 86 + "==")


def taken(answer: Answer, _front: Deviating) -> None:
    answer.status = 201


def other_name(answer: Answer, _front: Deviating) -> None:
    answer.say(answer.status, {"error": "nothing-that-is-known: try something else"})


def as_a_reader(answer: Answer, _front: Deviating) -> None:
    answer.say(200, {"frames": [], "more": False})


def refused(answer: Answer, _front: Deviating) -> None:
    answer.say(403, {"error": "token-refused: it was used"})


def certified(answer: Answer, _front: Deviating) -> None:
    answer.say(200, {"certificate": "x", "expires_at": 1})


def says_not_stored(answer: Answer, _front: Deviating) -> None:
    answer.change(stored=False)


def other_witness(answer: Answer, _front: Deviating) -> None:
    note, _, cosignature = answer.body.rstrip(b"\n").rpartition(b" ")
    answer.body = note + b" " + cosignature[:-8] + b"AAAAAAA=" + b"\n"


def standing_still(answer: Answer, _front: Deviating) -> None:
    answer.change(stopped="for repairs")


def of_somebody_else(answer: Answer, _front: Deviating) -> None:
    demand = SignedRequest(request=b"{}", rights_key=bytes(32), signature=bytes(64))
    answer.body = msgspec.json.encode(Requests(requests=(demand,)))


def last_byte_changed(answer: Answer, _front: Deviating) -> None:
    answer.body = answer.body[:-1] + bytes([answer.body[-1] ^ 1])


Change: TypeAlias = Callable[[Answer, Deviating], None]


def after(times: int, change: Change) -> Change:
    """Answer so many paths as ever, and change the answers after them."""
    return lambda answer, front: change(answer, front) if len(front.before) >= times else None


def where(words: str, change: Change) -> Change:
    """Change only what is refused in these words."""
    return lambda answer, front: change(answer, front) if words.encode() in answer.body else None


PUT: Final = r"PUT /v1/batches/\w+"
DEVIATIONS: Final = {
    "a stranger is told the log's head": Deviation(
        caught_by="strangers", asked="GET /v1/log/checkpoint", only=401, change=instead(200, {})
    ),
    "any token will do": Deviation(
        caught_by="token-unknown",
        asked="POST /v1/enroll",
        only=403,
        change=instead(201, {"certificate": "x", "expires_at": 1}),
    ),
    "devices list what is here": Deviation(
        caught_by="no-reading", asked="POST /v1/frames", change=as_a_reader
    ),
    "devices read batches": Deviation(
        caught_by="no-reading", asked=r"POST /v1/frames/\w+", change=instead(200, {})
    ),
    "a batch can be got where it is put": Deviation(
        caught_by="no-other-verb", asked=r"GET /v1/batches/\w+", change=instead(200, {})
    ),
    "unknown fields are taken": Deviation(
        caught_by="unknown-fields",
        asked="POST /v1/renew",
        only=400,
        change=instead(200, {"certificate": "x", "expires_at": 1}),
    ),
    "another root": Deviation(
        caught_by="policy", asked=r"GET /v1/policy/[0-9a-f]{64}\.root\.json", change=other_bytes
    ),
    "another policy": Deviation(
        caught_by="policy", asked=r"GET /v1/policy/policy\.json", change=other_bytes
    ),
    "an older policy by its digest": Deviation(
        caught_by="policy-names",
        asked=r"GET /v1/policy/[0-9a-f]{64}\.policy\.json",
        change=other_bytes,
    ),
    "a head that nobody signed": Deviation(
        caught_by="log-head", asked="GET /v1/log/checkpoint", only=200, change=other_bytes
    ),
    "a log that stands still": Deviation(
        caught_by="log-goes-on", asked="GET /v1/log/checkpoint", only=200, change=same_as_before
    ),
    "proofs of nothing": Deviation(
        caught_by="log-goes-on", asked="GET /v1/log/consistency", only=200, change=no_proof
    ),
    "a tile with other hashes": Deviation(
        caught_by="log-tiles", asked=r"GET /v1/log/tile/0/.*", only=200, change=other_bytes
    ),
    "consents without a leaf": Deviation(
        caught_by="consent", asked="POST /v1/consents", only=201, change=next_leaf
    ),
    "a widened consent is taken": Deviation(
        caught_by="consent-refused", asked="POST /v1/consents", only=422, change=taken
    ),
    "a key that the guard did not sign": Deviation(
        caught_by="guard-key", asked="GET /v1/guard-key", only=200, change=unsigned
    ),
    "batches are taken without a consent": Deviation(
        caught_by="consent-first", asked=PUT, only=409, change=taken
    ),
    "a receipt for another leaf": Deviation(
        caught_by="batch", asked=PUT, only=201, change=next_leaf
    ),
    "another receipt each time": Deviation(
        caught_by="batch-again", asked=PUT, only=200, change=other_time
    ),
    "whatever bytes are taken": Deviation(
        caught_by="frame-refused", asked=PUT, only=422, change=taken
    ),
    "any size is taken": Deviation(caught_by="too-large", asked=PUT, only=413, change=taken),
    "other scopes are taken": Deviation(caught_by="scope", asked=PUT, only=403, change=taken),
    "refused under another name": Deviation(
        caught_by="scope", asked=PUT, only=403, change=other_name
    ),
    "a deleted batch comes back": Deviation(
        caught_by="deletion", asked=PUT, only=410, change=taken
    ),
    "a deletion says what is not so": Deviation(
        caught_by="deletion-before", asked=r"DELETE /v1/batches/\w+", only=200, change=not_stored
    ),
    "a withdrawal without a leaf": Deviation(
        caught_by="withdrawal", asked="POST /v1/consent-events", only=201, change=next_leaf
    ),
    "answers of no version": Deviation(
        caught_by="protocol", asked="GET /v1/state", change=without_header
    ),
    "a page of somebody's gateway": Deviation(
        caught_by="unknown-path", asked="GET /v1/nothing.*", change=without_a_name
    ),
    "a programme that stands still": Deviation(
        caught_by="state", asked="GET /v1/state", change=standing_still
    ),
    "who asks for the same certificate again gets none": Deviation(
        caught_by="enrolment", asked="POST /v1/enroll", only=200, change=refused
    ),
    "a token enrols whoever has it": Deviation(
        caught_by="token-once", asked="POST /v1/enroll", only=403, change=after(1, certified)
    ),
    "a strange key's certificate is renewed": Deviation(
        caught_by="renewal", asked="POST /v1/renew", only=401, change=certified
    ),
    "demands of others are told": Deviation(
        caught_by="rights", asked="GET /v1/rights", only=200, change=of_somebody_else
    ),
    "another category than agreed is taken": Deviation(
        caught_by="category", asked=PUT, only=422, change=where("the consent is not for", taken)
    ),
    "what is over already is taken": Deviation(
        caught_by="dates", asked=PUT, only=422, change=where("expired", taken)
    ),
    "what would be kept for ever is taken": Deviation(
        caught_by="dates", asked=PUT, only=422, change=where("kept-too-long", taken)
    ),
    "what is older than its consent is taken": Deviation(
        caught_by="dates", asked=PUT, only=422, change=where("outside-consent", taken)
    ),
    "another leaf than the receipt says": Deviation(
        caught_by="leaves", asked="GET /v1/log/tile/entries/.*", change=last_byte_changed
    ),
    "some batches cannot be taken back": Deviation(
        caught_by="taken-back",
        asked=r"DELETE /v1/batches/\w+",
        only=200,
        change=after(2, says_not_stored),
    ),
    "tiles beyond the end": Deviation(
        caught_by="log-beyond", asked="GET /v1/log/tile/entries/x999/999", change=instead(200, {})
    ),
    "another witness": Deviation(
        caught_by="witnessed", asked="GET /v1/log/witnessed", only=200, change=other_witness
    ),
    "refusals without a name": Deviation(
        caught_by="refusals", asked=r"GET /v1/batches/\w+", change=without_a_name
    ),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with collector_site(tmp_path_factory.mktemp("checked") / "site") as site:
        one = site.workstation()
        assert one.puts(one.seals(one.consents())).status == 201
        yield site


@contextmanager
def deviating(site: Site, one: Deviation) -> Iterator[str]:
    """Serve the collector once more, with that in front; yield where."""
    folder = site.premises.paths.config
    listener = Listener("127.0.0.1", 0)
    credentials = Credentials(
        certificate=folder / "tls.pem",
        key=folder / "tls.key",
        client_authority=site.premises.client_authority,
        clients=Clients.OPTIONAL,
    )
    with listening(listener, Deviating(build(site.collector), one), credentials):
        yield f"https://127.0.0.1:{listener.port}"


def checked(site: Site, url: str, last: str = CHECKS[-1].name) -> dict[str, Verdict]:
    """Return what the checks come to, as far as *last*."""
    found: dict[str, Verdict] = {}
    with visiting(url, site.enrolment_file()) as visit:
        for verdict in verdicts(visit):
            found[verdict.check] = verdict
            if verdict.check == last:
                break
    return found


def count(site: Site) -> tuple[int, int]:
    with site.collector.index.reading() as connection:
        found = (
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (batches, devices)
        )
        return next(found), next(found)


def test_our_own_collector_passes_every_check(site: Site) -> None:
    """And what it handed in is gone afterwards; what others have is where it was."""
    before = count(site)
    found = checked(site, site.origin)
    assert {name: one.said for name, one in found.items() if one.result is not Result.PASSED} == {}
    assert list(found) == [check.name for check in CHECKS]
    assert count(site) == (before[0], before[1] + 1)


@pytest.mark.parametrize("name", DEVIATIONS)
def test_one_deviation_is_caught_by_the_check_that_is_about_it(site: Site, name: str) -> None:
    """Planted one at a time."""
    one = DEVIATIONS[name]
    with deviating(site, one) as url:
        found = checked(site, url, one.caught_by)
    assert found[one.caught_by].result is Result.FAILED, found
    assert "\n" not in found[one.caught_by].said


def test_every_check_is_caught_out_by_something() -> None:
    """A check that nothing fails says nothing."""
    assert {one.caught_by for one in DEVIATIONS.values()} == {check.name for check in CHECKS}


def test_a_check_that_needs_what_another_lacks_is_left_out(site: Site) -> None:
    """One mistake is told once, not thirty times."""
    with deviating(site, DEVIATIONS["another root"]) as url:
        found = checked(site, url)
    failed = [one.check for one in found.values() if one.result is Result.FAILED]
    assert failed == ["policy"]
    assert found["batch"].result is Result.LEFT_OUT
    assert "an earlier check has failed" in found["batch"].said


# --- the command ------------------------------------------------------------------------


def run(*arguments: object) -> int:
    return outcome(cli, "assent-collector", [*map(str, arguments)], refusals=(WireError,))


def enrolment(site: Site, folder: Path, **changes: object) -> Path:
    file = folder / f"{next(_NUMBERS)}.enrol.json"
    made = msgspec.structs.replace(site.enrolment_file(), **changes)
    file.write_bytes(msgspec.json.encode(made))
    return file


_NUMBERS = itertools.count()


def test_the_command_says_one_line_a_check_and_whom_to_revoke(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends with 0; as JSON, the same are facts."""
    assert run("check", site.origin, "--enrolment", enrolment(site, tmp_path)) == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(CHECKS) + 1
    assert all(line.startswith("passed") for line in lines[:-1])
    assert "assent-collector revoke" in lines[-1]
    file = enrolment(site, tmp_path)
    assert run("check", site.origin, "--enrolment", file, "--json") == ExitCode.DONE
    told = msgspec.json.decode(capsys.readouterr().out)
    assert [one["check"] for one in told["checks"]] == [check.name for check in CHECKS]
    assert len(told["device"]) == 64


def test_a_deviation_ends_the_command_with_1(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last line has the first of them."""
    with deviating(site, DEVIATIONS["devices list what is here"]) as url:
        assert run("check", url, "--enrolment", enrolment(site, tmp_path)) == ExitCode.FAILED
    told = capsys.readouterr()
    assert "FAILED    no-reading" in told.out
    assert "1 of 36 checks failed, first no-reading: POST /v1/frames answers 200" in told.err
    assert told.err.count("\n") == 1


def test_what_is_no_enrolment_file_or_too_old_is_said_in_one_line(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is asked then."""
    old = enrolment(site, tmp_path, expires_at=1)
    nonsense = tmp_path / "nonsense.json"
    nonsense.write_text("{")
    for file, said in ((old, "has expired"), (nonsense, "is no enrolment file")):
        assert run("check", site.origin, "--enrolment", file) == ExitCode.SETUP
        told = capsys.readouterr().err
        assert said in told
        assert told.count("\n") == 1


def test_another_server_than_the_enrolment_files_gets_nothing(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its key is pinned there: one line says so, and no token leaves."""
    file = enrolment(site, tmp_path, tls_pins=("00" * 32,))
    assert run("check", site.origin, "--enrolment", file) == ExitCode.LATER
    told = capsys.readouterr()
    assert "is not the pinned one; nothing was sent" in told.err
    assert (told.out, told.err.count("\n")) == ("", 1)


def test_where_nobody_answers_is_no_list_of_failures(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and 5; what is no address of a server is a mistake of the command line."""
    file = enrolment(site, tmp_path)
    assert run("check", "https://127.0.0.1:1", "--enrolment", file) == ExitCode.LATER
    told = capsys.readouterr()
    assert "https://127.0.0.1:1 cannot be reached" in told.err
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert run("check", "nonsense", "--enrolment", file) == ExitCode.USAGE
    assert "'nonsense' is no origin" in capsys.readouterr().err


def test_a_file_that_was_used_is_told_as_that(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever looks again with the same file learns what to do."""
    file = enrolment(site, tmp_path)
    assert run("check", site.origin, "--enrolment", file) == ExitCode.DONE
    assert run("check", site.origin, "--enrolment", file) == ExitCode.FAILED
    assert "it works once, so make a file for each visit" in capsys.readouterr().err
