"""What does starting cost? `import cutaway` and `cutaway list`, against bare Python and importing typer."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.harness import Bench, Facts, Row, compare, pairs_of, rounds
from bench.sides import ROOT, Answer, Side

PYTHON = sys.executable
LIST = str(Path(sys.executable).with_name("cutaway"))


def started(command: Sequence[str]) -> Answer:
    """How long a command takes, from start to end."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return Answer(time.perf_counter() - start, None, None)


def row(bench: Bench, work: str, ours: Sequence[str], theirs: Sequence[str], against: str, limit: float) -> Row:
    """One command against another; the median of ours also against its limit in seconds."""
    found = rounds({"ours": lambda: started(ours), "theirs": lambda: started(theirs)}, bench.count(20, 2))
    median = float(np.median([answer.seconds for answer in found["ours"]]))
    within = "yes" if median <= limit else "no"
    facts: Facts = {"our seconds": round(median, 4), "may take, seconds": limit, "within": within}
    return compare(work, work, against, "cost", pairs_of(found["ours"], found["theirs"]), facts=facts)


def measure(bench: Bench) -> tuple[list[Row], list[Side]]:
    """All rows; no side takes part."""
    return [
        row(
            bench,
            "import cutaway",
            [PYTHON, "-c", "import cutaway"],
            [PYTHON, "-c", "pass"],
            "python -c pass",
            0.3,
        ),
        row(
            bench,
            "cutaway list",
            [LIST, "list"],
            [PYTHON, "-c", "import typer"],
            "python -c 'import typer'",
            0.6,
        ),
    ], []
