"""Numbers that never repeat."""

from pathlib import Path

import pytest

from agent.numbers import BLOCK, FILE_NAME, Numbers
from base.errors import SetupError
from tests.fakes.disk import BreakingDisk, CrashError, How
from wire.category import Category


def test_numbers_of_a_category_follow_each_other(tmp_path: Path) -> None:
    """Each category counts for itself."""
    numbers = Numbers(tmp_path)
    assert [numbers.event(Category.KEYS) for _ in range(3)] == [1, 2, 3]
    assert numbers.event(Category.SCREEN) == 1


def test_after_a_restart_no_number_comes_again(tmp_path: Path) -> None:
    """The rest of a block is skipped: a gap says no more than that."""
    first = Numbers(tmp_path)
    used = {first.event(Category.KEYS) for _ in range(BLOCK + 5)}
    second = Numbers(tmp_path)
    assert not used & {second.event(Category.KEYS) for _ in range(BLOCK + 5)}


@pytest.mark.parametrize("how", How)
@pytest.mark.parametrize("at", [1, 2, 3])
def test_whatever_happens_to_the_disk_no_number_comes_twice(
    tmp_path: Path, how: How, at: int
) -> None:
    """Reserved before handed out, in every way in which a write can break."""
    used: list[int] = []
    disk = BreakingDisk(at, how)
    try:
        numbers = Numbers(tmp_path, disk)
        for _ in range(3 * BLOCK):
            try:
                used.append(numbers.event(Category.KEYS))
            except OSError:
                continue
    except CrashError:
        pass
    assert disk.broke
    again = Numbers(tmp_path)
    used += [again.event(Category.KEYS) for _ in range(BLOCK)]
    assert len(set(used)) == len(used)


def test_a_batch_keeps_its_number_until_it_is_taken(tmp_path: Path) -> None:
    """Asking is not taking."""
    numbers = Numbers(tmp_path)
    assert numbers.next_batch() == numbers.next_batch() == 1
    numbers.batch_taken(1)
    numbers.batch_taken(1)
    assert Numbers(tmp_path).next_batch() == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"{",
        b'{"events":{},"batch":1,"more":1}',
        b'{"events":{},"batch":18446744073709551615}',  # the next one would fit in no frame
        b'{"events":{"keys":-5},"batch":1}',
    ],
)
def test_a_file_that_cannot_be_read_stops_the_agent(tmp_path: Path, content: bytes) -> None:
    """Starting over would repeat numbers; the message says what to do."""
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(SetupError, match="could repeat"):
        Numbers(tmp_path)
