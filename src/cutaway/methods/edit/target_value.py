"""Which value, at the last token of the subject, makes the model say the new answer? Found by gradient steps.

A vector is added to what a layer gives at the subject's last token, behind several beginnings of a text so that it does not
hang on one of them, and is moved until the new answer is likely [@meng2022]. Two things hold it back: what the model
predicts after "SUBJECT is" shall stay (a divergence), and the vector shall stay short (a penalty and a bound).
All tokens of the answer count. Steps and penalties are measured in the size of the value itself, because values of one
network are a hundred times as long as those of another; the paper has absolute ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.core.progress import track
from cutaway.core.site import Site
from cutaway.data.edit_requests import EditRequest
from cutaway.methods.edit.rows import Row, row_of_request
from cutaway.models.model import Model
from cutaway.models.resumed_trial import Trial, trial
from cutaway.models.trial import logits_at

STARTS = ("The", "Therefore,", "Because", "I", "You", "In", "It was", "This", "When", "However,")
ENOUGH = 0.05  # nats: below it no further step is taken


@dataclass(frozen=True)
class Settings:
    """How the value is looked for.

    Attributes:
        steps: gradient steps at most.
        rate: of Adam, in units of the value's root mean square.
        bound: the vector is at most so many times as long as the value.
        stay: weight of the divergence after "SUBJECT is".
        short: weight of the squared length of the vector over that of the value.
        contexts: beginnings of a text to put before the prompt, besides none.
        seed: with which they are drawn.
    """

    steps: int = 25
    rate: float = 0.5
    bound: float = 4.0
    stay: float = 0.0625
    short: float = 0.01
    contexts: int = 6
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Found:
    """What was found.

    Attributes:
        value: the site's value at the subject in the prompt alone [d_model].
        added: the vector that was added to it [d_model].
        loss: mean negative log-probability of the answer's tokens at each step.
    """

    value: Tensor
    added: Tensor
    loss: tuple[float, ...]


def contexts_for(model: Model, count: int, seed: int) -> tuple[str, ...]:
    """Nothing, and beginnings of a text that the model itself writes: half of five tokens, half of ten.

    Args:
        model: writes them.
        count: how many besides nothing.
        seed: with which they are drawn.
    """
    if not count:
        return ("",)
    written: list[str] = []
    for place in range(2):
        starts = [STARTS[i % len(STARTS)] for i in range(place, count, 2)]
        if starts:
            tokens = (5, 10)[place]
            texts = model.generate(starts, max_new_tokens=tokens, sample=True, seed=seed + place, top_k=5).texts
            written += [" ".join(f"{start}{text}".split()) for start, text in zip(starts, texts)]
    return ("", *(f"{text.rstrip(' .')}. " for text in written))


def find(model: Model, request: EditRequest, site: Site, contexts: Sequence[str], settings: Settings) -> Found:
    """The vector at `site`, at the subject's last token, with which the model says the new answer.

    Args:
        model: the network; no weight is touched.
        request: the fact.
        site: a whole site with a `d_model`: `mlp_out[5]`, `resid_post[8]`.
        contexts: texts to put before the prompt; the first is empty.
        settings: how to look.
    """
    rows = [row_of_request(model, request.behind(context)) for context in contexts]
    essence = _essence(model, request)
    value = model.run([rows[0].ids], read=site, logits="none")[site][0, rows[0].place].detach()
    size = value.float().norm().clamp_min(1e-6)
    unit = size / len(value) ** 0.5
    every = [*rows, *essence]
    reference = _after(model, essence).log_softmax(-1) if essence else torch.zeros(0)
    tried = trial(model, site, [row.ids for row in every], [row.place for row in every])
    moved = torch.zeros(len(value), device=value.device, requires_grad=True)
    optimiser = torch.optim.Adam([moved], lr=settings.rate)
    losses: list[float] = []
    for step in track(range(settings.steps + 1), "looking for the value"):
        with torch.enable_grad():
            loss, said = _loss(tried, every, len(rows), moved * unit, size, reference, settings)
        losses.append(said)
        if said < ENOUGH or step == settings.steps:
            break
        (moved.grad,) = torch.autograd.grad(loss, [moved])
        optimiser.step()
        with torch.no_grad():
            length = moved.norm() * unit
            moved.mul_(torch.clamp(settings.bound * size / length.clamp_min(1e-12), max=1.0))
    return Found(value, (moved * unit).detach(), tuple(losses))


def _essence(model: Model, request: EditRequest) -> list[Row]:
    """ "SUBJECT is", whose next token shall stay as it was; nothing where the subject is all of the prompt."""
    if not request.after and not request.before:
        return []
    alone = EditRequest("", request.subject, " is", request.target)
    row = row_of_request(model, alone)
    return [Row(row.asked, len(row.asked), row.place)]


def _after(model: Model, rows: Sequence[Row]) -> Tensor:
    """Logits of the next token [row, vocab]."""
    ids = [row.ids for row in rows]
    with torch.no_grad():
        return torch.cat(logits_at(model, ids, [[len(row) - 1] for row in ids])).float()


def _loss(
    tried: Trial,
    rows: Sequence[Row],
    asked: int,
    vector: Tensor,
    size: Tensor,
    reference: Tensor,
    settings: Settings,
) -> tuple[Tensor, float]:
    """What is made small, and its part that is about the answer."""
    places = [[*row.before_answer] if i < asked else [len(row.ids) - 1] for i, row in enumerate(rows)]
    logits = tried.logits(vector, places)
    answer = torch.stack([-_mean_log_probability(logits[i], rows[i]) for i in range(asked)]).mean()
    total = answer + settings.short * (vector.norm() / size) ** 2
    if len(rows) > asked:
        now = torch.cat(logits[asked:]).float().log_softmax(-1)
        total = total + settings.stay * (now.exp() * (now - reference)).sum(-1).mean()
    return total, float(answer.detach())


def _mean_log_probability(logits: Tensor, row: Row) -> Tensor:
    answer = torch.tensor(row.answer, device=logits.device)
    return logits.float().log_softmax(-1).gather(-1, answer[:, None]).mean()
