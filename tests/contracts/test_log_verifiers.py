"""Whoever verifies a log by itself: our code and Go's `sumdb` judge the same log alike.

The log is a real collector's, over its own door: heads as it grew, those that the guard
cosigned, the tiles of each, and proofs.  Each lie is planted in a copy of it.
"""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from base.https import OneDoor
from collector.log import append
from tests.conftest import ROOT, Size
from tests.fakes.organisation import READER
from tests.fakes.site import Site, Workstation, collector_site
from tests.unit.test_collector_releases import approved, hash_of, order
from wire.collector_http import Consistency, ReleaseList, decode
from wire.errors import WireError
from wire.leaf import Kind
from wire.tile import (
    decode_entries,
    encode_entries,
    encode_hashes,
    tile_name,
    tiles_of,
    verified_entries,
)
from wire.tlog import (
    Checkpoint,
    Tree,
    leaf_hash,
    sign_checkpoint,
    verify_checkpoint,
    verify_consistency,
    verify_cosignature,
    verify_inclusion,
)

INTEROP: Final = ROOT / "build/interop"
PROGRAM: Final = Path(__file__).parent / "logcheck"
SIZES: Final = (5, 255, 256, 257, 512, 600)  # around the edges of tiles
LARGE: Final = 66_000  # its tiles have three levels

Verify = Callable[[Path], dict[str, int]]


class RefusedError(AssertionError):
    """A verifier refuses the log."""


# --- the two verifiers ------------------------------------------------------------------


def by_us(folder: Path) -> dict[str, int]:
    """Verify the log in *folder* with `wire`; return what was checked."""
    said = msgspec.json.decode((folder / "claims.json").read_bytes(), type=Claims)
    try:
        return _by_us(folder, said)
    except (WireError, OSError) as exc:
        raise RefusedError(str(exc)) from exc


def _by_us(folder: Path, said: "Claims") -> dict[str, int]:
    heads: dict[int, Checkpoint] = {}
    leaves: list[bytes] = []
    for one in said.heads:
        head = verify_checkpoint(one.note, said.log)
        if one.cosigned:
            verify_cosignature(one.note, said.witness)
        entries = verified_entries(head, lambda name: (folder / name).read_bytes())
        heads[head.size] = head
        leaves = max(leaves, [leaf_hash(entry) for entry in entries], key=len)
    for proof in said.inclusion:
        under = heads[proof.size]
        verify_inclusion(
            leaf=leaves[proof.index],
            index=proof.index,
            size=under.size,
            proof=proof.proof,
            root=under.root,
        )
    for step in said.consistency:
        verify_consistency(
            old=step.old,
            new=step.new,
            proof=step.proof,
            old_root=heads[step.old].root,
            new_root=heads[step.new].root,
        )
    return {
        "Heads": len(said.heads),
        "Cosigned": sum(one.cosigned for one in said.heads),
        "Leaves": len(leaves),
        "Inclusion": len(said.inclusion),
        "Consistency": len(said.consistency),
    }


def by_go(program: Path) -> Verify:
    """Return the verifier that is Go's."""

    def verify(folder: Path) -> dict[str, int]:
        ran = subprocess.run([program, folder], check=False, capture_output=True, text=True)
        assert ran.returncode in (0, 1), ran.stderr
        if ran.returncode:
            raise RefusedError(ran.stdout)
        counts: dict[str, int] = json.loads(ran.stdout)
        assert counts.pop("Tiles") > 0
        return counts

    return verify


@pytest.fixture(scope="module")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build our few lines of Go around the copies of `note` and `tlog` that Go itself uses."""
    root = INTEROP / "go/go"
    assert root.is_dir(), "Go is missing; run `make setup` first"
    (sumdb,) = (root / "src/cmd/vendor").glob("*/x/mod/sumdb")
    source = tmp_path_factory.mktemp("logcheck")
    shutil.copy(PROGRAM / "main.go", source)
    for package in ("note", "tlog"):
        shutil.copytree(sumdb / package, source / package)
    (source / "go.mod").write_text("module logcheck\n\ngo 1.24\n")
    built = subprocess.run(
        [root / "bin/go", "build", "-o", "logcheck", "."],
        check=False,
        cwd=source,
        capture_output=True,
        text=True,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(source),
            "GOROOT": str(root),
            "GOCACHE": str(INTEROP / "go-cache"),
            "GOPATH": str(source / "path"),
            "GOPROXY": "off",  # nothing is fetched
            "GOTOOLCHAIN": "local",
            "GOTELEMETRY": "off",
            "CGO_ENABLED": "0",
        },
    )
    assert built.returncode == 0, built.stderr
    return source / "logcheck"


@pytest.fixture(params=["ours", "Go's"])
def verify(request: pytest.FixtureRequest, go_program: Path) -> Verify:
    return by_us if request.param == "ours" else by_go(go_program)


# --- a log, and what is said of it ------------------------------------------------------


class Head(msgspec.Struct, kw_only=True):
    note: str
    cosigned: bool = False


class Included(msgspec.Struct, kw_only=True):
    index: int
    size: int
    proof: tuple[bytes, ...]


class Continued(msgspec.Struct, kw_only=True):
    old: int
    new: int
    proof: tuple[bytes, ...]


class Claims(msgspec.Struct, kw_only=True):
    log: str
    witness: str
    heads: list[Head] = msgspec.field(default_factory=list)
    inclusion: list[Included] = msgspec.field(default_factory=list)
    consistency: list[Continued] = msgspec.field(default_factory=list)


@dataclass
class Taken:
    """What somebody wrote down who asked a collector, over its door, while its log grew."""

    site: Site
    door: OneDoor
    folder: Path
    claims: Claims
    sizes: list[int] = field(default_factory=list)

    def head(self, note: str = "") -> int:
        """Note the present head, or *note*, and fetch its tiles; return its size."""
        cosigned = bool(note)
        if not note:
            note = self.get("checkpoint").decode()
        size = verify_checkpoint(note, self.claims.log).size
        self.claims.heads.append(Head(note=note, cosigned=cosigned))
        self.sizes.append(size)
        for tile in tiles_of(size):
            path = self.folder / tile_name(tile)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.get(tile_name(tile)))
        return size

    def get(self, name: str) -> bytes:
        answer = self.door.request("GET", f"/v1/log/{name}")
        assert answer.status == 200, answer.body
        return answer.body

    def proofs(self, every: int = 1) -> None:
        """Note proofs of all pairs of sizes, and of each *every*th leaf in each of them."""
        sizes = sorted(set(self.sizes))
        for place, old in enumerate(sizes):
            for new in sizes[place:]:
                answer = self.get(f"consistency?old={old}&new={new}")
                proof = decode(answer, Consistency).proof
                self.claims.consistency.append(Continued(old=old, new=new, proof=proof))
        for size in sizes:
            for index in range(0, size, every):
                proof = self.site.collector.log.inclusion(index, size)
                self.claims.inclusion.append(Included(index=index, size=size, proof=proof))


def write(folder: Path, claims: Claims) -> None:
    """Write down what is said of the log in *folder*."""
    (folder / "claims.json").write_bytes(msgspec.json.encode(claims))


def grow(site: Site, to: int) -> None:
    """Append leaves as the collector does, up to a size, if there are fewer."""
    with site.collector.index.writing() as connection:
        have = verify_checkpoint(
            site.collector.log.checkpoint(), site.collector.log.verifier_key
        ).size
        for number in range(have, to):
            append(connection, Kind.BATCH, b"%d" % number, site.collector.now())


def release(site: Site, reader: OneDoor, frame: bytes, request_id: str) -> str:
    """Have a batch released; return the head that the guard cosigned for it."""
    answer = order(reader, approved(site, request_id=request_id), hash_of(frame))
    assert answer.status == 200, answer.body
    return msgspec.json.decode(answer.body, type=ReleaseList).checkpoint


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with collector_site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(scope="module")
def workstation(site: Site) -> Workstation:
    return site.workstation()


def begin(site: Site, door: OneDoor, folder: Path) -> Taken:
    folder.mkdir()
    claims = Claims(log=site.policy.collector.log, witness=site.policy.guard.witness)
    return Taken(site=site, door=door, folder=folder, claims=claims)


@pytest.fixture(scope="module")
def taken(site: Site, workstation: Workstation, tmp_path_factory: pytest.TempPathFactory) -> Taken:
    """The log of a collector that took a batch and released it over and over as it grew."""
    log = begin(site, workstation.door, tmp_path_factory.mktemp("taken") / "log")
    log.head()  # the policy
    frame = workstation.seals(workstation.consents())
    log.head()
    assert workstation.puts(frame).status == 201
    log.head()
    reader = site.reader(READER)
    for size in SIZES:
        grow(site, size - 1)
        log.head(release(site, reader, frame, f"at {size}"))
        log.head()
    log.proofs()
    write(log.folder, log.claims)
    return log


# --- the truth --------------------------------------------------------------------------


@pytest.mark.slow
def test_the_log_of_a_real_collector_verifies(taken: Taken, verify: Verify) -> None:
    """Heads, cosignatures, tiles full and partial, each leaf's inclusion, all pairs of sizes."""
    sizes = sorted(set(taken.sizes))
    pairs = len(sizes) * (len(sizes) + 1) // 2
    assert {1, 255, 256, 257, 512, 600} <= set(sizes)
    assert verify(taken.folder) == {
        "Heads": len(taken.sizes),
        "Cosigned": len(SIZES),
        "Leaves": 600,
        "Inclusion": sum(sizes),
        "Consistency": pairs,
    }


# --- lies -------------------------------------------------------------------------------


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def file(name: str, at: int) -> Callable[[Path, Claims], None]:
    """A bit of a file is another."""

    def lie(folder: Path, _claims: Claims) -> None:
        (folder / name).write_bytes(flipped((folder / name).read_bytes(), at))

    return lie


def moved(folder: Path, claims: Claims) -> None:
    bundle = folder / "tile/entries/001"
    first, second, *rest = decode_entries(bundle.read_bytes())
    bundle.write_bytes(encode_entries((second, first, *rest)))


def left_out(folder: Path, claims: Claims) -> None:
    bundle = folder / "tile/entries/000"
    bundle.write_bytes(encode_entries(decode_entries(bundle.read_bytes())[:-1]))


def cut_short(folder: Path, claims: Claims) -> None:
    tile = folder / "tile/0/000"
    tile.write_bytes(tile.read_bytes()[:-32])


def signature(line: int) -> Callable[[Path, Claims], None]:
    """A bit of the log's (-2) or the witness's (-1) signature is another."""

    def lie(folder: Path, claims: Claims) -> None:
        head = next(one for one in claims.heads if one.cosigned)
        lines = head.note.rstrip("\n").split("\n")
        dash, name, blob = lines[line].split(" ")
        changed = flipped(base64.b64decode(blob), -1)
        lines[line] = f"{dash} {name} {base64.b64encode(changed).decode()}"
        head.note = "\n".join(lines) + "\n"

    return lie


def without_witness(folder: Path, claims: Claims) -> None:
    head = next(one for one in claims.heads if one.cosigned)
    head.note = "\n".join(head.note.split("\n")[:-2]) + "\n"


def size_said(folder: Path, claims: Claims) -> None:
    head = claims.heads[-1]
    head.note = head.note.replace("\n600\n", "\n599\n")


def root_said(folder: Path, claims: Claims) -> None:
    last, before = claims.heads[-1], claims.heads[0]
    root, other = last.note.split("\n")[2], before.note.split("\n")[2]
    last.note = last.note.replace(root, other)


def another_time(folder: Path, claims: Claims) -> None:
    """The witness's time: a cosignature is of one moment."""
    head = next(one for one in claims.heads if one.cosigned)
    lines = head.note.rstrip("\n").split("\n")
    dash, name, blob = lines[-1].split(" ")
    changed = flipped(base64.b64decode(blob), 4 + 7)  # key id, then eight bytes of time
    lines[-1] = f"{dash} {name} {base64.b64encode(changed).decode()}"
    head.note = "\n".join(lines) + "\n"


def inclusion_of(change: Callable[[Included], object]) -> Callable[[Path, Claims], None]:
    def lie(folder: Path, claims: Claims) -> None:
        change(next(one for one in claims.inclusion if one.size == 257 and one.index == 100))

    return lie


def consistency_of(change: Callable[[Continued], object]) -> Callable[[Path, Claims], None]:
    def lie(folder: Path, claims: Claims) -> None:
        change(next(one for one in claims.consistency if (one.old, one.new) == (255, 512)))

    return lie


def bent(one: Any) -> None:  # noqa: ANN401 - a proof of either kind
    one.proof = (flipped(one.proof[0], 5), *one.proof[1:])


def shortened(one: Any) -> None:  # noqa: ANN401 - a proof of either kind
    one.proof = one.proof[:-1]


def lengthened(one: Any) -> None:  # noqa: ANN401 - a proof of either kind
    one.proof = (*one.proof, one.proof[-1])


def other_leaf(one: Included) -> None:
    one.index = 101


def other_size(one: Continued) -> None:
    one.old = 256


LIES: Final[dict[str, Callable[[Path, Claims], None]]] = {
    "a changed leaf": file("tile/entries/000", 40),
    "a changed leaf of a partial bundle": file("tile/entries/002.p/88", 1000),
    "a changed length of a leaf": file("tile/entries/001", 1),
    "leaves that changed places": moved,
    "a leaf left out": left_out,
    "a changed full tile": file("tile/0/001", 700),
    "a changed partial tile": file("tile/0/002.p/88", 64),
    "a changed tile above": file("tile/1/000.p/2", 40),
    "a tile cut short": cut_short,
    "a changed signature of the log": signature(-2),
    "a changed signature of the witness": signature(-1),
    "another time of the witness": another_time,
    "no signature of the witness": without_witness,
    "another size": size_said,
    "another root": root_said,
    "a bent proof of inclusion": inclusion_of(bent),
    "a proof of inclusion that is too short": inclusion_of(shortened),
    "a proof of inclusion that is too long": inclusion_of(lengthened),
    "the proof of another leaf": inclusion_of(other_leaf),
    "a bent proof of consistency": consistency_of(bent),
    "a proof of consistency that is too short": consistency_of(shortened),
    "a proof of consistency that is too long": consistency_of(lengthened),
    "the consistency of another size": consistency_of(other_size),
}


@pytest.mark.slow
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_planted_lie_is_refused(
    lie: Callable[[Path, Claims], None], taken: Taken, verify: Verify, tmp_path: Path
) -> None:
    """A bit, a leaf, a signature, a size or a step of a proof."""
    copy = tmp_path / "log"
    shutil.copytree(taken.folder, copy)
    claims = msgspec.json.decode((copy / "claims.json").read_bytes(), type=Claims)
    lie(copy, claims)
    write(copy, claims)
    with pytest.raises(RefusedError):
        verify(copy)


@pytest.mark.slow
def test_a_log_that_was_written_anew_is_refused(
    taken: Taken, verify: Verify, tmp_path: Path
) -> None:
    """Both heads are signed by the log and have their tiles; but leaf 100 was another before."""
    before = next(one for one in taken.claims.heads if "\n255\n" in one.note)
    entries = verified_entries(
        verify_checkpoint(taken.claims.heads[-1].note, taken.claims.log),
        lambda name: (taken.folder / name).read_bytes(),
    )[:300]
    entries[100] = flipped(entries[100], -2)
    fork = Tree(map(leaf_hash, entries))
    name, key = taken.site.collector.log.name, taken.site.premises.log_key()
    after = sign_checkpoint(Checkpoint(origin=name, size=300, root=fork.root()), key)
    folder, claims = tmp_path / "log", Claims(log=taken.claims.log, witness=taken.claims.witness)
    shutil.copytree(taken.folder, folder)
    for tile in tiles_of(300):
        hashes = () if tile.level is None else fork.subtrees(tile.level, tile.start, tile.width)
        bundle = entries[tile.start : tile.start + tile.width]
        content = encode_entries(bundle) if tile.level is None else encode_hashes(hashes)
        (folder / tile_name(tile)).write_bytes(content)
    claims.heads = [before, Head(note=after)]
    write(folder, claims)
    assert verify(folder)["Leaves"] == 300, "each of the two is a log of its own"
    for proof in (fork.consistency(255, 300), taken.site.collector.log.consistency(255, 300)):
        claims.consistency = [Continued(old=255, new=300, proof=proof)]
        write(folder, claims)
        with pytest.raises(RefusedError):
            verify(folder)


@pytest.mark.slow
@pytest.mark.soak
def test_a_large_log_verifies(
    workstation: Workstation,
    site: Site,
    taken: Taken,
    go_program: Path,
    tmp_path: Path,
    size: Size,
    figure: Callable[[str], None],
) -> None:
    """With `--soak` so large that its tiles have three levels."""
    leaves, log = size(share=3_000, full=LARGE), begin(site, workstation.door, tmp_path / "log")
    for part in (leaves // 3, leaves):
        grow(site, part)
        log.head()
    log.proofs(every=max(1, leaves // 1_000))
    write(log.folder, log.claims)
    ours, theirs = by_us(log.folder), by_go(go_program)(log.folder)
    assert ours == theirs
    assert ours["Leaves"] == leaves
    tiles = sum(1 for path in log.folder.rglob("*") if path.is_file()) - 1
    figure(f"{leaves} leaves in {tiles} tiles: {ours['Inclusion']} proofs of inclusion hold")
