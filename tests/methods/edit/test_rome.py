"""ROME on tiny networks: the formula on real keys, the search for the value, and what is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.methods.edit.conftest import capital, double

from cutaway.core.artifact import Artifact
from cutaway.core.errors import MethodError, ParameterError, TaskError
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.data.edit_requests import NO_SUBJECT, EditRequest, requests_of
from cutaway.methods import key_statistics
from cutaway.methods.edit import layer_choice
from cutaway.methods.edit import rome as module
from cutaway.methods.edit.rome import keys_of, rome, write
from cutaway.methods.edit.rows import row_of_request
from cutaway.methods.edit.target_value import Settings, contexts_for, find
from cutaway.models import weight_edit
from cutaway.models.trial import down_projection
from cutaway.models.weight_edit import applied, changed
from cutaway.testing import tiny, tiny_task
from cutaway.testing.traces import differences, trace

FEW: dict[str, Any] = {"controls": 0, "steps": 8, "contexts": 2, "unrelated": 1, "other_facts": 2}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_averaged_key_gives_the_value_and_the_change_has_rank_one(family: Any) -> None:
    model = double(family)
    requests, _ = requests_of(capital())
    matrix = down_projection(model, 1)
    moment = torch.eye(matrix.weight.shape[-1], dtype=torch.float64)
    contexts = ("", "It was late. ")
    (written,) = write(model, requests, matrix, moment, contexts, Settings(steps=6))
    change = written.weights.T - matrix.weight if matrix.transposed else written.weights - matrix.weight
    assert int(torch.linalg.matrix_rank(change)) == 1
    mean = keys_of(model, requests[0], 1, contexts).mean(dim=0)
    with changed(model, {matrix.name: written.weights}):
        given = matrix.weight @ mean + (0 if matrix.bias is None else matrix.bias)
    torch.testing.assert_close(given, written.value, atol=1e-8, rtol=1e-6)


def test_with_one_context_the_edited_model_gives_the_value_at_the_subject() -> None:
    model = double("llama")
    requests, _ = requests_of(capital())
    matrix = down_projection(model, 1)
    (written,) = write(model, requests, matrix, torch.eye(64), ("",), Settings(steps=6))
    row = row_of_request(model, requests[0])
    with changed(model, {matrix.name: written.weights}):
        now = model.run([row.asked], read=f"mlp_out[1]@{row.place}", logits="none")[f"mlp_out[1]@{row.place}"][0]
    torch.testing.assert_close(now, written.value, atol=1e-8, rtol=1e-6)
    assert written.match == pytest.approx(1.0)


def test_the_search_makes_the_answer_likely_within_its_bound() -> None:
    model = double("llama")
    request = EditRequest(
        "The capital of ", "France", "", " Rome"
    )  # the subject is the last token: it reaches the answer
    site = Site("mlp_out", 1)
    found = find(model, request, site, ("",), Settings(steps=40, bound=30.0, stay=0.0, short=0.0))
    assert found.loss[-1] < 0.5 * found.loss[0]
    tight = find(model, request, site, ("",), Settings(steps=10, bound=0.5))
    assert float(tight.added.norm()) <= 0.5 * float(tight.value.norm()) * (1 + 1e-5)


def test_every_token_of_an_answer_counts() -> None:
    """The first loss is the mean over the answer's tokens, from one plain run."""
    model = double("llama")
    request = EditRequest("The capital of ", "France", " is", " Rome Madrid Paris")
    row = row_of_request(model, request)
    assert len(row.answer) == 3
    found = find(model, request, Site("mlp_out", 1), ("",), Settings(steps=1))
    logs = model.hf(torch.tensor([row.ids])).logits[0].detach().log_softmax(-1)
    each = [float(logs[row.start - 1 + i, token]) for i, token in enumerate(row.answer)]
    assert found.loss[0] == pytest.approx(-np.mean(each), abs=1e-5)


def test_what_the_model_says_of_the_subject_holds_the_search_back() -> None:
    model = double("llama")
    request = EditRequest("The capital of ", "France", " is", " Rome")
    free = find(model, request, Site("mlp_out", 1), ("",), Settings(steps=10, stay=0.0))
    held = find(model, request, Site("mlp_out", 1), ("",), Settings(steps=10, stay=50.0))
    assert held.loss[-1] > free.loss[-1]


def test_a_result_has_its_edit_and_the_model_is_as_it_was() -> None:
    model = tiny("llama", texts=["The capital of France is Paris Rome"])
    before = trace(model)
    result = rome(model, capital(), layer=1, **{**FEW, "controls": 5})
    assert not list(differences(before, trace(model)))
    edit = result.artifacts["weights"]
    assert edit.about["facts"] == [{"prompt": "The capital of France is", "subject": "France", "answer": " Rome"}]
    row = row_of_request(model, requests_of(capital())[0][0])

    def answered() -> float:
        return float(model.hf(torch.tensor([row.asked])).logits[0, -1].detach().softmax(-1)[row.answer[0]])

    assert result.metrics["probability_of_the_new_answer_before"] == pytest.approx(answered(), rel=1e-4)
    with applied(model, edit):
        assert result.metrics["probability_of_the_new_answer"] == pytest.approx(answered(), rel=1e-4)
    assert not list(differences(before, trace(model)))
    assert {check.n for check in result.checks} == {5}


def test_facts_are_written_on_top_of_each_other() -> None:
    model = double("gpt2")
    requests, _ = requests_of(tiny_task())
    matrix = down_projection(model, 1)
    moment, settings = torch.eye(128), Settings(steps=3)
    both = write(model, requests[:2], matrix, moment, ("",), settings)
    with changed(model, {matrix.name: both[0].weights}):
        (second,) = write(model, requests[1:2], matrix, moment, ("",), settings)
    torch.testing.assert_close(both[1].weights, second.weights)


def test_the_mixed_key_is_another_edit() -> None:
    model = double("llama")
    one, two = (rome(model, capital(), layer=1, key=key, **FEW).artifacts["weights"] for key in ("averaged", "mixed"))
    assert one.id != two.id


def test_beginnings_are_the_models_own_and_follow_the_seed() -> None:
    model = double("llama")
    first = contexts_for(model, 4, 0)
    assert first[0] == ""
    assert len(first) == 5
    assert first == contexts_for(model, 4, 0) != contexts_for(model, 4, 1)
    assert all(text.endswith(". ") for text in first[1:])
    assert contexts_for(model, 0, 0) == ("",)


def test_the_layer_is_traced_or_a_third_of_the_way_up() -> None:
    model = double("llama")
    requests, _ = requests_of(capital())
    chosen, back, notes = layer_choice.chosen(model, None, requests, 0)
    assert chosen == 1, "neither the first of three layers nor the last"
    assert back.shape == (3,)
    assert abs(float(back[2])) < 1e-9, "what the last layer gives at the subject reaches no other token"
    assert "quick causal trace" in notes[0]
    bare, notes = requests_of(Task.from_prompts("The capital of France is", answers=" Rome"))
    assert notes == (NO_SUBJECT,)
    assert layer_choice.chosen(model, None, bare, 0)[0] == 1
    with pytest.raises(ParameterError, match=r"layer is 7;.*3 layers, 0 to 2.*quick trace"):
        rome(model, capital(), layer=7)


def test_a_trace_is_what_plain_runs_with_the_same_noise_give() -> None:
    from cutaway.core.edit import replace

    model = double("llama")
    (request,), _ = requests_of(capital())
    back = layer_choice.chosen(model, None, [request], 3)[1]
    row = row_of_request(model, request, request.true)
    run = model.run([row.asked], read="embed, mlp_out[1]")
    generator = torch.Generator().manual_seed(3)
    gains = []
    for _ in range(layer_choice.DRAWS):
        noise = torch.randn(1, 32, generator=generator).double()
        noised = run["embed"][0, [row.place]] + 3.0 * run["embed"][0].std() * noise
        drowned = [replace(f"embed@{row.place}", noised)]
        put_back = [*drowned, replace(f"mlp_out[1]@{row.place}", run["mlp_out[1]"][0, row.place])]
        logs = [
            float(model.run([row.asked], edit=edits, logits="last").last_logits[0].log_softmax(-1)[row.answer[0]])
            for edits in (drowned, put_back)
        ]
        gains.append(logs[1] - logs[0])
    assert float(back[1]) == pytest.approx(np.mean(gains), abs=1e-5)


def test_statistics_are_the_second_moment_and_come_from_a_file(tmp_path: Path) -> None:
    model = double("gpt2")
    texts = ("The capital of France is Paris", "The capital of Italy is Rome")
    (tmp_path / "corpus.txt").write_text("\n\n".join(texts))
    found, source = key_statistics.texts_for(str(tmp_path / "corpus.txt"), 0)
    assert (found, source) == (texts, "corpus.txt")
    made = key_statistics.key_statistics(model, [0, 1], found, source)
    keys = [model.run(text, read="mlp_act[1]", logits="none")["mlp_act[1]"][0] for text in texts]
    every = torch.cat(keys)
    torch.testing.assert_close(made.tensors["layer.1"].double(), every.T @ every / len(every), atol=1e-5, rtol=1e-5)
    assert made.about["tokens"] == len(every)
    (said,) = key_statistics.said_of(made)
    assert "fewer than the 128 neurons" in said
    torch.linalg.cholesky(key_statistics.moment_of(made, 1))
    made.save(tmp_path / "c.safetensors")
    one = rome(model, capital(), layer=1, statistics=str(tmp_path / "c.safetensors"), **FEW)
    two = rome(model, capital(), layer=1, corpus=str(tmp_path / "corpus.txt"), **FEW)
    assert one.metrics["key_match"] == pytest.approx(two.metrics["key_match"])
    with pytest.raises(ParameterError, match=r"layer 2 has no key statistics.*it has: 0, 1"):
        rome(model, capital(), layer=2, statistics=str(tmp_path / "c.safetensors"), **FEW)
    with pytest.raises(ParameterError, match="there is no file 'absent.txt'"):
        rome(model, capital(), layer=1, corpus="absent.txt", **FEW)
    with pytest.raises(ParameterError, match="has no key statistics"):
        key_statistics.moment_of(Artifact("direction", {"v": torch.ones(1)}), 0)


def test_the_subject_is_named_by_position_by_words_or_by_a_blank() -> None:
    given = Task.from_prompts("The capital of {} is", answers=" Rome")
    (blank,), _ = requests_of(given, "France")
    (words,), _ = requests_of(Task.from_prompts("The capital of France is", answers=" Rome"), "France")
    (position,), _ = requests_of(capital())
    assert blank == words
    assert (words.before, words.subject, words.after) == (position.before, position.subject, position.after)
    with pytest.raises(TaskError, match=r"the subject 'Spain' is not in prompt 0.*subject=France"):
        rome(double("llama"), capital(), subject="Spain")
    with pytest.raises(MethodError, match="answers"):
        rome(double("llama"), "The capital of France is")


def test_a_cancelled_edit_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    before = trace(model)

    def broken(*args: Any, **kwargs: Any) -> Any:
        assert weight_edit.digest(down_projection(model, 1).weight)
        raise RuntimeError("halfway")

    monkeypatch.setattr(module, "find", broken)
    with pytest.raises(RuntimeError, match="halfway"):
        rome(model, tiny_task(), layer=1, **FEW)
    assert not list(differences(before, trace(model)))
