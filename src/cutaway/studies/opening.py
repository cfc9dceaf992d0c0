"""Which model does a study open at which scale? Tiny random weights, a small real one (or one of the user's choice), or the
paper's own.

The tiny model tells whether the code runs, not whether the claim holds.
"""

from __future__ import annotations

from cutaway.core.study import StudyRun
from cutaway.core.task import Task
from cutaway.models.model import Model
from cutaway.models.open import open as open_model
from cutaway.testing.tiny import texts_of, tiny


def opened(run: StudyRun, *, paper: str, small: str = "smollm2", texts: Task | None = None) -> Model:
    """The model of this run's scale.

    Args:
        run: says the scale, and how models are opened.
        paper: the paper's model: a hub id.
        small: a model that runs on two cores.
        texts: a task whose words shall be single tokens of the tiny model.

    Raises:
        ModelError: the model is not at hand.
    """
    if run.scale == "tiny":
        return run.seen(tiny(seed=run.seed, texts=texts_of(texts) if texts is not None else ()))
    return run.seen(open_model(run.model or small if run.scale == "small" else paper, **run.options))


def untrained(model: Model, seed: int = 0) -> Model:
    """The same architecture with weights as they are before training: the control of most studies.

    Args:
        model: whose architecture and tokenizer are taken.
        seed: the weights follow from it; the global random state is left as it was.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        hf = type(model.hf)(model.hf.config)
    hf = hf.to(model.device, model.dtype).eval()
    return Model(hf, model.tokenizer, name=f"{model.name} untrained", source=f"random weights, seed {seed}")
