"""What was not seen in training? Groups dealt out into parts, with a seed.

Whole groups are dealt out (a sentence, a word in all its spellings), never single rows: what stands in one group is alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cutaway.core.errors import MethodError


def parts(groups: int, shares: Sequence[float], seed: int) -> list[NDArray[np.int64]]:
    """Which groups are in which part, each in ascending order and none empty.

    Args:
        groups: how many there are.
        shares: of each part; the last part gets what is left.
        seed: deals them out.

    Raises:
        MethodError: fewer groups than parts.
    """
    if groups < len(shares):
        raise MethodError(
            f"{groups} sentences or words cannot be dealt out into {len(shares)} parts;",
            "a probe is trained on some and tested on others.",
            f"Give {len(shares)} or more.",
        )
    order = np.random.default_rng(seed).permutation(groups)
    free = groups - len(shares)
    found, start = [], 0
    for place, share in enumerate(shares):
        size = 1 + round(free * share) if place < len(shares) - 1 else groups - start
        size = min(size, groups - start - (len(shares) - 1 - place))
        found.append(np.sort(order[start : start + size]))
        start += size
    return found
