"""How many rows fit at once? Batches are sized from the memory that is free now: a long sweep slows down, never dies."""

from __future__ import annotations

from collections.abc import Sequence

import torch

SHARE = 0.35
# More tokens than these at once make a CPU no faster, and only fill its caches.
CPU_TOKENS = 6144
GPU_TOKENS = 65536


def free_bytes(device: torch.device) -> int:
    """Bytes that can be allocated on a device now."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    import psutil

    return int(psutil.virtual_memory().available)


def rows_at_once(bytes_per_row: int, tokens_per_row: int, device: torch.device) -> int:
    """Rows of a batch that fit into a share of the free memory, at least one."""
    by_memory = int(free_bytes(device) * SHARE) // max(1, bytes_per_row)
    by_tokens = (GPU_TOKENS if device.type == "cuda" else CPU_TOKENS) // max(1, tokens_per_row)
    return max(1, min(by_memory, by_tokens))


def chunks(sizes: Sequence[int], rows: int) -> list[list[int]]:
    """Indices of `sizes` in order, cut into groups of at most `rows`."""
    return [list(range(start, min(start + rows, len(sizes)))) for start in range(0, len(sizes), rows)]
