"""A device goes on while its guard changes its keys, and believes the former ones no more."""

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.consent.refresh import refresh
from agent.guard_keys import GuardKeys
from agent.service import Service
from agent.transport import Door
from base.clock import NANOSECONDS
from guard.keys_commands import following
from guard.rings import Kind
from tests.fakes.delivering import Delivering
from tests.fakes.organisation import WITNESS_NAME, b64, ed25519, raw
from tests.fakes.rotating import changes_keys
from tests.fakes.site import Site, collector_site, today
from tests.fakes.workstation import (
    HOLD_BACK,
    Workstation,
    capturing,
    eventually,
    key,
    play,
    texts,
)
from wire.category import Category
from wire.control import Pause, Silent
from wire.guard_follows import sign_following, three_of
from wire.guard_http import KeyAnswer, KeyRequest, sign_key
from wire.ids import BatchHash
from wire.tlog import ALGORITHM_COSIGNATURE, verifier_key
from wire.xwing import public_key_of

KEYS = Category.KEYS


@pytest.fixture
def station(tmp_path: Path) -> Workstation:
    return Workstation.enrolled(tmp_path)


def change(station: Workstation, *, vouched: bool = True) -> Ed25519PrivateKey:
    """Put a policy in force by whose keys the guard signs from now on; return the former one."""
    org, former = station.organisation, station.organisation.guard
    before = three_of(station.policy.guard)
    org.guard, org.witness, org.guard_lease = ed25519(), ed25519(), ed25519()
    witness = verifier_key(WITNESS_NAME, ALGORITHM_COSIGNATURE, raw(org.witness))
    coming = (b64(raw(org.guard)), witness, b64(raw(org.guard_lease)))
    word = sign_following(before, coming, former)
    made = following(station.policy.guard, word, coming)
    if not vouched:
        made = msgspec.structs.replace(made, follows=())
    station.policy = msgspec.structs.replace(
        station.policy, version=station.policy.version + 1, guard=made
    )
    signed = org.publish(station.folder / "policy", station.policy, at=datetime.now(UTC))
    now = station.clock.now()
    station.repository.publish(signed, datetime.fromtimestamp(now.wall // NANOSECONDS, UTC))
    station.collector.policy_file_of = station.repository.renewing(signed, station.clock)
    refresh(station.paths.state, station.repository.fetch, now)
    return former


async def types(station: Workstation, text: str) -> None:
    sensor = station.sensors["input"]
    await eventually(lambda: sensor.is_open)
    for letter in text:
        sensor.emit(key(station, letter))
    await asyncio.sleep(HOLD_BACK + 0.2)  # now they are in an open batch


async def pauses(station: Workstation, frames: int) -> None:
    assert isinstance(await station.tray.say(Pause()), Silent)
    await eventually(lambda: len(station.collector.frames) == frames)


async def on_the_next_policy(station: Workstation, service: Service) -> None:
    await eventually(lambda: service.policy.policy == station.policy)
    service.delivery.wake()
    await eventually(lambda: KEYS in service.pipeline.permits())
    digest = service.policy.digest
    await eventually(lambda: service.pipeline.permits()[KEYS].policy == digest)
    await eventually(lambda: station.sensors["context"].is_open)
    await station.focus()  # as the sensor says when it is opened anew
    await asyncio.sleep(0.15)


def test_what_was_open_at_the_change_is_sealed_and_recording_goes_on(station: Workstation) -> None:
    """Nobody clicks, and no letter is lost: neither one of before nor one of after."""

    async def story() -> None:
        async with capturing(station, KEYS) as service:
            await types(station, "ab")
            change(station)
            await on_the_next_policy(station, service)
            await types(station, "cd")
            await pauses(station, frames=2)
            assert not service.status().dropped
        assert texts(station.opened()) == "abcd"

    play(story())


def test_a_collector_that_keeps_serving_the_former_key_is_noticed(station: Workstation) -> None:
    """Nothing is sealed to what a thief of it says; the person reads why nothing is recorded."""

    async def story() -> None:
        async with capturing(station, KEYS) as service:
            await types(station, "a")
            stolen = change(station)
            honest, lie = station.collector.guard_key, public_key_of(b"\2" * 32)

            def lies(category: Category, month: str) -> KeyAnswer:
                request = KeyRequest(subject=b"", category=category, month=month)
                asked = msgspec.structs.replace(request, subject=station.collector.subject)
                return sign_key(asked, lie, stolen)

            station.collector.guard_key = lies  # type: ignore[method-assign]
            await eventually(lambda: service.policy.policy == station.policy)
            service.delivery.wake()
            status = await station.tray.until(lambda s: "not signed by" in s.collector.last_error)
            assert not status.recording
            await eventually(lambda: not station.sensors["input"].is_open)
            assert service.programme.keys.keys == {}
            station.collector.guard_key = honest  # type: ignore[method-assign]
            service.delivery.wake()
            await on_the_next_policy(station, service)
            await types(station, "b")
            await pauses(station, frames=2)
        assert texts(station.opened()) == "ab"

    play(story())


def test_keys_that_nobody_vouched_for_are_asked_about(station: Workstation) -> None:
    """To the person that is another guard: nothing is recorded before the next yes."""

    async def story() -> None:
        async with capturing(station, KEYS) as service:
            change(station, vouched=False)
            await eventually(lambda: service.policy.policy == station.policy)
            await eventually(lambda: not service.pipeline.permits())
            shown = {each.category: each for each in service.status().categories}
            assert "the key of the second lock" in shown[KEYS].asks_more

    play(story())


# --- a real collector and guard -----------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with collector_site(tmp_path / "site") as running:
        yield running


def test_a_device_that_waited_delivers_across_the_change(site: Site, tmp_path: Path) -> None:
    """What it sealed before is taken, and the key of this month is here again under the next."""
    station = Delivering.enrolled(site, tmp_path / "state")
    before, waiting = station.policy.policy, station.seal()
    changes_keys(site)
    found = GuardKeys(tmp_path / "state", station.device.subject)
    refresh(station.folder, site.policy_file, station.clock.now())
    assert station.policy.policy == site.policy != before
    station.deliver(lambda _delivery: not station.spool.ready() and _has_key(station))
    name = hashlib.sha256(waiting).digest()
    assert site.collector.store.get(BatchHash(name)) is not None
    found.use_guard(site.policy.guard.signing_key)
    assert (KEYS, today()[:7]) in found.keys
    assert not any(station.log_doubts)


def _has_key(station: Delivering) -> bool:
    keys = GuardKeys(station.folder, station.device.subject)
    keys.use_guard(station.site.policy.guard.signing_key)
    return bool(keys.keys)


def test_an_answer_that_was_under_way_at_the_change_is_judged_by_the_next_key(
    site: Site, tmp_path: Path
) -> None:
    """A collector that holds it back gains nothing: neither a thief of the former key."""
    station = Delivering.enrolled(site, tmp_path / "state")
    stolen, real = site.guard.chest.now(Kind.SIGNING), Door.guard_key
    lie = public_key_of(b"\2" * 32)
    served: list[str] = []

    def late(door: Door, category: Category, month: str) -> KeyAnswer:
        if served:
            return real(door, category, month)
        served.append(month)
        changes_keys(site)
        refresh(station.folder, site.policy_file, station.clock.now())
        subject = station.device.subject
        asked = KeyRequest(subject=subject, category=category, month=month)
        return sign_key(asked, lie, stolen)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Door, "guard_key", late)
        station.deliver(lambda delivery: "not signed by" in delivery.last_error)
    keys = GuardKeys(station.folder, station.device.subject)
    for policy_key in (b64(raw(stolen)), site.policy.guard.signing_key):
        keys.use_guard(policy_key)
        assert lie not in keys.keys.values()
