"""Run the benchmarks: `python -m bench.run`, or some of them by name, `python -m bench.run grid heads`.

`--quick` takes one pair each, to see that all sides work; its records go beside, not among the kept ones. The
real run needs a machine that does nothing else. Peers' environments: `python -m bench.peers`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench import harness
from bench.report import table

# name -> what it measures; each is a module of this folder with `measure(bench) -> (rows, sides)`
BENCHES = {
    "startup": "import and list",
    "overhead": "idle and read-only runs against the plain forward",
    "opening": "time and memory of opening a model",
    "grid": "residual patching, layer × position, against TransformerLens and nnsight",
    "heads": "every head at the last position, against TransformerLens",
    "gradients": "integrated gradients against Inseq and Captum",
    "attribution": "saliency, occlusion and integrated gradients of 32 tokens against Inseq, and their memory",
    "lens": "logit lens at 512 tokens against TransformerLens and the naive way",
    "generation": "generation with a steering edit against plain generation",
    "growth": "how a sweep's cost grows with layers × positions",
    "trace": "causal tracing, layers × positions × kinds × samples, against the plain loop",
    "edges": "scores of all edges against forward and backward, sets of edges against one forward",
    "acdc": "pruning edge by edge, against a run of the whole model for each edge",
    "workbench": "pages in a real browser, and a hundred readers while a job runs",
}


def say(text: str) -> None:
    """A line of progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def model_folder(name: str) -> Path:
    """The folder in hub layout with the weights of a model, or of an alias once it is in cutaway's cache."""
    if Path(name).is_dir():
        return Path(name).resolve()
    from cutaway.models import weights

    if name not in weights.ALIASES:
        raise SystemExit(f"{name!r} is neither a folder nor an alias ({', '.join(weights.ALIASES)}).")
    # Opened once in a process of its own, so that a GGUF file is converted before anything is measured.
    subprocess.run([sys.executable, "-c", f"import cutaway; cutaway.open({name!r})"], check=True)
    return weights.conversion_folder(weights.ALIASES[name].sha256)


def run(bench: harness.Bench, name: str) -> Path:
    """Run one benchmark, keep its record, print its rows."""
    say(f"{name}: {BENCHES[name]}")
    bench.offered.clear()
    start, busy = time.perf_counter(), harness.load()
    rows, sides = importlib.import_module(f"bench.{name}").measure(bench)
    if not rows:
        raise ValueError(f"{name} has no rows named {bench.only!r}; --only takes {', '.join(bench.offered)}.")
    seconds = time.perf_counter() - start
    kept = harness.record(bench, name, rows, harness.peer_versions(sides), seconds, busy)
    path = (harness.QUICK if bench.quick else harness.RECORDS) / f"{name}.json"
    if bench.only and path.exists():
        kept = harness.merged(json.loads(path.read_text(encoding="utf-8")), kept)
    harness.write_json(path, kept)
    print(table([kept]), flush=True)
    return path


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    listed = "\n".join(f"  {name:<12} {what}" for name, what in BENCHES.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench.run",
        description="Run the benchmarks side by side with the peers.",
        epilog=f"benchmarks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; default all")
    parser.add_argument("--model", default="smollm2", help="an alias, or a folder in hub layout (default smollm2)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of every side")
    parser.add_argument("--pairs", type=int, metavar="N", help="at most N pairs in any row")
    parser.add_argument(
        "--only",
        default="",
        metavar="NAME",
        help="one pair of `grid`, one method of `attribution`; other rows stay as they are",
    )
    parser.add_argument("--quick", action="store_true", help="one pair each; measures nothing")
    read = parser.parse_args(arguments)
    unknown = [name for name in read.names if name not in BENCHES]
    if unknown:
        parser.error(f"unknown benchmark {', '.join(map(repr, unknown))}; known: {', '.join(BENCHES)}.")
    return read


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; exit status 1 when a benchmark could not be run."""
    read = parsed(arguments)
    model = "SmolLM2-135M-Instruct" if read.model == "smollm2" else Path(read.model).name
    folder = model_folder(read.model)
    alias = read.model if not Path(read.model).is_dir() else None
    bench = harness.Bench(model, folder, alias, read.threads, read.quick, read.pairs, say, read.only)
    failed = []
    for name in read.names or BENCHES:
        try:
            run(bench, name)
        except (RuntimeError, ValueError, OSError) as error:
            failed.append(name)
            say(f"{name}: not measured.\n{error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
