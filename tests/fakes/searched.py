"""A search for a text that must be nowhere: first it has to find what is planted for it."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from demo.search import Hit, Searcher, plant_controls


def found(secret: str, folders: Sequence[Path], *, but: Sequence[Path] = ()) -> list[Hit]:
    """Return where *secret* is in these folders, in any disguise, except in the files *but*.

    Controls are planted in each folder before and removed after: a search that would not
    have found them proves nothing.
    """
    searcher = Searcher(secret)
    for folder in folders:
        planted = folder / "planted"
        expected = plant_controls(secret, planted)
        seen = {hit.disguise for hit in searcher.in_folders([planted])}
        shutil.rmtree(planted)
        assert expected <= seen, folder
    known = {str(path) for path in but}
    return [hit for hit in searcher.in_folders(folders) if hit.where not in known]
