"""How is a Result kept so that all of it comes back, and others can read it too? As one NetCDF file.

The arrays are a plain dataset that `xarray.open_dataset(path)` opens; metrics, views, checks, notes and
provenance stand in its attributes as JSON. The file carries the version of its format and the hash of its
contents: what is read is what was written, or the reader is told.
Limits: text that NetCDF cannot hold is written with escapes (see `escape`), which plain xarray shows as
they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from cutaway.core.errors import StoreError, nearest
from cutaway.core.method import format
from cutaway.core.result import Format, Result, result_from, said_in
from cutaway.store.atomic import replacing
from cutaway.store.escape import escaped, needs_escape, unescaped

VERSION = 1
ENGINE: Any = "h5netcdf"
_COMPRESSED_FROM = 64 * 1024  # bytes; below it, compression costs more than it saves
_UNREADABLE = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError)


@format("netcdf", asks="How do I keep everything that a result holds?", suffixes=(".nc",))
def netcdf() -> Format:
    """NetCDF: everything that a result holds, in a file that plain xarray opens."""
    return Format(save, load)


def save(result: Result, path: Path) -> None:
    """Write the result, whole or not at all.

    Raises:
        StoreError: the file cannot be written.
    """
    arrays = {str(name): _record(variable) for name, variable in result.data.variables.items()}
    for name in result.data.coords:
        arrays[str(name)]["coordinate"] = True
    written = {name: _writable(result.data.variables[name], record) for name, record in arrays.items()}
    data = _dataset(written, arrays)
    parts = {**said_in(result), "provenance": dict(result.provenance), "arrays": arrays}
    parts["attributes"] = dict(result.data.attrs)
    data.attrs = {"cutaway_format": VERSION, "cutaway_id": result.id}
    data.attrs |= {name: json.dumps(part) for name, part in parts.items()}
    with replacing(path) as beside:
        data.to_netcdf(beside, engine=ENGINE, encoding=_encoding(data))


def load(path: Path) -> Result:
    """Read what `save` wrote.

    Raises:
        StoreError: the file is absent, damaged, changed, newer than this version, or not ours.
    """
    _refuse_absent(path)
    try:
        with xr.open_dataset(path, engine=ENGINE, mask_and_scale=False, decode_times=False) as opened:
            data = opened.load()
    except _UNREADABLE as error:
        raise _damaged(path, error) from error
    _refuse_foreign(path, data.attrs)
    try:
        parts = {name: json.loads(part) for name, part in data.attrs.items() if not name.startswith("cutaway_")}
        result = result_from(_restored(data, parts), parts, parts["provenance"])
    except _UNREADABLE as error:
        raise _damaged(path, error) from error
    if result.id != data.attrs.get("cutaway_id"):
        raise StoreError(
            f"{path} does not hold what was written: its contents and its id differ.",
            "A part of it was damaged, or changed by another program.",
            "Make it again, or read its arrays with xarray.open_dataset.",
        )
    return result


def _record(variable: xr.Variable) -> dict[str, Any]:
    """What a file cannot say about an array by itself."""
    text = variable.dtype.kind == "O"
    return {
        "type": "text" if text else variable.dtype.newbyteorder("<").str,
        "escaped": text and needs_escape(variable.values),
        "attributes": dict(variable.attrs),
        "coordinate": False,
    }


def _writable(variable: xr.Variable, record: Mapping[str, Any]) -> xr.Variable:
    shown = {key: value for key, value in variable.attrs.items() if key in ("long_name", "units", "description")}
    shown = {key: value for key, value in shown.items() if isinstance(value, str) and value.isprintable()}
    values = escaped(variable.values) if record["escaped"] else variable.values
    if record["type"] == "text" and not variable.size:
        values = np.zeros(variable.shape, dtype=np.int8)  # an empty array of text has no type in the file
    return xr.Variable(variable.dims, values, attrs=shown)


def _encoding(data: xr.Dataset) -> dict[str, dict[str, Any]]:
    chosen: dict[str, dict[str, Any]] = {}
    for name, variable in data.variables.items():
        encoding: dict[str, Any] = {"_FillValue": None} if variable.dtype.kind == "f" else {}
        if variable.dtype.kind in "iuf" and variable.nbytes >= _COMPRESSED_FROM:
            encoding |= {"zlib": True, "complevel": 4, "shuffle": True}
        chosen[str(name)] = encoding
    return chosen


def _restored(data: xr.Dataset, parts: Mapping[str, Any]) -> xr.Dataset:
    arrays: Mapping[str, Mapping[str, Any]] = parts["arrays"]
    restored = {name: _read(data.variables[name], record) for name, record in arrays.items()}
    return _dataset(restored, arrays).assign_attrs(parts["attributes"])


def _dataset(variables: Mapping[str, xr.Variable], arrays: Mapping[str, Mapping[str, Any]]) -> xr.Dataset:
    coords = {name: variable for name, variable in variables.items() if arrays[name]["coordinate"]}
    return xr.Dataset({k: v for k, v in variables.items() if k not in coords}, coords=coords)


def _read(variable: xr.Variable, record: Mapping[str, Any]) -> xr.Variable:
    values = variable.values
    if record["type"] == "text":
        values = unescaped(values.astype(object)) if record["escaped"] else values.astype(object)
    else:
        values = values.astype(record["type"])
    values.flags.writeable = False
    return xr.Variable(variable.dims, values, attrs=record["attributes"])


def _refuse_absent(path: Path) -> None:
    if path.is_file():
        return
    beside = [other.name for other in path.parent.glob("*.nc")] if path.parent.is_dir() else []
    what = "is a folder" if path.is_dir() else "does not exist"
    raise StoreError(f"{path} {what}.", "A result is one file, as result.save wrote it;", nearest(path.name, beside))


def _refuse_foreign(path: Path, attributes: Mapping[str, Any]) -> None:
    version = attributes.get("cutaway_format")
    if version is None:
        raise StoreError(
            f"{path} is a NetCDF file, but no result of cutaway.",
            "Results are written by result.save.",
            "Read it with xarray.open_dataset.",
        )
    if int(version) > VERSION:
        raise StoreError(
            f"{path} is written in format {version}, which this version of cutaway does not know.",
            f"It reads the formats up to {VERSION}.",
            "Install a newer cutaway: pip install -U cutaway",
        )


def _damaged(path: Path, error: Exception) -> StoreError:
    return StoreError(
        f"{path} cannot be read as a result: it is damaged or not a NetCDF file ({type(error).__name__}).",
        "A result is one file, as result.save wrote it.",
        "Make it again, or take another copy.",
    )
