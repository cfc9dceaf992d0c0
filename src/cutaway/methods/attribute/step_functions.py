"""What is explained of one predicted token? Numbers of its logits, called step functions.

probability, log_probability, logit      of the token (several answers: their joint probability, their mean logit)
entropy                                  of the whole prediction, in nats
cross_entropy, perplexity                -log p of the token, and e to that power: nats go with e, not with 2
contrast_probability, contrast_log_probability, contrast_logit       the same figures of the foil, another token
probability_difference, log_probability_difference, logit_difference  of the token minus that of the foil
kl                                       divergence of this prediction from the one in another context, in nats
pcxmi                                    log2 p(token | this context) / p(token | the other one), in bits [@fernandes2021]
in_context_pvi                           the same against no context at all, in bits [@ethayarajh2022]
mc_dropout_probability                   the mean probability of the token over passes with dropout [@gal2016]

The other context of `kl` and `pcxmi` is the task's contrast. A step function of your own is a function of a `Step`
that an installed package announces under the entry point group `cutaway.step_functions`.

Limits: dropout that is written as a function, and not as a module, stays off; a network without dropout gives its
probability.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from types import MappingProxyType

import torch
from torch import Tensor

from cutaway.core.errors import ParameterError, nearest

GROUP = "cutaway.step_functions"


@dataclass(frozen=True, eq=False)
class Step:
    """What a step function is given.

    Attributes:
        logits: [row, target, vocab].
        tokens: ids of what is predicted [row, target, answer].
        real: which of those are more than padding.
        foils: ids that each target is held against [row, target]; None where there are none.
        reference: log-probabilities in the other context [row, target, vocab]; None where there is none.
    """

    logits: Tensor
    tokens: Tensor
    real: Tensor
    foils: Tensor | None = None
    reference: Tensor | None = None

    @property
    def log_probability(self) -> Tensor:
        """Of the tokens [row, target]."""
        return _joint(self.logits, self.tokens, self.real)


StepFunction = Callable[[Step], Tensor]


def wide(logits: Tensor) -> Tensor:
    """Half precision is too coarse for probabilities; double stays double."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _joint(logits: Tensor, tokens: Tensor, real: Tensor) -> Tensor:
    found = wide(logits.gather(-1, tokens))
    whole = logits.to(found.dtype).logsumexp(-1)
    return found.masked_fill(~real, -torch.inf).logsumexp(-1) - whole


def _logit(step: Step) -> Tensor:
    found = step.logits.gather(-1, step.tokens)
    return (found * step.real).sum(-1) / step.real.sum(-1)


def _foil_logit(step: Step) -> Tensor:
    assert step.foils is not None
    return step.logits.gather(-1, step.foils[..., None])[..., 0]


def _foil_log(step: Step) -> Tensor:
    assert step.foils is not None
    return wide(_foil_logit(step)) - wide(step.logits).logsumexp(-1)


def _entropy(step: Step) -> Tensor:
    log = wide(step.logits).log_softmax(-1)
    return -(log.exp() * log).sum(-1)


def _kl(step: Step) -> Tensor:
    assert step.reference is not None
    log = wide(step.logits).log_softmax(-1)
    return (log.exp() * (log - step.reference.to(log))).sum(-1)


def _information(step: Step) -> Tensor:
    assert step.reference is not None
    there = step.reference.to(wide(step.logits)).gather(-1, step.tokens).masked_fill(~step.real, -torch.inf)
    bits: Tensor = (step.log_probability - there.logsumexp(-1)) / torch.log(
        torch.tensor(2.0, dtype=torch.float64)
    ).item()
    return bits


FUNCTIONS: Mapping[str, StepFunction] = MappingProxyType(
    {
        "logit": _logit,
        "log_probability": lambda step: step.log_probability,
        "probability": lambda step: step.log_probability.exp(),
        "entropy": _entropy,
        "cross_entropy": lambda step: -step.log_probability,
        "perplexity": lambda step: (-step.log_probability).exp(),
        "contrast_logit": _foil_logit,
        "contrast_log_probability": _foil_log,
        "contrast_probability": lambda step: _foil_log(step).exp(),
        "logit_difference": lambda step: _logit(step) - _foil_logit(step),
        "log_probability_difference": lambda step: step.log_probability - _foil_log(step),
        "probability_difference": lambda step: step.log_probability.exp() - _foil_log(step).exp(),
        "kl": _kl,
        "pcxmi": _information,
        "in_context_pvi": _information,
        "mc_dropout_probability": lambda step: step.log_probability.exp(),
    }
)
STEP_UNITS: Mapping[str, str] = MappingProxyType(
    {
        "logit": "logits",
        "contrast_logit": "logits",
        "logit_difference": "logits",
        "log_probability": "nats",
        "contrast_log_probability": "nats",
        "log_probability_difference": "nats",
        "entropy": "nats",
        "cross_entropy": "nats",
        "kl": "nats of KL divergence",
        "pcxmi": "bits",
        "in_context_pvi": "bits",
        "perplexity": "perplexity",
        "probability": "probability",
        "contrast_probability": "probability",
        "probability_difference": "probability",
        "mc_dropout_probability": "probability",
    }
)
NEEDS_FOIL = frozenset(name for name in FUNCTIONS if name.startswith("contrast_") or name.endswith("_difference"))
NEEDS_CONTRAST = frozenset({"kl", "pcxmi"})
NEEDS_REFERENCE = NEEDS_CONTRAST | {"in_context_pvi"}
DROPOUT = "mc_dropout_probability"
NAMES = ("metric", *FUNCTIONS)


def step_function(name: str) -> StepFunction:
    """A step function by its name: one of ours, or one that an installed package announces.

    Raises:
        ParameterError: there is none of this name.
    """
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    found: StepFunction = announced()[name].load()
    return found


def announced() -> dict[str, metadata.EntryPoint]:
    """Step functions of installed packages, by name; they are not imported yet."""
    return {point.name: point for point in metadata.entry_points(group=GROUP) if point.name not in NAMES}


def known_step(name: str) -> str:
    """The name itself, if a step function (or `metric`) has it.

    Raises:
        ValueError: none has.
    """
    if name not in NAMES and name not in announced():
        names = [*NAMES, *announced()]
        raise ValueError(f"there is no step function {name!r}; {nearest(name, names)}")
    return name


def refuse_without(name: str, *, foil: bool, contrast: bool) -> None:
    """A step function gets what it compares with.

    Raises:
        ParameterError: the foil or the contrast is missing.
    """
    if name in NEEDS_FOIL and not foil:
        raise ParameterError(
            f"score is {name}, and there is nothing that the tokens are held against;",
            "the score compares each token of a continuation with one of a foil.",
            'Write continuation=" Mary" and foil=" John".',
        )
    if name in NEEDS_CONTRAST and not contrast:
        raise ParameterError(
            f"score is {name}, and the task has no contrast;",
            "the score compares the prediction with the one in another context.",
            "Give contrasts= to Task.from_prompts, or --contrast.",
        )
