"""What one device may ask and send, and what it is told when that is too much."""

import hashlib
import logging
import os
from collections.abc import Iterator
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.clock import NANOSECONDS
from collector.config import Limits
from collector.refusal import RefusedError, Why
from collector.serving.allowance import (
    DAY_SECONDS,
    FORGET_AFTER,
    LONGEST_WAIT_SECONDS,
    Allowances,
    Asks,
    address_of,
)
from tests.fakes.delivering import Delivering
from tests.fakes.organisation import ed25519
from tests.fakes.site import UNLIMITED, Site, collector_site, lists, refusal
from wire.collector_http import FrameList
from wire.ids import DeviceId

_OF_READERS = "reader_requests_per_minute = "
_OF_STRANGERS = "stranger_requests_per_minute = "
ADA, BOB = DeviceId(b"a" * 32), DeviceId(b"b" * 32)


class Tried:
    """Allowances of a clock that the test moves."""

    def __init__(self, **limits: int) -> None:
        self.seconds = 1000.0
        self.allowances = Allowances(
            limits=Limits(**limits), now=lambda: int(self.seconds * NANOSECONDS)
        )

    def asks(self, asks: Asks = Asks.UPLOADS, device: DeviceId = ADA) -> int:
        """Return how many seconds to wait; 0 if it was let in."""
        try:
            self.allowances.spend(device, asks)
        except RefusedError as exc:
            refused = exc
        else:
            return 0
        assert refused.why in (Why.TOO_MANY, Why.OVER_QUOTA)
        assert refused.retry_after_seconds is not None
        return refused.retry_after_seconds


def test_a_minute_s_worth_may_come_at_once_and_then_evenly() -> None:
    """Sixty a minute: sixty now, then one a second."""
    tried = Tried(device_uploads_per_minute=60)
    assert [tried.asks() for _ in range(61)] == [0] * 60 + [1]
    tried.seconds += 1
    assert [tried.asks(), tried.asks()] == [0, 1]


def test_who_waits_as_long_as_told_is_let_in() -> None:
    """Never told too little: an agent that honours it is refused once."""
    for most in (1, 7, 59, 240):
        tried = Tried(device_uploads_per_minute=most)
        for _ in range(3 * most):
            if wait := tried.asks():
                tried.seconds += wait
                assert tried.asks() == 0


def test_one_device_takes_nothing_from_another() -> None:
    """What Ada's sends is not Bob's fault."""
    tried = Tried(device_uploads_per_minute=1)
    assert (tried.asks(), tried.asks(), tried.asks(device=BOB)) == (0, 60, 0)


def test_nothing_else_holds_up_a_no() -> None:
    """Deletions and withdrawals have a bucket of their own."""
    tried = Tried(device_uploads_per_minute=1, device_requests_per_minute=1, device_bytes_per_day=1)
    tried.allowances.count(ADA, 1000)
    assert tried.asks() > 0
    assert (tried.asks(Asks.QUESTIONS), tried.asks(Asks.QUESTIONS)) == (0, 60)
    assert tried.asks(Asks.NOES) == 0


def test_bytes_are_counted_when_they_are_here_and_the_next_batch_waits_for_them() -> None:
    """A quota of a day fills evenly over the day; no batch is refused for its own size."""
    tried = Tried(device_bytes_per_day=DAY_SECONDS)  # a byte a second
    tried.allowances.count(ADA, DAY_SECONDS + 100)
    assert tried.asks() == 101
    tried.seconds += 101
    assert tried.asks() == 0
    tried.allowances.count(ADA, 10 * DAY_SECONDS)
    assert tried.asks() == LONGEST_WAIT_SECONDS


def test_no_limit_is_none() -> None:
    """0 says so."""
    tried = Tried(
        device_uploads_per_minute=0,
        device_requests_per_minute=0,
        device_bytes_per_day=0,
        reader_requests_per_minute=0,
        stranger_requests_per_minute=0,
    )
    tried.allowances.count(ADA, 1 << 60)
    assert {tried.asks(asks) for _ in range(2000) for asks in Asks} == {0}


def test_what_is_full_again_is_forgotten() -> None:
    """A hundred thousand devices leave no more behind than those that just asked."""
    tried = Tried()
    for number in range(10 * FORGET_AFTER):
        tried.asks(device=DeviceId(number.to_bytes(32)))
        tried.seconds += 1
    assert len(tried.allowances._buckets) <= FORGET_AFTER + 60  # noqa: SLF001 - no other sign


@given(st.integers(1, 500), st.lists(st.floats(0, 100), min_size=1, max_size=200))
def test_never_more_than_twice_the_rate_in_any_minute(most: int, pauses: list[float]) -> None:
    """A full bucket and what flows in meanwhile: whatever the rhythm of who asks."""
    tried, taken = Tried(device_requests_per_minute=most), []
    for pause in pauses:
        tried.seconds += pause
        taken += [tried.seconds for _ in range(5) if tried.asks(Asks.QUESTIONS) == 0]
    for at in taken:
        assert sum(at <= other < at + 60 for other in taken) <= 2 * most


# --- over the wire ----------------------------------------------------------------------


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Site]:
    """Return a collector that takes two uploads and twelve questions a minute of one device."""
    limits = "device_uploads_per_minute = 2\ndevice_requests_per_minute = 12"
    with collector_site(tmp_path / "site", limits) as site:
        yield site


def test_an_upload_too_many_is_refused_by_its_head_and_taken_after_the_wait(narrow: Site) -> None:
    """429, a name, the seconds; then it is stored, and nothing was lost."""
    ada = narrow.workstation()
    signed = ada.consents()
    frames = [ada.seals(signed) for _ in range(3)]
    assert [ada.puts(frame).status for frame in frames] == [201, 201, 429]
    answer = ada.puts(frames[2])
    assert refusal(answer) == (429, "too-many")
    assert answer.retry_after_seconds == 30
    assert ada.deletes(frames[0]).status == 200
    narrow.clock.moved += timedelta(seconds=answer.retry_after_seconds)
    assert ada.puts(frames[2]).status == 201


def test_an_upload_that_was_refused_counts_too(narrow: Site) -> None:
    """Nonsense without end is no way round."""
    ada = narrow.workstation()
    body = os.urandom(1000)
    name = hashlib.sha256(body).hexdigest()
    assert [ada.puts(body, name).status for _ in range(3)] == [422, 422, 429]


def test_questions_too_many_are_refused_and_a_stranger_s_are_not_counted(narrow: Site) -> None:
    """Of another device, or without a certificate, nothing is taken."""
    ada, bob = narrow.workstation(), narrow.workstation()
    asked = [ada.door.request("GET", "/v1/log/checkpoint") for _ in range(14)]
    assert [answer.status for answer in asked] == [200] * 12 + [429] * 2
    assert bob.door.request("GET", "/v1/log/checkpoint").status == 200
    assert {narrow.door().request("GET", "/v1/state").status for _ in range(14)} == {200}


def test_a_quota_of_bytes_is_said_by_name(tmp_path: Path) -> None:
    """The first batch passes whatever its size, the next waits."""
    with collector_site(tmp_path / "site", "device_bytes_per_day = 100") as site:
        ada = site.workstation()
        signed = ada.consents()
        assert ada.puts(ada.seals(signed)).status == 201
        answer = ada.puts(ada.seals(signed))
        assert refusal(answer) == (429, "over-quota")
        assert answer.retry_after_seconds == LONGEST_WAIT_SECONDS


def test_an_agent_that_is_told_to_wait_waits_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The real delivery against the real limit: one batch too many, which comes 6 s later."""
    caplog.set_level(logging.INFO, "collector.serving.reached")
    with collector_site(tmp_path / "site", "device_uploads_per_minute = 10") as site:
        laptop = Delivering.enrolled(site, tmp_path / "state")
        frames = [laptop.seal() for _ in range(11)]
        laptop.deliver(lambda _delivery: not list(laptop.spool.ready()))
        reader = site.reader("training-team")
        listed = msgspec.json.decode(lists(reader, site.grant()).body, type=FrameList)
    stored = {frame.batch_hash for frame in listed.frames}
    assert stored == {hashlib.sha256(frame).digest() for frame in frames}
    told = [record.args for record in caplog.records if record.name == "collector.serving.reached"]
    refused = [args for args in told if args == (HTTPStatus.TOO_MANY_REQUESTS, Why.TOO_MANY.label)]
    assert 1 <= len(refused) <= 2


# --- readers, and who shows no certificate --------------------------------------------------


def test_a_reader_that_asks_too_much_is_told_when_to_come_back(tmp_path: Path) -> None:
    """By its name, so another reader and the devices go on; also where every request is refused."""
    with collector_site(
        tmp_path / "site", UNLIMITED.replace(_OF_READERS + "0", _OF_READERS + "3")
    ) as site:
        ada, one, other = site.workstation(), site.reader("one"), site.reader("other")
        unapproved = msgspec.structs.replace(site.grant(reader="one"), approvals=())
        asked = [lists(one, unapproved) for _ in range(5)]
        assert [refusal(answer)[0] for answer in asked] == [403, 403, 403, 429, 429]
        assert refusal(asked[-1]) == (429, "too-many")
        assert asked[-1].retry_after_seconds
        assert lists(other, site.grant(reader="other")).status == 200
        assert ada.hears() == ()
        site.clock.moved = timedelta(seconds=20)
        assert lists(one, site.grant(reader="one")).status == 200


def test_an_address_that_guesses_tokens_is_told_when_to_come_back(tmp_path: Path) -> None:
    """Of whom nobody knows who it is; devices from the same address go on, and so do demands."""
    with collector_site(
        tmp_path / "site", UNLIMITED.replace(_OF_STRANGERS + "0", _OF_STRANGERS + "4")
    ) as site:
        ada = site.workstation()
        guessed = [site.enrols("guess", ed25519()) for _ in range(5)]
        assert [refusal(answer)[0] for answer in guessed] == [403, 403, 403, 429, 429]
        assert guessed[-1].retry_after_seconds
        assert refusal(site.enrols(site.token(), ed25519())) == (429, "too-many")
        assert refusal(ada.asks(ada.demands())) == (404, "not-found")
        assert site.door().request("GET", "/v1/state").status == 200
        assert ada.hears() == ()
        site.clock.moved = timedelta(seconds=15)
        assert site.enrols(site.token(), ed25519()).status == 201


def test_demands_without_end_are_held_up_too(tmp_path: Path) -> None:
    """Each costs a signature; a false one counts as a true one."""
    with collector_site(
        tmp_path / "site", UNLIMITED.replace(_OF_STRANGERS + "0", _OF_STRANGERS + "2")
    ) as site:
        ada = site.workstation()
        forged = msgspec.structs.replace(ada.demands(), signature=bytes(64))
        assert [ada.asks(forged).status for _ in range(3)][-1] == 429


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("", "", True),
        ("unix", "unix", True),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, *, same: bool) -> None:
    """A whole network of IPv6 is one customer's; an address of IPv4 has two spellings."""
    assert (address_of(one) == address_of(other)) is same


def test_addresses_without_end_do_not_fill_the_memory() -> None:
    """Buckets that are full again go."""
    tried = Tried(stranger_requests_per_minute=60)
    for number in range(5 * FORGET_AFTER):
        tried.seconds += 1
        tried.allowances.spend(number.to_bytes(4, "big"), Asks.OF_STRANGERS)
    assert len(tried.allowances._buckets) <= FORGET_AFTER + 60  # noqa: SLF001 - what is kept
