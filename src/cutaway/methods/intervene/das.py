"""Which subspace holds the answer's cause? Distributed alignment search, with a subspace of a given size.

A variable of a causal model need not be a neuron or a head: it may be some directions of a site. A rotation is trained
so that exchanging a few of its dimensions between two prompts gives the answer that the hypothesis predicts; the share
of held-out pairs in which it does is the interchange intervention accuracy [@geiger2023; @wu2023]. Here the
hypothesis is "the answer turns into the source's", which needs nothing but a task with contrasts: each base is paired
with its contrast, after which the answer should turn, and with other prompts, after which it should turn or stay as
their answers say. `cutaway.methods.alignment` takes pairs of any causal model.

The checks: random subspaces of the same size, the same training on the network with shuffled weights, and with
answers drawn by lot.
Limits: a high accuracy says that the subspace is enough to steer the answer, not that the network uses it alone; with
a large size any site that holds the difference will do.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cutaway.core.method import method
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.methods.alignment import Rate, Rows, Seed, Steps, Subspaces, Training
from cutaway.methods.alignment_grid import result_of
from cutaway.models.model import Model


@method(
    asks="Which subspace holds what decides the answer?",
    cites="geiger2023, wu2023",
    needs=("unembedding", "causal", "contrast", "answers"),
)
def das(
    model: Model,
    task: Task,
    *,
    sites: Annotated[
        str,
        Field(
            description="where, each at one token: resid_post[*]@-1, resid_pre[8:16]@subject, z[*].head[*]@-1; "
            "empty: the stream at the last token after five layers"
        ),
    ] = "",
    size: Annotated[int, Field(ge=1, description="dimensions of the subspace, at most those of the site")] = 8,
    steps: Steps = 30,
    rows: Rows = 8,
    rate: Rate = 0.01,
    controls: Subspaces = 10,
    seed: Seed = 0,
) -> Result:
    """Train a subspace at each site, and exchange it between prompts that were held out."""
    how = Training(size, steps, rows, rate, seed=seed)
    return result_of(model, task.encode(model.tokenizer), sites, how, controls, seed)
