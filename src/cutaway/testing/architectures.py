"""Does it hold on every architecture?

Tiny models with random weights of every type that transformers can build without a network: causal language
models, encoders and encoder-decoders. Each has four layers of width 32, grouped keys where the architecture
allows them, short sliding windows, and every kind of layer that its default configuration names. With
weights as they are initialised many parts are mute (norms that multiply by one, biases and sinks that add
zero) and a law could pass by accident; here every weight is moved off its initial value, so that every part
has a say in the logits.

Limits: only text goes in; towers for pictures and sound are built small and stay idle. What cannot be built
has its reason in `UNBUILDABLE`; what is no strict left-to-right model although it is listed as causal is in
`LOOKS_AHEAD`.

    model = tiny_model("gemma2", attn_implementation="sdpa")
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any, Final, Literal

import torch
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.utils import logging

from cutaway.core.errors import ModelError, nearest
from cutaway.testing.architecture_overrides import LOOKS_AHEAD, OVERRIDES, UNBUILDABLE
from cutaway.testing.architecture_sizes import shrink

__all__ = [
    "LOOKS_AHEAD",
    "UNBUILDABLE",
    "attention_implementations",
    "causal_types",
    "encoder_decoder_types",
    "encoder_types",
    "tiny_config",
    "tiny_model",
]

Family = Literal["causal", "encoder", "encoder_decoder"]

_MAX_WEIGHTS: Final = 5_000_000
_MATRIX_JITTER: Final = 0.15
_VECTOR_JITTER: Final = 0.1
# Buffers that training sets; the others hold constants of the architecture, such as masks and decays.
_LEARNED_BUFFERS: Final = ("_bias", "_biases", "_scalar")
_CLASSES: Final[dict[Family, Any]] = {
    "causal": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING,
    "encoder": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING,
    "encoder_decoder": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
}
_NAMES: Final[dict[Family, Any]] = {
    "causal": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "encoder": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "encoder_decoder": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
}


def causal_types() -> list[str]:
    """Every model type that predicts the next token and can be built."""
    return [name for name in _NAMES["causal"] if name not in UNBUILDABLE]


def encoder_types() -> list[str]:
    """Every model type that fills in masked tokens and can be built."""
    both_ways = _NAMES["encoder_decoder"]
    return [name for name in _NAMES["encoder"] if name not in UNBUILDABLE and name not in both_ways]


def encoder_decoder_types() -> list[str]:
    """Every model type that reads one text and writes another and can be built.

    The mapping of transformers also lists text models behind a tower for sound; they are left out.
    """
    names = [name for name in _NAMES["encoder_decoder"] if name not in UNBUILDABLE]
    return [name for name in names if getattr(CONFIG_MAPPING[name], "is_encoder_decoder", False)]


def attention_implementations(model_type: str, family: Family | None = None) -> tuple[str, ...]:
    """The attention implementations that a type can run on any machine: "eager" and perhaps "sdpa"."""
    family = family or _family(model_type)
    sdpa = getattr(_model_class(model_type, family), "_supports_sdpa", False)
    return ("eager", "sdpa") if sdpa else ("eager",)


def tiny_config(model_type: str, family: Family | None = None) -> PreTrainedConfig:
    """A configuration of that type with four layers of width 32.

    Args:
        model_type: the key that transformers has for the type: "llama", "gemma2", "t5".
        family: as what the type is built where it can be several things; by default the first of causal,
            encoder-decoder and encoder that it can be.
    """
    family = family or _family(model_type)
    config_class = CONFIG_MAPPING[model_type]
    with _quiet():
        config = shrink(config_class, OVERRIDES, _role(config_class, family))
    wanted = _model_class(model_type, family).config_class
    if isinstance(config, wanted):
        return config
    # A composite type whose language model is built from one of its parts.
    return next((part for part in vars(config).values() if isinstance(part, wanted)), config)


def tiny_model(
    model_type: str,
    family: Family | None = None,
    *,
    attn_implementation: str = "eager",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """A tiny random model of that type, in evaluation mode, the same for the same seed.

    Args:
        model_type: the key that transformers has for the type.
        family: as what the type is built, as in `tiny_config`.
        attn_implementation: "eager", or "sdpa" where `attention_implementations` lists it.
        seed: the weights follow from it; the global random state is left as it was.
        dtype: the type of the weights.
    """
    family = family or _family(model_type)
    config, model_class = tiny_config(model_type, family), _model_class(model_type, family)
    with _quiet(), torch.random.fork_rng(devices=[]):
        _refuse_large(model_type, model_class, config)
        torch.default_generator.manual_seed(seed)
        model = model_class._from_config(config, attn_implementation=attn_implementation, dtype=dtype)
    _jitter(model, torch.Generator().manual_seed(seed))
    return model.eval()


def _family(model_type: str) -> Family:
    order: tuple[Family, ...] = ("causal", "encoder_decoder", "encoder")
    for family in order:
        if model_type in _NAMES[family]:
            return family
    known = {name for names in _NAMES.values() for name in names}
    raise ModelError(
        f"transformers has no language model of the type {model_type!r}.",
        nearest(model_type, known),
        "Choose one of causal_types(), encoder_types() or encoder_decoder_types().",
    )


def _model_class(model_type: str, family: Family) -> Any:
    known = _CLASSES[family][CONFIG_MAPPING[model_type]]
    return known[0] if isinstance(known, tuple) else known


def _role(config_class: type[PreTrainedConfig], family: Family) -> dict[str, Any]:
    """The fields that make a BERT-like type look only back, when it is to predict the next token."""
    declared = {field.name for field in dataclasses.fields(config_class)}
    return {"is_decoder": family == "causal"} if "is_decoder" in declared else {}


def _refuse_large(model_type: str, model_class: Any, config: PreTrainedConfig) -> None:
    """Count the weights without allocating any: a size that was not recognised could ask for gigabytes."""
    with torch.device("meta"):
        count = sum(weight.numel() for weight in model_class._from_config(config).parameters())
    if count > _MAX_WEIGHTS:
        raise ModelError(
            f"The tiny {model_type} has {count:,} weights.",
            f"At most {_MAX_WEIGHTS:,} are allowed.",
            f"Name the large field of {type(config).__name__} in architecture_overrides.",
        )


@torch.no_grad()
def _jitter(model: PreTrainedModel, generator: torch.Generator) -> None:
    """Move every weight, and every learned buffer, off the value that it was initialised with.

    Noise is added rather than drawn in place of the value: decay rates, scales and norms keep their range.
    """
    learned = [buffer for name, buffer in model.named_buffers() if name.endswith(_LEARNED_BUFFERS)]
    for tensor in [*model.parameters(), *learned]:
        scale = _MATRIX_JITTER if tensor.ndim > 1 else _VECTOR_JITTER
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        tensor.add_((scale * noise).to(tensor.dtype))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence: a configuration of odd size makes transformers warn about things that are meant."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
