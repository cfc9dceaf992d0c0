"""The conversation between the harness and one side: JSON lines in, JSON lines out.

A side is a table of works. A work gets the side's state and its arguments, prepares what its user would have
at hand already (token tensors, cell lists), and returns a function without arguments: only that function is
timed. So a side stays alive, opens its model once, and the harness can alternate sides within one run.

Limits: peak memory is read from `/proc/self/status` and reset through `/proc/self/clear_refs`, so it is
measured on Linux only (elsewhere it is left out). `ru_maxrss` is not used: after a fork it starts at the
parent's peak.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

Values = Mapping[str, Any]
Thunk = Callable[[], Values | None]
Work = Callable[..., Thunk]
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Setup:
    """What a side is started with."""

    model: str
    threads: int
    architecture: str


@dataclass(frozen=True)
class Measured:
    """One timed call: seconds, bytes held before and at the peak (None where not measurable), its values."""

    seconds: float
    before: int | None
    peak: int | None
    values: Values | None


def resident(key: str) -> int | None:
    """A field of `/proc/self/status` in bytes: VmRSS is what is held now, VmHWM the peak."""
    if not STATUS.exists():
        return None
    line = next((line for line in STATUS.read_text().splitlines() if line.startswith(key)), None)
    return int(line.split()[1]) * 1024 if line else None


def reset_peak() -> None:
    """Make the peak start again at what is held now."""
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")


def give_back() -> None:
    """Return free memory to the system, so that a call's peak is not hidden in what an earlier one left."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def measure(thunk: Thunk, *, memory: bool = False) -> Measured:
    """Time one call, with its peak memory; `memory` makes the peak exact, at the cost of fresh pages."""
    gc.collect()
    if memory:
        give_back()
    reset_peak()
    before = resident("VmRSS")
    start = time.perf_counter()
    values = thunk()
    seconds = time.perf_counter() - start
    return Measured(seconds, before, resident("VmHWM"), values)


def versions(names: tuple[str, ...]) -> dict[str, str]:
    """The versions of the distributions of this environment that matter for the figures."""
    return {name: metadata.version(name) for name in ("torch", "transformers", "numpy", *names)}


def save(values: Values, path: str) -> None:
    """Write the values of a call, for the comparison with the other side's."""
    import numpy as np

    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in values.items()}
    np.savez(path, **arrays)


def answer(works: Mapping[str, Work], state: Any, command: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out one command: its measured figures, or the error as text."""
    try:
        thunk = works[command["work"]](state, **command.get("arguments", {}))
        measured = measure(thunk, memory=command.get("memory", False))
        if command.get("values") and measured.values is not None:
            save(measured.values, command["values"])
    except Exception:  # noqa: BLE001 - whatever a peer raises is passed on to the harness as text
        return {"error": traceback.format_exc()}
    return {"seconds": measured.seconds, "before": measured.before, "peak": measured.peak}


def private_stdout() -> TextIO:
    """Keep standard output for the conversation: whatever libraries print goes to standard error."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


def arguments() -> Setup:
    """Read the command line of a side."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--architecture", default="")
    read = parser.parse_args()
    return Setup(read.model, read.threads, read.architecture)


def import_architecture(name: str) -> None:
    """Import a class of transformers, which otherwise happens within the first opening, on every side."""
    import transformers

    if name:
        getattr(transformers, name)


def serve(
    imports: Callable[[], None],
    prepare: Callable[[Setup], Any],
    works: Mapping[str, Work],
    distributions: tuple[str, ...] = (),
) -> None:
    """Open the model, say so with what that cost, then carry out commands until standard input ends.

    Args:
        imports: imports the libraries, so that opening is timed without them.
        prepare: opens the model and returns the state that works get.
        works: what this side can do, by name.
        distributions: whose versions are reported, besides torch, transformers and numpy.
    """
    channel, setup = private_stdout(), arguments()

    def say(message: Mapping[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    try:
        import torch

        imports()
        import_architecture(setup.architecture)
        torch.set_num_threads(setup.threads)
        opened = measure(lambda: {"state": prepare(setup)})
    except Exception:  # noqa: BLE001 - passed on to the harness as text
        say({"error": traceback.format_exc()})
        sys.exit(1)
    say(
        {
            "ready": True,
            "seconds": opened.seconds,
            "before": opened.before,
            "peak": opened.peak,
            "after": resident("VmRSS"),
            "versions": versions(distributions),
            "works": sorted(works),
        }
    )
    assert opened.values is not None
    for line in sys.stdin:
        say(answer(works, opened.values["state"], json.loads(line)))
