"""What a real collector exports passes the audit, and what is taken out of it is missed."""

import hashlib
import json
import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from sqlalchemy import func, select

from base.clock import NANOSECONDS
from base.errors import SetupError
from collector.__main__ import cli as collector_cli
from collector.commands.audit import write_bundle
from collector.guard.watch import Watch
from collector.guard.witnessed import Witnessed
from collector.halt import Cause
from collector.index.tables import checkpoints, leaves
from collector.rights import expiry, orders
from governance.__main__ import cli
from governance.audit.examine import Report, Trusted, examine
from governance.audit.findings import Rule
from governance.audit.reading import Bundle
from guard.keys import Keys
from tests.conftest import NewPlace
from tests.fakes.audited import write_files
from tests.fakes.drilled import drills
from tests.fakes.organisation import READER, public_key_of_identity
from tests.fakes.own import asks, hash_of, order_of
from tests.fakes.site import Site, Workstation, collector_site, today
from wire import audit
from wire.category import Category
from wire.collector_http import ReleaseOrder
from wire.consent_event import ConsentEvent, sign_event
from wire.grant import grant_hash
from wire.ids import WallInstant, key_id
from wire.linked import ConsentState
from wire.rights import Demand


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, new_place: NewPlace) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with collector_site(folder, index_url=new_place(folder).url) as running:
        some_days(running)
        yield running


@pytest.fixture(scope="module")
def bundle(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit") / "bundle"
    write_bundle(site.premises, site.collector.index, folder)
    return folder


def some_days(site: Site) -> None:
    """Let everything happen that leaves a leaf: to Ada, who stays, and Ben, who erases all."""
    ada, ben = site.workstation(), site.workstation()
    agreed = ada.consents()
    assert drills(site).passed
    (site.premises.objects / "ab").chmod(0o755)
    assert not drills(site).passed
    (site.premises.objects / "ab").chmod(0o700)
    site.goes_on(Cause.DRILL_FAILED)
    frames = [sealed(ada, agreed) for _ in range(4)]
    brief = sealed(ada, agreed, expires=today())
    released(site, frames[0], frames[1], brief)
    assert asks(site, order_of(ada, hash_of(frames[2])), "return").status == 200
    assert ada.deletes(frames[1]).status == 200
    assert ada.door.request("DELETE", f"/v1/batches/{secrets.token_hex(32)}").status == 200
    late(site, days=2)
    theirs = ben.consents()
    sealed(ben, theirs)
    ended = ConsentEvent(
        grant=grant_hash(theirs), state=ConsentState.EXPIRED, at=WallInstant(ben.agrees_at + 1)
    )
    event = msgspec.json.encode(sign_event(ended, ben.org.device))
    assert ben.door.request("POST", "/v1/consent-events", event).status == 201
    assert ben.asks(ben.demands(Demand.ERASE)).status == 200
    assert ada.asks(ada.demands(Demand.WITHDRAW, category=Category.SCREEN)).status == 200
    erases_at_the_guard(site, site.workstation())
    site.halts("somebody said so")
    site.publishes(hold_seconds=7200)


def erases_at_the_guard(site: Site, workstation: Workstation) -> None:
    """Let the guard forget a person by its own hand, and the collector follow."""
    sealed(workstation, workstation.consents())
    keys = Keys(site.guard.folder / "keys.sqlite")
    keys.forget(workstation.org.subject, None, None, site.collector.now())
    keys.close()
    assert orders.follow(site.collector) == 1


def late(site: Site, days: int) -> None:
    """Let the collector tidy up as if it were *days* later."""
    site.clock.moved = timedelta(days=days)
    assert expiry.clear(site.collector) == 1
    site.clock.moved = timedelta()


def sealed(workstation: Workstation, agreed: object, **changes: object) -> bytes:
    """Hand in a batch that the policy's reader is a recipient of."""
    org = workstation.org
    keys = (org.identity, org.subject_identity)
    named = tuple(key_id(public_key_of_identity(identity)) for identity in keys)
    frame = workstation.seals(agreed)  # type: ignore[arg-type]  # a consent
    frame = workstation.spoils(frame, recipients=named, **changes)
    assert workstation.puts(frame).status == 201
    return frame


def released(site: Site, *frames: bytes) -> None:
    request = site.org.request(
        first_day=today(),
        last_day=today(),
        expires_at=WallInstant(site.collector.now() + 3600 * NANOSECONDS),
        programme=site.policy.programme,
    )
    names = tuple(hashlib.sha256(frame).digest() for frame in frames)
    order = ReleaseOrder(grant=site.org.grant(request), batches=names)
    answer = site.reader(READER).request("POST", "/v1/releases", msgspec.json.encode(order))
    assert answer.status == 200, answer.body


def audited(site: Site, bundle: Path) -> Report:
    root = (site.policy_folder / "root.json").read_bytes()
    now = site.collector.now() // NANOSECONDS
    return examine(Bundle.open(bundle), Trusted(root=root, now=now))


def without(bundle: Path, to: Path, name: str, line: int) -> Path:
    """Copy the bundle without one line of a file, its SHA256SUMS made anew."""
    files = {
        path.relative_to(bundle).as_posix(): path.read_bytes()
        for path in bundle.rglob("*")
        if path.is_file() and path.name != audit.SUMS
    }
    lines = files[name].splitlines(keepends=True)
    assert lines, name
    del lines[line]
    files[name] = b"".join(lines)
    return write_files(to, files)


def test_what_a_collector_exports_has_nothing_for_an_audit_to_find(
    site: Site, bundle: Path
) -> None:
    """Every kind of leaf is there, and everything that the rules ask for."""
    report = audited(site, bundle)
    assert report.findings == []
    assert (report.policies, report.consents, report.demands) == (2, 3, 2)
    assert (report.batches, report.erased, report.releases) == (7, 4, 4)
    assert report.orders == 1
    assert (report.drills, report.drills_failed) == (2, 1)
    assert all((bundle / name).stat().st_size for name in audit.SINGLE)


@pytest.mark.parametrize(
    ("name", "line", "rule"),
    [
        (audit.CONSENTS, 0, Rule.NO_CONSENT),
        (audit.POLICIES, 0, Rule.NOT_WITNESSED),
        (audit.EVENTS, 0, Rule.UNEXPLAINED),
        (audit.DEMANDS, 0, Rule.WRONG_LEAF),
        (audit.ORDERS, 0, Rule.WRONG_LEAF),
        (audit.ERASED, 0, Rule.NO_TOMBSTONE),
        (audit.TOMBSTONES, 0, Rule.UNEXPLAINED),
        (audit.EXPIRIES, 0, Rule.NO_TOMBSTONE),
        (audit.ACCESSES, 0, Rule.NOT_APPROVED),
        (audit.RETURNS, 0, Rule.NOT_APPROVED),
        (audit.DRILLS, 1, Rule.UNEXPLAINED),
        (audit.batches_name(0), 0, Rule.NO_TOMBSTONE),
        (audit.releases_name(0), 0, Rule.UNLOGGED),
    ],
)
def test_what_is_left_out_of_a_bundle_is_missed(
    site: Site, bundle: Path, tmp_path: Path, name: str, line: int, rule: Rule
) -> None:
    """A collector that hides one record shows with it that there is something to hide."""
    report = audited(site, without(bundle, tmp_path / "less", name, line))
    assert rule in {finding.rule for finding in report.findings}


def test_a_bundle_holds_no_sealed_body_and_names_nobody(site: Site, bundle: Path) -> None:
    """Of a batch it has the core and hashes; the bytes that could be opened stay."""
    everything = b"".join(path.read_bytes() for path in bundle.rglob("*") if path.is_file())
    stored = [p.read_bytes() for p in site.premises.objects.glob("??/*")]
    assert any(stored)
    for frame in stored:
        assert frame[-600:-100] not in everything
    assert b"ada@acme.example" not in everything


def test_a_bundle_goes_into_a_new_folder(site: Site, bundle: Path) -> None:
    """An older bundle is evidence, and is not written over."""
    with pytest.raises(SetupError, match="is there already"):
        write_bundle(site.premises, site.collector.index, bundle)


def test_what_is_erased_while_a_bundle_is_written_holds_nobody_up(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes on beside it; the bundle is of one moment all the same."""
    workstation = site.workstation()
    frame = sealed(workstation, workstation.consents())
    cosigned, left = Witnessed.now, [frame]

    def erased_first(self: Witnessed, now: WallInstant, size: int | None = None) -> str:
        note = cosigned(self, now, size)
        while left:
            assert workstation.deletes(left.pop()).status == 200
        return note

    monkeypatch.setattr(Witnessed, "now", erased_first)
    write_bundle(site.premises, site.collector.index, tmp_path / "bundle")
    assert left == []
    assert audited(site, tmp_path / "bundle").findings == []
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_the_watch_has_the_witness_date_the_log(site: Site) -> None:
    """Once an hour, so that an audit can say when what was written."""
    site.workstation().consents()
    assert witnessed(site) < leaf_count(site)
    watch = Watch(site.collector)
    watch.tidy()
    assert witnessed(site) == leaf_count(site)
    site.workstation().consents()
    watch.tidy()
    assert witnessed(site) < leaf_count(site), "it is asked once an hour"


def witnessed(site: Site) -> int:
    with site.collector.index.reading() as connection:
        return int(connection.execute(select(func.max(checkpoints.c.size))).scalar_one())


def leaf_count(site: Site) -> int:
    with site.collector.index.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(leaves)).scalar_one())


def test_both_commands_explain_themselves() -> None:
    """Whoever is asked for an audit finds out how."""
    for program, command in ((collector_cli, "audit-bundle"), (cli, "audit")):
        shown = CliRunner().invoke(program, [command, "--help"])
        assert shown.exit_code == 0
        assert "Example:" in shown.output


def test_the_command_says_what_it_looked_at(site: Site, bundle: Path) -> None:
    """For a person, and as JSON."""
    root = str(site.policy_folder / "root.json")
    shown = CliRunner().invoke(cli, ["audit", str(bundle), "--root", root])
    assert shown.exit_code == 0, shown.output
    assert "nothing was found" in shown.output
    facts = CliRunner().invoke(cli, ["audit", str(bundle), "--root", root, "--json"])
    assert json.loads(facts.stdout)["findings"] == []
