"""What may each array of a picture be, and which array of the data is it?

`ROLES` says for each kind of picture which parts it has and how many dimensions each may have. `resolve`
finds the arrays by name, goes to the place that the view stands at, and refuses what does not fit, so that
a wrong view fails where it is made and not where it is drawn.
Limits: dimensions are compared by name; two arrays of equal length along dimensions of different names do
not fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from cutaway.core.errors import ParameterError, nearest

if TYPE_CHECKING:
    from collections.abc import Hashable

    from cutaway.core.view import Place, View


@dataclass(frozen=True)
class Role:
    """What an array may be that plays a part in a picture.

    Attributes:
        dims: how many dimensions it may have; any number when empty.
        required: whether the picture needs it.
        numeric: whether it must hold numbers.
    """

    dims: tuple[int, ...]
    required: bool = True
    numeric: bool = False


ROLES: Mapping[str, Mapping[str, Role]] = MappingProxyType(
    {
        "tokens": {"value": Role((1,), numeric=True), "token": Role((1,))},
        "heatmap": {
            "value": Role((2,), numeric=True),
            "x": Role((1,)),
            "y": Role((1,)),
            "text": Role((2,), False),
        },
        "attention": {
            "value": Role((2,), numeric=True),
            "query": Role((1,)),
            "key": Role((1,)),
            "token": Role((1,), False),
            "key_token": Role((1,), False),
        },
        "curves": {
            "value": Role((1, 2), numeric=True),
            "x": Role((1,)),
            "series": Role((1,), False),
            "low": Role((1, 2), False, True),
            "high": Role((1, 2), False, True),
        },
        "bars": {
            "value": Role((1, 2), numeric=True),
            "label": Role((1,)),
            "low": Role((1, 2), False, True),
            "high": Role((1, 2), False, True),
            "group": Role((1,), False),
        },
        "scatter": {
            "x": Role((1, 2), numeric=True),
            "y": Role((1, 2), numeric=True),
            "label": Role((1, 2), False),
            "value": Role((1, 2), False, True),
        },
        "histogram": {"value": Role((), numeric=True), "group": Role((), False)},
        "graph": {
            "source": Role((1,)),
            "target": Role((1,)),
            "weight": Role((1,), False, True),
            "node": Role((1,), False),
            "position": Role((1,), False),
            "heading": Role((1,), False),
        },
        "table": {},
        "text": {"value": Role((0, 1))},
    }
)


def resolve(view: View, data: xr.Dataset) -> dict[str, xr.DataArray]:
    """The array that plays each part, with `at` applied.

    Raises:
        ParameterError: a name that is not in the data, or an array whose dimensions do not fit the picture.
    """
    where = {dim: index_of(data, dim, place, view) for dim, place in view.at.items()}
    found = {role: _array(view, data, role, name) for role, name in view.roles.items()}
    chosen = {
        role: array.isel({dim: index for dim, index in where.items() if dim in array.dims})
        for role, array in found.items()
    }
    for role, array in chosen.items():
        part = ROLES[view.kind].get(role, Role((1,)))
        if part.dims and array.ndim not in part.dims:
            raise _wrong_dims(view, role, array, part.dims)
        if part.numeric and array.dtype.kind in "OUT":
            raise _words_for_numbers(view, role, data)
    _refuse_misfits(view, chosen)
    return chosen


def index_of(data: xr.Dataset, dim: str, place: Place, view: View | None = None) -> int:
    """Where in dimension `dim` the place is: see `View.at`.

    Raises:
        ParameterError: an unknown dimension, or a place that it does not have.
    """
    if dim not in data.sizes:
        options = [str(name) for name in data.sizes]
        raise ParameterError(
            f"{name_of(view)}stands at {dim!r}, which is no dimension of the data;",
            f"the dimensions are {', '.join(options) or 'none'}.",
            nearest(dim, options),
        )
    index = _index_by_label(data, dim, place)
    if index is None:
        raise _no_such_place(data, dim, place, view)
    return index


def name_of(view: View | None) -> str:
    """How a message begins that is about this view."""
    return f"the {view.kind} view {view.title!r} " if view else "the picture "


def _array(view: View, data: xr.Dataset, role: str, name: str) -> xr.DataArray:
    if name in data.variables:
        return data[name]
    if name in data.sizes:
        return xr.DataArray(np.arange(data.sizes[name]), dims=[name], name=name)
    options = [str(known) for known in (*data.variables, *data.sizes)]
    raise ParameterError(
        f"{name_of(view)}takes its {role} from {name!r}, which the data do not have;",
        f"the data have {', '.join(dict.fromkeys(options)) or 'nothing'}.",
        nearest(name, options),
    )


def _wrong_dims(view: View, role: str, array: xr.DataArray, allowed: tuple[int, ...]) -> ParameterError:
    dims = ", ".join(str(dim) for dim in array.dims)
    wanted = " or ".join(str(number) for number in allowed)
    spare = [str(dim) for dim in array.dims][: max(1, array.ndim - max(allowed))]
    fix = ", ".join(f'"{dim}": 0' for dim in spare)
    has = f"{array.ndim} dimension{'' if array.ndim == 1 else 's'} ({dims or 'none'})"
    return ParameterError(
        f"{name_of(view)}shows {view.roles[role]!r} as its {role}, which has {has};",
        f"{role} of a picture of kind {view.kind} has {wanted}.",
        f"Write at={{{fix}}} to choose a place." if array.ndim > max(allowed) else "Name another variable.",
    )


def _words_for_numbers(view: View, role: str, data: xr.Dataset) -> ParameterError:
    numeric = [str(name) for name, variable in data.variables.items() if variable.dtype.kind not in "OUT"]
    return ParameterError(
        f"{name_of(view)}shows {view.roles[role]!r} as its {role}, which holds words;",
        f"{role} of a picture of kind {view.kind} holds numbers, as in: {', '.join(numeric) or 'none'}.",
        f"Write {role}={numeric[0]!r}." if numeric else "",
    )


def _refuse_misfits(view: View, arrays: Mapping[str, xr.DataArray]) -> None:
    """Refuse arrays that each fit their part but do not lie along the same dimensions."""
    match view.kind:
        case "heatmap":
            _same_dims(view, "value", arrays["value"].dims, arrays["x"].dims + arrays["y"].dims)
            _fits(view, arrays, "text", arrays["value"].dims)
        case "attention":
            _same_dims(view, "value", arrays["value"].dims, arrays["query"].dims + arrays["key"].dims)
            _refuse_uncounted(view, arrays)
        case "curves":
            _same_dims(view, "value", arrays["value"].dims, _dims_of(arrays, "x", "series"))
        case "bars":
            _same_dims(view, "value", arrays["value"].dims, _dims_of(arrays, "label", "group"))
        case "scatter":
            _same_dims(view, "y", arrays["y"].dims, arrays["x"].dims)
        case "tokens":
            _same_dims(view, "token", arrays["token"].dims, arrays["value"].dims)
        case "graph":
            _same_dims(view, "target", arrays["target"].dims, arrays["source"].dims)
            _fits(view, arrays, "weight", arrays["source"].dims)
            if "position" in arrays:
                _fits(view, arrays, "heading", arrays["position"].dims)
        case "table":
            for role, array in arrays.items():
                _same_dims(view, role, array.dims, arrays["column 1"].dims)
    _refuse_misfit_companions(view, arrays)


def _refuse_misfit_companions(view: View, arrays: Mapping[str, xr.DataArray]) -> None:
    """Intervals lie along their values; names and classes may lie along some of the dimensions only."""
    if view.kind in ("curves", "bars"):
        _fits(view, arrays, "low", arrays["value"].dims)
        _fits(view, arrays, "high", arrays["value"].dims)
    if view.kind in ("scatter", "histogram"):
        whole = arrays["x" if view.kind == "scatter" else "value"].dims
        for role in ("label", "value", "group"):
            _fits(view, arrays, role, whole, within=True)


def _dims_of(arrays: Mapping[str, xr.DataArray], *roles: str) -> tuple[Hashable, ...]:
    """Dimensions of the parts that are there, each once."""
    return tuple(dict.fromkeys(dim for role in roles if role in arrays for dim in arrays[role].dims))


def _fits(
    view: View,
    arrays: Mapping[str, xr.DataArray],
    role: str,
    dims: tuple[Hashable, ...],
    *,
    within: bool = False,
) -> None:
    if role not in arrays or (within and set(arrays[role].dims) <= set(dims)):
        return
    _same_dims(view, role, arrays[role].dims, dims)


def _same_dims(view: View, role: str, given: tuple[Hashable, ...], wanted: tuple[Hashable, ...]) -> None:
    if sorted(map(str, given)) == sorted(map(str, wanted)):
        return
    raise ParameterError(
        f"{name_of(view)}takes its {role} from {view.roles[role]!r} along ({', '.join(map(str, given))});",
        f"the rest of the picture lies along ({', '.join(map(str, wanted))}).",
        "Name variables that share their dimensions, or choose a place with at={...}.",
    )


def _refuse_uncounted(view: View, arrays: Mapping[str, xr.DataArray]) -> None:
    """Tokens label queries and keys by position, so there must be as many of them."""
    own_keys = "key_token" in arrays
    for role, sides in (("token", ("query",) if own_keys else ("query", "key")), ("key_token", ("key",))):
        for side in sides if role in arrays else ():
            words = arrays[role].size
            if words != arrays[side].size:
                raise ParameterError(
                    f"{name_of(view)}labels {arrays[side].size} positions ({side}) with {words} words;",
                    "there must be one word a position.",
                    'Name the words of the keys with key_token="..." where they differ.',
                )


def _index_by_label(data: xr.Dataset, dim: str, place: Place) -> int | None:
    size = data.sizes[dim]
    if isinstance(place, str):
        for name in (dim, *(str(name) for name in data.variables if name != dim)):
            if name in data.variables and data[name].dims == (dim,) and data[name].dtype.kind in "OUT":
                matches = np.flatnonzero(data[name].values == place)
                if matches.size:
                    return int(matches[0])
        return None
    if dim in data.variables and data[dim].dtype.kind in "iuf":
        matches = np.flatnonzero(data[dim].values == place)
        if matches.size:
            return int(matches[0])
        if place >= 0:
            return None
    if isinstance(place, float) and not place.is_integer():
        return None
    return int(place) % size if -size <= place < size else None


def _no_such_place(data: xr.Dataset, dim: str, place: Place, view: View | None) -> ParameterError:
    size = data.sizes[dim]
    labels = [str(label) for label in data[dim].values.tolist()] if dim in data.variables else []
    allowed = f"its values are {_listed(labels)}." if labels else f"it has the indices 0 to {size - 1}."
    if not size:
        allowed = "it is empty."
    return ParameterError(
        f"{name_of(view)}stands at {dim}={place!r}, which {dim} does not have;",
        allowed,
        f'Write at={{"{dim}": {labels[0] if labels and data[dim].dtype.kind in "iuf" else 0}}}.' if size else "",
    )


def _listed(labels: Sequence[str], shown: int = 12) -> str:
    return ", ".join(labels[:shown]) + (f", … ({len(labels)} in all)" if len(labels) > shown else "")
