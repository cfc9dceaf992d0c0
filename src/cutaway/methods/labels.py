"""What stands at a position, and what is an array called? Labels of positions, and names for people.

Prompts of different lengths share one array: beyond the end of a shorter one the token is empty text. The name of an
array is for programs; pictures and tables show its long name and its unit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cutaway.models.model import Model


def token_table(model: Model, ids: Sequence[Sequence[int]]) -> NDArray[np.object_]:
    """The tokens of prompts [prompt, position] as text."""
    table = np.full((len(ids), max(map(len, ids))), "", dtype=object)
    for row, prompt in enumerate(ids):
        table[row, : len(prompt)] = model.token_strings(prompt)
    return table


def shared_labels(table: NDArray[np.object_], positions: Sequence[int]) -> list[str]:
    """A label for each position: its number, with the token where all prompts have the same one there."""
    labels = []
    for position in positions:
        here = {str(text) for text in table[:, position] if text}
        labels.append(f"{position} {here.pop()}" if len(here) == 1 else str(position))
    return labels


def quoted(token: str) -> str:
    """A token in a sentence, with the space that it begins with: “ Mary”, which pictures and pages show as “·Mary”."""
    return f"“{token}”"


def described(data: xr.Dataset, **names: str | tuple[str, str]) -> xr.Dataset:
    """The data, with names (or names and units) for people at the arrays that pictures and tables show."""
    for name, said in names.items():
        long_name, units = (said, "") if isinstance(said, str) else said
        data[name].attrs |= {"long_name": long_name} | ({"units": units} if units else {})
    return data
