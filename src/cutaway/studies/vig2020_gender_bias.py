"""Through which parts does gender bias reach the pronoun? Causal mediation on professions.

"The nurse said that" is followed by "she" more than by "he" in most models. In place of the profession "man" or "woman" is
put, whichever speaks for the other pronoun, and the change of the odds is split into what goes through neurons (coordinates
of the MLP outputs at the profession), through attention weights, and past them [@vig2020]. As in the paper, the direction is
chosen for each sentence so that the model prefers the pronoun whose odds are lowered.
Limits: professions of our own with a list of two stereotypes; the paper's Winobias and Winogender sentences, on which its
attention figures stand, are not here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from cutaway.core import view as views
from cutaway.core.claim import Claim, Figure
from cutaway.core.result import Result
from cutaway.core.site import Site
from cutaway.core.study import Findings, StudyRun, study
from cutaway.core.task import EncodedTask, Task
from cutaway.data.tasks.gender_pronoun import FEMALE, MALE, TEMPLATES, gender_pronoun
from cutaway.data.templates import fill
from cutaway.methods.cell_slopes import slopes_of_cells
from cutaway.methods.intervene.mediation import joint_effects, mediation
from cutaway.methods.labels import described
from cutaway.methods.prompt_choice import where_preferred
from cutaway.models.metric import metric_of
from cutaway.models.model import Model
from cutaway.studies.opening import opened, untrained
from cutaway.studies.statistics import resampled, spearman

ATTENTION = "pattern[*].head[*]"
NEURONS = "mlp_out[*].unit[*]@profession"
LAYERS = "mlp_out[*]@profession"
FEW_NEURONS, FEW_HEADS = 0.04, 0.05  # of all


@study(
    paper="vig2020",
    item="P7",
    asks="Through which parts does gender bias reach the pronoun?",
    uses=("mediation",),
    seconds={"tiny": 12, "small": 300},
    claims=(
        Claim(
            "total_effect",
            "Setting the gender changes the odds of the pronouns many times over",
            theirs="112.3 in GPT-2 small",
            where="neuron interventions, professions",
            mark="memory",
            at_least=10.0,
            unit="mean ratio of odds - 1",
        ),
        Claim(
            "untrained",
            "In a network with random weights there is next to no effect",
            theirs="0.117 against 112.3",
            where="neuron interventions, professions",
            mark="memory",
            at_most=0.05,
            unit="of the trained network's total effect",
        ),
        Claim(
            "stereotype",
            "The pronoun follows the stereotype of the profession",
            mark="ours",
            at_least=0.4,
            unit="rank correlation of log-odds and list",
        ),
        Claim(
            "additive",
            "Indirect and direct effect through attention nearly add up to the total one",
            theirs="0.182 + 0.079 against 0.249",
            where="Winobias, GPT-2 small",
            mark="read",
            at_most=0.35,
            unit="of the total effect",
        ),
        Claim(
            "indirect_over_direct",
            "What attention weights mediate exceeds what goes past them, in sentences of two professions",
            theirs="0.182 against 0.079",
            where="Winobias, GPT-2 small",
            mark="read",
            at_least=1.0,
            unit="indirect over direct effect",
        ),
        Claim(
            "few_neurons",
            "4 % of the neurons carry nearly the whole effect that neurons carry",
            theirs="about 4 % of the neurons",
            where="neuron subsets",
            mark="memory",
            at_least=0.8,
            unit="of the indirect effect of all neurons",
        ),
        Claim(
            "few_heads",
            "A few heads carry most of the effect that attention weights carry",
            theirs="few heads",
            where="attention subsets",
            mark="memory",
            at_least=0.5,
            unit="of the indirect effect of all heads, by 5 % of them",
        ),
        Claim(
            "middle_layers",
            "The heads that carry the effect are of the middle layers",
            theirs="middle layers",
            where="attention heat maps",
            mark="memory",
            at_least=0.45,
            unit="of the heads' indirect effects, in the middle third",
        ),
        Claim(
            "grows_with_size",
            "The effect grows with the size of the model",
            theirs="0.118 (distil) to 0.774 (medium)",
            where="Winobias, all sizes",
            mark="read",
            at_least=1.0,
            unit="larger over smaller model",
        ),
    ),
)
def vig2020_gender_bias(run: StudyRun) -> Findings:
    """Measure total, indirect and direct effects of heads, neurons and layers on sentences about professions."""
    sentences = gender_pronoun(n=run.size(tiny=4, small=24, paper=400), seed=run.seed)
    task = either_way(sentences)
    model = opened(run, paper="gpt2", texts=task)
    attention = run.step("attention", lambda: _mediation(run, model, task, ATTENTION))
    layers = run.step("layers", lambda: _mediation(run, model, task, LAYERS))
    neurons = run.step("neurons", lambda: _neurons(run, model, task))
    heads = run.step("all heads", lambda: _all_heads(model, task))
    control = run.step("untrained", lambda: _untrained(run, model, task))
    bias = run.step("stereotype", lambda: _stereotype(run, model))
    figures = _figures(run, attention, neurons, heads, control, bias)
    return Findings(figures, _result(attention, layers, bias), _DIFFERS)


_DIFFERS = (
    "The paper uses GPT-2 in five sizes and its own list of professions with ratings by people; at small scale this is "
    "SmolLM2-135M-Instruct with 24 sentences about professions that count as female or male. Its attention figures come from "
    "Winobias and Winogender, where the changed word stands between two professions; in our sentences the profession "
    "itself is exchanged, so that values change as well as attention, and the share that attention weights carry is no "
    "test of the paper's. Neurons are ranked by a gradient and measured together. "
    "Attention weights carry about a twelfth of the effect; their largest heads together exceed all of them, because other heads "
    "work the other way, and the heads were chosen on the same sentences. The ratios' effects do not add up, "
    "their logarithms nearly do: the mean of the ratios is carried by the sentences with the smallest odds, "
    "and lies far above the median."
)


# --- the recipe --------------------------------------------------------------------------------------------------


def either_way(sentences: Task) -> Task:
    """Each sentence twice: with "she" as its answer and "man" in the contrast, and the other way round."""
    spans = sentences.positions["profession"]
    rows = [
        (text, f"{text[:start]}{other}{text[end:]}", answer, wrong, (start, end))
        for text, (start, end) in zip(sentences.prompts, spans, strict=True)
        for answer, wrong, other in ((" she", " he", "man"), (" he", " she", "woman"))
    ]
    return replace(
        Task.from_prompts(
            [row[0] for row in rows],
            contrasts=[row[1] for row in rows],
            answers=[row[2] for row in rows],
            wrong=[row[3] for row in rows],
            name="gender_pronoun, either way",
        ),
        positions={"profession": tuple(row[4] for row in rows)},
        seed=sentences.seed,
        source=sentences.source,
    )


def _mediation(run: StudyRun, model: Model, task: Task, sites: str) -> Result:
    heads = model.anatomy.n_layers * model.anatomy.n_heads
    return mediation(
        model,
        task,
        sites=sites,
        exact=max(400, heads),
        largest_set=max(1, round(FEW_HEADS * heads)) if sites == ATTENTION else 3,
        preferred=run.scale != "tiny",
        controls=run.size(tiny=5, small=20, paper=20),
        seed=run.seed,
    )


def _preferred(run: StudyRun, model: Model, task: Task) -> EncodedTask:
    encoded = task.encode(model.tokenizer)
    return encoded if run.scale == "tiny" else where_preferred(model, encoded)[0]


def _neurons(run: StudyRun, model: Model, task: Task) -> dict[str, float]:
    """Log indirect effects of all neurons at the profession, of the largest 4 % together, and of random ones."""
    encoded = _preferred(run, model, task)
    metric = metric_of(encoded, "logit_difference")
    cells = list(model.anatomy.expand(Site.parse("mlp_out[*].unit[*]@profession")))
    estimate = -slopes_of_cells(model, encoded, metric, cells).mean(axis=0)
    count = max(1, round(FEW_NEURONS * len(cells)))
    few = [cells[i] for i in np.argsort(-estimate, kind="stable")[:count]]
    random = np.random.default_rng(run.seed)
    drawn = [
        [cells[int(i)] for i in random.choice(len(cells), count, replace=False)]
        for _ in range(run.size(tiny=2, small=5, paper=20))
    ]
    every = [replace(site, unit=None) for site in dict.fromkeys(replace(one, unit=None) for one in cells)]
    joint = joint_effects(model, encoded, metric, [every, few, *drawn]).mean(axis=1)
    return {"all": float(joint[0]), "few": float(joint[1]), "random": float(joint[2:].mean()), "count": count}


def _all_heads(model: Model, task: Task) -> dict[str, float]:
    """Total effect, and what goes through all attention weights and past them, in sentences that the model prefers."""
    encoded = task.encode(model.tokenizer)
    lead = metric_of(encoded, "logit_difference")(model.run(encoded, logits="last").last_logits)
    if bool((lead > 0).any()):
        encoded = where_preferred(model, encoded)[0]
    metric = metric_of(encoded, "logit_difference")
    heads = list(model.anatomy.expand(Site.parse("pattern[*]")))
    everything = [Site("resid_pre", 0)]
    total = joint_effects(model, encoded, metric, [everything])[0]
    through = joint_effects(model, encoded, metric, [heads])[0]
    past = joint_effects(model, encoded, metric, [heads], held=True)[0]
    names = {"total": total, "through": through, "past": past}
    ratios = {name: float(np.expm1(logs).mean()) for name, logs in names.items()}
    return ratios | {f"log {name}": float(logs.mean()) for name, logs in names.items()}


def _untrained(run: StudyRun, model: Model, task: Task) -> dict[str, float]:
    """The total effect of untrained weights, in the same sentences and directions."""
    return {"total": _all_heads(untrained(model, run.seed), task)["total"]}


def _stereotype(run: StudyRun, model: Model) -> dict[str, Any]:
    """Mean log-odds of "she" against "he" for each profession, and whether the list calls it female."""
    names = [*FEMALE[: run.size(tiny=2, small=99, paper=99)], *MALE[: run.size(tiny=2, small=99, paper=99)]]
    some = TEMPLATES[: run.size(tiny=1, small=4, paper=17)]
    texts = [fill(template, {"profession": name}).text for name in names for template in some]
    encoded = Task.from_prompts(texts, answers=" she", wrong=" he").encode(model.tokenizer)
    lead = metric_of(encoded, "logit_difference")(model.run(encoded, logits="last").last_logits)
    means = lead.double().reshape(len(names), len(some)).mean(dim=1)
    return {"profession": names, "log_odds": means.tolist(), "female": [float(name in FEMALE) for name in names]}


# --- what came out -----------------------------------------------------------------------------------------------


def _figures(
    run: StudyRun,
    attention: Result,
    neurons: dict[str, float],
    heads: dict[str, float],
    control: dict[str, float],
    bias: dict[str, Any],
) -> dict[str, Figure]:
    total = np.expm1(attention.data["log_total_effect"].values)
    low, high = resampled(lambda chosen: float(total[chosen].mean()), len(total), seed=run.seed)
    odds, female = np.array(bias["log_odds"]), np.array(bias["female"])
    ends = resampled(lambda chosen: spearman(odds[chosen], female[chosen]), len(odds), seed=run.seed)
    shuffled = np.random.default_rng(run.seed).permutation(female)
    gap = abs(heads["total"] - heads["through"] - heads["past"]) / max(abs(heads["total"]), 1e-12)
    logs = abs(heads["log total"] - heads["log through"] - heads["log past"]) / max(abs(heads["log total"]), 1e-12)
    joint = float(attention.data["joint_effect"].values[-1])
    check = attention.checks[0]
    n = len(total)
    return {
        "total_effect": Figure(
            total.mean(), low, high, n, control["total"], "untrained weights", f"median {np.median(total):.2f}"
        ),
        "untrained": Figure(abs(control["total"]) / max(abs(heads["total"]), 1e-12), n=n),
        "stereotype": Figure(
            float(np.nan_to_num(spearman(odds, female))),
            float(np.nan_to_num(ends[0])),
            float(np.nan_to_num(ends[1])),
            len(odds),
            float(np.nan_to_num(spearman(odds, shuffled))),
            "shuffled list",
        ),
        "additive": Figure(gap, n=n, note=f"of logarithms: {logs:.2f}"),
        "few_neurons": Figure(
            _share(neurons["few"], neurons["all"]),
            n=int(neurons["count"]),
            control=_share(neurons["random"], neurons["all"]),
            control_is="as many random neurons",
            note="logarithms of odds",
        ),
        "few_heads": Figure(
            _share(joint, heads["log through"]),
            n=attention.data.sizes["size"],
            control=_share(check.control, heads["log through"]),
            control_is="as many random heads",
            note=f"all attention weights carry {_share(heads['log through'], heads['log total']):.2f} of the total effect",
        ),
        "middle_layers": _middle(attention),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if abs(whole) > 1e-9 else 0.0


def _middle(attention: Result) -> Figure:
    """The share of the positive indirect effects that lies in the middle third of the layers."""
    grid = np.clip(attention.data["effect_pattern"].values, 0, None).sum(axis=1)
    layers = len(grid)
    middle = slice(layers // 3, layers - layers // 3)
    share = float(grid[middle].sum() / max(grid.sum(), 1e-12))
    even = (layers - 2 * (layers // 3)) / layers
    return Figure(share, n=layers, control=even, control_is="evenly spread over the layers")


def _result(attention: Result, layers: Result, bias: dict[str, Any]) -> Result:
    """The paper's heat map of heads, the layers' neurons, and the professions from one stereotype to the other."""
    order = np.argsort(np.asarray(bias["log_odds"], float), kind="stable")
    shown = order if len(order) <= 16 else np.concatenate([order[:8], order[-8:]])
    data = xr.Dataset(
        {
            "heads": (("layer", "head"), attention.data["effect_pattern"].values),
            "neurons_of_layer": ("layer", layers.data["effect_mlp_out"].values),
            "joint_effect": ("size", attention.data["joint_effect"].values),
            "log_odds": ("profession", np.asarray(bias["log_odds"], float)[shown]),
        },
        coords={
            "profession": [str(bias["profession"][i]) for i in shown],
            "layer": np.arange(attention.data.sizes["layer"]),
            "head": np.arange(attention.data.sizes["head"]),
            "size": np.arange(1, attention.data.sizes["size"] + 1),
        },
    )
    log = "indirect effect, log of the odds' ratio"
    data = described(
        data, heads=log, neurons_of_layer=log, joint_effect=log, log_odds="log-odds of “she” to “he”", size="heads"
    )
    return Result(
        data=data,
        metrics={key: value for key, value in attention.metrics.items() if key.startswith("total")},
        views=(
            views.heatmap(
                value="heads",
                x="head",
                y="layer",
                title="Indirect effect through each head's attention",
                scale="diverging",
            ),
            views.curves(
                value="neurons_of_layer", x="layer", title="Indirect effect of a layer's neurons at the profession"
            ),
            views.curves(
                value="joint_effect", x="size", title="Indirect effect of the heads with the largest ones, together"
            ),
            views.bars(
                value="log_odds", label="profession", title="Professions that call up “he” most, and “she” most"
            ),
        ),
        checks=(*attention.checks, *layers.checks),
        notes=(*attention.notes,),
    )
