"""The batches: each in the log, signed by its device, under a consent and a policy in force.

`look_at` is the work on one span of leaves.  What a core says does not differ from batch to
batch but in its nonce, which stands last: so everything that follows from the rest is found
out once (`Heads`), and each batch costs two hashes and one signature.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

import msgspec

from governance.audit.consents import Consent, Demanded, Ordered
from governance.audit.findings import Finding, Rule
from governance.audit.history import entries_of
from governance.audit.policies import Policies, Published
from governance.audit.reading import Bundle, FoundError
from governance.audit.times import GRACE, Times
from wire import audit
from wire.days import InForce, end_of, not_in_force, not_of_consent
from wire.ed25519 import public_key
from wire.errors import MalformedError
from wire.frame import ALGORITHM, LABEL, NONCE_BYTES, Core, core_hash, decode_core
from wire.ids import BatchHash, CoreHash, GrantHash
from wire.leaf import Kind, batch_payload, entry
from wire.narrowing import widened
from wire.rights import Demand
from wire.signatures import Signer

_BATCH: Final = f"{Kind.BATCH}\n".encode("ascii")  # how entries begin, as `history` found them
_NAME_BYTES: Final = 8  # of a batch's hash, by which two that are alike are found


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What every batch is judged by."""

    consents: Mapping[GrantHash, Consent]
    policies: tuple[Published, ...]
    demands: tuple[Demanded, ...]
    orders: tuple[Ordered, ...]
    halts: tuple[tuple[int, int], ...]  # leaves between which the programme was halted
    sizes: tuple[int, ...]
    seconds: tuple[int, ...]
    wanted: frozenset[bytes]  # batches that other records are about


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """A stored batch that another record is about; `core` is right but for its nonce."""

    leaf: int
    core: Core
    core_hash: bytes


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What one span of leaves has of batches."""

    live: dict[bytes, Live]
    names: bytes  # the first bytes of each hash
    erased: list[int]  # leaves that no record opens
    findings: list[Finding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What follows from a core without its nonce; `wrong` is what is wrong with it."""

    core: Core
    consent: Consent
    policy: Published
    key: Signer
    taken_back: int  # the leaf from which on it may not come any more
    erased: int  # the leaf from which on it may not be here any more
    wrong: tuple[tuple[Rule, str], ...]


def look_at(bundle: Bundle, span: int, size: int, facts: Facts) -> Judged:
    """Judge the batches of *span*."""
    start, end = span * audit.SPAN, min((span + 1) * audit.SPAN, size)
    judging = _Span(start=start, heads=Heads(facts))
    try:
        judging.entries = entries_of(bundle, start, end)
    except MalformedError as exc:
        judging.findings.append(Finding(rule=Rule.FILE_CHANGED, what=str(exc)))
    name = audit.batches_name(span)
    judging.findings += bundle.lines(name, audit.BatchLine, judging.judge)
    of_batches = {
        leaf for leaf, data in enumerate(judging.entries, start) if data.startswith(_BATCH)
    }
    return Judged(
        live=judging.live,
        names=bytes(judging.names),
        erased=sorted(of_batches - judging.opened),
        findings=judging.findings,
    )


@dataclass(kw_only=True)
class _Span:
    """The batches of one span, while they are judged one by one."""

    start: int
    heads: "Heads"
    entries: list[bytes] = field(default_factory=list)
    live: dict[bytes, Live] = field(default_factory=dict)
    names: bytearray = field(default_factory=bytearray)
    opened: set[int] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    def judge(self, line: audit.BatchLine) -> None:
        """Judge one batch.

        1. it opens a leaf, as no batch before it; 2. its core is one; 3. its device signed
        it; 4. what follows from the core; 5. what follows from when it came.

        Raises:
            FoundError: 1, 2 or 3 does not hold; what else is wrong is noted.

        """
        core = core_hash(line.core)
        self._open(line, core)  # 1
        self.names += line.batch[:_NAME_BYTES]
        head = self.heads.of(line)  # 2
        message = b"".join(
            (
                *(LABEL, ALGORITHM, line.sequence.to_bytes(8, "big")),
                *(core, line.shelf_sha256, line.body_sha256),
            )
        )
        if not head.key.signed(message, line.signature):  # 3
            what = f"batch {line.batch.hex()} is not signed by the device of its consent"
            raise FoundError(Rule.BATCH_FORGED, line.leaf, what)
        for rule, what in (*head.wrong, *self.heads.late(head, line.leaf)):  # 4, 5
            said = f"batch {line.batch.hex()} {what}"
            self.findings.append(Finding(rule=rule, leaf=line.leaf, what=said))
        if line.batch in self.heads.facts.wanted:
            self.live[line.batch] = Live(leaf=line.leaf, core=head.core, core_hash=core)

    def _open(self, line: audit.BatchLine, core: CoreHash) -> None:
        here = line.leaf - self.start
        payload = batch_payload(BatchHash(line.batch), core)
        if not 0 <= here < len(self.entries) or self.entries[here] != entry(
            Kind.BATCH, payload, line.salt
        ):
            what = f"the log does not say that batch {line.batch.hex()} came with this core"
            raise FoundError(Rule.WRONG_LEAF, line.leaf, what)
        if line.leaf in self.opened:
            raise FoundError(Rule.TWICE, line.leaf, "a second record of one batch")
        self.opened.add(line.leaf)


class Heads:
    """Cores without their nonces, each judged once."""

    def __init__(self, facts: Facts) -> None:
        """Judge by *facts*."""
        self.facts = facts
        self._policies = Policies(facts.policies)
        self._times = Times(facts.sizes, facts.seconds)
        self._known: dict[bytes, Head] = {}

    def of(self, line: audit.BatchLine) -> Head:
        """Return what follows from the core of *line*.

        Raises:
            FoundError: It is no core, or there is no consent, or no policy, that it names.

        """
        head = self._known.get(line.core[:-NONCE_BYTES])
        if head is None:
            head = self._judged(line)
            self._known[line.core[:-NONCE_BYTES]] = head
        return head

    def late(self, head: Head, leaf: int) -> Iterator[tuple[Rule, str]]:
        """Yield what is wrong with a batch of *head* that came as *leaf*."""
        if leaf < head.consent.leaf:
            yield Rule.NO_CONSENT, "came before its consent record did"
        if leaf < head.policy.leaf:
            yield Rule.POLICY_NOT_IN_FORCE, "came before its policy was published"
        if leaf > head.consent.withdrawn:
            yield Rule.OUTSIDE_CONSENT, "came after its consent had been withdrawn"
        if leaf > head.taken_back:
            yield Rule.TAKEN_BACK, f"came after the demand at leaf {head.taken_back}"
        elif leaf < head.erased != -1:
            yield Rule.NOT_ERASED, f"is still here, in spite of the demand at leaf {head.erased}"
        if any(since < leaf < until for since, until in self.facts.halts):
            yield Rule.DURING_HALT, "came while the programme was halted"

    def _judged(self, line: audit.BatchLine) -> Head:
        try:
            core = decode_core(line.core)
        except MalformedError as exc:
            raise FoundError(Rule.UNREADABLE, line.leaf, str(exc)) from exc
        if core.nonce != line.core[-NONCE_BYTES:]:
            raise FoundError(Rule.UNREADABLE, line.leaf, "its nonce does not stand last")
        consent = self.facts.consents.get(core.grant)
        if consent is None:
            what = f"batch {line.batch.hex()} names a consent that is not in the log"
            raise FoundError(Rule.NO_CONSENT, line.leaf, what)
        policy = self._policies.find(core.policy)
        if policy is None:
            what = f"batch {line.batch.hex()} names policy {core.policy.hex()}, never published"
            raise FoundError(Rule.POLICY_NOT_IN_FORCE, line.leaf, what)
        try:
            wrong = tuple(self._wrong(core, consent, policy))
        except OverflowError as exc:
            what = f"batch {line.batch.hex()} is of a day that no calendar goes beyond"
            raise FoundError(Rule.UNREADABLE, line.leaf, what) from exc
        taken, erased = self._demands(core, consent)
        return Head(
            core=core,
            consent=consent,
            policy=policy,
            key=Signer(public_key(consent.device_key)),
            taken_back=taken,
            erased=erased,
            wrong=wrong,
        )

    def _demands(self, core: Core, consent: Consent) -> tuple[int, int]:
        """Return from which leaf on such a batch may not come, and until which it may stay."""
        meant = [
            each
            for each in self.facts.demands
            if each.takes_back(consent) and each.request.covers(core.category, core.day)
        ]
        erase = [each.leaf for each in meant if each.request.demand is Demand.ERASE]
        closed = [
            each.leaf
            for each in self.facts.orders
            if each.order.subject == consent.subject and each.order.covers(core.category, core.day)
        ]
        ends = [each.leaf for each in meant] + closed
        return min(ends, default=2**62), max(erase + closed, default=-1)

    def _wrong(self, core: Core, consent: Consent, policy: Published) -> Iterator[tuple[Rule, str]]:
        asked = policy.policy
        for what, agreed, found in (
            ("device", consent.device, core.device),
            ("data subject", consent.subject, core.subject),
            ("category", consent.category, core.category),
            ("purpose", consent.purpose, core.purpose),
            ("programme", consent.programme, core.programme),
        ):
            if agreed != found:
                yield Rule.NOT_CONSENTED, f"is of another {what} than was agreed to"
        for what, named, found in (
            ("collector", asked.collector.origin, core.origin),
            ("tenant", asked.collector.tenant, core.tenant),
            ("programme", asked.programme, core.programme),
            ("purpose", asked.purpose, core.purpose),
        ):
            if named != found:
                yield Rule.NOT_CONSENTED, f"is for another {what} than its policy's"
        yield from self._by_agreement(core, consent, policy)
        yield from self._by_day(core, consent, policy)
        yield from self._by_retention(core, policy)

    def _by_agreement(
        self, core: Core, consent: Consent, policy: Published
    ) -> Iterator[tuple[Rule, str]]:
        agreed = self._policies.find(consent.policy)
        if policy.policy.rule(core.category) is None:
            yield Rule.NOT_CONSENTED, f"is of {core.category}, which its policy does not ask for"
        elif agreed is not None and agreed.digest != policy.digest:
            more = widened(agreed.policy, policy.policy)[core.category]
            if more:
                said = f"is under a policy that widens what was agreed to: {', '.join(more)}"
                yield Rule.NOT_CONSENTED, said

    def _by_day(
        self, core: Core, consent: Consent, policy: Published
    ) -> Iterator[tuple[Rule, str]]:
        asked = policy.policy.reconfirm_days
        for said in not_of_consent(core.day, consent.days(asked)):
            yield Rule.OUTSIDE_CONSENT, said
        after = self._policies.next(policy)
        in_force = InForce(
            since=self._times.after(policy.leaf),
            until=None if after is None else self._times.by(after.leaf),
            expires=policy.expires,
        )
        for said in not_in_force(core.day, in_force):
            yield Rule.POLICY_NOT_IN_FORCE, said

    def _by_retention(self, core: Core, policy: Published) -> Iterator[tuple[Rule, str]]:
        rule = policy.policy.rule(core.category)
        if rule is not None:
            latest = date.fromisoformat(core.day) + timedelta(days=rule.retention_days)
            if core.expires > latest.isoformat():
                said = f"is kept until {core.expires}, the policy keeps until {latest}"
                yield Rule.KEPT_TOO_LONG, said
        if end_of(core.expires) + GRACE < self._times.head:
            yield Rule.NOT_DELETED, f"is still here; its last day was {core.expires}"
