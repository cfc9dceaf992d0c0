"""Which networks come out of GGUF files, and what did llama.cpp change in their weights?

A GGUF file describes its network in llama.cpp's words. `ARCHITECTURES` says them in transformers' words: the
fields of config.json, and how to undo what the conversion to GGUF did to the weights (rows of q and k in
another order, one added to Gemma's norms, matrices turned). What a file leaves out is taken from llama.cpp's
own constants. Limits: dense decoders only; a scaling of positions that is not known is refused, because a
model that opens with wrong positions looks right on short prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cutaway.core.errors import ModelError


@dataclass(frozen=True)
class Tensor:
    """One tensor of the file: its shape (as in torch), ggml's number of its type, and where its bytes are."""

    name: str
    shape: tuple[int, ...]
    type: int
    start: int
    bytes: int


@dataclass(frozen=True)
class Header:
    """What a GGUF file says before its weights. Arrays of more than a thousand values are left out."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def architecture(self) -> str:
        """The kind of network, as llama.cpp calls it."""
        return str(self.metadata.get("general.architecture", ""))

    def get(self, key: str, default: Any = None) -> Any:
        """A value of the network's description, such as `block_count`."""
        return self.metadata.get(f"{self.architecture}.{key}", default)


@dataclass(frozen=True)
class Architecture:
    """How a kind of network in GGUF maps to transformers.

    `fields` maps names in config.json to keys of the file, `more` adds what takes a calculation. `undo` gives
    the numbers of a tensor as transformers wants them; tensors whose name has one of the parts `whole` are
    given to it complete (it moves numbers about), others in pieces of some rows.
    """

    model_type: str
    fields: Mapping[str, str]
    more: Callable[[Header], dict[str, Any]]
    undo: Callable[[str, np.ndarray, Header], np.ndarray]
    whole: tuple[str, ...] = ()


def configuration(header: Header) -> Any:
    """The transformers configuration of the network in a GGUF file.

    Raises:
        ModelError: a kind of network, or a scaling of positions, that is not converted.
    """
    from transformers import AutoConfig

    architecture = ARCHITECTURES.get(header.architecture)
    if architecture is None:
        raise ModelError(
            f"{header.path.name} holds a network of the kind {header.architecture!r}: it is not converted.",
            f"From GGUF come: {', '.join(ARCHITECTURES)}.",
            INSTEAD,
        )
    values = {name: shortest(header.get(key)) for name, key in architecture.fields.items()}
    tokens = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    return AutoConfig.for_model(
        architecture.model_type,
        vocab_size=header.tensors["token_embd.weight"].shape[0],
        tie_word_embeddings="output.weight" not in header.tensors,
        **{name: header.metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in tokens.items()},
        **{name: value for name, value in values.items() if value is not None},
        **architecture.more(header),
    )


def shortest(value: Any) -> Any:
    """The shortest decimal of a float32: 1e-05 for 9.999999747378752e-06, which is equal in float32."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _plain(header: Header) -> dict[str, Any]:
    return {"rope_parameters": _rope(header)}


def _gemma(header: Header) -> dict[str, Any]:
    """Gemma 2 and 3: the scale of attention, which the file leaves out."""
    wide = header.get("embedding_length") // header.get("attention.head_count")
    of_27b = header.get("block_count") in (46, 62)  # these alone divide by another width than the head's
    return {"query_pre_attn_scalar": wide if of_27b else header.get("attention.key_length"), **_plain(header)}


def _gemma3(header: Header) -> dict[str, Any]:
    """Gemma 3 turns positions at two speeds: slowly where layers see everything, fast in sliding windows."""
    near = {"rope_type": "default", "rope_theta": shortest(header.get("rope.freq_base_swa", 10000.0))}
    return {**_gemma(header), "rope_parameters": {"full_attention": _rope(header), "sliding_attention": near}}


def _rope(header: Header) -> dict[str, Any]:
    """Rotary positions in transformers' words, with the scalings that can be told from the file."""
    plain = {"rope_type": "default", "rope_theta": shortest(header.get("rope.freq_base", 10000.0))}
    kind = header.get("rope.scaling.type", "none")
    width = header.get("attention.key_length") or header.get("embedding_length") // header.get("attention.head_count")
    turned = header.get("rope.dimension_count", width)
    if turned != width or kind not in ("none", "linear"):
        raise ModelError(
            f"{header.path.name} turns positions in a way that is not converted: scaling {kind!r}, "
            f"{turned} of {width} dimensions.",
            "Known are rotations of all dimensions: plain, scaled linearly, or as in Llama 3.",
            INSTEAD,
        )
    if kind == "linear":
        return {**plain, "rope_type": "linear", "factor": shortest(header.get("rope.scaling.factor"))}
    if "rope_freqs.weight" in header.tensors:
        return {**plain, **_llama3(header, width, plain["rope_theta"])}
    return plain


def _llama3(header: Header, width: int, theta: float) -> dict[str, Any]:
    """Llama 3's scaling. The file has a divisor for each frequency: the largest is the scaling's factor."""
    tensor = header.tensors["rope_freqs.weight"]
    divisors = np.fromfile(header.path, np.float32, width // 2, offset=tensor.start)
    factor, low, high, length = float(divisors.max()), 1.0, 4.0, 8192
    turns = length * theta ** (-np.arange(0, width, 2) / width) / (2 * np.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    if not np.allclose(1 / divisors, (1 - kept) / factor + kept, rtol=1e-4):
        raise ModelError(
            f"{header.path.name} scales positions by numbers (rope_freqs.weight) that are not Llama 3's.",
            "Known are rotations of all dimensions: plain, scaled linearly, or as in Llama 3.",
            INSTEAD,
        )
    scaling = {"low_freq_factor": low, "high_freq_factor": high, "original_max_position_embeddings": length}
    return {"rope_type": "llama3", "factor": factor, **scaling}


def _same(name: str, array: np.ndarray, header: Header) -> np.ndarray:
    return array


def _undo_order(name: str, array: np.ndarray, header: Header) -> np.ndarray:
    """Rows of q and k: from neighbouring pairs, which llama.cpp turns, to halves as transformers does."""
    heads = header.get("attention.head_count")
    if ".attn_k." in name:
        heads = header.get("attention.head_count_kv", heads)
    elif ".attn_q." not in name:
        return array
    return array.reshape(heads, -1, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def _undo_one(name: str, array: np.ndarray, header: Header) -> np.ndarray:
    """Gemma's norms multiply by one plus their weight; the file holds the sum."""
    return array - np.float32(1) if name.endswith("norm.weight") else array


def _undo_turn(name: str, array: np.ndarray, header: Header) -> np.ndarray:
    """GPT-2's matrices lie the other way round in transformers."""
    return array.T if array.ndim == 2 and name.startswith("blk.") else array


INSTEAD = "Open the model's own safetensors instead: ca.open('owner/model'), or its folder."
_ROPE = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
_HEAD = {**_ROPE, "head_dim": "attention.key_length"}
_WINDOW = {**_HEAD, "sliding_window": "attention.sliding_window"}
_CAPS = {name: name for name in ("attn_logit_softcapping", "final_logit_softcapping")}
_GPT2 = {
    "n_embd": "embedding_length",
    "n_layer": "block_count",
    "n_inner": "feed_forward_length",
    "n_head": "attention.head_count",
    "n_positions": "context_length",
    "layer_norm_epsilon": "attention.layer_norm_epsilon",
}

ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture("llama", _HEAD, _plain, _undo_order, whole=(".attn_q.", ".attn_k.")),
    "qwen2": Architecture("qwen2", _ROPE, _plain, _same),
    "qwen3": Architecture("qwen3", _HEAD, _plain, _same),
    "gemma": Architecture("gemma", _HEAD, _plain, _undo_one),
    "gemma2": Architecture("gemma2", {**_WINDOW, **_CAPS}, _gemma, _undo_one),
    "gemma3": Architecture("gemma3_text", _WINDOW, _gemma3, _undo_one),
    "gpt2": Architecture("gpt2", _GPT2, lambda header: {}, _undo_turn, whole=("blk.",)),
}
