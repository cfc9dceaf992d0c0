"""What would a method say of a network whose inside is known? A compiler of programs into the weights of a toy.

Each variable of a program (`toy_program`) gets directions of the stream of its own, each step a head or neurons that
read its operands and write it. So the true edges follow from the program alone: an edge is true where a step of the
target reads an operand that the source writes. Tools are judged against that, and not against another tool's run, as
circuits called true often were [@conmy2023; @lindner2023].

There is something to reject, too: idle heads and neurons with random weights read everything and write into directions
that nothing reads, and the directions of the stream are turned at random, so that no coordinate gives a variable away.

An edge of the program need not show: one that carries positions carries the same for every contrast. `shown` asks the
program itself, by the same intervention on an operand, which true edges can be found at all.
Limits: no norms; attention is sharp (a match is e^20 times as heavy as none), so gradients through it are tiny.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core.edge import Edge
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.models import toy_program
from cutaway.models.model import Model
from cutaway.models.toy import ToyConfig, ToyForCausalLM, word_tokenizer
from cutaway.models.toy_program import (
    RAMP,
    SHARPNESS,
    Floats,
    Gathered,
    Indices,
    Mapped,
    Paired,
    Slot,
    Step,
    Stepped,
    Tokens,
    Variable,
    differences,
)

IDLE_HEADS, IDLE_NEURONS, IDLE_WIDTH = 2, 8, 8
LEAST_WORDS = 24  # a network with fewer cannot be probed with different tokens
SHOWS = 1e-3  # logits: less is rounding
Replacement = Literal["contrast", "zero"]


@dataclass(frozen=True, eq=False)
class Compiled:
    """A network, the program that it carries out, and where each step of it is.

    Attributes:
        model: the network.
        output: what the program gives.
        logits: value of the output -> the word whose logit it raises, and by how much.
        sources: variable -> the part that writes it.
        targets: operand of a step -> what reads it.
    """

    model: Model
    output: Variable
    logits: Mapping[object, tuple[str, float]]
    sources: Mapping[Variable, Site]
    targets: Mapping[Slot, Site]

    @property
    def true_edges(self) -> tuple[Edge, ...]:
        """The edges of the program, each once."""
        return tuple(self.slots)

    @property
    def slots(self) -> dict[Edge, list[tuple[Slot, Variable]]]:
        """Each edge with the operands that it carries."""
        found: dict[Edge, list[tuple[Slot, Variable]]] = {}
        for (step, slot), target in self.targets.items():
            operand = self.output if step is None else step.operands[slot]
            found.setdefault(Edge(self.sources[operand], target), []).append(((step, slot), operand))
        return found

    def says(self, words: Sequence[str], replaced: Mapping[Slot, Floats] | None = None) -> dict[str, float]:
        """The logits of the program after a text (with its first word, if it has one), for the words that it names."""
        values = toy_program.run(self.output, words, replaced).output[-1]
        found: dict[str, float] = {}
        for label, value in zip(self.output.labels, values, strict=True):
            if label in self.logits:
                word, factor = self.logits[label]
                found[word] = found.get(word, 0.0) + factor * float(value)
        return found

    def shown(self, task: Task, replacement: Replacement = "contrast") -> tuple[Edge, ...]:
        """The true edges whose replacement changes what the program says on some prompt of a task."""
        pairs = [(self.words(prompt), self.words(other)) for prompt, other in _pairs(task)]
        return tuple(
            edge
            for edge, carried in self.slots.items()
            if any(self._moves(carried, i, pair, task, replacement) > SHOWS for i, pair in enumerate(pairs))
        )

    def words(self, text: str) -> list[str]:
        """The words that the network reads for a text."""
        ids = self.model.tokenizer(text)["input_ids"]
        return list(self.model.tokenizer.convert_ids_to_tokens(ids))

    def _moves(
        self,
        carried: list[tuple[Slot, Variable]],
        prompt: int,
        pair: tuple[list[str], list[str]],
        task: Task,
        replacement: Replacement,
    ) -> float:
        base = toy_program.run(self.output, pair[0])
        values = toy_program.run(self.output, pair[1] if replacement == "contrast" else pair[0]).values
        zero = 0.0 if replacement == "zero" else 1.0
        replaced = {slot: zero * _of(values, operand, base.values) for slot, operand in carried}
        before, after = self.says(pair[0]), self.says(pair[0], replaced)
        return abs(_margin(after, prompt, task) - _margin(before, prompt, task))


def _of(values: Mapping[Variable, Floats], operand: Variable, base: Mapping[Variable, Floats]) -> Floats:
    return values[operand] if operand in values else base[operand]


def _pairs(task: Task) -> list[tuple[str, str]]:
    return list(zip(task.prompts, task.contrasts or task.prompts, strict=True))


def _margin(said: Mapping[str, float], prompt: int, task: Task) -> float:
    right = np.mean([said.get(word, 0.0) for word in task.answers[prompt]])
    return float(right - np.mean([said.get(word, 0.0) for word in task.wrong[prompt]]))


# --- where each step goes --------------------------------------------------------------------------------------------


@dataclass
class Layout:
    """Which layer and head each step has; `times` counts half layers: after attention of layer l it is 2 l + 1."""

    times: dict[Variable, int] = field(default_factory=dict)
    heads: dict[Gathered, tuple[int, int]] = field(default_factory=dict)
    neurons: dict[int, list[Step]] = field(default_factory=dict)
    n_layers: int = 1
    n_heads: int = 1

    @staticmethod
    def of(output: Variable, random: np.random.Generator) -> Layout:
        """Each step as early as its operands allow; heads of a layer in random order, idle ones among them."""
        layout = Layout()
        gathered: dict[int, list[Gathered]] = {}
        for step in toy_program.steps_of(output):
            ready = max((layout.times.get(operand, 0) for operand in step.operands.values()), default=0)
            layer = (ready + 1) // 2 if isinstance(step, Gathered) else ready // 2
            layout.times[step] = 2 * layer + (1 if isinstance(step, Gathered) else 2)
            if isinstance(step, Gathered):
                gathered.setdefault(layer, []).append(step)
            else:
                layout.neurons.setdefault(layer, []).append(step)
        layout.n_layers = max([*gathered, *layout.neurons], default=0) + 1
        layout.n_heads = max((len(steps) for steps in gathered.values()), default=0) + IDLE_HEADS
        for layer, steps in gathered.items():
            order = random.permutation(layout.n_heads)
            layout.heads |= {step: (layer, int(order[i])) for i, step in enumerate(steps)}
        return layout

    def source(self, variable: Variable) -> Site:
        """The part that writes a variable."""
        if isinstance(variable, Tokens | Indices):
            return Site("embed")
        if isinstance(variable, Gathered):
            layer, head = self.heads[variable]
            return Site("z", layer, head=head)
        return Site("mlp_contrib", self.times[variable] // 2 - 1)

    def target(self, step: Variable, slot: str) -> Site:
        """What reads an operand of a step."""
        if isinstance(step, Gathered):
            layer, head = self.heads[step]
            return Site(slot, layer, head=head)
        return Site("mlp_in", self.times[step] // 2 - 1)


# --- compiling -------------------------------------------------------------------------------------------------------


def compiled(
    output: Variable,
    *,
    words: Sequence[str],
    positions: int,
    logits: Mapping[object, tuple[str, float]],
    begin: str = "",
    name: str = "program",
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Compiled:
    """Write a program into the weights of a network.

    Args:
        output: what the program gives.
        words: the vocabulary; words that do nothing are added to a small one.
        positions: tokens of the longest text.
        logits: value of the output -> the word whose logit it raises, and by how much.
        begin: a word before every text, "" for none.
        name: of the network.
        seed: of the idle parts, the order of heads and the turn of the directions.
        dtype: of the weights.
    """
    random = np.random.default_rng(seed)
    vocabulary = [*words, *(f"idle{i}" for i in range(LEAST_WORDS - len(words)))]
    tokenizer = word_tokenizer(vocabulary, begin=begin)
    layout = Layout.of(output, random)
    ends = _inputs(output)
    variables = [*ends, *toy_program.steps_of(output)]
    axes = _axes([*(len(variable.labels) for variable in variables), IDLE_WIDTH], random)
    directions, idle = dict(zip(variables, axes[:-1], strict=True)), axes[-1]
    config = ToyConfig(
        vocab_size=len(tokenizer),
        n_layers=layout.n_layers,
        n_heads=layout.n_heads,
        d_model=idle.shape[1],
        d_head=_head_width(layout),
        d_mlp=max((sum(map(_n_neurons, steps)) for steps in layout.neurons.values()), default=0) + IDLE_NEURONS,
        n_positions=positions,
        norm="none",
        attention_bias=True,
    )
    with torch.random.fork_rng(devices=[]):
        hf = ToyForCausalLM(config).to(dtype).eval()
    _Writer(hf, layout, directions, idle, random).write(output, ends, tokenizer, logits)
    targets: dict[Slot, Site] = {
        (step, slot): layout.target(step, slot) for step in layout.times for slot in step.operands
    }
    targets[None, "x"] = Site("logits")
    model = Model(hf, tokenizer, name=name, source=f"compiled program, seed {seed}")
    return Compiled(model, output, logits, {v: layout.source(v) for v in variables}, targets)


def _inputs(output: Variable) -> list[Tokens | Indices]:
    found: dict[Tokens | Indices, None] = {}
    for step in toy_program.steps_of(output):
        found.update(dict.fromkeys(v for v in step.operands.values() if isinstance(v, Tokens | Indices)))
    return list(found)


def _axes(widths: Sequence[int], random: np.random.Generator) -> list[Floats]:
    """Orthonormal directions [width, d_model] for each of several variables, at random angles to the coordinates."""
    total = sum(widths) + sum(widths) % 2
    turned, _ = np.linalg.qr(random.normal(size=(total, total)))
    ends = np.cumsum(widths)
    return [turned[end - width : end] for width, end in zip(widths, ends, strict=True)]


def _head_width(layout: Layout) -> int:
    sizes = [max(len(v.labels) for v in (s.values, s.keys) if v is not None) for s in layout.heads]
    return max(sizes, default=4)


def _n_neurons(step: Step) -> int:
    match step:
        case Mapped():
            return step.table.shape[0]
        case Paired():
            return step.table.shape[0] * step.table.shape[1]
        case Stepped():
            return 2 * len(step.at)
        case _:
            return 0


@dataclass
class _Writer:
    """Fills the weights of a network; `axes` are the directions of each variable [value, d_model]."""

    hf: Any
    layout: Layout
    axes: Mapping[Variable, Floats]
    idle: Floats
    random: np.random.Generator

    @torch.no_grad()
    def write(
        self,
        output: Variable,
        ends: Sequence[Tokens | Indices],
        tokenizer: Any,
        logits: Mapping[object, tuple[str, float]],
    ) -> None:
        """All weights: embeddings, heads, neurons, unembedding."""
        for parameter in self.hf.parameters():
            parameter.zero_()
        ids: dict[str, int] = tokenizer.get_vocab()
        self._embed(ends, ids)
        blocks = self.hf.model.layers
        taken = set(self.layout.heads.values())
        for layer, block in enumerate(blocks):
            for head in range(self.layout.n_heads):
                if (layer, head) not in taken:
                    self._idle_head(block.self_attn, head)
            self._mlp(block.mlp, self.layout.neurons.get(layer, []))
        for step, (layer, head) in self.layout.heads.items():
            self._head(blocks[layer].self_attn, head, step)
        unembed = self.hf.lm_head.weight
        for label, (word, factor) in logits.items():
            row = self.axes[output][list(output.labels).index(label)]
            unembed[ids[word]] += factor * _tensor(row, unembed)

    def _embed(self, ends: Sequence[Tokens | Indices], ids: Mapping[str, int]) -> None:
        tokens, places = self.hf.model.embed_tokens.weight, self.hf.model.embed_positions.weight
        tokens.copy_(_tensor(self.random.normal(size=(len(tokens), len(self.idle))) @ self.idle, tokens))
        for end in ends:
            for label, axis in zip(end.labels, self.axes[end], strict=True):
                row = tokens[ids[str(label)]] if isinstance(end, Tokens) else places[int(str(label))]
                row += _tensor(axis, tokens)

    def _head(self, attention: Any, head: int, step: Gathered) -> None:
        width = attention.head_dim
        rows = slice(head * width, (head + 1) * width)
        if step.keys is not None and step.match is not None:
            scale = SHARPNESS * float(width) ** 0.5
            _fill(attention.k_proj.weight[rows], self.axes[step.keys])
            if step.queries is None:
                _fill(attention.q_proj.bias[rows], scale * step.match)
            else:
                _fill(attention.q_proj.weight[rows], scale * step.match.T @ self.axes[step.queries])
        _fill(attention.v_proj.weight[rows], self.axes[step.values])
        _fill(attention.o_proj.weight[:, rows].T, self.axes[step])

    def _idle_head(self, attention: Any, head: int) -> None:
        width = int(attention.head_dim)
        rows = slice(head * width, (head + 1) * width)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            weight = projection.weight[rows]
            _fill(weight, self.random.normal(size=tuple(weight.shape)) / 2)
        written = self.random.normal(size=(width, len(self.idle))) @ self.idle / width**0.5
        _fill(attention.o_proj.weight[:, rows].T, written)

    def _mlp(self, mlp: Any, steps: Sequence[Step]) -> None:
        up, down = mlp.up_proj, mlp.down_proj
        start = 0
        for step in steps:
            read, bias, written, always = self._neurons(step)
            rows = slice(start, start + len(read))
            _fill(up.weight[rows], read)
            _fill(up.bias[rows], bias)
            _fill(down.weight[:, rows].T, written @ self.axes[step])
            down.bias += _tensor(always @ self.axes[step], down.bias)
            start += len(read)
        rows = slice(start, None)
        idle = up.weight[rows]
        _fill(idle, self.random.normal(size=tuple(idle.shape)) / 2)
        _fill(down.weight[:, rows].T, self.random.normal(size=(len(idle), len(self.idle))) @ self.idle)

    def _neurons(self, step: Step) -> tuple[Floats, Floats, Floats, Floats]:
        """What the neurons of a step read [neuron, d_model], their biases, what they write [neuron, value], and always."""
        match step:
            case Mapped():
                read = self.axes[step.x]
                return read, np.zeros(len(read)), step.table, np.zeros(step.table.shape[-1])
            case Paired():
                read = (self.axes[step.x][:, None] + self.axes[step.y][None]).reshape(-1, self.idle.shape[1])
                table = step.table.reshape(len(read), -1)
                return read, -np.ones(len(read)), table, np.zeros(table.shape[-1])
            case Stepped():
                rise = np.repeat(self.axes[step.x] / RAMP, 2 * len(step.at), axis=0)
                bias = np.array([[0.5 - at / RAMP, -0.5 - at / RAMP] for at in step.at]).reshape(-1)
                jumps = differences(step.table)
                return rise, bias, np.stack([jumps, -jumps], axis=1).reshape(len(rise), -1), step.table[0]
            case _:
                raise AssertionError(step)


def _tensor(values: NDArray[np.float64], like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(like.dtype)


def _fill(block: Tensor, values: NDArray[np.float64]) -> None:
    """Write values into the first rows of a block of weights."""
    block[: len(values)] = _tensor(values, block)
