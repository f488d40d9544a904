"""Coverage-guided fuzzing: atheris and libFuzzer look for bytes that reach new lines of `wire`.

    python -m fuzz.guided --seconds 120             every target, the time shared among them
    python -m fuzz.guided --seconds 120 frame.verify

Each target runs in a process of its own, as many at a time as there are processors.  Its
corpus lies below build/fuzz and grows from run to run; the first one is made of the target's
own seeds and of the frames in tests/vectors.  What crashed lies beside it as `crash-...`.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import atheris

# Only what is imported in here is measured; all of it has to be imported here first.
with atheris.instrument_imports(include=["wire", "cbor2"], enable_loader_override=False):
    from fuzz import fuzz_wire
    from wire import batch, frame, opening, parties, policy, shelf
    from wire.errors import WireError

from fuzz.campaign import Target, scratch
from tests.fakes.organisation import Organisation

ROOT: Final = Path(__file__).resolve().parents[1]
CORPORA: Final = ROOT / "build" / "fuzz"
VECTORS: Final = ROOT / "tests" / "vectors" / "frame"
LARGEST_INPUT_BYTES: Final = 64 << 10
MEMORY_MEGABYTES: Final = 2_048
LEAST_SECONDS: Final = 5  # below this libFuzzer has hardly read its corpus
ONE_INPUT_SECONDS: Final = 20
DIVIDER: Final = b"\0"  # stands in no JSON
WHOLE_WAY: Final = "whole-way"


def targets() -> dict[str, Target]:
    """Return every decoder of `wire` by name, the policy's, and a frame's whole way."""
    return {target.name: target for target in (*fuzz_wire.targets(), _whole_way(), _policy())}


def _whole_way() -> Target:
    """Return what opens a frame with the keys of the vectors, whoever signed it."""
    vectors = [json.loads(path.read_text("utf-8")) for path in sorted(VECTORS.glob("*.json"))]
    guard, reader = bytes.fromhex(vectors[0]["guard_seed"]), vectors[0]["reader"]

    def opened(data: bytes) -> object:
        parts = frame.split(data)
        frame.decode_core(parts.core)
        digest = frame.core_hash(parts.core)
        header = shelf.unshelve(parts.shelf, guard, digest)
        return batch.decode_batch(opening.open_body(header, parts.body, reader, digest))

    seeds = tuple(bytes.fromhex(vector["frame"]) for vector in vectors)
    return Target(name=WHOLE_WAY, decode=opened, seeds=seeds, refuses=(WireError,))


def _policy() -> Target:
    """Return what reads a root and a policy, whoever signed them."""
    with scratch() as folder:
        signed = Organisation().publish(folder / "policy")
        seed = signed.root + DIVIDER + signed.policy

    def read(data: bytes) -> None:
        root, _, document = data.partition(DIVIDER)
        parties.check_parties(root, policy.decode_policy(document))

    return Target(name="policy", decode=read, seeds=(seed,), refuses=(WireError,))


def main() -> int:
    """Fuzz every target, or the ones that are named; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fuzz.guided",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = targets()
    parser.add_argument("names", nargs="*", metavar="TARGET", help=f"of {', '.join(known)}")
    parser.add_argument("--seconds", type=int, default=120, help="how long all of it may take")
    parser.add_argument("--here", action="store_true", help="fuzz one target in this process")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in known]:
        parser.error(f"there is no target {unknown[0]}")
    names = given.names or list(known)
    if given.here:
        _fuzz_here(known[names[0]], given.seconds)
    processors = len(os.sched_getaffinity(0))
    each = max(LEAST_SECONDS, given.seconds * processors // len(names))
    with ThreadPoolExecutor(processors) as pool:
        ended = list(pool.map(lambda name: _fuzz_apart(name, each), names))
    return 0 if all(ended) else 1


def _fuzz_apart(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own; return whether nothing was found."""
    command = [sys.executable, "-m", "fuzz.guided", "--here", "--seconds", str(seconds), name]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    said = ended.stderr + ended.stdout
    # libFuzzer's last word: "#71234 DONE cov: 310 ft: 1200 corp: ..."
    done = re.findall(r"#(\d+)\s+DONE\s+cov: (\d+)", said)
    if ended.returncode == 0 and done:
        runs, edges = done[-1]
        sys.stdout.write(f"{name}: {int(runs):,} inputs, {edges} edges reached, nothing found\n")
    else:
        sys.stdout.write(f"{name}: FOUND SOMETHING (exit {ended.returncode})\n{said[-6000:]}\n")
    sys.stdout.flush()
    return ended.returncode == 0 and bool(done)


def _fuzz_here(target: Target, seconds: int) -> None:
    """Fuzz until the time is over; libFuzzer ends this process."""
    corpus = CORPORA / target.name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)

    def one_input(data: bytes) -> None:
        try:
            target.decode(data)
        except target.refuses:
            return

    options = {
        "max_total_time": seconds,
        "max_len": LARGEST_INPUT_BYTES,
        "rss_limit_mb": MEMORY_MEGABYTES,
        "timeout": ONE_INPUT_SECONDS,
        "artifact_prefix": f"{corpus}-",
    }
    arguments = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    raise SystemExit(main())
