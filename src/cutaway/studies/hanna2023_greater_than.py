"""How does the model know that a war ends after it began? Greater-than, on a model that reads single digits.

The paper finds in GPT-2 small that heads carry the start year to the end of the sentence, and that MLPs of the last layers
raise every later year: their logits, year by year, are an upper triangle [@hanna2023]. SmolLM2 splits numbers into digits,
so the question here is about the tens digit alone.
Limits: a comparison of tens digits is less than one of years; at paper scale the years of the paper are asked for.
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
from cutaway.core.task import EncodedTask
from cutaway.data.tasks.greater_than import greater_than
from cutaway.methods.circuit_runs import Floats, runs_of
from cutaway.methods.edge_ranking import node_scores, scores_of
from cutaway.models.model import Model
from cutaway.studies.opening import opened, untrained
from cutaway.studies.statistics import mean_figure, resampled

SHARE = 0.3  # of all heads and MLPs that the circuit may have
LAST = 0.25  # of the layers: where the comparison is looked for


@study(
    paper="hanna2023",
    item="P10",
    asks="How does the model know that a war ends after it began?",
    uses=("node_pruning", "circuit_evaluation", "attention", "logit_lens"),
    seconds={"tiny": 10, "small": 300},
    claims=(
        Claim("probability_difference", "Later years get 81.7 % more probability than earlier ones", theirs="81.7 %",
              where="section 3", mark="secondary", at_least=0.8, unit="probability"),
        Claim("sharpness", "The step lies right at the start year: p(Y + 1) - p(Y - 1)", theirs="6.0 %", where="section 3",
              mark="memory", at_least=0.02, unit="probability"),
        Claim("circuit", "A circuit of a few heads and MLPs recovers 89.5 % of the probability difference", theirs="89.5 %",
              where="section 4", mark="memory", at_least=0.85, unit="of the difference, by 30 % of the parts"),
        Claim("year_to_end", "Heads attend from the end to the start year", where="section 5", mark="ours", at_least=0.5,
              unit="attention of the best head"),
        Claim("mlps_compare", "MLPs of the last layers do the comparison (9 and 10 of 12)", where="section 5", mark="read",
              at_least=0.5, unit="of the direct effect, by MLPs"),
        Claim("upper_triangle", "Their logits are an upper triangle: later years are raised above earlier ones",
              where="section 5", mark="ours", at_least=0.9, unit="of start years, best MLP of the last quarter"),
    ),
)  # fmt: skip
def hanna2023_greater_than(run: StudyRun) -> Findings:
    """Behaviour, a circuit of heads and MLPs against random ones, and what single MLPs write."""
    answer: Any = "year" if run.scale == "paper" else "tens_digit"
    n = run.size(tiny=6, small=64, paper=490)
    task = greater_than(n=n, seed=run.seed, answer=answer)
    found_on = greater_than(n=run.size(tiny=4, small=32, paper=100), seed=run.seed + 1, answer=answer)
    model = opened(run, paper="gpt2")
    encoded = task.encode(model.tokenizer)
    behaviour = run.step("behaviour", lambda: _behaviour(run, model, encoded, answer))
    order = run.step("ranked parts", lambda: _ranked(model, found_on.encode(model.tokenizer)))
    circuit = run.step("circuit", lambda: _circuit(run, model, encoded, order))
    attended = run.step("attention to the year", lambda: _attention(model, encoded))
    direct = run.step("direct effects", lambda: _direct(model, encoded))
    triangle = run.step("logits of MLPs", lambda: _triangle(run, model, answer))
    figures = _figures(run, behaviour, circuit, attended, direct, triangle)
    return Findings(figures, _result(model, behaviour, direct, triangle, attended), _DIFFERS)


_DIFFERS = (
    "GPT-2 small reads two digits as one token and predicts the whole end year. SmolLM2-135M-Instruct reads single "
    "digits, so at small scale the model is asked for the tens digit of the end year, start years run from 10 to 89, "
    "and earlier or later means an earlier or later tens digit; the same digit counts for neither. The paper's "
    "circuit was found by path patching, by hand; here parts are ranked by edge attribution on other prompts. "
    "Silenced parts give what they give for the paper's 01 years."
)


# --- what is measured --------------------------------------------------------------------------------------------


def _digits(model: Model, answer: str) -> list[int]:
    """Token ids of all answers in order: ten digits, or a hundred years."""
    texts = [str(i) for i in range(10)] if answer == "tens_digit" else [f"{i:02}" for i in range(100)]
    return [int(model.tokenizer(text, add_special_tokens=False)["input_ids"][0]) for text in texts]


def _start(encoded: EncodedTask, answer: str) -> list[int]:
    """The number that decides in each prompt: the tens digit of the start year, or the year."""
    name, width = ("yy_tens", 1) if answer == "tens_digit" else ("yy", 2)
    spans = [encoded.task.positions[name][i] for i in encoded.kept]
    return [int(text[start : start + width]) for text, (start, _) in zip(encoded.prompts, spans, strict=True)]


def _behaviour(run: StudyRun, model: Model, encoded: EncodedTask, answer: str) -> dict[str, Any]:
    found = {}
    for name, one in (("trained", model), ("untrained", untrained(model, seed=run.seed))):
        logits = one.run([list(ids) for ids in encoded.ids], logits="last").last_logits
        shares = logits.double().softmax(dim=-1)[:, _digits(model, answer)].cpu().numpy()
        starts = _start(encoded, answer)
        later = [row[y + 1 :].sum() - row[:y].sum() for row, y in zip(shares, starts, strict=True)]
        inside = [(row, y) for row, y in zip(shares, starts, strict=True) if 0 < y < len(row) - 1]
        found[name] = {"difference": later, "sharpness": [row[y + 1] - row[y - 1] for row, y in inside]}
        found[name]["shares"] = [[row.tolist(), y] for row, y in zip(shares, starts, strict=True)]
    return found


def _ranked(model: Model, encoded: EncodedTask) -> list[int]:
    """Rows of heads and MLPs, those that carry most of the metric first."""
    runs = runs_of(model, encoded)
    change = node_scores(scores_of(runs, "eap_ig", 5))
    rows = [row for row, site in enumerate(runs.graph.sources) if site.kind != "embed"]
    return sorted(rows, key=lambda row: float(change[row]))


def _circuit(run: StudyRun, model: Model, encoded: EncodedTask, order: list[int]) -> dict[str, Any]:
    runs = runs_of(model, encoded)
    size = max(1, round(SHARE * len(order)))
    rng = np.random.default_rng(run.seed)
    sets = [
        order[:size],
        *(rng.choice(order, size, replace=False).tolist() for _ in range(run.size(tiny=2, small=20, paper=50))),
    ]
    kept = np.stack([runs.graph.exists] * len(sets))
    for circuit, rows in zip(kept, sets, strict=True):
        circuit[[row for row in order if row not in set(rows)]] = False
    scores = runs.of(kept)
    return {"whole": runs.whole, "alone": scores[0], "random": scores[1:].mean(axis=1), "size": size}


def _attention(model: Model, encoded: EncodedTask) -> list[list[float]]:
    """Attention of every head from the end to the digit that decides [layer][head], mean over prompts."""
    found = []
    for layer in range(model.anatomy.n_layers):
        pattern = model.run([list(ids) for ids in encoded.ids], read=f"pattern[{layer}]", logits="none")[
            f"pattern[{layer}]"
        ]
        places = list(zip(encoded.positions["end"], encoded.positions["yy_tens"], strict=True))
        found.append(
            torch.stack([pattern[row, :, end, year] for row, (end, year) in enumerate(places)]).mean(dim=0).tolist()
        )
    return found


def _direct(model: Model, encoded: EncodedTask) -> dict[str, Any]:
    """What the metric loses when only what a part writes straight into the logits is the contrast's [part]."""
    runs = runs_of(model, encoded)
    rows = [row for row, site in enumerate(runs.graph.sources) if site.kind != "embed"]
    sets = np.zeros((len(rows), *runs.graph.shape), dtype=bool)
    sets[np.arange(len(rows)), rows, len(runs.graph.targets) - 1] = True
    lost = (runs.whole[None] - runs.without(sets)).mean(axis=1)
    return {"part": [str(runs.graph.sources[row]) for row in rows], "lost": lost}


def _triangle(run: StudyRun, model: Model, answer: str) -> dict[str, Any]:
    """What each MLP of the last layers adds to the logit of each number, for each start year [layer][start][number]."""
    first = int((1 - LAST) * model.anatomy.n_layers)
    layers = list(range(first, model.anatomy.n_layers))
    prompts = greater_than(n=run.size(tiny=10, small=160, paper=490), seed=run.seed + 2, answer=answer)  # type: ignore[arg-type]
    encoded = prompts.encode(model.tokenizer)
    sites = ", ".join(f"mlp_contrib[{layer}]@-1" for layer in layers)
    found = model.run([list(ids) for ids in encoded.ids], read=f"{sites}, resid_post[{layers[-1]}]@-1", logits="none")
    final = found[f"resid_post[{layers[-1]}]@-1"]
    norm, ids = model.final_norm, _digits(model, answer)
    scale = norm.scale(final)
    starts = np.array(_start(encoded, answer))
    tables = []
    for layer in layers:
        written = norm.linear(found[f"mlp_contrib[{layer}]@-1"], scale)
        logits = (written @ model.W_U[:, ids].to(written)).detach().double().cpu().numpy()
        tables.append(
            [logits[starts == y].mean(axis=0).tolist() if (starts == y).any() else None for y in range(len(ids))]
        )
    return {"layers": layers, "tables": tables}


def _right_side(table: list[Any]) -> float:
    """Share of start years for which later numbers are raised above earlier ones, on average."""
    found = []
    for start, row in enumerate(table):
        if row is not None and 0 < start < len(row) - 1:
            found.append(np.mean(row[start + 1 :]) > np.mean(row[:start]))
    return float(np.mean(found)) if found else float("nan")


def _figures(
    run: StudyRun,
    behaviour: dict[str, Any],
    circuit: dict[str, Any],
    attended: list[list[float]],
    direct: dict[str, Any],
    triangle: dict[str, Any],
) -> dict[str, Figure]:
    whole, alone = np.array(circuit["whole"]), np.array(circuit["alone"])
    random = np.array(circuit["random"]) / whole.mean()
    lost = np.clip(np.array(direct["lost"]), 0, None)
    is_mlp = np.array([name.startswith("mlp") for name in direct["part"]])
    sides = [_right_side(table) for table in triangle["tables"]]
    best = int(np.nanargmax(sides)) if not np.all(np.isnan(sides)) else 0
    trained, untrained_ = behaviour["trained"], behaviour["untrained"]

    def share(chosen: Any) -> float:
        return float(alone[chosen].mean() / whole[chosen].mean())

    return {
        "probability_difference": mean_figure(
            trained["difference"],
            seed=run.seed,
            control=float(np.mean(untrained_["difference"])),
            control_is="untrained",
        ),
        "sharpness": mean_figure(
            trained["sharpness"], seed=run.seed, control=float(np.mean(untrained_["sharpness"])), control_is="untrained"
        ),
        "circuit": Figure(
            share(np.arange(len(alone))),
            *resampled(share, len(alone), seed=run.seed),
            len(alone),
            float(np.median(random)),
            f"{len(random)} random sets of {circuit['size']} parts",
        ),
        "year_to_end": Figure(
            float(np.max(attended)), control=float(np.median(attended)), control_is="median head", n=len(alone)
        ),
        "mlps_compare": Figure(
            float(lost[is_mlp].sum() / max(lost.sum(), 1e-30)),
            control=float(is_mlp.mean()),
            control_is="MLPs among the parts",
        ),
        "upper_triangle": Figure(
            sides[best],
            control=float(np.nanmedian(sides)),
            control_is="median MLP of the last quarter",
            note=f"layer {triangle['layers'][best]}",
        ),
    }


def _result(
    model: Model,
    behaviour: dict[str, Any],
    direct: dict[str, Any],
    triangle: dict[str, Any],
    attended: list[list[float]],
) -> Result:
    sides = np.nan_to_num([_right_side(table) for table in triangle["tables"]])
    table = triangle["tables"][int(np.argmax(sides))]
    width = len(next(row for row in table if row is not None))
    grid: Floats = np.array([row if row is not None else [np.nan] * width for row in table])
    shares = np.full((width, width), np.nan)
    for start in range(width):
        rows = [row for row, y in behaviour["trained"]["shares"] if y == start]
        if rows:
            shares[start] = np.mean(rows, axis=0)
    order = np.argsort(-np.array(direct["lost"]), kind="stable")[:15]
    data = xr.Dataset(
        {
            "probability": (("start", "number"), shares),
            "mlp_logit": (("start", "number"), grid),
            "attention_to_year": (("layer", "head"), np.array(attended)),
            "direct_effect": ("part", np.array(direct["lost"])[order]),
        },
        coords={
            "start": np.arange(width),
            "number": np.arange(width),
            "layer": np.arange(model.anatomy.n_layers),
            "head": np.arange(len(attended[0])),
            "part": [direct["part"][i] for i in order],
        },
    )
    layer = triangle["layers"][int(np.argmax(sides))]
    pictures = (
        views.heatmap(
            value="probability", x="number", y="start", title="Probability of each number, by the start year's"
        ),
        views.heatmap(
            value="mlp_logit", x="number", y="start", title=f"What MLP {layer} adds to the logit of each number"
        ),
        views.bars(value="direct_effect", label="part", title="Parts with the largest direct effects"),
        views.heatmap(value="attention_to_year", x="head", y="layer", title="Attention from the end to the start year"),
    )
    return Result(data=data, metrics={"mlp": layer}, views=pictures)
