"""From the tables of an earlier version to ours, on both back ends, and from one to the other."""

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from click.testing import CliRunner
from sqlalchemy import Connection, Inspector, MetaData, Table, inspect, select

from base.clock import NANOSECONDS
from base.command import outcome
from base.errors import ExitCode
from collector.__main__ import cli
from collector.index import Changeable, FrameOf
from collector.index.migration import STEPS, migrate
from collector.index.opening import open_index
from collector.index.schema import OlderError
from collector.index.sqlite import SqliteIndex
from collector.index.tables import SCHEMA_VERSION, metadata, policies
from tests.conftest import NewPlace
from tests.fakes import index_v1
from tests.fakes.indexes import Place, PostgresPlace
from tests.fakes.organisation import READER
from tests.fakes.postgres import Server
from tests.fakes.site import Site, Workstation, collector_site, today
from wire.category import Category
from wire.collector_http import ReleaseOrder
from wire.consent_event import ConsentEvent, sign_event
from wire.errors import WireError
from wire.frame import join_unsigned, split
from wire.grant import grant_hash
from wire.ids import BatchHash, WallInstant
from wire.linked import ConsentState
from wire.sealing import sign

Rows: TypeAlias = dict[str, list[dict[str, Any]]]
# Tables that version 1 had not.
NEW: Final = {"approvals", "asked", "expiries", "heard", "lease", "returns"} | {
    *("drill_identities", "drill_marks", "drills", "planted"),
}


def hash_of(frame: bytes) -> bytes:
    return hashlib.sha256(frame).digest()


# --- a collector that has lived ---------------------------------------------------------


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a collector of which every table has rows."""
    with collector_site(tmp_path_factory.mktemp("lived") / "site") as site:
        workstation = site.workstation("ada@acme.example")
        signed = workstation.consents()
        frame = workstation.seals(signed)
        parts = split(frame)
        unsigned = join_unsigned(parts.core, parts.shelf, parts.body)
        frames = [sign(unsigned, number, workstation.org.device) for number in range(1, 6)]
        for each in frames:
            assert workstation.puts(each).status == 201
        release(site, frames[0], frames[1])
        for gone in frames[1:3]:  # one of them was released before
            assert workstation.deletes(gone).status == 200
        demand(workstation)
        withdraw(workstation, signed)
        site.collector.leases.timestamp()
        site.stops("the store is moved")
        site.halts("it was asked for")
        yield site


def release(site: Site, *frames: bytes) -> None:
    request = site.org.request(
        first_day=today(),
        last_day=today(),
        expires_at=WallInstant(site.collector.now() + 3600 * NANOSECONDS),
        programme=site.policy.programme,
    )
    hashes = tuple(hash_of(frame) for frame in frames)
    order = ReleaseOrder(grant=site.org.grant(request), batches=hashes)
    answer = site.reader(READER).request("POST", "/v1/releases", msgspec.json.encode(order))
    assert answer.status == 200, answer.body


def demand(workstation: Workstation) -> None:
    answer = workstation.asks(workstation.demands(category=Category.POINTER))
    assert answer.status == 200, answer.body


def withdraw(workstation: Workstation, signed: Any) -> None:  # noqa: ANN401 - a SignedConsent
    at = WallInstant(workstation.site.collector.now())
    event = ConsentEvent(grant=grant_hash(signed), state=ConsentState.WITHDRAWN, at=at)
    body = msgspec.json.encode(sign_event(event, workstation.org.device))
    assert workstation.door.request("POST", "/v1/consent-events", body).status == 201


def rows_of(connection: Connection, tables: MetaData) -> Rows:
    """Return all rows of all tables, in an order that does not depend on who stores them."""
    return {
        table.name: sorted(
            (dict(row) for row in connection.execute(select(table)).mappings()), key=repr
        )
        for table in tables.sorted_tables
    }


def all_rows(index: Changeable) -> Rows:
    with index.reading() as connection:
        return rows_of(connection, metadata)


def as_version_1(rows: Rows) -> Rows:
    """Return what of these rows version 1 would have had."""

    def old(table: Table, row: dict[str, Any]) -> dict[str, Any]:
        was = row | {"cosigned_at": row.get("last_at")}
        return {column.name: was[column.name] for column in table.columns}

    return {
        table.name: [old(table, row) for row in rows[table.name]]
        for table in index_v1.metadata.sorted_tables
    }


@pytest.fixture
def before(tmp_path: Path, new_place: NewPlace, lived: Site) -> Place:
    """Return a place with the tables of version 1, filled by the collector that has lived."""
    place = new_place(tmp_path)
    if isinstance(place, PostgresPlace):
        place = PostgresPlace(place.server, place.server.empty())
    fill(place, as_version_1(all_rows(open_index(lived.premises))))
    return place


def fill(place: Place, rows: Rows) -> None:
    with closing(place.open(any_version=True)) as index, index.changing() as connection:
        index_v1.metadata.create_all(connection)
        for table in index_v1.metadata.sorted_tables:
            assert rows[table.name], f"{table.name} has no row, so nothing is tried with it"
            connection.execute(table.insert(), rows[table.name])
        index.note_version(connection, 1)


@pytest.fixture
def frame_of(lived: Site) -> FrameOf:
    return lambda batch: lived.collector.store.get(BatchHash(batch))


# --- migrations -------------------------------------------------------------------------


def test_every_row_of_the_previous_version_is_there_afterwards(
    before: Place, lived: Site, frame_of: FrameOf
) -> None:
    """As if this version had written it from the beginning: what it lacked comes from frames."""
    with pytest.raises(OlderError, match="run assent-collector migrate"):
        before.open()
    with closing(before.open(any_version=True)) as index:
        remarks = migrate(index, frame_of)
    with closing(before.open()) as index:
        found, wanted = all_rows(index), all_rows(open_index(lived.premises))
    unknown = [row for row in found["releases"] if not row["core_hash"]]
    assert len(unknown) == 1  # its batch was erased, and with it what that was the hash of
    assert remarks == ("1 releases are of batches erased since: an audit names them",)
    for row in wanted["releases"]:
        if row["batch"] == unknown[0]["batch"]:
            row["core_hash"] = b""
        # One note is all that version 1 had of a head.
    for row in wanted["checkpoints"]:
        row["last_note"] = row["note"]
    assert found.keys() == wanted.keys()
    for name in found.keys() - NEW:
        assert sorted(found[name], key=repr) == sorted(wanted[name], key=repr), name
    assert all(found[name] == [] for name in NEW)


def shape(connection: Connection) -> dict[str, object]:
    """Return columns, keys and indexes of every table as the database itself tells them."""
    inspector: Inspector = inspect(connection)

    def plain(found: object) -> object:
        if isinstance(found, dict):
            # SQLite's tables that were made anew and PostgreSQL's own names differ, no more.
            left_out = {"name", "comment", "duplicates_index", "dialect_options", "options"}
            return sorted((k, plain(v)) for k, v in found.items() if k not in left_out)
        return str(found)

    return {
        table: [
            sorted(
                (c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(table)
            ),
            inspector.get_pk_constraint(table)["constrained_columns"],
            sorted(map(str, map(plain, inspector.get_foreign_keys(table)))),
            sorted(map(str, map(plain, inspector.get_unique_constraints(table)))),
            sorted(
                (i["name"] or "", i["column_names"])
                for i in inspector.get_indexes(table)
                if not i["unique"]
            ),
        ]
        for table in inspector.get_table_names()
    }


def test_migrated_tables_are_those_that_a_new_index_has(
    before: Place, tmp_path: Path, new_place: NewPlace, frame_of: FrameOf
) -> None:
    """By alembic's comparison with ours, and by what the database says of both."""
    with closing(before.open(any_version=True)) as index:
        migrate(index, frame_of)
        with index.reading() as connection:
            context = MigrationContext.configure(
                connection,
                opts={"include_name": lambda name, _kind, _parents: name != "assent_schema"},
            )
            assert compare_metadata(context, metadata) == []
            migrated = shape(connection)
    folder = tmp_path / "new"
    folder.mkdir()
    with closing(new_place(folder).open()) as index, index.reading() as connection:
        assert migrated == shape(connection)


def test_the_comparison_finds_what_is_missing(before: Place) -> None:
    """It would hold nothing if it took everything: the tables of version 1 are not ours."""
    with closing(before.open(any_version=True)) as index, index.reading() as connection:
        found = repr(compare_metadata(MigrationContext.configure(connection), metadata))
    for name in ("approvals", "expiries", "sealed_sha256", "core_hash", "last_note", "cosigned_at"):
        assert name in found


def test_there_is_a_step_to_every_version() -> None:
    """One after the other, up to the tables of this one."""
    assert [step.version for step in STEPS] == list(range(2, SCHEMA_VERSION + 1))


def test_a_migration_that_fails_in_the_middle_has_changed_nothing(
    before: Place, frame_of: FrameOf
) -> None:
    """It can be begun anew, and then it succeeds."""
    asked = []

    def breaks(batch: bytes) -> bytes | None:
        asked.append(batch)
        if len(asked) == 2:
            raise InterruptedError
        return frame_of(batch)

    def rows() -> Rows:
        with index.reading() as connection:
            assert index.version(connection) == 1
            assert not set(inspect(connection).get_table_names()) & NEW
            return rows_of(connection, index_v1.metadata)

    with closing(before.open(any_version=True)) as index:
        as_it_was = rows()
        with pytest.raises(InterruptedError):
            migrate(index, breaks)
        assert rows() == as_it_was
        migrate(index, frame_of)
    before.open().close()


def test_a_batch_whose_frame_is_not_sound_is_counted_and_left_empty(
    before: Place, frame_of: FrameOf
) -> None:
    """Missing, or another than the row says: nothing is made up."""
    asked = []

    def unsound(batch: bytes) -> bytes | None:
        asked.append(batch)
        frame = frame_of(batch)
        assert frame is not None
        if len(asked) == 1:
            return None
        return frame[:-1] + bytes([frame[-1] ^ 1]) if len(asked) == 2 else frame

    with closing(before.open(any_version=True)) as index:
        remarks = migrate(index, unsound)
        found = all_rows(index)["batches"]
    assert remarks[0] == "2 batches have no sound frame in the store: an audit names them"
    assert {row["batch"] for row in found if not row["core"]} == set(asked[:2])
    assert all(bool(row["core"]) == bool(row["signature"]) for row in found)


def test_devices_of_one_of_several_jurisdictions_wait_until_somebody_says_of_which(
    before: Place, frame_of: FrameOf
) -> None:
    """Nobody is put anywhere by guess; under a policy of one jurisdiction all are there."""
    with closing(before.open(any_version=True)) as index:
        with index.changing() as connection:
            (text,) = connection.execute(select(policies.c.policy)).scalars()
            several = text.replace(b'"DE"', b'"DE", "FR"')
            assert several != text
            connection.execute(policies.update().values(policy=several))
        remarks = migrate(index, frame_of)
        rows = all_rows(index)
    assert any("1 devices are in one of several jurisdictions" in remark for remark in remarks)
    assert {row["jurisdiction"] for name in ("devices", "tokens") for row in rows[name]} == {""}


def test_an_index_of_this_version_is_left_alone(before: Place, frame_of: FrameOf) -> None:
    """Asked again, nothing happens."""
    with closing(before.open(any_version=True)) as index:
        migrate(index, frame_of)
        rows = all_rows(index)
        assert migrate(index, lambda _batch: pytest.fail("nothing is to be done")) == ()
        assert all_rows(index) == rows


# --- the command ------------------------------------------------------------------------


@pytest.fixture
def home(lived: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folders of that collector as version 1 left them."""
    folder = tmp_path / "home"
    monkeypatch.setenv("ASSENT_HOME", str(folder))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    (folder / "state").mkdir(parents=True)
    (folder / "config").symlink_to(lived.premises.paths.config)
    (folder / "state" / "objects").symlink_to(lived.premises.objects)
    (folder / "state" / "timestamp.json").write_text("{}")
    fill(V1(folder / "state" / "index.sqlite"), as_version_1(all_rows(open_index(lived.premises))))
    return folder


class V1:
    """The file of an index, opened whatever it is."""

    url = argument = ""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, *, any_version: bool = False) -> SqliteIndex:
        return SqliteIndex(self._path, any_version=any_version)

    def copy(self) -> "V1":
        return self

    def holds(self, data: bytes) -> bool:
        return data in self._path.read_bytes()


def does(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_the_command_shows_what_it_would_do_and_does_it_when_told(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until then the server and all other commands refuse, with one line that names it."""
    path = home / "state" / "index.sqlite"
    before = path.read_bytes()
    for command in (["serve", "--listen", "127.0.0.1:0"], ["status"], ["devices"]):
        assert outcome(cli, "assent-collector", command, refusals=(WireError,)) == ExitCode.SETUP
        assert "run assent-collector migrate" in capsys.readouterr().err
    shown = does("migrate")
    assert "has the tables of version 1 of 2. To version 2: batches get" in shown
    assert "Nothing was changed" in shown
    assert path.read_bytes() == before
    done = does("migrate", "--yes")
    assert "1 releases are of batches erased since" in done
    assert "It has those of version 2 now." in done
    assert not (home / "state" / "timestamp.json").exists()
    assert "releases fewer than 1,000" in does("status")
    assert "has the tables of version 2 of 2." in does("migrate", "--yes")


@pytest.mark.slow
def test_an_index_moves_into_postgresql_with_every_row(
    home: Path, lived: Site, postgres: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the same command; from then on the database alone is used, and numbers go on."""
    url = PostgresPlace(postgres, postgres.empty()).url
    config = home / "config"
    text = (config / "config.toml").read_text("utf-8")
    config.unlink()
    config.mkdir()
    for path in lived.premises.paths.config.iterdir():
        (config / path.name).symlink_to(path)
    (config / "config.toml").unlink()
    (config / "config.toml").write_text(f'{text}\n[index]\nurl = "{url}"\n', "utf-8")

    assert outcome(cli, "assent-collector", ["status"], refusals=(WireError,)) == ExitCode.SETUP
    assert "holds no index" in capsys.readouterr().err
    assert "All its rows are copied into the PostgreSQL database" in does("migrate")
    moved = does("migrate", "--yes")
    assert "rows are in the PostgreSQL database" in moved
    assert not (home / "state" / "index.sqlite").exists()
    with closing(SqliteIndex(home / "state" / "index.sqlite.moved")) as source:
        wanted = all_rows(source)
    with closing(PostgresPlace(postgres, url).open()) as index:
        assert all_rows(index) == wanted
    assert "has the tables of version 2 of 2." in does("migrate", "--yes")
    assert "releases fewer than 1,000" in does("status")
    with closing(PostgresPlace(postgres, url).open()) as index:
        with index.writing() as connection:  # a number that the database gives is a new one
            values = dict.fromkeys(("digest", "root", "snapshot", "targets", "policy"), b"new")
            numbers = dict.fromkeys(("published_at", "expires", "leaf"), 1)
            connection.execute(policies.insert().values(**values, **numbers))
        assert len(all_rows(index)["policies"]) == len(wanted["policies"]) + 1
