"""Which colour says which number? Even scales that all readers can tell apart, shared by all pictures.

Colours are mixed in OKLab, where equal distances look equal, so equal steps of the value look like equal
steps [@ottosson2020]. Values of both signs get blue below zero and orange above it, centred on zero; others
get one scale from pale to dark. Blue and orange, and the colours of classes, stay apart for the
colour-blind [@okabe2008].
Limits: `BINS` steps a scale, so a picture tells about 3 % of the range; the exact value is in the text
beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Theme = Literal["light", "dark"]
ScaleName = Literal["diverging", "sequential"]
Rgb = tuple[int, int, int]

BINS = 33  # odd, so that the middle one is zero
MISSING: dict[Theme, Rgb] = {"light": (225, 225, 225), "dark": (58, 62, 68)}
CLASSES: dict[Theme, tuple[Rgb, ...]] = {
    "light": (
        (0, 114, 178),
        (213, 94, 0),
        (0, 138, 101),
        (178, 84, 138),
        (168, 116, 0),
        (38, 145, 200),
        (95, 95, 95),
        (100, 70, 170),
    ),
    "dark": (
        (86, 180, 233),
        (242, 133, 52),
        (32, 190, 145),
        (222, 143, 190),
        (230, 170, 40),
        (140, 205, 245),
        (175, 180, 186),
        (176, 156, 240),
    ),
}
_ANCHORS: dict[tuple[ScaleName, Theme], tuple[str, ...]] = {
    ("diverging", "light"): ("#0b4a8f", "#4f97d3", "#b5d5ee", "#f6f6f4", "#f9cfa4", "#e5812f", "#9a3d00"),
    ("diverging", "dark"): ("#9fd0ff", "#4a94dc", "#2b4d70", "#22262c", "#6b4526", "#d9772b", "#ffc48a"),
    ("sequential", "light"): ("#f8f9f3", "#cfe7d6", "#8bc9c6", "#45a0bd", "#2a72ab", "#254587", "#1c2257"),
    ("sequential", "dark"): ("#20242b", "#24405c", "#236582", "#2b8d97", "#5cb59b", "#a5d8a0", "#eef5c0"),
}
_TO_CONE = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


@dataclass(frozen=True)
class Scale:
    """How numbers become colours.

    Attributes:
        name: `diverging` (centred on zero) or `sequential`.
        low: the number at one end.
        high: the number at the other end.
    """

    name: ScaleName
    low: float
    high: float

    def place(self, value: float) -> float:
        """Where the value lies on the scale, from 0 to 1; values beyond the ends lie at the ends."""
        if self.high == self.low:
            return 0.0 if self.high == 0 else 1.0
        return min(1.0, max(0.0, share(value, self.low, self.high)))

    def bin(self, value: float) -> int | None:
        """The step of the scale, from 0 to `BINS - 1`; None for a missing value."""
        return None if math.isnan(value) else round(self.place(value) * (BINS - 1))


def scale_of(values: NDArray[Any], wanted: str = "auto") -> Scale:
    """The scale for these values: diverging where both signs occur, sequential otherwise.

    Args:
        values: numbers; missing and infinite ones do not count.
        wanted: `diverging` or `sequential` to choose oneself.
    """
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return Scale("sequential", 0.0, 0.0)
    low, high = float(finite.min()), float(finite.max())
    if wanted == "diverging" or (wanted == "auto" and low < 0 < high):
        reach = max(abs(low), abs(high))
        return Scale("diverging", -reach, reach)
    if low == high:
        return Scale("sequential", min(low, 0.0), max(low, 0.0)) if low else Scale("sequential", 0.0, 0.0)
    near_zero = 0 <= low <= high / 2  # a scale that starts at zero shows proportions
    return Scale("sequential", 0.0 if near_zero else low, high)


def share(value: float, low: float, high: float) -> float:
    """How far the value lies from `low` (0) to `high` (1), whatever their size."""
    size = max(abs(low), abs(high))  # without it, the distance of two large numbers could be infinite
    return (value / size - low / size) / (high / size - low / size)


def widened(low: float, high: float) -> tuple[float, float]:
    """The ends, with some room around them where they are equal."""
    room = max(0.5, abs(low) * 0.1) if low == high else 0.0
    return float(low - room), float(high + room)


def colour(scale: Scale, value: float, theme: Theme = "light") -> Rgb:
    """The colour of a value."""
    step = scale.bin(value)
    return MISSING[theme] if step is None else steps(scale.name, theme)[step]


@lru_cache(maxsize=8)
def steps(name: ScaleName, theme: Theme = "light") -> tuple[Rgb, ...]:
    """All `BINS` colours of a scale, from its low end to its high end."""
    anchors = np.array([_to_oklab(_rgb(text)) for text in _ANCHORS[name, theme]])
    # places along the anchors by the distance between their colours, so that steps look equally wide
    lengths = np.linalg.norm(np.diff(anchors, axis=0), axis=1)
    if name == "diverging":
        half = len(lengths) // 2
        lengths[:half] /= lengths[:half].sum()
        lengths[half:] /= lengths[half:].sum()
    along = np.concatenate([[0.0], np.cumsum(lengths)]) / lengths.sum()
    wanted = np.linspace(0, 1, BINS)
    mixed = np.stack([np.interp(wanted, along, anchors[:, i]) for i in range(3)], axis=1)
    return tuple(_from_oklab(lab) for lab in mixed)


def class_colour(index: int, theme: Theme = "light") -> Rgb:
    """The colour of the class with this index; they repeat after eight."""
    return CLASSES[theme][index % len(CLASSES[theme])]


READABLE = 4.5  # contrast of text, by the web's accessibility guidelines (level AA)


def ink_on(background: Rgb) -> Rgb:
    """Nearly black or white, whichever is easier to read on the background; all black where neither stands out enough."""
    light = luminance(background) + 0.05
    dark, white = light / 0.0591, 1.05 / light
    if max(dark, white) < READABLE:
        return (0, 0, 0)
    return (20, 24, 28) if dark >= white else (255, 255, 255)


def luminance(rgb: Rgb) -> float:
    """Relative luminance as the web's accessibility guidelines define it, from 0 to 1."""
    red, green, blue = _linear(np.array(rgb) / 255)
    return float(0.2126 * red + 0.7152 * green + 0.0722 * blue)


def hexadecimal(rgb: Rgb) -> str:
    """The colour as CSS writes it."""
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def lightness(rgb: Rgb) -> float:
    """How light the colour looks, from 0 to 1."""
    return float(_to_oklab(rgb)[0])


def _rgb(text: str) -> Rgb:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def _linear(encoded: NDArray[Any]) -> NDArray[Any]:
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _to_oklab(rgb: Rgb) -> NDArray[Any]:
    mixed: NDArray[Any] = _TO_LAB @ np.cbrt(_TO_CONE @ _linear(np.array(rgb) / 255))
    return mixed


def _from_oklab(lab: NDArray[Any]) -> Rgb:
    linear = np.linalg.solve(_TO_CONE, np.linalg.solve(_TO_LAB, lab) ** 3).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (round(float(part) * 255) for part in encoded)
    return red, green, blue
