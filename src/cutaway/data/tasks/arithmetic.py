"""How much is it? Sums and differences of two digits whose result is one digit [@zhang2023addition].

    2 plus 1 equals 3. 4 plus 3 equals  ->  "7"

Four forms, each with one worked example before the question: small models add in this setting and not without it. For
tokenizers with single digits the prompt ends in the space before the answer; `ends="word"` is for those that have " 7" as one
token. In the contrast both numbers are others, and so is the
result, which is the wrong answer. Named words: `a` and `b`, the two numbers.
Limits: one form of example; the numbers of the example are never the question.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from cutaway.core.method import task
from cutaway.core.task import Task
from cutaway.data.sampling import Count, Seed, draw, pick
from cutaway.data.templates import Example, fill, task_of

Operation = Literal["add", "subtract"]
FORMS: dict[Operation, tuple[str, ...]] = {
    "add": (
        "2 + 1 = 3\n{a} + {b} = ",
        "2 plus 1 equals 3. {a} plus {b} equals ",
        "The sum of 2 and 1 is 3. The sum of {a} and {b} is ",
        "Adding 1 to 2 gives 3. Adding {b} to {a} gives ",
    ),
    "subtract": (
        "3 - 1 = 2\n{a} - {b} = ",
        "3 minus 1 equals 2. {a} minus {b} equals ",
        "The difference of 3 and 1 is 2. The difference of {a} and {b} is ",
        "Taking 1 from 3 leaves 2. Taking {b} from {a} leaves ",
    ),
}
EXAMPLE: dict[Operation, tuple[int, int]] = {"add": (2, 1), "subtract": (3, 1)}


@task(asks="How much is one digit plus, or minus, another?", cites="zhang2023addition")
def arithmetic(
    *,
    n: Count = 50,
    seed: Seed = 0,
    operation: Annotated[Operation, Field(description="what is done with the two numbers")] = "add",
    ends: Annotated[
        Literal["digit", "word"],
        Field(description='digit: the prompt ends in a space and "7" is the answer; word: it does not, and " 7" is'),
    ] = "digit",
    form: Annotated[int, Field(ge=-1, le=3, description="one of the four forms of the question; -1: all")] = -1,
) -> Task:
    """Questions of arithmetic with one digit each, after a worked example."""

    def make(rng: np.random.Generator) -> Example:
        return _example(rng, operation, form, ends)

    source = "zhang2023addition; forms of our own"
    examples = draw("arithmetic", n, np.random.default_rng(seed), make)
    return task_of("arithmetic", examples, positions=("a", "b"), seed=seed, source=source)


def pairs(operation: Operation) -> list[tuple[int, int, int]]:
    """Every question with its result: two digits from 1 to 9 whose result is one too, without the worked example."""
    sign = 1 if operation == "add" else -1
    every = ((a, b, a + sign * b) for a in range(1, 10) for b in range(1, 10))
    return [(a, b, result) for a, b, result in every if 1 <= result <= 9 and (a, b) != EXAMPLE[operation]]


def _example(rng: np.random.Generator, operation: Operation, form: int, ends: str) -> Example:
    number = form if form >= 0 else int(rng.integers(len(FORMS[operation])))
    known = pairs(operation)
    a, b, result = pick(rng, known)
    other = pick(rng, [one for one in known if one[2] != result and one[0] != a and one[1] != b])
    template = FORMS[operation][number]
    template, space = (template, "") if ends == "digit" else (template.rstrip(), " ")
    prompt, contrast = (fill(template, {"a": str(x), "b": str(y)}) for x, y in ((a, b), other[:2]))
    return Example(prompt, contrast, (f"{space}{result}",), (f"{space}{other[2]}",), f"{operation}-{number}")
