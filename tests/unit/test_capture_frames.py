"""Frames: what they rebuild is what was seen, bit for bit, and no more than changed."""

import numpy as np
import numpy.typing as npt
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from agent.capture import frames
from agent.capture.frames import FrameEncoder, TooLargeError, changes
from agent.geometry import Box
from wire.event import Frame
from wire.ids import BootInstant

DESKTOP = Box(0, 0, 160, 120)
WINDOW = Box(20, 10, 100, 80)
SECOND = 1_000_000_000

Canvas = npt.NDArray[np.uint8]


def draw(canvas: Canvas | None, frame: Frame) -> Canvas:
    """Draw a frame as a reader does that knows only wire.event."""
    if frame.key:
        canvas = np.zeros((frame.height, frame.width, 3), np.uint8)
    assert canvas is not None
    for part in frame.rectangles:
        rows = np.frombuffer(zstd.decompress(part.pixels), np.uint8)
        x, y = part.x, part.y
        canvas[y : y + part.height, x : x + part.width] = rows.reshape(part.height, part.width, 3)
    return canvas


def picture(seed: int, box: Box = WINDOW) -> Canvas:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (box.height, box.width, 4), dtype=np.uint8)


def on_desktop(pixels: Canvas, box: Box = WINDOW) -> Canvas:
    canvas = np.zeros((DESKTOP.height, DESKTOP.width, 3), np.uint8)
    canvas[box.y : box.bottom, box.x : box.right] = pixels[:, :, :3]
    return canvas


def instant(seconds: float) -> BootInstant:
    return BootInstant(round(seconds * SECOND))


parts = st.tuples(st.integers(0, 99), st.integers(0, 79), st.integers(1, 60), st.integers(1, 40))


@given(st.lists(st.lists(parts, max_size=4), min_size=1, max_size=8), st.integers(0, 99))
def test_frames_rebuild_every_picture_losslessly(
    steps: list[list[tuple[int, int, int, int]]], seed: int
) -> None:
    """Whatever changes from one picture to the next, the reader sees each as it was."""
    encoder, canvas = FrameEncoder(), None
    pixels = picture(seed)
    for number, rectangles in enumerate(steps):
        for x, y, width, height in rectangles:
            pixels = pixels.copy()
            pixels[y : y + height, x : x + width] ^= number + 1
        frame = encoder.encode(instant(number), DESKTOP, WINDOW, pixels)
        if frame is not None:
            canvas = draw(canvas, frame)
        assert canvas is not None
        assert np.array_equal(canvas, on_desktop(pixels))


@given(st.lists(parts, max_size=6))
def test_every_changed_pixel_lies_in_a_rectangle(
    rectangles: list[tuple[int, int, int, int]],
) -> None:
    """`changes` may take in more than changed, never less."""
    before = np.zeros((80, 100), np.uint32)
    now = before.copy()
    for x, y, width, height in rectangles:
        now[y : y + height, x : x + width] += 1
    rest = now != before
    for box in changes(before, now):
        rest[box.y : box.bottom, box.x : box.right] = False
    assert not rest.any()


def test_an_unchanged_picture_is_no_frame() -> None:
    """Neither the same pixels nor another fourth byte, which has no meaning, make a frame."""
    encoder, pixels = FrameEncoder(), picture(1)
    assert encoder.encode(instant(0), DESKTOP, WINDOW, pixels) is not None
    assert encoder.encode(instant(1), DESKTOP, WINDOW, pixels.copy()) is None
    pixels = pixels.copy()
    pixels[:, :, 3] ^= 0xFF
    assert encoder.encode(instant(2), DESKTOP, WINDOW, pixels) is None


def test_two_far_changes_are_two_small_rectangles() -> None:
    """A clock and a cursor at two ends of a window do not cost the window between them."""
    encoder, pixels = FrameEncoder(), picture(1)
    encoder.encode(instant(0), DESKTOP, WINDOW, pixels)
    pixels = pixels.copy()
    pixels[2, 3] ^= 1
    pixels[70, 95] ^= 1
    frame = encoder.encode(instant(1), DESKTOP, WINDOW, pixels)
    assert frame is not None
    assert [(part.width, part.height) for part in frame.rectangles] == [(1, 1), (1, 1)]


@pytest.mark.parametrize(
    ("box", "desktop"),
    [(Box(21, 10, 100, 80), DESKTOP), (WINDOW, Box(0, 0, 200, 120)), (Box(0, 0, 9, 9), DESKTOP)],
)
def test_a_moved_window_or_another_desktop_begins_with_a_key_frame(box: Box, desktop: Box) -> None:
    """Geometry never changes within what is drawn on a key frame."""
    encoder = FrameEncoder()
    encoder.encode(instant(0), DESKTOP, WINDOW, picture(1))
    frame = encoder.encode(instant(1), desktop, box, picture(1, box))
    assert frame is not None
    assert frame.key


def test_key_frames_come_every_thirty_seconds_of_change() -> None:
    """No batch has to wait longer than this for a frame that it can begin with."""
    encoder, keys = FrameEncoder(), []
    for second in range(100):
        frame = encoder.encode(instant(second), DESKTOP, WINDOW, picture(second))
        assert frame is not None
        keys.append(frame.key)
    assert [second for second, key in enumerate(keys) if key] == [0, 30, 60, 90]


def test_a_key_frame_comes_when_changes_have_grown_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key frame and what is drawn on it fit into one batch."""
    monkeypatch.setattr(frames, "KEY_BYTES", 50_000)
    encoder, since_key = FrameEncoder(), 0
    for number in range(20):
        frame = encoder.encode(instant(number / 100), DESKTOP, WINDOW, picture(number))
        assert frame is not None
        size = sum(len(part.pixels) for part in frame.rectangles)
        since_key = size if frame.key else since_key + size
        assert since_key <= 50_000 + size


def test_after_a_lost_frame_comes_a_key_frame() -> None:
    """What was drawn on a frame that never arrived could not be rebuilt."""
    encoder = FrameEncoder()
    encoder.encode(instant(0), DESKTOP, WINDOW, picture(1))
    encoder.restart()
    frame = encoder.encode(instant(1), DESKTOP, WINDOW, picture(1))
    assert frame is not None
    assert frame.key


def test_a_frame_that_no_batch_could_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error for the caller to count, and the next frame stands by itself."""
    encoder = FrameEncoder()
    encoder.encode(instant(0), DESKTOP, WINDOW, picture(1))
    monkeypatch.setattr(frames, "LARGEST_BYTES", 1000)
    with pytest.raises(TooLargeError):
        encoder.encode(instant(1), DESKTOP, WINDOW, picture(2))
    monkeypatch.undo()
    frame = encoder.encode(instant(2), DESKTOP, WINDOW, picture(2))
    assert frame is not None
    assert frame.key
