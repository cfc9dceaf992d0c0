"""Mean attention to places against slow loops over the model's own patterns."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cutaway.core.errors import SiteError
from cutaway.core.task import Task
from cutaway.methods.observe.attention_clusters import attention_clusters, head_divergence
from cutaway.methods.observe.attention_statistics import PLACES, attention_statistics, attention_summary, pieces
from cutaway.methods.words import heads_of
from cutaway.models.model import Model
from cutaway.testing import tiny, tiny_task

TEXTS = ["Mary met John, and John waved.", "Then Mary gave a drink to John"]
MODELS = {family: tiny(family) for family in ("llama", "bert")}


def slow(model: Model, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """[place, layer, head] and entropies [layer, head], one query and one key after another."""
    special = set(model.tokenizer.all_special_ids)
    total, count = np.zeros((len(PLACES), 3, 4)), np.zeros(len(PLACES))
    spread, rows = np.zeros((3, 4)), 0
    for text in texts:
        ids = model.encode(text)
        words = model.token_strings(ids)
        run = model.run([ids], read="pattern[*]", logits="none")
        for i in range(len(ids)):
            where = {
                "previous": [i - 1] if i else [],
                "next": [i + 1] if i + 1 < len(ids) else [],
                "self": [i],
                "first": [0],
                "separators": [j for j, token in enumerate(ids) if token in special],
                "punctuation": [j for j, w in enumerate(words) if w.strip() in (",", ".")],
            }
            for place, name in enumerate(PLACES):
                count[place] += bool(where[name])
            rows += 1
            for layer in range(3):
                pattern = run[f"pattern[{layer}]"][0].numpy()
                for head in range(4):
                    p = pattern[head, i]
                    spread[layer, head] -= sum(float(x) * math.log(x) for x in p if x > 0)
                    for place, name in enumerate(PLACES):
                        total[place, layer, head] += sum(float(p[j]) for j in where[name])
    return total / np.where(count, count, np.nan)[:, None, None], spread / rows


@pytest.mark.parametrize("family", list(MODELS))
def test_means_are_those_of_slow_loops(family: str) -> None:
    model = MODELS[family]
    data = attention_statistics(model, TEXTS, controls=0).data
    means, spread = slow(model, TEXTS)
    np.testing.assert_allclose(data["entropy"].values, spread, rtol=1e-5)
    for place in map(str, data["place"].values):
        np.testing.assert_allclose(
            data["attention"].sel(place=place), means[PLACES.index(place)], rtol=1e-4, err_msg=place
        )
    assert ("next" in data["place"].values) == (family == "bert")
    assert ("separators" in data["place"].values) == (family == "llama")  # the tiny BERT's tokenizer writes none
    assert "punctuation" in data["place"].values


def test_between_words_all_attention_is_accounted_for() -> None:
    model = MODELS["llama"]
    found = pieces(model, Task.from_prompts(TEXTS), "words")
    summary = attention_summary(model, found, heads_of(model, "pattern[*]"))
    assert (np.nan_to_num(summary.attention) <= 1 + 1e-6).all()
    assert found[0].words == ("Mary", "met", "John", ",", "and", "John", "waved", ".")
    result = attention_statistics(model, TEXTS, level="words", controls=0)
    assert result.data["attention"].sel(place="separators").min() > 0  # the start token belongs to no word
    assert any("Not checked" in note for note in result.notes)


def test_the_check_compares_with_shuffled_weights() -> None:
    result = attention_statistics(MODELS["bert"], TEXTS, controls=5)
    (check,) = result.checks
    assert check.n == 5
    assert check.measured == float((result.data["attention"].max("place") > 0.5).sum())


def test_alike_heads_lie_together_and_clusters_are_numbered() -> None:
    model = MODELS["llama"]
    result = attention_clusters(model, tiny_task(), clusters=3, controls=20)
    distance = result.data["distance"].values
    heads = heads_of(model, "pattern[*]")
    divergence = head_divergence(model, pieces(model, tiny_task(), "tokens"), heads)
    np.testing.assert_allclose(distance**2, divergence, atol=1e-9)
    np.testing.assert_allclose(np.diag(distance), 0, atol=1e-6)
    assert distance.max() <= math.log(2) ** 0.5
    assert set(result.data["cluster"].values.tolist()) == {0, 1, 2}
    assert result.data["head"].values[5] == "1.1" and result.data["layer"].values[5] == 1
    layers = result.data["layer"].values
    off = ~np.eye(12, dtype=bool)
    within = distance[(layers[:, None] == layers) & off].mean()
    assert result.checks[0].measured == pytest.approx(distance[off].mean() - within, abs=1e-9)


def test_heads_of_one_layer_alone_are_not_checked() -> None:
    result = attention_clusters(MODELS["llama"], tiny_task(), sites="pattern[1]")
    assert not result.checks
    assert any("cannot be told from others" in note for note in result.notes)
    with pytest.raises(SiteError, match="is not a head's pattern"):
        attention_clusters(MODELS["llama"], tiny_task(), sites="z[*]")
