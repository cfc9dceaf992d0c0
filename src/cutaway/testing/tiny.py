"""A model that is small enough for a test and real in every part.

Llama and GPT-2 (and BERT, for what cannot be asked of it) with three layers of width 32, random weights, and
a byte-level BPE tokenizer trained on the spot, so that words of the task are single tokens, as they are for a
large model. Nothing is read from a disk or a network, and the same arguments give the same model. Limits: the
weights mean nothing; what holds here holds for the code, not for language models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from cutaway.core.task import Task
from cutaway.models.model import Model

Family = Literal["llama", "gpt2", "bert"]
FAMILIES: tuple[Family, ...] = ("llama", "gpt2", "bert")

_LAYERS, _WIDTH, _HEADS, _CONTEXT = 3, 32, 4, 256
_LARGEST_VOCABULARY = 8000
_START, _END, _PAD = "<s>", "</s>", "<pad>"


def tiny_task() -> Task:
    """Four prompts of two lengths, with contrasts, answers, wrong answers and a named position."""
    frames = (
        "When {a} and {b} went to the store, {b} gave a drink to",
        "Then {a} and {b} met, and {b} waved to",
    )
    people = (("Mary", "John"), ("Anna", "Paul"), ("Rosa", "Mark"), ("Emma", "Carl"))
    texts = [(frames[i // 2], a, b) for i, (a, b) in enumerate(people)]
    prompts = tuple(frame.format(a=a, b=b) for frame, a, b in texts)
    return Task(
        name="tiny",
        prompts=prompts,
        contrasts=tuple(frame.format(a=b, b=a) for frame, a, b in texts),
        answers=tuple((f" {a}",) for _, a, _ in texts),
        wrong=tuple((f" {b}",) for _, _, b in texts),
        positions={"subject": tuple((p.rindex(b), p.rindex(b) + len(b)) for p, (_, _, b) in zip(prompts, texts))},
        template=tuple("store" if i < 2 else "met" for i in range(len(prompts))),
        source="written for tests",
    )


def tiny(family: Family = "llama", *, seed: int = 0, texts: Iterable[str] = ()) -> Model:
    """A tiny random model, opened.

    Args:
        family: which architecture.
        seed: the weights follow from it; the global random state is left as it was.
        texts: further texts whose words shall be single tokens.
    """
    tokenizer = tiny_tokenizer([*texts_of(tiny_task()), *texts], start=family == "llama")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        hf = _network(family, len(tokenizer))
    _spread(hf, torch.Generator().manual_seed(seed))
    return Model(hf.eval(), tokenizer, name=f"tiny-{family}", source=f"random weights, seed {seed}")


def tiny_folder(folder: Path, family: Family = "llama", *, seed: int = 0, texts: Iterable[str] = ()) -> Path:
    """A tiny model in a folder, to be opened by its path: `cutaway run METHOD --model FOLDER`."""
    model = tiny(family, seed=seed, texts=texts)
    model.hf.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


def tiny_tokenizer(texts: Sequence[str], *, start: bool) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with one token for each word of `texts`; other words have several.

    Args:
        texts: what it is trained on.
        start: whether a text begins with a start token, as Llama's do.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_LARGEST_VOCABULARY,
        min_frequency=1,
        show_progress=False,
        special_tokens=[_START, _END, _PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    if start:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{_START} $A", pair=f"{_START} $A $B", special_tokens=[(_START, 0)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=_START,
        eos_token=_END,
        pad_token=_PAD,
        model_max_length=_CONTEXT,
    )


def texts_of(task: Task) -> list[str]:
    """Everything that a task says: prompts, contrasts, answers, and prompts with each answer after them."""
    groups = [zip(task.prompts, answers) for answers in (task.answers, task.wrong)]
    pairs = [(prompt, answer) for group in groups for prompt, answers in group for answer in answers]
    alone = [answer for _, answer in pairs]
    return [*task.prompts, *task.contrasts, *alone, *(prompt + answer for prompt, answer in pairs)]


def _network(family: Family, vocabulary: int) -> Any:
    match family:
        case "llama":
            return LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=vocabulary,
                    hidden_size=_WIDTH,
                    intermediate_size=2 * _WIDTH,
                    num_hidden_layers=_LAYERS,
                    num_attention_heads=_HEADS,
                    num_key_value_heads=_HEADS // 2,
                    max_position_embeddings=_CONTEXT,
                    bos_token_id=0,
                    eos_token_id=1,
                    pad_token_id=2,
                )
            )
        case "gpt2":
            sizes = {"n_embd": _WIDTH, "n_layer": _LAYERS, "n_head": _HEADS, "n_positions": _CONTEXT}
            return GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, bos_token_id=0, eos_token_id=1, **sizes))
        case "bert":
            return BertModel(
                BertConfig(
                    vocab_size=vocabulary,
                    hidden_size=_WIDTH,
                    intermediate_size=2 * _WIDTH,
                    num_hidden_layers=_LAYERS,
                    num_attention_heads=_HEADS,
                    max_position_embeddings=_CONTEXT,
                )
            )


@torch.no_grad()
def _spread(network: torch.nn.Module, generator: torch.Generator) -> None:
    """Larger weights than training starts from: with those, every prediction is nearly the same."""
    for weight in network.parameters():
        noise = torch.randn(weight.shape, generator=generator)
        weight.copy_(0.2 * noise if weight.ndim > 1 else weight + 0.1 * noise)
