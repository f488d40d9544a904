"""The icons differ without their colours, at the sizes that panels use."""

from itertools import combinations

import pytest
from PIL import Image, ImageChops, ImageStat

from tray.drawing import draw
from tray.view import Mark

PANEL_SIZES = (22, 24, 32, 48)


def shape(mark: Mark, size: int) -> Image.Image:
    """Return what somebody who sees no colours sees of the icon."""
    return draw(mark).resize((size, size), Image.Resampling.BILINEAR).getchannel("A")


@pytest.mark.parametrize("size", PANEL_SIZES)
def test_any_two_icons_differ_in_their_shape(size: int) -> None:
    """At least a fourteenth of the area differs, even between a ring and a ring with a dot."""
    for one, other in combinations(Mark, 2):
        difference = ImageChops.difference(shape(one, size), shape(other, size))
        assert ImageStat.Stat(difference).mean[0] > 255 / 14, (one, other)


@pytest.mark.parametrize("mark", list(Mark))
def test_an_icon_is_seen_on_light_and_dark_panels(mark: Mark) -> None:
    """It has opaque parts, and stands apart from both grounds."""
    picture = draw(mark, 22)
    for ground in ((246, 245, 244), (45, 45, 45)):
        panel = Image.new("RGB", picture.size, ground)
        shown = panel.copy()
        shown.paste(picture, mask=picture)
        contrast = ImageStat.Stat(ImageChops.difference(panel, shown).convert("L")).extrema[0][1]
        assert contrast > 60
