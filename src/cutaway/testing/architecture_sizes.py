"""How small can any architecture be made?

A configuration class of transformers describes a model of the size that was published. This module makes
the same kind of model with four layers of width 32: it walks the fields of the class, replaces the ones
whose names say what they measure (a table of patterns), goes into sub-configurations, and shortens lists
that have one entry a layer so that every kind of layer still appears. No architecture is known by its name,
so a new one is made small the day it appears; what cannot be derived stands in `architecture_overrides`.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from transformers import PreTrainedConfig

LAYERS = 4
VOCABULARY = 128
SPECIAL_TOKENS = range(3, 10)

_SIZE_OF = {
    r"(.*_)?vocab_size(_per_layer_input|_base)?|\w*_group_vocab": VOCABULARY,
    r"(max|num|n)_(\w+_)?(positions|position_embeddings|seq_len)|n_ctx|context_length|model_max_length": 128,
    # A sparse indexer sums rectified scores of its heads: with few heads many sums are zero, and ties make
    # the choice of tokens depend on the length of the batch.
    r"index_n_heads": 16,
    r"(\w+_)?(num_key_value_heads|num_kv_heads|kv_n_heads)": 2,
    r"linear_num_key_heads|n_mamba_heads": 2,
    r"(\w+_)?(num_attention_heads|attention_heads|num_heads|n_heads?)|linear_num_value_heads": 4,
    r"index_topk": 4,
    r"qk_nope_head_dim|qk_rope_head_dim|v_head_dim|linear_(key|value)_head_dim|rotary_dim": 8,
    r"(\w+_)?(head_dim|d_head|head_size|dim_head)|kv_channels|d_kv": 16,
    r"(\w+_)?(rank|lowrank)": 16,
    r"(moe|expert)_(intermediate_size|ffn_hidden_size)|shared_experts?_intermediate_size": 24,
    r"(\w+_)?(intermediate_size|ffn_dim|ffn_hidden_size|feed_forward_size|d_inner|n_inner)": 48,
    r"intermediate_size_mlp|mlp_dim|d_ff|dff|dim_ff|hidden_dim": 48,
    r"hidden_size_per_layer_input|router_hidden_size": 16,
    r"(\w+_)?(hidden_size|d_model|n_embd|emb_dim|embedding_dim|embedding_size|embed_dim|proj_dim)": 32,
    r"dim|d_latents|lru_width|out_hidden_size|hidden_size_global": 32,
    r"(\w+_)?(state_size|d_state)": 8,
    r"(\w+_)?(chunk_size|block_size)|floor_scale": 4,
    r"(\w+_)?(num_experts|num_local_experts|n_routed_experts|expert_num)": 4,
    r"(\w+_)?(num_experts_per_tok|num_experts_per_token|top_?k)|moe_k|top_k_experts|index_topk_blocks": 2,
    r"n_groups?|num_expert_group": 2,
    r"topk_group|n_shared_experts|first_k_dense_replace|num_dense_layers|\w+_layer_offset": 1,
    r"(\w*_)?(sliding_window|window_size|window_len)|sliding_window_size|attention_window": 4,
    r"local_attention": 8,
    r"\w*(_period|_interval|_pattern|_every_n_layers|_group_size|_sparse_step)": 2,
    r"image_size": 16,
    r"patch_size": 4,
    r"depth|num_global_layers": 2,
}
# Fields that a bare instance leaves open, although the model cannot do without them.
_IF_UNSET = {"head_dim": 16, "num_key_value_heads": 2, "num_experts_per_tok": 2}
_SIZES = tuple((re.compile(pattern), size) for pattern, size in _SIZE_OF.items())
_DEPTH = re.compile(r"num_hidden_layers|n_layers?|num_layers|num_blocks|(num_)?(encoder|decoder)_layers")
_TOKEN = re.compile(r"(\w+_)?token_(id|index)")


def shrink(
    config_class: type[PreTrainedConfig],
    overrides: Mapping[str, Mapping[str, Any]],
    extra: Mapping[str, Any] | None = None,
) -> PreTrainedConfig:
    """The smallest telling configuration of a class.

    Args:
        config_class: the class; its sub-configurations are made small too.
        overrides: per model type, the fields that cannot be derived. A mapping for a sub-configuration is
            laid over what its own type asks for.
        extra: fields laid over the overrides.
    """
    given = {**overrides.get(config_class.model_type, {}), **(extra or {})}
    default = _default(config_class)
    fields: dict[str, Any] = {}
    tokens = itertools.cycle(SPECIAL_TOKENS)
    for name, value in default.items():
        if isinstance(value, PreTrainedConfig):
            fields[name] = shrink(type(value), overrides, given.pop(name, None))
        elif name in given:
            continue
        elif _TOKEN.fullmatch(name) and isinstance(value, int) and value >= SPECIAL_TOKENS.start:
            fields[name] = next(tokens)
        elif (small := _small(name, value)) is not None:
            fields[name] = small
    fields |= _one_key_a_head(default, fields)
    fields |= dict(_layer_lists(default, fields | given))
    return config_class(**(fields | given))


def _default(config_class: type[PreTrainedConfig]) -> dict[str, Any]:
    """The fields of a class with the values of a bare instance; of the class alone where none can be made."""
    declared = {field.name: field.default for field in dataclasses.fields(config_class)}
    try:
        made = vars(config_class())
    except Exception:  # noqa: BLE001 - a default that its own validation refuses: any kind of error
        made = {}
    alias = config_class.attribute_map
    return {name: made.get(alias.get(name, name), value) for name, value in declared.items()}


def _small(name: str, value: object) -> object:
    """A small value for a field, or None where its own value may stay."""
    if name == "vocab_size":
        return VOCABULARY
    if isinstance(value, bool):
        return None
    if value is None:
        return _IF_UNSET.get(name)
    if isinstance(value, int):
        return LAYERS if _DEPTH.fullmatch(name) else _small_size(name, value)
    if isinstance(value, float) and "soft" in name and "cap" in name:
        return min(value, 4.0)
    # A multiplier that is one by default would hide a forgotten multiplication.
    if name.endswith(("multiplier", "logits_scaling")) and value == 1.0:
        return 0.8
    if name.endswith("multipliers") and isinstance(value, list | tuple):
        return [0.8 + 0.1 * i for i in range(len(value))]
    return None


def _small_size(name: str, value: int) -> int | None:
    for pattern, size in _SIZES:
        if pattern.fullmatch(name):
            return size if value > size else None
    return None


def _one_key_a_head(default: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Latent attention expands its keys to every head: there is no grouping to be had."""
    if "kv_lora_rank" in default and "num_key_value_heads" in default:
        return {"num_key_value_heads": fields.get("num_attention_heads", default["num_attention_heads"])}
    return {}


def _layer_lists(default: Mapping[str, Any], fields: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The lists that name the kind of each layer, shortened to the new depth with every kind kept."""
    depths = [name for name in default if _DEPTH.fullmatch(name)]
    if not depths or not isinstance(fields.get(depths[0]), int):
        return
    old, new = default[depths[0]], fields[depths[0]]
    for name, value in default.items():
        if isinstance(value, list | tuple) and len(value) == old and all(isinstance(kind, str) for kind in value):
            yield name, _shortened(list(value), new, alternate=name == "layer_types")


def _shortened(kinds: list[str], length: int, *, alternate: bool) -> list[str]:
    head, distinct = kinds[:length], list(dict.fromkeys(kinds))
    if set(head) == set(distinct):
        return head
    if alternate:
        turns = list(itertools.islice(itertools.cycle(distinct), length))
        ending = [*turns[:-1], kinds[-1]]
        return ending if set(ending) == set(distinct) else turns
    # Blocks, not turns: so that both kinds of a second list meet both kinds of the first.
    return [distinct[i * len(distinct) // length] for i in range(length)]
