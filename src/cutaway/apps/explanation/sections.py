"""The five questions of an explanation, each answered by methods of the registry: numbers, and what may be said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from cutaway.apps.explanation.summary import against, quoted
from cutaway.core import view as views
from cutaway.core.result import Check, Result
from cutaway.core.site import Site
from cutaway.drawing.words import number
from cutaway.methods.attribute.integrated_gradients import integrated_gradients
from cutaway.methods.attribute.occlusion import occlusion
from cutaway.methods.cells import in_words, layers_in_words
from cutaway.methods.intervene.patching import patching
from cutaway.methods.labels import described
from cutaway.methods.observe.direct_logit_attribution import direct_logit_attribution
from cutaway.methods.observe.logit_lens import logit_lens

if TYPE_CHECKING:
    from cutaway.apps.explanation.question import Question
    from cutaway.models.model import Model

SHOWN = 8


@dataclass(frozen=True)
class Section:
    """One answered question.

    Attributes:
        name: a short name, for links.
        title: the question.
        says: what may be said, one sentence each.
        summary: the sentence that goes into the summary.
        result: the numbers, pictures and checks.
        shown: which of its views a report shows.
        brief: which of them the terminal shows; all of `shown` where it is empty.
    """

    name: str
    title: str
    says: tuple[str, ...]
    summary: str
    result: Result
    shown: tuple[int, ...]
    brief: tuple[int, ...] = ()


def predicts(model: Model, question: Question, *, seed: int, controls: int) -> Section:
    """The next-token distribution: likeliest tokens, entropy, and the answer's place in it."""
    p = question.logits.softmax(-1)
    order = p.argsort(descending=True)
    tokens = order[:SHOWN].tolist()
    rank = int((question.logits > question.logits[question.answer_id]).sum())
    entropy = float(torch.special.entr(p).sum())
    data = xr.Dataset(
        {"probability": ("token", p[tokens].cpu().numpy())}, coords={"token": model.token_strings(tokens)}
    )
    shown = [views.bars(value="probability", label="token", title="Likeliest next tokens")]
    says = [
        f"After “{question.prompt}” the likeliest next token is {quoted([data.token.values[0]])} "
        f"({number(100 * float(p[tokens[0]]))} %); the entropy is {number(entropy)} nats."
    ]
    if rank:
        says.append(
            f"{quoted([question.answer])} is number {rank + 1} with {number(100 * float(p[question.answer_id]))} %."
        )
    if question.contrast_logits is not None:
        other = question.contrast_logits.softmax(-1)
        data["probability_after_the_contrast"] = ("token", other[tokens].cpu().numpy())
        shown.append(
            views.bars(
                value="probability_after_the_contrast", label="token", title="The same tokens after the contrast"
            )
        )
        top = int(other.argmax())
        says.append(
            f"After the contrast it is {quoted(model.token_strings([top]))} ({number(100 * float(other[top]))} %)."
        )
    data = described(data, token="token")
    difference = float(question.logits[question.answer_id] - question.logits[question.wrong_id])
    says.append(f"The answer is held against {quoted([question.wrong])}: its logit is {number(difference)} higher.")
    metrics = {
        "answer_probability": float(p[question.answer_id]),
        "answer_rank": rank,
        "entropy": entropy,
        "logit_difference": difference,
    }
    said = f"It says {quoted([question.answer])} with a probability of {number(100 * float(p[question.answer_id]))} %"
    said += f" ({quoted([question.wrong])}: {number(100 * float(p[question.wrong_id]))} %)."
    return Section(
        "prediction",
        "What does it predict?",
        tuple(says),
        said,
        Result(data, metrics, tuple(shown)),
        tuple(range(len(shown))),
    )


def decides(model: Model, question: Question, *, seed: int, controls: int) -> Section:
    """The logit lens by layer and position, and the layer from which on the last token's stream reads as the prediction.

    What the last layer gave is the prediction by construction. Where the lens says it only there, the section speaks of
    the layer from which on the answer is past the middle of its rise, or else of the one before.
    """
    result = logit_lens(model, question.task, top=3, seed=seed, controls=controls)
    n, decided, middle = (
        model.anatomy.n_layers,
        *(int(result.data[name].values[0]) for name in ("decision_layer", "rise_layer")),
    )
    if decided < n - 1:
        layer, held = decided, "the prediction"
        says = [f"Read as if it stopped there, the model gives its final prediction from layer {decided} of {n} on."]
    else:
        layer = middle if 0 <= middle < decided else decided - 1
        held = quoted([question.answer])
        says = [
            "Read as if it stopped there, the stream at the last token says "
            f"{quoted([_top(model, question)])} only after the last layer ({decided})"
            + ("." if result.checks else ", so nothing is claimed about when.")
        ]
        says += [_rise(result, question, middle)] if result.checks and layer == middle else []
    for check in result.checks:
        carries = f"carries {held}" if check.passed else f"does not carry {held} (no more than random)"
        says.append(
            f"Put into other texts, the stream after layer {layer} at the last token {carries} ({against(check)})."
        )
    summary = " ".join(dict.fromkeys((says[0], says[-1])))
    return Section("decision", "When does it decide?", tuple(says), summary, result, (0, 1), (0, 1))


def _rise(result: Result, question: Question, middle: int) -> str:
    values = result.data["last_answer_log_probability"].values
    lowest = int(values.argmin())
    return (
        f"The log-probability of {quoted([question.answer])} through the lens is lowest after layer {lowest} "
        f"({number(float(values[lowest]))} nats) and {number(float(values[-1]))} nats after the last; from layer {middle} "
        "on it is past the middle of this rise."
    )


def _top(model: Model, question: Question) -> str:
    return model.token_strings([int(question.logits.argmax())])[0]


def words(model: Model, question: Question, *, seed: int, controls: int) -> Section:
    """Gradient attribution of the words, and the same words tested by hiding them."""
    gradients = integrated_gradients(model, question.task, score="probability", seed=seed, controls=controls)
    # In nats, as its check: the order of the words is that of their probabilities.
    hidden = occlusion(model, question.task, score="log_probability", seed=seed, controls=controls)
    attribution, drop = (r.data["attribution"].isel(prompt=0).values for r in (gradients, hidden))
    data = xr.Dataset(
        {"attribution": ("position", attribution), "drop_when_hidden": ("position", drop)},
        coords={"position": np.arange(len(drop)), "token": ("position", list(question.tokens))},
    )
    data = described(
        data,
        attribution=("integrated gradients", "probability"),
        drop_when_hidden=("fall of the log-probability", "nats"),
    )
    known = np.isfinite(attribution) & np.isfinite(drop)
    agreement = _correlation(attribution[known], drop[known])
    order = [int(i) for i in np.argsort(-np.where(known, drop, -np.inf))[:3] if drop[i] > 0]
    listed = ", ".join(f"{quoted([question.tokens[i]])} (token {i})" for i in sorted(order)) or "no word"
    agree = "agree" if agreement > 0.5 else "agree in part" if agreement > 0.2 else "do not agree"
    says = [
        f"Hidden one at a time, {listed} cost most.",
        f"Gradients and hiding {agree} on the order of the words (rank correlation {number(agreement)}).",
        *(_verdict(check.claim, check) for check in (*gradients.checks, *hidden.checks)),
    ]
    left = _left(hidden)
    supported = [check for check in hidden.checks if check.passed]
    summary = f"The words that matter most are {listed}: {_lower(says[-1])}" if supported else says[-1]
    says += left
    shown = (
        views.tokens(
            value="attribution", title="Integrated gradients: what each token adds to the answer's probability"
        ),
        views.tokens(
            value="drop_when_hidden", title="Occlusion: what hiding each token takes from the answer's log-probability"
        ),
    )
    metrics: dict[str, float | int | str] = {"rank_correlation": agreement}
    metrics |= {name: value for name, value in gradients.metrics.items() if "gap" in name or name == "steps"}
    checks = (*gradients.checks, *hidden.checks)
    result = Result(data, metrics, shown, checks, (*gradients.notes, *hidden.notes))
    return Section("words", "Which words matter?", tuple(says), summary, result, (0, 1))


def _left(hidden: Result) -> list[str]:
    """The check of the hidden words as probabilities: what is left of the answer's."""
    said = []
    for check in hidden.checks:
        whole = float(hidden.data["score"].values[0])
        without, random, most, least = (
            number(100 * float(np.exp(whole - fall))) for fall in (check.measured, check.control, *check.interval)
        )
        said.append(
            f"As a probability: {number(100 * float(np.exp(whole)))} % with all words, {without} % without these, "
            f"{random} % without as many random others (95 % of such sets leave {least} to {most} %)."
        )
    return said


def writes(model: Model, question: Question, *, seed: int, controls: int) -> Section:
    """Direct logit attribution of heads and MLPs, and the largest of them taken out together."""
    result = direct_logit_attribution(model, question.task, seed=seed, controls=controls)
    says, summary = [], ""
    gap = result.metrics.get("relative_gap")
    says.append(f"What all parts write adds up to the logit difference (relative gap {number(gap)}).")
    for check in result.checks:
        summary = _verdict(check.claim, check)
        if check.measured < 0:
            summary += " Taking them out raises the score."
        says.append(summary)
    return Section(
        "parts",
        "Which heads and MLPs write the answer?",
        tuple(says),
        summary,
        result,
        tuple(range(min(2, len(result.views)))),
        (0,),
    )


def differs(model: Model, question: Question, *, seed: int, controls: int) -> Section:
    """The stream patched from the prompt into the contrast, by layer and position."""
    result = patching(model, question.task, sites="resid_pre[*]@*", seed=seed, controls=controls)
    best = [Site.parse(str(cell)) for cell in _best(result)]
    claim = f"Putting the prompt's values of {in_words(model, [question.ids], best)} into the contrast"
    says = [_brought(claim, result.checks[0]), *_path(result, question)]
    return Section("difference", "Where does the difference live?", tuple(says), " ".join(says), result, (0,))


def differs_by_head(model: Model, question: Question, *, seed: int, controls: int) -> Section:
    """Every head's z patched from the prompt into the contrast."""
    result = patching(model, question.task, sites="z[*].head[*]", seed=seed, controls=controls)
    best = [Site.parse(str(cell)) for cell in _best(result)]
    claim = f"Putting the prompt's values of {in_words(model, [question.ids], best)} into the contrast"
    says = (_brought(claim, result.checks[0]),)
    return Section("heads", "Which heads carry the difference?", says, says[0], result, (0, 1), (1,))


def _best(result: Result) -> list[str]:
    """The cells that the check of `patching` takes together: the three with the largest effects."""
    order = np.argsort(-result.data["effect"].values, kind="stable")[:3]
    return [str(cell) for cell in result.data["cell"].values[order]]


def _brought(claim: str, check: Check) -> str:
    low, high = (number(100 * end) for end in check.interval)
    measured = (
        f"{claim} brings back {number(100 * check.measured)} % of the difference; as many random cells "
        f"bring back {number(100 * check.control)} %, 95 % of such sets between {low} and {high} %."
    )
    return measured if check.passed else f"Not supported, no more than random: {_lower(measured)}"


def _path(result: Result, question: Question) -> list[str]:
    """Where one token's stream alone brings back more than half, from layer to layer."""
    effect = {
        Site.parse(str(cell)): float(e) for cell, e in zip(result.data["cell"].values, result.data["effect"].values)
    }
    carriers: list[tuple[int, int]] = []
    for layer in sorted({int(site.layer) for site in effect if isinstance(site.layer, int)}):
        at_layer = {site.position: e for site, e in effect.items() if site.layer == layer}
        position, most = max(at_layer.items(), key=lambda item: item[1])
        if most > 0.5 and isinstance(position, int):
            carriers.append((layer, position))
    said = []
    for position in dict.fromkeys(position for _, position in carriers):
        layers = [layer for layer, p in carriers if p == position]
        said.append(f"at {quoted([question.tokens[position]])} (token {position}) in {layers_in_words(layers)}")
    return [f"One token alone brings back more than half of it: {', '.join(said)}."] if said else []


def _verdict(claim: str, check: Check) -> str:
    text = claim.rstrip(".")
    return (
        f"{text} ({against(check)})."
        if check.passed
        else f"Not supported: {text[0].lower() + text[1:]} ({against(check)})."
    )


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


def _correlation(a: Any, b: Any) -> float:
    """Spearman's rank correlation, 0 where one of them is constant."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    ranks = [np.argsort(np.argsort(x)) for x in (a, b)]
    return float(np.corrcoef(ranks[0].astype(float), ranks[1].astype(float))[0, 1])
