"""Whatever happened to a collector, the exposure report says just that."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st

from base.clock import NANOSECONDS
from base.https import OneDoor
from collector.exposure.report import Exposure, Span, exposure
from collector.halt import Cause
from tests.conftest import Size
from tests.fakes.drilled import drills
from tests.fakes.organisation import READER
from tests.fakes.site import Site, Workstation, collector_site, today
from wire.category import Category
from wire.collector_http import ReleaseOrder
from wire.frame import batch_hash
from wire.ids import BatchHash, WallInstant

PEOPLE = 3
KINDS = (Category.KEYS, Category.SCREEN)


@dataclass(kw_only=True)
class History:
    """What happens to a site, and what of it a report since `since` has to say."""

    site: Site
    people: list[Workstation]
    reader: OneDoor
    since: WallInstant
    owners: dict[BatchHash, tuple[int, Category]] = field(default_factory=dict)
    live: list[BatchHash] = field(default_factory=list)
    plain: set[BatchHash] = field(default_factory=set)
    erased: list[BatchHash] = field(default_factory=list)  # since then
    accesses: list[tuple[str, tuple[BatchHash, ...]]] = field(default_factory=list)
    holes: list[str] = field(default_factory=list)

    def begins(self) -> None:
        """Let the span begin now: what is over does not count any more."""
        self.since = self.site.collector.now()
        self.erased, self.accesses, self.holes = [], [], []

    def uploads(self, person: int, category: Category) -> None:
        one = self.people[person]
        signed = one.consent(category, given_at=self.site.collector.now())
        assert one.registers(signed).status == 201
        frame = one.seals(signed, category=category)
        assert one.puts(frame).status == 201
        batch = batch_hash(frame)
        self.owners[batch] = person, category
        self.live.append(batch)

    def deletes(self, which: int) -> None:
        """A device takes one back."""
        if self.live:
            batch = self.live[which % len(self.live)]
            person, _category = self.owners[batch]
            name = batch.hex()
            answer = self.people[person].door.request("DELETE", f"/v1/batches/{name}")
            assert answer.status == 200
            self._gone(batch)

    def erases(self, person: int) -> None:
        """A data subject wants all of theirs erased."""
        one = self.people[person]
        if any(self.owners[batch][0] == person for batch in self.owners):
            assert one.asks(one.demands()).status == 200
        for batch in [b for b in self.live if self.owners[b][0] == person]:
            self._gone(batch)

    def releases(self, first: int, last: int) -> None:
        """A reader has some released, under an approval of its own."""
        batches = tuple(self.live[min(first, last) : max(first, last)])
        if not batches:
            return
        request = self.site.org.request(
            request_id=f"request-{len(self.accesses)}-{first}-{last}",
            first_day=today(),
            last_day=today(),
            categories=KINDS,
            programme=self.site.policy.programme,
            expires_at=WallInstant(self.site.collector.now() + 3600 * NANOSECONDS),
        )
        order = ReleaseOrder(grant=self.site.org.grant(request), batches=batches)
        answer = self.reader.request("POST", "/v1/releases", msgspec.json.encode(order))
        assert answer.status == 200, answer.body
        self.accesses.append((request.request_id, batches))

    def spoils(self, which: int) -> None:
        """Somebody puts plaintext in the place of a sealed frame, and no drill comes by."""
        if self.live:
            batch = self.live[which % len(self.live)]
            path = self.site.premises.objects / batch.hex()[:2] / batch.hex()
            path.write_bytes(b"dear diary")
            self.plain.add(batch)

    def holes_found(self, _which: int) -> None:
        """A folder is open to others; a drill finds it; it is mended, drilled, and gone on."""
        folder = self.site.premises.objects / "cd"
        folder.chmod(0o755)
        outcome = drills(self.site)
        folder.chmod(0o700)
        assert not outcome.passed
        self.holes.append(outcome.holes[0])
        self.site.goes_on(Cause.DRILL_FAILED)
        if not self.plain & set(self.live):
            assert drills(self.site).passed

    def _gone(self, batch: BatchHash) -> None:
        self.live.remove(batch)
        self.erased.append(batch)


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, tuple[object, ...]]]:
    """Draw a history: at some moment in it, the span begins."""
    number = st.integers(0, 7)
    person = st.integers(0, PEOPLE - 1)
    one = st.one_of(
        *[st.tuples(st.just("uploads"), st.tuples(person, st.sampled_from(KINDS)))] * 3,
        st.tuples(st.just("deletes"), st.tuples(number)),
        st.tuples(st.just("erases"), st.tuples(person)),
        st.tuples(st.just("releases"), st.tuples(number, number)),
        st.tuples(st.just("spoils"), st.tuples(number)),
        st.tuples(st.just("holes_found"), st.tuples(number)),
    )
    before = draw(st.lists(one, max_size=6))
    after = draw(st.lists(one, min_size=2, max_size=12))
    return [*before, ("begins", ()), *after]


EVERYTHING: list[tuple[str, tuple[object, ...]]] = [
    *[("uploads", (person, kind)) for person in range(PEOPLE) for kind in KINDS],
    ("holes_found", (0,)),
    ("releases", (0, 3)),
    ("deletes", (0,)),
    ("erases", (1,)),
    ("begins", ()),
    ("uploads", (0, Category.SCREEN)),
    ("releases", (0, 2)),
    ("holes_found", (0,)),
    ("deletes", (1,)),
    ("erases", (2,)),
    ("uploads", (1, Category.KEYS)),
    ("releases", (0, 9)),
    ("spoils", (0,)),
]
"""Of everything something before the span begins, and after it."""


def check(history: History, found: Exposure) -> None:
    """Every number of the report is what was planted."""
    live, owners = history.live, history.owners

    def subjects(batches: list[BatchHash]) -> set[bytes]:
        return {history.people[owners[batch][0]].org.subject for batch in batches}

    assert found.subjects == subjects(live) | subjects(history.erased)
    assert found.erased == len(history.erased)
    assert found.erased_of == subjects(history.erased)
    assert set(found.categories) == {owners[batch][1] for batch in live}
    for category, told in found.categories.items():
        of_it = [batch for batch in live if owners[batch][1] is category]
        assert (told.batches, told.subjects) == (len(of_it), subjects(of_it))
        assert (told.first_day, told.last_day) == (today(), today())
    plain = history.plain & set(live)
    assert (found.plain, found.sealed) == (len(plain), len(live) - len(plain))
    assert found.missing == 0
    said = {each.request_id: each for each in found.accesses}
    assert set(said) == {name for name, _batches in history.accesses}
    for name, batches in history.accesses:
        still = [batch for batch in batches if batch in live]
        assert said[name].reader == READER
        assert said[name].approvers == ("Ada", "Grace")
        assert said[name].batches == len(batches)
        assert said[name].subjects == subjects(list(batches))
        assert said[name].nobodys == 0
        assert said[name].gone == len(batches) - len(still)
        assert history.since <= said[name].first_at <= said[name].last_at
    assert [hole.line for hole in found.holes] == history.holes
    for person, one in enumerate(history.people):
        mine = [batch for batch in live if owners[batch][0] == person]
        if mine:
            kept = found.people[one.org.subject]
            assert sum(kept.batches.values()) == len(mine)
            assert kept.plain == len(plain & set(mine))


@pytest.mark.slow
@pytest.mark.soak
def test_the_report_equals_the_planted_truth(size: Size, figure: Callable[[str], None]) -> None:
    """Random histories of uploads, deletions, erasures, releases, damage and drills that fail."""
    ran: list[int] = []

    @hypothesis.settings(
        max_examples=size(share=6, full=100),
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    @hypothesis.given(steps())
    @hypothesis.example(EVERYTHING)
    def holds(story: list[tuple[str, tuple[object, ...]]]) -> None:
        with (
            tempfile.TemporaryDirectory() as name,
            collector_site(Path(name) / "site") as site,
        ):
            history = History(
                site=site,
                people=[site.workstation() for _ in range(PEOPLE)],
                reader=site.reader(READER),
                since=WallInstant(0),
            )
            for what, details in story:
                getattr(history, what)(*details)
            span = Span(since=history.since, until=site.collector.now())
            check(history, exposure(site.collector.index, site.collector.store, span))
        ran.append(len(story))

    holds()
    figure(f"{len(ran)} histories of {sum(ran)} steps: each report equals what was planted")
