"""What do requests and answers look like? The shapes that the OpenAPI document, and the pages' types, are made of.

Answers are made of plain values and sent as they are; these shapes describe them. A test holds them to it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

LONGEST = 20_000  # characters of a text
MOST = 1000  # prompts given one by one

Text = Annotated[str, Field(max_length=LONGEST)]
Name = Annotated[str, Field(min_length=1, max_length=500)]
Json = Any
State = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]


class Asked(BaseModel):
    """What comes in: nothing but what is named."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """What happened, what is allowed, and what to write instead."""

    what: str
    expected: str
    instead: str
    job: str | None = Field(None, description="The job that is in the way, where one is.")


class Failure(BaseModel):
    """The answer to a request that cannot be done."""

    error: Problem


class Health(BaseModel):
    """The server."""

    name: str
    version: str
    loopback: bool


class TaskEntry(BaseModel):
    """A task of the registry."""

    name: str
    package: str
    asks: str
    cites: list[str]
    summary: str
    schema_: dict[str, Json] | None = Field(alias="schema", description="JSON Schema of its parameters.")
    problem: str = Field(description="Why it cannot be loaded; empty where it can.")


class MethodEntry(TaskEntry):
    """A method of the registry."""

    needs: list[str]
    group: str
    doc: str


class Reference(BaseModel):
    """A paper or an article."""

    authors: str
    year: str
    title: str
    url: str


class Role(BaseModel):
    """What an array may be that plays a part in a picture."""

    dims: list[int]
    required: bool
    numeric: bool


class ViewKind(BaseModel):
    """A kind of picture, and its parts."""

    kind: str
    roles: dict[str, Role]


class ModelEntry(BaseModel):
    """A model that can be opened, or could be."""

    name: str
    description: str
    available: bool
    why_not: str
    install: str
    opened: bool
    source: str
    parameters: int | None
    layers: int | None


class ModelName(Asked):
    """A model."""

    model: Name


class Opened(BaseModel):
    """What an opened model is made of."""

    anatomy: dict[str, Json]


class TextOfModel(Asked):
    """A text for a model."""

    model: Name
    text: Text


class Edit(BaseModel):
    """A change of one value inside the model; further keys are options of the operation."""

    model_config = ConfigDict(extra="allow")
    do: str = Field("zero", max_length=50)
    site: str = Field(max_length=200)


class NextAsked(TextOfModel):
    """What comes next, after changes where there are some."""

    top: int = Field(10, ge=1, le=200)
    edit: list[Edit] = Field(default_factory=list, max_length=1000)


class AblateAsked(TextOfModel):
    """What becomes of the prediction without these parts, beside random ones."""

    sites: list[Annotated[str, Field(max_length=200)]] = Field(min_length=1, max_length=1000)
    answer: Text | None = None
    controls: int = Field(8, ge=0, le=200)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    do: str | None = Field(None, max_length=20, description="zero (by default) or mean.")
    top: int | None = Field(None, ge=1, le=200)


class EdgeAsked(TextOfModel):
    """What becomes of the prediction when one edge carries what it does for another text."""

    contrast: Text
    edge: str = Field(max_length=300, description="SOURCE -> TARGET, as in z[3].head[2] -> q[7].head[1].")
    tokens: list[int] | None = Field(
        None, max_length=100_000, description="Where it is changed; all tokens by default."
    )
    controls: int = Field(20, ge=0, le=200)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    top: int | None = Field(None, ge=1, le=200)


class GenerateAsked(TextOfModel):
    """How the text goes on."""

    max_new_tokens: int = Field(1, ge=1, le=200)


class Tokenized(BaseModel):
    """A text in the model's tokens."""

    ids: list[int]
    tokens: list[str]
    spans: list[list[int]]


class Candidate(BaseModel):
    """A token that may come next."""

    id: int
    text: str
    probability: float
    logit: float


class Next(BaseModel):
    """The distribution of the next token."""

    tokens: list[Candidate]
    entropy: float
    n_tokens: int


class Ablated(BaseModel):
    """The answer with and without some parts."""

    token: str
    id: int
    probability_before: float
    probability_after: float
    logit_before: float
    logit_after: float


class Change(BaseModel):
    """A figure before and after."""

    before: float
    after: float


class Control(BaseModel):
    """The answer's probability without random parts of the same kind."""

    mean: float
    low: float
    high: float
    n: int
    values: list[float]
    outside: bool = Field(description="Whether the chosen parts do more, or less, than the random ones.")


class Ablation(BaseModel):
    """The prediction without some parts."""

    before: list[Candidate]
    after: list[Candidate]
    answer: Ablated
    entropy: Change
    control: Control | None = Field(description="Null where there is no other part of the kind.")
    do: str
    sites: list[str]


class EdgeControl(BaseModel):
    """The divergence under random edges of the same kinds."""

    middle: float
    low: float
    high: float
    n: int
    outside: bool


class EdgeTested(BaseModel):
    """The prediction with one edge changed."""

    edge: str
    tokens: list[int] | None = Field(description="Where it was changed; null for all tokens.")
    before: list[Candidate]
    after: list[Candidate]
    answer: Candidate
    contrast_answer: Candidate
    logit_difference: Change
    kl: float
    control: EdgeControl | None


class Thumbnails(BaseModel):
    """Small pictures of patterns: [layer][head], side × side bytes each, in base64."""

    side: int
    values: list[list[str | None]]


class AttentionScores(BaseModel):
    """What every head does on a text: [layer][head]."""

    tokens: list[str]
    ids: list[int]
    token_b_start: int | None
    n_layers: int
    n_heads: int
    causal: bool
    entropy: list[list[float | None]]
    scores: dict[str, list[list[float | None]]]
    thumbnails: Thumbnails
    refused: dict[str, str]


class Generated(BaseModel):
    """New tokens."""

    ids: list[int]
    tokens: list[str]
    text: str


class Prompts(Asked):
    """Texts of one's own, instead of a task."""

    prompts: list[Text] = Field(min_length=1, max_length=MOST)
    contrasts: list[Text] = Field(default_factory=list, max_length=MOST)
    answers: list[list[Text]] = Field(default_factory=list, max_length=MOST)
    wrong: list[list[Text]] = Field(default_factory=list, max_length=MOST)
    metric: str | None = Field(None, max_length=50)


class MethodJob(Asked):
    """Run a method on a task, or on prompts."""

    kind: Literal["method"]
    method: Name
    model: Name
    task: Name | None = None
    task_parameters: dict[str, Json] = Field(default_factory=dict)
    prompts: Prompts | None = None
    parameters: dict[str, Json] = Field(default_factory=dict)


class ExplainJob(Asked):
    """Explain one prediction."""

    kind: Literal["explain"]
    model: Name
    prompt: Text
    instead: Text | None = None
    answer: Text | None = None


class JobRecord(BaseModel):
    """A piece of work, and how far it is."""

    id: str
    kind: Literal["method", "explain"]
    spec: dict[str, Json]
    state: State
    what: str
    done: int
    total: int | None
    fraction: float | None
    created: str
    started: str | None
    finished: str | None
    error: str
    results: list[str]
    report: dict[str, Json] | None


class View(BaseModel):
    """A picture named by data."""

    kind: str
    title: str
    roles: dict[str, str]
    at: dict[str, float | str]
    note: str
    options: dict[str, float | str]


class Check(BaseModel):
    """The intervention that tests a claim, with its control."""

    claim: str
    how: str
    measured: float | None
    control: float | None
    interval: list[float | None]
    n: int
    passed: bool
    unit: str
    verdict: str
    place: str


class ArrayInfo(BaseModel):
    """An array without its numbers."""

    name: str
    dims: list[str]
    shape: list[int]
    dtype: str
    coordinate: bool
    attrs: dict[str, Json]


class Kept(BaseModel):
    """What is known of a kept result."""

    id: str
    method: str
    task: str
    model: str
    title: str
    created: str
    seconds: float | None
    bytes: int
    tags: list[str]
    note: str
    metrics: dict[str, float | str | None]
    views: list[View]
    checks_passed: int
    command: str
    job: str | None


class ResultSummary(Kept):
    """A result in a list."""

    checks: int


class ResultPage(BaseModel):
    """A part of the list of results."""

    items: list[ResultSummary]
    total: int


class ResultRecord(Kept):
    """A result without its numbers."""

    provenance: dict[str, Json]
    notes: list[str]
    checks: list[Check]
    arrays: list[ArrayInfo]
    dims: dict[str, int]


class ResultChange(Asked):
    """What a person says about a result; what is left out stays."""

    title: str | None = Field(None, max_length=500)
    tags: list[Annotated[str, Field(min_length=1, max_length=100)]] | None = Field(None, max_length=50)
    note: str | None = Field(None, max_length=100_000)


class PythonLines(BaseModel):
    """Lines that make a result again."""

    text: str
