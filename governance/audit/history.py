"""The log: every entry, the roots that follow from them, and what each leaf is of.

`look` is the work on one span of leaves and knows nothing of the others, so that spans can be
looked at side by side; `History` puts them together.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from governance.audit.findings import Finding, Rule
from governance.audit.reading import Bundle, FoundError
from wire import audit
from wire.errors import MalformedError
from wire.ids import BatchHash, CoreHash
from wire.leaf import Kind, entry, release_payload
from wire.tlog import leaf_hash, node_hash

_KINDS: Final = {kind.encode("ascii"): kind for kind in Kind}
_ENTRY: Final = re.compile(rf"({'|'.join(Kind)})\n[0-9a-f]{{64}}\n".encode("ascii"))
_EXPLAINED: Final = frozenset(Kind) - {Kind.HALT, Kind.BATCH, Kind.RELEASE}
"""Kinds of which each leaf has its record.  The words of a stop are not kept; batches may have
been erased, and releases are opened span by span."""


class Peak(msgspec.Struct, frozen=True, array_like=True):
    """The root of a complete subtree of 2^level leaves."""

    level: int
    root: bytes


class Release(msgspec.Struct, frozen=True, array_like=True):
    """A release that opens its leaf."""

    leaf: int
    batch: bytes
    core: bytes
    access: bytes


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What one span of leaves holds; `peaks` are those of its first so many leaves."""

    peaks: dict[int, tuple[Peak, ...]]
    others: dict[int, bytes]  # entries that are neither of batches nor of releases
    batches: int
    releases: list[Release]
    findings: list[Finding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked about every span: the size of the log, for which sizes roots, who reads.

    `recipients` has the key to which each access request wants to read, by its digest.
    """

    size: int
    cuts: tuple[int, ...]
    recipients: Mapping[bytes, str]


def look(bundle: Bundle, span: int, size: int, asked: Asked) -> Look:
    """Read the entries and the releases of *span*."""
    start, end = span * audit.SPAN, min((span + 1) * audit.SPAN, size)
    found: list[Finding] = []
    try:
        entries = entries_of(bundle, start, end)
        kinds = [kind_of(each) for each in entries]
    except MalformedError as exc:
        found.append(Finding(rule=Rule.REWRITTEN, leaf=start, what=f"the log is not whole: {exc}"))
        return Look(peaks={}, others={}, batches=0, releases=[], findings=found)
    of_release = {start + n for n, kind in enumerate(kinds) if kind is Kind.RELEASE}
    releases = _releases(bundle, span, entries, asked.recipients, found)
    opened = {release.leaf for release in releases}
    for leaf in sorted(of_release - opened):
        what = "an access that nobody accounts for: no record of a release opens this leaf"
        found.append(Finding(rule=Rule.UNLOGGED, leaf=leaf, what=what))
    return Look(
        peaks=_peaks(entries, {cut - start for cut in asked.cuts if start < cut <= end}),
        others={
            start + n: entries[n]
            for n, kind in enumerate(kinds)
            if kind not in (Kind.BATCH, Kind.RELEASE)
        },
        batches=sum(1 for kind in kinds if kind is Kind.BATCH),
        releases=releases,
        findings=found,
    )


def entries_of(bundle: Bundle, start: int, end: int) -> list[bytes]:
    """Return the entries from *start* to before *end*.

    Raises:
        MalformedError: They are not all there, or not as they are written.

    """
    entries: list[bytes] = []
    for name in audit.tiles(start, end):
        entries += audit.decode_entries(bundle.read(name))
    if len(entries) != end - start:
        raise MalformedError(f"{len(entries)} entries from {start} to {end}")
    return entries


def kind_of(data: bytes) -> Kind:
    """Return what an entry is of.

    Raises:
        MalformedError: It is none: `kind LF commitment LF`.

    """
    found = _ENTRY.fullmatch(data)
    if found is None:
        raise MalformedError("an entry is not as the log writes them")
    return _KINDS[found[1]]


def _releases(
    bundle: Bundle,
    span: int,
    entries: Sequence[bytes],
    recipients: Mapping[bytes, str],
    found: list[Finding],
) -> list[Release]:
    """Return the releases of *span* that open their leaf."""
    start, name = span * audit.SPAN, audit.releases_name(span)
    releases: list[Release] = []
    seen: set[int] = set()

    def judge(line: audit.ReleaseLine) -> None:
        if not 0 <= line.leaf - start < len(entries) or line.leaf in seen:
            raise FoundError(Rule.WRONG_LEAF, line.leaf, "a release of another span, or twice")
        if line.access not in recipients:
            what = f"no approval is shown of access {line.access.hex()}"
            raise FoundError(Rule.NOT_APPROVED, line.leaf, what)
        batch, core = BatchHash(line.batch), CoreHash(line.core_hash)
        payload = release_payload(batch, core, line.access, recipients[line.access])
        if entry(Kind.RELEASE, payload, line.salt) != entries[line.leaf - start]:
            what = f"the log does not say that batch {line.batch.hex()} was released here"
            raise FoundError(Rule.WRONG_LEAF, line.leaf, what)
        seen.add(line.leaf)
        releases.append(Release(line.leaf, line.batch, line.core_hash, line.access))

    found.extend(bundle.lines(name, audit.ReleaseLine, judge))
    return releases


def _peaks(entries: Sequence[bytes], cuts: set[int]) -> dict[int, tuple[Peak, ...]]:
    stack: list[Peak] = []
    peaks = {}
    wanted = cuts | {len(entries)}
    for number, data in enumerate(entries, 1):
        push(stack, Peak(0, leaf_hash(data)))
        if number in wanted:
            peaks[number] = tuple(stack)
    return peaks


def push(stack: list[Peak], peak: Peak) -> None:
    """Add a subtree to those before it; two of one size become one."""
    while stack and stack[-1].level == peak.level:
        peak = Peak(peak.level + 1, node_hash(stack.pop().root, peak.root))
    stack.append(peak)


def root_of(stack: Sequence[Peak]) -> bytes:
    """Return the root over subtrees that stand side by side (RFC 6962 section 2.1)."""
    root = stack[-1].root
    for peak in reversed(stack[:-1]):
        root = node_hash(peak.root, root)
    return root


@dataclass(kw_only=True)
class History:
    """The whole log, span by span in order; and which of its leaves were explained."""

    asked: Asked
    roots: dict[int, bytes] = field(default_factory=dict)
    others: dict[int, bytes] = field(default_factory=dict)
    releases: list[Release] = field(default_factory=list)
    batches: int = 0
    is_whole: bool = True
    _stack: list[Peak] = field(default_factory=list)
    _next: list[Peak] = field(default_factory=list)
    _opened: set[int] = field(default_factory=set)

    def add(self, span: int, seen: Look) -> None:
        """Add what the next span holds."""
        self.others |= seen.others
        self.releases += seen.releases
        self.batches += seen.batches
        self.is_whole = self.is_whole and bool(seen.peaks)
        for number, peaks in sorted(seen.peaks.items()):
            stack = list(self._stack)
            for peak in peaks:
                push(stack, peak)
            self.roots[span * audit.SPAN + number] = root_of(stack)
            self._next = stack
        self._stack = self._next if seen.peaks else self._stack

    def open(self, leaf: int, kind: Kind, payload: bytes, salt: bytes) -> None:
        """Check that *leaf* commits to just this, and that no record said so before.

        Raises:
            FoundError: It does not, or one did.

        """
        if self.others.get(leaf) != entry(kind, payload, salt):
            raise FoundError(Rule.WRONG_LEAF, leaf, f"the log does not say this of a {kind}")
        if leaf in self._opened:
            raise FoundError(Rule.TWICE, leaf, f"a second record of one {kind}")
        self._opened.add(leaf)

    def unexplained(self) -> list[Finding]:
        """Return the leaves that no record opened, of the kinds of which each has one."""
        left = ((leaf, kind_of(self.others[leaf])) for leaf in self.others.keys() - self._opened)
        return [
            Finding(rule=Rule.UNEXPLAINED, leaf=leaf, what=f"no record opens this {kind}")
            for leaf, kind in left
            if kind in _EXPLAINED
        ]
