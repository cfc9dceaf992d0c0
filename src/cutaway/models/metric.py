"""How good is an answer? Metrics of a task as data: which logits they need, and one number for each prompt.

logit_difference         mean logit of the answers minus mean logit of the wrong answers
probability_difference   probability of the answers minus that of the wrong answers [@hanna2023]
log_probability          log of the answers' probability
kl                       Kullback-Leibler divergence from a reference run to this one, in nats
rank                     how many tokens have a larger logit than the best answer (0: it is the prediction)
accuracy                 1 where the best answer beats every wrong answer (or every token, without wrong answers)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.core.errors import TaskError, nearest

if TYPE_CHECKING:
    from cutaway.core.task import EncodedTask

METRICS = ("logit_difference", "probability_difference", "log_probability", "kl", "rank", "accuracy")


def _precise(logits: Tensor) -> Tensor:
    """Half precision is too coarse for probabilities; double stays double."""
    return logits if logits.dtype == torch.float64 else logits.float()


@dataclass(frozen=True, eq=False)
class Metric:
    """A number for each prompt from its logits at the last token; call it with logits [prompt, vocab] -> [prompt].

    Attributes:
        name: one of `METRICS`.
        answers, wrong: token ids for each prompt.
        reference: log-probabilities [prompt, vocab] of the run that `kl` compares with.
        rows: which prompt each row of the logits is; None for one row each.
    """

    name: str
    answers: tuple[tuple[int, ...], ...]
    wrong: tuple[tuple[int, ...], ...] = ()
    reference: Float[Tensor, "prompt vocab"] | None = None
    rows: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.name not in METRICS:
            raise TaskError(f"{self.name!r} is not a metric:", nearest(self.name, METRICS))
        if self.name == "kl" and self.reference is None:
            raise TaskError("kl compares with a reference run.", "", "Use metric.against(logits of the reference).")
        if self.name != "kl" and not (self.answers and all(self.answers)):
            raise TaskError(f"{self.name} needs an answer for each prompt.", "", "Give answers=[...] with the task.")
        if self.name in ("logit_difference", "probability_difference") and not (self.wrong and all(self.wrong)):
            raise TaskError(
                f"{self.name} needs a wrong answer for each prompt.",
                "",
                "Give wrong=[...], or use metric log_probability.",
            )

    @property
    def needs_vocabulary(self) -> bool:
        """False when the logits of the answers are enough."""
        return self.name != "logit_difference"

    @property
    def tokens(self) -> tuple[int, ...]:
        """Every token that the metric names, once."""
        return tuple(sorted({i for ids in (*self.answers, *self.wrong) for i in ids}))

    def for_rows(self, rows: Sequence[int]) -> Metric:
        """The same metric for a batch in which row i is prompt `rows[i]`, counted in the rows that it has now."""
        return replace(self, rows=tuple(rows) if self.rows is None else tuple(self.rows[row] for row in rows))

    def against(self, logits: Float[Tensor, "prompt vocab"]) -> Metric:
        """`kl` from the run with these logits [prompt, vocab]."""
        return replace(self, name="kl", reference=_precise(logits).log_softmax(-1))

    def __call__(self, logits: Float[Tensor, "row vocab"]) -> Float[Tensor, " row"]:
        """The metric of each row of logits at the last token [row, vocab] -> [row]."""
        rows = range(len(logits)) if self.rows is None else self.rows
        if self.name == "kl":
            assert self.reference is not None
            reference = self.reference.to(logits.device)[list(rows)]
            return (reference.exp() * (reference - _precise(logits).log_softmax(-1))).sum(-1)
        return torch.stack([self._one(logits[i], self.answers[row], self._wrong(row)) for i, row in enumerate(rows)])

    def of_tokens(self, logits: Float[Tensor, "row token"], rows: Sequence[int]) -> Float[Tensor, " row"]:
        """The metric from the logits of `self.tokens` alone [row, token] (only where `needs_vocabulary` is False)."""
        column = {token: i for i, token in enumerate(self.tokens)}
        weights = logits.new_zeros(len(self.answers), len(column))
        for prompt in set(rows):
            for ids, sign in ((self.answers[prompt], 1.0), (self._wrong(prompt), -1.0)):
                for token in ids:
                    weights[prompt, column[token]] += sign / len(ids)
        return (logits * weights[list(rows)]).sum(-1)

    def _wrong(self, row: int) -> tuple[int, ...]:
        return self.wrong[row] if self.wrong else ()

    def _one(
        self, logits: Float[Tensor, " vocab"], answers: tuple[int, ...], wrong: tuple[int, ...]
    ) -> Float[Tensor, ""]:
        right, false = list(answers), list(wrong)
        match self.name:
            case "logit_difference":
                return logits[right].mean() - logits[false].mean()
            case "probability_difference":
                p = _precise(logits).softmax(-1)
                return p[right].sum() - p[false].sum()
            case "log_probability":
                return _precise(logits).log_softmax(-1)[right].logsumexp(-1)
            case "rank":
                return (logits > logits[right].max()).sum().to(logits.dtype)
            case _:
                rivals = logits[false] if false else logits
                best = logits[right].max()
                return (best > rivals.max() if false else best >= rivals.max()).to(logits.dtype)


def metric_of(encoded: EncodedTask, name: str | None = None) -> Metric:
    """The metric of a task with its answers as token ids.

    Args:
        encoded: a task encoded for a model's tokenizer.
        name: another metric than the task's own.
    """
    chosen = name or encoded.task.metric
    if chosen == "kl":
        raise TaskError("kl compares with a reference run.", "", "Use metric_of(task, 'accuracy').against(logits).")
    if name is None and chosen in ("logit_difference", "probability_difference") and not any(encoded.wrong_ids):
        chosen = "log_probability"
    return Metric(chosen, tuple(encoded.answer_ids), tuple(encoded.wrong_ids) if any(encoded.wrong_ids) else ())


def as_metric(metric: Any, encoded: Any) -> Any:
    """A metric from what a user gave: nothing (the task's own), a name, a `Metric`, or a function."""
    if metric is None or isinstance(metric, str):
        if not hasattr(encoded, "answer_ids"):
            raise TaskError(
                "Prompts alone have no metric.", "", "Give a task with answers, or metric=function of logits."
            )
        return metric_of(encoded, metric)
    return metric
