"""How does a program in another language read a Result? As JSON, with every array written out.

Numbers that JSON does not know are written as the text "NaN", "Infinity" and "-Infinity", so the file is
strict JSON; it can be read back.
Limits: meant for small results; arrays are several times larger than in NetCDF.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from cutaway.core.errors import CutawayError, StoreError
from cutaway.core.method import format
from cutaway.core.result import Format, Result, result_from, said_in
from cutaway.store.atomic import write_bytes

VERSION = 1
_MOST_NUMBERS = 5_000_000
_NAMES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@format("json", asks="How do I read a result in another language?", suffixes=(".json",))
def json_file() -> Format:
    """JSON: everything that a result holds, for programs in other languages."""
    return Format(save, load)


def record_of(result: Result) -> dict[str, Any]:
    """The whole result as values of strict JSON.

    Raises:
        StoreError: the arrays are too large to be written out.
    """
    size = sum(variable.size for variable in result.data.variables.values())
    if size > _MOST_NUMBERS:
        raise StoreError(
            f"the result has {size:,} numbers, too many to write as JSON;",
            f"{_MOST_NUMBERS:,} is the most.",
            'Write "result.nc", which keeps arrays as they are.',
        )
    arrays = {
        str(name): {
            "dims": [str(dim) for dim in variable.dims],
            "shape": list(variable.shape),
            "type": "text" if variable.dtype.kind == "O" else variable.dtype.name,
            "coordinate": name in result.data.coords,
            "attributes": variable.attrs,
            "values": variable.values.tolist(),
        }
        for name, variable in result.data.variables.items()
    }
    whole = {"cutaway_format": VERSION, "id": result.id, **said_in(result)}
    whole |= {"provenance": dict(result.provenance), "attributes": result.data.attrs, "arrays": arrays}
    record: dict[str, Any] = strict(whole)
    return record


def save(result: Result, path: Path) -> None:
    """Write the result, whole or not at all.

    Raises:
        StoreError: the result is too large, or the file cannot be written.
    """
    write_bytes(path, json.dumps(record_of(result), indent=1, allow_nan=False).encode())


def load(path: Path) -> Result:
    """Read what `save` wrote.

    Raises:
        StoreError: the file is absent, damaged, newer than this version, or not ours.
    """
    try:
        record = json.loads(path.read_bytes())
        if not isinstance(record, dict) or record["cutaway_format"] != VERSION:
            raise ValueError("another format")
        said = {**record, "metrics": _numbers(record["metrics"])}
        said["checks"] = [_numbers(check) for check in record["checks"]]
        return result_from(_dataset(record), said, record["provenance"])
    except (OSError, ValueError, KeyError, TypeError, CutawayError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise StoreError(
            f"{path} {'does not exist' if missing else 'cannot be read as a result'}.",
            f"A result is read from JSON that result.save wrote, in format {VERSION}.",
            "" if missing else "Make it again, or take another copy.",
        ) from error


def _dataset(record: Mapping[str, Any]) -> xr.Dataset:
    coords: dict[str, xr.Variable] = {}
    others: dict[str, xr.Variable] = {}
    for name, array in record["arrays"].items():
        kept = coords if array["coordinate"] else others
        kept[name] = xr.Variable(array["dims"], _values(array), attrs=array["attributes"])
    return xr.Dataset(others, coords=coords, attrs=record["attributes"])


def _values(array: Mapping[str, Any]) -> Any:
    if array["type"] != "text":
        return np.array(_numbers(array["values"]), dtype=array["type"]).reshape(array["shape"])
    values = np.empty(array["shape"], dtype=object)
    values[...] = np.array(array["values"], dtype=object).reshape(array["shape"])
    return values


def strict(value: Any) -> Any:
    """The value with the numbers that JSON does not know as the text "NaN", "Infinity" or "-Infinity"."""
    match value:
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case Mapping():
            return {key: strict(item) for key, item in value.items()}
        case list() | tuple():
            return [strict(item) for item in value]
    return value


def _numbers(value: Any) -> Any:
    match value:
        case str():
            return _NAMES.get(value, value)
        case Mapping():
            return {key: _numbers(item) for key, item in value.items()}
        case list():
            return [_numbers(item) for item in value]
    return value
