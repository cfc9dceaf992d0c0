"""Quick questions about a model: open it, look at its parts, tokenise, predict, ablate, generate, read values.

Each goes to the worker, before queued jobs. While a job runs, they wait a little and are then refused as busy;
tokenising is not.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from cutaway.web.answers import answer
from cutaway.web.records import (
    LONGEST,
    AblateAsked,
    Ablation,
    AttentionScores,
    EdgeAsked,
    EdgeTested,
    GenerateAsked,
    Generated,
    ModelName,
    Next,
    NextAsked,
    Opened,
    TextOfModel,
    Tokenized,
)
from cutaway.web.routes.shared import BINARY, FAILURES, bench_of
from cutaway.web.workbench import while_here

router = APIRouter(tags=["models"], responses=FAILURES)

ModelQuery = Annotated[str, Query(min_length=1, max_length=500)]
TextQuery = Annotated[str, Query(max_length=LONGEST)]


@router.post("/models/open", response_model=Opened)
async def open_model(request: Request, asked: ModelName) -> Response:
    """Open a model, which takes seconds where it is not open yet."""
    bench = bench_of(request)
    await bench.require_model(asked.model)
    frame = await while_here(request, bench.ask({"do": "open", "model": asked.model}))
    return answer(frame.header["answer"])


@router.post("/models/close", status_code=204, response_class=Response)
async def close_model(request: Request, asked: ModelName) -> Response:
    """Let go of a model and the memory that it takes."""
    bench = bench_of(request)
    await bench.require_model(asked.model)
    if asked.model in bench.opened:
        await bench.ask({"do": "close", "model": asked.model})
    return Response(status_code=204)


@router.get("/anatomy", response_model=dict[str, Any])
async def anatomy(request: Request, model: ModelQuery) -> Response:
    """What a model is made of: layers, heads, MLPs, shapes and parameter counts. It is opened if need be."""
    return await bench_of(request).inspect(request, "anatomy", model, {})


@router.post("/tokenize", response_model=Tokenized)
async def tokenize(request: Request, asked: TextOfModel) -> Response:
    """A text in the model's tokens, with the characters that each spans."""
    return await bench_of(request).inspect(request, "tokenize", asked.model, {"text": asked.text})


@router.post("/next", response_model=Next)
async def following(request: Request, asked: NextAsked) -> Response:
    """The likeliest next tokens, with parts of the model changed where asked."""
    return await bench_of(request).inspect(request, "next", asked.model, _arguments(asked))


@router.post("/ablate", response_model=Ablation)
async def ablate(request: Request, asked: AblateAsked) -> Response:
    """The prediction without some parts, beside random sets of the same size and kind."""
    return await bench_of(request).inspect(request, "ablate", asked.model, _arguments(asked))


@router.post("/edge", response_model=EdgeTested)
async def edge(request: Request, asked: EdgeAsked) -> Response:
    """The prediction when one edge carries what it does for another text, beside random edges of the same kinds."""
    return await bench_of(request).inspect(request, "edge", asked.model, _arguments(asked))


@router.post("/generate", response_model=Generated)
async def generate(request: Request, asked: GenerateAsked) -> Response:
    """How the text goes on, the likeliest token each time."""
    return await bench_of(request).inspect(request, "generate", asked.model, _arguments(asked))


@router.get("/activations", response_class=Response, responses={200: {"content": BINARY}})
async def activations(
    request: Request,
    model: ModelQuery,
    text: TextQuery,
    sites: Annotated[str, Query(min_length=1, max_length=4000, description="Sites, with commas between them.")],
    text_b: TextQuery = "",
) -> Response:
    """Values inside the model on one prompt, or two as one: a line of JSON for the arrays, then their bytes."""
    asked = {"text": text, "text_b": text_b, "sites": sites}
    return await bench_of(request).inspect(request, "activations", model, asked)


@router.get("/attention", response_model=AttentionScores)
async def attention(request: Request, model: ModelQuery, text: TextQuery, text_b: TextQuery = "") -> Response:
    """Entropy and scores of every head on a text, or on two."""
    return await bench_of(request).inspect(request, "attention", model, {"text": text, "text_b": text_b})


def _arguments(asked: NextAsked | AblateAsked | EdgeAsked | GenerateAsked) -> dict[str, Any]:
    return asked.model_dump(exclude={"model"}, exclude_none=True)
