/** Small anatomies for tests. */

import type { Anatomy, Layer, Part } from "./anatomy";

function part(name: string, shape: number[], role = "", heads = 0, path = `layers.0.${name}`): Part {
  return { name, path, type: "Linear", shape, parameters: shape.reduce((a, b) => a * b, 1), role, heads };
}

/** A layer with grouped keys; with experts where asked. */
export function layerOf(index: number, experts = 0): Layer {
  const at = `layers.${index}`;
  const attention = [
    part("q_proj", [32, 32], "q", 4, `${at}.q`),
    part("k_proj", [16, 32], "k", 2, `${at}.k`),
    part("v_proj", [16, 32], "v", 2, `${at}.v`),
    part("o_proj", [32, 32], "o", 4, `${at}.o`),
  ];
  const mlp = experts
    ? [part("gate_up_proj", [experts, 96, 32], "gate_up", 0, `${at}.gu`), part("down_proj", [experts, 32, 48], "down", 0, `${at}.d`), part("gate", [experts, 32], "router", 0, `${at}.r`)]
    : [part("gate_proj", [64, 32], "gate", 0, `${at}.g`), part("up_proj", [64, 32], "up", 0, `${at}.u`), part("down_proj", [32, 64], "down", 0, `${at}.d`)];
  const norms = [part("ln_1", [32], "norm", 0, `${at}.n1`), part("ln_2", [32], "norm", 0, `${at}.n2`)];
  const total = (parts: Part[]) => parts.reduce((sum, one) => sum + one.parameters, 0);
  return {
    index, path: at, type: "Layer", parameters: total([...attention, ...mlp, ...norms]), window: null, parallel: false, post_norm: false,
    attention: { path: "", type: "", n_heads: 4, n_kv_heads: 2, d_head: 8, rotary: true, softcap: null, sinks: false, scaling: 8 ** -0.5, parameters: total(attention), parts: attention },
    mlp: { path: "", gated: true, activation: "silu", d_mlp: experts ? null : 64, experts: experts || null, experts_per_token: experts ? 2 : null, parameters: total(mlp), parts: mlp },
    norms, other: [],
    sites: ["resid_pre", "attn_in", "q_pre_rope", "k_pre_rope", "q", "k", "v", "scores", "pattern", "z", "attn_out", "attn_contrib", "resid_mid", "mlp_in", ...(experts ? ["router", "expert_out"] : ["mlp_pre", "mlp_act"]), "mlp_out", "mlp_contrib", "resid_post"],
  };
}

export function anatomyOf(experts = 0): Anatomy {
  const layers = [layerOf(0, experts), layerOf(1, experts)];
  const embed = 100 * 32;
  return {
    model: "tiny", class_name: "Tiny", source: "", n_layers: 2, n_heads: 4, n_kv_heads: 2, d_model: 32, d_head: 8, d_mlp: experts ? 0 : 64,
    vocab_size: 100, causal: true, has_unembedding: true, parameters: embed + 32 + layers.reduce((sum, one) => sum + one.parameters, 0),
    dtype: "float32", device: "cpu", attention_implementation: "sdpa", features: ["causal", "unembedding"], memory: {},
    embed: { path: "embed", shape: [100, 32], parameters: embed }, unembed: { path: "head", shape: [100, 32], parameters: 0, tied: true },
    final_norm: { path: "norm", type: "RMSNorm", parameters: 32 }, layers, other: [], refused: [],
  };
}
