"""Do a token's vectors know how it is spelled? Linear probes of letters on the embeddings.

A model never sees letters. Linear probes are trained to name the letter in first, second, third … place of a token from its
embedding alone, on tokens that are words of the letters a to z [@kaushal2022]. Words that differ only in their capitals
and in the space before them stand together in training or in test, or the probe would look them up.
Controls: random vectors with the mean and covariance of the embeddings, labels dealt out to the words at random
[@hewitt2019b], and the commonest letter. The check compares the first letter with random vectors.
Limits: a probe says what is there, not what the model spells with. A place is asked of the tokens that have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from cutaway.core import view as views
from cutaway.core.artifact import Artifact
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.task import Task
from cutaway.methods.alphabet import LETTERS, WordToken, drawn_tokens, word_vocabulary
from cutaway.methods.bootstrap import mean_interval
from cutaway.methods.control import compared, enough, unchecked
from cutaway.methods.held_out import parts
from cutaway.methods.labels import described
from cutaway.methods.logistic import Linear, classify
from cutaway.models.model import Model

BY = ("embeddings", "random vectors", "letters at random", "commonest letter")
TRAINED = 0.8
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


@method(
    asks="Do the embeddings know how a token is spelled?",
    cites="kaushal2022, hewitt2019b",
)
def letter_probe(
    model: Model,
    task: Task,
    *,
    tokens: Annotated[
        int, Field(ge=20, description="tokens that are drawn from the vocabulary; 8 of 10 are trained on")
    ] = 3000,
    shortest: Annotated[int, Field(ge=1, description="letters of a token at least")] = 3,
    places: Annotated[int, Field(ge=1, le=8, description="letters that are asked for, from the first on")] = 4,
    penalty: Annotated[float, Field(gt=0, description="of the squares of the weights")] = 1e-2,
    controls: Annotated[
        int,
        Field(ge=0, description="draws of random vectors that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 5,
    seed: Annotated[int, Field(ge=0, description="draws tokens, random vectors and labels")] = 0,
) -> Result:
    """Linear probes of the letters of a token on its embedding."""
    chosen = drawn_tokens(word_vocabulary(model, shortest), tokens, seed)
    vectors = embeddings_of(model, chosen)
    train, test = token_split(chosen, seed)
    asked = [
        p
        for p in range(places)
        if all(sum(len(t.letters) > p for t in s) >= 2 for s in (_at(chosen, train), _at(chosen, test)))
    ]
    results: dict[str, list[NDArray[np.bool_]]] = {by: [] for by in BY}
    probes = []
    for place in track(asked, "probes of letters"):
        rows, labels = _labelled(chosen, train, place)
        held, truth = _labelled(chosen, test, place)
        common = np.bincount(labels, minlength=26).argmax()
        noise = vectors_like(vectors, seed)
        dealt = random_letters(chosen, seed)
        probes.append(classify(vectors[rows], labels, 26, penalty))
        results[BY[0]].append(probes[-1].predict(vectors[held]) == truth)
        results[BY[1]].append(classify(noise[rows], labels, 26, penalty).predict(noise[held]) == truth)
        results[BY[2]].append(classify(vectors[rows], dealt[rows], 26, penalty).predict(vectors[held]) == dealt[held])
        results[BY[3]].append(truth == common)
    checks: tuple[Check, ...] = ()
    if controls:
        rows, labels = _labelled(chosen, train, 0)
        held, truth = _labelled(chosen, test, 0)
        others = []
        for draw in track(range(controls), "random vectors"):
            noise = vectors_like(vectors, seed + 1 + draw)
            others.append(float((classify(noise[rows], labels, 26, penalty).predict(noise[held]) == truth).mean()))
        checks = (_check(float(results[BY[0]][0].mean()), others),)
    data = _with_prompt(_data(results, asked, seed), model, task, probes[0])
    return Result(
        data=data,
        metrics={f"{ORDINALS[place]}_letter": float(results[BY[0]][i].mean()) for i, place in enumerate(asked)},
        views=_views(),
        checks=checks,
        notes=(f"Trained on {len(train)} tokens, tested on {len(test)}.", *unchecked(controls)),
        artifacts={"probe": _artifact(probes[0])},
    )


def embeddings_of(model: Model, chosen: Sequence[WordToken]) -> NDArray[np.float64]:
    """The embedding of each token [token, d_model]."""
    weight = model.hf.get_input_embeddings().weight
    ids = torch.tensor([token.id for token in chosen], device=weight.device)
    return weight.detach()[ids].double().cpu().numpy()


def vectors_like(vectors: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Random vectors with the same mean and covariance."""
    random = np.random.default_rng(seed)
    centred = vectors - vectors.mean(axis=0)
    mixed = random.standard_normal((len(vectors), len(vectors))) if len(vectors) < vectors.shape[1] else None
    if mixed is not None:
        return vectors.mean(axis=0) + mixed @ centred / len(vectors) ** 0.5
    values, directions = np.linalg.eigh(centred.T @ centred / len(vectors))
    spread = np.sqrt(np.maximum(values, 0))
    return vectors.mean(axis=0) + (random.standard_normal(vectors.shape) * spread) @ directions.T


def token_split(chosen: Sequence[WordToken], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens for training and for testing; the spellings of one word stand together."""
    words = sorted({token.letters for token in chosen})
    where = {word: place for place, word in enumerate(words)}
    group = np.array([where[token.letters] for token in chosen])
    train, _ = parts(len(words), (TRAINED, 1 - TRAINED), seed)
    inside = np.isin(group, train)
    return np.flatnonzero(inside), np.flatnonzero(~inside)


def random_letters(chosen: Sequence[WordToken], seed: int) -> NDArray[np.int64]:
    """A letter for each token that has nothing to do with it, drawn as often as letters come first; the same for one word."""
    random = np.random.default_rng(seed)
    first = np.array([LETTERS.index(token.letters[0]) for token in chosen])
    words = sorted({token.letters for token in chosen})
    dealt = dict(zip(words, random.choice(first, size=len(words))))
    return np.array([dealt[token.letters] for token in chosen])


def _at(chosen: Sequence[WordToken], rows: NDArray[np.int64]) -> list[WordToken]:
    return [chosen[int(row)] for row in rows]


def _labelled(
    chosen: Sequence[WordToken], rows: NDArray[np.int64], place: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The tokens that have a letter in this place, and which letter it is."""
    kept = np.array([row for row in rows if len(chosen[int(row)].letters) > place], dtype=np.int64)
    return kept, np.array([LETTERS.index(chosen[int(row)].letters[place]) for row in kept], dtype=np.int64)


def _check(measured: float, controls: Sequence[float]) -> Check:
    return compared(
        measured,
        controls,
        claim="The embedding of a token says which letter it begins with.",
        how="A linear probe names the first letter of tokens that it was not trained on; the control trains it on random vectors "
        "with the mean and covariance of the embeddings.",
        unit="share of tokens",
    )


# --- the result --------------------------------------------------------------------------------------------------


def _data(results: dict[str, list[NDArray[np.bool_]]], asked: Sequence[int], seed: int) -> xr.Dataset:
    figures = np.array([[mean_interval(right.astype(float), seed) for right in results[by]] for by in BY])
    data = xr.Dataset(
        {
            "accuracy": (("letter", "by"), figures[..., 0].T),
            "low": (("letter", "by"), figures[..., 1].T),
            "high": (("letter", "by"), figures[..., 2].T),
            "count": (("letter",), np.array([len(right) for right in results[BY[0]]])),
        },
        coords={"letter": [ORDINALS[place] for place in asked], "by": list(BY)},
    )
    return described(data, accuracy="share of tokens", count="tokens")


def _with_prompt(data: xr.Dataset, model: Model, task: Task, probe: Linear) -> xr.Dataset:
    """What the probe takes for the first letter of each token of the first prompt."""
    ids = model.encode(task.prompts[0])
    texts = model.token_strings(ids)
    vectors = embeddings_of(model, [WordToken(index, "") for index in ids])
    guess = probe.scores(vectors).argmax(axis=1)
    data["guess"] = (("position",), np.array([LETTERS[index] for index in guess], dtype=object))
    named = [bool(text.strip()) and text.strip()[0].upper() == LETTERS[index] for text, index in zip(texts, guess)]
    data["is_right"] = (("position",), np.array(named, dtype=float))
    return data.assign_coords(token=("position", np.array(texts, dtype=object)), position=range(len(ids)))


def _artifact(probe: Linear) -> Artifact:
    tensors = {name: getattr(probe, name) for name in ("weight", "bias", "mean", "scale")}
    about = {"reads": "the embedding matrix", "predicts": "the first letter of a token", "classes": LETTERS}
    return Artifact(kind="probe", tensors=tensors, about=about)


def _views() -> tuple[views.View, ...]:
    return (
        views.bars(
            value="accuracy",
            label="letter",
            group="by",
            low="low",
            high="high",
            title="Letters of a token that are read off its embedding",
        ),
        views.table(
            columns=["token", "guess", "is_right"], title="The first letters of the first prompt's tokens, by the probe"
        ),
    )
