"""The guard changes the keys by which policies name it, between a real guard and a collector."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select

from agent.__main__ import agent
from agent.guard_keys import GuardKeys
from agent.log_seen import LogSeen
from agent.rights import rights_card
from base.clock import NANOSECONDS
from base.command import outcome
from base.errors import ExitCode
from base.https import OneDoor
from collector.commands.audit import write_bundle
from collector.index.tables import checkpoints, guard_keys
from collector.refusal import RefusedError
from collector.rights.orders import follow
from governance.audit.examine import Trusted, examine
from governance.audit.reading import Bundle
from guard.keys import Keys
from guard.rings import FORMER_SECONDS, Kind
from tests.conftest import NewPlace
from tests.fakes.organisation import READER, WITNESS_NAME, Organisation, PolicyFolder, ed25519
from tests.fakes.rotating import agrees, announces, changes_keys, publishes, trusts
from tests.fakes.site import Site, Workstation, collector_site, today
from wire.category import Category
from wire.collector_http import Carried, ReleaseList, ReleaseOrder
from wire.errors import ForgedError, WireError
from wire.guard_http import KeyAnswer, KeyRequest, OrdersRequest, sign_key, verify_key
from wire.guard_order import verify_order
from wire.lease import verify_lease
from wire.narrowing import widened
from wire.policy import Policy
from wire.quorum import verify_quorum
from wire.rights import Demand, Requests, verify_erasure
from wire.tlog import cosign, verify_cosignature
from wire.xwing import public_key_of

MONTH = today()[:7]


@pytest.fixture
def site(tmp_path: Path, new_place: NewPlace) -> Iterator[Site]:
    with collector_site(tmp_path / "site", index_url=new_place(tmp_path).url) as running:
        yield running


@pytest.fixture
def ada(site: Site) -> Workstation:
    return site.workstation()


def month_key(of: Workstation) -> KeyAnswer:
    answer = of.asks_key()
    assert answer.status == 200, answer.body
    return msgspec.json.decode(answer.body, type=KeyAnswer)


def asked(of: Workstation) -> KeyRequest:
    return KeyRequest(subject=of.org.subject, category=Category.KEYS, month=MONTH)


def holds(answer: KeyAnswer, of: Workstation, policy: Policy) -> bool:
    """Whether a device that acts on *policy* seals to that key."""
    try:
        verify_key(answer, asked(of), policy.guard.signing_key)
    except WireError:
        return False
    return True


def is_cosigned(note: str, policy: Policy) -> bool:
    try:
        verify_quorum(note, policy)
    except WireError:
        return False
    return True


# --- handed-out keys ----------------------------------------------------------------------


def test_a_key_that_was_handed_out_is_signed_anew_and_stays_the_same(
    site: Site, ada: Workstation
) -> None:
    """So a device goes on, and what it has sealed before is still taken."""
    agreed = ada.consents()
    before, first = site.policy, month_key(ada)
    waiting = ada.seals(agreed)
    changes_keys(site)
    assert not holds(first, ada, site.policy)
    second = month_key(ada)
    assert second.public_key == first.public_key
    assert holds(second, ada, site.policy)
    assert holds(second, ada, before)  # who has not heard of the next policy yet goes on, too
    assert month_key(ada) == second  # and is kept so
    assert ada.puts(waiting).status == 201
    assert not any(widened(before, site.policy).values())


def test_from_the_announcement_on_a_key_is_good_under_both_policies(
    site: Site, ada: Workstation, tmp_path: Path
) -> None:
    """A device that got it then need not even ask again."""
    before = site.policy
    ada.consents()
    agrees(site, announces(site))
    device = GuardKeys(tmp_path, ada.org.subject)
    device.use_guard(before.guard.signing_key)
    device.add(Category.KEYS, MONTH, month_key(ada))
    device.use_guard(site.policy.guard.signing_key)
    assert (Category.KEYS, MONTH) in device.keys


def test_the_collector_may_be_first_to_have_the_policy(site: Site, ada: Workstation) -> None:
    """The guard that announced has signed by both; only the lease waits for its `trust`."""
    ada.consents()
    first = month_key(ada)
    agrees(site, announces(site))
    publishes(site)
    assert holds(month_key(ada), ada, site.policy)
    assert is_cosigned(site.collector.witnessed.by_quorum(site.collector.now()), site.policy)
    trusts(site)
    assert month_key(ada).public_key == first.public_key


def test_a_key_that_cannot_be_signed_anew_is_not_handed_out_as_it_was(
    site: Site, ada: Workstation
) -> None:
    """While the guard is away, a device hears that, and not a signature that does not hold."""
    ada.consents()
    month_key(ada)
    changes_keys(site)
    site.guard.policy = None  # it answers nothing
    assert ada.asks_key().status == 503


def test_a_guard_that_died_between_policy_and_files_signs_by_the_policy(
    site: Site, ada: Workstation
) -> None:
    """The policy is installed in one write; the names of the files follow, whenever."""
    before = site.policy
    ada.consents()
    agrees(site, announces(site))
    trusts(site, settle=False)
    publishes(site)
    answer = month_key(ada)
    assert holds(msgspec.structs.replace(answer, also=()), ada, site.policy)
    assert holds(answer, ada, before)
    trusts(site)
    assert site.guard.chest.announced(Kind.SIGNING) is None
    assert month_key(ada) == answer


# --- the log and the lease ----------------------------------------------------------------


def test_releases_go_on_at_each_step(site: Site, ada: Workstation) -> None:
    """The guard has the next policy some time before the collector: both find their witness."""
    reader, frame = site.reader(READER), ada.seals(ada.consents())
    assert ada.puts(frame).status == 201
    before = site.policy
    assert is_cosigned(released(site, reader, frame), before)
    agrees(site, announces(site))
    note = released(site, reader, frame)
    assert is_cosigned(note, before)
    trusts(site)
    note = released(site, reader, frame)
    assert is_cosigned(note, before)
    assert is_cosigned(note, site.policy)
    publishes(site)
    note = released(site, reader, frame)
    assert is_cosigned(note, before)
    assert is_cosigned(note, site.policy)


def released(site: Site, reader: OneDoor, frame: bytes) -> str:
    """Have a release logged; return the head that the guard is shown."""
    grant = site.grant(categories=(Category.KEYS,), first_day=today(), last_day=today())
    order = ReleaseOrder(grant=grant, batches=(hashlib.sha256(frame).digest(),))
    answer = reader.request("POST", "/v1/releases", msgspec.json.encode(order))
    assert answer.status == 200, answer.body
    return msgspec.json.decode(answer.body, type=ReleaseList).checkpoint


def test_devices_are_shown_a_head_of_their_witness_at_once(site: Site, tmp_path: Path) -> None:
    """Not only when the one that is kept has become old."""
    before, now = site.policy, site.collector.now()
    first = site.collector.witnessed.latest(now)
    assert verify_cosignature(first, before.guard.witness)
    changes_keys(site)
    second = site.collector.witnessed.latest(now)
    seen = LogSeen(tmp_path)
    for note, policy in ((first, before), (second, site.policy)):
        keys = (policy.collector.log, policy.guard.witness)
        seen.compare(note, keys, site.collector.log.consistency, now)


def test_the_lease_is_signed_by_the_key_of_the_policy(site: Site) -> None:
    """The root names it, and who has the former one adds nothing to a lease."""
    leased(site)
    changes_keys(site)
    timestamp = leased(site)
    files = PolicyFolder(site.policy_folder)
    forged = site.org.lease(files, datetime.now(UTC))
    verify_lease(root=files.root, snapshot=files.snapshot, timestamp=timestamp)
    with pytest.raises(ForgedError):
        verify_lease(root=files.root, snapshot=files.snapshot, timestamp=forged)


def leased(site: Site) -> bytes:
    timestamp = site.collector.leases.timestamp()
    left = site.collector.leases.left_seconds()
    assert left is not None
    assert left > 0
    return timestamp


def test_after_a_day_the_former_keys_are_destroyed_by_the_running_guard(
    site: Site, ada: Workstation
) -> None:
    """Until then they sign beside the present ones; then a thief of the disk finds none."""
    before = site.policy
    ada.consents()
    changes_keys(site)
    former = site.guard.folder / "signing.former.key"
    site.clock.moved = timedelta(seconds=FORMER_SECONDS - 60)
    assert is_cosigned(site.collector.witnessed.now(site.collector.now()), before)
    assert former.exists()
    site.clock.moved = timedelta(seconds=FORMER_SECONDS + 60)
    note = site.collector.witnessed.now(site.collector.now())
    assert not is_cosigned(note, before)
    assert is_cosigned(note, site.policy)
    assert not former.exists()


# --- erasures -----------------------------------------------------------------------------


def test_the_guards_word_of_before_is_signed_anew(site: Site, ada: Workstation) -> None:
    """A device that asks again after the change can check it; nothing is erased twice."""
    ada.consents()
    month_key(ada)
    demand = ada.demands()
    first = carried(ada.asks(demand).body)
    changes_keys(site)
    second = carried(ada.asks(demand).body)
    assert first.guard is not None
    assert second.guard is not None
    assert second.guard.erasure == first.guard.erasure
    verify_erasure(second.guard, demand.digest, site.policy.guard.signing_key)
    with pytest.raises(ForgedError):
        verify_erasure(first.guard, demand.digest, site.policy.guard.signing_key)


def carried(body: bytes) -> Carried:
    return msgspec.json.decode(body, type=Carried)


def test_the_guards_own_orders_are_signed_anew_for_devices(site: Site, ada: Workstation) -> None:
    """A device that comes late hears of them, by a signature that its policy's key made."""
    ada.consents()
    month_key(ada)
    keys = Keys(site.guard.folder / "keys.sqlite")
    keys.forget(ada.org.subject, Category.KEYS, None, site.collector.now())
    keys.close()
    assert follow(site.collector) == 1
    changes_keys(site)
    assert follow(site.collector) == 0
    assert site.collector.guard is not None
    assert site.collector.guard.orders(OrdersRequest(again=(bytes(32),))) == ()
    answer = ada.door.request("GET", "/v1/rights")
    [order] = msgspec.json.decode(answer.body, type=Requests).orders
    verify_order(order, site.origin, site.policy.guard.signing_key)


def test_who_has_the_rights_key_on_paper_finds_the_keys_that_follow(
    site: Site,
    ada: Workstation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What they printed names the former ones; the line of words leads to the present ones."""
    monkeypatch.setattr("agent.own_shown.become_undumpable", lambda: None)
    paper, said = tmp_path / "rights-key.txt", ""
    text = rights_card(ada.org.subject_identity, site.enrolment_file(), site.policy)
    paper.write_text(text, "ascii")
    assert ada.puts(ada.seals(ada.consents())).status == 201
    first = ada.demands(Demand.ERASE, category=Category.SCREEN)
    assert ada.asks(first).status == 200  # its word stays as the former key signed it
    changes_keys(site)
    site.clock.moved = timedelta(seconds=FORMER_SECONDS + 60)
    site.collector.witnessed.now(site.collector.now())
    site.clock.moved = timedelta()
    for words in (("batches",), ("deletions",), ("erase",)):
        line = ["rights", *words, "--key", str(paper)]
        assert outcome(agent, "assent-agent", line, refusals=(WireError,)) == ExitCode.DONE
        said = "".join(capsys.readouterr())
        assert "NOT cosigned" not in said
    assert "guard has erased its keys" in said
    stranger = rights_card(
        ada.org.subject_identity,
        site.enrolment_file(),
        msgspec.structs.replace(site.policy, guard=Organisation().policy().guard),
    )
    paper.write_text(stranger, "ascii")
    line = ["rights", "erase", "--key", str(paper)]
    assert outcome(agent, "assent-agent", line, refusals=(WireError,)) == ExitCode.REJECTED
    assert "do not believe it" in capsys.readouterr().err


# --- the audit ----------------------------------------------------------------------------


def test_an_audit_accepts_what_was_signed_under_the_policy_of_its_time(
    site: Site, ada: Workstation, tmp_path: Path
) -> None:
    """Heads, orders and words from before, between and after; each head by one guard alone."""
    witnessed, now = site.collector.witnessed, site.collector.now
    ada.consents()
    month_key(ada)
    witnessed.now(now())
    keys = Keys(site.guard.folder / "keys.sqlite")
    keys.forget(ada.org.subject, Category.SCREEN, None, now())
    keys.close()
    assert follow(site.collector) == 1
    assert ada.asks(ada.demands()).status == 200
    agrees(site, announces(site))
    witnessed.now(now())
    trusts(site)
    witnessed.now(now())
    publishes(site)
    witnessed.now(now())
    follow(site.collector)
    with site.collector.index.reading() as connection:
        notes = connection.execute(select(checkpoints.c.note)).scalars().all()
    assert {note.count(f"— {WITNESS_NAME} ") for note in notes} == {1}
    root = (site.policy_folder / "1.root.json").read_bytes()
    write_bundle(site.premises, site.collector.index, tmp_path / "bundle")
    trusted = Trusted(root=root, now=now() // NANOSECONDS)
    assert [f.what for f in examine(Bundle.open(tmp_path / "bundle"), trusted).findings] == []


# --- a thief of the former keys -----------------------------------------------------------


def test_a_thief_of_the_former_signing_key_hands_out_no_key(
    site: Site, ada: Workstation, tmp_path: Path
) -> None:
    """Not even together with the collector, which serves it for as long as it likes."""
    ada.consents()
    device = GuardKeys(tmp_path, ada.org.subject)
    device.use_guard(site.policy.guard.signing_key)
    stolen = changes_keys(site)
    lie = sign_key(asked(ada), public_key_of(b"\2" * 32), stolen, also=[stolen, ed25519()])
    device.use_guard(site.policy.guard.signing_key)
    with pytest.raises(ForgedError, match="not signed by the policy's guard"):
        device.add(Category.KEYS, MONTH, lie)
    assert device.keys == {}
    (tmp_path / "guard-keys.json").write_bytes(
        msgspec.json.encode([{"category": "keys", "month": MONTH, "answer": lie}])
    )
    again = GuardKeys(tmp_path, ada.org.subject)
    again.use_guard(site.policy.guard.signing_key)
    assert again.keys == {}


def test_what_a_thief_put_into_the_collectors_index_is_not_handed_out(
    site: Site, ada: Workstation
) -> None:
    """The collector looks at the signature each time, and asks the guard."""
    ada.consents()
    honest, stolen = month_key(ada), changes_keys(site)
    lie = sign_key(asked(ada), public_key_of(b"\2" * 32), stolen)
    changed = {"public_key": lie.public_key, "signature": lie.signature}
    with site.collector.index.writing() as connection:
        connection.execute(guard_keys.update().values(changed))
    assert month_key(ada).public_key == honest.public_key


def test_a_thief_of_the_former_witness_key_lets_no_device_see_another_log(site: Site) -> None:
    """Its cosignature counts for no policy that anybody acts on."""
    stolen = site.guard.chest.now(Kind.WITNESS)
    changes_keys(site)
    note = site.collector.log.checkpoint()
    lie = note + cosign(note, WITNESS_NAME, stolen, site.collector.now() // NANOSECONDS)
    with pytest.raises(ForgedError):
        verify_quorum(lie, site.policy)


def test_a_guard_that_lost_a_key_of_its_policy_signs_nothing(site: Site, ada: Workstation) -> None:
    """As after a restore of an older folder; it says so, and no other key takes its place."""
    ada.consents()
    kept = {p.name: p.read_bytes() for p in site.guard.folder.glob("*.key") if p.name != "tls.key"}
    changes_keys(site)
    for path in site.guard.folder.glob("*.former.key"):
        path.unlink()
    for name, data in kept.items():
        (site.guard.folder / name).write_bytes(data)
    assert ada.asks_key().status == 503
    with pytest.raises(RefusedError):
        site.collector.witnessed.now(site.collector.now())
