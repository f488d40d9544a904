"""Many stories, each in a folder of its own: all are told, whatever one of them shows."""

import shutil
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from tests.fakes.disk import CrashError

SHOWN: Final = 10  # of those that failed; a defect that many stories meet would fill the screen


def tell_each(folder: Path, stories: Iterable[tuple[str, Callable[[Path], None]]]) -> int:
    """Tell *stories*, each with what breaks in it; return how many there were.

    The full form takes hours: one that ended at its first finding would have to be run as often
    as there are findings.  The folders of those that end well are removed.

    Raises:
        AssertionError: Some did not end well; which, and how.

    """
    number, failed = 0, list[str]()
    for number, (breaks, tell) in enumerate(stories, 1):
        told = folder / str(number)
        try:
            tell(told)
        except (Exception, CrashError):  # noqa: BLE001 - every one is told of below
            failed.append(f"{breaks}\n{traceback.format_exc()}")
        else:
            shutil.rmtree(told, ignore_errors=True)
    assert not failed, f"{len(failed)} of {number} stories: " + "\n".join(failed[:SHOWN])
    return number
