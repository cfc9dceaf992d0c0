"""How does a View become a picture's contents? Its arrays are found, turned the right way round and labelled.

Padding that fills up short prompts (empty words without values, at the end) is taken off here, missing and
infinite values are counted, and the scale is chosen.
Limits: the place of everything that a view leaves open is the whole dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from cutaway.core.result import Result
from cutaway.core.roles import resolve
from cutaway.core.view import View
from cutaway.drawing.palette import scale_of, widened
from cutaway.drawing.panels import (
    Bars,
    Counts,
    Grid,
    Line,
    Lines,
    Network,
    Numbers,
    Panel,
    Points,
    Strip,
    Table,
    Texts,
)
from cutaway.drawing.words import column, label, named, number


def panel(result: Result, view: View) -> Panel:
    """The panel that shows this view of this result."""
    arrays = resolve(view, result.data)
    match view.kind:
        case "tokens":
            return _strip(view, arrays)
        case "heatmap":
            return _heatmap(view, arrays)
        case "attention":
            return _attention(view, arrays)
        case "curves":
            return _lines(arrays)
        case "bars":
            return _bars(arrays)
        case "scatter":
            return _points(view, arrays)
        case "histogram":
            return _counts(view, arrays)
        case "graph":
            return _network(arrays)
        case "table":
            return _table(arrays)
        case "text":
            return _texts(result, arrays["value"])


def _strip(view: View, arrays: dict[str, xr.DataArray]) -> Strip:
    values, words = _numbers(arrays["value"]), arrays["token"].values.tolist()
    kept = _without_padding(words, np.isnan(values))
    scale = scale_of(values, str(view.options.get("scale", "auto")))
    return Strip(tuple(map(label, words[:kept])), values[:kept], scale, named(arrays["value"]))


def _heatmap(view: View, arrays: dict[str, xr.DataArray]) -> Grid:
    x, y = arrays["x"], arrays["y"]
    values = arrays["value"].transpose(*y.dims, *x.dims)
    texts = arrays["text"].transpose(*y.dims, *x.dims).values.tolist() if "text" in arrays else None
    return _grid(view, values, (y, x), (named(y), named(x)), texts)


def _attention(view: View, arrays: dict[str, xr.DataArray]) -> Grid:
    query, key = arrays["query"], arrays["key"]
    rows = arrays.get("token", query)
    columns = arrays.get("key_token", arrays.get("token", key))
    values = arrays["value"].transpose(*query.dims, *key.dims)
    return _grid(view, values, (rows, columns), ("query (attends)", "key (is attended to)"), None)


def _grid(
    view: View,
    array: xr.DataArray,
    sides: tuple[xr.DataArray, xr.DataArray],
    names: tuple[str, str],
    texts: list[list[Any]] | None,
) -> Grid:
    values = _numbers(array)
    rows, columns = (side.values.tolist() for side in sides)
    height = _without_padding(rows, np.isnan(values).all(axis=1))
    width = _without_padding(columns, np.isnan(values).all(axis=0))
    values = values[:height, :width]
    return Grid(
        values=values,
        rows=tuple(map(label, rows[:height])),
        columns=tuple(map(label, columns[:width])),
        row_name=names[0],
        column_name=names[1],
        value_name=named(array),
        scale=scale_of(values, str(view.options.get("scale", "auto"))),
        texts=tuple(tuple(map(label, row[:width])) for row in texts[:height]) if texts else None,
        words_on_rows=any(isinstance(item, str) for item in rows),
        words_on_columns=any(isinstance(item, str) for item in columns),
    )


def _lines(arrays: dict[str, xr.DataArray]) -> Lines:
    x, series = arrays["x"], arrays.get("series")
    order = (*(series.dims if series is not None else ()), *x.dims)
    count = series.size if series is not None else 1
    y, low, high = (
        _numbers(arrays[role].transpose(*order)).reshape(count, x.size) if role in arrays else None
        for role in ("value", "low", "high")
    )
    assert y is not None
    words = x.dtype.kind == "O"
    places = np.arange(x.size, dtype=float) if words else _numbers(x)
    names = series.values.tolist() if series is not None else [""]
    lines = tuple(
        Line(
            name=label(name),
            x=places,
            y=y[i],
            low=low[i] if low is not None else None,
            high=high[i] if high is not None else None,
            place=float(name) if isinstance(name, int | float) else None,
        )
        for i, name in enumerate(names)
    )
    x_labels = tuple(map(label, x.values.tolist())) if words else None
    series_name = named(series) if series is not None else ""
    return Lines(lines, named(x), named(arrays["value"]), series_name, x_labels)


def _bars(arrays: dict[str, xr.DataArray]) -> Bars:
    labels, group, value = arrays["label"], arrays.get("group"), arrays["value"]
    order = (*labels.dims, *(dim for dim in value.dims if dim not in labels.dims))
    width = group.size if group is not None and group.dims != labels.dims else 1
    values, low, high = (
        _numbers(arrays[role].transpose(*order)).reshape(labels.size, width) if role in arrays else None
        for role in ("value", "low", "high")
    )
    assert values is not None
    members = list(map(label, group.values.tolist())) if group is not None else []
    groups, classes = tuple(members), None
    if group is not None and group.dims == labels.dims:
        groups = tuple(dict.fromkeys(members))
        classes = tuple(groups.index(member) for member in members)
    return Bars(
        labels=tuple(map(label, labels.values.tolist())),
        values=values,
        value_name=named(value),
        label_name=named(labels),
        groups=groups,
        classes=classes,
        low=low,
        high=high,
    )


def _points(view: View, arrays: dict[str, xr.DataArray]) -> Points:
    together = dict(zip(arrays, xr.broadcast(*(array.drop_vars(array.coords) for array in arrays.values()))))
    order = arrays["x"].dims
    flat = {role: array.transpose(*order).values.ravel() for role, array in together.items()}
    values = flat["value"].astype(float) if "value" in flat else None
    return Points(
        x=flat["x"].astype(float),
        y=flat["y"].astype(float),
        x_name=named(arrays["x"]),
        y_name=named(arrays["y"]),
        labels=tuple(map(label, flat["label"].tolist())) if "label" in flat else None,
        values=values,
        value_name=named(arrays["value"]) if values is not None else "",
        scale=scale_of(values, str(view.options.get("scale", "auto"))) if values is not None else None,
    )


def _counts(view: View, arrays: dict[str, xr.DataArray]) -> Counts:
    value = arrays["value"]
    values = _numbers(value).ravel()
    names: tuple[str, ...] = ()
    member = np.zeros(values.shape, dtype=int)
    if "group" in arrays:
        spread = xr.broadcast(*(array.drop_vars(array.coords) for array in (arrays["group"], value)))[0]
        words = list(map(label, spread.transpose(*value.dims).values.ravel().tolist()))
        names = tuple(dict.fromkeys(words))
        member = np.array([names.index(word) for word in words], dtype=int)
    finite = np.isfinite(values)
    bins = max(1, int(view.options.get("bins", 30)))
    edges = _edges(values[finite], bins)
    counts = [np.histogram(values[finite & (member == i)], bins=edges)[0] for i in range(max(1, len(names)))]
    lost = int((~finite).sum())
    said = f"{number(lost)} of {number(values.size)} values are missing or infinite." if lost else ""
    return Counts(edges, np.array(counts, dtype=np.int64), named(value), names, said)


def _edges(values: Numbers, bins: int) -> Numbers:
    """Edges of so many bins; of one where floating point has no numbers between or beyond the values."""
    try:
        with np.errstate(over="raise"):
            edges: Numbers = np.histogram_bin_edges(values, bins=bins)
    except (ValueError, FloatingPointError):
        return np.array(widened(values.min(), values.max()))
    rising = bool((edges[1:] > edges[:-1]).all())
    return edges if rising else np.array(widened(values.min(), values.max()))


def _network(arrays: dict[str, xr.DataArray]) -> Network:
    known = arrays["node"].values.tolist() if "node" in arrays else []
    ends = [arrays[role].values.tolist() for role in ("source", "target")]
    by_index = bool(known) and all(isinstance(end, int) for side in ends for end in side)
    if by_index:
        ends = [[known[end] if -len(known) <= end < len(known) else end for end in side] for side in ends]
    nodes = list(dict.fromkeys([*known, *ends[0], *ends[1]]))
    place = {node: index for index, node in enumerate(nodes)}
    count = len(ends[0])
    weights = _numbers(arrays["weight"]) if "weight" in arrays else np.ones(count)
    return Network(
        nodes=tuple(map(label, nodes)),
        sources=tuple(place[end] for end in ends[0]),
        targets=tuple(place[end] for end in ends[1]),
        weights=weights,
        weight_name=named(arrays["weight"]) if "weight" in arrays else "",
        positions=tuple(map(str, arrays["position"].values.tolist())) if "position" in arrays else (),
        headings=tuple(map(str, arrays["heading"].values.tolist())) if "heading" in arrays else (),
    )


def _table(arrays: dict[str, xr.DataArray]) -> Table:
    columns = list(arrays.values())
    return Table(
        names=tuple(map(named, columns)),
        columns=tuple(map(_cells, columns)),
        numeric=tuple(array.dtype.kind in "iuf" for array in columns),
    )


def _cells(array: xr.DataArray) -> tuple[str, ...]:
    items = array.values.tolist()
    return tuple(column(items) if array.dtype.kind == "f" else map(label, items))


def _texts(result: Result, array: xr.DataArray) -> Texts:
    if array.ndim == 0:
        return Texts((_text(array.values.item()),), ("",))
    dim = str(array.dims[0])
    places = result.data[dim].values.tolist() if dim in result.data.variables else range(array.size)
    return Texts(tuple(map(_text, array.values.tolist())), tuple(f"{dim} {label(place)}" for place in places))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else number(value)


def _numbers(array: xr.DataArray) -> Numbers:
    if array.dtype.kind == "O":
        return np.full(array.shape, np.nan)
    values: Numbers = array.values.astype(float)
    return values


def _without_padding(words: Sequence[Any], missing: Any) -> int:
    """How many are left when the empty words without values at the end, which fill up short prompts, go."""
    kept = len(words)
    while kept and words[kept - 1] == "" and missing[kept - 1]:
        kept -= 1
    return kept
