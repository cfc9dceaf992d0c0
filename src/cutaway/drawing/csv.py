"""How do the numbers get into a spreadsheet? As one long table: a row a number, a column a dimension.

Each row says which variable it belongs to, where it stands in each dimension (by label where there are
labels, by index otherwise), which further labels it has, and its value. Columns that a variable does not
have are empty.
Limits: a table of more than `MOST_ROWS` rows is refused; texts keep their line breaks, inside quotation
marks.
"""

from __future__ import annotations

import csv as tables
import io
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from cutaway.core.errors import StoreError
from cutaway.core.method import renderer
from cutaway.core.result import Result, view_at
from cutaway.core.roles import resolve

MOST_ROWS = 2_000_000


@renderer("csv", asks="How do I open the numbers in a spreadsheet?")
def csv(result: Result, view: int | None = None) -> str:
    """The numbers of a result, or of one of its views, as one long table with a head.

    Args:
        result: whose numbers to write.
        view: index of the one view whose numbers to write; all data when None.

    Raises:
        StoreError: there would be too many rows.
    """
    arrays = _arrays(result, view)
    rows = sum(array.size for array in arrays.values())
    if rows > MOST_ROWS:
        raise StoreError(
            f"the table would have {rows:,} rows;",
            f"a spreadsheet is written with {MOST_ROWS:,} rows at most.",
            "Save as .nc to keep all of it, or name one view.",
        )
    dims = list(dict.fromkeys(str(dim) for array in arrays.values() for dim in array.dims))
    labels = list(dict.fromkeys(str(c) for a in arrays.values() for c in a.coords if c not in dims))
    written = io.StringIO()
    writer = tables.writer(written, lineterminator="\n")
    writer.writerow(["variable", *dims, *labels, "value"])
    for name, array in arrays.items():
        writer.writerows(_rows(name, array, dims, labels))
    return written.getvalue()


def _arrays(result: Result, view: int | None) -> Mapping[str, xr.DataArray]:
    if view is None:
        return {str(name): array for name, array in result.data.data_vars.items()}
    found = resolve(view_at(result, view), result.data)
    drawn = {str(array.name): array for array in found.values()}
    return {name: array for name, array in drawn.items() if name in result.data.data_vars} or drawn


def _rows(name: str, array: xr.DataArray, dims: list[str], labels: list[str]) -> Iterator[list[Any]]:
    places = {str(dim): _places(array, dim) for dim in array.dims}
    own = {str(coord): array.coords[coord] for coord in array.coords if coord not in dims}
    for index, value in zip(np.ndindex(array.shape), array.values.ravel().tolist()):
        at = dict(zip(map(str, array.dims), index))
        where = [places[dim][at[dim]] if dim in at else "" for dim in dims]
        named = [_label(own[label], at) if label in own else "" for label in labels]
        yield [name, *where, *named, value]


def _places(array: xr.DataArray, dim: Hashable) -> list[Any]:
    return array.coords[dim].values.tolist() if dim in array.coords else list(range(array.sizes[dim]))


def _label(coord: xr.DataArray, at: Mapping[str, int]) -> Any:
    return coord.values[tuple(at[str(dim)] for dim in coord.dims)]
