"""Which head knows whom "she" means? Heads as finders of antecedents, on texts with gold coreference.

A mention that names something a second time is led by a head to the earlier mention that its main word attends to
most [@clark2019]. It is right when both name the same thing. The head is chosen on one half of the texts and counted on the
other. Baselines: the nearest earlier mention, and the nearest earlier one with the same main word (else the nearest of the
same kind, else the nearest). The check compares with the network with its weights in random order.
Texts: the project's own grammar, or a `.conllu` file with `Entity=` as CorefUD writes it.
Limits: only mentions that name something again are asked for, within a sentence; the main word of a mention stands
for all of it. It looks from the later mention back, which a decoder can do as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from cutaway.core import view as views
from cutaway.core.errors import TaskError
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.data.conllu import Mention, Sentence
from cutaway.data.treebank import treebank_sentences
from cutaway.methods.bootstrap import share_interval
from cutaway.methods.control import compared, unchecked
from cutaway.methods.head_choice import chosen_on_other_half, share_on_other_half
from cutaway.methods.labels import described
from cutaway.methods.random_twin import random_twin
from cutaway.methods.reading_options import Heads, ShuffledNetworks
from cutaway.methods.words import (
    WordTokens,
    head_name,
    head_table,
    heads_of,
    sentences_in_tokens,
    word_attention,
    word_tokens,
)
from cutaway.models.model import Model

KINDS = ("all", "pronoun", "proper", "nominal")
BY = ("best head", "nearest mention", "same word, else nearest")


@dataclass(frozen=True)
class Antecedents:
    """How many mentions were led to the same thing.

    Attributes:
        total: [sentence, kind] mentions with an earlier one.
        right: [sentence, kind, head].
        nearest: [sentence, kind].
        matched: [sentence, kind].
    """

    total: NDArray[np.int32]
    right: NDArray[np.uint8]
    nearest: NDArray[np.uint8]
    matched: NDArray[np.uint8]


@method(
    asks="Which heads look from a mention to what it names?",
    cites="clark2019",
    needs=("attention",),
)
def coreference_heads(
    model: Model,
    task: Task,
    *,
    treebank: Annotated[
        str, Field(description="texts with mentions: made, or the path of a .conllu file with Entity=")
    ] = "made",
    sentences: Annotated[int, Field(ge=4, description="how many of them")] = 60,
    sites: Heads = "pattern[*]",
    controls: ShuffledNetworks = 5,
    seed: Annotated[int, Field(ge=0, description="draws texts, halves, intervals and shuffled weights")] = 0,
) -> Result:
    """How often each head leads a mention to its antecedent."""
    heads = heads_of(model, sites)
    texts = treebank_sentences(treebank, sentences, seed)
    kept, found, said = sentences_in_tokens(model, texts)
    texts = tuple(texts[index] for index in kept)
    counted = antecedents(model, texts, found, heads)
    if not counted.total.sum():
        raise TaskError(
            f"the treebank {treebank!r} names nothing twice within a sentence;",
            "coreference is read from the Entity= of a .conllu file.",
            "Write treebank=made for the sentences that come with cutaway.",
        )
    best = chosen_on_other_half(counted.right, counted.total, seed)
    checks: tuple[Check, ...] = ()
    if controls:
        twins = []
        for draw in track(range(controls), "networks with shuffled weights"):
            other = antecedents(random_twin(model, seed + 1 + draw), texts, found, heads)
            twins.append(float(share_on_other_half(other.right, other.total, seed)[0]))
        checks = (_check(float(best.share[0]), twins),)
    data = _data(model, task, counted, heads, seed)
    return Result(
        data=data,
        metrics={
            f"{by.split(',')[0].replace(' ', '_')}_accuracy": float(data["accuracy"].sel(kind="all", by=by))
            for by in BY
        },
        views=_views(data),
        checks=checks,
        notes=(*said, *unchecked(controls)),
    )


def antecedents(
    model: Model, texts: Sequence[Sentence], found: Sequence[WordTokens], heads: Sequence[Site]
) -> Antecedents:
    """Count what every head and both baselines get right."""
    total = np.zeros((len(texts), len(KINDS)), dtype=np.int32)
    right = np.zeros((*total.shape, len(heads)), dtype=np.uint8)
    nearest, matched = np.zeros(total.shape, dtype=np.uint8), np.zeros(total.shape, dtype=np.uint8)
    for index, attention in word_attention(model, found, heads):
        text = texts[index]
        for mention, earlier in _asked(text):
            places = [other.head for other in earlier]
            same = np.array([other.entity == mention.entity for other in earlier])
            guess = attention[:, mention.head, places].argmax(dim=-1).cpu().numpy()
            for kind in (0, KINDS.index(mention.kind)):
                total[index, kind] += 1
                right[index, kind] += same[guess]
                nearest[index, kind] += same[-1]
                matched[index, kind] += same[_same_word(text, mention, earlier)]
    return Antecedents(total, right, nearest, matched)


def _asked(text: Sentence) -> list[tuple[Mention, list[Mention]]]:
    """The mentions that name something again, each with the mentions before it."""
    found = []
    for place, mention in enumerate(text.mentions):
        earlier = [other for other in text.mentions[:place] if other.head < mention.head]
        if any(other.entity == mention.entity for other in earlier):
            found.append((mention, earlier))
    return found


def _same_word(text: Sentence, mention: Mention, earlier: Sequence[Mention]) -> int:
    """The nearest earlier mention with the same main word; else of the same kind; else the nearest."""

    def word(which: Mention) -> str:
        return text.words[which.head].form.lower()

    for fits in (lambda other: word(other) == word(mention), lambda other: other.kind == mention.kind):
        places = [place for place, other in enumerate(earlier) if fits(other)]
        if places:
            return places[-1]
    return len(earlier) - 1


def _check(measured: float, controls: Sequence[float]) -> Check:
    return compared(
        measured,
        controls,
        claim="A single head leads from a mention to an earlier one of the same thing.",
        how="Choose the best head on one half of the texts and count on the other; the control does the same in the network "
        "with the numbers of each weight matrix in random order.",
        unit="share of mentions",
    )


def _data(model: Model, task: Task, counted: Antecedents, heads: Sequence[Site], seed: int) -> xr.Dataset:
    best = chosen_on_other_half(counted.right, counted.total, seed)
    baselines = [
        np.array([share_interval(right[:, k], counted.total[:, k], seed) for k in range(len(KINDS))]).T
        for right in (counted.nearest, counted.matched)
    ]
    columns = [np.stack([best.share, best.low, best.high]), *baselines]
    figures = np.stack(columns, axis=-1)  # [figure, kind, by]
    accuracy = counted.right.sum(axis=0, dtype=np.int64) / np.maximum(counted.total.sum(axis=0), 1)[:, None]
    layers, numbers, table = head_table(heads, accuracy)
    words = word_tokens(model, task.prompts[0])
    ((_, attention),) = word_attention(model, [words], heads, "the first prompt")
    data = xr.Dataset(
        {
            "accuracy": (("kind", "by"), figures[0]),
            "low": (("kind", "by"), figures[1]),
            "high": (("kind", "by"), figures[2]),
            "count": (("kind",), counted.total.sum(axis=0)),
            "best_head": (("kind",), np.array([head_name(heads[i]) for i in best.best], dtype=object)),
            "head_accuracy": (("kind", "layer", "head"), table),
            "shown": (("from", "to"), attention[int(best.best[0])].cpu().numpy()),
        },
        coords={
            "kind": list(KINDS),
            "by": list(BY),
            "layer": layers,
            "head": numbers,
            "word": ("from", np.array(words.words, dtype=object)),
            "other_word": ("to", np.array(words.words, dtype=object)),
        },
    )
    data["head_share"] = data["accuracy"].sel(by=BY[0], drop=True)
    data = data.isel(kind=np.flatnonzero(data["count"].values > 0))
    return described(
        data,
        accuracy="share of mentions led to their antecedent",
        head_accuracy="share of mentions led to their antecedent",
        head_share="best head, other half",
        count="mentions",
        shown="attention",
    )


def _views(data: xr.Dataset) -> tuple[views.View, ...]:
    head = str(data["best_head"].sel(kind="all").values)
    return (
        views.bars(
            value="accuracy", label="kind", group="by", low="low", high="high", title="Mentions led to their antecedent"
        ),
        views.heatmap(
            value="head_accuracy",
            x="head",
            y="layer",
            at={"kind": "all"},
            title="Every head as a finder of antecedents",
            scale="sequential",
        ),
        views.table(
            columns=["kind", "count", "best_head", "head_share"], title="The best head for each kind of mention"
        ),
        views.attention(
            value="shown",
            query="from",
            key="to",
            token="word",
            key_token="other_word",
            title=f"Head {head}, the best of all, on the first prompt",
        ),
    )
