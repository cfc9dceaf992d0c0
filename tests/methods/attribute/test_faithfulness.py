"""Measures of faithfulness by hand, on networks of which the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.errors import ParameterError, TaskError
from cutaway.core.task import Task
from cutaway.methods.attribute import faithfulness_measures as measures
from cutaway.methods.attribute.compare_attributions import compare_attributions
from cutaway.methods.attribute.context_attribution import context_attribution, standing_out
from cutaway.methods.attribute.contrast_attributions import aligned, contrast_attributions
from cutaway.methods.attribute.deletion import scores_without
from cutaway.methods.attribute.faithfulness import faithfulness
from cutaway.methods.attribute.neutral import neutral_embedding
from cutaway.methods.attribute.targets import targets_of
from cutaway.models.model import Model


def test_curves_are_scores_of_texts_with_holes(model: Model, one: Task) -> None:
    targets = targets_of(model, one, "logit")
    nothing = neutral_embedding(model, "mean")
    each = measures.prediction(model, targets, 0, 0, nothing)
    assert each is not None
    order = measures.random_orders(each.inside, 1, seed=4)[0]
    out, left = measures.curves(model, targets, each, [order], nothing)
    for column, share in enumerate(measures.SHARES):
        size = max(1, round(share * len(order)))
        pair = scores_without(model, targets, 0, [order[:size], order[size:]], nothing)[:, 0]
        assert (out[0, column], left[0, column]) == pytest.approx(tuple(pair), abs=1e-9)
    found = measures.measures_of(each, out, left, signed=True)
    assert found["comprehensiveness"][0] == pytest.approx(each.whole - out[0].mean())
    assert found["sufficiency"][0] == pytest.approx(each.whole - left[0].mean())
    x, y = [0, *measures.SHARES, 1], [each.whole, *out[0], each.nothing]
    assert found["deletion"][0] == pytest.approx(np.trapezoid(y, x))


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_rank_agreement_is_spearman(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.integers(0, 4, 8).astype(float), random.normal(size=8)
    assert measures.rank_agreement(b, b) == pytest.approx(1)
    assert measures.rank_agreement(b, -b) == pytest.approx(-1)
    assert measures.rank_agreement(a, b) == pytest.approx(measures.rank_agreement(b, a))
    assert measures.rank_agreement(b, np.exp(b)) == pytest.approx(1)
    assert -1 - 1e-9 <= measures.rank_agreement(a, b) <= 1 + 1e-9
    assert measures.overlap(b, b, 0.3) == 1


def test_an_additive_score_is_fitted_perfectly(straight: Model, one: Task) -> None:
    """The straight network's score is additive (only the last token counts): its true map explains every set."""
    targets = targets_of(straight, one, "logit")
    zero = neutral_embedding(straight, "zero")
    each = measures.prediction(straight, targets, 0, 0, zero)
    assert each is not None
    sets = measures.random_sets(straight, targets, each, zero, 40, seed=0)
    truth = np.zeros(len(targets.ids[0]))
    costs = scores_without(straight, targets, 0, [(), [len(truth) - 1]], zero)[:, 0]
    truth[-1] = costs[0] - costs[1]
    found = measures.of_sets(truth, each, sets, signed=True)
    assert found["infidelity"] == pytest.approx(0, abs=1e-9)
    assert found["sensitivity_n"] == pytest.approx(1, abs=1e-6)
    wrong = measures.of_sets(truth[::-1].copy(), each, sets, signed=True)
    assert wrong["infidelity"] > 0.3 and wrong["sensitivity_n"] < 0.9


def test_a_true_map_beats_random_orders(straight: Model) -> None:
    """The last token decides: wherever taking it out lowers the score, occlusion ranks it first and passes."""
    prompts = ["When Mary and John went to the store, John gave a drink to"]
    for answer in (" Mary", " John", " the"):
        task = Task.from_prompts(prompts, answers=[answer])
        result = faithfulness(straight, task, of="occlusion", score="logit", orders=20, neutral="zero")
        comprehensiveness, insertion = result.checks
        assert comprehensiveness.n == 20 and set(result.metrics) >= {"infidelity", "sensitivity_n", "deletion"}
        if comprehensiveness.measured > 1e-6:
            # An order by chance can begin with the last token too, but none can do better.
            assert comprehensiveness.measured > comprehensiveness.control
            assert comprehensiveness.measured == pytest.approx(comprehensiveness.interval[1], abs=1e-6)
            assert insertion.measured >= insertion.control
            return
    pytest.fail("no answer that the last token speaks for")


def test_gaps_are_reported_where_maps_are_meant_to_add_up(model: Model, one: Task) -> None:
    assert "gap_to_prompt" in faithfulness(model, one, of="kernel_shap", orders=5, subsets=8).metrics
    assert "gap_to_prompt" not in faithfulness(model, one, of="saliency", orders=5, subsets=8).metrics


def test_comparison_says_which_to_trust(straight: Model) -> None:
    task = Task.from_prompts(["When Mary and John went to the store, John gave a drink to"], answers=[" John"])
    result = compare_attributions(
        straight, task, methods=("occlusion", "attention_map", "deep_lift"), score="logit", neutral="zero", orders=10
    )
    agreement = result.data["rank_agreement"].values
    assert np.allclose(np.diag(agreement), 1) and np.allclose(agreement, agreement.T)
    best = result.data["method"].values[int(np.argmax(result.data["lead"].values))]
    if result.checks[0].passed:
        assert result.metrics["trust_here"] == best and f"Trust {best} here" in result.notes[-1]
    else:
        assert result.metrics["trust_here"] == "none" and "trust none" in result.notes[-1]


def test_without_two_tokens_nothing_is_tested(model: Model) -> None:
    with pytest.raises(TaskError, match="No prompt has two tokens"):
        faithfulness(model, Task.from_prompts(["When"]), orders=5)


@given(st.lists(st.sampled_from("abcd"), max_size=8), st.lists(st.sampled_from("abcd"), max_size=8))
def test_alignment_keeps_every_token_once_and_in_order(first: list[str], second: list[str]) -> None:
    pairs = aligned(first, second)
    assert [a for a, _ in pairs if a is not None] == list(range(len(first)))
    assert [b for _, b in pairs if b is not None] == list(range(len(second)))
    if first == second:
        assert all(a == b for a, b in pairs)


def test_a_text_does_not_differ_from_itself(model: Model, one: Task) -> None:
    same = contrast_attributions(model, one, other=one.prompts[0], continuation=" Mary and", controls=5)
    difference = same.data["difference"].values
    seen = ~np.isnan(same.data["first"].values)
    assert np.allclose(difference[seen], 0, atol=1e-7)
    assert np.isnan(difference[~seen]).all()
    assert (~seen).sum(axis=1).tolist() == [1, 0]  # a target sees the prompt and what was written before it
    longer = contrast_attributions(model, one, other="Then " + one.prompts[0], continuation=" Mary", controls=0)
    assert longer.data.sizes["pair_number"] > same.data.sizes["pair_number"]
    assert "∅" in str(longer.data["pair"].values.tolist())
    with pytest.raises(ParameterError, match="two texts are compared"):
        contrast_attributions(model, Task.from_prompts(["When Mary"]))


def test_context_is_scored_against_its_absence(model: Model) -> None:
    task = Task.from_prompts([" John gave a drink to"])
    result = context_attribution(
        model, task, context="When Mary and John went to the store,", continuation=" Mary and John", controls=5
    )
    whole = targets_of(
        model,
        Task.from_prompts(["When Mary and John went to the store, John gave a drink to"]),
        "logit",
        continuation=" Mary and John",
    )
    context = len(model.encode("When Mary and John went to the store,"))
    ids, start = list(whole.ids[0]), 1 if model.tokenizer.bos_token_id == whole.ids[0][0] else 0
    with_it = model.run([ids]).logits[0].log_softmax(-1)
    without = model.run([ids[:start] + ids[context:]]).logits[0].log_softmax(-1)
    for target, position in enumerate(whole.positions[0]):
        p, q = with_it[position], without[position - (context - start)]
        assert result.data["sensitivity"].values[target] == pytest.approx(float((p.exp() * (p - q)).sum()), abs=1e-5)
    attribution = result.data["attribution"].values
    sensitive = result.data["sensitive"].values
    assert sensitive.any() and np.isnan(attribution[~sensitive]).all()
    assert np.isfinite(attribution[sensitive][:, start:context]).all() and np.isnan(attribution[:, context:]).all()


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=10), st.integers(1, 4))
def test_what_stands_out(values: list[float], most: int) -> None:
    array = np.array(values)
    assert standing_out(array, 0.0, most).sum() >= min(most, len(array))
    edge = standing_out(array, 1.0, None)
    assert (array[edge] > array.mean() + array.std()).all()
    assert not standing_out(np.array([np.nan, np.nan]), 1.0, None).any()
