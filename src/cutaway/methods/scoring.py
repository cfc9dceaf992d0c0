"""By what number is the model judged here? The metric of a task; without answers, what the model itself predicts.

A task with answers brings its metric. A task of prompts alone is judged by how far the prediction moves
(Kullback-Leibler divergence from the unchanged run, in nats), and where one token has to be named, it is the model's
own prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cutaway.core.task import EncodedTask
from cutaway.methods.labels import quoted
from cutaway.models.metric import Metric, metric_of
from cutaway.models.model import Model

UNITS = {
    "logit_difference": "logits",
    "probability_difference": "probability",
    "log_probability": "nats",
    "kl": "nats of KL divergence",
    "rank": "ranks",
    "accuracy": "prompts answered rightly",
}
OWN = "The task has no answers: the model's own most likely next token is taken for the answer."
MOVED = "The task has no answers: what is measured is how far the prediction moves (KL divergence in nats)."


def with_answers(model: Model, encoded: EncodedTask) -> tuple[EncodedTask, tuple[str, ...]]:
    """The task with an answer for each prompt: its own, or else the model's most likely next token; and notes."""
    if any(encoded.answer_ids):
        return encoded, ()
    predicted = model.run(encoded, logits="last").last_logits.argmax(dim=-1).tolist()
    return replace(encoded, answer_ids=tuple((token,) for token in predicted), wrong_ids=()), (OWN,)


def metric_for(model: Model, encoded: EncodedTask) -> tuple[Metric, tuple[str, ...]]:
    """The metric of a task, or the divergence from the unchanged run where it has no answers; and notes."""
    if any(encoded.answer_ids) and encoded.task.metric != "kl":
        return metric_of(encoded), ()
    logits = model.run(encoded, logits="last").last_logits
    metric = Metric("kl", (), reference=logits.float().log_softmax(dim=-1))
    return metric, () if any(encoded.answer_ids) else (MOVED,)


def words(model: Model, ids: Sequence[int]) -> str:
    """Tokens as one phrase, for claims and titles."""
    shown = [quoted(text) for text in model.token_strings(list(dict.fromkeys(ids))[:3])]
    return " / ".join(shown) + (" …" if len(set(ids)) > 3 else "")


def as_words(name: str) -> str:
    """The name of a metric or score, for sentences and titles.

    >>> as_words("logit_difference"), as_words("log_probability")
    ('logit difference', 'log-probability')
    """
    return name.replace("log_p", "log-p").replace("_", " ").replace("kl", "KL divergence")
