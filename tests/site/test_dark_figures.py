"""The dark version of every plot is made by the style sheet's filter: colours keep their hue and enough contrast."""

import colorsys
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from affectcore.figures.style import GREY, PALETTE

CSS = Path(__file__).parents[2] / "book" / "_static" / "custom.css"
Colour = NDArray[np.float64]


def dark(colour: str) -> Colour:
    """A colour after the filters of the style sheet, as the W3C's Filter Effects module defines them (in sRGB)."""
    found = re.search(r"filter: invert\(([\d.]+)\) hue-rotate\((\d+)deg\)", CSS.read_text(encoding="utf-8"))
    assert found, f"{CSS.name} has no filter for the plots of dark mode"
    amount, angle = float(found[1]), np.deg2rad(float(found[2]))
    inverted = np.array(to_rgb(colour)) * (1 - 2 * amount) + amount
    luminance = np.array([0.213, 0.715, 0.072])
    along = np.tile(luminance, (3, 1))
    across = np.array([[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]])
    return np.clip((along + np.cos(angle) * (np.eye(3) - along) + np.sin(angle) * across) @ inverted, 0, 1)


def contrast(a: Colour, b: Colour) -> float:
    """Contrast of two colours after WCAG 2."""

    def luminance(c: Colour) -> float:
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_white_paper_becomes_dark_and_ink_light() -> None:
    assert contrast(dark("black"), dark("white")) > 12
    assert dark("white").max() < 0.1
    assert contrast(dark(GREY), dark("white")) >= 4.5


@pytest.mark.parametrize("colour", PALETTE[:-1])  # the last is black, which has no hue
def test_colours_of_the_palette_stay_visible_and_keep_their_hue(colour: str) -> None:
    assert contrast(dark(colour), dark("white")) >= 3
    apart = abs(colorsys.rgb_to_hsv(*dark(colour))[0] - colorsys.rgb_to_hsv(*to_rgb(colour))[0])
    assert min(apart, 1 - apart) < 0.05  # of the circle
