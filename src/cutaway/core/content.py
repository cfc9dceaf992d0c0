"""What exactly do these arrays hold? One form for equal contents, frozen, and a hash of it.

The same numbers reach a Result as different objects: text as fixed-width or Python strings, bytes in either
order, numbers in half precision. `frozen_dataset` gives them one form that a file can hold too, and
`digest` hashes that form, so that equality does not depend on how an array was made or where it was read.
Limits: no dates, no complex numbers, no indices of several levels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cutaway.core.errors import MethodError


def frozen_dataset(data: xr.Dataset) -> xr.Dataset:
    """A copy in the one form, whose arrays cannot be written to.

    Raises:
        MethodError: not a Dataset, or something in it that cannot be kept.
    """
    if not isinstance(data, xr.Dataset):
        raise MethodError(
            f"the data of a result are a {type(data).__name__};",
            "they are an xarray.Dataset.",
            'Write xarray.Dataset({"name": (("layer", "position"), array)}).',
        )
    for name in (*data.variables, *data.sizes):
        _refuse_name(name)
    plain = {name: _frozen_variable(str(name), variable) for name, variable in data.variables.items()}
    coords = {name: plain[name] for name in data.coords}
    arrays = {name: plain[name] for name in data.data_vars}
    return xr.Dataset(arrays, coords=coords, attrs=_plain_attributes("the data", data.attrs))


def digest(data: xr.Dataset, said: Mapping[str, Any]) -> str:
    """SHA-256 of arrays in the one form and of what is said about them, in hexadecimal digits."""
    summer = hashlib.sha256()
    for name in sorted(str(name) for name in data.variables):
        variable = data.variables[name]
        kind = "coordinate" if name in data.coords else "array"
        head = [name, kind, [str(dim) for dim in variable.dims], list(variable.shape)]
        dtype = variable.dtype.newbyteorder("<").str
        summer.update(_canonical([*head, dtype, dict(variable.attrs)]))
        for piece in _bytes_of(variable.values):
            summer.update(piece)
    summer.update(_canonical([sorted(str(dim) for dim in data.sizes), dict(data.attrs), said]))
    return summer.hexdigest()


def _bytes_of(array: NDArray[Any]) -> Iterable[bytes]:
    if array.dtype.kind == "O":
        encoded = [text.encode("utf-8", "surrogatepass") for text in array.ravel().tolist()]
        yield np.array([len(text) for text in encoded], dtype="<u8").tobytes()
        yield b"".join(encoded)
        return
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    if array.dtype.kind == "f":
        little = np.where(np.isnan(little), little.dtype.type("nan"), little)  # one NaN, whatever its bits
    yield little.tobytes()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=True).encode() + b"\n"


def _refuse_name(name: Hashable) -> None:
    if not isinstance(name, str) or not name.isprintable() or not name or set("/ ") & set(name):
        raise MethodError(
            f"{name!r} cannot name an array or a dimension in a file;",
            "a name is printable text without '/' and without spaces.",
            'Write for example "logit_difference", and what people read into attrs["long_name"].',
        )


def _frozen_variable(name: str, variable: xr.Variable) -> xr.Variable:
    values = _plain_values(name, np.asarray(variable.values))
    if values.flags.writeable:
        values = values.copy()
        values.flags.writeable = False
    return xr.Variable(variable.dims, values, attrs=_plain_attributes(repr(name), variable.attrs))


def _plain_values(name: str, values: NDArray[Any]) -> NDArray[Any]:
    kind = values.dtype.kind
    if kind in "UT":
        return values.astype(object)
    if kind == "O":
        wrong = [item for item in values.ravel().tolist() if not isinstance(item, str)]
        if not wrong:
            return values
        raise _unkept(name, f"{wrong[0]!r} ({type(wrong[0]).__name__}) among its elements")
    if kind == "f" and values.dtype.itemsize == 2:
        return values.astype(np.float32)
    if kind not in "biuf" or values.dtype.itemsize > 8:
        raise _unkept(name, f"the type {values.dtype}")
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _unkept(name: str, what: str) -> MethodError:
    return MethodError(
        f"the array {name!r} has {what};",
        "arrays hold whole or real numbers up to 64 bits, truth values, or text.",
        "Convert it with .astype(float) or .astype(str).",
    )


def _plain_attributes(owner: str, attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes as they will be read back; a unit or a long name is used by the pictures."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps({str(k): _item(v) for k, v in attributes.items()}))
    except (TypeError, ValueError) as error:
        raise MethodError(
            f"an attribute of {owner} cannot be written as JSON ({error});", "attributes are text or numbers."
        ) from error
    return plain


def _item(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
