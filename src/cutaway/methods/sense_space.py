"""Are the meanings of a word apart? Vectors of one word in many sentences, and how its senses lie in them.

An occurrence's sense is guessed as that of the nearest centroid, by cosine, of the senses' other occurrences [@coenen2019]:
each sentence is left out of the centroids that it is compared with. The semantic probe is a linear map that is
trained to draw occurrences of one sense together.
Limits: a sense needs two occurrences; the probe is trained on other words than it is tested on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cutaway.data.conllu import Sentence

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Occurrence:
    """A word in a sentence, whose sense is known.

    Attributes:
        sentence: place of the sentence in its list.
        word: place of the word in the sentence.
        lemma: the word that has several senses.
        sense: which one it has here.
    """

    sentence: int
    word: int
    lemma: str
    sense: str


def occurrences(sentences: Sequence[Sentence]) -> list[Occurrence]:
    """The first word with a sense of each sentence, where the word has two senses that occur twice or more."""
    found = []
    for index, sentence in enumerate(sentences):
        for place, word in enumerate(sentence.words):
            if word.sense:
                found.append(Occurrence(index, place, (word.lemma or word.sense.partition(".")[0]).lower(), word.sense))
                break
    counts: dict[str, dict[str, int]] = {}
    for one in found:
        senses = counts.setdefault(one.lemma, {})
        senses[one.sense] = senses.get(one.sense, 0) + 1
    return [
        one
        for one in found
        if counts[one.lemma][one.sense] >= 2 and sum(n >= 2 for n in counts[one.lemma].values()) >= 2
    ]


def nearest_centroids(vectors: Array, found: Sequence[Occurrence]) -> NDArray[np.bool_]:
    """For each occurrence whether the nearest centroid of its word's senses, itself left out, is that of its own.

    Args:
        vectors: [occurrence, d_model].
        found: what they are.
    """
    unit = _unit(vectors)
    right = np.zeros(len(found), dtype=bool)
    for lemma in dict.fromkeys(one.lemma for one in found):
        rows = [row for row, one in enumerate(found) if one.lemma == lemma]
        senses = list(dict.fromkeys(found[row].sense for row in rows))
        for row in rows:
            others = [[o for o in rows if found[o].sense == sense and o != row] for sense in senses]
            near = [float(unit[row] @ _unit(unit[group].mean(axis=0))) for group in others]
            right[row] = senses[int(np.argmax(near))] == found[row].sense
    return right


def commonest_sense(found: Sequence[Occurrence]) -> float:
    """How many occurrences are right when each word is given its commonest sense."""
    right = 0
    for lemma in {one.lemma for one in found}:
        senses = [one.sense for one in found if one.lemma == lemma]
        right += max(senses.count(sense) for sense in set(senses))
    return right / len(found)


def train_sense_map(vectors: Array, found: Sequence[Occurrence], rank: int, seed: int, steps: int = 200) -> Array:
    """A linear map [rank, d_model] under which occurrences of one sense are more alike than those of two.

    The mean cosine within senses minus that between senses of one word is made large, each of them held within 0.1
    of what it was before, as in the paper.
    """
    rows = torch.as_tensor(_unit(vectors), dtype=torch.float64)
    lemmas, senses = np.array([one.lemma for one in found]), np.array([one.sense for one in found])
    same_word = torch.from_numpy(lemmas[:, None] == lemmas[None]) & ~torch.eye(len(found), dtype=torch.bool)
    same_sense = torch.from_numpy(senses[:, None] == senses[None]) & same_word
    other_sense = same_word & ~same_sense
    start = rows @ rows.T
    within, between = start[same_sense].mean(), start[other_sense].mean()
    generator = torch.Generator().manual_seed(seed)
    # Directions at right angles: the map starts as a projection, which keeps cosines about as they are.
    first = torch.linalg.qr(torch.randn(rows.shape[1], rank, generator=generator, dtype=torch.float64))[0].T
    mapping = first.clone().requires_grad_()
    optimiser = torch.optim.Adam([mapping], lr=3e-3)
    for _ in range(steps):
        cosine = torch.nn.functional.normalize(rows @ mapping.T, dim=-1)
        table = cosine @ cosine.T
        near = table[same_sense].clamp(within - 0.1, within + 0.1).mean()
        far = table[other_sense].clamp(between - 0.1, between + 0.1).mean()
        loss = far - near
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return mapping.detach().numpy()


def cosines(vectors: Array) -> Array:
    """[row, row]."""
    unit = _unit(vectors)
    return np.asarray(unit @ unit.T)


def _unit(vectors: Array) -> Array:
    size = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(size > 0, size, 1)
