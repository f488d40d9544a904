"""Blanking: no pixel that is not permitted survives, and every permitted one does."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.geometry import Box
from agent.redact.pixels import View, blank, permitted_view
from wire.policy import Application

DESKTOP = Box(0, 0, 64, 48)
EDITOR = Application(process="editor", window_class="Editor")
MAIL = Application(process="mail", window_class="Mail")
PERMITTED = frozenset({EDITOR, Application(process="sheet", window_class="Sheet")})

# Windows may lie anywhere, also partly or wholly off the desktop.
boxes = st.builds(
    Box, st.integers(-30, 70), st.integers(-30, 60), st.integers(1, 80), st.integers(1, 60)
)
owners = st.sampled_from([None, MAIL, EDITOR, *PERMITTED])
windows = st.lists(st.tuples(owners, boxes), max_size=8)

Mask = npt.NDArray[np.bool_]


def mask(box: Box) -> Mask:
    """Return which pixels of the desktop lie in *box*, pixel by pixel."""
    rows = np.arange(DESKTOP.height)[:, None]
    columns = np.arange(DESKTOP.width)[None, :]
    inside: Mask = (
        (rows >= box.y) & (rows < box.y + box.height)
        & (columns >= box.x) & (columns < box.x + box.width)
    )  # fmt: skip
    return inside


@example(
    owner=EDITOR,
    focused=Box(0, 0, 4, 4),
    above=[(MAIL, Box(1, 1, 2, 2))],
)
@given(owners, boxes, windows)
def test_no_pixel_survives_that_is_not_permitted(
    owner: Application | None, focused: Box, above: list[tuple[Application | None, Box]]
) -> None:
    """The kept picture is the focused window less all that others' windows cover, exactly."""
    # Every pixel of the desktop has a value of its own, and none is black.
    desktop = np.arange(1, DESKTOP.width * DESKTOP.height + 1, dtype=np.uint32)
    screen = desktop.view(np.uint8).reshape(DESKTOP.height, DESKTOP.width, 4)
    may_be_seen = mask(focused) if owner in PERMITTED else np.zeros_like(mask(focused))
    for other, box in above:
        if other not in PERMITTED:
            may_be_seen &= ~mask(box)

    view = permitted_view(
        desktop=DESKTOP, focused=(owner, focused), above=above, permitted=PERMITTED
    )
    kept = np.zeros_like(screen)
    if view is not None:
        box = view.box
        grabbed = screen[box.y : box.bottom, box.x : box.right]
        kept[box.y : box.bottom, box.x : box.right] = blank(grabbed, view)

    assert np.array_equal(kept, np.where(may_be_seen[:, :, None], screen, 0))


@given(windows)
def test_without_a_focused_window_nothing_is_seen(
    above: list[tuple[Application | None, Box]],
) -> None:
    """Unknown focus is no focus."""
    view = permitted_view(desktop=DESKTOP, focused=None, above=above, permitted=PERMITTED)
    assert view is None


def test_nothing_is_permitted_by_default() -> None:
    """An empty list permits nobody, an unnamed application is on no list."""
    window = Box(1, 1, 9, 9)
    for owner in (EDITOR, None):
        view = permitted_view(desktop=DESKTOP, focused=(owner, window), above=(), permitted=())
        assert view is None


@pytest.mark.parametrize(
    "almost",
    [
        Application(process="editor", window_class="editor"),
        Application(process="Editor", window_class="Editor"),
        Application(process="editor2", window_class="Editor"),
        Application(process="", window_class="Editor"),
    ],
)
def test_an_application_is_named_by_process_and_class_exactly(almost: Application) -> None:
    """Neither case, nor a prefix, nor one of the two is enough."""
    focused = (almost, Box(1, 1, 9, 9))
    view = permitted_view(desktop=DESKTOP, focused=focused, above=(), permitted=PERMITTED)
    assert view is None


def test_a_covered_window_is_no_view_at_all() -> None:
    """Nothing is grabbed where everything would be blanked."""
    window = Box(5, 5, 20, 20)
    above = [(MAIL, Box(0, 0, 64, 48))]
    view = permitted_view(
        desktop=DESKTOP, focused=(EDITOR, window), above=above, permitted=PERMITTED
    )
    assert view is None


def test_a_picture_of_another_size_is_an_error() -> None:
    """Blanking by coordinates that do not fit would leave the wrong pixels."""
    view = View(box=Box(0, 0, 10, 10), covered=())
    with pytest.raises(ValueError, match="picture"):
        blank(np.zeros((9, 10, 4), np.uint8), view)


def test_the_grabbed_picture_itself_is_left_alone() -> None:
    """Blanking makes a new picture; comparing before and after stays possible."""
    grabbed = np.full((10, 10, 4), 9, np.uint8)
    blank(grabbed, View(box=Box(0, 0, 10, 10), covered=(Box(2, 2, 3, 3),)))
    assert (grabbed == 9).all()
