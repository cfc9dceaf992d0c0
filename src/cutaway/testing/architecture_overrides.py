"""What about an architecture cannot be derived from the names of its fields?

Each entry of `OVERRIDES` is for one model type (a part of a composite model has a type of its own) and
lists only the fields that `architecture_sizes` cannot know: sizes that must fit each other, options that a
bare configuration leaves out although every published model has them, and choices that make a rare kind of
layer appear.
"""

from __future__ import annotations

from typing import Any, Final

_SLIDING_FULL = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
_LINEAR_FULL = ["linear_attention", "full_attention", "linear_attention", "full_attention"]
_LINEAR_HYBRID = ["linear_attention", "hybrid", "linear_attention", "hybrid"]
_ROPE_OF_THREE_AXES = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 2, 2]}

OVERRIDES: Final[dict[str, dict[str, Any]]] = {
    "bamba": {"attn_layer_indices": [1, 3], "mamba_d_head": 16},
    "blt": {"use_cache": False},
    "blt_global_transformer": {"num_key_value_heads": 2},
    "cohere_compass_text": {
        "layer_types": _SLIDING_FULL,
        "rope_parameters": dict.fromkeys(_SLIDING_FULL, _ROPE_OF_THREE_AXES),
    },
    "dbrx": {
        "attn_config": {"rope_theta": 10_000.0, "kv_n_heads": 2, "clip_qkv": 1.0},
        "ffn_config": {"moe_top_k": 2},
    },
    "deepseek_v2": {"topk_method": "group_limited_greedy", "n_group": 2, "topk_group": 1},
    "deepseek_v4": {
        "compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 4},
        "o_groups": 2,
        "partial_rotary_factor": 0.5,
    },
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1},
    "dots3_note_audio_encoder": {"adapter_input_size": 32, "adapter_out_dim": 32},
    "dots3_note_text": {
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 4,
        "swa_q_lora_rank": 16,
        "swa_kv_lora_rank": 16,
        "swa_head_dim": 16,
        "swa_qk_nope_head_dim": 8,
        "swa_v_head_dim": 8,
    },
    "dots3_note_vision_encoder": {
        "adapter_in_dim": 32,
        "adapter_out_dim": 32,
        "mlp_layer_types": ["dense", "dense", "sparse", "sparse"],
    },
    "encoder-decoder": {"decoder": {"is_decoder": True, "add_cross_attention": True}},
    "esm": {"pad_token_id": 1},
    "esmc": {"num_key_value_heads": 4, "head_dim": 8},
    "gemma3n_text": {
        "num_kv_shared_layers": 2,
        "intermediate_size": 48,
        "activation_sparsity_pattern": [0.5, 0.0, 0.5, 0.0],
    },
    # The published Gemma 4 models are of two kinds: mixtures of experts, and small ones with an embedding a
    # layer and shared keys. The composite type is built as the first, the text type as the second.
    "gemma4": {
        "text_config": {
            "enable_moe_block": True,
            "num_experts": 4,
            "top_k_experts": 2,
            "moe_intermediate_size": 24,
            "num_kv_shared_layers": 0,
            "hidden_size_per_layer_input": 0,
        }
    },
    "gemma4_text": {"global_head_dim": 32, "num_kv_shared_layers": 2},
    "gemma4_unified_text": {"global_head_dim": 32},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"layer_types": _LINEAR_FULL},
    "helium": {"head_dim": 8},
    "hunyuan_v1_moe": {"num_experts": 4, "moe_topk": 2},
    "jamba": {"expert_layer_period": 3, "expert_layer_offset": 0},
    "laguna": {"layer_types": _SLIDING_FULL},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "llama4_text": {"interleave_moe_layer_step": 2},
    "longcat_flash": {"head_dim": 8},
    "minimax": {"full_attn_alpha_factor": 2, "linear_attn_alpha_factor": 2, "mlp_alpha_factor": 2},
    # Its cache keeps the window, its mask does not: the two agree up to the length of the window only.
    "moshi": {"sliding_window": 128},
    "musicgen_decoder": {"num_codebooks": 1},
    "musicgen_melody_decoder": {"num_codebooks": 1},
    "phi4_multimodal_audio": {"nemo_conv_channels": 16, "ext_pw_out_channel": 32},
    "qwen4_exp_text": {
        "eos_token_id": 2,
        "layer_types": ["linear_attention", "indexed_attention", "linear_attention", "indexed_attention"],
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 4,
        "indexer_compress_ratio": 2,
        "ple_layer_ids": [1],
        "ple_embed_dim": 32,
        "heads_per_ngram": 2,
    },
    "reformer": {
        "attn_layers": ["local", "lsh", "local", "lsh"],
        "attention_head_size": 8,
        "axial_pos_embds_dim": [16, 16],
        "axial_pos_shape": [8, 16],
        "hash_seed": 0,
        "local_attn_chunk_length": 4,
        "lsh_attn_chunk_length": 4,
        "num_buckets": 4,
    },
    "xlm": {"causal": True},
    "xlnet": {"d_head": 8},
    "xlstm": {"hidden_size": 64, "embedding_dim": 64, "qk_dim_factor": 1.0},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"layers_block_type": _LINEAR_HYBRID, "attention_hidden_size": 64, "attention_head_dim": 16},
    "zamba2": {
        "layers_block_type": _LINEAR_HYBRID,
        "num_key_value_heads": 4,
        "use_shared_attention_adapter": True,
        "use_mem_rope": True,
    },
    "zaya": {"layer_types": ["hybrid_sliding", "hybrid", "hybrid_sliding", "hybrid"], "sliding_window": 4},
}

_DRAFTER = "a drafter: it reads the hidden states and keys of a Gemma 4 model, never text alone"

UNBUILDABLE: Final[dict[str, str]] = {
    "gemma3n": "its picture tower comes from the package timm, in one size; its text model is gemma3n_text",
    "gemma4_assistant": _DRAFTER,
    "gemma4_unified_assistant": _DRAFTER,
}

LOOKS_AHEAD: Final[dict[str, str]] = {
    "cpmant": "it reads the whole prompt in both directions",
    "prophetnet": "its stream of predicted n-grams lets a little of later tokens through",
    "reformer": "which tokens share a bucket, and so a chunk, depends on all tokens",
    "xlnet": "it attends in both directions unless a permutation mask is passed",
}
