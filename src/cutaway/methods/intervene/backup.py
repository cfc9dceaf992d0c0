"""Who steps in when a head is taken out? Self-repair after ablation, part by part.

Taking a head out often costs the answer less than the head contributed: later parts write more of the answer than before
[@wang2022; @mcgrath2023], and the final norm, which divides by the size of the stream, scales everything else up
[@rushing2024]. A head's output at the last token is replaced, and the change of the answer's logit (its lead over the wrong
answer) is split exactly:

    total change = what the head itself no longer writes           (its direct effect, lost)
                 + what every other part writes more or less        (repair, part by part)
                 + what the final norm does                          (its factor changes)

Contributions are taken under the norm of the plain run, so that they add up; what the norm changes is a term of its own.
The share repaired is the repair (with the norm, or without it) divided by the direct effect that was lost.

The check compares the repair of the parts with what they do when random heads are taken out.
Limits: the head is taken out at the last token only, where it writes directly; that a part writes more of the answer does not
say by which path it knows.
"""

from __future__ import annotations

import re
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
from cutaway.core.edit import replace
from cutaway.core.errors import MethodError, ParameterError, TaskError
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.run import Run
from cutaway.core.site import Site
from cutaway.core.task import EncodedTask, Task
from cutaway.methods.answer_direction import Direction
from cutaway.methods.contributions import end_sites
from cutaway.methods.control import compared, enough, interval, unchecked
from cutaway.methods.direct_effects import DirectEffects, Part, direct_effects
from cutaway.methods.labels import described
from cutaway.methods.scoring import with_answers
from cutaway.models.model import Model
from cutaway.models.unembedding import Unembedding

Floats = NDArray[np.float64]
How = Literal["mean", "zero", "resample"]
SHOWN = 10


@method(
    asks="Who steps in when a head is taken out?",
    cites="wang2022, mcgrath2023, rushing2024",
    needs=("unembedding", "attention"),
)
def backup(
    model: Model,
    task: Task,
    *,
    head: Annotated[
        str, Field(description="layer.head, such as 9.6; empty: the head that contributes most at the last token")
    ] = "",
    how: Annotated[
        How, Field(description="what is put in: the head's mean over prompts and positions, zero, or another prompt's")
    ] = "mean",
    against: Annotated[
        Literal["wrong", "mean", "nothing"],
        Field(
            description="what the answer's logit is held against: wrong answers (if any), the mean token, or nothing"
        ),
    ] = "wrong",
    controls: Annotated[
        int,
        Field(ge=0, description="random heads that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 20,
    seed: Annotated[int, Field(ge=0, description="draws the random heads and the other prompts")] = 0,
) -> Result:
    """Take a head out, and split the change of the answer's logit into loss, repair by others, and the norm."""
    encoded, said = with_answers(model, task.encode(model.tokenizer))
    taking = _Taking.of(model, encoded, how, against, seed)
    chosen = _chosen(taking, head)
    outcome = taking.out(chosen)
    others = _random_heads(taking, chosen, controls, seed)
    compare = [taking.out(one) for one in track(others, "taking out random heads")]
    data = _dataset(encoded, outcome, compare)
    return Result(
        data=data,
        metrics=_metrics(outcome),
        views=_views(outcome, len(encoded)),
        checks=(_check(outcome, compare),) if controls else (),
        notes=(*encoded.notes, *said, *unchecked(controls)),
    )


# --- taking out --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Outcome:
    """What taking a head out did, in logits.

    Attributes:
        head: which.
        parts: all parts of the network.
        change: of each part's contribution under the norm of the plain run [prompt, part].
        norm: what the changed factor of the final norm does [prompt].
        total: change of the answer's logit [prompt].
    """

    head: Part
    parts: tuple[Part, ...]
    change: Floats
    norm: Floats
    total: Floats

    @property
    def lost(self) -> Floats:
        """The head's direct effect that is gone [prompt]; positive where it wrote for the answer."""
        found: Floats = -self.change[:, self.parts.index(self.head)]
        return found

    @property
    def repair(self) -> Floats:
        """What the other parts write more [prompt, part]; zero for the head itself."""
        found = self.change.copy()
        found[:, self.parts.index(self.head)] = 0.0
        return found


@dataclass(frozen=True, eq=False)
class _Taking:
    model: Model
    encoded: EncodedTask
    how: How
    ends: Unembedding
    direction: Direction
    run: Run
    plain: DirectEffects
    seed: int

    @staticmethod
    def of(model: Model, encoded: EncodedTask, how: How, against: str, seed: int) -> _Taking:
        ends = Unembedding.of(model)
        if not ends.exact:
            raise MethodError(
                f"the unembedding of {model.name!r} is more than a matrix, a scale and a soft-cap;",
                "direct effects need a linear way from the stream to the logits.",
                "Use `ablate` instead.",
            )
        if how == "resample" and len(encoded) < 2:
            raise TaskError(
                "the task has one prompt;",
                "resampling takes the head's value in another prompt.",
                'Give more prompts, or how="mean".',
            )
        reads = list(end_sites(model))
        if how == "mean":
            reads += [f"z[{layer.index}]" for layer in model.anatomy.stacks[""].layers if "z" in layer.places]
        run = model.run(encoded, read=reads, logits="last")
        direction = Direction.of(encoded, ends, against)
        return _Taking(model, encoded, how, ends, direction, run, direct_effects(model, run, ends, direction), seed)

    @property
    def heads(self) -> list[Part]:
        """Every head that is a part of its own."""
        return [part for part in self.plain.parts if part.kind == "head"]

    def value(self, head: Part) -> Tensor:
        """What is put in for a head at the last token [prompt or 1, d_head]."""
        site = Site("z", head.layer, head=head.head, position=-1)
        here = self.run[Site("z", head.layer, position=-1)][:, head.head]
        if self.how == "zero":
            return torch.zeros_like(here[:1])
        if self.how == "resample":
            order = np.random.default_rng(self.seed).permutation(len(here))
            other = np.empty_like(order)
            other[order] = np.roll(order, 1)  # each prompt gets another one's
            return here[torch.from_numpy(other)]
        whole = self.run[site.whole]
        real = torch.cat([whole[row, :length, head.head] for row, length in enumerate(self.run.lengths)])
        return real.mean(dim=0, keepdim=True)

    def out(self, head: Part) -> Outcome:
        """Take a head out at the last token."""
        site = Site("z", head.layer, head=head.head, position=-1)
        run = self.model.run(
            self.encoded, read=end_sites(self.model), edit=replace(site, self.value(head)), logits="last"
        )
        found = direct_effects(self.model, run, self.ends, self.direction, self.plain.scale)
        total = found.own.sum(axis=1) - self.plain.own.sum(axis=1)
        change = found.held - self.plain.held
        return Outcome(head, found.parts, change, total - change.sum(axis=1), total)


def _chosen(taking: _Taking, name: str) -> Part:
    """The head that was named, or the one that contributes most."""
    heads = taking.heads
    if not heads:
        raise MethodError(
            f"no head of {taking.model.name!r} is a part of its own;",
            "backup splits the answer's logit by heads.",
            "Use `ablate` instead.",
        )
    if not name:
        mean = taking.plain.held.mean(axis=0)
        return max(heads, key=lambda part: mean[taking.plain.parts.index(part)])
    match = re.fullmatch(r"(?:z\[)?(\d+)(?:\]\.head\[|\.)(\d+)\]?", name.strip())
    found = [part for part in heads if match and (part.layer, part.head) == (int(match[1]), int(match[2]))]
    if not found:
        last = heads[-1]
        raise ParameterError(
            f"head is {name!r};",
            f"it is layer.head, from 0.0 to {last.layer}.{last.head}.",
            f'Write head="{heads[0].layer}.{heads[0].head}".',
        )
    return found[0]


def _random_heads(taking: _Taking, chosen: Part, controls: int, seed: int) -> list[Part]:
    """Other heads, of layers that have others after them where there are enough."""
    last = taking.model.anatomy.n_layers - 1
    pool = [part for part in taking.heads if part != chosen and part.layer < last]
    if len(pool) < 2:
        pool = [part for part in taking.heads if part != chosen] or [chosen]
    random = np.random.default_rng(seed)
    return [pool[int(i)] for i in random.choice(len(pool), controls, replace=controls > len(pool))]


# --- the result --------------------------------------------------------------------------------------------------


def _share(part: Floats, lost: Floats) -> float:
    """A ratio of means, 0 where nothing was lost."""
    return float(part.mean() / lost.mean()) if abs(float(lost.mean())) > 1e-12 else 0.0


def _by_kind(outcome: Outcome) -> dict[str, Floats]:
    """The terms of the total change [prompt]."""
    repair = outcome.repair
    heads = [i for i, part in enumerate(outcome.parts) if part.kind in ("head", "attention", "attention_bias")]
    mlps = [i for i, part in enumerate(outcome.parts) if i not in heads]
    return {
        "the head itself": -outcome.lost,
        "other heads": repair[:, heads].sum(axis=1),
        "MLPs and the rest": repair[:, mlps].sum(axis=1),
        "the final norm": outcome.norm,
        "total": outcome.total,
    }


def _dataset(encoded: EncodedTask, outcome: Outcome, compare: Sequence[Outcome]) -> xr.Dataset:
    repair, terms = outcome.repair, _by_kind(outcome)
    mean = repair.mean(axis=0)
    largest = np.argsort(-np.abs(mean), kind="stable")[:SHOWN]
    bands = np.array([interval(repair[:, i].tolist()) for i in largest])
    every = [outcome, *compare]
    layers = 1 + max(part.layer for part in outcome.parts)
    grid = np.full((layers, 1 + max(part.head for part in outcome.parts)), np.nan)
    for part, value in zip(outcome.parts, mean, strict=True):
        if part.kind == "head" and part.layer >= outcome.head.layer:
            grid[part.layer, part.head] = value
    data = xr.Dataset(
        {
            "repair": (("prompt", "part"), repair),
            "change_by_term": (("prompt", "term"), np.stack(list(terms.values()), axis=1)),
            "term_mean": ("term", [float(value.mean()) for value in terms.values()]),
            "largest_repair": ("largest", mean[largest]),
            "largest_low": ("largest", bands[:, 0]),
            "largest_high": ("largest", bands[:, 2]),
            "head_repair": (("layer", "head"), grid),
            "lost_direct_effect": ("tested", [float(one.lost.mean()) for one in every]),
            "lost_logit": ("tested", [float(-one.total.mean()) for one in every]),
        },
        coords={
            "prompt": list(encoded.prompts),
            "part": [part.name for part in outcome.parts],
            "term": list(terms),
            "largest": [outcome.parts[i].name for i in largest],
            "layer": range(layers),
            "head": range(grid.shape[1]),
            "tested_head": ("tested", [one.head.name for one in every]),
        },
    )
    more = ("written more for the answer", "logits")
    return described(
        data,
        largest_repair=more,
        head_repair=more,
        term_mean=("change of the answer's logit", "logits"),
        lost_direct_effect=("direct effect lost", "logits"),
        lost_logit=("logit lost", "logits"),
        tested_head="head",
        largest="part",
    )


def _metrics(outcome: Outcome) -> dict[str, float | str]:
    lost, repair = outcome.lost, outcome.repair
    heads = [i for i, part in enumerate(outcome.parts) if part.kind == "head"]
    way = -1.0 if lost.mean() < 0 else 1.0
    best = max(heads, key=lambda i: way * float(repair[:, i].mean()))
    return {
        "head": outcome.head.name,
        "direct_effect_lost": float(lost.mean()),
        "logit_lost": float(-outcome.total.mean()),
        "repaired_by_parts": float(repair.sum(axis=1).mean()),
        "repaired_by_norm": float(outcome.norm.mean()),
        "share_repaired": _share(repair.sum(axis=1) + outcome.norm, lost),
        "share_repaired_by_parts": _share(repair.sum(axis=1), lost),
        "backup_head": outcome.parts[best].name,
        "backup_head_repair": float(repair[:, best].mean()),
    }


def _views(outcome: Outcome, prompts: int) -> tuple[views.View, ...]:
    low, high = ("largest_low", "largest_high") if prompts > 1 else (None, None)
    name = outcome.head.name
    return (
        views.bars(value="term_mean", label="term", title=f"Change of the answer's logit without {name}"),
        views.bars(
            value="largest_repair",
            label="largest",
            low=low,
            high=high,
            title=f"Parts that write otherwise without {name}",
        ),
        views.heatmap(
            value="head_repair", x="head", y="layer", title=f"What heads write more without {name}", scale="diverging"
        ),
        views.scatter(
            x="lost_direct_effect",
            y="lost_logit",
            label="tested_head",
            title="Logit lost against direct effect lost, head by head",
            note="Where less of the logit is lost than of the direct effect, something made up for it.",
        ),
    )


def _check(outcome: Outcome, compare: Sequence[Outcome]) -> Check:
    way = -1.0 if outcome.lost.mean() < 0 else 1.0
    sums = [way * float(one.repair.sum(axis=1).mean()) for one in (outcome, *compare)]
    return compared(
        sums[0],
        sums[1:],
        claim=f"Other parts make up for {outcome.head.name}.",
        how="Take it out at the last token and sum what all other parts write more for the answer under the unchanged norm"
        f"{'' if way > 0 else ' (less, for it wrote against the answer)'}; the control takes out random heads.",
        unit="logits",
    )
