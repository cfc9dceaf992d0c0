"""Do methods find circuits that are known? Every method on every compiled program, in `docs/known-circuits.md`.

    python -m cutaway.testing.known_circuits > docs/known-circuits.md

The figure is the area under the ROC curve of the method's scores, true edges of the program against all others: 1 is a
perfect order, 0.5 is chance. Edges of the program that the intervention cannot show (for contrasts those that carry
positions only) are neither right nor wrong. What pruning must reach (0.99) was fixed before anything was run; the bounds of
the other methods were set after a first look, and hold what was found.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cutaway.core.edge import Bools
from cutaway.methods.circuit_measures import Agreement, agreement, auroc
from cutaway.methods.circuit_runs import Runs, runs_of
from cutaway.methods.edge_pruning_order import pruned
from cutaway.methods.edge_ranking import scores_of
from cutaway.methods.node_masks import learn
from cutaway.models.toy_compiler import Compiled, Replacement
from cutaway.models.toy_programs import PROGRAMS, program

Floats = NDArray[np.float64]
PROMPTS, SEED, THRESHOLD, GATE_STEPS = 12, 0, 0.01, 60
REPLACEMENTS: tuple[Replacement, ...] = ("contrast", "zero")


def _acdc(runs: Runs) -> Floats:
    return pruned(runs.graph, partial(runs.distances, measure="metric"), THRESHOLD).kept.astype(float)


SCORERS: dict[str, Callable[[Runs], Floats]] = {
    "acdc": _acdc,
    "exact": partial(scores_of, by="exact"),
    "eap": partial(scores_of, by="eap"),
    "clean_corrupt": partial(scores_of, by="clean_corrupt"),
    "eap_ig": partial(scores_of, by="eap_ig", steps=10),
}
# Pruning tries each edge, so it must find every program; gradients vanish where attention is sharp.
REACH = {"acdc": 0.99, "exact": 0.99, "eap": 0.5, "clean_corrupt": 0.5, "eap_ig": 0.5, "gates": 0.99}


@dataclass(frozen=True, eq=False)
class Case:
    """A compiled program with its task and what can be found in it.

    Attributes:
        compiled: the network.
        runs: of its task.
        known: the edges of the program [source, target].
        hidden: those of them that the intervention cannot show.
    """

    compiled: Compiled
    runs: Runs
    known: Bools
    hidden: Bools


def case(name: str, how: Replacement, *, prompts: int = PROMPTS, seed: int = SEED) -> Case:
    """A program, compiled, with runs of its task."""
    made = program(name)
    compiled, task = made.compiled(seed=seed), made.task(prompts, seed=seed)
    runs = runs_of(compiled.model, task.encode(compiled.model.tokenizer), how)
    known = runs.graph.mask(compiled.true_edges)
    return Case(compiled, runs, known, known & ~runs.graph.mask(compiled.shown(task, how)))


def agreements(one: Case) -> dict[str, Agreement]:
    """Method -> how well its scores agree with the program."""
    found = {name: agreement(one.runs.graph, score(one.runs), one.known, one.hidden) for name, score in SCORERS.items()}
    found["gates"] = Agreement(float("nan"), _of_gates(one))
    return found


def _of_gates(one: Case) -> float:
    shown = np.asarray((one.known & ~one.hidden).any(axis=1), dtype=bool)
    heads = np.array([source.kind != "embed" for source in one.runs.graph.sources])
    judged = heads & ~(np.asarray(one.hidden.any(axis=1), dtype=bool) & ~shown)
    return auroc(learn(one.runs, steps=GATE_STEPS, seed=SEED).open[judged], shown[judged])


HEAD = """# Known circuits

Small programs compiled into transformer weights, so that the true circuit follows from the program, and what each method
makes of them: the area under the ROC curve over edges, and over nodes in brackets. 1 is a perfect order, 0.5 chance.
Every network has idle heads and neurons with random weights. `acdc` is judged by what it keeps at one threshold
({threshold}), `gates` (learned node masks) by nodes alone.

Pruning that tries each edge finds every circuit. First-order estimates do not: attention in a compiled network is sharp,
so its gradient vanishes where a match is sure, and a threshold has none on its plateaus. That is the known weakness of
gradients, not of the programs: points on the way between the inputs (`eap_ig`) find part of it.

The file is written by `python -m cutaway.testing.known_circuits`; a test measures it again.
"""


def page(programs: tuple[str, ...] = tuple(PROGRAMS)) -> str:
    """The table as a page."""
    names = [*SCORERS, "gates"]
    lines = [HEAD.format(threshold=THRESHOLD)]
    for how in REPLACEMENTS:
        lines += [f"## Edges outside carry {'the contrast' if how == 'contrast' else 'zero'}", ""]
        lines += [f"| program | true edges of all | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
        for name in programs:
            one = case(name, how)
            found = agreements(one)
            size = f"{int((one.known & ~one.hidden).sum())} of {one.runs.graph.n_edges}"
            lines.append(f"| {name} | {size} | {' | '.join(_cell(found[method]) for method in names)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(found: Agreement) -> str:
    nodes = f"({found.nodes:.2f})"
    return nodes if np.isnan(found.edges) else f"{found.edges:.2f} {nodes}"


if __name__ == "__main__":
    sys.stdout.write(page())
