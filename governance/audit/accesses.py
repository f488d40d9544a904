"""The accesses: each release was approved, covers its batch, and came before the batch's end.

What a data subject had given back to themself needs no approval but their own signed order.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from base.clock import NANOSECONDS
from governance.audit.batches import Live
from governance.audit.findings import Finding, Rule
from governance.audit.history import Release
from governance.audit.policies import Policies, Published
from governance.audit.times import Times
from wire import audit
from wire.age import decode_recipient
from wire.days import SLACK, day_of, end_of, seconds_of
from wire.errors import WireError
from wire.frame import Core
from wire.grant import (
    LONGEST_GRANT_DAYS,
    AccessGrant,
    AccessRequest,
    Approval,
    access_digest,
    decode_request,
    longest_grant,
    verify_access,
)
from wire.ids import WallInstant, key_id
from wire.me import ReturnOrder, order_in


@dataclass(kw_only=True)
class Accesses:
    """Requests for access with their approvals, as they are read."""

    _approvals: defaultdict[bytes, list[Approval]] = field(
        default_factory=lambda: defaultdict(list)
    )
    _requests: dict[bytes, tuple[bytes, AccessRequest]] = field(default_factory=dict)
    orders: dict[bytes, ReturnOrder] = field(default_factory=dict)

    def order(self, line: audit.ReturnLine) -> None:
        """Take up a data subject's own order.

        Raises:
            WireError: It is none, or not theirs.

        """
        self.orders[line.signed.digest] = order_in(line.signed)

    def approval(self, line: audit.AccessLine) -> None:
        """Take up one approval.

        Raises:
            MalformedError: What is approved is no access request.

        """
        grant = AccessGrant(request=line.request, approvals=())
        digest = access_digest(grant)
        request = decode_request(line.request)
        decode_recipient(request.recipient)
        self._requests[digest] = (line.request, request)
        self._approvals[digest].append(Approval(approver=line.approver, signature=line.signature))

    def recipients(self) -> dict[bytes, str]:
        """Return the key to which each request, and each order, wants to read."""
        found = {digest: request.recipient for digest, (_, request) in self._requests.items()}
        return found | {digest: order.recipient for digest, order in self.orders.items()}

    def request(self, access: bytes) -> AccessRequest:
        """Return a request that was read."""
        return self._requests[access][1]

    def why_not(self, access: bytes, policy: Published, others: frozenset[str]) -> str:
        """Return why *access* is not approved under *policy*; empty when it is.

        Whether it had expired is judged for each release.  Approvers whom only *others* of the
        policies name do not count, and do no harm.
        """
        data, request = self._requests[access]
        passing = others - {approver.name for approver in policy.policy.approvers}
        counted = tuple(a for a in self._approvals[access] if a.approver not in passing)
        grant = AccessGrant(request=data, approvals=counted)
        try:
            verify_access(grant, policy.policy, WallInstant(request.expires_at - 1))
        except WireError as exc:
            return str(exc)
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What releases are judged by."""

    accesses: Accesses
    policies: Policies
    times: Times
    live: Mapping[bytes, Live]
    dead: Mapping[bytes, int]
    halts: tuple[tuple[int, int], ...]

    def judge(self, releases: Iterable[Release]) -> Iterator[Finding]:
        """Yield what is wrong with each of *releases*."""
        approved: dict[tuple[bytes, bytes], str] = {}
        named = frozenset(a.name for p in self.policies.known for a in p.policy.approvers)
        for release in releases:
            policy = self.policies.before(release.leaf)
            if policy is None:
                yield _finding(Rule.NOT_APPROVED, release, "when no policy was in force")
                continue
            if (order := self.accesses.orders.get(release.access)) is not None:
                yield from self._returned(release, order, policy)
                continue
            key = release.access, policy.digest
            if key not in approved:
                approved[key] = self.accesses.why_not(release.access, policy, named)
            if approved[key]:
                yield _finding(Rule.NOT_APPROVED, release, f"unapproved: {approved[key]}")
            yield from self._in_time(release)
            yield from self._covered(release, policy)

    def _in_time(self, release: Release) -> Iterator[Finding]:
        request, after = self.accesses.request(release.access), self.times.after(release.leaf)
        if after > seconds_of(request.expires_at) + SLACK:
            ended = day_of(seconds_of(request.expires_at))
            yield _finding(Rule.NOT_APPROVED, release, f"its approval had expired on {ended}")
        latest = seconds_of(longest_grant(WallInstant(self.times.by(release.leaf) * NANOSECONDS)))
        if seconds_of(request.expires_at) > latest + SLACK:
            long = f"under a grant of more than {LONGEST_GRANT_DAYS} days"
            yield _finding(Rule.NOT_APPROVED, release, long)
        if any(since < release.leaf < until for since, until in self.halts):
            yield _finding(Rule.DURING_HALT, release, "while the programme was halted")

    def _covered(self, release: Release, policy: Published) -> Iterator[Finding]:
        live = self.live.get(release.batch)
        yield from self._alive(release, live)
        if live is None:
            return
        request = self.accesses.request(release.access)
        for what in _beyond(live.core, request, policy):
            yield _finding(Rule.NOT_COVERED, release, f"the approval does not cover its {what}")

    def _returned(
        self, release: Release, order: ReturnOrder, policy: Published
    ) -> Iterator[Finding]:
        """Judge what went back to a data subject: a halt is no matter, whose it was is."""
        live = self.live.get(release.batch)
        yield from self._alive(release, live)
        if live is None:
            return
        for what in _not_own(release, live.core, order, policy):
            yield _finding(Rule.NOT_COVERED, release, f"on an own order, and {what}")

    def _alive(self, release: Release, live: Live | None) -> Iterator[Finding]:
        dead = self.dead.get(release.batch)
        if dead is not None and dead < release.leaf:
            yield _finding(Rule.AFTER_END, release, f"after its tombstone at leaf {dead}")
        if live is None:
            if dead is None:
                yield _finding(Rule.NOT_COVERED, release, "which is not in the log")
            return
        if live.leaf > release.leaf or live.core_hash != release.core:
            yield _finding(Rule.NOT_COVERED, release, "before it came, or with another core")
        if self.times.after(release.leaf) > end_of(live.core.expires) + SLACK:
            yield _finding(Rule.AFTER_END, release, f"after its last day, {live.core.expires}")


def _beyond(core: Core, request: AccessRequest, policy: Published) -> Iterator[str]:
    reader = key_id(decode_recipient(request.recipient))
    covered = {
        "tenant": core.tenant == policy.policy.collector.tenant,
        "programme": core.programme == request.programme,
        "purpose": core.purpose == request.purpose,
        "category": core.category in request.categories,
        "day": request.first_day <= core.day <= request.last_day,
        "recipients": reader in core.recipients,
    }
    yield from (what for what, fits in covered.items() if not fits)


def _not_own(release: Release, core: Core, order: ReturnOrder, policy: Published) -> Iterator[str]:
    own = {
        "the order does not name the batch": release.batch in order.batches,
        "the batch is another data subject's": core.subject == order.subject,
        "the key is not the data subject's": core.recipients[-1]
        == key_id(decode_recipient(order.recipient)),
        "the key is a reader's": order.recipient not in {r.key for r in policy.policy.recipients},
        "the order is for another collector": order.origin == policy.policy.collector.origin,
    }
    yield from (what for what, holds in own.items() if not holds)


def unlogged(opened: Iterable[bytes], releases: Iterable[Release]) -> Iterator[Finding]:
    """Yield the batches that somebody can open, and that no leaf says were released."""
    logged = {release.batch for release in releases}
    for batch in sorted(set(opened) - logged):
        what = f"batch {batch.hex()} was opened, and its release is not in the log"
        yield Finding(rule=Rule.UNLOGGED, what=what)


def _finding(rule: Rule, release: Release, what: str) -> Finding:
    said = f"batch {release.batch.hex()} was released: {what}"
    return Finding(rule=rule, leaf=release.leaf, what=said)
