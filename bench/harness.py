"""Which side is faster, and by how much? Alternating pairs in one run, the median ratio, an interval.

Both sides stay alive as processes and take turns, and the order within a pair changes from pair to pair: what
disturbs the machine disturbs both. The figure of a row is the median of the ratios of its pairs; its interval
is the 95 % bootstrap interval of that median. A record says with which versions, processors, weights and load
it was made, and is written whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.prompts import Pair, pair
from bench.sides import OWN_SIDES, ROOT, Answer, Side, side

RECORDS = ROOT / "bench" / "records"
QUICK = ROOT / "bench" / ".quick"
SEED = 20_261

Sense = Literal["cost", "speed"]
Facts = Mapping[str, float | int | str | None]
Call = Callable[[], "Answer"]


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        work: what was done.
        ours: which way of ours.
        against: which way of whom.
        sense: `cost` is ours / theirs (smaller is better), `speed` is theirs / ours (larger is better).
        seconds: per pair (ours, theirs); of one cell where the work is a number of cells.
        ratio, low, high: the median of the pairs' ratios and its interval.
        reach: the ratio to reach; None where the row only informs.
        met: whether the ratio reaches it.
        unit: what the seconds are of: "call", "cell", "token".
        difference: largest absolute difference of the two sides' values.
        tolerance: what it may be.
        facts: further figures, by name.
    """

    work: str
    ours: str
    against: str
    sense: Sense
    seconds: Sequence[tuple[float, float]]
    ratio: float
    low: float
    high: float
    reach: float | None = None
    met: bool | None = None
    unit: str = "call"
    difference: float | None = None
    tolerance: float | None = None
    facts: Facts = field(default_factory=dict)

    @property
    def equal(self) -> bool | None:
        """Whether the two sides gave the same values; None where they are not compared."""
        if self.difference is None or self.tolerance is None:
            return None
        return self.difference <= self.tolerance


def rounds(calls: Mapping[str, Call], count: int, *, warm: int = 1) -> dict[str, list[Answer]]:
    """Have everyone do their work once a round; who comes first changes from round to round.

    Args:
        calls: by name what is done.
        count: number of rounds.
        warm: rounds before, whose figures are dropped.

    Returns:
        By name the answers, one for each round.
    """
    found: dict[str, list[Answer]] = {name: [] for name in calls}
    names = list(calls)
    for index in range(-warm, count):
        shift = index % len(names)
        for name in names[shift:] + names[:shift]:
            answer = calls[name]()
            if index >= 0:
                found[name].append(answer)
    return found


def pairs_of(ours: Sequence[Answer], theirs: Sequence[Answer]) -> list[tuple[float, float]]:
    """Seconds of both sides, round by round."""
    return [(mine.seconds, other.seconds) for mine, other in zip(ours, theirs, strict=True)]


def interval(ratios: Sequence[float], *, draws: int = 10_000, seed: int = SEED) -> tuple[float, float]:
    """The 95 % bootstrap interval of the median of some ratios."""
    values = np.asarray(ratios)
    generator = np.random.default_rng(seed)
    drawn = generator.choice(values, size=(draws, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return float(low), float(high)


def compare(
    work: str,
    ours: str,
    against: str,
    sense: Sense,
    seconds: Sequence[tuple[float, float]],
    *,
    reach: float | None = None,
    cells: tuple[int, int] = (1, 1),
    unit: str = "call",
    difference: float | None = None,
    tolerance: float | None = None,
    facts: Facts | None = None,
) -> Row:
    """A row from the pairs' seconds; `cells` are how many cells each side's seconds were for."""
    each = [(mine / cells[0], their / cells[1]) for mine, their in seconds]
    ratios = [mine / their if sense == "cost" else their / mine for mine, their in each]
    ratio = float(np.median(ratios))
    low, high = interval(ratios)
    met = None
    if reach is not None:
        met = ratio <= reach if sense == "cost" else ratio >= reach
        met = met and (difference is None or tolerance is None or difference <= tolerance)
    return Row(
        work,
        ours,
        against,
        sense,
        each,
        ratio,
        low,
        high,
        reach,
        met,
        unit,
        difference,
        tolerance,
        dict(facts or {}),
    )


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest absolute difference, where both have a value.

    Raises:
        ValueError: the shapes differ, or one side has values where the other has none.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"Values of shapes {ours.shape} and {theirs.shape} cannot be compared.")
    if (np.isnan(ours) != np.isnan(theirs)).any():
        raise ValueError("One side has values where the other has none.")
    return float(np.nanmax(np.abs(ours.astype(np.float64) - theirs.astype(np.float64))))


@dataclass(frozen=True)
class Bench:
    """What every benchmark is given.

    Attributes:
        model: the model's name in the records.
        folder: its weights in hub layout, read by every side.
        alias: the name that cutaway opens it by; None where it was given as a folder.
        threads: number of threads of every side.
        quick: very few pairs: shows that all works, measures nothing.
        most: at most so many pairs in any row; None for each benchmark's own number.
        say: takes a line of progress.
        only: the one prompt pair to be measured, where a benchmark has several; all when empty.
        offered: names among which `only` chooses, as far as a benchmark has come.
    """

    model: str
    folder: Path
    alias: str | None
    threads: int
    quick: bool
    most: int | None
    say: Callable[[str], None]
    only: str = ""
    offered: list[str] = field(default_factory=list, compare=False)

    def wants(self, name: str) -> bool:
        """Whether rows of this name were asked for."""
        self.offered.append(name)
        return not self.only or self.only == name

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the folder, as plain transformers reads it."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder)

    @cached_property
    def architecture(self) -> str:
        """The model's class in transformers."""
        config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        return str(config["architectures"][0])

    def count(self, pairs: int, quick: int = 1) -> int:
        """Number of pairs: few in a quick run."""
        return quick if self.quick else min(pairs, self.most or pairs)

    def pair(self, length: int | None = None, *, from_start: bool = False) -> Pair:
        """A pair of prompts as ids of this tokenizer."""
        return pair(self.tokenizer, length, from_start=from_start)

    def side(self, name: str) -> Any:
        """Start a side on the folder; a context manager."""
        self.say(f"  starting {name}")
        return side(name, str(self.folder), self.threads, architecture=self.architecture)


@cache
def file_sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights_of(folder: Path) -> tuple[str, int]:
    """Fingerprint and bytes of the weights in a folder: the SHA-256 of the file, or over those of several."""
    files = sorted(folder.glob("*.safetensors"))
    sums = [file_sha256(path.resolve()) for path in files]
    joined = sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
    return joined, sum(path.stat().st_size for path in files)


def processor() -> str:
    """What the system calls its processor."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def load() -> float | None:
    """How busy the machine is: the load average of the last minute, where the system tells it."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def own_versions() -> dict[str, str]:
    """The versions on our side."""
    from importlib import metadata

    return {name: metadata.version(name) for name in ("cutaway", "torch", "transformers", "numpy")}


def record(
    bench: Bench, name: str, rows: Sequence[Row], versions: Mapping[str, str], seconds: float, busy: float | None
) -> dict[str, Any]:
    """All that is kept of one benchmark; `busy` is how busy the machine was before it."""
    sha, size = weights_of(bench.folder)
    return {
        "name": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "quick": bench.quick,
        "seed": SEED,
        "threads": bench.threads,
        "machine": {
            "processors": os.cpu_count(),
            "processor": processor(),
            "system": platform.system(),
            "python": platform.python_version(),
            "load before": busy,
        },
        "model": {"name": bench.model, "sha256": sha, "bytes": size},
        "versions": {**own_versions(), **versions},
        "rows": [{**asdict(row), "equal": row.equal} for row in rows],
    }


def merged(kept: Mapping[str, Any], fresh: Mapping[str, Any]) -> dict[str, Any]:
    """A record in which the fresh rows replace those of the same work; they say when they were measured."""
    how = {"measured anew": fresh["date"], "load before it": fresh["machine"]["load before"]}
    found = {_work(row): {**row, "facts": {**row["facts"], **how}} for row in fresh["rows"]}
    rows = [found.pop(_work(row), row) for row in kept["rows"]]
    return {**kept, "rows": [*rows, *found.values()]}


def _work(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["work"], row["ours"], row["against"]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, suffix=".json")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=1, ensure_ascii=False, allow_nan=False)
        stream.write("\n")
    Path(beside).chmod(0o644)
    Path(beside).replace(path)


def peer_versions(sides: Sequence[Side]) -> dict[str, str]:
    """The peers' own versions, and what they share with us only where it differs."""
    ours = own_versions()
    return {
        f"{one.name}'s {key}" if key in ours else key: version
        for one in sides
        if one.name not in OWN_SIDES
        for key, version in one.opened.versions.items()
        if ours.get(key) != version
    }
