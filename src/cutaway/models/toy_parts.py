"""What is a toy network made of? Its configuration, its attention, its MLP and its layer.

Every part follows transformers' own interfaces (the attention registry, the recorded outputs), so that taps, probes and
attention implementations find what they find in any network. `toy.py` has the networks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedConfig

from cutaway.core.errors import ModelError, nearest

MODEL_TYPE = "cutaway_toy"
# No module where there is no norm: one that gives what it takes would hide the sum before it from the probe.
NORMS: dict[str, Callable[[int], nn.Module | None]] = {
    "none": lambda width: None,
    "layernorm": nn.LayerNorm,
    "rmsnorm": lambda width: nn.RMSNorm(width, eps=1e-6),
}


class ToyConfig(PreTrainedConfig):  # type: ignore[misc]
    """Sizes and parts of a toy network.

    Attributes:
        vocab_size, n_layers, n_heads, d_model, d_head, d_mlp: sizes; `d_mlp` 0 leaves the MLPs out.
        n_positions: the longest prompt.
        norm: `none`, `layernorm` or `rmsnorm`, before attention, before the MLP and at the end.
        activation: `relu`, `gelu`, `silu`, or `solu` (x · softmax(x)).
        positions: `learned`, or `none`.
        causal: whether a position sees earlier ones only.
        attention_bias: whether q, k, v and the output projection have biases.
        pool: where a classifier reads: the `first` or the `last` token of each text.
    """

    model_type = MODEL_TYPE
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012 - as transformers declares it
    attribute_map = {  # noqa: RUF012
        "hidden_size": "d_model",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "num_key_value_heads": "n_heads",
        "head_dim": "d_head",
        "intermediate_size": "d_mlp",
        "max_position_embeddings": "n_positions",
    }

    vocab_size: int = 64
    n_layers: int = 2
    n_heads: int = 4
    d_model: int = 64
    d_head: int = 16
    d_mlp: int = 256
    n_positions: int = 64
    norm: str = "layernorm"
    activation: str = "relu"
    positions: str = "learned"
    causal: bool = True
    attention_bias: bool = False
    pool: str = "last"
    use_cache: bool = True
    tie_word_embeddings: bool = False
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        for name, allowed in (
            ("norm", tuple(NORMS)),
            ("activation", tuple(ACTIVATIONS)),
            ("positions", ("none", "learned")),
            ("pool", ("first", "last")),
        ):
            if getattr(self, name) not in allowed:
                raise ModelError(f"{name} of a toy is {getattr(self, name)!r}:", nearest(getattr(self, name), allowed))

    @property
    def is_decoder(self) -> bool:
        """What transformers calls a causal stack."""
        return self.causal


class Solu(nn.Module):
    """x · softmax(x): neurons of a layer compete."""

    def forward(self, x: Tensor) -> Tensor:
        """Values of all neurons [..., d_mlp] -> the same."""
        return x * x.softmax(-1)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "solu": Solu}


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Attention in plain steps: q, k, v [row, head, position, d_head] -> z [row, position, head, d_head], pattern."""
    scores = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    pattern = functional.softmax(scores, dim=-1)
    return (pattern @ value).transpose(1, 2).contiguous(), pattern


class ToyAttention(nn.Module):
    """Attention with separate projections."""

    def __init__(self, config: ToyConfig, layer_idx: int) -> None:
        super().__init__()
        self.config, self.layer_idx = config, layer_idx
        self.head_dim, self.is_causal = config.d_head, config.causal
        self.num_key_value_groups = 1
        self.scaling = config.d_head**-0.5
        width, bias = config.n_heads * config.d_head, config.attention_bias
        self.q_proj = nn.Linear(config.d_model, width, bias=bias)
        self.k_proj = nn.Linear(config.d_model, width, bias=bias)
        self.v_proj = nn.Linear(config.d_model, width, bias=bias)
        self.o_proj = nn.Linear(width, config.d_model, bias=bias)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """The stream [row, position, d_model] -> what attention adds to it, and the pattern where it is made."""
        form = (*hidden_states.shape[:-1], -1, self.head_dim)
        q, k, v = (proj(hidden_states).view(form).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj))
        if past_key_values is not None:
            k, v = past_key_values.update(k, v, self.layer_idx)
        attend = AttentionInterface().get_interface(self.config._attn_implementation, eager_attention_forward)
        z, pattern = attend(self, q, k, v, attention_mask, dropout=0.0, scaling=self.scaling, **kwargs)
        return self.o_proj(z.reshape(*form[:-2], -1)), pattern


class ToyMLP(nn.Module):
    """Neurons between two matrices with biases."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.d_model, config.d_mlp)
        self.act_fn = ACTIVATIONS[config.activation]()
        self.down_proj = nn.Linear(config.d_mlp, config.d_model)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The stream [..., d_model] -> what the MLP adds to it."""
        return self.down_proj(self.act_fn(self.up_proj(hidden_states)))


def make_norm(config: ToyConfig) -> nn.Module | None:
    """The norm that a configuration names."""
    return NORMS[config.norm](config.d_model)


def normed(norm: nn.Module | None, stream: Tensor) -> Tensor:
    """The stream after a norm, or as it is where there is none."""
    return stream if norm is None else norm(stream)


class ToyLayer(nn.Module):
    """Attention, then the MLP where there is one; each reads the normed stream and adds to it."""

    def __init__(self, config: ToyConfig, layer_idx: int) -> None:
        super().__init__()
        self.input_layernorm = make_norm(config)
        self.self_attn = ToyAttention(config, layer_idx)
        if config.d_mlp:
            self.post_attention_layernorm = make_norm(config)
            self.mlp: nn.Module | None = ToyMLP(config)
        else:
            self.mlp = None

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """The stream [row, position, d_model] before the layer -> after it."""
        added, _ = self.self_attn(normed(self.input_layernorm, hidden_states), **kwargs)
        hidden_states = hidden_states + added
        if self.mlp is None:
            return hidden_states
        added = self.mlp(normed(self.post_attention_layernorm, hidden_states))
        return hidden_states + added
