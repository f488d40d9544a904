"""The agent dies at any step of its writing, in many lives; what it was told and told holds.

A real process with the real ledger, spool, numbers and delivery, against a collector and a
guard that really listen; only what sees and is clicked is faked (`tests/fakes/doomed.py`).
The desktop has its own, slower form of this (`tests/e2e/test_crash.py`).
"""

import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import pytest

from agent.consent.ledger import Ledger
from agent.consent.policy import IN_FORCE
from agent.consent.standing import Standing
from agent.consent.states import Consent, Flag, Pause
from agent.enroll import CERTIFICATE, ENROLMENT, KEY, Enrolment, load_device
from agent.numbers import Numbers
from agent.spare_room import FILE_NAME as SPARE_ROOM
from agent.spool import HELD, READY, Spool
from agent.spooled import Local
from base import durable
from base.clock import Now, SystemClock
from base.pki import private_pem
from guard.keys import Found, Keys
from tests.conftest import Size
from tests.fakes.death import cores_in, deaths
from tests.fakes.doomed import Broke, Doom, Ended, Kept, Told
from tests.fakes.organisation import PolicyFolder
from tests.fakes.repository import Repository, enrol
from tests.fakes.searched import found
from tests.fakes.site import Site, collector_site
from tests.fakes.site import Workstation as Enrolled
from wire.batch import decode_batch
from wire.category import Category
from wire.event import Event, category_of
from wire.frame import Core, core_hash, decode_core, join_unsigned, split, verify
from wire.opening import open_body
from wire.policy import policy_digest
from wire.sealing import recipient_of
from wire.shelf import unshelve

ROOT: Final = Path(__file__).resolve().parents[2]
MOST_STEPS: Final = 450  # most lives have 300 to 550
MOST_LIVES: Final = 50
TEXT: Final = "quixotryzwjkv"


@dataclass(kw_only=True)
class Seen:
    """What was seen on the disk and heard from the agent, over all its lives."""

    folder: Path
    dice: random.Random
    keys: set[str] = field(default_factory=set)  # batches of keys, by name in held or ready
    last: dict[str, Told] = field(default_factory=dict)  # by what it was about
    lives: int = 0

    def doom(self, at: int, how: int, *, last: bool = False) -> Doom:
        """Return the next life."""
        self.lives += 1
        seed = self.dice.getrandbits(32)
        return Doom(number=self.lives, seed=seed, at=at, how=how, text=TEXT, last=last)

    def hear(self, told: Told | Kept) -> None:
        """Note what was kept, and what was acknowledged last about pause and pointer."""
        if isinstance(told, Kept):
            self.keys.add(told.name)
            return
        about = "pause" if told.act in ("pause", "resume") else told.act.rpartition(" ")[2]
        self.last[about] = told

    def look(self) -> None:
        """Note which batches of keys lie on the disk, and check what was acknowledged."""
        for folder in (HELD, READY):
            for frame in (self.folder / "state/spool" / folder).glob("*.frame"):
                local = msgspec.json.decode(frame.with_suffix(".local").read_bytes(), type=Local)
                if local.category is Category.KEYS:
                    self.keys.add(frame.stem)
        self.check(self.standing())

    def standing(self) -> Standing:
        """Return where consent stands for the next start; a copy is read, as reading mends."""
        copy = self.folder / "copy"
        copy.mkdir()
        for name in ("consent.jsonl", "unfinished"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(self.folder / "state" / name, copy)
        device = load_device(self.folder / "state")
        now = Now(boot=0, wall=0, boot_id="")
        standing = Ledger.open(copy, device.key.public_key(), now).standing
        shutil.rmtree(copy)
        return standing

    def check(self, standing: Standing) -> None:
        """What was acknowledged holds, unless it was asked to be undone since."""
        assert standing.lost == ""
        holds = {
            "pause": standing.pause is not Pause.RUNNING,
            "opt out pointer": standing.flags[Category.POINTER] is Flag.OPTED_OUT,
            "withdraw pointer": standing.consents[Category.POINTER] is Consent.WITHDRAWN,
            "grant pointer": standing.consents[Category.POINTER] is Consent.GIVEN,
        }
        for told in self.last.values():
            assert not told.done or holds.get(told.act, True), told


@pytest.mark.slow
@pytest.mark.soak
def test_an_agent_that_dies_at_any_step_of_its_writing_loses_and_repeats_nothing(
    tmp_path: Path, dice: random.Random, size: Size, figure: Callable[[str], None]
) -> None:
    """See the module.

    1. what was acknowledged holds after each death; 2. no batch of keys that was put into the
    spool is lost, and what has a receipt is at the collector; 3. no number is there twice;
    4. of the pointer, withdrawn with erasure in the end, nothing is left; 5. nor is any litter;
    6. the text is nowhere.
    """
    folder = tmp_path / "workstation"
    with collector_site(tmp_path / "site", hold_seconds=1) as site:
        enrolled = site.workstation()
        move_in(folder, site, enrolled)
        seen = Seen(folder=folder, dice=dice)
        ways = deaths(size(share=12, full=200), size(share=2, full=25), dice)
        with living(folder) as life:
            for how in ways:
                die(life, how, seen)
            last = seen.doom(0, 0, last=True)
            assert live(life, last, seen) == Ended(signal=0, exit_code=0)
        seen.look()
        opened = check_frames(site, enrolled, seen)
        check_workstation(folder)
    assert cores_in(folder) == []
    assert found(TEXT, [tmp_path]) == []
    counts = dict(sorted(Counter(way.name for way in ways).items()))
    figure(
        f"{len(ways)} deaths ({counts}) in {seen.lives} lives; of {len(seen.keys)} batches of "
        f"keys in the spool 0 lost; {opened} events opened, 0 numbers twice; the text nowhere"
    )


def move_in(folder: Path, site: Site, enrolled: Enrolled) -> None:
    """Leave in *folder* what enrolment leaves."""
    state = durable.private_folder(folder / "state")
    for name in ("config", "logs", "run"):
        durable.private_folder(folder / name)
    policy = site.premises.paths.state.parent / "policy"
    published = PolicyFolder(policy)
    repository = Repository.of(enrolled.org, published, datetime.now(UTC))
    enrol(state, published, repository.fetch, SystemClock().now())
    durable.replace(state / KEY, private_pem(enrolled.org.device))
    durable.replace(state / CERTIFICATE, enrolled.files[0].read_bytes())
    enrolment = Enrolment(
        origin=site.origin,
        tls_pins=(site.premises.tls_pin(),),
        ca_pem=site.premises.authority().pem.decode(),
        subject=enrolled.org.subject,
        subject_key=recipient_of(enrolled.org.subject_identity),
        rights_key=enrolled.org.speaker().rights_key,
        appointment=enrolled.org.speaker().appointment,
        enrolled_at=0,
    )
    durable.replace(state / ENROLMENT, msgspec.json.encode(enrolment))


@contextlib.contextmanager
def living(folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the program that lives."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.doomed", str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        yield child


def die(life: "subprocess.Popen[bytes]", how: signal.Signals, seen: Seen) -> None:
    """Have lives lived until one ends by *how*: some are over before they come to that step."""
    for _ in range(MOST_LIVES):
        doom = seen.doom(seen.dice.randrange(1, MOST_STEPS), how)
        ended = live(life, doom, seen)
        sys.stdout.write(f"life {doom.number}, step {doom.at}: {ended}\n")
        seen.look()
        if ended == Ended(signal=how, exit_code=0):
            return
        assert ended == Ended(signal=0, exit_code=0)
    raise AssertionError(f"{MOST_LIVES} lives in a row had fewer steps than they were to die at")


def live(life: "subprocess.Popen[bytes]", doom: Doom, seen: Seen) -> Ended:
    """Have one life lived; return how it ended."""
    assert life.stdin is not None
    assert life.stdout is not None
    life.stdin.write(msgspec.json.encode(doom) + b"\n")
    life.stdin.flush()
    while True:
        message = msgspec.json.decode(life.stdout.readline(), type=Told | Kept | Broke | Ended)
        match message:
            case Ended():
                return message
            case Broke(traceback=traceback):
                raise AssertionError(f"{doom} ended by an exception:\n{traceback}")
            case _:
                seen.hear(message)


def check_frames(site: Site, enrolled: Enrolled, seen: Seen) -> int:
    """Open all that the collector has: 2, 3 and 4; return the number of events."""
    guard_keys = Keys(site.guard.folder / "keys.sqlite")
    names: set[str] = set()
    batch_numbers: Counter[int] = Counter()
    event_numbers: Counter[tuple[Category, int]] = Counter()
    for path in site.premises.objects.glob("??/*"):
        frame = path.read_bytes()
        parts, core = split(frame), verify(frame, enrolled.org.device.public_key()).core
        assert core.category is Category.KEYS
        unsigned = join_unsigned(parts.core, parts.shelf, parts.body)
        names |= {path.name, hashlib.sha256(unsigned).hexdigest()}
        batch_numbers[parts.sequence] += 1
        for event in events_of(frame, guard_keys, enrolled):
            event_numbers[category_of(event), event.sequence] += 1
    guard_keys.close()
    assert seen.keys <= names
    assert set(batch_numbers.values()) == {1}
    assert set(event_numbers.values()) == {1}
    spool = opened_spool(seen.folder)
    assert {sent.hash.hex() for sent in spool.sent()} <= names
    return len(event_numbers)


def opened_spool(folder: Path) -> Spool:
    state = folder / "state"
    device, now = load_device(state), SystemClock().now()
    return Spool(state / "spool", device.key, Numbers(state), now)


def events_of(frame: bytes, guard_keys: Keys, enrolled: Enrolled) -> tuple[Event, ...]:
    """Open a frame with the guard's key and the data subject's own."""
    parts = split(frame)
    core: Core = decode_core(parts.core)
    match guard_keys.find(core.subject, core.category, core.day[:7]):
        case Found(seed=seed):
            digest = core_hash(parts.core)
            header = unshelve(parts.shelf, seed, digest)
            identity = enrolled.org.subject_identity
            return decode_batch(open_body(header, parts.body, identity, digest)).events
        case missing:
            raise AssertionError(missing)


def check_workstation(folder: Path) -> None:
    """Nothing lies around on the device: 4 and 5."""
    left = {str(path.relative_to(folder / "state")) for path in files_below(folder / "state")}
    text = policy_digest((folder / "state/tuf/policy.json").read_bytes()).hex()
    receipts = {name for name in left if re.fullmatch(r"receipts/[\w-]+\.(json|pem)", name)}
    requests = {name for name in left if name.startswith("erasures/")}  # the person's proofs
    heads = {name for name in left if re.fullmatch(r"log-[0-9a-f]{8}\.json", name)}
    assert requests
    assert len(heads) == 1
    left -= receipts | requests | heads
    assert left - {"consent.torn", SPARE_ROOM, f"policy-{text}.json"} == {
        *("agent.lock", "clock.json", "consent.jsonl", "guard-keys.json", "numbers.json"),
        *(KEY, CERTIFICATE, ENROLMENT, "tuf/trusted-root.json", IN_FORCE),
        *(f"tuf/{role}.json" for role in ("timestamp", "snapshot", "targets", "policy")),
        "tuf/root_history/1.root.json",
        "spool/sent.jsonl",
    }


def files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
