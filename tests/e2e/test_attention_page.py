"""The attention page shows the patterns, queries and keys of a run, and what taking a head out does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import cutaway as ca

pytestmark = [pytest.mark.all, pytest.mark.browser]

Visitor = Any  # see conftest
Until = Callable[..., None]

PROMPT = "When Mary and John went to the store, John gave a drink to"
LAYER, HEAD = 23, 3


def of_head(model: ca.Model, kind: str, head: int = HEAD) -> torch.Tensor:
    site = f"{kind}[{LAYER}].head[{head}]"
    return model.run(PROMPT, read=site)[site].float().squeeze()


def test_lines_are_those_of_a_run(visit: Visitor, model: ca.Model, until: Until) -> None:
    page = visit("/attention?model=smollm2")
    page.get_by_role("combobox", name="Layer").select_option(str(LAYER))
    page.get_by_role("group", name="Heads").get_by_role("button", name=str(HEAD), exact=True).dblclick()
    frame = page.get_by_role("group", name=f"Attention of 1 heads of layer {LAYER}")
    frame.wait_for()
    frame.focus()
    frame.press("End")
    looks = page.locator(".look")
    looks.first.wait_for()
    pattern = of_head(model, "pattern")
    shown = looks.evaluate_all("looks => looks.map((look) => ({...look.dataset}))")
    values, keys = pattern[-1].topk(3)
    assert [(int(look["head"]), int(look["query"]), int(look["key"])) for look in shown] == [
        (HEAD, 13, int(key)) for key in keys
    ]
    assert [float(look["value"]) for look in shown] == pytest.approx(values.tolist(), abs=1e-5)
    # the other side: who looks at a token
    for key in ("ArrowRight", "Home", "ArrowDown"):
        frame.press(key)
    until(page, "document.querySelector('.look')?.dataset.query === '1'")
    column = looks.evaluate_all("looks => looks.map((look) => Number(look.dataset.value))")
    assert column == pytest.approx(pattern[:, 1].topk(3).values.tolist(), abs=1e-5)
    assert f"layers={LAYER}" in page.url and f"heads={HEAD}" in page.url and "at=k1" in page.url


def test_a_head_is_chosen_among_all(visit: Visitor, model: ca.Model, until: Until) -> None:
    page = visit("/attention?model=smollm2&mode=model&score=entropy")
    frame = page.get_by_role("group", name="Thumbnails of all heads")
    frame.wait_for()
    frame.focus()
    for key in ("ArrowRight", *["ArrowDown"] * 2, "ArrowRight"):
        frame.press(key)
    line = page.locator(".pointed-head")
    line.get_by_text("Head 2.1").wait_for()
    shown = float(line.locator('[data-score="entropy"]').get_attribute("data-value"))
    pattern = model.run(PROMPT, read="pattern[2]")["pattern[2]"][0, 1].double()
    entropy = -(pattern * pattern.clamp_min(1e-30).log()).sum(-1)
    wanted = {float(entropy.mean()), float(entropy[1:].mean())}  # the first token has one key alone
    assert any(shown == pytest.approx(each, abs=1e-4) for each in wanted), (shown, wanted)
    first = float(line.locator('[data-score="first_token"]').get_attribute("data-value"))
    assert 0 <= first <= 1
    frame.press("Enter")
    page.get_by_role("group", name="Attention of 1 heads of layer 2").wait_for()
    until(page, "document.querySelector('#attention-layer').value === '2'")


def test_thumbnails_are_painted(visit: Visitor) -> None:
    page = visit("/attention?model=smollm2&mode=model")
    canvas = page.get_by_role("group", name="Thumbnails of all heads").locator("canvas")
    canvas.wait_for()
    page.wait_for_timeout(500)
    colours = canvas.evaluate(
        """canvas => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const found = new Set();
          for (let i = 0; i < data.length; i += 4) found.add(data[i] * 65536 + data[i + 1] * 256 + data[i + 2]);
          return found.size;
        }"""
    )
    assert colours > 50


def test_queries_and_keys_are_those_of_a_run(visit: Visitor, model: ca.Model) -> None:
    page = visit(f"/attention?model=smollm2&mode=qk&layers={LAYER}&heads={HEAD}&at=13")
    frame = page.get_by_role("group", name="against 14 keys")
    frame.wait_for()
    frame.focus()
    for _ in range(2):
        frame.press("ArrowDown")
    said = page.locator(".query-key-sum span[data-key]")
    said.wait_for()
    shown = {name: float(text) for name, text in said.evaluate("element => ({...element.dataset})").items()}
    shared = HEAD * model.anatomy.n_kv_heads // model.anatomy.n_heads
    q, k = of_head(model, "q"), of_head(model, "k", shared)
    dot = float(q[13] @ k[1])
    assert (shown["query"], shown["key"]) == (13, 1)
    assert shown["dot"] == pytest.approx(dot, abs=1e-3, rel=1e-5)
    assert shown["scaled"] == pytest.approx(dot * q.shape[-1] ** -0.5, abs=1e-4, rel=1e-5)
    assert shown["score"] == pytest.approx(float(of_head(model, "scores")[13, 1]), abs=1e-4, rel=1e-5)
    assert shown["value"] == pytest.approx(float(of_head(model, "pattern")[13, 1]), abs=1e-5)


def test_a_head_is_checked_by_taking_it_out(visit: Visitor, model: ca.Model) -> None:
    page = visit(f"/attention?model=smollm2&layers={LAYER}&heads={HEAD}")
    page.get_by_role("button", name=f"Take head {LAYER}.{HEAD} out").click()
    panel = page.locator(f'[data-sites="z[{LAYER}].head[{HEAD}]"]')
    panel.wait_for()
    mary = model.tokenizer.encode(" Mary")[-1]
    for name, edit in (("before", []), ("after", [ca.ablate(f"z[{LAYER}].head[{HEAD}]", "zero")])):
        share = float(model.run(PROMPT, edit=edit).logits[0, -1].float().softmax(-1)[mary])
        shown = float(panel.locator(f'[data-name="{name}"]').get_attribute("data-value"))
        assert shown == pytest.approx(share, abs=1e-5), name
    assert "n = 20" in panel.inner_text()


def test_a_pair_of_texts_is_filtered(visit: Visitor, until: Until) -> None:
    page = visit("/attention?model=smollm2&text=The+cat+sat.&text_b=The+dog+ran.&heads=0&layers=1")
    page.get_by_label("Pairs").select_option("ba")
    frame = page.get_by_role("group", name="Attention of 1 heads of layer 1")
    frame.focus()
    frame.press("End")
    page.locator(".look").first.wait_for()
    keys = page.locator(".look").evaluate_all("looks => looks.map((look) => Number(look.dataset.key))")
    start = 4  # "The cat sat." has four tokens
    assert keys and max(keys) < start
    page.get_by_label("Pairs").select_option("bb")
    until(page, "[...document.querySelectorAll('.look')].every((look) => Number(look.dataset.key) >= 4)")
