"""What does a map say of words, sentences or pieces of a text? Attributions to tokens, put together.

    aggregated(result, by="word")                 tokens of one word become one place
    aggregated(result, by="sentence", how="l2")   from one full stop to the next
    aggregated(result, by="chunk", size=16)       pieces of as many tokens
    aggregated(result, spans={"question": (0, 9), "context": (9, 60)})      places that you name
    aggregated(result, by="word", targets="word") the tokens that are explained too

Values that sum to something (integrated gradients, Shapley values) stay so under `sum`; for sizes (saliency) take
`mean`, `max` or `l2`, or long words win by their length alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cutaway.core import view as views
from cutaway.core.errors import ParameterError, nearest
from cutaway.core.result import Result

Floats = NDArray[np.float64]
By = Literal["token", "word", "sentence", "chunk"]
How = Literal["sum", "mean", "max", "min", "absmax", "l2", "prod"]


def _absmax(values: Floats) -> float:
    return float(values[np.argmax(np.abs(values))])


HOW: Mapping[str, Callable[[Floats], float]] = {
    "sum": lambda values: float(values.sum()),
    "mean": lambda values: float(values.mean()),
    "max": lambda values: float(values.max()),
    "min": lambda values: float(values.min()),
    "absmax": _absmax,
    "l2": lambda values: float(np.sqrt((values**2).sum())),
    "prod": lambda values: float(values.prod()),
}
_SENTENCE_END = re.compile(r"[.!?…。][\"'”’)]*\s*$|\n\s*$")


def aggregated(
    result: Result,
    *,
    by: By = "word",
    how: How = "sum",
    size: int = 16,
    spans: Mapping[str, tuple[int, int]] | None = None,
    targets: By | Literal["all"] = "token",
    targets_how: How = "mean",
) -> Result:
    """A map of tokens as a map of larger pieces.

    Args:
        result: with `attribution` [prompt, (target,) position] and `token`.
        by: what becomes one place.
        how: what becomes of the values of a piece.
        size: tokens of a chunk.
        spans: instead, pieces by name: first position, and the one after the last; the rest stays as tokens.
        targets: what becomes one explained piece.
        targets_how: what becomes of the values of the explained tokens of a piece.

    Raises:
        ParameterError: not a map of tokens, or a span outside of it.
    """
    data = _checked(result, how, targets_how)
    several = "target" in data["attribution"].dims
    values = np.asarray(data["attribution"].values, dtype=np.float64)
    values = values if several else values[:, None]
    found, labels, names = [], [], []
    for prompt, tokens in enumerate(data["token"].values):
        texts = [str(text) for text in tokens[: _length(tokens)]]
        pieces = _named(spans, texts, len(tokens)) if spans else _pieces(texts, by, size)
        rows = _joined(values[prompt], [places for _, places in pieces], how)
        written = [str(text) for text in np.atleast_1d(data["target_token"].values[prompt])]
        groups = _pieces(written[: _length(np.array(written))], targets, size)
        found.append(_joined(rows.T, [places for _, places in groups], targets_how).T)
        labels.append([text for text, _ in pieces])
        names.append([text for text, _ in groups])
    return _result(result, data, found, labels, names, several, f"{by if not spans else 'span'}, {how}")


def _checked(result: Result, *hows: str) -> xr.Dataset:
    data = result.data
    if "attribution" not in data or "token" not in data.coords or "target_token" not in data.coords:
        raise ParameterError(
            "this result is not a map of tokens;",
            "it has attribution, token and target_token.",
            "Aggregate what saliency, integrated_gradients and their like return.",
        )
    for how in hows:
        if how not in HOW:
            raise ParameterError(f"there is no way {how!r} to put values together;", nearest(how, HOW))
    return data


def _length(tokens: Sequence[Any] | NDArray[Any]) -> int:
    """Places up to the last that has a text."""
    return max((place + 1 for place, text in enumerate(tokens) if str(text)), default=0)


def _pieces(texts: Sequence[str], by: str, size: int) -> list[tuple[str, list[int]]]:
    numbers = _numbers(texts, by, size)
    places: dict[int, list[int]] = {}
    for place, number in enumerate(numbers):
        places.setdefault(number, []).append(place)
    return [("".join(texts[place] for place in group), group) for group in places.values()]


def _numbers(texts: Sequence[str], by: str, size: int) -> list[int]:
    match by:
        case "token":
            return list(range(len(texts)))
        case "all":
            return [0] * len(texts)
        case "word":
            return words_of(texts)
        case "chunk":
            return [place // max(1, size) for place in range(len(texts))]
        case "sentence":
            ends = [bool(_SENTENCE_END.search(text)) for text in texts]
            return [0, *np.cumsum(ends)[:-1].tolist()] if texts else []
    raise ParameterError(f"there are no pieces {by!r};", nearest(by, ("token", "word", "sentence", "chunk")))


def words_of(texts: Sequence[str]) -> list[int]:
    """For each token of a text, the number of the word that it belongs to.

    A token goes on with the word of the one before where letters or digits meet; a space on its own belongs to the
    word after it.

    >>> words_of(["The", " cat", "fish", ",", " she"])
    [0, 1, 1, 2, 3]
    """
    numbers: list[int] = []
    for place, text in enumerate(texts):
        before = texts[place - 1] if place else ""
        joins = before == " " or (before[-1:].isalnum() and text[:1].isalnum())
        numbers.append(numbers[-1] + (not joins) if numbers else 0)
    return numbers


def _named(spans: Mapping[str, tuple[int, int]], texts: Sequence[str], places: int) -> list[tuple[str, list[int]]]:
    """The pieces of a text; `places` are those of the longest, and a shorter text has what it reaches."""
    inside: dict[int, str] = {}
    for name, (start, end) in spans.items():
        if not 0 <= start < end <= places:
            raise ParameterError(
                f"the span {name!r} is ({start}, {end});",
                f"it is (first, one after the last) with 0 <= first < last <= {places}.",
            )
        inside |= dict.fromkeys(range(start, end), name)
    pieces: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        pieces.setdefault(inside.get(place, f"{text}\0{place}"), []).append(place)
    return [(name.split("\0")[0], places) for name, places in pieces.items()]


def _joined(values: Floats, groups: Sequence[Sequence[int]], how: str) -> Floats:
    """Columns put together [row, group]; missing values do not count, and a group of nothing else is missing."""
    found = np.full((len(values), len(groups)), np.nan)
    for row, line in enumerate(values):
        for column, places in enumerate(groups):
            here = line[list(places)]
            here = here[~np.isnan(here)]
            if len(here):
                found[row, column] = HOW[how](here)
    return found


def _result(
    result: Result,
    data: xr.Dataset,
    found: Sequence[Floats],
    labels: Sequence[Sequence[str]],
    names: Sequence[Sequence[str]],
    several: bool,
    said: str,
) -> Result:
    targets, places = max(map(len, names)), max(map(len, labels))
    values = np.full((len(found), targets, places), np.nan, dtype=np.float32)
    tokens, written = (np.full((len(found), width), "", dtype=object) for width in (places, targets))
    for row, here in enumerate(found):
        values[row, : here.shape[0], : here.shape[1]] = here
        tokens[row, : len(labels[row])], written[row, : len(names[row])] = labels[row], names[row]
    numbered = np.array([[f"{i} {text}" if text else "" for i, text in enumerate(row)] for row in tokens], dtype=object)
    new = xr.Dataset(
        {"attribution": (("prompt", "target", "position"), values, dict(data["attribution"].attrs))},
        coords={
            "prompt": data["prompt"].values,
            "target": np.arange(targets),
            "position": np.arange(places),
            "token": (("prompt", "position"), tokens),
            "place": (("prompt", "position"), numbered, {"long_name": "piece"}),
            "target_token": (("prompt", "target"), written),
        },
    )
    title = next((view.title.split(",")[0] for view in result.views), "Attribution")
    at: dict[str, int | float | str] = {"prompt": 0}
    if targets == 1:
        new = new.isel(target=0, drop=True)
    drawn = [views.heatmap(value="attribution", x="place", y="target_token", at=at, title=f"{title} ({said})")]
    at = at if targets == 1 else {**at, "target": 0}
    drawn = drawn if targets > 1 else []
    return Result(
        data=new,
        metrics={name: value for name, value in result.metrics.items() if name in ("score", "scored")},
        views=(
            *drawn,
            views.tokens(value="attribution", token="token", at=at, title=f"{title} ({said})"),
            views.bars(value="attribution", label="place", at=at, title=f"{title} by piece ({said})"),
        ),
        checks=result.checks,
        notes=(*result.notes, f"Tokens put together: {said}."),
        provenance={**result.provenance, "aggregated": said},
    )
