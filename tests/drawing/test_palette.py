from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.drawing.palette import (
    BINS,
    CLASSES,
    MISSING,
    READABLE,
    Rgb,
    Scale,
    ScaleName,
    Theme,
    class_colour,
    colour,
    ink_on,
    lightness,
    luminance,
    scale_of,
    steps,
)

NAMES: list[ScaleName] = ["diverging", "sequential"]
THEMES: list[Theme] = ["light", "dark"]
# how a dichromat sees linear light (Machado, Oliveira, Fernandes 2009, severity 1)
BLINDNESS = {
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.3039],
    ],
}


def seen(rgb: Rgb, matrix: list[list[float]]) -> np.ndarray:
    encoded = np.array(rgb) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    back = (np.array(matrix) @ linear).clip(0, 1)
    return np.where(back <= 0.0031308, back * 12.92, 1.055 * back ** (1 / 2.4) - 0.055) * 255


def oklab(rgb: np.ndarray) -> np.ndarray:
    from cutaway.drawing.palette import _to_oklab

    return _to_oklab(tuple(rgb))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("theme", THEMES)
def test_equal_steps_of_the_value_look_equal(name: ScaleName, theme: Theme) -> None:
    colours = [oklab(np.array(rgb)) for rgb in steps(name, theme)]
    widths = [float(np.linalg.norm(a - b)) for a, b in itertools.pairwise(colours)]
    assert len(colours) == BINS
    assert max(widths) < 1.35 * min(widths)


@pytest.mark.parametrize("theme", THEMES)
def test_lightness_alone_tells_how_much(theme: Theme) -> None:
    """So a print without colours can be read."""
    sequential = [lightness(rgb) for rgb in steps("sequential", theme)]
    assert sequential == sorted(sequential, reverse=theme == "light")
    halves = [lightness(rgb) for rgb in steps("diverging", theme)]
    outwards = (halves[BINS // 2 :], halves[: BINS // 2 + 1][::-1])
    assert all(half == sorted(half, reverse=theme == "light") for half in outwards)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("kind", list(BLINDNESS))
def test_the_signs_are_told_apart_by_the_colour_blind(theme: Theme, kind: str) -> None:
    colours = steps("diverging", theme)
    for step in range(6, BINS // 2 + 1):
        low, high = (seen(colours[BINS // 2 + side * step], BLINDNESS[kind]) for side in (-1, 1))
        assert np.linalg.norm(oklab(low) - oklab(high)) > 0.06


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", NAMES)
def test_words_on_every_colour_can_be_read(name: ScaleName, theme: Theme) -> None:
    for ground in (*steps(name, theme), *CLASSES[theme], MISSING[theme]):
        light, dark = sorted((luminance(ground), luminance(ink_on(ground))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= READABLE


def test_values_of_both_signs_are_centred_on_zero() -> None:
    scale = scale_of(np.array([-1.0, 3.0, np.nan]))
    assert scale == Scale("diverging", -3.0, 3.0)
    assert scale.bin(0.0) == BINS // 2
    assert scale.bin(3.0) == BINS - 1
    assert scale.bin(-99.0) == 0
    assert scale.bin(math.nan) is None


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0.1, 0.9], Scale("sequential", 0.0, 0.9)),
        ([100.0, 101.0], Scale("sequential", 100.0, 101.0)),
        ([-5.0, -1.0], Scale("sequential", -5.0, -1.0)),
        ([0.0, 0.0], Scale("sequential", 0.0, 0.0)),
        ([2.0], Scale("sequential", 0.0, 2.0)),
        ([-2.0], Scale("sequential", -2.0, 0.0)),
        ([], Scale("sequential", 0.0, 0.0)),
        ([np.nan, np.inf], Scale("sequential", 0.0, 0.0)),
        ([np.inf, 1.0, -1.0], Scale("diverging", -1.0, 1.0)),
    ],
)
def test_other_values_get_one_scale(values: list[float], scale: Scale) -> None:
    assert scale_of(np.array(values)) == scale


def test_a_scale_can_be_chosen() -> None:
    assert scale_of(np.array([1.0, 2.0]), "diverging") == Scale("diverging", -2.0, 2.0)
    assert scale_of(np.array([-1.0, 2.0]), "sequential") == Scale("sequential", -1.0, 2.0)


@given(st.lists(st.floats(), min_size=1, max_size=5), st.floats())
def test_every_value_has_a_colour(values: list[float], value: float) -> None:
    scale = scale_of(np.array(values))
    assert all(0 <= part <= 255 for part in colour(scale, value))
    assert 0 <= scale.place(0.0 if math.isnan(value) else value) <= 1


def test_classes_are_all_different_and_repeat_after_eight() -> None:
    for theme in THEMES:
        assert len(set(CLASSES[theme])) == 8
        assert class_colour(9, theme) == class_colour(1, theme)
