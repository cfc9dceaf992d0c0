"""How good is an edit? Efficacy, paraphrases, neighbours, and what the model writes, as CounterFact and zsRE score them.

Success is p(new) > p(true) on the edited prompt (efficacy) and on paraphrases, and p(true) > p(new) on neighbours, with
the probabilities of whole answers; magnitude is the mean difference of those probabilities. The score S is the harmonic
mean of the three successes [@meng2022]. Where no true answer is known, and for the accuracy of zsRE, it is the share of
the answer's tokens that are the model's first choice [@levy2017].
Generated text: the entropy of its pairs and triples of words, in bits, weighted 1/3 and 2/3 (low where a model repeats
itself), and the cosine of its tf-idf vector with texts about things of which the new answer is true.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cutaway.data import corpora
from cutaway.data.edit_requests import EditRequest
from cutaway.methods.edit.rows import Row, log_probabilities, row_of
from cutaway.models.model import Model

KINDS = ("efficacy", "paraphrase", "neighbourhood")
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Questions:
    """What is asked of one fact: rows of the new answers, then of the true ones, one for each question.

    Attributes:
        kinds: of each question, one of `KINDS`.
        new, true: rows with each answer; `true` is None where it is not known.
    """

    kinds: tuple[str, ...]
    new: tuple[Row, ...]
    true: tuple[Row | None, ...]


def questions_of(model: Model, request: EditRequest) -> Questions:
    """The questions about a fact as rows."""
    asked = [
        ("efficacy", request.prompt, request.true),
        *(("paraphrase", text, request.true) for text in request.paraphrases),
    ]
    asked += [("neighbourhood", prompt, answer) for prompt, answer in request.neighbours]
    return Questions(
        tuple(kind for kind, _, _ in asked),
        tuple(row_of(model, prompt, request.target) for _, prompt, _ in asked),
        tuple(row_of(model, prompt, true) if true else None for _, prompt, true in asked),
    )


def scores_of(model: Model, questions: Questions) -> dict[str, float]:
    """The scores of one fact, with the weights as they are now.

    Returns:
        `efficacy`, `paraphrase`, `neighbourhood` (success, 0 to 1), the same with `_magnitude` (difference of
        probabilities) and `_accuracy` (of the right answer's tokens: the new one, or for neighbours the true one).
    """
    rows = [*questions.new, *(row for row in questions.true if row is not None)]
    logs, right = log_probabilities(model, rows)
    n = len(questions.new)
    place = {i: n + k for k, i in enumerate(i for i, row in enumerate(questions.true) if row is not None)}
    found: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in KINDS}
    for i, kind in enumerate(questions.kinds):
        aside = kind == "neighbourhood"
        if i not in place:
            found[kind].append((float(right[i] == 1.0), math.exp(logs[i]), float(right[i])))
            continue
        gap = math.exp(logs[i]) - math.exp(logs[place[i]])
        won = logs[place[i]] > logs[i] if aside else logs[i] > logs[place[i]]
        found[kind].append((float(won), -gap if aside else gap, float(right[place[i] if aside else i])))
    table = {kind: np.mean(values, axis=0) if values else np.full(3, np.nan) for kind, values in found.items()}
    named = ("", "_magnitude", "_accuracy")
    return {f"{kind}{name}": float(table[kind][i]) for kind in KINDS for i, name in enumerate(named)}


def harmonic_mean(values: Sequence[float]) -> float:
    """The harmonic mean; 0 where one of the values is 0.

    >>> round(harmonic_mean([1.0, 0.964, 0.754]), 3)
    0.892
    """
    return len(values) / sum(1 / value for value in values) if all(value > 0 for value in values) else 0.0


def total(means: Mapping[str, float]) -> float:
    """The score S of mean successes."""
    return harmonic_mean([means[kind] for kind in KINDS if not math.isnan(means[kind])])


def words_of(text: str) -> list[str]:
    """Words and signs of a text, in small letters."""
    return _WORD.findall(text.lower())


def entropy_of(text: str) -> float:
    """Entropy of pairs (1/3) and triples (2/3) of words, in bits.

    >>> entropy_of("a a a a a a")
    0.0
    """
    words = words_of(text)
    return sum(weight * _entropy(list(zip(*(words[i:] for i in range(n))))) for n, weight in ((2, 1 / 3), (3, 2 / 3)))


def consistency_of(text: str, references: Sequence[str]) -> float:
    """Cosine of the tf-idf vectors of a text and of reference texts together; NaN without references."""
    if not references:
        return math.nan
    left, right = _tf_idf(text), _tf_idf(" ".join(references))
    size = math.sqrt(sum(v * v for v in left.values()) * sum(v * v for v in right.values()))
    return sum(value * right.get(word, 0.0) for word, value in left.items()) / size if size else 0.0


def _entropy(grams: Sequence[tuple[str, ...]]) -> float:
    counts = np.array(list(Counter(grams).values()), dtype=float)
    shares = counts / counts.sum() if len(counts) else counts
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def _tf_idf(text: str) -> dict[str, float]:
    known, texts = _documents()
    counts = Counter(words_of(text))
    return {word: n * (math.log((1 + texts) / (1 + known.get(word, 0))) + 1) for word, n in counts.items()}


@lru_cache(maxsize=1)
def _documents() -> tuple[Mapping[str, int], int]:
    """In how many paragraphs of plain text each word stands, and how many there are."""
    texts = corpora.paragraphs()
    return Counter(word for text in texts for word in set(words_of(text))), len(texts)
