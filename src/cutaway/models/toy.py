"""Which network is small enough to be known whole? A transformer with nothing that a question does not need.

`ToyForCausalLM` is a network of transformers like any other: it is saved and opened as a folder, runs on every attention
implementation, and all its sites are served. Its parts can be left out one by one: no MLP, no norm, no positions.
`toy` draws one from a seed, `toy_compiler` writes programs into its weights, and studies train it.

    model = toy(word_tokenizer("a b c".split()), n_layers=2, n_heads=4, seed=0)   # a Model
    model.hf.save_pretrained(folder); model.tokenizer.save_pretrained(folder)
    cutaway.open(folder)

Limits: heads of one width with keys and values of their own; positions are learned or absent (no rotation).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    DynamicCache,
    GenerationMixin,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    MaskedLMOutput,
    SequenceClassifierOutput,
)
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from cutaway.core.errors import ModelError
from cutaway.models.toy_parts import MODEL_TYPE, ToyAttention, ToyConfig, ToyLayer, make_norm, normed

if TYPE_CHECKING:
    from cutaway.models.model import Model

__all__ = [
    "MODEL_TYPE",
    "Head",
    "ToyConfig",
    "ToyForCausalLM",
    "ToyForMaskedLM",
    "ToyForSequenceClassification",
    "ToyModel",
    "auto_class",
    "initialise",
    "register",
    "toy",
    "word_tokenizer",
]

Head = Literal["causal", "masked", "classifier"]


class ToyPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """What transformers asks of every network: names, what is supported, and how weights begin."""

    config_class = ToyConfig
    base_model_prefix = "model"
    _no_split_modules = ["ToyLayer"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": ToyLayer, "attentions": ToyAttention}  # noqa: RUF012


class ToyModel(ToyPreTrainedModel):
    """Embeddings, layers, and the norm at the end."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embed_positions = (
            nn.Embedding(config.n_positions, config.d_model) if config.positions == "learned" else None
        )
        self.layers = nn.ModuleList(ToyLayer(config, i) for i in range(config.n_layers))
        self.norm = make_norm(config)
        self.post_init()

    @merge_with_config_defaults  # type: ignore[untyped-decorator]
    @capture_outputs  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Token ids [row, position] -> the stream after the last norm [row, position, d_model]."""
        stream = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and self.config.causal and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            past = past_key_values.get_seq_length() if past_key_values is not None else 0
            position_ids = (torch.arange(stream.shape[1], device=stream.device) + past)[None]
        mask = self._mask(stream, attention_mask, position_ids, past_key_values)
        if self.embed_positions is not None:
            stream = stream + self.embed_positions(position_ids)
        for layer in self.layers:
            stream = layer(stream, attention_mask=mask, past_key_values=past_key_values, **kwargs)
        return BaseModelOutputWithPast(last_hidden_state=normed(self.norm, stream), past_key_values=past_key_values)

    def _mask(self, stream: Tensor, given: Tensor | None, positions: Tensor, past: Any) -> Tensor | None:
        told: dict[str, Any] = {"config": self.config, "inputs_embeds": stream, "attention_mask": given}
        if not self.config.causal:
            return create_bidirectional_mask(**told)
        return create_causal_mask(**told, past_key_values=past, position_ids=positions)


class ToyForCausalLM(ToyPreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A toy that names the next token."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(_required(config, causal=True))
        self.model = ToyModel(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Token ids [row, position] -> logits of the next token; with `labels` (ids, -100: none) also the loss."""
        outputs = self.model(input_ids=input_ids, **kwargs)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None if labels is None else self.loss_function(logits, labels, vocab_size=self.config.vocab_size)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class ToyForMaskedLM(ToyPreTrainedModel):
    """A toy that sees the whole text and names a token at each position."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(_required(config, causal=False))
        self.model = ToyModel(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(self, input_ids: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any) -> MaskedLMOutput:
        """Token ids [row, position] -> logits at every position; with `labels` (ids, -100: none) also the loss."""
        outputs = self.model(input_ids=input_ids, **kwargs)
        logits = self.lm_head(outputs.last_hidden_state)
        loss = None if labels is None else functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class ToyForSequenceClassification(ToyPreTrainedModel):
    """A toy that sorts whole texts into `num_labels` classes, read at the first or the last token."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.model = ToyModel(config)
        self.score = nn.Linear(config.d_model, config.num_labels)
        self.post_init()

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Token ids [row, position] -> logits of the classes [row, class]; with `labels` [row] also the loss."""
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        stream = outputs.last_hidden_state
        rows = torch.arange(len(stream), device=stream.device)
        place = torch.zeros_like(rows)
        if self.config.pool == "last":
            full = attention_mask is None or attention_mask.ndim != 2
            place = rows.new_full((len(stream),), stream.shape[1] - 1) if full else attention_mask.sum(1) - 1  # type: ignore[union-attr]
        logits = self.score(stream[rows, place])
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


def _required(config: ToyConfig, *, causal: bool) -> ToyConfig:
    if config.causal != causal:
        ours, other = ("ToyForCausalLM", "ToyForMaskedLM") if causal else ("ToyForMaskedLM", "ToyForCausalLM")
        raise ModelError(
            f"{ours} was given a configuration with causal={config.causal}.",
            f"It has causal={causal}.",
            f"Use {other} for this configuration.",
        )
    return config


CLASSES: dict[Head, Any] = {
    "causal": ToyForCausalLM,
    "masked": ToyForMaskedLM,
    "classifier": ToyForSequenceClassification,
}


def register() -> None:
    """Tell transformers' Auto classes about toys (`cutaway.open` does this when a folder holds one)."""
    AutoConfig.register(MODEL_TYPE, ToyConfig, exist_ok=True)
    for auto, made in (
        (AutoModel, ToyModel),
        (AutoModelForCausalLM, ToyForCausalLM),
        (AutoModelForMaskedLM, ToyForMaskedLM),
        (AutoModelForSequenceClassification, ToyForSequenceClassification),
    ):
        auto.register(ToyConfig, made, exist_ok=True)


def auto_class(config: ToyConfig) -> Any:
    """The Auto class that opens a toy with the head that its checkpoint has."""
    autos = {
        "ToyForCausalLM": AutoModelForCausalLM,
        "ToyForMaskedLM": AutoModelForMaskedLM,
        "ToyForSequenceClassification": AutoModelForSequenceClassification,
    }
    return autos.get((config.architectures or [""])[0], AutoModel)


@torch.no_grad()
def initialise(hf: nn.Module, seed: int) -> None:
    """Draw all weights anew from a seed: matrices with deviation 0.8 / √d_model, biases zero.

    Embeddings are drawn as matrices are, and with deviation 1 where no norm brings the stream to that size.
    """
    generator = torch.Generator().manual_seed(seed)
    deviation = 0.8 / float(hf.config.d_model) ** 0.5  # type: ignore[union-attr, arg-type]
    for weight in hf.parameters():
        if weight.ndim > 1:
            weight.copy_(torch.randn(weight.shape, generator=generator) * deviation)
    for module in hf.modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.zero_()
        if isinstance(module, nn.Embedding) and hf.config.norm == "none":
            module.weight.div_(deviation)


def toy(tokenizer: Any = None, *, head: Head = "causal", seed: int, **sizes: Any) -> Model:
    """A toy network with weights drawn from a seed, opened.

    Args:
        tokenizer: as `word_tokenizer` makes one; None for token ids only.
        head: what it ends in: the next token (`causal`), a token at each position (`masked`), or classes.
        seed: the weights follow from it.
        sizes: as `ToyConfig` has them. `vocab_size` follows from the tokenizer.
    """
    from cutaway.models.model import Model

    if tokenizer is not None:
        sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **sizes}
    config = ToyConfig(**{"causal": head == "causal", **sizes})
    with torch.random.fork_rng(devices=[]):
        hf = CLASSES[head](config)
    initialise(hf, seed)
    return Model(hf.eval(), tokenizer, name="toy", source=f"toy, seed {seed}")


PAD, UNKNOWN = "<pad>", "<unk>"


def word_tokenizer(
    words: Sequence[str], *, begin: str = "", end: str = "", longest: int = 10**6
) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are whole words, split at spaces: token i of a text is its word i.

    Args:
        words: the vocabulary, in the order of ids; `<pad>` and `<unk>` come after it unless they are in it.
        begin: a word that is put before every text, "" for none.
        end: a word that is put after every text, "" for none.
        longest: tokens of the longest text.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*words, *filter(None, (begin, end)), PAD, UNKNOWN]))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if begin or end:
        single = " ".join(filter(None, (begin, "$A", end)))
        special = [(word, vocabulary[word]) for word in dict.fromkeys(filter(None, (begin, end)))]
        made.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=begin or None,
        eos_token=end or None,
        model_max_length=longest,
    )
