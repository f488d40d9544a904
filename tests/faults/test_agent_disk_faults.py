"""Every system call with which the agent changes its disk, broken in every way.

One story of the real command line and the real service (`tests.fakes.story`) makes every write
that the source has: the first test says so, and fails for a new write that the story does not
make.  Then the story is told once for each call and each fault; a person says again what was
refused and starts again what ended, and after each end of a process and at the story's own end
`tests.fakes.books` compares everything on the disk and at the collector with what was
acknowledged:

- a start captures no more than was agreed to; a restriction that failed stays shut;
- no batch that was kept is lost, or there twice; what had to go is gone, there too;
- no number of a batch or of an event is used twice; the ledger's chain holds;
- nothing is left lying about;
- whoever looks is told in one line what happened, and never sees a traceback.
"""

import ast
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from agent.spare_room import FILE_NAME as SPARE_ROOM
from tests.conftest import Size
from tests.fakes.disk_story import DiskStory as Story
from tests.fakes.disk_story import story_on
from tests.fakes.syscalls import Call, Fault, Site, changes_a_disk, fits, write_sites
from tests.fakes.told import tell_each

# What may fail without a word, by file and a part of the call, and why nobody misses it.
QUIET: Final = {
    ("agent/consent/seen.py", "self._disk.replace"): "an older reading of the clock will do",
    ("agent/consent/ledger.py", "self._mark.touch"): "what it marks is written down next",
    ("agent/consent/ledger.py", "self._mark.unlink"): "the next start asks for a click",
    ("agent/erasures.py", "path.rename"): "a request that cannot be read is put aside later",
    ("agent/spool.py", "FORGETTING"): "it is for a crash within what is done next",
    ("agent/spare_room.py", "secrets.token_bytes"): "the next removal makes it",
}
# What is no state of the agent: a file that somebody asked for, wherever they wanted it.
ELSEWHERE: Final = {
    "agent/get_back.py": "tests/unit/test_agent_get_back.py",
    "agent/bundle.py": "tests/unit/test_agent_cli.py breaks its disk",
    "agent/decisions.py": "tests/model/test_replay.py breaks its disk",
}
SAID: Final = ("Input/output error", "No space left on device", "could be reserved")


def told(folder: Path, at: int = -1, fault: Fault = Fault.FAILS) -> Story:
    """Return the story after it was told on a disk that breaks at call *at*."""
    with story_on(folder, at, fault) as story:
        story.tell()
    return story


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Return the story as it goes when nothing breaks."""
    return told(tmp_path_factory.mktemp("plain"))


def sites_of(call: Call) -> list[Site]:
    """Return the lines of the source that *call* came from: one, or two with a disk between."""
    return [site for site in write_sites() if site.has(call)]


def test_every_line_of_the_agent_that_writes_is_in_the_story(plain: Story) -> None:
    """A new write without its faults ends here, and so does one of a kind that nobody lists."""
    sites = [site for site in write_sites() if site.file not in ELSEWHERE]
    unseen = [str(site) for site in sites if not any(site.has(call) for call in plain.disk.calls)]
    assert unseen == []
    unlisted = {call.kind for call in plain.disk.calls if not any(s.has(call) for s in sites)}
    assert unlisted == set()


@pytest.mark.parametrize(
    "line",
    [
        "durable.append(path, b'')",
        "self._disk.remove(path)",
        "os.truncate(path, 3)",
        "os.open(path, flags)",
        "path.write_bytes(b'')",
        "self._path.with_suffix('.x').touch()",
        "temporary.replace(path)",
        "open(path, 'a')",
        "path.open('wb')",
        "shutil.move(a, b)",
        "tempfile.mkstemp()",
    ],
)
def test_a_way_to_write_is_seen_in_the_source(line: str) -> None:
    """Whichever of them somebody takes."""
    call = ast.parse(line, mode="eval").body
    assert isinstance(call, ast.Call)
    assert changes_a_disk(call)


@pytest.mark.parametrize("line", ["text.replace('a', 'b')", "structs.replace(a, b=1)", "f.open()"])
def test_what_only_looks_like_it_is_not_taken_for_a_write(line: str) -> None:
    """Or the list would say nothing."""
    call = ast.parse(line, mode="eval").body
    assert isinstance(call, ast.Call)
    assert not changes_a_disk(call)


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(0)
def test_the_story_ends_well_whatever_call_breaks(
    plain: Story, tmp_path: Path, size: Size, figure: Callable[[str], None]
) -> None:
    """A few lines of the source, once each, in the share; each call in each way at full size."""
    chosen = broken(plain.disk.calls)
    chosen = chosen[: size(share=14, full=len(chosen))]

    def story(at: int, fault: Fault) -> tuple[str, Callable[[Path], None]]:
        meant = plain.disk.calls[at]
        return (
            f"the disk: {fault} at call {at}, {meant}",
            lambda folder: check(told(folder, at, fault), meant, fault),
        )

    count = tell_each(tmp_path, (story(at, fault) for at, fault in chosen))
    figure(f"{count} stories with one broken call each, of {len(plain.disk.calls)} calls")


def broken(calls: list[Call]) -> list[tuple[int, Fault]]:
    """Return what to break: every line of the source once, then every line again, and so on."""
    by_line: dict[tuple[tuple[str, int], ...], list[tuple[int, Fault]]] = defaultdict(list)
    for at, call in enumerate(calls):
        by_line[call.lines] += [(at, f) for f in Fault if fits(call.name, f)]
    rows = list(by_line.values())
    for row in rows:
        random.Random(len(row)).shuffle(row)  # noqa: S311 - the same ones each time
    longest = max(map(len, rows))
    return [row[turn] for turn in range(longest) for row in rows if turn < len(row)]


def check(story: Story, meant: Call, fault: Fault) -> None:
    """Check that it broke there, and that somebody was told of what failed."""
    broke = story.disk.broke
    assert broke is not None, "the story did not come to this call"
    assert (broke.file, broke.name) == (meant.file, meant.name)
    sites = sites_of(broke)
    assert sites
    if fault in (Fault.SHORT, Fault.CRASH_WITHIN, Fault.CRASH_AFTER):
        return  # nothing failed, or nobody was left to say so
    if any(s.file == file and part in s.what for file, part in QUIET for s in sites):
        return
    if fault is Fault.PERSISTS_BUT_FAILS and meant.name == "mkdir":
        return  # the folder is there, and no more was wanted
    if story.disk.was_vain or (fault is Fault.FULL and gave_way(story)):
        return
    lines = [line for line in story.said if " INFO " not in line] + list(story.shown)
    assert any(word in line for line in lines for word in SAID), f"nobody says it: {lines}"


def gave_way(story: Story) -> bool:
    """Whether the spare room was given up for the write that broke, which then succeeded."""
    after = [(call.name, Path(call.path).name) for call in story.disk.next_calls(2)]
    return ("unlink", SPARE_ROOM) in after
