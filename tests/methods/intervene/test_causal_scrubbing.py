"""Causal scrubbing against runs put together by hand, and its two ends."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from cutaway.core.edit import replace
from cutaway.core.errors import ModelError, ParameterError
from cutaway.core.site import Site
from cutaway.core.task import EncodedTask
from cutaway.methods.hypothesis import Node, Sampler, features_of, parse_hypothesis, require_features
from cutaway.methods.intervene.causal_scrubbing import causal_scrubbing, other_parts
from cutaway.methods.scrubbing import Scrub, any_prompt, whole_model
from cutaway.models.model import Model
from cutaway.testing import tiny, tiny_task


@functools.cache
def double(family: Any) -> Model:
    model = tiny(family)
    model.hf.double()
    return model


@dataclass
class Scripted:
    """Draws what a script says, in the order in which draws are made."""

    script: list[list[int]]

    def like(self, prompts: Sequence[int], agree: Sequence[str], random: Any) -> list[int]:
        return self.script.pop(0)


def losses(model: Model, tree: Node, script: list[list[int]], prompts: list[int]) -> np.ndarray[Any, Any]:
    encoded = tiny_task().encode(model.tokenizer)
    sampler: Any = Scripted(script)
    return Scrub(model, encoded, sampler).losses(tree, prompts, np.random.default_rng(0))


def loss_of(logits: torch.Tensor, encoded: EncodedTask, prompt: int) -> float:
    right, wrong = logits[encoded.answer_ids[prompt][0]], logits[encoded.wrong_ids[prompt][0]]
    return float(torch.nn.functional.softplus(wrong - right))


def patched(model: Model, encoded: EncodedTask, into: int, values: dict[str, torch.Tensor], read: str = "") -> Any:
    edits = [replace(site, value) for site, value in values.items()]
    return model.run([list(encoded.ids[into])], edit=edits, read=read, logits="last")


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_leaf_comes_from_its_own_prompt_and_the_rest_from_another(family: str) -> None:
    model = double(family)
    encoded = tiny_task().encode(model.tokenizer)
    tree = parse_hypothesis("z[1].head[2] ~ answer")
    found = losses(model, tree, [[1, 0], [0, 1]], [0, 1])  # first the rest, then the leaf
    for place, (rest, leaf) in enumerate([(1, 0), (0, 1)]):
        value = model.run([list(encoded.ids[leaf])], read="z[1].head[2]")["z[1].head[2]"]
        run = patched(model, encoded, rest, {"z[1].head[2]": value})
        assert found[place] == pytest.approx(loss_of(run.last_logits[0], encoded, place), abs=1e-6)


def test_a_node_with_a_child_runs_on_a_prompt_by_lot_with_the_child_put_in() -> None:
    model = double("llama")
    encoded = tiny_task().encode(model.tokenizer)
    tree = parse_hypothesis("late: z[2].head[1] ~ answer; z[0].head[3] ~ template > late")
    found = losses(model, tree, [[1], [0], [1], [1]], [0])  # the rest; the node's prompt; its child's; its own rest
    child = model.run([list(encoded.ids[1])], read="z[0].head[3]")["z[0].head[3]"]
    late = patched(model, encoded, 1, {"z[0].head[3]": child}, read="z[2].head[1]")["z[2].head[1]"]
    run = patched(model, encoded, 1, {"z[2].head[1]": late})
    assert found[0] == pytest.approx(loss_of(run.last_logits[0], encoded, 0), abs=1e-6)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_direct_path_changes_the_last_stream_alone(family: str) -> None:
    model = double(family)
    encoded = tiny_task().encode(model.tokenizer)
    tree = parse_hypothesis("z[0].head[2] ~ answer direct; mlp_contrib[1] ~ answer direct")
    found = losses(model, tree, [[1], [0], [1]], [0])
    reads = "z[0].head[2]@-1, mlp_contrib[1]@-1, resid_post[2]@-1"
    rest, head, mlp = (model.run([list(encoded.ids[p])], read=reads) for p in (1, 0, 1))
    stream = rest["resid_post[2]@-1"]
    stream = stream + (head["z[0].head[2]@-1"] - rest["z[0].head[2]@-1"]) @ model.W_O(0)[2].detach()
    stream = stream + mlp["mlp_contrib[1]@-1"] - rest["mlp_contrib[1]@-1"]
    with torch.no_grad():
        logits = model.unembed(stream)[0]
    assert found[0] == pytest.approx(loss_of(logits, encoded, 0), abs=1e-5)


def test_a_direct_path_into_a_head_passes_by_what_lies_between() -> None:
    model = double("llama")
    encoded = tiny_task().encode(model.tokenizer)
    tree = parse_hypothesis("late: z[2].head[1] ~ answer; z[0].head[3] ~ answer direct > late")
    found = losses(model, tree, [[1], [0], [0], [1]], [0])
    source = model.run([list(encoded.ids[0])], read="z[0].head[3]")["z[0].head[3]"]
    rest = model.run([list(encoded.ids[1])], read="z[0].head[3], resid_pre[2]")
    stream = rest["resid_pre[2]"] + (source - rest["z[0].head[3]"]) @ model.W_O(0)[3].detach()
    late = patched(model, encoded, 1, {"resid_pre[2]": stream}, read="z[2].head[1]")["z[2].head[1]"]
    run = patched(model, encoded, 1, {"z[2].head[1]": late})
    assert found[0] == pytest.approx(loss_of(run.last_logits[0], encoded, 0), abs=1e-6)


def test_the_two_ends() -> None:
    model = double("gpt2")
    encoded = tiny_task().encode(model.tokenizer)
    scrub = Scrub(model, encoded, Sampler(features_of(encoded), [len(ids) for ids in encoded.ids]))
    prompts, random = list(range(len(encoded))), np.random.default_rng(0)
    plain = model.run(encoded, logits="last").last_logits
    own = [loss_of(plain[p], encoded, p) for p in prompts]
    np.testing.assert_allclose(scrub.losses(whole_model(), prompts, random), own, atol=1e-6)
    # Everything that a prompt's whole stream says comes from it: nothing is left to exchange.
    everything = parse_hypothesis("resid_pre[0] ~ prompt")
    np.testing.assert_allclose(scrub.losses(everything, prompts, random), own, atol=1e-6)
    by_lot = np.mean([scrub.losses(any_prompt(), prompts, random) for _ in range(64)], axis=0)
    for p, group in enumerate([(0, 1), (0, 1), (2, 3), (2, 3)]):
        one, two = (loss_of(plain[q], encoded, p) for q in group)
        assert by_lot[p] == pytest.approx((one + two) / 2, abs=4 * abs(one - two) / 2 / 8)  # four standard errors


def test_one_hypothesis_is_as_good_as_the_model_and_one_as_bad_as_chance() -> None:
    model = tiny("llama")
    good = causal_scrubbing(model, tiny_task(), hypothesis="resid_post[2]@end ~ prompt", samples=3, controls=0)
    bad = causal_scrubbing(model, tiny_task(), hypothesis="z[0].head[0] ~ *", samples=3, controls=0)
    assert good.metrics["recovered"] == pytest.approx(1.0, abs=1e-4)
    assert bad.metrics["recovered"] != pytest.approx(1.0, abs=1e-2)
    assert any("others to be exchanged for" in note for note in good.notes)


def test_a_sampler_draws_prompts_that_agree() -> None:
    encoded = tiny_task().encode(tiny("llama").tokenizer)
    features = features_of(encoded)
    assert {"prompt", "answer", "wrong", "template", "subject"} == set(features)
    sampler = Sampler({**features, "half": [0, 1, 0, 1]}, [5, 5, 5, 5])
    random = np.random.default_rng(0)
    drawn = np.array([sampler.like([0, 1, 2, 3], ["half"], random) for _ in range(60)])
    assert set(drawn[:, 0]) == {0, 2} and set(drawn[:, 3]) == {1, 3}
    assert sampler.choices(["half"]) == 2 and sampler.choices([]) == 4 and sampler.choices(["prompt"]) == 1
    shuffled = sampler.with_shuffled_features(np.random.default_rng(1))
    assert sorted(shuffled.shuffled or ()) == [0, 1, 2, 3]


def test_clauses_make_a_tree() -> None:
    tree = parse_hypothesis("a: z[1].head[0], z[2].head[*] ~ x + y direct; resid_pre[1]@end ~ * > a; mlp_out[0] ~ x")
    first, other = tree.children
    assert (first.name, first.agree, first.direct, len(first.sites)) == ("a", ("x", "y"), True, 2)
    assert first.children[0].agree == () and first.children[0].sites == (Site.parse("resid_pre[1]@end"),)
    assert other.name == "part 3" and not other.direct


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("z[1] = answer", "the clause 'z\\[1\\] = answer' does not parse; a clause is `name: sites ~ features"),
        ("a: z[1] ~ x; a: z[2] ~ x", "two nodes are called 'a'; each has a name of its own"),
        ("a: z[1] ~ x > b", "the node 'a' goes into 'b', which is no other node"),
    ],
)
def test_clauses_that_make_none_are_refused(text: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        parse_hypothesis(text)


def test_unknown_features_and_impossible_paths_are_refused() -> None:
    model = tiny("llama")
    with pytest.raises(
        ParameterError, match="names the feature 'anwser', which the prompts do not have; did you mean 'answer'"
    ):
        causal_scrubbing(model, tiny_task(), hypothesis="z[1] ~ anwser")
    with pytest.raises(ModelError, match=r"'resid_post\[1\]' has no direct path that is a sum in LlamaForCausalLM"):
        causal_scrubbing(model, tiny_task(), hypothesis="resid_post[1] ~ answer direct", controls=0)
    require_features(parse_hypothesis("z[1] ~ *"), {})


def test_other_parts_keep_kind_and_shape() -> None:
    model = tiny("llama")
    tree = parse_hypothesis("a: z[2].head[1] ~ answer; z[1].head[0] ~ answer > a")
    for other in other_parts(model, tree, 6, 0):
        (node,) = other.children
        assert node.sites[0].layer == 2 and node.sites[0].head != 1
        assert node.children[0].sites[0].layer == 1 and node.children[0].sites[0].head != 0
    assert other_parts(model, parse_hypothesis("resid_post[*] ~ answer"), 5, 0) == []
