"""What the guard erases by its own hand reaches the collector, the log and the devices."""

import base64
import dataclasses
import hashlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec
import pytest
import sqlalchemy as sa

from agent.guard_orders import FILE_NAME, GuardOrders
from base.https import OneDoor
from base.pki import Role, client_uri, private_pem, signing_request
from collector.guard.client import GuardClient
from collector.guard.watch import Watch
from collector.index.tables import leaves
from collector.refusal import RefusedError, Why
from collector.rights.orders import follow, obey
from guard.keys import Keys
from tests.conftest import NewPlace
from tests.fakes.organisation import ed25519, raw
from tests.fakes.own import believed, told
from tests.fakes.site import TENANT, Site, Workstation, collector_site, refusal, today
from tests.fakes.workstation import Workstation as Desk
from tests.fakes.workstation import capturing, eventually, nothing_is_open, play, running
from wire.category import Category
from wire.collector_http import Logged
from wire.control import Reason
from wire.errors import ForgedError, MalformedError, NotCoveredError, WireError
from wire.guard_http import MOST_ORDERS, GuardState, Obeyed, OrdersRequest
from wire.guard_order import ORDER_LABEL, Order, SignedOrder, sign_order, verify_order
from wire.ids import BatchHash, SubjectId, WallInstant
from wire.me import About
from wire.me_answers import OwnDeletions, check_tombstone, head_of
from wire.rights import Requests

MONTH = today()[:7]
OTHER_MONTH = "2026-02" if MONTH != "2026-02" else "2026-03"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, new_place: NewPlace) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with collector_site(folder / "site", index_url=new_place(folder).url) as site:
        yield site


@pytest.fixture
def ada(site: Site) -> Workstation:
    return site.workstation()


def sent(workstation: Workstation, category: Category = Category.KEYS) -> bytes:
    frame = workstation.seals(workstation.consents(category), category=category)
    assert workstation.puts(frame).status == 201
    return frame


def is_stored(site: Site, frame: bytes) -> bool:
    return site.collector.store.get(BatchHash(hashlib.sha256(frame).digest())) is not None


def forgets(
    site: Site, subject: SubjectId, category: Category | None = None, month: str | None = None
) -> None:
    """Do what `assent-guard forget` does, beside the running guard."""
    keys = Keys(site.guard.folder / "keys.sqlite")
    try:
        keys.forget(subject, category, month, site.collector.now())
    finally:
        keys.close()


def untold(site: Site) -> int:
    keys = Keys(site.guard.folder / "keys.sqlite")
    try:
        return len(keys.untold(site.origin))
    finally:
        keys.close()


def order_of(site: Site, subject: bytes, **changes: object) -> Order:
    usual = Order(
        origin=site.origin, subject=subject, category=None, month="", at=site.collector.now()
    )
    return msgspec.structs.replace(usual, **changes)


def size(site: Site) -> int:
    with site.collector.index.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(leaves)).scalar_one())


# --- collector and guard ------------------------------------------------------------------


def test_what_the_guard_erases_is_gone_at_the_collector_and_refused_from_then_on(
    site: Site, ada: Workstation
) -> None:
    """Batch, body, key: gone; another upload, a question for the key: 410, also without guard."""
    frame = sent(ada)
    late = ada.seals(ada.consents())
    forgets(site, ada.org.subject)
    assert untold(site) == 1
    Watch(site.collector).obey()
    assert untold(site) == 0
    assert not is_stored(site, frame)
    assert refusal(ada.puts(frame)) == (410, "erased")
    assert refusal(ada.puts(late)) == (410, "erased")
    assert refusal(ada.asks_key()) == (410, "erased")


def test_an_order_reaches_as_far_as_it_says(site: Site, ada: Workstation) -> None:
    """One category, one month; what is of another, or of another person, stays."""
    keys, screen = sent(ada), sent(ada, Category.SCREEN)
    ben = site.workstation()
    other = sent(ben)
    forgets(site, ada.org.subject, Category.SCREEN, MONTH)
    forgets(site, ada.org.subject, Category.KEYS, OTHER_MONTH)
    assert follow(site.collector) == 2
    assert [is_stored(site, one) for one in (keys, screen, other)] == [True, False, True]
    assert refusal(ada.asks_key(Category.SCREEN)) == (410, "erased")
    assert ada.asks_key().status == 200
    assert ada.puts(ada.seals(ada.consents())).status == 201


def test_the_guard_says_an_order_until_the_log_is_shown_to_have_it(
    site: Site, ada: Workstation
) -> None:
    """A collector that only says so is told again: of another leaf, log or order it is no proof."""
    sent(ada)
    forgets(site, ada.org.subject)
    guard = site.collector.guard
    assert guard is not None
    [signed] = guard.orders(OrdersRequest())
    done = obey(site.collector, signed)
    assert done is not None
    proof, _is_new = done
    lies = (
        msgspec.structs.replace(
            proof, logged=msgspec.structs.replace(proof.logged, salt=bytes(16))
        ),
        msgspec.structs.replace(
            proof, logged=msgspec.structs.replace(proof.logged, index=proof.logged.index + 1)
        ),
        msgspec.structs.replace(proof, order=bytes(32)),
        Obeyed(
            order=proof.order, logged=Logged(salt=bytes(16), index=0, proof=(), checkpoint="no")
        ),
    )
    for lie in lies:
        assert guard.orders(OrdersRequest(obeyed=(lie,))) == (signed,)
    assert guard.orders(OrdersRequest(obeyed=(proof,))) == ()
    assert guard.orders(OrdersRequest()) == ()


def test_said_again_nothing_more_is_done(site: Site, ada: Workstation) -> None:
    """After a crash between our leaf and the guard's note, or from an old copy of its keys."""
    sent(ada)
    forgets(site, ada.org.subject)
    guard = site.collector.guard
    assert guard is not None
    [signed] = guard.orders(OrdersRequest())
    first = obey(site.collector, signed)
    before = size(site)
    assert first is not None
    assert first[1]
    again = obey(site.collector, signed)  # the proof of the first did not arrive
    assert again is not None
    assert not again[1]
    assert again[0].logged.index == first[0].logged.index
    assert follow(site.collector) == 0
    assert size(site) == before
    assert untold(site) == 0


def test_what_was_erased_before_there_were_orders_is_told_too(site: Site, ada: Workstation) -> None:
    """The file of an earlier version has no table of what was told: then all is told."""
    frame = sent(ada)
    forgets(site, ada.org.subject)
    with sqlite3.connect(site.guard.folder / "keys.sqlite") as old:
        old.execute("DROP TABLE told")
    Keys(site.guard.folder / "keys.sqlite").close()  # a start of this version
    assert follow(site.collector) == 1
    assert not is_stored(site, frame)


def test_many_orders_are_followed_in_one_look(site: Site) -> None:
    """More than fit into one answer; each has its leaf."""
    subjects = [SubjectId(bytes([n]) * 16) for n in range(1, MOST_ORDERS + 5)]
    for subject in subjects:
        forgets(site, subject)
    assert follow(site.collector) == len(subjects)
    assert untold(site) == 0


@pytest.mark.parametrize("lie", ["another guard", "another collector", "changed", "spaced"])
def test_an_order_that_is_not_the_guards_erases_nothing(
    site: Site, ada: Workstation, lie: str
) -> None:
    """Who sits between guard and collector, or is another guard, can close nothing."""
    frame = sent(ada)
    order = order_of(site, ada.org.subject)
    signed = sign_order(order, site.org.guard)
    match lie:
        case "another guard":
            signed = sign_order(order, ed25519())
        case "another collector":
            other = msgspec.structs.replace(order, origin="https://other.example:1")
            signed = sign_order(other, site.org.guard)
        case "changed":
            other = order_of(site, bytes(16))
            signed = msgspec.structs.replace(
                sign_order(other, site.org.guard), order=msgspec.json.encode(order)
            )
        case _:  # the same order in other words would have another digest
            spaced = b" " + msgspec.json.encode(order)
            signature = site.org.guard.sign(ORDER_LABEL + spaced)
            signed = SignedOrder(order=spaced, signature=signature)
    before = size(site)
    assert obey(site.collector, signed) is None
    assert size(site) == before
    assert is_stored(site, frame)


def test_only_the_collector_may_ask_what_was_erased(site: Site) -> None:
    """It names pseudonyms: no stranger, no reader."""
    for role, status in ((None, 401), (Role.READER, 403), (Role.OPERATOR, 403)):
        door = guard_door(site, role)
        assert door.request("POST", "/v1/erasures", b"{}").status == status
        door.close()
    door = guard_door(site, Role.COLLECTOR)
    assert door.request("POST", "/v1/erasures", b'{"obeyed":[{}]}').status == 400
    assert door.request("POST", "/v1/erasures", b'{"obeyed":' + b"[" * 9_000).status == 400
    assert door.request("POST", "/v1/erasures", b" " * (65 << 10)).status == 413
    door.close()


def test_a_guard_that_does_not_finish_its_orders_delays_no_halt(site: Site) -> None:
    """It is asked in a thread apart: a halt is heard while that question hangs."""
    asked, over = threading.Event(), threading.Event()

    class Hanging:
        def state(self) -> GuardState:
            return GuardState(halted=True, why="now", by="the guard")

        def orders(self, _asked: OrdersRequest) -> tuple[SignedOrder, ...]:
            asked.set()
            over.wait(30)
            raise RefusedError(Why.GUARD_UNREACHABLE, "too late")

    collector = dataclasses.replace(site.collector, guard=cast("GuardClient", Hanging()))
    watch = Watch(collector)
    thread = threading.Thread(target=watch.obey)
    thread.start()
    try:
        assert asked.wait(10)
        watch.look()
        state = site.door().request("GET", "/v1/state")
        assert state.status == 401 or b'"halted":true' in state.body
        assert thread.is_alive()
    finally:
        over.set()
        thread.join(10)
        site.publishes()  # lifts the halt


def test_an_order_is_followed_during_a_halt(site: Site, ada: Workstation) -> None:
    """Nothing may keep anybody's data alive."""
    frame = sent(ada)
    site.halts("stand still")
    try:
        forgets(site, ada.org.subject)
        assert follow(site.collector) == 1
        assert not is_stored(site, frame)
    finally:
        site.publishes()


def guard_door(site: Site, role: Role | None) -> OneDoor:
    """Return a door to the guard for somebody in this *role*; None has no certificate."""
    folder = site.premises.paths.runtime
    files: tuple[Path | None, Path | None] = (None, None)
    if role is not None:
        key = ed25519()
        files = (folder / f"{role}.pem", folder / f"{role}.key")
        pem = site.guard.authority.certify(signing_request(key), client_uri(TENANT, role, "x"))
        (folder / f"{role}.pem").write_bytes(pem)
        (folder / f"{role}.key").write_bytes(private_pem(key))
    ca = site.guard.authority.pem.decode()
    return OneDoor(site.guard.origin, (site.guard.pin,), ca, *files)


# --- devices ------------------------------------------------------------------------------


def test_the_device_of_the_person_is_told_and_nobody_elses(site: Site, ada: Workstation) -> None:
    """With the guard's signature, so that it need not believe the collector."""
    ben = site.workstation()
    for each in (ada, ben):
        sent(each)
    forgets(site, ada.org.subject, Category.KEYS)
    follow(site.collector)
    said = msgspec.json.decode(ada.door.request("GET", "/v1/rights").body, type=Requests)
    [signed] = said.orders
    order = verify_order(signed, site.origin, site.policy.guard.signing_key)
    assert (order.subject, order.category, order.month) == (ada.org.subject, Category.KEYS, "")
    theirs = msgspec.json.decode(ben.door.request("GET", "/v1/rights").body, type=Requests)
    assert theirs.orders == ()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk.enrolled(tmp_path)


def ordered(desk: Desk, **changes: object) -> SignedOrder:
    usual = Order(
        origin=desk.policy.collector.origin,
        subject=desk.organisation.subject,
        category=None,
        month="",
        at=WallInstant(desk.clock.now().wall),
    )
    return sign_order(msgspec.structs.replace(usual, **changes), desk.organisation.guard)


def test_a_device_records_no_more_of_what_the_guard_has_erased(desk: Desk) -> None:
    """Sources close, batches that nobody could open go, the person is told; a restart knows it."""

    async def story() -> None:
        async with capturing(desk, Category.KEYS) as service:
            desk.collector.orders = (ordered(desk),)
            service.delivery.wake()
            status = await desk.tray.until(lambda s: bool(s.erased))
            assert "the guard erased its keys" in status.erased[0]
            assert "everything" in status.erased[0]
            await eventually(lambda: nothing_is_open(desk))
            status = await desk.tray.until(lambda s: s.reason is Reason.STORAGE_BLOCKED)
            assert "The guard has erased its keys" in status.detail
            await eventually(lambda: service.spool.number_held() == 0)
        desk.collector.orders = ()  # it says so no more: what was heard holds
        async with running(desk) as service:
            status = await desk.tray.until(lambda s: bool(s.erased))
            assert service.programme.keys.missing(list(Category), desk.clock.now()) == []
            assert nothing_is_open(desk)

    play(story())


@pytest.mark.parametrize("lie", ["another person", "another guard", "another collector"])
def test_a_device_believes_no_order_but_its_own_guards_about_its_own_person(
    desk: Desk, lie: str
) -> None:
    """The collector passes it on, and cannot make one up."""
    said = {
        "another person": ordered(desk, subject=bytes(16)),
        "another guard": msgspec.structs.replace(ordered(desk), signature=bytes(64)),
        "another collector": ordered(desk, origin="https://other.example:1"),
    }[lie]

    async def story() -> None:
        async with capturing(desk, Category.KEYS) as service:
            keys = service.programme.keys
            assert not keys.believed((said,), desk.policy.collector.origin)
            assert keys.orders.all == ()
            assert keys.has(Category.KEYS, desk.clock.now())

    play(story())


def test_an_order_of_no_time_that_was_kept_before_ends_no_agent(tmp_path: Path) -> None:
    """Such a one was believed once; it still restricts, and is said."""
    order = Order(origin="x", subject=bytes(16), category=None, month="", at=WallInstant(0))
    text = msgspec.json.encode(order).replace(b'"at":0', b'"at":%d' % 10**30)
    (tmp_path / FILE_NAME).write_bytes(b'[{"version":1,"order":' + text + b"}]")
    orders = GuardOrders(tmp_path, SubjectId(bytes(16)))
    assert orders.covers(Category.KEYS, "2027-03")
    assert "the guard erased its keys on 2262-04-11" in orders.words()[0]


# --- the form -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"subject": b"short"}, MalformedError),
        ({"month": "2027-13"}, MalformedError),
        ({"month": "2027"}, MalformedError),
        ({"at": 10**30}, MalformedError),  # no calendar has it, and no database
        ({"at": -(10**30)}, MalformedError),
        ({"origin": "https://other.example:1"}, NotCoveredError),
    ],
)
def test_an_order_that_is_none_is_refused(
    changes: dict[str, object], error: type[WireError]
) -> None:
    """Each by its own name."""
    guard, origin = ed25519(), "https://collector.example:8443"
    order = Order(
        origin=origin, subject=bytes(16), category=Category.KEYS, month="2027-03", at=WallInstant(1)
    )
    key = base64.b64encode(raw(guard)).decode()
    assert verify_order(sign_order(order, guard), origin, key) == order
    with pytest.raises(error):
        verify_order(sign_order(msgspec.structs.replace(order, **changes), guard), origin, key)
    with pytest.raises(ForgedError):
        verify_order(sign_order(order, ed25519()), origin, key)


def test_the_person_sees_what_the_guard_erased_with_its_proof(site: Site, ada: Workstation) -> None:
    """Among what is gone, by the leaf of the guard's own order."""
    frame = sent(ada)
    forgets(site, ada.org.subject)
    follow(site.collector)
    page = told(ada, About.DELETIONS, OwnDeletions)
    (gone,) = page.tombstones
    assert gone.batch_hash == hashlib.sha256(frame).digest()
    check_tombstone(gone, head_of(page.checkpoint, believed(ada)))
