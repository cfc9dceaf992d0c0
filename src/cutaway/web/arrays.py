"""Which part of an array is asked for, and how does it travel? A selection by dimension, answered in binary.

Only the part asked for is read from the file, so a tensor that is larger than memory is browsed slice by
slice. Numbers travel little-endian in C order: floating point as it is kept, truth values as bytes, integers
as 32 bits where they fit and as float64 where that is exact; other integers, and text, as a JSON list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cutaway.core.errors import nearest
from cutaway.web.answers import NotHere, Refusal, encoded, finite

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from numpy.typing import NDArray

_SELECTION = re.compile(r"(?P<index>-?\d{1,15})|(?P<start>\d{0,15}):(?P<stop>\d{0,15})(?::(?P<step>\d{1,15}))?")
_EXACT = 2**53

Selection = int | slice


@dataclass(frozen=True)
class Sent:
    """A part of an array as it travels."""

    body: bytes
    media_type: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str

    @property
    def headers(self) -> dict[str, str]:
        """What a reader needs in order to decode it."""
        return {
            "x-dims": ",".join(quote(dim, safe=" -_.") for dim in self.dims),
            "x-shape": ",".join(map(str, self.shape)),
            "x-dtype": self.dtype,
        }


def selection_of(query: Sequence[tuple[str, str]]) -> dict[str, Selection]:
    """What a query string selects: `layer=3&position=0:10`.

    Raises:
        Refusal: a selection that is not written so, or a dimension named twice.
    """
    chosen: dict[str, Selection] = {}
    for dim, text in query:
        found = _SELECTION.fullmatch(text)
        if not found or dim in chosen or found["step"] == "0" or (found["step"] or "1").strip("0") == "":
            raise Refusal(
                422,
                f"{dim}={text[:40]} is not a selection{' (it is named twice)' if dim in chosen else ''};",
                "a dimension stands at one index, or goes from one to before another, in steps where wanted.",
                f"Write {dim}=3, {dim}=0:10 or {dim}=0:100:2.",
            )
        if found["index"] is not None:
            chosen[dim] = int(found["index"])
        else:
            ends = (int(found[part]) if found[part] else None for part in ("start", "stop", "step"))
            chosen[dim] = slice(*ends)
    return chosen


def read_part(path: Path, name: str, selection: Mapping[str, Selection], largest: int) -> Sent:
    """The selected part of an array in a result's file.

    Raises:
        NotHere: there is no such array.
        Refusal: a dimension or an index that it does not have, or a part that is too large.
    """
    with _opened(path) as (opened, said):
        records: Mapping[str, Any] = said["arrays"]
        if name not in records:
            raise NotHere(f"the result has no array {name[:80]!r};", nearest(name, records))
        variable = opened.variables[name]
        part = variable.isel(_checked(variable, name, selection))
        if part.size * max(1, variable.dtype.itemsize) > largest:
            raise _too_large(part, largest)
        return _sent(part, records[name])


def describe(path: Path) -> dict[str, Any]:
    """Everything about a kept result but its numbers, as JSON values."""
    from cutaway.core.result import Check

    with _opened(path) as (opened, said):
        arrays = [_array_record(str(name), opened.variables[name], record) for name, record in said["arrays"].items()]
        dims = {str(dim): int(size) for dim, size in opened.sizes.items()}
    checks = [Check(**record) for record in said["checks"]]
    return {
        "provenance": said["provenance"],
        "notes": said["notes"],
        "checks": [{**vars(c), "interval": list(c.interval), "verdict": c.verdict, "place": c.place} for c in checks],
        "views": said["views"],
        "arrays": arrays,
        "dims": dims,
    }


@contextmanager
def _opened(path: Path) -> Iterator[tuple[xr.Dataset, dict[str, Any]]]:
    """The file of a result, not yet read, and what is said in it.

    Raises:
        Refusal: it is damaged.
    """
    try:
        status = path.stat()
        yield _kept_open(path, status.st_mtime_ns, status.st_size)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise Refusal(
            422,
            f"the file of the result cannot be read: it is damaged ({type(error).__name__});",
            "a result is one file, as it was written.",
            "`cutaway store check` says which files are damaged; make it again.",
        ) from error


@lru_cache(maxsize=32)
def _kept_open(path: Path, written: int, size: int) -> tuple[xr.Dataset, dict[str, Any]]:
    """The same, open for the next reader: opening costs more than most parts. Another file under the name is another."""
    import xarray as xr

    from cutaway.store.netcdf import ENGINE

    # Closed by xarray when nobody holds it any more: another thread may still read when it is put out of the cache.
    opened = xr.open_dataset(path, engine=ENGINE, mask_and_scale=False, decode_times=False)
    parts = ("checks", "views", "notes", "provenance", "arrays")
    return opened, {name: json.loads(opened.attrs[name]) for name in parts}


def _array_record(name: str, variable: xr.Variable, record: Mapping[str, Any]) -> dict[str, Any]:
    import numpy as np

    text = record["type"] == "text"
    return {
        "name": name,
        "dims": [str(dim) for dim in variable.dims],
        "shape": list(variable.shape),
        "dtype": "string" if text else np.dtype(record["type"]).name,
        "coordinate": bool(record["coordinate"]),
        "attrs": finite(record["attributes"]),
    }


def _checked(variable: xr.Variable, name: str, selection: Mapping[str, Selection]) -> dict[str, Selection]:
    for dim, chosen in selection.items():
        if dim not in variable.dims:
            known = [str(each) for each in variable.dims]
            expected = f"it has {', '.join(known) or 'none'}."
            raise Refusal(422, f"{name!r} has no dimension {dim[:80]!r};", expected, nearest(dim, known))
        size = variable.sizes[dim]
        if isinstance(chosen, int) and not -size <= chosen < size:
            has = f"it has the indices 0 to {size - 1}." if size else "it is empty."
            raise Refusal(422, f"{dim} has no index {chosen};", has)
    return dict(selection)


def _too_large(part: xr.Variable, largest: int) -> Refusal:
    shape = " × ".join(map(str, part.shape))
    biggest = part.dims[max(range(part.ndim), key=lambda axis: part.shape[axis])] if part.ndim else ""
    return Refusal(
        413,
        f"the part asked for is {shape}, more than {largest:,} bytes;",
        "large arrays are read slice by slice.",
        f"Select a part of it, as in {biggest}=0:100.",
    )


def _sent(part: xr.Variable, record: Mapping[str, Any]) -> Sent:
    import numpy as np

    from cutaway.store.escape import unescaped

    dims, shape = tuple(str(dim) for dim in part.dims), tuple(part.shape)
    values = np.asarray(part.values)
    if record["type"] == "text":
        texts = values.astype(object)
        if record["escaped"]:
            texts = unescaped(texts)
        return Sent(encoded(texts.ravel().tolist()), "application/json", dims, shape, "string")
    portable, dtype = _portable(values.astype(record["type"]))
    if dtype == "string":
        digits = [str(value) for value in portable.ravel().tolist()]
        return Sent(encoded(digits), "application/json", dims, shape, dtype)
    return Sent(portable.tobytes(), "application/octet-stream", dims, shape, dtype)


def _portable(values: NDArray[Any]) -> tuple[NDArray[Any], str]:
    import numpy as np

    match values.dtype.kind:
        case "b":
            return np.ascontiguousarray(values, "u1"), "bool"
        case "i" | "u":
            return _whole_numbers(values)
        case _:
            wide = "<f8" if values.dtype.itemsize == 8 else "<f4"
            return np.ascontiguousarray(values, wide), "float64" if wide == "<f8" else "float32"


def _whole_numbers(values: NDArray[np.integer]) -> tuple[NDArray[Any], str]:
    import numpy as np

    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if low >= -(2**31) and high < 2**31:
        return np.ascontiguousarray(values, "<i4"), "int32"
    if low >= -_EXACT and high <= _EXACT:
        return np.ascontiguousarray(values, "<f8"), "float64"
    return values, "string"
