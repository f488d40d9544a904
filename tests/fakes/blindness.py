"""People at work whose collector is looted: what must not be found there, and the search for it.

`World` has people type canaries, have them in window titles and on their screens, seal and hand
in; it has the reader get and export them, and aborts the collector amid all that.  `check_blind`
searches the loot for the canaries and for every key that leads to one, and tries to open each
frame.  What is not found is worth something only where it would have been: so it first finds
what is planted, and with the guard's keys the same loot opens every frame.
"""

import contextlib
import itertools
import secrets
import string
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import shake_256
from pathlib import Path
from typing import Final

import msgspec
from backports import zstd

from base.door import DoorError
from base.pki import load_ed25519
from demo.organisation import Organisation
from demo.search import plant_controls
from guard.keys import Found
from guard.premises import Premises as GuardPremises
from tests.fakes.conspiracy import paths, pieces
from tests.fakes.death import core_folders, leave_a_core
from tests.fakes.device import Device, today
from tests.fakes.dump import Loot, file_key, memory_at_its_end
from tests.fakes.needles import Needles, of_bytes, of_text
from tests.fakes.site import UNLIMITED
from tests.fakes.tls import WAIT_SECONDS
from wire.age import SEED_BYTES, decode_identity
from wire.category import Category
from wire.collector_http import Enrolment
from wire.event import Event, Focus, Frame, Key, Rectangle
from wire.frame import batch_hash, decode_core, split
from wire.grant import SignedConsent
from wire.ids import BootInstant

CANARIES: Final = 1_000
LETTERS: Final = 18  # six pixels of three bytes; by chance nowhere
CATEGORIES: Final = (Category.KEYS, Category.WINDOW, Category.SCREEN)
LEVELS: Final = {"keys": "text", "window": "title"}  # what the policy has to ask for
SETTINGS: Final = f"[limits]{UNLIMITED}"  # lines of the collector's: these people hand in a lot
OWN_KEY: Final = "the key of the collector's log"  # has to be found wherever the collector is
LATE_SHARE: Final = 5  # every so-manieth frame is handed in while the collector is aborted


# --- what people do -------------------------------------------------------------------------


def typed(canary: str, at: int) -> list[Event]:
    return [
        Key(at=BootInstant(at + n), sequence=at + n, pressed=True, kind="letter", text=letter)
        for n, letter in enumerate(canary)
    ]


def titled(canary: str, at: int) -> list[Event]:
    place = {"x": 0, "y": 0, "width": 800, "height": 600}
    focus = Focus(
        at=BootInstant(at),
        sequence=at,
        process="xterm",
        window_class="XTerm",
        title=canary,
        **place,
    )
    return [focus]


def shown(canary: str, at: int) -> list[Event]:
    wide = len(canary) // 3
    pixels = Rectangle(x=0, y=0, width=wide, height=1, pixels=zstd.compress(canary.encode()))
    picture = {"left": 0, "top": 0, "width": wide, "height": 1, "rectangles": (pixels,)}
    return [Frame(at=BootInstant(at), sequence=at, key=True, **picture)]  # type: ignore[arg-type]


WAYS: Final = dict(zip(CATEGORIES, (typed, titled, shown), strict=True))


@dataclass(kw_only=True)
class Person:
    """Somebody who agreed to everything, and what was sealed at that workstation."""

    device: Device
    consents: dict[Category, SignedConsent] = field(default_factory=dict)
    frames: list[bytes] = field(default_factory=list)

    @classmethod
    def at_work(cls, acme: Organisation, name: str) -> "Person":
        """Enrol somebody and have everything agreed to."""
        enrolment = msgspec.json.decode(acme.enrolment_file(name).read_bytes(), type=Enrolment)
        device = Device(acme.folder / name, enrolment).enrol()
        return cls(device=device, consents={each: device.agree(each) for each in CATEGORIES})

    def seals(self, canaries: Sequence[str], category: Category) -> None:
        """Seal a batch in which these canaries are."""
        key = self.device.guard_key(category)
        events: list[Event] = []
        for number, canary in enumerate(canaries):
            events += WAYS[category](canary, number * LETTERS)
        self.frames.append(self.device.seal(self.consents[category], key, *events))

    @property
    def early(self) -> list[bytes]:
        """What is handed in before anything else happens."""
        return [frame for n, frame in enumerate(self.frames) if n % LATE_SHARE]

    @property
    def late(self) -> list[bytes]:
        """What is handed in at the end."""
        return self.frames[::LATE_SHARE]

    def works(self, answered: threading.Semaphore, ended: threading.Event) -> None:
        """Hand in, agree and ask, again and again, until the collector is gone."""
        with contextlib.suppress(DoorError):
            for frame in itertools.cycle(self.late):
                name = batch_hash(frame).hex()
                answer = self.device.door.request("PUT", f"/v1/batches/{name}", frame)
                assert answer.status in (200, 201), answer.body
                consent = msgspec.json.encode(self.consents[Category.KEYS])
                assert self.device.door.request("POST", "/v1/consents", consent).status == 200
                self.device.guard_key(Category.KEYS)
                answered.release()
                if ended.is_set():
                    return


# --- where it happens -----------------------------------------------------------------------


@dataclass(kw_only=True)
class World:
    """An organisation at work, and all that leads to what people did there."""

    acme: Organisation
    canaries: tuple[str, ...]
    people: tuple[Person, ...]
    elsewhere: Callable[[Path], None]  # copies what the collector keeps on other machines

    @classmethod
    def at_work(
        cls, acme: Organisation, batches: int, elsewhere: Callable[[Path], None] = lambda _: None
    ) -> "World":
        """Have two people work, and hand in most of it."""
        canaries = tuple(
            "".join(secrets.choice(string.ascii_lowercase) for _ in range(LETTERS))
            for _ in range(CANARIES)
        )
        people = tuple(Person.at_work(acme, name) for name in ("kim", "lee"))
        each = -(-CANARIES // batches)
        parts = [canaries[at : at + each] for at in range(0, CANARIES, each)]
        turns = itertools.product(CATEGORIES, people)
        for part, (category, person) in zip(parts, itertools.cycle(turns), strict=False):
            person.seals(part, category)
        for person in people:
            for frame in person.early:
                person.device.upload(frame)
        return cls(acme=acme, canaries=canaries, people=people, elsewhere=elsewhere)

    @property
    def frames(self) -> list[bytes]:
        """Everything that was sealed."""
        return [frame for person in self.people for frame in person.frames]

    @property
    def identity(self) -> bytes:
        """The reader's private key."""
        text = (self.acme.reader.home / "config/identity.txt").read_text("ascii")
        return decode_identity(text.strip())

    def guard_seed(self, person: Person, frame: bytes) -> bytes:
        """Return the guard's key for a frame of this person."""
        category = decode_core(split(frame).core).category
        keys = GuardPremises(paths(self.acme.guard)).keys()
        found = keys.find(person.device.subject, category, today()[:7])
        keys.close()
        assert isinstance(found, Found)
        return found.seed

    def secrets(self) -> dict[str, bytes]:
        """Return every key that leads to a canary, by name."""
        found = {"the reader's identity": self.identity}
        for number, person in enumerate(self.people):
            found[f"identity {number}"] = decode_identity(person.device.identity)
            for at, frame in enumerate(person.frames):
                seed = self.guard_seed(person, frame)
                found[f"the guard's key of {seed.hex()[:8]}"] = seed
                found[f"file key {number} {at}"] = file_key(frame, seed, self.identity)
        # The half of such a key that is X25519 is drawn from it, and lies in memory by itself.
        drawn = {
            f"{name}, X25519": shake_256(key).digest(96)[64:]
            for name, key in found.items()
            if len(key) == SEED_BYTES
        }
        return found | drawn

    def needles(self) -> Needles:
        """Return what must be nowhere (canaries, keys that lead to one), and what must be there."""
        texts = {canary: of_text(canary) for canary in self.canaries}
        log_key = load_ed25519(self.acme.collector.home / "config/log.key").private_bytes_raw()
        keys = self.secrets() | {OWN_KEY: log_key}
        return Needles(texts | {name: of_bytes(key) for name, key in keys.items()})

    def releases(self, out: Path) -> None:
        """Have everything that was handed in so far released to the reader, and exported."""
        grant = self.acme.access_grant(*(each.value for each in CATEGORIES))
        tally = self.acme.reader.facts("fetch", "--grant", grant)
        assert tally["released"] >= sum(len(person.early) for person in self.people)
        self.acme.reader.run("export", "--out", out)

    def aborted(self, folder: Path) -> list[Path]:
        """Abort the collector amid everybody's work; return the folders with all that it had."""
        with self._everybody_works() as answered:
            self.releases(folder.parent / "export")
            for _ in range(2 * len(self.frames) // LATE_SHARE):
                assert answered.acquire(timeout=WAIT_SECONDS)
            memory = memory_at_its_end(self.acme.collector, folder / "memory")
        assert memory, "neither a core file nor a copy of the memory"
        self.elsewhere(folder / "elsewhere")
        return [folder, self.acme.collector.home, self.acme.folder / "tmp"]

    @contextlib.contextmanager
    def _everybody_works(self) -> Iterator[threading.Semaphore]:
        answered, ended = threading.Semaphore(0), threading.Event()
        threads = [
            threading.Thread(target=person.works, args=(answered, ended)) for person in self.people
        ]
        for thread in threads:
            thread.start()
        try:
            yield answered
        finally:
            ended.set()
            for thread in threads:
                thread.join()


# --- what a thief finds ---------------------------------------------------------------------


def check_blind(world: World, folders: Sequence[Path], tmp_path: Path) -> str:
    """Search, and try to open; show that both would succeed if there were anything.

    Return the figures.
    """
    needles = world.needles()
    found = needles.in_folders(folders)
    assert found.keys() == {OWN_KEY}
    assert {Path(where).parent.name for where in found[OWN_KEY]} >= {"memory", "config"}
    check_search(world, needles, tmp_path / "planted")

    loot = Loot.of(folders, world.identity)
    assert set(world.frames) <= set().union(*(pieces(folder) for folder in folders))
    assert [frame for frame in world.frames if loot.opens(frame) is not None] == []
    seeds = {world.guard_seed(person, frame) for person in world.people for frame in person.frames}
    plain = [loot.with_guard(seeds).opens(frame) for frame in world.frames]
    assert None not in plain, "with the guard's keys each frame opens"
    spelled = set().union(*(needles.in_bytes(each or b"") for each in plain))
    assert spelled == set(world.canaries), "what people did is in there, and is found"
    return said(world, folders, loot)


def check_search(world: World, needles: Needles, folder: Path) -> None:
    """Each canary is found when it lies there; one in each disguise, and in a core file."""
    plain, disguised, dumped = folder / "plain", folder / "disguised", folder / "dumped"
    write_all(folder, [b" ".join(canary.encode() for canary in world.canaries)])
    assert needles.in_folders([folder]).keys() == set(world.canaries)
    first, second = world.canaries[:2]
    plant_controls(first, disguised)
    for path in disguised.iterdir():
        assert needles.in_file(path) == {first}, path
    if core_folders(dumped):
        (core,) = leave_a_core(second, dumped)
        assert second in needles.in_file(core)
    secret = next(iter(world.secrets().values()))
    for number, form in enumerate(of_bytes(secret)):
        write_all(plain / str(number), [form])
    found = needles.in_folders([plain])
    assert [len(places) for places in found.values()] == [6]


def write_all(folder: Path, contents: Iterable[bytes]) -> None:
    """Write each to a file of its own."""
    folder.mkdir(parents=True)
    for number, content in enumerate(contents):
        (folder / str(number)).write_bytes(content)


def said(world: World, folders: Sequence[Path], loot: Loot) -> str:
    """Return the figures of one dump."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) >> 20
    return (
        f"{len(files)} files, {size} MiB: 0 of {len(world.canaries)} canaries; with "
        f"{len(loot.keys)} keys found there 0 of {len(world.frames)} frames opened"
    )
