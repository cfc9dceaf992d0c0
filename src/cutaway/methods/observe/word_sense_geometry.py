"""Do the meanings of a word lie apart? One word in many sentences, layer by layer.

Sentences in which a word has one of two senses are read; the vectors of the word are compared [@coenen2019]. At each layer
stands how often the nearest centroid of the word's senses is the right one, the occurrence itself left out of it, beside the
commonest sense and the network with its weights in random order. One word's occurrences are drawn on a map
(principal components, or UMAP), with each one's nearest neighbour; where the first prompt has the word, it is drawn among
them.
Limits: the layer of the map is the one with the most right, which is kind to it. The sentences of the project have
senses that are far apart; `treebank` takes a `.conllu` file with `Sense=` in the last column. Neighbours far off may be drawn
near each other: the part of the variance that the map holds is given, and how often the nearest on the map is the nearest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from cutaway.core import view as views
from cutaway.core.errors import TaskError, nearest
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.data.conllu import Sentence
from cutaway.data.grammar import sense_sentences
from cutaway.data.treebank import treebank_sentences
from cutaway.methods.bootstrap import mean_interval
from cutaway.methods.control import compared, unchecked
from cutaway.methods.labels import described
from cutaway.methods.neighbour_map import Projection, neighbours_kept, plane
from cutaway.methods.random_twin import random_twin
from cutaway.methods.reading_options import ShuffledNetworks, Streams
from cutaway.methods.sense_space import Occurrence, commonest_sense, cosines, nearest_centroids, occurrences
from cutaway.methods.words import WordTokens, sentences_in_tokens, streams_of, word_tokens, word_vectors
from cutaway.models.model import Model

PROMPT = "first prompt"


@method(
    asks="Do the meanings of a word lie apart inside the model?",
    cites="coenen2019",
)
def word_sense_geometry(
    model: Model,
    task: Task,
    *,
    treebank: Annotated[
        str, Field(description="sentences with senses: made, or the path of a .conllu file with Sense=")
    ] = "made",
    word: Annotated[str, Field(description="the word of the map; the first one where it is empty")] = "",
    projection: Annotated[
        Projection, Field(description="how the map is drawn; umap needs the extra cutaway[umap]")
    ] = "pca",
    sites: Streams = "resid_post[*]",
    controls: ShuffledNetworks = 5,
    seed: Annotated[int, Field(ge=0, description="draws intervals and shuffled weights")] = 0,
) -> Result:
    """How far the senses of a word are apart at each layer, and a map of its occurrences."""
    streams = streams_of(model, sites)
    sentences, found, tokens, said = sense_material(model, treebank)
    vectors = sense_vectors(model, tokens, found, streams)
    right = np.array([nearest_centroids(layer, found) for layer in vectors])
    best = int(right.mean(axis=1).argmax())
    twins = []
    for draw in track(range(controls), "networks with shuffled weights"):
        (values,) = sense_vectors(random_twin(model, seed + 1 + draw), tokens, found, [streams[best]])
        twins.append(float(nearest_centroids(values, found).mean()))
    lemma = _chosen(word, found)
    data = _data(streams, right, found, seed)
    values, texts, senses = _of_word(model, task, streams[best], vectors[best], found, sentences, lemma)
    points, share = plane(values, projection, seed)
    return Result(
        data=_with_map(data, points, values, texts, senses),
        metrics={
            "best_layer": str(streams[best]),
            "right_sense": float(right[best].mean()),
            "right_sense_first_layer": float(right[0].mean()),
            "right_sense_last_layer": float(right[-1].mean()),
            "commonest_sense": commonest_sense(found),
            "words": len({one.lemma for one in found}),
            "neighbours_kept_on_the_map": neighbours_kept(points, cosines(values)),
            **({} if share is None else {"variance_on_the_map": share}),
        },
        views=_views(lemma, streams[best], projection),
        checks=(_check(float(right[best].mean()), twins, streams[best]),) if controls else (),
        notes=(*said, *unchecked(controls)),
    )


def sense_material(
    model: Model, treebank: str
) -> tuple[tuple[Sentence, ...], list[Occurrence], list[WordTokens], tuple[str, ...]]:
    """Sentences with senses, the occurrences in them, and their tokens.

    Raises:
        TaskError: the treebank says no senses.
    """
    sentences = sense_sentences() if treebank == "made" else treebank_sentences(treebank, None)
    kept, tokens, said = sentences_in_tokens(model, sentences)
    sentences = tuple(sentences[index] for index in kept)
    found = occurrences(sentences)
    if not found:
        raise TaskError(
            f"the treebank {treebank!r} has no word with two senses that each occur twice;",
            "senses are read from Sense= in the last column.",
            "Write treebank=made for the sentences that come with cutaway.",
        )
    return sentences, found, tokens, said


def sense_vectors(
    model: Model, tokens: Sequence[WordTokens], found: Sequence[Occurrence], streams: Sequence[Site]
) -> NDArray[np.float64]:
    """The vectors of the occurrences [site, occurrence, d_model]."""
    needed = sorted({one.sentence for one in found})
    place = {sentence: row for row, sentence in enumerate(needed)}
    values = word_vectors(model, [tokens[sentence] for sentence in needed], streams)
    return np.stack([values[place[one.sentence]][:, one.word] for one in found], axis=1).astype(np.float64)


def _chosen(word: str, found: Sequence[Occurrence]) -> str:
    known = list(dict.fromkeys(one.lemma for one in found))
    if word and word not in known:
        raise TaskError(f"no sentences have {word!r} in two senses;", nearest(word, known))
    return word or known[0]


def _check(measured: float, controls: Sequence[float], stream: Site) -> Check:
    return compared(
        measured,
        controls,
        claim=f"The sense of a word can be told from its vector at {stream}.",
        how="Give each occurrence the sense with the nearest centroid, itself left out; the control is the network with the "
        "numbers of each weight matrix in random order.",
        unit="share of occurrences",
    )


# --- the result --------------------------------------------------------------------------------------------------


def _data(streams: Sequence[Site], right: NDArray[np.bool_], found: Sequence[Occurrence], seed: int) -> xr.Dataset:
    lemmas = list(dict.fromkeys(one.lemma for one in found))
    owner = np.array([lemmas.index(one.lemma) for one in found])
    figures = np.array([mean_interval(row.astype(float), seed) for row in right])
    each = np.array([[row[owner == lemma].mean() for lemma in range(len(lemmas))] for row in right])
    data = xr.Dataset(
        {
            "right": (("site",), figures[:, 0]),
            "low": (("site",), figures[:, 1]),
            "high": (("site",), figures[:, 2]),
            "right_by_word": (("site", "lemma"), each),
        },
        coords={"site": [str(site) for site in streams], "lemma": lemmas},
    )
    return described(data, right="share with the right sense", right_by_word="share with the right sense")


def _of_word(
    model: Model,
    task: Task,
    stream: Site,
    vectors: NDArray[np.float64],
    found: Sequence[Occurrence],
    sentences: Sequence[Sentence],
    lemma: str,
) -> tuple[NDArray[np.float64], list[str], list[str]]:
    """The occurrences of one word, the first prompt's among them: vectors [text, d_model], texts and senses."""
    rows = [row for row, one in enumerate(found) if one.lemma == lemma]
    values = vectors[rows]
    texts = [sentences[found[row].sentence].text for row in rows]
    senses = [found[row].sense for row in rows]
    prompt = _in_prompt(model, task, stream, lemma)
    if prompt is not None:
        values, texts, senses = np.concatenate([values, prompt[None]]), [*texts, task.prompts[0]], [*senses, PROMPT]
    return values, texts, senses


def _with_map(
    data: xr.Dataset,
    points: NDArray[np.float64],
    values: NDArray[np.float64],
    texts: Sequence[str],
    senses: Sequence[str],
) -> xr.Dataset:
    """The occurrences of one word in two dimensions, each with its nearest neighbour."""
    near = cosines(values)
    np.fill_diagonal(near, -np.inf)
    neighbour = near.argmax(axis=1)
    names = list(dict.fromkeys(senses))
    data["x"], data["y"] = (("text",), points[:, 0]), (("text",), points[:, 1])
    data["sense"] = (("text",), np.array(senses, dtype=object))
    data["sense_number"] = (("text",), np.array([names.index(sense) for sense in senses]))
    data["neighbour"] = (("text",), np.array([texts[other] for other in neighbour], dtype=object))
    data["neighbour_sense"] = (("text",), np.array([senses[other] for other in neighbour], dtype=object))
    data["cosine"] = (("text",), near.max(axis=1))
    data = described(data, neighbour="nearest neighbour", neighbour_sense="its sense", sense_number="sense")
    return data.assign_coords(text=np.array(texts, dtype=object))


def _in_prompt(model: Model, task: Task, stream: Site, lemma: str) -> NDArray[np.float64] | None:
    found = word_tokens(model, task.prompts[0])
    places = [place for place, text in enumerate(found.words) if text.lower() in (lemma, f"{lemma}s")]
    if not places:
        return None
    return word_vectors(model, [found], [stream])[0][0, places[0]].astype(np.float64)


def _views(lemma: str, stream: Site, projection: Projection) -> tuple[views.View, ...]:
    by = " (UMAP)" if projection == "umap" else ""
    return (
        views.curves(
            value="right", x="site", low="low", high="high", title="Senses told by the nearest centroid, layer by layer"
        ),
        views.scatter(
            x="x", y="y", label="sense", value="sense_number", title=f"“{lemma}” in its sentences at {stream}{by}"
        ),
        views.heatmap(
            value="right_by_word", x="lemma", y="site", title="Senses told, word by word", scale="sequential"
        ),
        views.table(columns=["text", "sense", "neighbour", "neighbour_sense", "cosine"], title="Nearest neighbours"),
    )
