"""How is a result explored in a notebook? With the workbench's own pictures, as a widget beside the cell.

The widget gets the views and the sizes of all arrays, and small arrays whole; it asks the kernel for slices of
the others as the reader moves a slider, so that a large tensor never travels as a whole. A saved notebook keeps what the
widget was given, so its pictures of small arrays stay alive without a kernel.
Limits: needs the package anywidget and the built front end; without them a notebook shows the static
pictures. A slice of a large array needs a running kernel.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from cutaway.core.errors import CutawayError, ParameterError, nearest
from cutaway.core.method import renderer
from cutaway.core.result import Check, Result, view_at
from cutaway.core.view import view_record
from cutaway.drawing.words import controlled, measured, number, origin, placed, verdict

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

MOST_HELD = 2_000_000  # bytes of arrays that travel with the widget
LARGEST_HELD = 300_000  # bytes of one of them
LARGEST_SLICE = 200_000_000
_EXACT = 2**53
_MIME = "application/vnd.jupyter.widget-view+json"
Message = dict[str, Any]


@renderer("widget", asks="How do I explore a result in a notebook?")
def widget(result: Result, view: int | None = None) -> Any:
    """The pictures of a result as an interactive widget, an `anywidget.AnyWidget`.

    Args:
        result: what to show.
        view: index of the one view to show; all when None.

    Raises:
        CutawayError: anywidget or the built front end is missing, or there is no such view.
    """
    if importlib.util.find_spec("anywidget") is None:
        raise CutawayError(
            "the package anywidget is not installed;",
            "a widget needs it.",
            "Write pip install 'cutaway[notebook]', or show the result as it is: it has static pictures.",
        )
    if not _bundle("widget.js").is_file():
        raise CutawayError(
            "the front end is not built, so there is no widget;",
            "a wheel of cutaway brings it along.",
            "Write make web in the source tree.",
        )
    record, held = shown(result, view)
    made = _widget_class()(record=record, held=held)
    made.on_msg(lambda _, message, buffers: made.send(*answered(result.data, message)))
    return made


def wanted() -> bool:
    """Whether notebooks shall show widgets, and can."""
    if os.environ.get("CUTAWAY_NOTEBOOK") == "static":
        return False
    return importlib.util.find_spec("anywidget") is not None and _bundle("widget.js").is_file()


def interactive(result: Result, view: int | None = None) -> dict[str, Any]:
    """What a Jupyter notebook shows instead of the static pictures where it can; nothing where it cannot."""
    if not _in_jupyter() or not wanted():
        return {}
    return {_MIME: {"version_major": 2, "version_minor": 0, "model_id": widget(result, view).model_id}}


def shown(result: Result, view: int | None = None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What the widget is given: a record of JSON values, and the bytes of small arrays by name."""
    views = result.views if view is None else (view_at(result, view),)
    carried = _carried(result.data)
    sent = {name: _portable(result.data.variables[name].values) for name in carried}
    record = {
        "id": result.id,
        "title": str(result.provenance.get("method", "result")).replace("_", " "),
        "dims": {str(dim): int(size) for dim, size in result.data.sizes.items()},
        "arrays": [_described(result.data, str(name)) for name in result.data.variables],
        "views": [view_record(each) for each in views],
        "metrics": {} if view is not None else {name: _said(value) for name, value in result.metrics.items()},
        "checks": [_sentences(check) for check in result.checks],
        "notes": list(result.notes),
        "command": str(result.provenance.get("command", "")),
        "origin": origin(result),
        "held": {name: {"dtype": dtype, "words": words} for name, (_, dtype, words) in sent.items()},
    }
    return record, {name: content for name, (content, _, words) in sent.items() if words is None}


def answered(data: xr.Dataset, message: Any) -> tuple[Message, list[bytes]]:
    """The answer to what the widget asks: a slice of an array, or a sentence that says why not."""
    request = message.get("request") if isinstance(message, Mapping) else None
    try:
        name, selection = _asked(data, message)
        part = data.variables[name].isel(selection)
        if part.nbytes > LARGEST_SLICE:
            raise ParameterError(f"a slice of {name!r} of {part.nbytes:,} bytes is too large;", "select less of it.")
    except CutawayError as error:
        return {"kind": "failed", "request": request, "error": str(error)}, []
    content, dtype, words = _portable(part.values)
    head = {"kind": "slice", "request": request, "name": name, "dtype": dtype, "words": words}
    return head | {"dims": [str(dim) for dim in part.dims], "shape": list(part.shape)}, [content]


def _in_jupyter() -> bool:
    """Whether a Jupyter kernel runs this, and not merely a program that imported one."""
    ipython = sys.modules.get("IPython")
    return getattr(ipython.get_ipython(), "kernel", None) is not None if ipython else False


def _asked(data: xr.Dataset, message: Any) -> tuple[str, dict[str, int | slice]]:
    """The array and the part of it that a message names."""
    name = message.get("name") if isinstance(message, Mapping) else None
    if not isinstance(name, str) or name not in data.variables:
        known = [str(each) for each in data.variables]
        raise ParameterError(f"the result has no array {name!r};", "name one of its arrays.", nearest(str(name), known))
    asked = message.get("selection") or {}
    if not isinstance(asked, Mapping):
        raise ParameterError(f"{asked!r} is no selection;", "it maps dimensions to indices or [start, stop].")
    sizes = data.variables[name].sizes
    return name, {dim: _picked(dim, chosen, sizes[dim]) for dim, chosen in asked.items() if dim in sizes}


def _picked(dim: str, chosen: Any, size: int) -> int | slice:
    if isinstance(chosen, int) and -size <= chosen < size:
        return chosen
    if isinstance(chosen, Sequence) and 2 <= len(chosen) <= 3 and all(isinstance(each, int) for each in chosen):
        start, stop, step = (*chosen, 1)[:3]
        if start >= 0 and stop >= 0 and step > 0:
            return slice(start, stop, step)
    raise ParameterError(
        f"{dim} has no place {chosen!r};", f"it has the indices 0 to {size - 1}, or [start, stop, step] of them."
    )


def _carried(data: xr.Dataset) -> list[str]:
    """The arrays that travel with the widget: the smallest first, as long as there is room."""
    sizes = {str(name): _size(variable) for name, variable in data.variables.items()}
    room, carried = MOST_HELD, []
    for name in sorted(sizes, key=lambda each: sizes[each]):
        room -= sizes[name]
        if sizes[name] > LARGEST_HELD or room < 0:
            break
        carried.append(name)
    return carried


def _size(variable: xr.Variable) -> int:
    if variable.dtype.kind != "O":
        return int(variable.nbytes)
    return sum(len(text) + 4 for text in variable.values.ravel().tolist())


def _described(data: xr.Dataset, name: str) -> dict[str, Any]:
    variable = data.variables[name]
    return {
        "name": name,
        "dims": [str(dim) for dim in variable.dims],
        "shape": list(variable.shape),
        "dtype": "string" if variable.dtype.kind == "O" else variable.dtype.name,
        "coordinate": name in data.coords,
        "attrs": {key: value if _is_finite(value) else number(value) for key, value in variable.attrs.items()},
    }


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or bool(np.isfinite(value))


def _portable(values: Any) -> tuple[bytes, str, list[str] | None]:
    """An array as little-endian bytes in C order and the type of its elements; text as a list."""
    array = np.asarray(values)
    match array.dtype.kind:
        case "O":
            return b"", "string", [_encodable(text) for text in array.ravel().tolist()]
        case "b":
            return array.astype("u1").tobytes(), "bool", None
        case "f":
            wide = "<f8" if array.dtype.itemsize == 8 else "<f4"
            return array.astype(wide).tobytes(), "float64" if wide == "<f8" else "float32", None
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if low >= -(2**31) and high < 2**31:
        return array.astype("<i4").tobytes(), "int32", None
    if low >= -_EXACT and high <= _EXACT:
        return array.astype("<f8").tobytes(), "float64", None
    return b"", "string", [str(value) for value in array.ravel().tolist()]


def _encodable(text: str) -> str:
    """The text without half characters, which no message can carry."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _sentences(check: Check) -> dict[str, Any]:
    return {
        "claim": check.claim,
        "how": check.how,
        "passed": check.passed,
        "verdict": verdict(check),
        "figures": f"Measured {measured(check)}; control {controlled(check)}; {placed(check)}.",
    }


def _said(value: float | int | str) -> str:
    return value if isinstance(value, str) else number(value)


def _bundle(name: str) -> Traversable:
    return files("cutaway") / "web" / "static" / "widget" / name


@cache
def _widget_class() -> Any:
    """The widget's class, made when the first one is wanted: anywidget is slow to import, and optional."""
    import anywidget
    import traitlets

    class ResultWidget(anywidget.AnyWidget):  # type: ignore[misc, unused-ignore]
        """A result in a notebook."""

        _esm = _bundle("widget.js").read_text(encoding="utf-8")
        _css = _bundle("widget.css").read_text(encoding="utf-8")
        record = traitlets.Dict().tag(sync=True)
        held = traitlets.Dict().tag(sync=True)

    return ResultWidget
