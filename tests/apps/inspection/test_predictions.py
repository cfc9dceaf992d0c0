"""Tokens, next tokens, greedy text and ablations agree with the network's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cutaway.apps.inspection.requests import REQUESTS
from cutaway.core.edit import ablate as taken_out
from cutaway.core.errors import CutawayError, ModelError, ParameterError, TaskError

TEXT = "When Mary and John went to the store, John gave a drink to"


def ask(model, name, **arguments):
    return REQUESTS[name](model, arguments)


class TestTokens:
    def test_they_are_what_the_model_reads(self, llama):
        found = ask(llama, "tokenize", text=TEXT)
        assert found["ids"] == llama.encode(TEXT) and found["tokens"][0] == "<s>"
        assert [TEXT[a:b] for a, b in found["spans"][1:]] == found["tokens"][1:]

    def test_an_empty_text_has_none_of_its_own(self, llama):
        assert ask(llama, "tokenize", text="")["tokens"] == ["<s>"]

    @pytest.mark.parametrize("text", [None, 3, ["a"]])
    def test_what_is_no_text_is_refused(self, llama, text):
        with pytest.raises(ParameterError, match="It is a text"):
            ask(llama, "tokenize", text=text)


class TestNext:
    def test_it_is_the_softmax_of_the_last_logits(self, llama):
        found = ask(llama, "next", text=TEXT, top=5)
        logits = llama.run(TEXT, logits="last").last_logits[0]
        expected = logits.softmax(-1)
        assert [c["id"] for c in found["tokens"]] == logits.argsort(descending=True)[:5].tolist()
        for c in found["tokens"]:
            assert c["probability"] == pytest.approx(float(expected[c["id"]]), rel=1e-5)
            assert c["logit"] == pytest.approx(float(logits[c["id"]]), rel=1e-5)
            assert c["text"] == llama.token_strings([c["id"]])[0]
        assert found["entropy"] == pytest.approx(float(-(expected * expected.log()).sum()), rel=1e-4)
        assert found["n_tokens"] == len(llama.encode(TEXT))

    def test_an_edit_changes_it_as_model_run_does(self, llama):
        site = "z[1].head[2]"
        found = ask(llama, "next", text=TEXT, top=1, edit=[{"do": "zero", "site": site}])
        logits = llama.run(TEXT, edit=taken_out(site, "zero"), logits="last").last_logits[0]
        assert found["tokens"][0]["logit"] == pytest.approx(float(logits.max()), rel=1e-5)
        plain = llama.run(TEXT, logits="last").last_logits[0]
        assert not torch.equal(plain, logits)

    @pytest.mark.parametrize(
        "edit", [{"do": "mean", "site": "mlp_out[1]"}, {"do": "scale", "site": "resid_mid[1]", "factor": 0.5}]
    )
    def test_other_edits_have_an_effect(self, llama, edit):
        changed = ask(llama, "next", text=TEXT, top=1, edit=[edit])
        assert changed["tokens"][0]["logit"] != ask(llama, "next", text=TEXT, top=1)["tokens"][0]["logit"]

    def test_a_random_direction_follows_from_its_seed(self, llama):
        def pushed(seed):
            edit = [{"do": "add_random", "site": "resid_post[1]", "seed": seed, "norm": 5.0}]
            return ask(llama, "next", text=TEXT, top=1, edit=edit)["tokens"][0]["logit"]

        assert pushed(1) == pushed(1) != pushed(2)

    def test_an_unknown_edit_names_the_nearest(self, llama):
        with pytest.raises(ParameterError, match="did you mean 'zero'"):
            ask(llama, "next", text=TEXT, edit=[{"do": "zeros", "site": "mlp_out[1]"}])

    def test_an_encoder_predicts_no_next_token(self, encoder):
        with pytest.raises(ModelError, match="does not predict a next token"):
            ask(encoder, "next", text=TEXT)

    @pytest.mark.parametrize("top", [0, 201, "many", True, None])
    def test_a_wrong_number_is_refused(self, llama, top):
        with pytest.raises(ParameterError, match="whole number from 1 to 200"):
            ask(llama, "next", text=TEXT, top=top)


class TestGenerate:
    def test_it_is_the_argmax_fed_back(self, llama):
        found = ask(llama, "generate", text=TEXT, max_new_tokens=3)
        ids = llama.encode(TEXT)
        for token in found["ids"]:
            assert token == int(llama.run([ids], logits="last").last_logits[0].argmax())
            ids.append(token)
        assert found["text"] == TEXT + "".join(found["tokens"])


class TestAblate:
    def test_before_and_after_are_those_of_model_run(self, llama):
        found = ask(llama, "ablate", text=TEXT, sites=["z[1].head[2]", "mlp_out[0]"], answer=" Mary", controls=5)
        token = llama.token_id(" Mary")
        plain = llama.run(TEXT, logits="last").last_logits[0].softmax(-1)
        edits = [taken_out("z[1].head[2]", "zero"), taken_out("mlp_out[0]", "zero")]
        after = llama.run(TEXT, edit=edits, logits="last").last_logits[0].softmax(-1)
        assert found["answer"]["token"] == " Mary"
        assert found["answer"]["probability_before"] == pytest.approx(float(plain[token]), rel=1e-5)
        assert found["answer"]["probability_after"] == pytest.approx(float(after[token]), rel=1e-5)
        assert found["after"][0]["id"] == int(after.argmax())

    def test_each_control_takes_out_as_many_of_the_same_kind(self, llama):
        """With one head of twelve, every control is one of the other eleven."""
        found = ask(llama, "ablate", text=TEXT, sites=["z[1].head[2]"], answer=" Mary", controls=30)
        token = llama.token_id(" Mary")
        others = {}
        for layer in range(3):
            for head in range(4):
                if (layer, head) != (1, 2):
                    edit = taken_out(f"z[{layer}].head[{head}]", "zero")
                    logits = llama.run(TEXT, edit=edit, logits="last").last_logits[0]
                    others[layer, head] = float(logits.softmax(-1)[token])
        values = np.array(found["control"]["values"])
        assert found["control"]["n"] == 30
        gaps = np.abs(values[:, None] - np.array(list(others.values()))[None]).min(axis=1)
        assert gaps.max() < 1e-6
        low, high = found["control"]["low"], found["control"]["high"]
        assert low <= found["control"]["mean"] <= high
        assert found["control"]["outside"] == (not low <= found["answer"]["probability_after"] <= high)

    def test_the_seed_decides_the_control(self, llama):
        def values(seed):
            return ask(llama, "ablate", text=TEXT, sites=["z[0].head[1]"], controls=8, seed=seed)["control"]["values"]

        assert values(3) == values(3) != values(4)

    def test_neurons_are_drawn_from_their_own_layer(self, llama):
        found = ask(
            llama, "ablate", text=TEXT, sites=["mlp_act[1].unit[5]", "mlp_act[1].unit[9]"], controls=6, do="mean"
        )
        assert found["control"]["n"] == 6 and len(found["sites"]) == 2

    def test_without_other_parts_there_is_no_control(self, llama):
        assert ask(llama, "ablate", text=TEXT, sites=["mlp_out[*]"], controls=4)["control"] is None

    def test_the_answer_is_the_prediction_unless_one_is_named(self, llama):
        found = ask(llama, "ablate", text=TEXT, sites=["mlp_out[2]"], controls=0)
        assert found["answer"]["id"] == found["before"][0]["id"] and found["control"] is None

    @pytest.mark.parametrize("sites", [[], "", None, [3]])
    def test_sites_are_needed(self, llama, sites):
        with pytest.raises(ParameterError, match="It is a list of sites"):
            ask(llama, "ablate", text=TEXT, sites=sites)

    def test_a_layer_that_does_not_exist_is_refused(self, llama):
        with pytest.raises(CutawayError, match="layer 9"):
            ask(llama, "ablate", text=TEXT, sites=["z[9].head[0]"])


def test_a_text_that_is_too_long_is_refused(llama):
    with pytest.raises(TaskError, match="takes 256 at most"):
        ask(llama, "next", text=" Mary" * 300)
