"""The whole audit, in order; the place to start.

Twice every leaf is looked at, span by span and on every processor: first for what the log is
(`history.look`), then, once it is known what was agreed to and in force, for its batches
(`batches.look_at`).  In between, and after, comes what is little.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import msgspec

from governance.audit.accesses import Accesses, Released, unlogged
from governance.audit.batches import Facts, Live, look_at
from governance.audit.consents import (
    Consent,
    Demanded,
    Ordered,
    check_confirmed,
    consent_in,
    demanded,
    ended,
    ordered,
)
from governance.audit.ends import Ends, unburied, undead
from governance.audit.findings import Finding, Rule, in_order
from governance.audit.history import Asked, History, look
from governance.audit.policies import (
    Policies,
    Published,
    check_rising,
    check_roots,
    published,
)
from governance.audit.reading import Bundle, FoundError
from governance.audit.spread import Progress, Spread
from governance.audit.times import Times
from governance.audit.witness import is_fresh, seen_before, size_of, times_of, witnessed
from wire import audit
from wire.errors import MalformedError
from wire.ids import GrantHash
from wire.leaf import Kind, drill_payload, policy_payload
from wire.rights import Demand


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """What the auditor brings: nothing of it comes from the collector."""

    root: bytes
    now: int  # seconds since the epoch
    seen: tuple[str, ...] = ()  # checkpoints that others were shown
    opened: frozenset[bytes] = frozenset()  # batches that readers can open


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, of which time, and what was found."""

    bundle: str
    cosigned_at: int  # seconds; 0: nobody knows of which time it is
    leaves: int
    batches: int
    erased: int
    releases: int
    policies: int
    consents: int
    demands: int
    orders: int
    drills: int
    drills_failed: int
    findings: list[Finding]


@dataclass(kw_only=True)
class _Audit:
    """What was found so far."""

    bundle: Bundle
    trusted: Trusted
    spread: Spread
    history: History
    findings: list[Finding] = field(default_factory=list)
    accesses: Accesses = field(default_factory=Accesses)
    policies: Policies = field(default_factory=lambda: Policies(()))
    consents: dict[GrantHash, Consent] = field(default_factory=dict)
    demands: list[Demanded] = field(default_factory=list)
    orders: list[Ordered] = field(default_factory=list)
    erased: list[int] = field(default_factory=list)
    times: Times | None = None
    drills: int = 0
    drills_failed: int = 0

    def report(self) -> Report:
        return Report(
            bundle=self.bundle.digest,
            cosigned_at=self.times.head if self.times else 0,
            leaves=self.history.asked.size,
            batches=self.history.batches,
            erased=len(self.erased),
            releases=len(self.history.releases),
            policies=len(self.policies.known),
            consents=len(self.consents),
            demands=len(self.demands),
            orders=len(self.orders),
            drills=self.drills,
            drills_failed=self.drills_failed,
            findings=in_order(self.findings),
        )


def examine(
    bundle: Bundle,
    trusted: Trusted,
    *,
    processes: int = 1,
    progress: Progress = lambda _what, _done, _of: None,
) -> Report:
    """Return what the bundle shows.

    1. the files are those of SHA256SUMS;
    2. the log: entries, roots, releases;
    3. policies that follow from the trusted root, and the halts under them;
    4. checkpoints: of these roots, by the log and the witnesses of the policy of their time;
    5. consents, what ended them, demands; and which drills were held;
    6. tombstones;
    7. batches;
    8. that every batch is here or has a tombstone, in time;
    9. releases.

    Without 3 or 4 nothing after it can be judged, and the audit ends there.
    """
    spread = Spread(bundle=bundle, processes=processes, progress=progress)
    found = _log(bundle, trusted, spread)  # 1, 2
    if _policies(found) and _checkpoints(found):  # 3, 4
        _agreements(found)  # 5
        _drills(found)  # 5
        ends = _ends(found)  # 6
        judged = _batches(found, ends)  # 7
        _settle(found, ends, judged)  # 8, 9
    return found.report()


# --- 1 and 2 ----------------------------------------------------------------------------


def _log(bundle: Bundle, trusted: Trusted, spread: Spread) -> _Audit:
    accesses = Accesses()
    findings = list(bundle.strangers())
    findings += bundle.lines(audit.ACCESSES, audit.AccessLine, accesses.approval)
    findings += bundle.lines(audit.RETURNS, audit.ReturnLine, accesses.order)
    size, cuts = 0, set[int]()
    try:
        size = _size(bundle)
        cuts = {size_of(note) for note in (*_notes(bundle), *trusted.seen)}
    except MalformedError as exc:
        findings.append(Finding(rule=Rule.NOT_WITNESSED, what=str(exc)))
    asked = Asked(
        size=size,
        cuts=tuple(sorted(cut for cut in cuts if cut <= size)),
        recipients=accesses.recipients(),
    )
    history = History(asked=asked)
    for span, seen in enumerate(spread.over("log", look, size, asked)):
        history.add(span, seen)
        findings += seen.findings
    return _Audit(
        bundle=bundle,
        trusted=trusted,
        spread=spread,
        history=history,
        findings=findings,
        accesses=accesses,
    )


def _size(bundle: Bundle) -> int:
    """Return of how many leaves the bundle is; nobody has to count to what it has no files for."""
    size = size_of(_head(bundle))
    tiles = sum(1 for name in bundle.sums if name.startswith(audit.ENTRIES))
    if tiles != -(-size // audit.TILE):
        raise MalformedError(f"the head is over {size} entries, and they are not all here")
    return size


def _head(bundle: Bundle) -> str:
    try:
        return bundle.read(audit.HEAD).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise MalformedError(f"{audit.HEAD} is no text") from exc


def _notes(bundle: Bundle) -> list[str]:
    """Return the checkpoints that can be read; `_checkpoints` says what cannot."""
    notes: list[str] = []
    for _ in bundle.lines(audit.CHECKPOINTS, audit.Note, lambda line: notes.append(line.note)):
        pass
    return notes


# --- 3 and 4 ----------------------------------------------------------------------------


def _policies(found: _Audit) -> bool:
    known: list[Published] = []
    roots: list[bytes] = []
    found.findings += found.bundle.lines(
        audit.ROOTS, audit.RootLine, lambda line: roots.append(line.root)
    )
    try:
        trusted = check_roots(roots, found.trusted.root)
    except FoundError as exc:
        found.findings.append(exc.finding)
        return False

    def judge(line: audit.PolicyLine) -> None:
        one = published(line, trusted)
        found.history.open(line.leaf, Kind.POLICY, policy_payload(one.digest), line.salt)
        check_rising(known[-1] if known else None, one)
        known.append(one)

    found.findings += found.bundle.lines(audit.POLICIES, audit.PolicyLine, judge)
    found.policies = Policies(tuple(known))
    if not known:
        what = "no policy is shown, so nothing can have been agreed to"
        found.findings.append(Finding(rule=Rule.POLICY_UNTRUSTED, what=what))
    return bool(known) and found.history.is_whole


def _checkpoints(found: _Audit) -> bool:
    sizes: list[tuple[int, int]] = []
    roots, policies = found.history.roots, found.policies

    def judge(line: audit.Note) -> None:
        sizes.append(witnessed(line.note, roots, policies))

    found.findings += found.bundle.lines(audit.CHECKPOINTS, audit.Note, judge)
    try:
        sizes.append(witnessed(_head(found.bundle), roots, policies, by_quorum=True))
        found.times = times_of(sizes)
    except FoundError as exc:
        found.findings.append(exc.finding)
        return False
    found.findings += is_fresh(found.times, found.trusted.now)
    for note in found.trusted.seen:
        try:
            seen_before(note, roots, policies)
        except FoundError as exc:
            found.findings.append(exc.finding)
    return True


# --- 5 and 6 ----------------------------------------------------------------------------


def _agreements(found: _Audit) -> None:
    bundle, history, policies = found.bundle, found.history, found.policies

    def agree(line: audit.ConsentLine) -> None:
        grant, consent = consent_in(line, history, policies)
        found.consents.setdefault(grant, consent)

    def end(line: audit.EventLine) -> None:
        grant, consent = ended(line, history, found.consents)
        found.consents[grant] = consent

    def demand(line: audit.DemandLine) -> None:
        found.demands.append(demanded(line, history, policies))
        if found.times is not None:
            check_confirmed(line, policies, found.times)

    found.findings += bundle.lines(audit.CONSENTS, audit.ConsentLine, agree)
    found.findings += bundle.lines(audit.EVENTS, audit.EventLine, end)

    def order(line: audit.OrderLine) -> None:
        found.orders.append(ordered(line, history, policies))

    found.findings += bundle.lines(audit.DEMANDS, audit.DemandLine, demand)
    found.findings += bundle.lines(audit.ORDERS, audit.OrderLine, order)
    for consent in found.consents.values():
        for each in found.demands:
            since = not each.request.has_span and each.takes_back(consent)
            if since and each.leaf < consent.leaf:
                what = f"a consent that the demand at leaf {each.leaf} had taken back"
                late = Finding(rule=Rule.TAKEN_BACK, leaf=consent.leaf, what=what)
                found.findings.append(late)


def _ends(found: _Audit) -> Ends:
    bundle, ends = found.bundle, Ends(history=found.history)
    found.findings += bundle.lines(audit.TOMBSTONES, audit.TombstoneLine, ends.tombstone)
    found.findings += bundle.lines(audit.EXPIRIES, audit.ExpiryLine, ends.expiry)
    at = {each.leaf for each in found.demands if each.request.demand is Demand.ERASE}
    at |= {each.leaf for each in found.orders}
    bury = partial(ends.erased, demands=frozenset(at))
    found.findings += bundle.lines(audit.ERASED, audit.ErasedLine, bury)
    return ends


def _drills(found: _Audit) -> None:
    """Count the drills, each by its leaf: that one was held, and whether it failed."""

    def judge(line: audit.DrillLine) -> None:
        payload = drill_payload(
            line.began_at, passed=line.passed, probes=line.probes, hole=line.hole
        )
        found.history.open(line.leaf, Kind.DRILL, payload, line.salt)
        found.drills += 1
        found.drills_failed += not line.passed

    found.findings += found.bundle.lines(audit.DRILLS, audit.DrillLine, judge)


def _halts(found: _Audit) -> tuple[tuple[int, int], ...]:
    """Return between which leaves the programme was halted: a halt ends with its policy."""
    halts: list[tuple[int, int]] = []

    def judge(line: audit.HaltLine) -> None:
        found.history.open(line.leaf, Kind.HALT, line.payload, line.salt)
        if line.payload.startswith(b"halt\n"):
            policy = found.policies.before(line.leaf)
            after = found.policies.next(policy) if policy else None
            halts.append((line.leaf, after.leaf if after else found.history.asked.size))

    found.findings += found.bundle.lines(audit.HALTS, audit.HaltLine, judge)
    return tuple(halts)


# --- 7, 8 and 9 -------------------------------------------------------------------------


def _batches(found: _Audit, ends: Ends) -> tuple[dict[bytes, Live], Facts]:
    times = found.times or Times((), ())
    released = {release.batch for release in found.history.releases}
    facts = Facts(
        consents=found.consents,
        policies=found.policies.known,
        demands=tuple(found.demands),
        orders=tuple(found.orders),
        halts=_halts(found),
        sizes=times.sizes,
        seconds=times.seconds,
        wanted=frozenset(released | ends.dead.keys()),
    )
    live: dict[bytes, Live] = {}
    names: list[int] = []
    for judged in found.spread.over("batches", look_at, found.history.asked.size, facts):
        found.findings += judged.findings
        found.erased += judged.erased
        names += (name for (name,) in struct.iter_unpack(">Q", judged.names))
        live |= judged.live
    found.findings += _twice(names)
    return live, facts


def _twice(names: Sequence[int]) -> Iterator[Finding]:
    """Yield the batches that stand in the log twice."""
    for before, name in pairwise(sorted(names)):
        if before == name:
            what = f"the batch that begins with {name:016x} stands in the log twice"
            yield Finding(rule=Rule.TWICE, what=what)


def _settle(found: _Audit, ends: Ends, judged: tuple[dict[bytes, Live], Facts]) -> None:
    live, facts = judged
    times = Times(facts.sizes, facts.seconds)
    found.findings += ends.late(times)
    found.findings += undead(ends.dead, live)
    found.findings += unburied(found.erased, list(ends.dead.values()))
    found.findings += found.history.unexplained()
    releases = found.history.releases
    by = Released(
        accesses=found.accesses,
        policies=found.policies,
        times=times,
        live=live,
        dead=ends.dead,
        halts=facts.halts,
    )
    found.findings += by.judge(releases)
    found.findings += unlogged(found.trusted.opened, releases)
