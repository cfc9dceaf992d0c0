"""What stands at a position? Tokens of prompts as labels of arrays.

Prompts of different lengths share one array: beyond the end of a shorter one the token is empty text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
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
