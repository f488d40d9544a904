"""Guard and collector are killed at random moments while a reader has batches released.

Whatever is lost is an answer, and asking again gets it: each batch is released in the end,
under one leaf of the log however often it was asked for, and the witness never forgot what it
had cosigned.
"""

import random
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from demo.organisation import Organisation, Plan
from demo.programs import Program
from tests.conftest import Size
from tests.fakes.conspiracy import paths
from tests.fakes.death import cores_in, deaths, fuse
from tests.fakes.planted import planted_in
from tests.faults.test_agent_kill import Seen, live, living
from wire.leaf import Kind

FETCH_SECONDS = (0.4, 1.6)  # after its beginning; a fetch takes about a second
BATCHES = 4
MOST_LIVES = 20
ANY_CODE = tuple(range(256))


@pytest.fixture
def organisation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Organisation]:
    folder = tmp_path_factory.mktemp("release")  # short: a socket's path has at most 107 bytes
    with Organisation(folder, Plan(hold_seconds=1)) as made:
        yield made


@pytest.mark.slow
@pytest.mark.soak
def test_whatever_dies_during_a_release_each_batch_is_released_under_one_leaf(
    organisation: Organisation,
    dice: random.Random,
    size: Size,
    figure: Callable[[str], None],
    tmp_path: Path,
) -> None:
    """See the module; between two attempts the reader loses some of what was released to it."""
    fill(organisation, dice)
    grant = organisation.access_grant("keys", "pointer")
    releases = organisation.reader.home / "state/releases"
    witnessed = [0]
    ways = deaths(size(share=3, full=60), size(share=1, full=10), dice)
    for how in ways:
        victim = dice.choice((organisation.guard, organisation.collector))
        for release in sorted(releases.glob("*")):
            if dice.random() < 0.5:
                release.unlink()
        seconds = dice.uniform(*FETCH_SECONDS)
        with fuse(victim.pid, how, seconds):
            organisation.reader.run("fetch", "--grant", grant, accept=ANY_CODE)
        assert victim.stop() == -how
        sys.stdout.write(f"{victim.module}: {how.name} after {seconds:.3f} s\n")
        witnessed.append(cosigned(organisation.guard))
        serve(victim)
    organisation.reader.run("fetch", "--grant", grant)
    organisation.reader.run("verify")
    witnessed.append(cosigned(organisation.guard))
    stored = {path.name for path in objects(organisation.collector)}
    assert {path.stem for path in releases.iterdir()} == stored
    assert witnessed == sorted(witnessed)
    assert witnessed[-1] > 0
    assert release_leaves(organisation.collector) == len(stored) >= BATCHES
    assert cores_in(organisation.guard.home) == [], "the guard's keys must be in no core file"
    figure(f"{len(ways)} deaths; {len(stored)} batches released, under one leaf each")


def fill(organisation: Organisation, dice: random.Random) -> None:
    """Have an agent send some batches; how many a life sends, and takes back, is chance."""
    agent = Program("agent", organisation.folder / "workstation")
    enrolment, rights = organisation.enrolment_file("release"), organisation.folder / "rights"
    agent.run("enroll", enrolment, "--rights-key", rights)
    seen = Seen(folder=agent.home, dice=dice)
    with living(agent.home) as life:
        for _ in range(MOST_LIVES):
            assert live(life, seen.doom(0, 0), seen).exit_code == 0
            if len(list(objects(organisation.collector))) >= BATCHES:
                return
    raise AssertionError(f"{MOST_LIVES} lives did not leave {BATCHES} batches")


def serve(program: Program) -> None:
    port_file = program.home / "port"
    port_file.unlink(missing_ok=True)
    program.serve("serve", "--port-file", port_file)
    program.wait_until("open port", port_file.exists)


def objects(collector: Program) -> Iterator[Path]:
    state = paths(collector).state
    planted = planted_in(state)
    return (path for path in state.glob("objects/??/*") if path.name not in planted)


def cosigned(guard: Program) -> int:
    """Return how much of the log the witness says that it has cosigned."""
    with closing(sqlite3.connect(paths(guard).state / "witness.sqlite")) as memory:
        row = memory.execute("SELECT max(size) FROM seen").fetchone()
    return int(row[0] or 0)


def release_leaves(collector: Program) -> int:
    with closing(sqlite3.connect(paths(collector).state / "index.sqlite")) as index:
        asked = "SELECT count(*) FROM leaves WHERE kind = ?"
        return int(index.execute(asked, (Kind.RELEASE,)).fetchone()[0])
