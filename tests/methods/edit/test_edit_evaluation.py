"""Scores of edits: by hand on small numbers, against plain runs, and over files in the public formats."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.methods.edit.conftest import TEXTS, capital, double

from cutaway.data.edit_requests import EditRequest
from cutaway.methods.edit import scores
from cutaway.methods.edit.edit_evaluation import edit_evaluation
from cutaway.methods.edit.editors import ready
from cutaway.methods.edit.rows import row_of
from cutaway.testing import tiny, tiny_task
from cutaway.testing.traces import differences, trace

FEW: dict[str, Any] = {"controls": 0, "steps": 3, "contexts": 1, "facts": 2}
REQUEST = EditRequest(
    "The capital of ",
    "France",
    " is",
    " Rome",
    " Paris",
    paraphrases=("The capital of France", "It was late. The capital of France is"),
    neighbours=(("The capital of Italy is", " Rome Madrid"), ("The capital of Spain is", " Madrid")),
)


def test_the_score_of_the_paper_follows_from_its_parts() -> None:
    """Meng et al. 2022, table 4, GPT-2 XL and GPT-J: S from the printed ES, PS and NS."""
    for es, ps, ns, total in ((100.0, 96.4, 75.4, 89.2), (99.9, 99.1, 78.9, 91.5), (22.2, 24.7, 78.1, 30.5)):
        assert round(scores.harmonic_mean([es, ps, ns]), 1) == total


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5))
def test_a_harmonic_mean_is_at_most_the_smallest_times_their_number(values: list[float]) -> None:
    mean = scores.harmonic_mean(values)
    assert min(values) - 1e-12 <= mean <= max(values) + 1e-12
    assert scores.harmonic_mean([*values, 0.0]) == 0.0


def test_successes_and_magnitudes_are_those_of_plain_runs() -> None:
    model = double("llama")
    found = scores.scores_of(model, scores.questions_of(model, REQUEST))

    def probability(prompt: str, answer: str) -> float:
        row = row_of(model, prompt, answer)
        logs = model.hf(torch.tensor([row.ids])).logits[0].detach().log_softmax(-1)
        return math.exp(sum(float(logs[row.start - 1 + i, token]) for i, token in enumerate(row.answer)))

    def gap(prompt: str, true: str) -> float:
        return probability(prompt, " Rome") - probability(prompt, true)

    assert found["efficacy_magnitude"] == pytest.approx(gap(REQUEST.prompt, " Paris"))
    assert found["efficacy"] == float(gap(REQUEST.prompt, " Paris") > 0)
    asked = [gap(prompt, " Paris") for prompt in REQUEST.paraphrases]
    assert found["paraphrase_magnitude"] == pytest.approx(np.mean(asked))
    assert found["paraphrase"] == np.mean([each > 0 for each in asked])
    aside = [gap(prompt, true) for prompt, true in REQUEST.neighbours]
    assert found["neighbourhood_magnitude"] == pytest.approx(-np.mean(aside))
    assert found["neighbourhood"] == np.mean([each < 0 for each in aside])


def test_accuracy_counts_the_tokens_of_the_answer_that_are_first_choices() -> None:
    model = double("llama")
    ids = model.encode("The capital of France is")
    first = int(model.hf(torch.tensor([ids])).logits[0, -1].argmax())
    second = int(model.hf(torch.tensor([[*ids, first]])).logits[0, -1].argmax())
    from cutaway.methods.edit.rows import Row, log_probabilities

    wrong = (second + 1) % model.anatomy.vocab_size
    _, right = log_probabilities(model, [Row((*ids, first, second), len(ids)), Row((*ids, first, wrong), len(ids))])
    assert right.tolist() == [1.0, 0.5]


def test_entropy_of_words() -> None:
    assert scores.entropy_of("one one one one one one") == 0.0
    # four different pairs: 2 bits; three different triples: log2(3)
    assert scores.entropy_of("a b c d e") == pytest.approx(2 / 3 + 2 / 3 * math.log2(3))
    assert scores.entropy_of("") == 0.0


def test_consistency_is_a_cosine() -> None:
    assert scores.consistency_of("Rome is old", ("Rome is old",)) == pytest.approx(1.0)
    assert scores.consistency_of("Rome", ("Paris",)) == 0.0
    assert 0 < scores.consistency_of("Rome is old", ("Rome is new",)) < 1
    assert math.isnan(scores.consistency_of("Rome", ()))


@pytest.mark.parametrize("editor", ["rome", "memit", "constrained_finetuning", "finetuning"])
def test_every_editor_is_asked_about_and_undone(editor: Any) -> None:
    model = tiny("gpt2", texts=TEXTS)
    before = trace(model)
    result = edit_evaluation(model, tiny_task(), editor=editor, layer=1, **FEW)
    assert not list(differences(before, trace(model)))
    assert result.data.sizes["fact"] == 2
    assert result.metrics["efficacy_magnitude"] != result.metrics["efficacy_magnitude_before"]


def test_together_is_one_model_with_all_facts() -> None:
    model = double("llama")
    apart, together = (edit_evaluation(model, tiny_task(), layer=1, together=each, **FEW) for each in (False, True))
    assert apart.metrics["efficacy_magnitude"] != together.metrics["efficacy_magnitude"]
    assert apart.metrics["score_before"] == together.metrics["score_before"]


def test_the_layer_has_its_own_control() -> None:
    model = double("llama")
    options: dict[str, Any] = {**FEW, "facts": 1, "steps": 1, "controls": 5, "random_layers": 5}
    result = edit_evaluation(model, capital(), layer=1, new_tokens=3, **options)
    chance, layers = result.checks
    assert chance.n == 5
    assert layers.n == 2, "of three layers two are others"
    assert "Layer 1" in layers.claim
    assert float(result.metrics["entropy"]) >= 0
    assert 0 <= float(result.metrics["consistency"]) <= 1


def test_files_in_the_public_formats_are_evaluated(tmp_path: Path) -> None:
    record = {
        "case_id": 0,
        "requested_rewrite": {
            "prompt": "The capital of {} is",
            "relation_id": "P36",
            "target_new": {"str": "Rome", "id": "Q220"},
            "target_true": {"str": "Paris", "id": "Q90"},
            "subject": "France",
        },
        "paraphrase_prompts": ["It is late. The capital of France is"],
        "neighborhood_prompts": ["The capital of Italy is"],
        "generation_prompts": ["France is"],
    }
    file = tmp_path / "counterfact.json"
    file.write_text(json.dumps([record]))
    model = double("llama")
    result = edit_evaluation(model, capital(), layer=1, file=str(file), **FEW)
    assert result.data["fact"].values.tolist() == ["0: The capital of France is Rome"]
    assert any("of the task none is used" in note for note in result.notes)


def test_an_editor_made_ready_gives_what_its_method_gives() -> None:
    from cutaway.data.edit_requests import requests_of
    from cutaway.methods.edit.rome import rome

    model = double("llama")
    made = ready(model, "rome", requests_of(capital())[0], layer=1, contexts=1, steps=3)
    (weights,) = made.edit(requests_of(capital())[0]).values()
    result = rome(model, capital(), layer=1, contexts=1, steps=3, controls=0, unrelated=1, other_facts=2)
    held = next(t for name, t in result.artifacts["weights"].tensors.items() if name.startswith("after/"))
    torch.testing.assert_close(weights, held)
