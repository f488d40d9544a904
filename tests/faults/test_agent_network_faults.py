"""Every request of the agent, broken in every way; collector and guard are the real ones.

One story of the real command line and service (`tests.fakes.story`) makes every request that
`agent.transport` knows: the first test says so, and fails for a new one that the story does not
make.  Then the story is told once for each of them and each way in which it can break, and at
its end `tests.fakes.books` compares: each batch is at the collector exactly once or was to go,
what was to be deleted is deleted there, what the device notes as sent is what the collector has.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import Size
from tests.fakes.network import Asked, Break, path_of
from tests.fakes.network_story import NetworkStory, hasty_site, network_story_on
from tests.fakes.site import Site
from tests.fakes.told import tell_each

TRANSPORT: Final = Path(__file__).resolve().parents[2] / "agent" / "transport.py"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a collector and a guard that all stories share, each with a device of its own."""
    with hasty_site(tmp_path_factory.mktemp("organisation") / "site") as site:
        yield site


def told(folder: Path, site: Site, at: int = -1, how: Break = Break.REFUSED) -> NetworkStory:
    """Return the story after it was told on a network that breaks at request *at*."""
    with network_story_on(folder, site, at, how) as story:
        try:
            story.tell()
        finally:
            site.publishes()
    return story


@pytest.fixture(scope="module")
def plain(site: Site, tmp_path_factory: pytest.TempPathFactory) -> NetworkStory:
    """Return the story as it goes when nothing breaks."""
    return told(tmp_path_factory.mktemp("plain"), site)


def test_every_request_that_the_door_knows_is_in_the_story(plain: NetworkStory) -> None:
    """A new one without its faults ends here."""
    known = re.findall(r'"([A-Z]+)", f?"(/v1/[^"]*)"', TRANSPORT.read_text("utf-8"))
    paths = re.findall(r'"(/v1/[^"]*)"', TRANSPORT.read_text("utf-8"))
    of_commands = {"/v1/me"}  # asked by `assent-agent rights` alone, and by no running agent
    known_paths = {path_of(path) for path in paths} - of_commands
    assert known_paths == {asked.path for asked in plain.network.asked}
    running = {Asked(method, path_of(path)) for method, path in known}
    assert {each for each in running if each.path not in of_commands} <= set(plain.network.asked)


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(0)
def test_the_story_ends_well_whatever_request_breaks(
    plain: NetworkStory, site: Site, tmp_path: Path, size: Size, figure: Callable[[str], None]
) -> None:
    """Each request in two ways in the share; each in every way at full size."""
    chosen = broken(plain.network.asked)
    chosen = chosen[: size(share=2 * len(set(plain.network.asked)), full=len(chosen))]

    def story(at: int, how: Break) -> tuple[str, Callable[[Path], None]]:
        meant = plain.network.asked[at]
        return (
            f"the network: {how} at request {at}, {meant}",
            lambda folder: check(told(folder, site, at, how), meant, how),
        )

    count = tell_each(tmp_path, (story(at, how) for at, how in chosen))
    figure(f"{count} stories with one broken request each")


def broken(asked: list[Asked]) -> list[tuple[int, Break]]:
    """Return what to break: every request once, in another way each, and so on."""
    ways, requests = list(Break), list(dict.fromkeys(asked))
    return [
        (asked.index(request), ways[(turn + 4 * number) % len(ways)])
        for turn in range(len(ways))
        for number, request in enumerate(requests)
    ]


def check(story: NetworkStory, meant: Asked, how: Break) -> None:
    """Check that it broke there, and that somebody was told."""
    assert story.network.broke == meant
    if how is Break.CRASH_AFTER:
        return
    said = [line for line in story.said if " INFO " not in line] + list(story.shown)
    words = ("127.0.0.1", "the collector answered")
    assert any(word in line for line in said for word in words), f"nobody says it: {said}"
