'''How does a model with attention alone find the next argument of a docstring?

    def load(self, size, mode, path, name, token, rate):
        """river stone lamp

        :param path: oil order
        :param name: town guest
        :param                                             ->  " token"

The article finds, in a network of four layers without MLPs, heads that copy the argument which follows the last described
one in the definition, and tests the circuit by resampling everything else [@heimersheim2023]. Its network is on a hub; here
the study trains one of the same shape on the source of Python's standard library and on docstrings made from the
library's own functions.
Limits: which heads do it depends on the training; what is compared is whether such heads exist and suffice.
'''

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from cutaway.core import view as views
from cutaway.core.claim import Claim, Figure
from cutaway.core.edit import Edit, patch
from cutaway.core.result import Result
from cutaway.core.site import Site
from cutaway.core.study import Findings, StudyRun, study
from cutaway.core.task import EncodedTask
from cutaway.data.python_source import Function, files, functions
from cutaway.data.tasks.docstring import ARGUMENTS, METHODS, docstring
from cutaway.data.words import NOUNS
from cutaway.methods.intervene.patching import patching
from cutaway.models.model import Model
from cutaway.models.toy import toy
from cutaway.models.training import own_loss, train
from cutaway.studies.statistics import Floats, resampled

LAYERS, HEADS, LENGTH = 4, 8, 80
VOCABULARY = 2000
MOST_ROUNDS, GAIN = 12, 0.005  # nats a token, on held-out docstrings
KEPT = LAYERS * HEADS // 3  # heads of the circuit: a third of all
CHANCE = 1 / 6


@study(
    paper="heimersheim2023",
    item="A8",
    asks="How does a model with attention alone find the next argument of a docstring?",
    uses=("patching",),
    seconds={"tiny": 20, "small": 1500},
    claims=(
        Claim(
            "success",
            "The model names the right argument of the six in 56 % of prompts (chance 17 %)",
            theirs="56 %",
            where="results, full model",
            mark="secondary",
            at_least=0.56,
            unit="share of prompts",
        ),
        Claim(
            "circuit",
            "The circuit of eight heads keeps 42 of these 56 %, everything else resampled: three quarters",
            theirs="75 %",
            where="results, circuit",
            mark="derived",
            at_least=0.75,
            unit="of the full success, by a third of the heads",
        ),
        Claim(
            "argument_mover",
            "Heads of the last layer attend from the end to the right argument in the definition (3.0 and 3.6 there)",
            where="attention patterns",
            mark="read",
            at_least=0.4,
            unit="attention of the best head of the last layer",
        ),
        Claim(
            "copies",
            "What those heads attend to, they write: they move the argument's name",
            where="argument movers",
            mark="ours",
            at_least=0.8,
            unit="share of names among their own 5 largest outputs",
        ),
        Claim(
            "definition_matters",
            "Other names in the definition destroy the answer (random_def)",
            where="prompt variants",
            mark="ours",
            at_least=0.8,
            unit="share of the logit difference lost",
        ),
        Claim(
            "docstring_matters",
            "Other names in the docstring destroy the answer (random_doc)",
            where="prompt variants",
            mark="ours",
            at_least=0.8,
            unit="share of the logit difference lost",
        ),
    ),
)
def heimersheim2023_docstring(run: StudyRun) -> Findings:
    """Train the network, find its heads by patching, keep a third of them and resample the rest."""
    model = run.trained("docstring_4l", train_network)
    n = run.size(tiny=8, small=200, paper=200)
    task = docstring(n=n, seed=run.seed)
    encoded = task.encode(model.tokenizer)
    effects = run.step(
        "effect of each head",
        lambda: patching(
            model, docstring(n=max(4, n // 4), seed=run.seed + 1), sites="z[*].head[*]", direction="noise", controls=0
        ),
    )
    order = [str(effects.data["cell"].values[i]) for i in np.argsort(-effects.data["effect"].values, kind="stable")]
    full = run.step("full model", lambda: _right(model, encoded, None).tolist())
    circuit = run.step("circuit", lambda: _right(model, encoded, order[:KEPT]).tolist())
    random = run.step("random circuits", lambda: _random_circuits(run, model, encoded, order))
    heads = run.step("heads", lambda: _heads(model, encoded))
    lost = {
        "random_def": run.step("random_def", lambda: _lost(model, n, run.seed, "random_def")),
        "random_doc": run.step("random_doc", lambda: _lost(model, n, run.seed, "random_doc")),
    }
    figures = _figures(np.array(full), np.array(circuit), np.array(random), heads, lost, run.seed)
    return Findings(figures, _result(effects, order, heads), _DIFFERS)


_DIFFERS = (
    "The article's network (attn-only-4l, trained on web text and code) is replaced by one of the same shape (4 "
    "layers of 8 heads, no MLPs) but smaller (d_model 128), trained for minutes on the source of Python's standard "
    "library and, in seven rows of eight, on docstrings that are made from names of the library's own functions and "
    "from the task's names of arguments. So the pattern is far more frequent in its training than in the article's, and "
    "success is easier to reach. The training ends when the loss on docstrings with names of other functions falls no "
    "further, or after twelve rounds. An earlier recipe (fewer steps, fewer descriptions, a larger vocabulary) gave a "
    "network at chance, 15.5 % right; this one was chosen by the loss on such docstrings and on the names in them, "
    "without a look at the claims. The circuit is chosen by the effect of resampling each head alone, on other prompts than "
    "those that it is scored on, not by hand."
)


# --- the network -------------------------------------------------------------------------------------------------


def train_network(run: StudyRun) -> Model:
    """Four layers of attention without MLPs, trained on program text and docstrings until new ones are read no better.

    Rounds of as many steps follow each other at one rate. After each of them the loss on held-out docstrings is taken, and
    nothing else is looked at: when it falls no further, or there are no more rounds, the rate falls to zero in a last round
    along a cosine [@loshchilov2017].
    """
    most = run.size(tiny=10, small=None, paper=None)
    text = "".join(files(most))[: run.size(tiny=200_000, small=3_000_000, paper=20_000_000)]
    tokenizer = _tokenizer(text)
    sizes: dict[str, Any] = {"n_layers": LAYERS, "n_heads": HEADS, "d_model": 128, "d_head": 16, "d_mlp": 0}
    model = toy(tokenizer, seed=run.seed, norm="layernorm", positions="learned", n_positions=2 * LENGTH, **sizes)
    source = np.array(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    held_out, known = functions(most)[::10], [one for i, one in enumerate(functions(most)) if i % 10]
    unseen = _batch(tokenizer, source, held_out, run.size(tiny=4, small=128, paper=128), np.random.default_rng(0), 0)
    rows, steps = run.size(tiny=8, small=48, paper=64), run.size(tiny=3, small=750, paper=2500)
    keep, losses = run.scratch("docstring_4l"), list[float]()
    for number in range(rounds := run.size(tiny=2, small=MOST_ROUNDS, paper=2 * MOST_ROUNDS)):
        first, last = number * steps, number + 1 == rounds or finished(losses)
        trained = train(
            model.hf,
            lambda step, first=first: _batch(  # type: ignore[misc]
                tokenizer, source, known, rows, np.random.default_rng((run.seed, 1, first + step)), rows // 8
            ),
            steps=steps,
            learning_rate=3e-3,
            warmup=0 if last else min(50, steps),
            schedule="cosine" if last else "constant",
            betas=(0.9, 0.98),
            seed=run.seed + number,
            keep=keep / f"round_{number}" if keep is not None else None,
            evaluate=lambda hf: {"loss": float(own_loss(hf, unseen))},
            what=f"docstring_4l, round {number + 1}",
        )
        losses.append(trained.evaluations[steps]["loss"])
        if last:
            break
    said = ", ".join(f"{loss:.3f}" for loss in losses)
    return Model(
        model.hf, tokenizer, name="docstring_4l", source=f"trained by heimersheim2023_docstring, losses {said}"
    )


def finished(losses: Sequence[float]) -> bool:
    """Whether neither of the last two rounds brought the loss on held-out docstrings `GAIN` below the least before them."""
    return len(losses) > 2 and min(losses[-2:]) > min(losses[:-2]) - GAIN


def _tokenizer(text: str) -> Any:
    """Byte-level pieces of program text; the words of the task are single tokens.

    There are few pieces, or most of the time would go into the probabilities of rare ones.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        show_progress=False,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    words = [f" {word}" for word in (*ARGUMENTS, *NOUNS, *METHODS)] + [":param"]
    pieces = [text[place : place + 2000] for place in range(0, len(text), 20_000)]
    tokenizer.train_from_iterator([*words * 50, *(f"def {word}(" for word in METHODS * 5), *pieces], trainer=trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=2 * LENGTH, **special)


def _batch(
    tokenizer: Any, source: Any, known: Sequence[Function], rows: int, rng: np.random.Generator, plain: int
) -> dict[str, Tensor]:
    """The first `plain` rows are pieces of the library, the others docstrings."""
    start = tokenizer.bos_token_id
    places = rng.integers(0, len(source) - LENGTH, plain)
    pieces = [[start, *source[place : place + LENGTH - 1].tolist()] for place in places]
    texts = ["\n\n".join(_document(rng, known) for _ in range(2)) for _ in range(rows - plain)]
    made = [row[:LENGTH] for row in tokenizer(texts, verbose=False)["input_ids"]]
    ids = torch.tensor([*pieces, *(row + [start] * (LENGTH - len(row)) for row in made)])
    labels = ids.clone()
    for row, tokens in enumerate(made, start=plain):
        labels[row, len(tokens) :] = -100
    return {"input_ids": ids, "labels": labels}


def _document(rng: np.random.Generator, known: Sequence[Function]) -> str:
    """A definition and the description of its arguments in turn, from one of the first three on.

    Names are those of several real functions and, for half of them or more, single tokens.
    """
    drawn = [known[i] for i in rng.integers(0, len(known), 8)]
    real = list(dict.fromkeys(name for one in drawn for name in one.arguments))
    count = int(rng.integers(3, 8))
    some_real = [real[i] for i in rng.permutation(len(real))[: int(rng.integers(0, count // 2 + 1))]]
    plain = [ARGUMENTS[i] for i in rng.choice(len(ARGUMENTS), count, replace=False)]
    names = list(dict.fromkeys([*some_real, *plain]))[:count]
    arguments = [names[i] for i in rng.permutation(count)]
    words = [word for one in drawn for word in one.words] or ["value"]
    method = drawn[0].name if rng.random() < 0.5 else METHODS[int(rng.integers(len(METHODS)))]

    def some(n: int) -> str:
        return " ".join(
            words[int(rng.integers(len(words)))] if rng.random() < 0.5 else NOUNS[int(rng.integers(len(NOUNS)))]
            for _ in range(n)
        )

    described = arguments[int(rng.integers(0, 3)) if count > 3 else 0 :]
    lines = [f"    :param {name}: {some(int(rng.integers(1, 3)))}" for name in described]
    opening = f"def {method}({', '.join(['self', *arguments])}):"
    return "\n".join([opening, f'    """{some(3)}', "", *lines])


# --- what is measured --------------------------------------------------------------------------------------------


def _right(model: Model, encoded: EncodedTask, kept: Sequence[str] | None) -> Floats:
    """Whether the right argument has the largest logit of the six [prompt]; with `kept`, all other heads are the contrast's."""
    edits: list[Edit] = []
    if kept is not None:
        other = model.run([list(ids) for ids in encoded.contrast_ids], read="z[*]", logits="none")
        sites = [Site("z", layer, head=head) for layer in range(LAYERS) for head in range(HEADS)]
        edits = [patch(site, other) for site in sites if str(site) not in set(kept)]
    logits = model.run([list(ids) for ids in encoded.ids], edit=edits, logits="last").last_logits
    rights = [
        float(row[answer[0]] > max(row[i] for i in wrong))
        for row, answer, wrong in zip(logits, encoded.answer_ids, encoded.wrong_ids, strict=True)
    ]
    return np.array(rights)


def _random_circuits(run: StudyRun, model: Model, encoded: EncodedTask, heads: Sequence[str]) -> list[float]:
    rng = np.random.default_rng(run.seed)
    times = run.size(tiny=2, small=20, paper=100)
    return [float(_right(model, encoded, list(rng.choice(heads, KEPT, replace=False))).mean()) for _ in range(times)]


def _heads(model: Model, encoded: EncodedTask) -> dict[str, Any]:
    """Attention of every head from the end to the right argument, and how often a head writes the name that it reads."""
    run = model.run([list(ids) for ids in encoded.ids], read="pattern[*]", logits="none")
    attention = np.zeros((LAYERS, HEADS))
    for layer in range(LAYERS):
        pattern = run[f"pattern[{layer}]"]
        where = zip(encoded.positions["end"], encoded.positions["c_def"], strict=True)
        attention[layer] = np.mean(
            [pattern[row, :, end, c].cpu().numpy() for row, (end, c) in enumerate(where)], axis=0
        )
    best = int(attention[-1].argmax())
    return {
        "attention": attention.tolist(),
        "best": best,
        "copies": [_copies(model, encoded, head) for head in range(HEADS)],
    }


def _copies(model: Model, encoded: EncodedTask, head: int) -> float:
    """Share of names that are among the five largest of the argument names in what a last-layer head makes of them."""
    layer = LAYERS - 1
    names = [model.token_id(f" {name}") for name in ARGUMENTS if len(model.encode(f" {name}")) <= 2]
    run = model.run([list(ids) for ids in encoded.ids], read=f"v[{layer}].head[{head}]", logits="none")
    values = run[f"v[{layer}].head[{head}]"]
    wide = torch.stack([values[row, c] for row, c in enumerate(encoded.positions["c_def"])])
    logits = (wide @ model.W_O(layer)[head].to(wide)) @ model.W_U.to(wide)[:, names]
    own = torch.tensor([names.index(answer[0]) if answer[0] in names else -1 for answer in encoded.answer_ids])
    return float((logits.topk(5, dim=1).indices == own[:, None]).any(dim=1).float().mean())


def _lost(model: Model, n: int, seed: int, contrast: Literal["random_def", "random_doc"]) -> dict[str, list[float]]:
    """The logit difference (right argument minus the best wrong one) with and without the change [prompt]."""
    encoded = docstring(n=n, seed=seed, contrast=contrast).encode(model.tokenizer)
    found = {}
    for name, ids in (("prompt", encoded.ids), ("contrast", encoded.contrast_ids)):
        logits = model.run([list(each) for each in ids], logits="last").last_logits
        found[name] = [
            float(row[answer[0]] - torch.stack([row[i] for i in wrong]).mean())
            for row, answer, wrong in zip(logits, encoded.answer_ids, encoded.wrong_ids, strict=True)
        ]
    return found


def _figures(
    full: Floats,
    circuit: Floats,
    random: Floats,
    heads: dict[str, Any],
    lost: dict[str, dict[str, list[float]]],
    seed: int,
) -> dict[str, Figure]:
    n, best = len(full), int(heads["best"])
    attention = np.array(heads["attention"])

    def share(chosen: Any) -> float:
        return float(circuit[chosen].mean() / max(full[chosen].mean(), 1e-9))

    def without(name: str) -> Figure:
        prompt, contrast = (np.array(lost[name][key]) for key in ("prompt", "contrast"))

        def of(chosen: Any) -> float:
            return 1 - float(contrast[chosen].mean() / prompt[chosen].mean())

        return Figure(of(np.arange(len(prompt))), *resampled(of, len(prompt), seed=seed), len(prompt))

    kept = float(np.mean(random) / max(full.mean(), 1e-9))
    return {
        "success": Figure(
            full.mean(), *resampled(lambda c: float(full[c].mean()), n, seed=seed), n, CHANCE, "chance: one of six"
        ),
        "circuit": Figure(
            share(np.arange(n)), *resampled(share, n, seed=seed), n, kept, f"{len(random)} random sets of {KEPT} heads"
        ),
        "argument_mover": Figure(
            attention[-1, best], n=n, control=float(np.median(attention)), control_is="median head"
        ),
        "copies": Figure(
            heads["copies"][best], n=n, control=float(np.median(heads["copies"])), control_is="median head of the layer"
        ),
        "definition_matters": without("random_def"),
        "docstring_matters": without("random_doc"),
    }


def _result(effects: Result, order: Sequence[str], heads: dict[str, Any]) -> Result:
    data = xr.Dataset(
        {
            "effect": (("layer", "head"), effects.data["effect"].values.reshape(LAYERS, HEADS)),
            "attention_to_answer": (("layer", "head"), np.array(heads["attention"])),
            "kept": ("rank", list(order[:KEPT])),
        },
        coords={"layer": np.arange(LAYERS), "head": np.arange(HEADS)},
    )
    pictures = (
        views.heatmap(
            value="effect", x="head", y="layer", title="Share of the logit difference lost when a head is resampled"
        ),
        views.heatmap(
            value="attention_to_answer", x="head", y="layer", title="Attention from the end to the right argument"
        ),
        views.table(columns=["kept"], title="Heads of the circuit"),
    )
    return Result(data=data, metrics={"heads_kept": KEPT}, views=pictures)
