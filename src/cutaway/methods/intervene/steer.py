"""Can the answer be turned by adding one direction, and what does that cost?

The direction is the mean difference of the residual stream after one layer, at the last token, between prompts and
their contrasts [@rimsky2023; @turner2023]. It is added, times a dose, to the stream of contrasts: dose 1 adds the mean
difference itself. With four pairs or more, half of them give the direction and the other half are steered.

Shown are the metric by dose, what the model writes at three doses, and the side effect: by how much the loss on
unrelated plain text rises (nats a token). The control adds random directions of the same length at the largest dose.
Limits: the direction holds whatever differs between prompts and contrasts, wanted or not; the metric looks at the next
token only. The plain text is technical English.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import Tensor

from cutaway.core import view as views
from cutaway.core.edit import Edit, add
from cutaway.core.errors import ParameterError
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.site import Site
from cutaway.core.task import EncodedTask, Task
from cutaway.data import corpora
from cutaway.methods.control import compared, enough, interval, unchecked
from cutaway.methods.labels import described
from cutaway.methods.scoring import UNITS, as_words
from cutaway.models.metric import Metric, metric_of
from cutaway.models.model import Model

Floats = NDArray[np.float64]
Where = Literal["all", "last"]
TEXT_TOKENS = 64
LOGITS_AT_ONCE = 2**26
ENOUGH_TO_SPLIT = 4
# Below this mean cosine between pairs there is hardly a common direction.
SHARED = 0.1


@method(
    asks="Can the answer be turned by adding one direction, and what does that cost?",
    cites="rimsky2023, turner2023",
    needs=("unembedding", "causal", "contrast", "answers"),
)
def steer(
    model: Model,
    task: Task,
    *,
    layer: Annotated[
        int | None, Field(ge=0, description="after which layer the direction is taken and added; none: the middle")
    ] = None,
    doses: Annotated[
        tuple[float, ...], Field(min_length=2, description="factors of the direction; the largest one is tested")
    ] = (-2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 4.0),
    where: Annotated[Where, Field(description="tokens at which it is added: all of them, or the last")] = "all",
    prompts: Annotated[int, Field(ge=1, description="contrasts that are steered, at most")] = 8,
    new_tokens: Annotated[int, Field(ge=1, le=512, description="tokens that are written at each of three doses")] = 20,
    texts: Annotated[int, Field(ge=1, description="paragraphs of plain text for the side effect")] = 6,
    controls: Annotated[
        int,
        Field(ge=0, description="random directions that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 20,
    seed: Annotated[int, Field(ge=0, description="draws the random directions and the plain text")] = 0,
) -> Result:
    """Add the difference between prompts and contrasts to the contrasts, in several doses."""
    encoded = task.encode(model.tokenizer)
    site = _site(model, layer)
    learned, steered, notes = _split(encoded, prompts)
    differences = _differences(model, encoded, learned, site)
    direction, agreement = differences.mean(dim=0), _agreement(differences)
    ids = [list(encoded.contrast_ids[prompt]) for prompt in steered]
    metric = metric_of(encoded)
    base = _scores(model, ids, metric, steered, None)[:, 0]
    by_dose = _scores(model, ids, metric, steered, _added(site, direction, where, doses))
    loss = _losses(model, corpora.plain_text(texts, seed), site, direction, where, doses)
    plain = _losses(model, corpora.plain_text(texts, seed), site, direction, where, (0.0,))[0]
    samples = _samples(model, ids[:1], site, direction, where, doses, new_tokens)
    largest = int(np.argmax(doses))
    moved = by_dose[:, largest]
    dose = doses[largest]
    checks: tuple[Check, ...] = ()
    if controls:
        checks = (_check(model, ids, metric, steered, site, direction, where, dose, moved, base, controls, seed),)
    return Result(
        data=described(
            _dataset(encoded, steered, doses, by_dose, base, loss - plain, samples),
            mean_metric=(as_words(metric.name), UNITS.get(metric.name, "")),
            loss_increase=("rise of the loss", "nats a token"),
            sample_dose="dose",
            written="text",
        ),
        metrics={
            "layer": int(site.layer) if isinstance(site.layer, int) else -1,
            "direction_norm": float(direction.norm()),
            "agreement_of_pairs": agreement,
            "metric_unsteered": float(base.mean()),
            "metric_at_largest_dose": float(by_dose[:, largest].mean()),
            "effect_a_dose": _slope(doses, by_dose.mean(axis=0)),
            "loss_on_plain_text": plain,
            "loss_increase_at_largest_dose": float(loss[largest] - plain),
        },
        views=_views(metric),
        checks=checks,
        notes=(
            *encoded.notes,
            *notes,
            *_disagree(agreement),
            *unchecked(controls),
            f"Side effects are measured on {texts} paragraphs: {corpora.SOURCE}.",
        ),
    )


# --- the direction -----------------------------------------------------------------------------------------------


def _site(model: Model, layer: int | None) -> Site:
    n_layers = model.anatomy.n_layers
    chosen = n_layers // 2 if layer is None else layer
    if chosen >= n_layers:
        raise ParameterError(
            f"layer is {layer};",
            f"{model.name} has {n_layers} layers, 0 to {n_layers - 1}.",
            f"Write layer={n_layers // 2}, or leave it out for the middle one.",
        )
    return Site("resid_post", chosen)


def _split(encoded: EncodedTask, most: int) -> tuple[list[int], list[int], tuple[str, ...]]:
    """Pairs that give the direction, pairs that are steered, and what has to be said about them."""
    every = list(range(len(encoded)))
    if len(every) < ENOUGH_TO_SPLIT:
        note = f"{len(every)} pair{'s' if len(every) > 1 else ''}: the direction is tried on what it was taken from."
        return every, every[:most], (note,)
    return every[::2], every[1::2][:most], ()


def _differences(model: Model, encoded: EncodedTask, learned: Sequence[int], site: Site) -> Tensor:
    """What each prompt has more than its contrast, at the last token [pair, d_model]."""
    at_end = site.at(-1)

    def read(ids: Sequence[Sequence[int]]) -> Tensor:
        chosen = [list(ids[pair]) for pair in learned]
        return model.run(chosen, read=(at_end,), logits="none")[at_end].float()

    return read(encoded.ids) - read(encoded.contrast_ids)


def _agreement(differences: Tensor) -> float:
    """Mean cosine between the differences of two pairs; 1 for a single pair."""
    n = len(differences)
    if n == 1:
        return 1.0
    unit = differences / differences.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    cosines = unit @ unit.T
    return float((cosines.sum() - cosines.diagonal().sum()) / (n * (n - 1)))


def _disagree(agreement: float) -> tuple[str, ...]:
    if agreement >= SHARED:
        return ()
    return (
        f"The pairs do not point the same way (mean cosine {agreement:.2f}), so their mean is no common direction: "
        "choose prompts that all differ from their contrasts in the same thing.",
    )


# --- the doses ---------------------------------------------------------------------------------------------------


def _added(site: Site, direction: Tensor, where: Where, doses: Sequence[float]) -> Edit:
    return add(_place(site, where), direction, scale=list(doses))


def _place(site: Site, where: Where) -> Site:
    return site if where == "all" else site.at(-1)


def _scores(
    model: Model, ids: Sequence[Sequence[int]], metric: Metric, prompts: Sequence[int], edit: Edit | None
) -> Floats:
    """The metric of each text at each dose [prompt, dose]."""
    run = model.run([list(row) for row in ids], edit=edit, logits="last")
    with torch.no_grad():
        found = metric.for_rows([prompts[row] for row in run.rows])(run.last_logits)
    return found.double().cpu().numpy().reshape(len(ids), -1)


def _losses(
    model: Model, texts: Sequence[str], site: Site, direction: Tensor, where: Where, doses: Sequence[float]
) -> Floats:
    """Mean loss on plain text at each dose, in nats a token.

    The direction is added at every token, or, where it is added to the last one only, to the token in the middle of
    the text: the loss is that of what follows it.
    """
    total, count = np.zeros(len(doses)), 0
    for text in track(texts, "side effects on plain text"):
        ids = model.encode(text)[:TEXT_TOKENS]
        first = 0 if where == "all" else len(ids) // 2
        place = site if where == "all" else site.at(first)
        size = max(1, LOGITS_AT_ONCE // (len(ids) * model.anatomy.vocab_size))
        for start in range(0, len(doses), size):
            piece = list(doses[start : start + size])
            run = model.run([ids], edit=add(place, direction, scale=piece), logits="all", batch=len(piece))
            assert run.logits is not None
            target = torch.tensor(ids[first + 1 :], device=run.logits.device)
            for row, logits in enumerate(run.logits[:, first:-1]):
                lost = torch.nn.functional.cross_entropy(logits.float(), target, reduction="sum")
                total[start + row] += float(lost)
        count += len(ids) - 1 - first
    return total / max(1, count)


@dataclass(frozen=True)
class Sample:
    """What was written at a dose."""

    dose: float
    text: str


def _samples(
    model: Model,
    ids: Sequence[Sequence[int]],
    site: Site,
    direction: Tensor,
    where: Where,
    doses: Sequence[float],
    new_tokens: int,
) -> list[Sample]:
    """What the first contrast goes on as at the smallest dose, the one nearest to none, and the largest."""
    chosen = list(dict.fromkeys((min(doses), min(doses, key=abs), max(doses))))
    written = model.generate(
        [list(row) for row in ids], edit=_added(site, direction, where, chosen), max_new_tokens=new_tokens
    )
    return [Sample(dose, text) for dose, text in zip(chosen, written.texts, strict=True)]


def _slope(doses: Sequence[float], values: Floats) -> float:
    centred = np.asarray(doses) - np.mean(doses)
    return float((centred * values).sum() / max(float((centred**2).sum()), 1e-30))


# --- the check ---------------------------------------------------------------------------------------------------


def _check(
    model: Model,
    ids: Sequence[Sequence[int]],
    metric: Metric,
    prompts: Sequence[int],
    site: Site,
    direction: Tensor,
    where: Where,
    dose: float,
    moved: Floats,
    base: Floats,
    controls: int,
    seed: int,
) -> Check:
    """The largest dose, against random directions of the same length."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(controls, len(direction), generator=generator).to(direction)
    noise *= direction.norm() / noise.norm(dim=-1, keepdim=True)
    # Every text once for each random direction: a row of one run each.
    rows = [list(row) for row in ids for _ in range(controls)]
    vectors = noise.repeat(len(ids), 1)
    values = vectors[:, None] if where == "all" else vectors
    run = model.run(rows, edit=add(_place(site, where), values, scale=dose), logits="last")
    with torch.no_grad():
        found = metric.for_rows([prompt for prompt in prompts for _ in range(controls)])(run.last_logits)
    random = found.double().cpu().numpy().reshape(len(ids), controls) - base[:, None]
    return compared(
        float((moved - base).mean()),
        random.mean(axis=0).tolist(),
        claim=f"The direction at layer {site.layer} carries what turns the contrast's answer into the prompt's.",
        how=f"Add it to {len(ids)} contrast{'s' if len(ids) > 1 else ''} at dose {dose:g}; the control adds random "
        "directions of the same length.",
        unit=UNITS.get(metric.name, metric.name),
    )


# --- the result --------------------------------------------------------------------------------------------------


def _dataset(
    encoded: EncodedTask,
    steered: Sequence[int],
    doses: Sequence[float],
    by_dose: Floats,
    base: Floats,
    side_effect: Floats,
    samples: Sequence[Sample],
) -> xr.Dataset:
    band = np.array([interval(column) for column in by_dose.T])
    data = xr.Dataset(
        {
            "metric": (("prompt", "dose"), by_dose),
            "unsteered_metric": ("prompt", base),
            "mean_metric": ("dose", by_dose.mean(axis=0)),
            "metric_low": ("dose", band[:, 0]),
            "metric_high": ("dose", band[:, 2]),
            "loss_increase": ("dose", side_effect),
            "written": ("sample", [sample.text for sample in samples]),
        },
        coords={
            "prompt": [encoded.task.contrasts[encoded.kept[prompt]] for prompt in steered],
            "dose": list(doses),
            "sample_dose": ("sample", [sample.dose for sample in samples]),
        },
    )
    return data.sortby("dose")


def _views(metric: Metric) -> tuple[views.View, ...]:
    name = as_words(metric.name)
    return (
        views.curves(
            value="mean_metric", x="dose", low="metric_low", high="metric_high", title=f"The contrast's {name} by dose"
        ),
        views.curves(value="loss_increase", x="dose", title="Rise of the loss on plain text (nats a token) by dose"),
        views.table(columns=["sample_dose", "written"], title="What the first contrast goes on as"),
    )
