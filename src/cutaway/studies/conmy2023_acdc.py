"""Can the edges of a circuit be found by an algorithm? ACDC, where the circuit is known and where it is not.

The paper prunes edges one by one and compares what is left with circuits that people found by hand, by areas under ROC
curves over thresholds [@conmy2023]. Its ground truth for compiled programs came from ACDC itself; here the true edges follow
from the programs. A network with attention alone is trained on repeated words, where the circuit is known in kind (a
previous-token head feeds the keys of induction heads). The real model is pruned by ACDC itself at the paper's threshold, and by
attribution.
Limits: on the real model there is no truth to compare with: only how few edges keep how much, and whether they do so for
prompts that the pruning has not seen.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr

from cutaway.core import view as views
from cutaway.core.circuit import Circuit, largest
from cutaway.core.claim import Claim, Figure
from cutaway.core.edge import Bools
from cutaway.core.result import Result
from cutaway.core.site import Site
from cutaway.core.study import Findings, StudyRun, study
from cutaway.data.tasks.induction import induction
from cutaway.data.tasks.ioi import ioi
from cutaway.data.words import NOUNS
from cutaway.methods.circuit_measures import agreement, curve
from cutaway.methods.circuit_report import random_circuits
from cutaway.methods.circuit_runs import How, Runs, runs_of
from cutaway.methods.circuits.acdc import acdc
from cutaway.methods.edge_pruning_order import pruned
from cutaway.methods.edge_ranking import scores_of
from cutaway.methods.observe.attention import attention
from cutaway.models.model import Model
from cutaway.models.toy import toy, word_tokenizer
from cutaway.models.toy_programs import PROGRAMS, program
from cutaway.models.training import train
from cutaway.studies.opening import opened

THRESHOLDS = np.logspace(-4, 1, 11)
THRESHOLD = 0.01  # nats, for the trained network
REAL_THRESHOLD = 0.0575  # nats, for the real model: the paper's, of its circuit for IOI
LENGTH = 10  # words that are said twice
HEADS = 8


@study(
    paper="conmy2023",
    item="P5",
    asks="Can the edges of a circuit be found by an algorithm?",
    uses=("acdc", "edge_attribution", "edge_pruning", "circuit_evaluation"),
    seconds={"tiny": 15, "small": 1500},
    claims=(
        Claim("programs_zero", "On compiled programs, with zero ablation, ACDC finds exactly the true edges", theirs="1.000",
              where="table of tracr tasks", at_least=0.99, unit="AUROC of edges, mean over programs"),
        Claim("programs_contrast", "With values of another input it finds the edges that the inputs can show", where="section 4",
              mark="ours", at_least=0.9, unit="AUROC of edges, mean over programs"),
        Claim("induction_edge", "With attention alone: the edge from the previous-token head to the induction head's keys is kept",
              where="induction task", mark="ours", at_least=1.0, unit="share of induction heads"),
        Claim("induction_share", "Few edges are left", where="induction task", mark="ours", at_most=0.25, unit="share of edges"),
        Claim("induction_faithful", "They keep the behaviour", where="induction task", mark="ours", at_least=0.9,
              unit="of the logit difference"),
        Claim("few_edges", "Circuits are small: 68 of 32,000 edges for greater-than", theirs="0.2 %", where="abstract",
              at_most=0.05, unit="share of edges that keeps 80 % (IOI, the real model)"),
        Claim("real_few", "On the real model ACDC, at the paper's threshold for IOI, leaves few edges", where="figure 1",
              mark="ours", at_most=0.05, unit="share of edges"),
        Claim("real_faithful", "They keep the behaviour, for prompts that the pruning has not seen", where="figure 1",
              mark="ours", at_least=0.8, unit="of the logit difference"),
    ),
)  # fmt: skip
def conmy2023_acdc(run: StudyRun) -> Findings:
    """Score ACDC on programs, prune a trained network, and find how few edges the real model needs."""
    names = run.size(tiny=["gates"], small=list(PROGRAMS), paper=list(PROGRAMS))
    scored = {name: run.step(f"program {name}", lambda name=name: _on_program(run, name)) for name in names}  # type: ignore[misc]
    model = run.trained("induction_2l", train_network)
    task = induction(n=run.size(tiny=4, small=40, paper=100), seed=run.seed, length=LENGTH, contrast="fresh")
    left = run.step("acdc", lambda: acdc(model, task, threshold=THRESHOLD, connected="no", controls=0))
    kinds = run.step("kinds of heads", lambda: _kinds(model, task, left))
    random = run.step("random circuits", lambda: _random(run, model, task, left))
    real = run.step("real model", lambda: _real(run))
    pruned_real = run.step("acdc on the real model", lambda: _real_acdc(run))
    unseen = run.step("prompts not seen", lambda: _unseen(run, pruned_real))
    figures = {**_figures(scored, left, kinds, random, real), **_real_figures(pruned_real, unseen)}
    return Findings(figures, _result(scored, left, real, pruned_real), _DIFFERS)


_DIFFERS = (
    "The paper scores ACDC on circuits that people found in GPT-2 small and on two tracr programs whose ground truth "
    "was itself made with ACDC. Here the truth of six compiled programs follows from the programs' own steps, edges "
    "that no input of the task can show are counted neither way, and the distance is the change of the logit "
    "difference, as a divergence of one-hot answers is ill-defined. The real model is pruned on 4 pairs where the paper takes "
    "50, at the threshold of its circuit for IOI, and the share of edges that keeps 80 % is found by EAP-IG."
)


# --- programs ----------------------------------------------------------------------------------------------------


def _on_program(run: StudyRun, name: str) -> dict[str, float]:
    """Areas under the ROC curves of ACDC over thresholds, and of attribution, on one compiled program."""
    made = program(name)
    network = made.compiled(seed=run.seed)
    task = made.task(run.size(tiny=6, small=24, paper=24), seed=run.seed)
    found: dict[str, float] = {}
    hows: tuple[How, How] = ("zero", "contrast")
    for how in hows:
        runs = runs_of(network.model, task.encode(network.model.tokenizer), how)
        truth = runs.graph.mask(network.true_edges)
        shown = runs.graph.mask(network.shown(task, "zero" if how == "zero" else "contrast"))
        unseen = truth & ~shown
        found[how] = _area(runs, shown, unseen)
        scores = scores_of(runs, "eap_ig", 5)
        found[f"{how}, eap_ig"] = agreement(runs.graph, scores, shown, unseen).edges
    return found


def _area(runs: Runs, truth: Bools, left_out: Bools) -> float:
    """Area under the curve of true against false positives over thresholds, between the corners."""
    counted = runs.graph.exists & ~left_out
    points = {(0.0, 0.0), (1.0, 1.0)}
    for threshold in THRESHOLDS:
        kept = pruned(runs.graph, partial(runs.distances, measure="metric"), float(threshold)).kept
        right, wrong = kept[truth & counted], kept[counted & ~truth]
        points.add((float(wrong.mean()) if len(wrong) else 0.0, float(right.mean())))
    x, y = np.array(sorted(points)).T
    return float(np.trapezoid(np.maximum.accumulate(y), x))


# --- the trained network -----------------------------------------------------------------------------------------


def train_network(run: StudyRun) -> Model:
    """Two layers of attention without MLPs, trained on random words that are said twice."""
    tokenizer = word_tokenizer(NOUNS, begin="<s>")
    sizes: dict[str, Any] = {"n_layers": 2, "n_heads": HEADS, "d_model": 64, "d_head": 16, "d_mlp": 0}
    model = toy(tokenizer, seed=run.seed, norm="layernorm", positions="learned", n_positions=64, **sizes)
    words = torch.tensor([tokenizer.convert_tokens_to_ids(word) for word in NOUNS])

    def batch(step: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng((run.seed, step))
        length = int(rng.integers(6, 16))
        drawn = np.stack([rng.permutation(len(words))[:length] for _ in range(32)])
        said = words[torch.from_numpy(np.concatenate([drawn, drawn], axis=1))]
        ids = torch.cat([torch.full((32, 1), tokenizer.bos_token_id), said], dim=1)
        labels = ids.clone()
        labels[:, : length + 2] = -100  # the first saying cannot be known
        return {"input_ids": ids, "labels": labels}

    train(
        model.hf,
        batch,
        steps=run.size(tiny=3, small=2500, paper=2500),
        learning_rate=3e-3,
        warmup=50,
        seed=run.seed,
        keep=run.scratch("induction_2l"),
        what="induction_2l",
    )
    return Model(model.hf, tokenizer, name="induction_2l", source="trained by conmy2023_acdc")


def _kinds(model: Model, task: Any, left: Result) -> dict[str, Any]:
    """The previous-token head of layer 0, the induction heads of layer 1, and whether the edge between them was kept."""
    table = attention(model, task, controls=0).data["score"]
    previous = int(table.sel(habit="previous_token", layer=0).values.argmax())
    scores = table.sel(habit="induction", layer=1).values
    heads = [int(head) for head in np.flatnonzero(scores >= 0.5 * scores.max())]
    graph = runs_of(model, task.encode(model.tokenizer)).graph
    kept = Circuit.from_artifact(graph, left.artifacts["circuit"]) if left.artifacts else None
    edges = [(Site("z", 0, head=previous), Site("k", 1, head=head)) for head in heads]
    has = [
        float(kept.edges[graph.source_number[s], graph.target_number[t]]) if kept is not None else 0.0 for s, t in edges
    ]
    return {"previous": previous, "induction": heads, "scores": scores, "kept": has, "edges": graph.n_edges}


def _random(run: StudyRun, model: Model, task: Any, left: Result) -> list[float]:
    """Faithfulness of random circuits of as many edges."""
    runs = runs_of(model, task.encode(model.tokenizer))
    circuit = Circuit.from_artifact(runs.graph, left.artifacts["circuit"])
    found: list[float] = runs.faithfulness(
        random_circuits(circuit, run.size(tiny=2, small=20, paper=50), run.seed)
    ).tolist()
    return found


# --- the real model ----------------------------------------------------------------------------------------------


def _real(run: StudyRun) -> dict[str, Any]:
    """Faithfulness of circuits of growing size on IOI, by EAP-IG."""
    model = opened(run, paper="gpt2", texts=ioi(n=300))
    runs = runs_of(model, ioi(n=run.size(tiny=3, small=16, paper=50), seed=run.seed).encode(model.tokenizer))
    sizes = curve(runs, scores_of(runs, "eap_ig", 5), (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5))
    return {"share": sizes.shares, "faithfulness": sizes.faithfulness, "edges": runs.graph.n_edges}


def _real_acdc(run: StudyRun) -> Result:
    """ACDC on all edges of the real model."""
    model = opened(run, paper="gpt2", texts=ioi(n=300))
    task = ioi(n=run.size(tiny=2, small=4, paper=50), seed=run.seed)
    return acdc(model, task, threshold=REAL_THRESHOLD, controls=0)


def _unseen(run: StudyRun, left: Result) -> dict[str, Any]:
    """What ACDC's circuit keeps on other prompts, beside random ones and the best by EAP-IG, of as many edges."""
    model = opened(run, paper="gpt2", texts=ioi(n=300))
    n = run.size(tiny=3, small=16, paper=50)
    runs = runs_of(model, ioi(n=n, seed=run.seed + 1).encode(model.tokenizer))
    circuit = Circuit.from_artifact(runs.graph, left.artifacts["circuit"])
    best = largest(runs.graph, np.abs(scores_of(runs, "eap_ig", 5)), circuit.n_edges)
    random = random_circuits(circuit, run.size(tiny=2, small=20, paper=50), run.seed)
    kept = runs.faithfulness(np.stack([circuit.edges, best, *random])).tolist()
    return {"acdc": kept[0], "eap_ig": kept[1], "random": kept[2:], "prompts": n, "share": circuit.share}


# --- what came out -----------------------------------------------------------------------------------------------


def _figures(
    scored: dict[str, dict[str, float]], left: Result, kinds: dict[str, Any], random: list[float], real: dict[str, Any]
) -> dict[str, Figure]:
    areas = {how: [float(one[how]) for one in scored.values()] for how in next(iter(scored.values()))}
    share = float(left.metrics["edges"]) / kinds["edges"]
    enough = [s for s, f in zip(real["share"], real["faithfulness"], strict=True) if f >= 0.8]
    others = f"EAP-IG: {np.mean(areas['zero, eap_ig']):.3f}"
    return {
        "programs_zero": Figure(
            float(np.mean(areas["zero"])),
            min(areas["zero"]),
            max(areas["zero"]),
            len(scored),
            0.5,
            "random scores",
            others,
        ),
        "programs_contrast": Figure(
            float(np.mean(areas["contrast"])),
            min(areas["contrast"]),
            max(areas["contrast"]),
            len(scored),
            0.5,
            "random scores",
            f"EAP-IG: {np.mean(areas['contrast, eap_ig']):.3f}",
        ),
        "induction_edge": Figure(
            float(np.mean(kinds["kept"])),
            n=len(kinds["kept"]),
            control=share,
            control_is="share of all edges kept",
            note=f"heads 0.{kinds['previous']} -> {', '.join(f'1.{head}' for head in kinds['induction'])}",
        ),
        "induction_share": Figure(share, n=kinds["edges"]),
        "induction_faithful": Figure(
            float(left.metrics["faithfulness"]),
            control=float(np.median(random)),
            control_is=f"{len(random)} random circuits of as many edges",
        ),
        "few_edges": Figure(
            min(enough) if enough else 1.0, n=real["edges"], note="the first of nine sizes that is enough"
        ),
    }


def _real_figures(left: Result, unseen: dict[str, Any]) -> dict[str, Figure]:
    edges = int(left.metrics["edges"])
    return {
        "real_few": Figure(unseen["share"], n=int(left.metrics["edges_of_model"]), note=f"{edges} edges are left"),
        "real_faithful": Figure(
            unseen["acdc"],
            n=unseen["prompts"],
            control=float(np.median(unseen["random"])),
            control_is=f"{len(unseen['random'])} random circuits of as many edges",
            note=f"on the pruned pairs {left.metrics['faithfulness']:.2f}; the best {edges} by EAP-IG {unseen['eap_ig']:.2f}",
        ),
    }


def _result(scored: dict[str, dict[str, float]], left: Result, real: dict[str, Any], pruned_real: Result) -> Result:
    hows = list(next(iter(scored.values())))
    data = xr.Dataset(
        {
            "auroc": (("program", "way"), np.array([[one[how] for how in hows] for one in scored.values()])),
            "faithfulness": ("share_of_edges", np.array(real["faithfulness"])),
        },
        coords={"program": list(scored), "way": hows, "share_of_edges": np.array(real["share"])},
    )
    arrows = pruned_real.data[["circuit_source", "circuit_target", "circuit_score"]]
    new_names = {"arrow": "real_arrow", **{name: name.replace("circuit", "real") for name in map(str, arrows)}}
    pictures = (
        views.graph(
            source="real_source",
            target="real_target",
            weight="real_score",
            title=f"What ACDC leaves of {int(pruned_real.metrics['edges_of_model']):,} edges of the real model (IOI)",
        ),
        views.heatmap(
            value="auroc", x="way", y="program", title="AUROC of true edges, ACDC and EAP-IG", scale="sequential"
        ),
        views.curves(
            value="faithfulness", x="share_of_edges", title="What the best edges of the real model keep (IOI)"
        ),
        *[view for view in left.views if view.kind == "graph"][:1],
    )
    merged = xr.merge([data, arrows.rename(new_names), left.data], compat="override")
    return Result(data=merged, metrics=dict(left.metrics), views=pictures)
