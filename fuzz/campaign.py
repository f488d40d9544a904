"""What every fuzzer here does: seeds are spoilt, decoders tried, and what comes out is counted.

A campaign is a function of a count and a seed that returns a `Tally`; `spread` divides one
over all processors.  A `Target` that names what may come out gives one with `attack`.
"""

import contextlib
import logging
import multiprocessing
import os
import random
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from fuzz.mutation import mutate

MOST_FINDINGS: Final = 50  # kept with their bytes; one mistake is usually found thousands of times
SMALLEST_SHARE: Final = 500  # below this, another process costs more than it helps
SHARES_EACH: Final = 4  # of a processor, so that none waits long for the other at the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A decoder, bytes that it takes, and the errors with which it may refuse others."""

    name: str
    decode: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    refuses: tuple[type[Exception], ...]
    spoil: Callable[[bytes, random.Random], bytes] = mutate


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came out that may not."""

    target: str
    data: bytes
    trace: str


@dataclass(kw_only=True)
class Tally:
    """How often each target was tried and refused, and what else came out."""

    tried: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    crashes: int = 0
    accepted: int = 0  # counted where nothing may be accepted
    findings: list[Finding] = field(default_factory=list)

    def attempt(self, target: "Target", data: bytes) -> bool:
        """Give *data* to *target*; return whether it was taken, and count what came out instead."""
        self.tried[target.name] += 1
        try:
            target.decode(data)
        except target.refuses:
            self.refused[target.name] += 1
        except Exception:  # noqa: BLE001 - this is what we look for
            self.crashes += 1
            self._find(target.name, data, traceback.format_exc())
        else:
            return True
        return False

    def must_refuse(self, target: "Target", data: bytes) -> None:
        """Give *data* to *target*, which may not take it."""
        if self.attempt(target, data):
            self.accepted += 1
            self._find(target.name, data, "accepted, but these bytes are not genuine\n")

    def add(self, other: "Tally") -> None:
        """Take in what another share saw."""
        self.tried += other.tried
        self.refused += other.refused
        self.crashes += other.crashes
        self.accepted += other.accepted
        self.findings = (self.findings + other.findings)[:MOST_FINDINGS]

    def lines(self) -> list[str]:
        """Return the report: each finding, then one line a target."""
        found = [f"{f.target}: {f.data[:600]!r}\n{f.trace}" for f in self.findings]
        return [
            *found,
            *(
                f"{name}: {n} tried, {self.refused[name]} refused"
                for name, n in sorted(self.tried.items())
            ),
        ]

    def _find(self, target: str, data: bytes, trace: str) -> None:
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(target=target, data=data, trace=trace))


Campaign: TypeAlias = Callable[[int, int], Tally]


def attack(targets: tuple[Target, ...], count: int, seed: int) -> Tally:
    """Try *count* inputs, in turn for each target; only what a target names may come out."""
    chance, tally = randomness(seed), Tally()
    with silence():
        for number in range(count):
            target = targets[number % len(targets)]
            tally.attempt(target, target.spoil(chance.choice(target.seeds), chance))
    return tally


def randomness(seed: int) -> random.Random:
    """Return where everything is drawn from: to be repeated, not to be secret."""
    return random.Random(seed)  # noqa: S311


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder for one campaign, in memory where it can be: disks are not what is tried."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder made in it is ours alone
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep the log quiet meanwhile: what is refused is often logged, a line each."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


def spread(campaign: Campaign, count: int, seed: int) -> Tally:
    """Run *count* inputs of *campaign* on all processors; return what they saw together."""
    processors = len(os.sched_getaffinity(0))
    shares = min(processors * SHARES_EACH, count // SMALLEST_SHARE)
    if shares < 2 or processors < 2:
        return campaign(count, seed)
    counts = [count // shares + (number < count % shares) for number in range(shares)]
    seeds = [seed * 1_000 + number for number in range(shares)]
    total = Tally()
    # spawn: a fork would carry over the threads and the audit hooks of a test run
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processors, mp_context=context) as pool:
        for tally in pool.map(campaign, counts, seeds):
            total.add(tally)
    return total
