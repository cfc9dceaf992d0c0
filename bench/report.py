"""What did the benchmarks find? One table from the records: work, against whom, ratio, reach, met.

`python -m bench.report` prints it, `python -m bench.report --write` also writes `docs/benchmarks.md`
and the curve beside it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import RECORDS
from bench.sides import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
CURVE = PAGE.with_name("benchmarks-growth.svg")
ORDER = ("overhead", "grid", "heads", "gradients", "lens", "opening", "generation", "startup", "growth")
HEAD = ("work", "ours", "against", "ratio [95 % interval]", "reach", "met", "values", "ours / theirs")

INTRODUCTION = """# Benchmarks

Cutaway and its peers do the same work on the same weights and the same token ids, in turns within one run.
Each peer lives in an environment of its own with the same release of torch. A ratio is the median over pairs
of turns, with the 95 % bootstrap interval of that median: *×* cost is ours divided by theirs (smaller is
better), *× faster* is theirs divided by ours (larger is better). "Values" is the largest absolute difference
between what the two sides computed.

To repeat them on a machine that does nothing else: `make bench`, or `python -m bench.peers` once and then
`python -m bench.run NAME`. The records are in `bench/records/`; this page is written from them by
`python -m bench.report --write`.
"""


def records(folder: Path = RECORDS) -> list[dict[str, Any]]:
    """All records, in the order of the page."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    return [found[name] for name in (*ORDER, *sorted(set(found) - set(ORDER))) if name in found]


def factor(row: Mapping[str, Any], value: float) -> str:
    """A ratio in words: a cost to three figures, a speed with its sign."""
    if row["sense"] == "cost":
        return f"{value:.3f} ×" if value < 10 else f"{value:.3g} ×"
    return f"{value:.1f} ×" if value < 100 else f"{value:.0f} ×"


def ratio(row: Mapping[str, Any]) -> str:
    """The ratio with its interval."""
    ends = f"[{row['low']:.3g}, {row['high']:.3g}]"
    gain = "less" if row["unit"] == "MiB" else "faster"
    return f"{factor(row, row['ratio'])}{' ' + gain if row['sense'] == 'speed' else ''} {ends}"


def reach(row: Mapping[str, Any]) -> str:
    """What is to be reached."""
    if row["reach"] is None:
        return ""
    return f"{'≤' if row['sense'] == 'cost' else '≥'} {row['reach']:g} ×"


def met(row: Mapping[str, Any]) -> str:
    """Whether it is; empty for rows that only inform."""
    return "" if row["met"] is None else "yes" if row["met"] else "**no**"


def values(row: Mapping[str, Any]) -> str:
    """How far the values of the two sides are from each other."""
    if row["difference"] is None:
        return ""
    if row["difference"] == 0:
        return "equal"
    return f"{row['difference']:.1e}" + ("" if row["equal"] else f" (more than {row['tolerance']:.0e})")


def amount(unit: str, value: float) -> str:
    """Seconds in the unit that reads well, or mebibytes."""
    if unit == "MiB":
        return f"{value:.0f} MiB"
    if unit == "weights":
        return f"{value:.3f}"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def amounts(row: Mapping[str, Any]) -> str:
    """The medians of both sides."""
    mine, theirs = (float(np.median([pair[side] for pair in row["seconds"]])) for side in (0, 1))
    each = f" a {row['unit']}" if row["unit"] in ("cell", "token", "position") else ""
    return f"{amount(row['unit'], mine)} / {amount(row['unit'], theirs)}{each}"


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    return (
        row["work"],
        row["ours"],
        row["against"],
        ratio(row),
        reach(row),
        met(row),
        values(row),
        amounts(row),
    )


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    shown = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in shown)


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """The table of some records."""
    return markdown(HEAD, [cells(row) for record in found for row in record["rows"]])


def growth(record: Mapping[str, Any]) -> str:
    """How a sweep's cost grows, as a table."""
    head = ("tokens", "cells", "seconds of the grid", "ms a cell", "ms a plain forward", "peak memory, MiB")
    lines = []
    for row in record["rows"]:
        facts, pairs = row["facts"], np.median(np.array(row["seconds"]), axis=0)
        held = facts["MiB at the peak, beyond those before"]
        whole = facts["cells of the grid"] == facts["cells measured"]
        lines.append(
            (
                str(facts["tokens"]),
                str(facts["cells of the grid"]),
                f"{facts['seconds of the grid']:.3g}" + ("" if whole else f" (from {facts['cells measured']} cells)"),
                f"{pairs[0] * 1e3:.3g}",
                f"{pairs[1] * 1e3:.3g}",
                "" if held is None else f"{held:.0f}",
            )
        )
    power = exponent(record)
    words = f"Over these lengths the time of a grid grows as its number of cells to the power {power:.2f}."
    return markdown(head, lines) + ("" if np.isnan(power) else f"\n\n{words}")


def curve(record: Mapping[str, Any]) -> str:
    """How a sweep's cost grows, drawn by cutaway itself as SVG; both axes are logarithms."""
    import xarray as xr

    from cutaway import Result
    from cutaway.core import view as views
    from cutaway.drawing.svg import draw

    facts = [row["facts"] for row in record["rows"]]
    cells = np.array([fact["cells of the grid"] for fact in facts], dtype=float)
    forward = np.array([np.median([pair[1] for pair in row["seconds"]]) for row in record["rows"]])
    seconds = np.stack([[fact["seconds of the grid"] for fact in facts], cells * forward])
    data = xr.Dataset(
        {"seconds": (("way", "cells"), np.log10(seconds), {"long_name": "log10 of seconds"})},
        coords={
            "way": ["sweep", "loop"],
            "cells": ("cells", np.log10(cells), {"long_name": "log10 of layers × positions"}),
        },
    )
    picture = views.curves(
        value="seconds",
        x="cells",
        series="way",
        title="Time of a patching grid, prompts of "
        f"{facts[0]['tokens']} to {facts[-1]['tokens']} tokens ({record['model']['name']})",
        note="sweep: model.sweep. loop: one plain forward for each cell.",
    )
    return draw(Result(data=data, metrics={}, views=(picture,)), picture)


def exponent(record: Mapping[str, Any]) -> float:
    """By which power of the number of cells the time of a grid grows: the slope in logarithms."""
    facts = [row["facts"] for row in record["rows"]]
    if len(facts) < 2:
        return float("nan")
    cells = np.log([fact["cells of the grid"] for fact in facts])
    seconds = np.log([fact["seconds of the grid"] for fact in facts])
    return float(np.polyfit(cells, seconds, 1)[0])


def conditions(record: Mapping[str, Any]) -> str:
    """With what a record was made, in a line."""
    machine, model = record["machine"], record["model"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        f"- `{record['name']}`: {record['date'][:10]}, "
        f"{machine['processors']} processors ({machine['processor']}), load {machine['load before']} before, "
        f"{record['threads']} threads, Python {machine['python']}; {model['name']} "
        f"(sha256 {model['sha256'][:12]}…); {versions}."
    )


def page(found: Sequence[Mapping[str, Any]]) -> str:
    """The page of the documentation."""
    compared = [record for record in found if record["name"] != "growth"]
    parts = [INTRODUCTION, table(compared) + "\n"]
    grown = next((record for record in found if record["name"] == "growth"), None)
    if grown:
        parts += ["## How a sweep grows\n", f"![Time of a grid]({CURVE.name})\n", growth(grown) + "\n"]
    notes = [
        f"- {row['work']}, {row['against']}: " + "; ".join(f"{key} {value}" for key, value in row["facts"].items())
        for record in compared
        for row in record["rows"]
        if row["facts"]
    ]
    if notes:
        parts += ["## Further figures\n", "\n".join(notes) + "\n"]
    parts += ["## Made with\n", "\n".join(conditions(record) for record in found) + "\n"]
    return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; with `--write`, write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description="The table of the records.")
    parser.add_argument("--write", action="store_true", help="also write docs/benchmarks.md")
    parser.add_argument("--records", type=Path, default=RECORDS, help="where the records are")
    read = parser.parse_args(arguments)
    found = records(read.records)
    if not found:
        parser.error("no records yet. Make some: python -m bench.run")
    print(table(found))
    if read.write and any(record["quick"] for record in found):
        parser.error("these records are of quick runs, which measure nothing; the page is not written from them.")
    if read.write:
        PAGE.write_text(page(found), encoding="utf-8")
        for record in found:
            if record["name"] == "growth":
                CURVE.write_text(curve(record), encoding="utf-8")


if __name__ == "__main__":
    main()
