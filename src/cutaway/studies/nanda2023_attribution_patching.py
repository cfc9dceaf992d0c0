"""Does one backward pass find what a thousand patched runs find? Attribution patching against the exact map.

The article measures, on a few IOI prompts of GPT-2 small, how well the first-order estimate of activation patching follows
the exact effect: well for the outputs of heads, badly for the residual stream and the first MLP [@nanda2023]. Here both maps
are measured in full, cell by cell, on the same prompts.
Limits: agreement is measured over cells of prompts that differ in one name; other changes may be further from linear.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

from cutaway.core import view as views
from cutaway.core.claim import Claim, Figure
from cutaway.core.result import Result
from cutaway.core.study import Findings, StudyRun, study
from cutaway.core.task import Task
from cutaway.data.tasks.ioi import ioi
from cutaway.methods.intervene.attribution_patching import attribution_patching
from cutaway.methods.intervene.patching import patching
from cutaway.models.model import Model
from cutaway.models.toy import toy, word_tokenizer
from cutaway.studies.opening import opened, untrained
from cutaway.studies.statistics import Floats, overlap, pearson, resampled, slope

HEADS = "z[*].head[*]"
STREAM = ", ".join(f"resid_pre[*]@{name}" for name in ("io", "s1", "s1_plus_1", "s2", "end"))
MLPS = "mlp_out[*]"


@study(
    paper="nanda2023",
    item="A6",
    asks="Does one backward pass find what a thousand patched runs find?",
    uses=("attribution_patching", "patching"),
    seconds={"tiny": 10, "small": 240},
    claims=(
        Claim(
            "heads_correlate",
            "For head outputs the estimate follows the exact effect closely",
            where="head outputs, scatter plot",
            mark="read",
            at_least=0.9,
            unit="Pearson r over heads",
        ),
        Claim(
            "heads_slope",
            "For head outputs the points lie near the line y = x",
            where="head outputs, scatter plot",
            mark="read",
            at_least=0.7,
            at_most=1.3,
            unit="estimate over exact",
        ),
        Claim(
            "top_heads",
            "The heads that matter most are the same",
            where="head outputs",
            mark="ours",
            at_least=4,
            at_most=5,
            unit="of the 5 largest",
        ),
        Claim(
            "stream_is_worse",
            "The residual stream is estimated worse than head outputs",
            where="residual stream, scatter plot",
            mark="read",
            at_least=0.05,
            unit="r of heads minus r of stream",
        ),
        Claim(
            "first_mlp_is_worse",
            "MLP 0 is estimated much worse than the other MLPs",
            where="MLP outputs, scatter plot",
            mark="read",
            at_least=2.0,
            unit="error of MLP 0 over the median error",
        ),
        Claim(
            "steps_help",
            "Averaging the gradient over steps between the runs is no worse (EAP-IG, hanna2024)",
            where="hanna2024",
            mark="secondary",
            at_least=0.0,
            unit="gain in r over the stream",
        ),
        Claim(
            "exact_when_linear",
            "Where the network is linear between site and metric the estimate is exact",
            where="derivation",
            mark="derived",
            at_most=1e-6,
            unit="largest difference",
        ),
        Claim(
            "faster",
            "Two forward passes and one backward pass replace a run for each cell",
            where="title",
            mark="read",
            at_least=20,
            unit="times faster (heads)",
        ),
    ),
)
def nanda2023_attribution_patching(run: StudyRun) -> Findings:
    """Measure both maps on IOI, for heads, the residual stream and MLPs."""
    task = ioi(n=run.size(tiny=3, small=16, paper=16), seed=run.seed, contrast="swap")
    model = opened(run, paper="gpt2", texts=task)
    maps = {name: _both(run, model, task, name, sites) for name, sites in _SITES.items()}
    steps = run.step("stream, 5 steps", lambda: _estimate(model, task, STREAM, steps=5))
    control = run.step("untrained", lambda: _untrained(run, model, task))
    linear = run.step("linear", lambda: _largest_error_when_linear(run.seed))
    figures = _figures(run, maps, steps, control, linear)
    return Findings(figures, _result(maps), _DIFFERS)


_SITES = {"heads": HEADS, "stream": STREAM, "mlps": MLPS}
_DIFFERS = (
    "The article uses GPT-2 small and eight prompts; at small scale this is SmolLM2-135M-Instruct (RMSNorm, SwiGLU, "
    "rotary positions, 30 layers) with sixteen prompts of fifteen forms. Its plots are read by eye; here each is one "
    "number over all cells. The residual stream is taken at the five named words, not at every position, because the "
    "prompts differ in length."
)


def _estimate(model: Model, task: Task, sites: str, steps: int = 1) -> Result:
    return attribution_patching(model, task, sites=sites, steps=steps, top=1, sample=5)


def _both(run: StudyRun, model: Model, task: Task, name: str, sites: str) -> tuple[Result, Result]:
    estimated = run.step(f"{name}, estimated", lambda: _estimate(model, task, sites))
    exact = run.step(f"{name}, exact", lambda: patching(model, task, sites=sites, controls=0))
    return estimated, exact


def _each(pair: tuple[Result, Result]) -> tuple[Floats, Floats]:
    """Change of the metric of every prompt and cell, estimated and exact [prompt, cell]."""
    estimated, exact = pair
    moved = exact.data["patched_metric"].values - exact.data["base_metric"].values[:, None]
    return np.nan_to_num(estimated.data["estimated_change"].values), np.nan_to_num(moved)


def _agreement(pair: tuple[Result, Result], seed: int, of: Any = pearson) -> Figure:
    """One number over all cells, whose interval comes from drawing the prompts again."""
    estimated, exact = _each(pair)
    n = len(exact)

    def value(chosen: Any) -> float:
        return float(of(estimated[chosen].mean(axis=0), exact[chosen].mean(axis=0)))

    low, high = resampled(value, n, seed=seed)
    return Figure(value(np.arange(n)), low, high, n)


def _figures(
    run: StudyRun,
    maps: dict[str, tuple[Result, Result]],
    steps: Result,
    control: dict[str, float],
    linear: dict[str, float],
) -> dict[str, Figure]:
    heads, stream = (_agreement(maps[name], run.seed) for name in ("heads", "stream"))
    with_steps = _agreement((steps, maps["stream"][1]), run.seed)
    estimated, exact = (each.mean(axis=0) for each in _each(maps["heads"]))
    shuffled = np.random.default_rng(run.seed).permutation(estimated)
    error = np.abs(np.subtract(*(each.mean(axis=0) for each in _each(maps["mlps"]))))
    seconds = [float(result.provenance["seconds"]) for result in maps["heads"]]
    gap = f"untrained weights: r = {control['heads']:.3f}"
    return {
        "heads_correlate": Figure(
            heads.value, heads.low, heads.high, heads.n, pearson(shuffled, exact), "shuffled heads", gap
        ),
        "heads_slope": _agreement(maps["heads"], run.seed, slope),
        "top_heads": Figure(
            overlap(estimated, exact, 5), control=overlap(shuffled, exact, 5), control_is="shuffled heads"
        ),
        "stream_is_worse": Figure(
            heads.value - stream.value,
            n=heads.n,
            note=f"r of the stream: {stream.value:.3f} at {len(stream_cells(maps))} cells",
        ),
        "first_mlp_is_worse": Figure(float(error[0] / max(np.median(error), 1e-30)), n=len(error)),
        "steps_help": Figure(
            with_steps.value - stream.value,
            n=heads.n,
            note=f"r with 5 steps {with_steps.value:.3f}, with one {stream.value:.3f}",
        ),
        "exact_when_linear": Figure(
            linear["largest"], control=linear["not linear"], control_is="the same through an MLP"
        ),
        "faster": Figure(
            seconds[1] / seconds[0], note="both on the same prompts; the estimate also patches 6 cells exactly"
        ),
    }


def stream_cells(maps: dict[str, tuple[Result, Result]]) -> list[str]:
    """Names of the cells of the stream's map."""
    return [str(name) for name in maps["stream"][1].data["cell"].values]


def _untrained(run: StudyRun, model: Model, task: Task) -> dict[str, float]:
    other = untrained(model, seed=run.seed)
    pair = (_estimate(other, task, HEADS), patching(other, task, sites=HEADS, controls=0))
    return {"heads": _agreement(pair, run.seed).value}


def _largest_error_when_linear(seed: int) -> dict[str, float]:
    """Heads of the last layer of a network without norm and MLP reach the logits linearly."""
    words = [f"w{i}" for i in range(20)]
    prompts, contrasts = (
        [" ".join(rows) for rows in np.random.default_rng(seed + k).choice(words, (6, 5))] for k in (0, 1)
    )
    task = Task.from_prompts(prompts, contrasts=contrasts, answers=["w1"] * 6, wrong=["w2"] * 6)
    found = {}
    for name, width in (("largest", 0), ("not linear", 32)):
        model = toy(
            word_tokenizer(words), n_layers=1, n_heads=4, d_model=16, d_head=8, d_mlp=width, norm="none", seed=seed
        )
        with torch.no_grad():
            for parameter in model.hf.parameters():
                parameter.mul_(20)
        model = Model(model.hf.double(), model.tokenizer, name=model.name)
        pair = (_estimate(model, task, "z[0].head[*]"), patching(model, task, sites="z[0].head[*]", controls=0))
        estimated, exact = _each(pair)
        found[name] = float(np.abs(estimated - exact).max() / np.abs(exact).max())
    return found


def _result(maps: dict[str, tuple[Result, Result]]) -> Result:
    data = xr.Dataset()
    pictures = []
    for name, pair in maps.items():
        estimated, exact = (each.mean(axis=0) for each in _each(pair))
        cells = [str(cell) for cell in pair[1].data["cell"].values]
        data[f"{name}_estimated"] = (f"{name}_cell", estimated)
        data[f"{name}_exact"] = (f"{name}_cell", exact)
        data = data.assign_coords({f"{name}_cell": cells})
        pictures.append(
            views.scatter(
                x=f"{name}_exact",
                y=f"{name}_estimated",
                label=f"{name}_cell",
                title=f"{name}: estimated against exact change of the logit difference",
            )
        )
    return Result(data=data, metrics={name: float(len(data[f"{name}_cell"])) for name in maps}, views=tuple(pictures))
