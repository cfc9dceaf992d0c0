"""What is a model made to say that is not so? Facts with a new answer, to be written by the methods of editing [@meng2022].

    The capital of France is  ->  " Rome", not " Paris"        contrast: The capital of Italy is

The answer is the new one, which is true of another subject of the relation (the contrast asks for it), and the wrong
answer is the true one. Before an edit the metric is negative where the model knows the fact; after it, positive. Named
word: `subject`. Facts are those of `facts`; `cutaway.data.fact_edits` has the paraphrases and neighbours of each.
Limits: as `facts`; only the first wording of each relation is asked.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cutaway.core.method import task
from cutaway.core.task import Task
from cutaway.data.edit_requests import EditRequest
from cutaway.data.fact_edits import fact_edits
from cutaway.data.sampling import Count, Seed
from cutaway.data.tasks.facts import RELATIONS
from cutaway.data.templates import Example, Filled, fill, task_of


@task(asks="What is a model made to say that is not so?", cites="meng2022")
def counterfacts(
    *,
    n: Count = 4,
    seed: Seed = 0,
    relation: Annotated[
        Literal["all", "capital", "language", "continent", "currency", "symbol", "city", "maker", "field"],
        Field(description="what is asked of the subject"),
    ] = "all",
) -> Task:
    """Facts of the project with answers that are not true."""
    examples = [_example(request) for request in fact_edits(n, seed, relation)]
    source = "public facts with answers exchanged, compiled for Cutaway (cutaway.data.fact_edits)"
    return task_of("counterfacts", examples, positions=("subject",), seed=seed, source=source)


def _example(request: EditRequest) -> Example:
    answers = RELATIONS[request.relation].answers
    other = next(subject for subject, theirs in answers.items() if request.target.strip() in theirs)
    contrast = fill(RELATIONS[request.relation].templates[0], {"subject": other})
    prompt = Filled(request.prompt, {"subject": request.span})
    return Example(prompt, contrast, (request.target,), (request.true,), f"{request.relation}-0")
