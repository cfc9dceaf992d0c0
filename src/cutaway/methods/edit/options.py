"""What do the editors ask for in the same words? Their parameters, each said once."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field

from cutaway.methods.control import enough

Subject: TypeAlias = Annotated[
    str, Field(description="words of the subject, or what stands for {} in the prompt; empty: the task's subject")
]
Layer: TypeAlias = Annotated[int | None, Field(ge=0, description="whose MLP is changed; none: by a quick causal trace")]
Statistics: TypeAlias = Annotated[
    str, Field(description="file with key statistics; empty: computed, and kept in the cache")
]
Corpus: TypeAlias = Annotated[str, Field(description="file of plain text for them; empty: the project's plain English")]
Tokens: TypeAlias = Annotated[
    int | None, Field(ge=1, description="tokens of that text that are read; none: ten for each neuron")
]
Contexts: TypeAlias = Annotated[int, Field(ge=0, le=50, description="beginnings of a text before the prompt")]
Rate: TypeAlias = Annotated[float, Field(gt=0, description="size of a step, in root mean squares of the value")]
Bound: TypeAlias = Annotated[
    float, Field(gt=0, description="length of what is added, at most, in lengths of the value")
]
Stay: TypeAlias = Annotated[float, Field(ge=0, description='weight of the divergence after "SUBJECT is"')]
Unrelated: TypeAlias = Annotated[int, Field(ge=1, description="paragraphs of plain text for the side effects")]
OtherFacts: TypeAlias = Annotated[int, Field(ge=1, le=50, description="facts about other subjects for them")]
RandomChanges: TypeAlias = Annotated[
    int,
    Field(ge=0, description="random changes that the checks compare with, 5 or more; 0: no check"),
    AfterValidator(enough),
]
Seed: TypeAlias = Annotated[int, Field(ge=0, description="draws beginnings, noise, texts and random changes")]
