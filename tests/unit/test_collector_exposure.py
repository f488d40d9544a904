"""The exposure report: what it counts, to whom it tells what, and the notices."""

import dataclasses
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from base.command import outcome
from base.errors import ExitCode
from collector.__main__ import cli
from collector.exposure.counts import hidden_categories, told
from collector.exposure.notices import to_authority, to_council, to_person, write_notices
from collector.exposure.report import (
    Access,
    Exposure,
    HoleFound,
    OfCategory,
    OfSubject,
    Span,
    exposure,
)
from collector.halt import Cause
from collector.rights.forget import sweep_left
from collector.rights.orders import obey
from tests.fakes.drilled import drills
from tests.fakes.organisation import NOW, Organisation, wall
from tests.fakes.site import Site, Workstation, today
from wire.category import Category
from wire.collector_http import ReleaseOrder
from wire.frame import batch_hash
from wire.guard_order import Order, sign_order
from wire.ids import SubjectId, WallInstant
from wire.linked import instant
from wire.sealing import new_identity

HOUR = wall(NOW) - wall(NOW - timedelta(hours=1))


def since_yesterday(site: Site) -> Span:
    now = site.collector.now()
    return Span(since=WallInstant(now - 24 * HOUR), until=now)


def report_of(site: Site) -> Exposure:
    return exposure(site.collector.index, site.collector.store, since_yesterday(site))


def lately(site: Site) -> Exposure:
    """Return the report of the last five minutes."""
    now = site.collector.now()
    span = Span(since=WallInstant(now - HOUR // 12), until=now)
    return exposure(site.collector.index, site.collector.store, span)


def somebody_else_at(one: Workstation) -> Workstation:
    """Return the same device, used by another data subject."""
    org = dataclasses.replace(one.org, subject_identity=new_identity(), subject=SubjectId(b""))
    return dataclasses.replace(one, org=org)


@pytest.fixture
def ada(site: Site) -> Workstation:
    one = site.workstation(label="ada@acme.example")
    signed = one.consents()
    for _ in range(3):
        assert one.puts(one.seals(signed)).status == 201
    return one


@pytest.fixture
def home(site: Site, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the command line work on the folders of *site*."""
    folder = site.premises.paths.config.parent
    monkeypatch.setenv("ASSENT_HOME", str(folder))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return folder


def planted(people: int, *, of_keys: int | None = None) -> Exposure:
    """Return an exposure of so many people, each with two batches of keys (or fewer of them)."""
    subjects = {bytes([number]) * 16 for number in range(people)}
    keys = set(sorted(subjects)[: people if of_keys is None else of_keys])
    at = wall(NOW)
    return Exposure(
        since=WallInstant(at - HOUR),
        until=at,
        categories={
            Category.KEYS: OfCategory(
                batches=2 * len(keys), first_day="2027-03-14", last_day="2027-03-15", subjects=keys
            ),
            Category.SCREEN: OfCategory(
                batches=people, first_day="2027-03-15", last_day="2027-03-15", subjects=subjects
            ),
        },
        sealed=2 * len(keys) + people,
        accesses=[
            Access(
                access=b"a" * 32,
                reader="training-team",
                approvers=("Ada", "Grace"),
                request_id="r-1",
                purpose="train",
                why="the model cannot scroll",
                first_at=at,
                last_at=at,
                batches=2 * len(keys),
                subjects=keys,
                of_subject=dict.fromkeys(keys, 2),
            )
        ],
        holes=[
            HoleFound(
                found_at=at,
                line="a batch's file has mode 644",
                open_since=WallInstant(at - HOUR),
                closed_at=None,
            )
        ],
        people={subject: OfSubject(batches={Category.SCREEN: 1}) for subject in subjects},
    )


# --- to whom it tells what ----------------------------------------------------------------


@pytest.mark.parametrize("people", [1, 9])
def test_what_is_published_has_no_number_of_fewer_than_ten_people(people: int) -> None:
    """Neither of them, nor of what is theirs."""
    said = told(planted(people), public=True)
    assert said.subjects == "fewer than 10"
    numbers = [said.batches, said.sealed, *(c.subjects for c in said.categories)]
    numbers += [c.batches for c in said.categories] + [a.batches for a in said.accesses]
    assert set(numbers) == {"fewer than 10", "of fewer than 10 people"}
    assert said.encrypted


def test_what_is_published_is_never_a_number_as_it_is() -> None:
    """People in tens, batches in thousands, months: of many people, too."""
    found = planted(37, of_keys=25)
    found.categories[Category.SCREEN].batches, found.sealed = 4_321, 4_371
    said = told(found, public=True)
    shown = msgspec.json.encode(
        msgspec.structs.replace(said, since="", until="", holes=())
    ).decode()
    for number in ("37", "25", "4321", "4,321", "4371", "4,371", "2027-03-1", "50"):
        assert number not in shown.replace("first_at", "").replace(instant(wall(NOW)), "")
    (screen,) = (each for each in said.categories if each.category == "screen")
    assert (screen.subjects, screen.batches) == ("30 to 39", "4,000 to 4,999")
    assert (screen.first_day, screen.last_day) == ("2027-03", "2027-03")


@pytest.mark.parametrize("few", [1, 9])
def test_what_a_few_have_is_not_what_is_left_when_the_rest_is_subtracted(few: int) -> None:
    """With a category of a few, one more is kept back: their sum is told, not which is whose."""
    found = planted(40, of_keys=few)
    found.categories[Category.POINTER] = OfCategory(
        batches=70_000, first_day="2027-03-14", last_day="2027-03-15", subjects=found.subjects
    )
    found.categories[Category.SCREEN].batches = 90_000
    found.sealed = 160_000 + 2 * few
    said = {each.category: each for each in told(found, public=True).categories}
    assert said["keys"].batches == said["pointer"].batches == "of fewer than 10 people"
    assert (said["keys"].first_day, said["pointer"].last_day) == ("", "")
    assert said["screen"].batches == "90,000 to 90,999"


def test_two_categories_of_the_same_few_keep_a_third_back() -> None:
    """What two are together is still of those few."""
    found = planted(40, of_keys=3)
    few = found.categories[Category.KEYS].subjects
    for category, whose in ((Category.WINDOW, few), (Category.POINTER, found.subjects)):
        found.categories[category] = OfCategory(
            batches=5_000, first_day="2027-03-14", last_day="2027-03-15", subjects=whose
        )
    assert hidden_categories(found) == {Category.KEYS, Category.WINDOW, Category.POINTER}
    assert hidden_categories(planted(40)) == {Category.POINTER, Category.WINDOW, Category.KEYS}


def test_a_category_that_nobody_has_is_told_as_one_that_a_few_have() -> None:
    """Otherwise its line says that somebody is there."""
    said = {each.category: each for each in told(planted(40, of_keys=3), public=True).categories}
    assert set(said) == set(Category)
    nobody, few = said["window"], said["keys"]
    assert msgspec.structs.replace(nobody, category="keys") == few


def test_what_is_published_lets_nobody_be_subtracted() -> None:
    """Of nineteen, eighteen have keys: both are ten or more, and their difference is not told."""
    said = told(planted(19, of_keys=18), public=True)
    assert said.subjects == "10 to 19"
    people = {c.category: c.subjects for c in said.categories}
    assert (people["keys"], people["screen"]) == ("10 to 19", "10 to 19")


def test_a_category_or_an_access_of_a_few_among_many_is_not_told() -> None:
    """The crowd is that of each number, not of the report."""
    said = told(planted(30, of_keys=2), public=True)
    assert said.subjects == "30 to 39"
    (keys,) = (c for c in said.categories if c.category == "keys")
    assert (keys.subjects, keys.batches) == ("fewer than 10", "of fewer than 10 people")
    assert said.accesses[0].batches == "of fewer than 10 people"


def test_the_operator_is_told_the_numbers_as_they_are() -> None:
    """Who has to notify people must know how many they are."""
    said = told(planted(3, of_keys=2), public=False)
    assert (said.subjects, said.batches) == (3, 7)
    assert said.accesses[0].subjects == 2


def test_no_report_names_a_pseudonym(site: Site, ada: Workstation) -> None:
    """Neither in words nor as JSON; only a notice to that very person has theirs."""
    for public in (True, False):
        said = msgspec.json.encode(told(report_of(site), public=public)).decode()
        assert ada.org.subject.hex() not in said
        assert ada.id.hex() not in said


# --- what it counts -----------------------------------------------------------------------


def test_what_a_drill_planted_is_nobodys_and_not_counted(site: Site, ada: Workstation) -> None:
    """No person, no batch, no category of theirs."""
    before = told(report_of(site), public=False)
    assert drills(site).passed
    after = told(report_of(site), public=False)
    assert (before.subjects, before.batches, before.sealed) == (1, 3, 3)
    assert (after.subjects, after.batches, after.categories) == (1, 3, before.categories)


def test_a_hole_is_told_with_the_drills_around_it(site: Site, ada: Workstation) -> None:
    """It can have come to be only after the last that passed, and is closed by the next."""
    first = drills(site)
    folder = site.premises.objects / "0a"
    folder.chmod(0o711)
    failed = drills(site)
    (open_hole,) = report_of(site).holes
    assert open_hole == HoleFound(
        found_at=failed.ended_at,
        line=failed.holes[0],
        open_since=first.began_at,
        closed_at=None,
    )
    folder.chmod(0o700)
    closed = drills(site)
    (hole,) = report_of(site).holes
    assert hole.closed_at == closed.ended_at
    site.goes_on(Cause.DRILL_FAILED)


def test_an_object_that_is_missing_is_neither_sealed_nor_plain(
    site: Site, ada: Workstation
) -> None:
    """It is said to be missing."""
    path = next(each for each in site.premises.objects.glob("??/*"))
    path.unlink()
    found = report_of(site)
    assert (found.sealed, found.plain, found.missing) == (2, 0, 1)


def test_an_erased_batch_lies_there_until_its_file_is_removed(
    site: Site, ada: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it was erased before the span: the store was away, or it was one of very many."""
    grace = somebody_else_at(ada)
    assert grace.puts(grace.seals(grace.consents())).status == 201
    with monkeypatch.context() as crashed:
        crashed.setattr("collector.rights.demands.sweep_left", lambda *_args: 0)
        assert ada.asks(ada.demands()).status == 200
        assert grace.asks(grace.demands()).status == 200
    site.clock.moved = timedelta(minutes=10)
    left = lately(site)
    assert any(site.premises.objects.glob("??/*"))
    assert (left.erased, left.erased_of) == (4, {ada.org.subject, grace.org.subject})
    assert left.subjects == left.erased_of

    sweep_left(site.collector.index, site.collector.store, site.collector.now())
    assert not any(site.premises.objects.glob("??/*"))
    assert lately(site).erased == 4
    site.clock.moved = timedelta(minutes=20)
    assert (lately(site).erased, lately(site).subjects) == (0, set())


def test_what_was_erased_long_ago_is_of_whoever_demanded_it(
    site: Site, ada: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not of everybody at that device, whenever the demand came."""
    grace = somebody_else_at(ada)
    assert grace.puts(grace.seals(grace.consents())).status == 201
    monkeypatch.setattr("collector.rights.demands.sweep_left", lambda *_args: 0)
    assert grace.asks(grace.demands()).status == 200
    site.clock.moved = timedelta(minutes=10)
    found = lately(site)
    assert (found.erased, found.erased_of) == (1, {grace.org.subject})


def test_nobody_is_told_that_what_is_erased_was_sealed(site: Site, ada: Workstation) -> None:
    """It cannot be looked at any more; what is there, can."""
    assert ada.asks(ada.demands()).status == 200
    text = to_person(report_of(site), ada.org.subject, site.policy, ())
    assert "nobody can look at what is erased" in text
    assert "Was it encrypted? Yes" not in text


# --- the command and the notices ----------------------------------------------------------


def test_one_command_answers(site: Site, ada: Workstation, home: Path) -> None:
    """How many, which categories, who, encrypted, from when to when; as words and as JSON."""
    shown = CliRunner().invoke(cli, ["exposure", "--since", today(-1), "--json"])
    assert shown.exit_code == 0, shown.output
    said = json.loads(shown.output)
    assert (said["subjects"], said["encrypted"], said["sealed"]) == (1, True, 3)
    assert said["categories"][0]["category"] == "keys"
    words = CliRunner().invoke(cli, ["exposure", "--since", today(-1)]).output
    assert "people      1" in words
    assert "yes: each object was parsed" in words
    public = CliRunner().invoke(cli, ["exposure", "--since", today(-1), "--public"]).output
    assert "people      fewer than 10" in public


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--since", "yesterday"], ExitCode.USAGE, "does not match"),
        (["--since", "2027-03-15", "--until", "2027-03-14"], ExitCode.USAGE, "is before"),
        (["--since", "2025-03-15", "--public", "--notices", "out"], ExitCode.USAGE, "leave out"),
        (["--since", "2025-03-15", "--notices", "."], ExitCode.SETUP, "is there already"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    site: Site,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    code: ExitCode,
    said: str,
) -> None:
    """In one line that says what to do."""
    assert outcome(cli, "assent-collector", ["exposure", *args], refusals=()) == code
    assert said in capsys.readouterr().err


def test_the_notices_are_written_for_everybody_concerned(
    site: Site, ada: Workstation, home: Path, tmp_path: Path
) -> None:
    """One a person, with their own numbers only; to the authority; to the council; 0600 in 0700."""
    other = site.workstation()
    assert other.puts(other.seals(other.consents())).status == 201
    out = tmp_path / "out"
    shown = CliRunner().invoke(cli, ["exposure", "--since", today(-1), "--notices", str(out)])
    assert shown.exit_code == 0, shown.output
    names = {path.name for path in (out / "people").iterdir()}
    assert names == {f"{one.org.subject.hex()}.txt" for one in (ada, other)}
    adas = (out / "people" / f"{ada.org.subject.hex()}.txt").read_text()
    assert "To: ada@acme.example" in adas
    assert "3 batches of" in adas
    assert other.org.subject.hex() not in adas
    for name in ("council.txt", "authority.txt"):
        notice = (out / name).read_text()
        assert "fewer than 10" in notice
        assert "people      2" not in notice
        assert ada.org.subject.hex() not in notice
    exact = (out / "exact.txt").read_text()
    assert "people      2" in exact
    assert "batches     4" in exact
    for path in out.rglob("*"):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_the_authority_is_told_what_article_33_asks_for() -> None:
    """(a) nature, categories, approximate numbers; (b) contact; (c) consequences; (d) measures."""
    policy, found = Organisation().policy(), planted(3)
    text = to_authority(found, policy, wall(NOW))
    for part in ("(a) Nature", "(b) Contact point", "(c) Likely consequences", "(d) Measures"):
        assert part in text
    assert "Data subjects concerned, approximately: fewer than 10" in text
    assert "Data subjects concerned, approximately: 30 to 39" in to_authority(
        planted(33), policy, wall(NOW)
    )
    assert policy.controller.contact in text
    assert "a batch's file has mode 644" in text
    assert "is a sealed frame" in text
    found.plain = 2
    plain = to_authority(found, policy, wall(NOW))
    assert "have to be taken for plaintext (of fewer than 10 people)" in plain
    assert "fewer than 10" in to_council(found, policy)


def test_a_person_is_told_that_something_of_theirs_was_readable(
    site: Site, ada: Workstation, tmp_path: Path
) -> None:
    """And who had it released, for what, under whose approval."""
    found = report_of(site)
    subject = bytes(ada.org.subject)
    found.people[subject].plain = 1
    found.accesses = planted(1).accesses
    found.accesses[0].of_subject = {subject: 2}
    now = WallInstant(int(datetime.now(UTC).timestamp()))
    write_notices(site.collector.index, found, site.policy, tmp_path / "out", now)
    text = (tmp_path / "out" / "people" / f"{subject.hex()}.txt").read_text()
    assert "NOT ALL" in text
    assert "2 batches by training-team, approved by Ada, Grace" in text
    assert "the model cannot scroll" in text


# --- what was released, and is erased by now ----------------------------------------------


def has_released(site: Site, *frames: bytes) -> None:
    """Let a reader have *frames* released."""
    reader = site.reader(site.org.request().reader)
    order = ReleaseOrder(grant=site.grant(), batches=tuple(map(batch_hash, frames)))
    answer = reader.request("POST", "/v1/releases", msgspec.json.encode(order))
    assert answer.status == 200, answer.body


def uploads(one: Workstation) -> bytes:
    frame = one.seals(one.consents())
    assert one.puts(frame).status == 201
    return frame


def opened_of(site: Site, one: Workstation) -> str:
    """Return what a notice says of who opened what was theirs."""
    text = to_person(report_of(site), one.org.subject, site.policy, ())
    (said,) = (each for each in text.split("\n\n") if each.startswith("Who opened it."))
    return said


def test_who_had_it_released_is_told_when_it_is_erased_by_now(site: Site) -> None:
    """By a demand or by its device: the person, and the operator, know whose it was."""
    ada, grace, other = (site.workstation() for _ in range(3))
    frames = [uploads(each) for each in (ada, grace, other)]
    has_released(site, *frames[:2])
    assert ada.asks(ada.demands()).status == 200
    assert grace.deletes(frames[1]).status == 200
    assert other.asks(other.demands()).status == 200
    for one in (ada, grace):
        assert "1 batches by training-team, approved by Ada, Grace" in opened_of(site, one)
    assert opened_of(site, other) == "Who opened it. Nobody had any of it released in this time."
    (access,) = told(report_of(site), public=False).accesses
    assert (access.subjects, access.batches, access.of_erased) == (2, 2, 2)
    (public,) = told(report_of(site), public=True).accesses
    assert (public.subjects, public.of_erased) == ("fewer than 10", "of fewer than 10 people")


def test_what_the_guard_erased_is_of_whom_it_names(site: Site) -> None:
    """Its order says so, also where several people use a device."""
    ada = site.workstation()
    grace = somebody_else_at(ada)
    frame = uploads(ada)
    uploads(grace)
    has_released(site, frame)
    subject, now = ada.org.subject, site.collector.now()
    order = Order(origin=site.origin, subject=subject, category=None, month="", at=now)
    assert obey(site.collector, sign_order(order, site.org.guard)) is not None
    found = report_of(site)
    assert found.erased_of == {subject}
    assert "1 batches by training-team" in opened_of(site, ada)
    assert "Nobody had any of it" in opened_of(site, grace)


def test_of_a_device_of_several_people_each_is_told_that_it_may_have_been_theirs(
    site: Site,
) -> None:
    """Whose a batch was that the device deleted, nobody knows; nobody is told that it was not."""
    ada = site.workstation()
    grace = somebody_else_at(ada)
    frame = uploads(ada)
    uploads(grace)
    has_released(site, frame)
    assert ada.deletes(frame).status == 200
    for one in (ada, grace):
        assert "1 erased batches of yours or of somebody else at your device by training-team" in (
            opened_of(site, one)
        )
    (access,) = told(report_of(site), public=False).accesses
    assert (access.subjects, access.of_erased) == (2, 1)


def test_where_it_cannot_be_told_whose_a_released_batch_was_nobody_is_told_that_it_was_not(
    site: Site, ada: Workstation
) -> None:
    """Who had something erased may have had this; who had not, cannot."""
    other = site.workstation()
    uploads(other)
    found = report_of(site)
    (access,) = found.accesses = planted(1).accesses
    access.of_subject, access.subjects, access.gone, access.nobodys = {}, set(), 2, 2
    found.people[ada.org.subject].erased = True
    text = to_person(found, ada.org.subject, site.policy, ())
    assert "Nobody had any of it" not in text
    assert "were released to training-team; whose they were cannot be told any more" in text
    text = to_person(found, other.org.subject, site.policy, ())
    assert "Nobody had any of it released in this time" in text
