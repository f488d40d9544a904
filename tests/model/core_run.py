"""Runs machines of `core_machine` in chunks, each from a seed of its own, on all cores.

A chunk is one run of hypothesis: that many machines, and the shortest story of the first one that
fails.  `python -m tests.model.core_run STEPS SEED` does the same by hand, says how far it is, and
does not end with the first story.
"""

import atexit
import gc
import logging
import multiprocessing
import os
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.core_machine import CoreMachine
from tests.model.core_station import MEMORY, Grounds
from tests.model.core_truth import Tally

STEPS: Final = 50  # of one machine
LEAST: Final = 600  # steps of a chunk; some of its machines end early
MACHINES: Final = 20  # of one chunk: hypothesis remembers each, and so slows down


def run(
    tally: Tally,
    *,
    steps: int,
    seed: int,
    said: Callable[[Tally], None] = lambda _tally: None,
    found: Callable[[AssertionError], None] | None = None,
) -> None:
    """Let machines make so many *steps*, and add what they came to; more than a chunk on all cores.

    What a failing chunk came to does not count.

    Raises:
        AssertionError: One of them failed; says how.  Not if *found* takes it, and all goes on.

    """
    if steps <= STEPS * MACHINES:
        chunk(tally, machines=-(-steps // STEPS), seed=seed)
        return
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(_in_a_process, seed + n) for n in range(2 * cores)}
        next_seed = seed + len(waiting)
        while waiting:
            done = next(as_completed(waiting))
            waiting.remove(done)
            try:
                tally.add(done.result())
            except AssertionError as exc:
                if found is None:
                    raise
                found(exc)
            said(tally)
            if tally.steps + len(waiting) * LEAST < steps:
                waiting.add(pool.submit(_in_a_process, next_seed))
                next_seed += 1


def _in_a_process(seed: int) -> Tally:
    tally = Tally()
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)  # hypothesis keeps all until the end of the chunk
    try:
        chunk(tally, machines=MACHINES, seed=seed)
    except BaseException as exc:  # noqa: BLE001 - whatever it was is said
        # Another process cannot be shown the exception itself: it has parts of the agent.
        raise AssertionError(f"seed {seed}: {''.join(traceback.format_exception(exc))}") from None
    return tally


def chunk(
    tally: Tally, *, machines: int, seed: int, steps: int = STEPS, shrinks: bool = True
) -> None:
    """Let that many machines make *steps* each."""
    logging.disable(logging.CRITICAL)  # of thousands of agents
    phases = (Phase.generate, Phase.shrink) if shrinks else (Phase.generate,)
    how = settings(
        max_examples=machines,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    known = {"grounds": _grounds(), "tally": tally}
    machine = type("CoreMachine", (CoreMachine,), known)
    machine._hypothesis_internal_use_seed = seed  # type: ignore[attr-defined]  # noqa: SLF001 - as hypothesis.seed does for functions
    try:
        with warnings.catch_warnings():
            # What a killed process had open the kernel closes; here it is left for the collector.
            warnings.simplefilter("ignore", ResourceWarning)
            try:
                run_state_machine_as_test(machine, settings=how)
            finally:
                gc.collect()
    finally:
        logging.disable(logging.NOTSET)


@cache
def _grounds() -> Grounds:
    """Return what every machine of this process begins with; it is only copied."""
    folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
    atexit.register(shutil.rmtree, folder)
    return Grounds.made(folder / "grounds")


def _main(steps: str, seed: str) -> int:
    finds: list[AssertionError] = []

    def found(story: AssertionError) -> None:
        finds.append(story)
        sys.stdout.write(f"{story}\n")

    def said(tally: Tally) -> None:
        sys.stdout.write(f"{tally.words()}\n")
        sys.stdout.flush()

    run(Tally(), steps=int(steps), seed=int(seed), said=said, found=found)
    sys.stdout.write(f"{len(finds)} chunks failed\n")
    return min(len(finds), 1)


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
