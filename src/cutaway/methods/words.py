"""What does a model do with words, where it is made of tokens? Attention and vectors of words from those of tokens.

A word is given to the tokens that share characters with it. Attention *to* a word is the sum over its tokens, attention
*from* a word the mean over its tokens [@clark2019], so that what a word gives to all words and to the special tokens is
still one. A token that reaches over two words is shared between them by its characters, and a token of spaces alone is the
next word's. Words that have the same characters (parts of a contraction that is not spelt by them) share their tokens
equally.
A model with a causal mask rests its attention on the first token. Where its tokenizer writes no start token, one
is put before the sentence, so that the first word is a word like any other.
Limits: a tokenizer without offsets is asked token by token where each word ends, which can be one token off.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core.errors import SiteError, TaskError
from cutaway.core.progress import track
from cutaway.core.site import Site
from cutaway.core.tokens import prompt_ids, token_ends
from cutaway.data.conllu import Sentence
from cutaway.models.model import Model

ENTRIES_AT_ONCE = 2**25  # of patterns or vectors that are held: 128 MiB in single precision
_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


@dataclass(frozen=True)
class WordTokens:
    """A sentence in tokens, and which tokens are which words.

    Attributes:
        ids: what the model is given.
        words: the words as text.
        share: [word, token] how much of a token belongs to a word: a token's shares sum to one, or to none where it belongs
            to no word.
    """

    ids: tuple[int, ...]
    words: tuple[str, ...]
    share: NDArray[np.float32]

    @property
    def average(self) -> NDArray[np.float32]:
        """[word, token] weights of the mean over a word's tokens: each word's sum to one."""
        return self.share / self.share.sum(axis=1, keepdims=True)

    @property
    def ends(self) -> list[int]:
        """The last token of each word."""
        return [int(np.flatnonzero(row)[-1]) for row in self.share]


def words_of(text: str) -> list[tuple[int, int]]:
    """The characters of each word and each mark of a text, where nobody has said what its words are.

    >>> words_of("Don't go.")
    [(0, 5), (6, 8), (8, 9)]
    """
    return [match.span() for match in _WORD.finditer(text)]


def word_tokens(model: Model, text: str, spans: Sequence[tuple[int, int]] | None = None) -> WordTokens:
    """The tokens of a text and the words that they belong to.

    Args:
        model: with a tokenizer.
        text: a sentence.
        spans: characters of each word; `words_of` the text when None.

    Raises:
        TaskError: the model has no tokenizer, or a word has no token.
    """
    if model.tokenizer is None:
        raise TaskError(f"{model.name} has no tokenizer;", "words are found by a tokenizer.", "Open one with it.")
    spans = words_of(text) if spans is None else list(spans)
    ids = prompt_ids(model.tokenizer, text)
    overlap = _overlap(model, text, spans, len(ids))
    lost = np.flatnonzero(overlap.sum(axis=1) == 0)
    if len(lost) or not spans:
        word = text[slice(*spans[lost[0]])] if spans else ""
        raise TaskError(
            f"the word {word!r} of {text!r} has no token;" if spans else f"{text!r} has no words;",
            "each word of a sentence has one at least.",
        )
    total = overlap.sum(axis=0, keepdims=True)
    share = (overlap / np.where(total, total, 1)).astype(np.float32)
    start = start_ids(model, ids)
    share = np.concatenate([np.zeros((len(spans), len(start)), dtype=np.float32), share], axis=1)
    return WordTokens((*start, *ids), tuple(text[a:b] for a, b in spans), share)


def start_ids(model: Model, ids: Sequence[int]) -> tuple[int, ...]:
    """The start token, where a model with a causal mask has one and its tokenizer does not write it."""
    start = getattr(model.tokenizer, "bos_token_id", None)
    special = set(getattr(model.tokenizer, "all_special_ids", ()) or ())
    if not model.anatomy.is_causal or start is None or (ids and ids[0] in special):
        return ()
    return (int(start),)


def _overlap(model: Model, text: str, spans: Sequence[tuple[int, int]], size: int) -> NDArray[np.float64]:
    """[word, token] characters that they share."""
    tokenizer = model.tokenizer
    table = np.zeros((len(spans), size))
    special = set(getattr(tokenizer, "all_special_ids", ()) or ())
    ids = prompt_ids(tokenizer, text)
    if getattr(tokenizer, "is_fast", False):
        offsets = np.array(tokenizer(text, return_offsets_mapping=True)["offset_mapping"]).reshape(-1, 2)
        for word, (first, last) in enumerate(spans):
            shared = np.minimum(offsets[:, 1], last) - np.maximum(offsets[:, 0], first)
            table[word] = np.maximum(shared, 0)
        for token in np.flatnonzero(table.sum(axis=0) == 0):  # a space by itself belongs to the word that follows it
            if ids[token] not in special and spans:
                table[next((w for w, (first, _) in enumerate(spans) if first >= offsets[token, 1]), -1), token] = 1
        return table
    before = next((place for place, token in enumerate(ids) if token not in special), 0) - 1
    ends = token_ends(tokenizer, text, spans)
    for word, end in enumerate(ends):
        if end is not None:
            table[word, before + 1 : end + 1] = 1
            if end <= before:  # it ends within the token of the word before it
                table[word, end] = 1
            before = max(before, end)
    return table


# --- many sentences ----------------------------------------------------------------------------------------------


def sentences_in_tokens(
    model: Model, sentences: Sequence[Sentence]
) -> tuple[list[int], list[WordTokens], tuple[str, ...]]:
    """Which sentences fit into the model's context, their tokens, and a note where some do not."""
    limit = getattr(model.anatomy.text_config, "max_position_embeddings", None) or 10**9
    every = [word_tokens(model, sentence.text, sentence.spans) for sentence in sentences]
    kept = [index for index, found in enumerate(every) if len(found.ids) <= limit]
    if not kept:
        raise TaskError(
            f"none of the {len(every)} sentences fits into the {limit} tokens of {model.name};",
            "one does at least.",
            "Take shorter sentences.",
        )
    note = f"{len(every) - len(kept)} of {len(every)} sentences are longer than the model's {limit} tokens: left out."
    return kept, [every[index] for index in kept], () if len(kept) == len(every) else (note,)


def heads_of(model: Model, sites: str) -> list[Site]:
    """One site for each head that is asked for.

    Raises:
        SiteError: a site that is not a head's pattern, or the decoder's in an encoder-decoder.
    """
    found = model.expand(sites)
    wrong = [site for site in found if site.kind != "pattern" or site.position is not None or site.unit is not None]
    if wrong:
        raise SiteError(
            f"{str(wrong[0])!r} is not a head's pattern;",
            "words attend to words of the whole sentence.",
            "Write pattern[*], pattern[5] or pattern[9].head[6].",
        )
    if model.anatomy.is_encoder_decoder and any(not site.on_encoder for site in found):
        raise SiteError(
            f"{sites!r} is attention of the decoder;",
            "in an encoder-decoder it is the encoder that reads the sentence.",
            "Write encoder.pattern[*].",
        )
    heads: dict[Site, None] = {}
    for site in found:
        for head in range(model.anatomy.layer(site).n_heads) if site.head is None else (site.head,):
            heads[Site("pattern", site.layer, head=head, stack=site.stack)] = None
    return list(heads)


def head_name(site: Site) -> str:
    """`9.6` for head 6 of layer 9."""
    return f"{site.layer}.{site.head}"


def head_table(heads: Sequence[Site], values: NDArray) -> tuple[list[int], list[int], NDArray[np.float64]]:
    """Layers, heads, and the values [..., head site] as a table [..., layer, head]; NaN where a head was not asked for."""
    layers = sorted({int(str(site.layer)) for site in heads})
    numbers = sorted({int(str(site.head)) for site in heads})
    table = np.full((*values.shape[:-1], len(layers), len(numbers)), np.nan)
    for index, site in enumerate(heads):
        table[..., layers.index(int(str(site.layer))), numbers.index(int(str(site.head)))] = values[..., index]
    return layers, numbers, table


def word_attention(
    model: Model, found: Sequence[WordTokens], heads: Sequence[Site], what: str = "attention between words"
) -> Iterator[tuple[int, Tensor]]:
    """Each sentence's attention between its words [head, from word, to word], in any order of the sentences."""
    for index, pattern in token_attention(model, found, heads, what):
        average, share = (
            torch.from_numpy(each).to(pattern.device) for each in (found[index].average, found[index].share)
        )
        yield index, average @ pattern @ share.T


def token_attention(
    model: Model, found: Sequence[WordTokens], heads: Sequence[Site], what: str = "attention"
) -> Iterator[tuple[int, Tensor]]:
    """Each sentence's patterns [head, query, key] in single precision, in any order of the sentences."""
    wholes = list(dict.fromkeys(site.whole for site in heads))
    sizes = [model.anatomy.layer(site).n_heads for site in wholes]
    first = {whole: sum(sizes[:index]) for index, whole in enumerate(wholes)}
    chosen = [first[site.whole] + int(str(site.head)) for site in heads]
    for rows in track(_batches(found, lambda size: size * size * sum(sizes)), what):
        run = model.run([list(found[row].ids) for row in rows], read=wholes, logits="none")
        every = torch.cat([run[whole] for whole in wholes], dim=1)[:, chosen].float()
        for place, row in enumerate(rows):
            size = len(found[row].ids)
            yield row, every[place, :, :size, :size]


def word_vectors(
    model: Model, found: Sequence[WordTokens], sites: Sequence[Site], what: str = "vectors of words"
) -> list[NDArray[np.float32]]:
    """The vectors of each sentence's words [site, word, d_model]: means over their tokens."""
    width = model.anatomy.d_model
    vectors: list[NDArray[np.float32]] = [np.zeros(0, dtype=np.float32)] * len(found)
    for rows in track(_batches(found, lambda size: size * width * len(sites)), what):
        run = model.run([list(found[row].ids) for row in rows], read=list(sites), logits="none")
        values = torch.stack([run[site] for site in sites]).float().cpu().numpy()
        for place, row in enumerate(rows):
            vectors[row] = found[row].average @ values[:, place, : len(found[row].ids)]
    return vectors


def streams_of(model: Model, sites: str) -> list[Site]:
    """The residual streams that are asked for.

    Raises:
        SiteError: a site that is no whole residual stream.
    """
    found = list(model.expand(sites))
    kinds = ("embed", "resid_pre", "resid_mid", "resid_post", "final")
    wrong = [site for site in found if site.kind not in kinds or site.position is not None or site.unit is not None]
    if wrong:
        raise SiteError(
            f"{str(wrong[0])!r} is not a residual stream;",
            f"words are read from {', '.join(kinds)}, at every position.",
            "Write resid_post[*] or resid_post[5].",
        )
    if model.anatomy.is_encoder_decoder and any(not site.on_encoder for site in found):
        raise SiteError(
            f"{sites!r} is a stream of the decoder;",
            "in an encoder-decoder it is the encoder that reads the sentence.",
            "Write encoder.resid_post[*].",
        )
    return found


def _batches(found: Sequence[WordTokens], cost: Callable[[int], int]) -> list[list[int]]:
    """Sentences of like length together, never more than fits."""
    order = sorted(range(len(found)), key=lambda row: len(found[row].ids))
    batches: list[list[int]] = []
    for row in order:
        size = len(found[row].ids)
        fits = batches and (len(batches[-1]) + 1) * cost(size) <= ENTRIES_AT_ONCE
        if fits and (len(batches[-1]) + 1) * size <= 2048:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
