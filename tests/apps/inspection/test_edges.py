"""Testing one edge is what the edge engine says, and an edge that matters stands out from random ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cutaway.apps.inspection.requests import REQUESTS
from cutaway.core.errors import ParameterError, SiteError, TaskError
from cutaway.models import edges
from cutaway.models.encode import Encoded
from cutaway.models.toy_programs import program

TEXT = "When Mary and John went to the store, John gave a drink to"
OTHER = "When Mary and John went to the store, Mary gave a drink to"


def test_it_is_the_prediction_with_that_edge_changed(llama):
    found = REQUESTS["edge"](
        llama, {"text": TEXT, "contrast": OTHER, "edge": "z[0].head[1] -> mlp_in[1]", "controls": 5}
    )
    ids, other = (Encoded((tuple(llama.encode(text)),)) for text in (TEXT, OTHER))
    engine = edges.prepare(llama, ids, edges.of_prompts(llama, other))
    logits = engine.logits(engine.graph.mask([found["edge"]]))[0, 0]
    assert found["after"][0]["id"] == int(logits.argmax())
    assert found["after"][0]["logit"] == pytest.approx(float(logits.max()), rel=1e-4)
    plain = llama.run(TEXT, logits="last").last_logits[0]
    assert found["before"][0]["logit"] == pytest.approx(float(plain.max()), rel=1e-4)
    expected = (plain.softmax(-1) * (plain.log_softmax(-1) - logits.log_softmax(-1))).sum()
    assert found["kl"] == pytest.approx(float(expected), abs=1e-6)
    assert found["control"]["n"] == 5
    assert found["control"]["low"] <= found["control"]["high"]


def test_an_edge_of_a_program_stands_out_and_an_idle_one_does_not():
    one = program("gates")
    compiled = one.compiled(dtype=torch.float32)
    asked = {"text": "0 0 1 =", "contrast": "0 0 0 =", "controls": 20}
    last = next(str(e) for e in compiled.true_edges if e.target.kind == "logits")
    found = REQUESTS["edge"](compiled.model, {**asked, "edge": last})
    assert found["logit_difference"]["before"] == pytest.approx(6.0, abs=1e-3)
    assert found["logit_difference"]["after"] == pytest.approx(-6.0, abs=1e-3)
    assert found["control"] is None or found["kl"] > found["control"]["high"]
    idle = REQUESTS["edge"](compiled.model, {**asked, "edge": "mlp_contrib[0] -> logits"})
    assert idle["kl"] == pytest.approx(0.0, abs=1e-5)
    assert not np.isnan(idle["logit_difference"]["after"])


def test_texts_of_different_length_and_edges_that_are_not_there_are_refused(llama):
    with pytest.raises(TaskError, match=r"tokens and the contrast .*\n?.*equally long"):
        REQUESTS["edge"](llama, {"text": TEXT, "contrast": "When Mary", "edge": "embed -> logits"})
    with pytest.raises(SiteError, match="does not exist"):
        REQUESTS["edge"](llama, {"text": TEXT, "contrast": OTHER, "edge": "z[2].head[0] -> mlp_in[0]"})
    with pytest.raises(SiteError, match="is not an edge"):
        REQUESTS["edge"](llama, {"text": TEXT, "contrast": OTHER, "edge": "z[2].head[0]"})


def _logits(found, when="after"):
    return {one["id"]: one["logit"] for one in found[when]}


def test_at_some_tokens_it_is_the_edge_there_alone(llama):
    asked = {"text": TEXT, "contrast": OTHER, "edge": "embed -> v[1].head[0]", "controls": 5}
    ids, other = (llama.encode(text) for text in (TEXT, OTHER))
    differs = [place for place, (a, b) in enumerate(zip(ids, other, strict=True)) if a != b]
    same = [place for place in range(len(ids)) if place not in differs]
    everywhere = REQUESTS["edge"](llama, asked)
    there = REQUESTS["edge"](llama, {**asked, "tokens": differs})
    assert _logits(there) == pytest.approx(_logits(everywhere), abs=2e-6)
    assert _logits(there) != pytest.approx(_logits(there, "before"), abs=2e-4)
    assert there["tokens"] == differs and there["control"]["n"] == 5
    elsewhere = REQUESTS["edge"](llama, {**asked, "tokens": same})
    assert _logits(elsewhere) == pytest.approx(_logits(elsewhere, "before"), abs=2e-6)
    numbered = REQUESTS["edge"](llama, {**asked, "edge": f"embed -> v[1].head[0]@{differs[0]}"})
    assert _logits(numbered) == pytest.approx(_logits(there), abs=2e-6)
    back = [place - len(ids) for place in differs]
    assert REQUESTS["edge"](llama, {**asked, "tokens": back})["tokens"] == differs


@pytest.mark.parametrize("tokens", [[99], [], "1", [1.5], [True]])
def test_tokens_that_the_text_does_not_have_are_refused(llama, tokens):
    asked = {"text": TEXT, "contrast": OTHER, "edge": "embed -> logits", "tokens": tokens}
    with pytest.raises(ParameterError, match="numbers, 0 to"):
        REQUESTS["edge"](llama, asked)


def test_a_named_position_asks_for_its_tokens(llama):
    with pytest.raises(ParameterError, match=r"position 's2'[\s\S]*tokens"):
        REQUESTS["edge"](llama, {"text": TEXT, "contrast": OTHER, "edge": "embed -> logits@s2"})
