"""A toy is a network like any other: it opens, passes every law, is saved and read back, and follows from its seed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

import cutaway
from cutaway.core.errors import ModelError
from cutaway.models import toy as toys
from cutaway.models.toy import ToyConfig, ToyForCausalLM, ToyForMaskedLM, toy, word_tokenizer

WORDS = [f"w{i}" for i in range(30)]
SIZES = {"n_layers": 2, "n_heads": 2, "d_model": 16, "d_head": 4, "d_mlp": 24}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "none", "positions": "none", "activation": "solu"},
        {"norm": "rmsnorm", "d_mlp": 0, "attention_bias": True},
        {"norm": "none", "d_mlp": 0, "n_layers": 1},
        {"head": "masked", "activation": "gelu"},
        {"head": "classifier", "num_labels": 3, "causal": True},
        {"head": "classifier", "num_labels": 3, "causal": False, "pool": "first"},
    ],
    ids=lambda options: "-".join(f"{key}={value}" for key, value in options.items()) or "usual",
)
def test_every_law_holds_and_every_site_of_what_there_is_is_served(options: dict[str, object]) -> None:
    model = toy(word_tokenizer(WORDS), seed=0, **{**SIZES, **options})  # type: ignore[arg-type]
    report = model.check()
    assert report.passed, [law for law in report.laws if not law.passed]
    refused = {site.kind for site in report.sites if site.refused}
    absent = {"q_pre_rope", "k_pre_rope", "router", "expert_out"}
    if options.get("d_mlp") == 0:
        absent |= {"mlp_in", "mlp_pre", "mlp_act", "mlp_out", "mlp_contrib", "resid_mid"}
    if options.get("head") == "classifier":
        absent |= {"final", "logits"}
    assert refused <= absent
    assert model.anatomy.is_causal == options.get("causal", options.get("head") != "masked")


def test_a_seed_gives_the_same_weights_and_leaves_the_global_state() -> None:
    before = torch.get_rng_state()
    first, second, other = (toy(seed=seed, **SIZES) for seed in (3, 3, 4))  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), before)
    same, different = (
        [torch.equal(a, b) for a, b in zip(first.hf.parameters(), m.hf.parameters(), strict=True) if a.ndim > 1]
        for m in (second, other)
    )
    assert all(same)
    assert not any(different)


def test_causal_toys_do_not_see_later_tokens_and_masked_ones_do() -> None:
    causal, masked = (toy(seed=0, head=head, **SIZES) for head in ("causal", "masked"))
    a, b = torch.tensor([[1, 2, 3]]), torch.tensor([[1, 2, 4]])
    with torch.no_grad():
        assert torch.equal(causal.hf(a).logits[:, :2], causal.hf(b).logits[:, :2])
        assert not torch.equal(masked.hf(a).logits[:, :2], masked.hf(b).logits[:, :2])


def test_generation_with_a_cache_is_the_loop_of_full_runs() -> None:
    model = toy(seed=0, **SIZES)  # type: ignore[arg-type]
    ids = torch.tensor([[1, 2, 3]])
    written = model.hf.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)
    for _ in range(4):
        with torch.no_grad():
            ids = torch.cat([ids, model.hf(ids).logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(written, ids)


def test_padding_on_the_right_changes_nothing_and_a_classifier_reads_the_last_real_token() -> None:
    model = toy(seed=0, head="classifier", num_labels=2, **SIZES)
    ids, mask = torch.tensor([[1, 2, 3, 0]]), torch.tensor([[1, 1, 1, 0]])
    with torch.no_grad():
        alone = model.hf(ids[:, :3]).logits
        assert torch.allclose(model.hf(ids, attention_mask=mask).logits, alone, atol=1e-6)
    assert model.hf(ids, labels=torch.tensor([1])).loss > 0


def test_losses_are_those_of_the_logits() -> None:
    ids = torch.tensor([[1, 2, 3]])
    causal, masked = (toy(seed=0, head=head, **SIZES).hf for head in ("causal", "masked"))
    with torch.no_grad():
        log_p = causal(ids).logits.log_softmax(-1)
        expected = -(log_p[0, 0, 2] + log_p[0, 1, 3]) / 2
        assert torch.allclose(causal(ids, labels=ids).loss, expected)
        log_p = masked(ids).logits.log_softmax(-1)
        assert torch.allclose(masked(ids, labels=torch.tensor([[-100, 5, -100]])).loss, -log_p[0, 1, 5])


@pytest.mark.parametrize("head", ["causal", "masked", "classifier"])
def test_a_saved_toy_is_opened_by_its_folder(tmp_path: Path, head: toys.Head) -> None:
    model = toy(word_tokenizer(WORDS, begin="<s>"), head=head, seed=1, **SIZES)
    model.hf.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    opened = cutaway.open(str(tmp_path))
    assert type(opened.hf) is type(model.hf)
    assert opened.encode("w0 w2") == model.encode("w0 w2") == [30, 0, 2]
    with torch.no_grad():
        ids = torch.tensor([[30, 0, 2]])
        assert torch.equal(opened.hf(ids).logits, model.hf(ids).logits)


def test_registering_twice_is_no_error() -> None:
    toys.register()
    toys.register()
    assert isinstance(AutoConfig.for_model("cutaway_toy"), ToyConfig)


def test_words_are_tokens() -> None:
    tokenizer = word_tokenizer([*"abcdef", "a"], begin="<s>", end="</s>")
    assert tokenizer("a f")["input_ids"] == [6, 0, 5, 7]
    assert tokenizer("zebra")["input_ids"] == [6, tokenizer.unk_token_id, 7]
    assert len(tokenizer) == 10
    assert tokenizer.decode([0, 5]) == "a f"


def test_wrong_parts_are_named_with_what_is_allowed() -> None:
    with pytest.raises(ModelError, match=r"norm of a toy is 'batchnorm': .*layernorm"):
        ToyConfig(norm="batchnorm")
    with pytest.raises(ModelError, match=r"ToyForCausalLM was given .* causal=False.*\n?.*Use ToyForMaskedLM"):
        ToyForCausalLM(ToyConfig(causal=False))
    with pytest.raises(ModelError, match=r"Use ToyForCausalLM"):
        ToyForMaskedLM(ToyConfig(causal=True))
