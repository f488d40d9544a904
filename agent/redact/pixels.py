"""Pixels: everything outside the permitted window is black before anything else sees it.

`permitted_view` decides on geometry alone what may be seen: the focused window of a
permitted application, less what windows of others cover of it.  `blank` makes it so.
Anything unknown counts as another's.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agent.geometry import Box
from wire.policy import Application

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""Height x width x channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What may be seen of the desktop: `box`, less the parts of it that `covered` holds."""

    box: Box
    covered: tuple[Box, ...]


def permitted_view(
    *,
    desktop: Box,
    focused: tuple[Application | None, Box] | None,
    above: Sequence[tuple[Application | None, Box]],
    permitted: Collection[Application],
) -> View | None:
    """Return what may be seen, None if that is nothing.

    Args:
        desktop: The bounds of the whole desktop.
        focused: Whose window has the focus, and where it is.
        above: Whose windows lie above that window, and where.
        permitted: Whose windows may be seen.

    """
    if focused is None:
        return None
    application, bounds = focused
    box = bounds.intersection(desktop)
    if application not in permitted or box.empty:
        return None
    covered = tuple(
        part
        for owner, place in above
        if owner not in permitted and not (part := place.intersection(box)).empty
    )
    if any(part == box for part in covered):
        return None
    return View(box=box, covered=covered)


def blank(pixels: Pixels, view: View) -> Pixels:
    """Return the picture of `view.box` with all that is covered black.

    Args:
        pixels: Height x width x channels, exactly what lies in `view.box`.
        view: What may be seen.

    """
    if pixels.shape[:2] != (view.box.height, view.box.width):
        raise ValueError(f"a picture of {pixels.shape} is not one of {view.box}")
    seen = pixels.copy() if view.covered else pixels
    for part in view.covered:
        x, y, width, height = part.seen_from(view.box)
        seen[y : y + height, x : x + width] = 0
    return seen
