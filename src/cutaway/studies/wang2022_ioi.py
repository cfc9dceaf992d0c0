"""Which heads name the indirect object, and is that the whole story? The IOI circuit, on another model.

The paper takes GPT-2 small apart on "When Mary and John went to the store, John gave a drink to": name movers attend to the
name that comes once and write it, other heads tell them which name came twice, and a circuit of 26 heads keeps 87 % of the
logit difference while all others give their mean [@wang2022]. The same questions are asked here with the same measures; which
heads do it is another matter in every model.
Limits: heads are sorted into kinds by what they attend to and write, by rules that were fixed before the run; the circuit is
chosen by attribution on other prompts than it is tested on, not by hand.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from cutaway.core import view as views
from cutaway.core.claim import Claim, Figure
from cutaway.core.edit import patch
from cutaway.core.result import Result
from cutaway.core.site import Site
from cutaway.core.study import Findings, StudyRun, study
from cutaway.core.task import EncodedTask, Task
from cutaway.data.tasks.ioi import NAMES, ioi
from cutaway.methods.circuit_figures import figures_of_heads
from cutaway.methods.circuit_runs import Runs
from cutaway.methods.edge_ranking import scores_of
from cutaway.methods.observe.attention import attention
from cutaway.models.model import Model
from cutaway.studies.head_circuits import (
    direct_effects,
    edges_of_heads,
    head_rows,
    names_of,
    random_heads,
    ranked_heads,
    silenced_runs,
    without_heads,
)
from cutaway.studies.opening import opened, untrained
from cutaway.studies.statistics import Floats, mean_figure, resampled

SHARE = 0.4  # of all heads that the circuit may have
MOVERS = 3  # heads with the largest direct effects that are knocked out together
SENDERS = 4  # heads whose word on the name movers' queries is taken away


@study(
    paper="wang2022",
    item="P34",
    asks="Which heads name the indirect object, and is that the whole story?",
    uses=("circuit_evaluation", "edge_attribution", "attention", "ov_qk_analysis"),
    seconds={"tiny": 15, "small": 420},
    claims=(
        Claim("logit_difference", "The model prefers the indirect object by 3.56 logits", theirs="3.56", where="section 2.1",
              at_least=3.0, unit="logits"),
        Claim("accuracy", "It prefers the indirect object in 99.3 % of prompts", theirs="99.3 %", where="section 2.1",
              at_least=0.99, unit="share of prompts"),
        Claim("circuit", "A circuit of 26 of 144 heads keeps 87 % of the logit difference", theirs="87 %", where="section 4",
              mark="derived", at_least=0.85, unit="of the logit difference, by 40 % of the heads"),
        Claim("name_mover_attention", "Name movers attend from the end to the indirect object (0.59 on average)", theirs="0.59",
              where="section 3.1", at_least=0.5, unit="attention of the head with the largest direct effect"),
        Claim("name_mover_copies", "Name movers write the name that they read (above 95 %; the average head below 20 %)",
              theirs="95 %", where="section 3.1", at_least=0.9, unit="names among the head's 5 largest outputs"),
        Claim("negative_movers", "Some heads write the opposite: negative name movers (98 % on the negative copy score)",
              theirs="98 %", where="section 3.1", at_least=0.9, unit="names among the head's 5 smallest outputs"),
        Claim("backup", "Knocking out the name movers costs only 5 %: others take over", theirs="5 %", where="section 3.4",
              at_most=0.2, unit="of the logit difference lost without the 3 strongest"),
        Claim("senders", "Heads that act on the name movers' queries decide where those look (S-inhibition)", where="section 3.2",
              mark="ours", at_least=0.5, unit="of the attention to the name lost without 4 heads"),
        Claim("duplicates", "Some heads see that a name came before: duplicate-token and induction heads", where="section 3.3",
              mark="ours", at_least=0.5, unit="attention to (or after) the earlier copy, best head"),
        Claim("second_mention", "Mentioning the indirect object twice misleads the model (3.55 falls to 1.23)", theirs="65 %",
              where="section 4.4", mark="derived", at_least=0.4, unit="of the logit difference lost"),
    ),
)  # fmt: skip
def wang2022_ioi(run: StudyRun) -> Findings:
    """Behaviour, direct effects, a circuit tested against random ones, and what single heads do."""
    task = ioi(n=run.size(tiny=6, small=60, paper=200), seed=run.seed)
    found_on = ioi(n=run.size(tiny=4, small=30, paper=100), seed=run.seed + 1)
    model = opened(run, paper="gpt2", texts=ioi(n=300))
    encoded = task.encode(model.tokenizer)
    order = run.step("ranked heads", lambda: ranked_heads(model, found_on.encode(model.tokenizer)))
    kept = order[: max(1, round(SHARE * len(order)))]
    circuit = run.step("circuit", lambda: _circuit(run, silenced_runs(model, encoded), kept))
    direct = run.step("direct effects", lambda: direct_effects(silenced_runs(model, encoded)))
    movers = np.array(direct).mean(axis=1)
    ranking = np.argsort(-movers, kind="stable")
    heads = run.step("heads", lambda: _heads(run, model, encoded, ranking))
    behaviour = run.step("behaviour", lambda: _behaviour(run, model, encoded, task))
    habits = run.step("habits", lambda: attention(model, ioi(n=2, seed=run.seed), controls=0).metrics)
    figures = _figures(run, circuit, heads, behaviour, dict(habits))
    return Findings(figures, _result(model, movers, circuit, order, len(kept)), _DIFFERS)


_DIFFERS = (
    "The paper's model is GPT-2 small (12 layers of 12 heads, LayerNorm, learned positions); at small scale this is "
    "SmolLM2-135M-Instruct (30 layers of 9 heads that share 3 keys and values, RMSNorm, SwiGLU), and head numbers "
    "have nothing to do with the paper's. Its circuit was found by hand, position by position, with 26 of 144 heads; "
    "here heads are kept at all positions, chosen by edge attribution on other prompts, and up to 40 % of them may be "
    "kept. As in the paper MLPs are kept, and heads outside give their mean over prompts with unrelated names of the "
    "same template. The second mention is a sentence put before the prompt."
)


# --- what is measured --------------------------------------------------------------------------------------------


def _circuit(run: StudyRun, runs: Runs, kept: list[int]) -> dict[str, Any]:
    times = run.size(tiny=2, small=20, paper=50)
    alone = runs.of(edges_of_heads(runs.graph, kept)[None])[0]
    random = runs.of(random_heads(runs, len(kept), times, run.seed)).mean(axis=1)
    top = np.array(head_rows(runs.graph))[np.argsort(-direct_effects(runs).mean(axis=1), kind="stable")][:MOVERS]
    return {
        "whole": runs.whole,
        "alone": alone,
        "random": random,
        "without_movers": without_heads(runs, top.tolist()),
        "movers": names_of(runs.graph, top.tolist()),
        "kept": names_of(runs.graph, kept),
    }


def _heads(run: StudyRun, model: Model, encoded: EncodedTask, ranking: Any) -> dict[str, Any]:
    """What the head with the largest and the head with the smallest direct effect attend to and write."""
    per_layer = model.anatomy.n_heads
    best, worst = (divmod(int(place), per_layer) for place in (ranking[0], ranking[-1]))
    names = [model.token_id(f" {name}") for name in NAMES if _is_one_token(model, f" {name}")]
    layers = sorted({best[0], worst[0], *range(0, model.anatomy.n_layers, run.size(tiny=1, small=3, paper=1))})
    written = figures_of_heads(model, layers, names, 5, "mlp_and_stream")
    all_top = [figures["own_top"] for figures in written.values()]
    all_bottom = [figures["own_bottom"] for figures in written.values()]
    attended, without = _attention(model, encoded, best)
    return {
        "best": list(best),
        "worst": list(worst),
        "attended": attended,
        "without_senders": without,
        "copies": written[best]["own_top"],
        "copies_of_others": float(np.mean(all_top)),
        "negative": written[worst]["own_bottom"],
        "negative_of_others": float(np.mean(all_bottom)),
    }


def _is_one_token(model: Model, text: str) -> bool:
    return len(model.tokenizer(text, add_special_tokens=False)["input_ids"]) == 1


def _attention(model: Model, encoded: EncodedTask, head: tuple[int, int]) -> tuple[list[float], list[float]]:
    """A head's attention from the end to the indirect object [prompt], as it is and without its query's senders."""
    site = Site("pattern", head[0], head=head[1])
    senders = _senders(model, encoded, head)
    contrast = model.run([list(ids) for ids in encoded.contrast_ids], read="z[*]", logits="none")
    edits = [patch(each, contrast) for each in senders]
    found = []
    for edit in ([], edits):
        pattern = model.run([list(ids) for ids in encoded.ids], read=str(site), edit=edit, logits="none")[site]
        places = zip(encoded.positions["end"], encoded.positions["io"], strict=True)
        found.append([float(pattern[row, end, io]) for row, (end, io) in enumerate(places)])
    return found[0], found[1]


def _senders(model: Model, encoded: EncodedTask, head: tuple[int, int]) -> list[Site]:
    """The heads whose edges into this head's query carry most of the metric."""
    from cutaway.methods.circuit_runs import runs_of

    some = replace(
        encoded,
        kept=encoded.kept[:12],
        ids=encoded.ids[:12],
        contrast_ids=encoded.contrast_ids[:12],
        answer_ids=encoded.answer_ids[:12],
        wrong_ids=encoded.wrong_ids[:12],
        positions={name: where[:12] for name, where in encoded.positions.items()},
    )
    runs = runs_of(model, some)
    scores = scores_of(runs, "eap_ig", 5)
    column = runs.graph.target_number[Site("q", head[0], head=head[1])]
    rows = [row for row in head_rows(runs.graph) if runs.graph.exists[row, column]]
    ordered = sorted(rows, key=lambda row: float(scores[row, column]))
    return [runs.graph.sources[row] for row in ordered[:SENDERS]]


def _behaviour(run: StudyRun, model: Model, encoded: EncodedTask, task: Task) -> dict[str, Any]:
    said_twice = tuple(
        f"{answer[0].strip()} had a good day. {prompt}" for prompt, answer in zip(task.prompts, task.answers)
    )
    other = Task.from_prompts(list(said_twice), answers=list(task.answers), wrong=list(task.wrong))
    control = Task.from_prompts(
        [re.sub(r"^\w+", "Everyone", text) for text in said_twice], answers=list(task.answers), wrong=list(task.wrong)
    )
    random = untrained(model, seed=run.seed)
    return {
        "difference": _differences(model, encoded),
        "untrained": float(np.mean(_differences(random, encoded))),
        "twice": _differences(model, other.encode(model.tokenizer)),
        "control": _differences(model, control.encode(model.tokenizer)),
    }


def _differences(model: Model, encoded: EncodedTask) -> list[float]:
    """Logit of the answer minus logit of the wrong name [prompt]."""
    logits = model.run([list(ids) for ids in encoded.ids], logits="last").last_logits
    pairs = zip(encoded.answer_ids, encoded.wrong_ids, strict=True)
    return [float(logits[row, right[0]] - logits[row, wrong[0]]) for row, (right, wrong) in enumerate(pairs)]


def _figures(
    run: StudyRun, circuit: dict[str, Any], heads: dict[str, Any], behaviour: dict[str, Any], habits: dict[str, Any]
) -> dict[str, Figure]:
    seed = run.seed
    difference = np.array(behaviour["difference"])
    whole, alone, less = (np.array(circuit[name]) for name in ("whole", "alone", "without_movers"))
    random = np.array(circuit["random"]) / whole.mean()
    attended, without = np.array(heads["attended"]), np.array(heads["without_senders"])
    seen = max(float(habits.get(name, 0.0)) for name in ("largest_duplicate_token_score", "largest_induction_score"))
    twice, control = (np.array(behaviour[name]) for name in ("twice", "control"))
    return {
        "logit_difference": mean_figure(
            difference, seed=seed, control=behaviour["untrained"], control_is="the same architecture, untrained"
        ),
        "accuracy": mean_figure(difference > 0, seed=seed, control=0.5, control_is="chance"),
        "circuit": _share(alone, whole, seed, float(np.median(random)), f"{len(random)} random sets of as many heads"),
        "name_mover_attention": mean_figure(attended, seed=seed, note=f"head {heads['best'][0]}.{heads['best'][1]}"),
        "name_mover_copies": Figure(
            heads["copies"], control=heads["copies_of_others"], control_is="mean head of every third layer"
        ),
        "negative_movers": Figure(
            heads["negative"],
            control=heads["negative_of_others"],
            control_is="mean head of every third layer",
            note=f"head {heads['worst'][0]}.{heads['worst'][1]}, the smallest direct effect",
        ),
        "backup": _lost(less, whole, seed, "heads " + ", ".join(circuit["movers"])),
        "senders": _lost(without, attended, seed, "the best name mover's attention to the name"),
        "duplicates": Figure(seen, note="on random tokens said twice"),
        "second_mention": Figure(
            1 - float(twice.mean() / control.mean()),
            n=len(twice),
            control=1 - float(control.mean() / difference.mean()),
            control_is="the same sentence about everyone",
        ),
    }


def _share(part: Floats, whole: Floats, seed: int, control: float, control_is: str) -> Figure:
    def of(chosen: Any) -> float:
        return float(part[chosen].mean() / whole[chosen].mean())

    return Figure(of(np.arange(len(part))), *resampled(of, len(part), seed=seed), len(part), control, control_is)


def _lost(left: Floats, whole: Floats, seed: int, note: str) -> Figure:
    def of(chosen: Any) -> float:
        return 1 - float(left[chosen].mean() / whole[chosen].mean())

    return Figure(of(np.arange(len(left))), *resampled(of, len(left), seed=seed), len(left), note=note)


def _result(model: Model, movers: Floats, circuit: dict[str, Any], order: list[int], kept: int) -> Result:
    heads = model.anatomy.n_heads
    data = xr.Dataset(
        {
            "direct_effect": (("layer", "head"), movers.reshape(-1, heads)),
            "head_of_circuit": ("rank", circuit["kept"]),
            "share_kept": ("what", [float(np.mean(circuit["alone"]) / np.mean(circuit["whole"])), *(
                np.quantile(circuit["random"], [0.025, 0.5, 0.975]) / np.mean(circuit["whole"])
            )]),
        },
        coords={
            "layer": np.arange(model.anatomy.n_layers),
            "head": np.arange(heads),
            "what": ["circuit", "random heads, 2.5 %", "random heads, median", "random heads, 97.5 %"],
        },
    )  # fmt: skip
    pictures = (
        views.heatmap(
            value="direct_effect", x="head", y="layer", title="Direct effect of each head on the logit difference"
        ),
        views.bars(value="share_kept", label="what", title=f"Share of the logit difference that {kept} heads keep"),
        views.table(columns=["head_of_circuit"], title="Heads of the circuit, most important first"),
    )
    return Result(data=data, metrics={"heads": len(order), "heads_kept": kept}, views=pictures)
