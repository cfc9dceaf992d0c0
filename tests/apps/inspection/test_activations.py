"""What travels to a page is what model.run has, and a cell's formula gives the cell."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cutaway.apps.inspection import cells
from cutaway.apps.inspection.bundle import Bundle
from cutaway.apps.inspection.readings import Readings
from cutaway.apps.inspection.requests import REQUESTS
from cutaway.core.errors import CutawayError, ParameterError, SiteError
from cutaway.core.site import KINDS, Site
from cutaway.models.model import Model
from cutaway.testing import tiny
from cutaway.testing.architectures import tiny_model

TEXT = "When Mary and John went to the store, John gave a drink to"
IDS = [5, 9, 11, 7, 20, 33]


def decoded(body: bytes):
    """The bundle as a page reads it."""
    line, rest = body.split(b"\n", 1)
    header = json.loads(line)
    kinds = {"float32": "<f4", "float64": "<f8", "int32": "<i4", "bool": "u1"}
    arrays = {}
    for entry in header["arrays"]:
        raw = rest[entry["offset"] : entry["offset"] + entry["bytes"]]
        arrays[entry["name"]] = np.frombuffer(raw, kinds[entry["dtype"]]).reshape(entry["shape"])
    return header, arrays


def ask(model, sites, **more):
    return decoded(REQUESTS["activations"](model, {"text": TEXT, "sites": sites, **more}).encode())


class TestBundle:
    def test_every_type_of_number_comes_back(self):
        given = {
            "a": np.arange(6, dtype=np.float32).reshape(2, 3),
            "b": np.array([1.5, np.nan, np.inf]),
            "c": np.array([[-3, 2**31 - 1]]),
            "d": np.array([True, False]),
            "e": np.zeros((0, 4), np.float32),
        }
        bundle = Bundle(
            tuple((n, tuple("xy"[: v.ndim]), v) for n, v in given.items()), ("<s>", "\n", "\u2028"), {"k": 1}
        )
        header, arrays = decoded(bundle.encode())
        assert header["tokens"] == ["<s>", "\n", "\u2028"] and header["k"] == 1
        for name, values in given.items():
            np.testing.assert_array_equal(arrays[name], values)

    def test_an_integer_that_does_not_fit_is_refused(self):
        with pytest.raises(CutawayError, match="more than 32 bits"):
            Bundle((("x", ("i",), np.array([2**40])),)).encode()


class TestValues:
    @pytest.mark.parametrize(
        "site", ["resid_post[1]", "z[2].head[1]", "pattern[0]", "mlp_act[1].unit[3]", "logits@-1", "embed"]
    )
    def test_they_are_those_of_model_run(self, llama, site):
        header, arrays = ask(llama, site)
        (name,) = arrays
        run = llama.run(TEXT, read=site)
        np.testing.assert_array_equal(arrays[name], run[site][0].numpy())
        assert header["tokens"] == llama.token_strings(llama.encode(TEXT))

    def test_patterns_of_sites_are_expanded_and_dims_are_named(self, llama):
        header, arrays = ask(llama, "resid_pre[*]@0, pattern[1].head[*]")
        assert [e["name"] for e in header["arrays"][:3]] == ["resid_pre[0]@0", "resid_pre[1]@0", "resid_pre[2]@0"]
        assert header["arrays"][3]["dims"] == ["query", "key"] and len(arrays) == 7

    def test_two_texts_are_read_as_the_tokenizer_joins_them(self, llama):
        header, arrays = ask(llama, "pattern[0].head[0]", text_b=" John gave")
        first = len(llama.encode(TEXT))
        assert header["second"] == first and arrays["pattern[0].head[0]"].shape[0] == len(header["tokens"]) == first + 2

    def test_a_site_that_is_refused_says_why(self, encoder):
        with pytest.raises(SiteError, match="no unembedding"):
            ask(encoder, "logits")

    def test_too_many_numbers_are_refused_before_anything_runs(self, llama, monkeypatch):
        monkeypatch.setattr("cutaway.apps.inspection.activations.MOST", 100)
        monkeypatch.setattr(Model, "run", None)
        with pytest.raises(ParameterError, match="An answer has 100 at most"):
            ask(llama, "resid_post[1]")

    def test_a_key_that_does_not_exist_is_refused(self, llama):
        with pytest.raises(ParameterError, match="Key 99"):
            ask(llama, "pattern[0].head[0].unit[99]@3")


class TestReadings:
    def test_a_site_is_read_once(self, llama, monkeypatch):
        kept = Readings()
        ids = llama.encode(TEXT)
        first = kept.run(llama, ids, [Site.parse("pattern[1].head[0]")])
        monkeypatch.setattr(Model, "run", None)
        again = kept.run(llama, ids, [Site.parse("pattern[1].head[3]")])
        assert_close(again["pattern[1].head[0]"], first["pattern[1].head[0]"])

    def test_old_prompts_go_first_and_memory_stays_bounded(self, llama):
        kept = Readings(limit=20000)
        for start in range(6):
            kept.run(llama, list(range(start, start + 20)), [Site("resid_post", 1), Site("pattern", 1)])
        assert kept.bytes <= 20000 and tuple(range(5, 25)) in kept.kept and tuple(range(20)) not in kept.kept


def _cells(model, layer):
    """One cell of each kind that the layer serves."""
    random = np.random.default_rng(0)
    for kind in layer.places:
        dims = KINDS[kind][1]
        if kind.endswith("per_query_head"):
            continue
        whole = model.run([IDS], read=[Site(kind, layer.index)], logits="none")[Site(kind, layer.index)][0]
        size = dict(zip(dims, whole.shape))
        last = 4 if "key" in dims else size[dims[-1]]
        place = {"head": int(random.integers(size["head"]))} if "head" in dims else {}
        if "expert" in dims:
            place["expert"] = int(random.integers(size["expert"]))
        if kind != "router":
            place["unit"] = int(random.integers(last))
        yield Site(kind, layer.index, position=4, **place)


KNOWN = ("llama", "gpt2", "mixtral", "qwen3_moe", "gemma2", "gemma3_text", "gpt_neox", "qwen3", "phi")


class TestCells:
    @pytest.mark.parametrize("kind", KNOWN)
    def test_every_cell_has_a_formula_that_gives_it(self, kind):
        model = Model(tiny_model(kind))
        for layer in model.anatomy.stacks[""].layers[:2]:
            for site in _cells(model, layer):
                found = cells.explain(model, IDS, site)
                actual = float(model.run([IDS], read=[site.whole], logits="none")[site][0])
                assert found["formula"] is not None, (kind, str(site))
                assert found["value"] == actual
                assert found["computed"] == pytest.approx(actual, rel=1e-3, abs=1e-4), found
        for site in (
            Site("embed", unit=5, position=3),
            Site("final", unit=5, position=3),
            Site("logits", unit=7, position=3),
        ):
            found = cells.explain(model, IDS, site)
            assert found["computed"] == pytest.approx(found["value"], rel=1e-3, abs=1e-4), found

    def test_an_encoder_with_norms_after_the_sums(self, encoder):
        for layer in encoder.anatomy.stacks[""].layers:
            for site in _cells(encoder, layer):
                found = cells.explain(encoder, IDS, site)
                assert found["formula"] is not None, str(site)
                assert found["computed"] == pytest.approx(found["value"], rel=1e-3, abs=1e-4)

    def test_a_sum_names_its_operands(self, llama):
        header, _ = ask(llama, "resid_mid[1].unit[7]@5")
        cell = header["cells"]["resid_mid[1].unit[7]@5"]
        assert cell["formula"] == "resid_mid = resid_pre + attn_contrib"
        for operand in cell["operands"]:
            assert operand["value"] == float(llama.run(TEXT, read=operand["site"])[operand["site"]][0])
        assert sum(o["value"] for o in cell["operands"]) == pytest.approx(cell["value"], abs=1e-5)

    def test_products_and_rest_add_up(self, llama):
        cell = ask(llama, "mlp_out[1].unit[3]@5")[0]["cells"]["mlp_out[1].unit[3]@5"]
        assert cell["count"] == llama.anatomy.d_mlp and len(cell["terms"]) == 8
        assert sum(t["product"] for t in cell["terms"]) + cell["rest"] == pytest.approx(cell["value"], abs=1e-5)

    def test_a_masked_score_says_so(self, llama):
        cell = ask(llama, "scores[1].head[0].unit[6]@2")[0]["cells"]["scores[1].head[0].unit[6]@2"]
        assert "does not see this key" in cell["formula"]

    def test_a_formula_that_does_not_hold_is_not_shown(self):
        """A layer whose MLP output is changed on the way has no formula that is known."""

        class Odd(torch.nn.Module):
            def forward(self, x):
                return torch.sin(x) + 0.3

        model = tiny("gpt2")
        model.hf.transformer.h[1].mlp.act = Odd()
        found = cells.explain(model, IDS, Site("mlp_act", 1, unit=3, position=2))
        assert found["formula"] == "mlp_act = Odd(mlp_pre)"
        model.hf.transformer.h[1].ln_2 = torch.nn.Sequential(model.hf.transformer.h[1].ln_2, Odd())
        fresh = Model(model.hf, model.tokenizer)
        found = cells.explain(fresh, IDS, Site("mlp_in", 1, unit=3, position=2))
        assert found["formula"] is None and "No formula that is known" in found["why"]

    def test_an_expert_that_was_not_chosen_adds_nothing(self, mixture):
        whole = mixture.run([IDS], read="expert_out[0]", logits="none")["expert_out[0]"][0, :, 2]
        idle = next(e for e in range(4) if not whole[e].any())
        found = cells.explain(mixture, IDS, Site("expert_out", 0, expert=idle, unit=1, position=2))
        assert found["value"] == 0 and "did not choose" in found["formula"]
