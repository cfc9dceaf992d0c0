"""How do arrays travel to a page? A line of JSON that says what they are, then their numbers.

Numbers are little-endian in C order; truth values are bytes; integers are 32 bits wide. Limits: integers that do not
fit into 32 bits are refused, never cut.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cutaway.core.errors import CutawayError


@dataclass(frozen=True, eq=False)
class Bundle:
    """Named arrays of one prompt.

    Attributes:
        arrays: (name, dims, values) of each.
        tokens: the prompt's tokens as text.
        facts: what else is to be known, as JSON values; it stands in the header.
    """

    arrays: tuple[tuple[str, tuple[str, ...], NDArray[Any]], ...]
    tokens: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The header line and the numbers."""
        entries, parts, offset = [], [], 0
        for name, dims, values in self.arrays:
            plain, dtype = _portable(name, values)
            body = plain.tobytes()
            shape = list(plain.shape)
            entries.append(
                {"name": name, "dims": list(dims), "shape": shape, "dtype": dtype, "offset": offset, "bytes": len(body)}
            )
            parts.append(body)
            offset += len(body)
        header = {**self.facts, "arrays": entries, "tokens": list(self.tokens)}
        return b"".join([json.dumps(header, allow_nan=False).encode(), b"\n", *parts])


def _portable(name: str, values: NDArray[Any]) -> tuple[NDArray[Any], str]:
    if values.dtype == np.bool_:
        return np.ascontiguousarray(values, dtype="u1"), "bool"
    if np.issubdtype(values.dtype, np.integer):
        limits = np.iinfo(np.int32)
        if values.size and not (limits.min <= values.min() and values.max() <= limits.max):
            raise CutawayError(f"{name!r} has integers of more than 32 bits.", "They would be cut.", "Send text.")
        return np.ascontiguousarray(values, dtype="<i4"), "int32"
    if values.dtype == np.float64:
        return np.ascontiguousarray(values, dtype="<f8"), "float64"
    return np.ascontiguousarray(values, dtype="<f4"), "float32"
