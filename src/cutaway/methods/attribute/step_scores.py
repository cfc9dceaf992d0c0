"""How sure was the model of each word? Every step function of every token of a continuation, without any attribution.

Probability, log-probability, logit, entropy, cross-entropy and perplexity (to the base e, as nats are) of each token
that follows; with a foil also the figures of the foil and the differences; with contrasts the divergence from the
other context and the information that the context gives (P-CXMI) [@fernandes2021]; and with `dropout` the mean
probability over passes with dropout [@gal2016].

Limits: figures of teacher forcing: each token is given all tokens before it.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import xarray as xr
from pydantic import Field

from cutaway.core import view as views
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.methods.attribute.checked import scores_of_texts
from cutaway.methods.attribute.step_functions import NEEDS_FOIL, STEP_UNITS
from cutaway.methods.attribute.targets import Continuation, Foil, Generate, targets_of
from cutaway.methods.labels import described
from cutaway.methods.scoring import as_words
from cutaway.models.model import Model

ALWAYS = ("probability", "log_probability", "logit", "entropy", "cross_entropy", "perplexity")


@method(
    asks="How sure was the model of each word?",
    cites="fernandes2021, gal2016",
    needs=("unembedding",),
    describes_only=True,
)
def step_scores(
    model: Model,
    task: Task,
    *,
    generate: Generate = 0,
    continuation: Continuation = "",
    foil: Foil = "",
    dropout: Annotated[bool, Field(description="also the mean probability over passes with dropout")] = False,
) -> Result:
    """All step functions of the tokens that follow the prompts."""
    names = [*ALWAYS, *(sorted(NEEDS_FOIL) if foil else ()), *(("mc_dropout_probability",) if dropout else ())]
    if task.contrasts:
        names += ["kl", "pcxmi"]
    if generate and not continuation and len(task) == 1:
        written = model.generate(task, max_new_tokens=generate)
        generate, continuation = 0, written.texts[0]
    found = {}
    for name in track(names, "step functions"):
        targets = targets_of(model, task, name, generate, continuation, foil)
        found[name] = scores_of_texts(model, targets)
    words = np.full((len(targets), targets.most), "", dtype=object)
    for prompt, row in enumerate(targets.words):
        words[prompt, : len(row)] = row
    places = np.array([[f"{i} {text}" if text else "" for i, text in enumerate(row)] for row in words], dtype=object)
    data = xr.Dataset({name: (("prompt", "target"), values) for name, values in found.items()})
    data = data.assign_coords(
        prompt=list(targets.encoded.prompts),
        target=np.arange(targets.most),
        target_token=(("prompt", "target"), words),
        target_place=(("prompt", "target"), places),
    )
    data = described(data, **{name: (as_words(name), STEP_UNITS[name]) for name in names}, target_place="token")
    first = {"prompt": 0}
    return Result(
        data=data,
        metrics={f"mean_{name}": float(np.nanmean(values)) for name, values in found.items()},
        views=(
            views.tokens(
                value="log_probability", token="target_token", at=first, title="Log-probability of each token"
            ),
            views.bars(value="probability", label="target_place", at=first, title="Probability of each token"),
            views.bars(value="entropy", label="target_place", at=first, title="Entropy before each token"),
        ),
        notes=targets.notes,
    )
