"""Batches are as large as the free memory allows, and never empty."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutaway.models import memory

CPU = torch.device("cpu")


@given(st.integers(0, 50), st.integers(1, 60))
def test_chunks_hold_everything_once_in_order(n: int, rows: int) -> None:
    found = memory.chunks(range(n), rows)
    assert [place for chunk in found for place in chunk] == list(range(n))
    assert all(0 < len(chunk) <= rows for chunk in found)


def test_rows_follow_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    free = 1000
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    assert memory.rows_at_once(10, 1, CPU) == int(1000 * memory.SHARE) // 10
    assert memory.rows_at_once(10_000, 1, CPU) == 1
    free = 10**12
    assert memory.rows_at_once(1, 100, CPU) == memory.CPU_TOKENS // 100
    assert memory.rows_at_once(1, 10**9, CPU) == 1
    assert memory.rows_at_once(0, 0, CPU) == memory.CPU_TOKENS


def test_free_memory_is_measured() -> None:
    import psutil

    assert 0 < memory.free_bytes(CPU) <= psutil.virtual_memory().total
