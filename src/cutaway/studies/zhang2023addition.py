"""Do a few heads add? Silencing the heads that matter most for sums of two digits.

The paper finds that about half a percent of the heads of LLaMA-2 7B matter for addition: knocked out, they destroy it, and
hurt subtraction; they attend to the operands [@zhang2023addition]. Here heads are ranked by what patching them does to the
answer, on other prompts than those that they are tested on.
Limits: heads may only carry the numbers, not add them; copying a number is asked for as a control task.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from cutaway.core import view as views
from cutaway.core.claim import Claim, Figure
from cutaway.core.result import Result
from cutaway.core.study import Findings, StudyRun, study
from cutaway.core.task import EncodedTask, Task
from cutaway.data.tasks.arithmetic import arithmetic
from cutaway.methods.circuit_runs import Floats
from cutaway.methods.intervene.patching import patching
from cutaway.models.model import Model
from cutaway.studies.head_circuits import head_rows, names_of, silenced_runs
from cutaway.studies.opening import opened, untrained
from cutaway.studies.statistics import mean_figure, spearman

TOP = 0.05  # of the heads


@study(
    paper="zhang2023addition",
    item="P21",
    asks="Do a few heads add?",
    uses=("patching", "circuit_evaluation", "attention"),
    seconds={"tiny": 10, "small": 300},
    claims=(
        Claim("accuracy", "The model adds two digits", where="setting", mark="ours", at_least=0.7, unit="share of questions"),
        Claim("few_heads", "About 0.5 % of the heads matter", theirs="0.5 % of heads", where="abstract", at_least=0.8,
              unit="of all positive effects, by 5 % of the heads"),
        Claim("knock_out", "Without these heads the model cannot add", where="knock-out", mark="ours", at_least=0.5,
              unit="accuracy lost"),
        Claim("subtraction", "Subtraction suffers too: 52 % lost", theirs="52 %", where="transfer", mark="secondary", at_least=0.2,
              unit="accuracy of subtraction lost"),
        Claim("operands", "These heads attend to the operands", where="attention patterns", mark="ours", at_least=3.0,
              unit="times the attention of the mean head"),
        Claim("same_for_all_forms", "The same heads matter whatever the question's form", where="templates", mark="ours",
              at_least=0.7, unit="rank correlation of head effects, mean over pairs of forms"),
        Claim("not_copying", "The heads are about sums, not about carrying numbers", where="control task of our own", mark="ours",
              at_most=0.2, unit="accuracy of copying lost"),
    ),
)  # fmt: skip
def zhang2023addition(run: StudyRun) -> Findings:
    """Rank heads by patching, silence the best ones, and ask for sums, differences and copies."""
    tests = {
        "add": arithmetic(n=run.size(tiny=6, small=80, paper=120), seed=run.seed),
        "subtract": arithmetic(n=run.size(tiny=6, small=80, paper=120), seed=run.seed, operation="subtract"),
        "copy": _copying(run.size(tiny=6, small=40, paper=80), run.seed),
    }
    model = opened(run, paper="meta-llama/Llama-2-7b-hf", texts=_all(tests))
    each = run.size(tiny=3, small=12, paper=30)
    effects = np.array(
        [
            run.step(f"heads, form {form}", lambda form=form: _effects(model, each, run.seed + 1, form))  # type: ignore[misc]
            for form in range(4)
        ]
    )
    order = np.argsort(-effects.mean(axis=0), kind="stable")
    top = order[: max(1, round(TOP * len(order)))].tolist()
    right = {
        name: run.step(f"silenced, {name}", lambda name=name: _right(run, model, tests[name], top))  # type: ignore[misc]
        for name in tests
    }
    attended = run.step("attention", lambda: _attention(model, tests["add"].encode(model.tokenizer)))
    control = run.step("untrained", lambda: _accuracy(untrained(model, seed=run.seed), tests["add"]))
    figures = _figures(run, effects, top, right, np.array(attended), control)
    return Findings(figures, _result(model, effects, right, np.array(attended)), _DIFFERS)


_DIFFERS = (
    "The paper studies LLaMA-2 7B, Qwen 7B and ChatGLM2 6B on sums of two numbers in twenty forms, zero-shot. "
    "SmolLM2-135M-Instruct does not add zero-shot (3 to 22 % right), so every question follows one worked example, "
    "with single digits and single-digit results. The effect of a head is that of patching its z from the other "
    "question at all positions, which includes what later parts make of it; the paper follows the direct path. "
    "Silenced heads give their mean over other questions of the same form."
)


# --- what is measured --------------------------------------------------------------------------------------------


def _copying(n: int, seed: int) -> Task:
    """Which number was said? The same digits, to be said again."""
    rng = np.random.default_rng(seed)
    made: dict[str, tuple[str, str, str]] = {}
    while len(made) < n:
        a, b, c, d = (int(x) for x in rng.choice(np.arange(1, 10), 4, replace=False))
        words = "ABCDEFGH"[int(rng.integers(8))]
        prompt, other = (
            f"The code of {words} is 2 and {d}, again 2 and {d}. The code of {words} is {a} and {y}, again {a} and "
            for y in (b, c)
        )
        made[prompt] = (other, str(b), str(c))
    found = list(made.items())
    return Task.from_prompts(
        [prompt for prompt, _ in found],
        contrasts=[other for _, (other, _, _) in found],
        answers=[right for _, (_, right, _) in found],
        wrong=[wrong for _, (_, _, wrong) in found],
        name="copying",
    )


def _all(tests: dict[str, Task]) -> Task:
    prompts = [prompt for task in tests.values() for prompt in task.prompts]
    return Task.from_prompts(prompts, answers=[str(i % 10) for i in range(len(prompts))])


def _effects(model: Model, n: int, seed: int, form: int) -> list[float]:
    """What the metric loses when one head's z is the contrast's [head]."""
    found = patching(model, arithmetic(n=n, seed=seed, form=form), sites="z[*].head[*]", direction="noise", controls=0)
    return [float(x) for x in found.data["effect"].values]


def _right(run: StudyRun, model: Model, task: Task, top: list[int]) -> dict[str, Any]:
    """Whether the model's first word is the answer [prompt]: as it is, without the best heads, without random ones."""
    encoded = task.encode(model.tokenizer)
    runs = silenced_runs(model, encoded)
    rows = np.array(head_rows(runs.graph))
    rng = np.random.default_rng(run.seed)
    times = run.size(tiny=2, small=10, paper=20)
    sets = [[], rows[top].tolist(), *(rng.choice(rows, len(top), replace=False).tolist() for _ in range(times))]
    changed = np.zeros((len(sets), *runs.graph.shape), dtype=bool)
    for matrix, silenced in zip(changed, sets, strict=True):
        matrix[silenced] = runs.graph.exists[silenced]
    best = runs.engine.logits(changed).argmax(dim=-1).cpu().numpy()
    answers = np.array([ids[0] for ids in encoded.answer_ids])
    right = (best == answers[None]).astype(float)
    return {
        "whole": right[0],
        "without": right[1],
        "random": right[2:].mean(axis=1),
        "heads": names_of(runs.graph, sets[1]),
    }


def _accuracy(model: Model, task: Task) -> float:
    encoded = task.encode(model.tokenizer)
    best = model.run([list(ids) for ids in encoded.ids], logits="last").last_logits.argmax(dim=-1).tolist()
    return float(np.mean([one == ids[0] for one, ids in zip(best, encoded.answer_ids, strict=True)]))


def _attention(model: Model, encoded: EncodedTask) -> list[float]:
    """Attention of every head from the end to the two operands together [head]."""
    found: list[float] = []
    rows = range(len(encoded.ids))
    for layer in range(model.anatomy.n_layers):
        site = f"pattern[{layer}]"
        pattern = model.run([list(ids) for ids in encoded.ids], read=site, logits="none")[site]
        places = zip(rows, encoded.positions["end"], encoded.positions["a"], encoded.positions["b"], strict=True)
        each = [(pattern[row, :, end, a] + pattern[row, :, end, b]).cpu().numpy() for row, end, a, b in places]
        found += [float(x) for x in np.mean(each, axis=0)]
    return found


def _figures(
    run: StudyRun, effects: Floats, top: list[int], right: dict[str, Any], attended: Floats, control: float
) -> dict[str, Figure]:
    positive = np.clip(effects.mean(axis=0), 0, None)
    rng = np.random.default_rng(run.seed)
    pairs = [(i, j) for i in range(len(effects)) for j in range(i)]
    alike = [spearman(effects[i], effects[j]) for i, j in pairs]
    shuffled = [spearman(effects[i], rng.permutation(effects[j])) for i, j in pairs]
    heads = ", ".join(right["add"]["heads"])
    return {
        "accuracy": mean_figure(right["add"]["whole"], seed=run.seed, control=control, control_is="untrained"),
        "few_heads": Figure(
            float(positive[top].sum() / max(positive.sum(), 1e-30)),
            control=TOP,
            control_is="their number",
            n=len(positive),
        ),
        "knock_out": _lost(right["add"], run.seed, heads),
        "subtraction": _lost(right["subtract"], run.seed, heads),
        "operands": Figure(
            float(attended[top].mean() / attended.mean()),
            control=float(np.median(attended) / attended.mean()),
            control_is="median head",
        ),
        "same_for_all_forms": Figure(
            float(np.mean(alike)), n=len(pairs), control=float(np.mean(shuffled)), control_is="shuffled heads"
        ),
        "not_copying": _lost(right["copy"], run.seed, heads),
    }


def _lost(right: dict[str, Any], seed: int, note: str) -> Figure:
    whole, without = np.array(right["whole"]), np.array(right["without"])
    random = float(whole.mean() - np.mean(right["random"]))
    return mean_figure(
        whole - without,
        seed=seed,
        control=random,
        control_is=f"{len(right['random'])} random sets",
        note=f"heads {note}",
    )


def _result(model: Model, effects: Floats, right: dict[str, Any], attended: Floats) -> Result:
    heads = model.anatomy.n_heads
    names = list(right)
    data = xr.Dataset(
        {
            "effect": (("layer", "head"), effects.mean(axis=0).reshape(-1, heads)),
            "attention_to_operands": (("layer", "head"), attended.reshape(-1, heads)),
            "accuracy": (
                ("silenced", "task"),
                np.array([[np.mean(right[name][key]) for name in names] for key in ("whole", "without", "random")]),
            ),
        },
        coords={
            "layer": np.arange(effects.shape[1] // heads),
            "head": np.arange(heads),
            "silenced": ["nothing", "the best heads", "random heads"],
            "task": names,
        },
    )
    pictures = (
        views.heatmap(value="effect", x="head", y="layer", title="What patching each head does to the answer"),
        views.heatmap(
            value="accuracy", x="task", y="silenced", title="Accuracy when heads are silenced", scale="sequential"
        ),
        views.heatmap(
            value="attention_to_operands", x="head", y="layer", title="Attention from the end to the operands"
        ),
    )
    return Result(data=data, metrics={"heads": effects.shape[1]}, views=pictures)
