"""A tiny encoder-decoder, whose two embeddings are one module (T5) or two with a scale (BART)."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

from cutaway.models.model import Model
from cutaway.testing.tiny import texts_of, tiny_task, tiny_tokenizer


def two_stacks(family: str) -> Model:
    tokenizer = tiny_tokenizer(texts_of(tiny_task()), start=False)
    ids: dict[str, Any] = {"pad_token_id": 2, "eos_token_id": 1, "vocab_size": len(tokenizer), "d_model": 32}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        if family == "t5":
            sizes = {"d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 2}
            hf: Any = T5ForConditionalGeneration(T5Config(**ids, **sizes))
        else:
            sizes = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
            sizes |= {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64}
            hf = BartForConditionalGeneration(
                BartConfig(**ids, **sizes, decoder_start_token_id=1, bos_token_id=0, scale_embedding=True)
            )
        with torch.no_grad():
            for weight in hf.parameters():
                weight.add_(0.15 * torch.randn(weight.shape))
    return Model(hf.double().eval(), tokenizer, name=f"tiny-{family}")
