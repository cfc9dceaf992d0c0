"""What is a law tried on? A network with a short prompt, what it gives untouched, and what a law found."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.core.edit import Edit
from cutaway.core.site import KINDS, Site
from cutaway.models.anatomy import Layer, probe_tolerance
from cutaway.models.forward import model_inputs
from cutaway.models.probe import tokens_from
from cutaway.models.program import Clock, Program

if TYPE_CHECKING:
    from cutaway.models.model import Model


@dataclass(frozen=True)
class Finding:
    """What a law found.

    Attributes:
        law: its name.
        worst: the largest difference that was found.
        allowed: the largest difference that passes.
        tried: how many sites or places were tried.
        faults: site -> what is wrong with it; empty where the law holds.
        skipped: why the law was not tried, where it was not.
    """

    law: str
    worst: float = 0.0
    allowed: float = 0.0
    tried: int = 0
    faults: dict[Site, str] = field(default_factory=dict)
    skipped: str = ""
    broken: str = ""

    @property
    def passed(self) -> bool:
        """True when nothing was found to be wrong."""
        return not self.faults and not self.broken

    def record(self) -> dict[str, Any]:
        """The finding as plain data, for JSON."""
        names = ("law", "worst", "allowed", "tried", "skipped", "broken", "passed")
        found = {name: getattr(self, name) for name in names}
        found["worst"] = found["worst"] if math.isfinite(found["worst"]) else None
        return {**found, "faults": {str(site): reason for site, reason in self.faults.items()}}


@dataclass
class Bench:
    """A network with a prompt to try laws on, and what it gives untouched.

    Attributes:
        model: the network.
        prompt, decoder: token ids; `decoder` for encoder-decoders.
    """

    model: Model
    prompt: tuple[int, ...]
    decoder: tuple[int, ...] | None
    _untouched: dict[int, Tensor] = field(default_factory=dict)

    @staticmethod
    def of(model: Model, length: int = 8, seed: int = 3) -> Bench:
        """A bench with a prompt of random tokens."""
        generator = torch.Generator().manual_seed(seed)
        low, high = tokens_from(model.anatomy.vocab_size)
        ids = [tuple(torch.randint(low, high, (n,), generator=generator).tolist()) for n in (length, length - 2)]
        bench = Bench(model, ids[0], ids[1] if model.anatomy.is_encoder_decoder else None)
        bench.output()  # some networks settle their configuration in their first pass
        return bench

    @cached_property
    def layers(self) -> list[tuple[str, Layer]]:
        """Every layer with the name of its stack, cross-attention as a stack of its own."""
        stacks = self.model.anatomy.stacks
        found = [(name, layer) for name, stack in stacks.items() for layer in stack.layers]
        return found + [("cross", layer) for stack in stacks.values() for layer in stack.cross.values()]

    @property
    def sites(self) -> list[Site]:
        """Every site that is served, whole."""
        return [
            Site(kind, layer.index, stack=name) for name, layer in self.layers for kind in KINDS if kind in layer.places
        ]

    @cached_property
    def base(self) -> Tensor:
        """The output of the untouched network."""
        return self.output()

    def untouched(self, rows: int) -> Tensor:
        """The output of the untouched network for so many rows, computed once."""
        if rows not in self._untouched:
            self._untouched[rows] = self.output(rows)
        return self._untouched[rows]

    @property
    def tolerance(self) -> float:
        """The rounding of a few operations in the network's dtype."""
        return probe_tolerance(self.model.hf)

    def output(self, rows: int = 1) -> Tensor:
        """What the plain network gives, with the prompt in so many rows."""
        with torch.no_grad():
            return main_output(self.model.hf(**self.inputs(rows)))

    def run(
        self, reads: Sequence[Site] = (), edits: Sequence[Edit] = (), rows: int = 1
    ) -> tuple[Tensor, dict[Site, Tensor]]:
        """The whole output and what was read, with the prompt in so many rows."""
        program = Program(self.model.anatomy, reads, edits, self.clock(rows))
        with torch.no_grad(), program.installed():
            output = main_output(self.model.hf(**self.inputs(rows)))
        return output, program.values

    def clock(self, rows: int) -> Clock:
        """Where the tokens of so many rows stand."""
        length = len(self.decoder if self.decoder is not None else self.prompt)
        return Clock([length] * rows, rows=list(range(rows)), cross_lengths=[len(self.prompt)] * rows)

    def inputs(self, rows: int) -> dict[str, Any]:
        """The arguments of a plain pass with the prompt in so many rows."""
        decoder = None if self.decoder is None else [self.decoder] * rows
        return model_inputs(self.model.hf, [self.prompt] * rows, decoder)

    def refuse(self, site: Site, reason: str) -> None:
        """Serve a site no longer."""
        layer = self.model.anatomy.layer(site)
        layer.places.pop(site.kind, None)
        layer.refused[site.kind] = reason


def main_output(output: Any) -> Tensor:
    """The logits of a network, or its last hidden state where it has no unembedding."""
    for name in ("logits", "last_hidden_state"):
        if isinstance(found := getattr(output, name, None), Tensor):
            return found
    return next(t for t in output.values() if isinstance(t, Tensor))


def difference(a: Tensor, b: Tensor) -> float:
    """The largest difference of two tensors, beside the largest entry of the second."""
    if a.shape != b.shape:
        return float("inf")
    if torch.equal(a, b):
        return 0.0
    gap = (a.double() - b.double()).abs().max() / b.double().abs().max().clamp_min(1e-12)
    return float(gap) if torch.isfinite(gap) else float("inf")


def tries(sites: Sequence[Site], differs: Callable[[Sequence[Site]], float], allowed: float = 0.0) -> dict[Site, float]:
    """The sites that are at fault: all are tried at once, and halves of what fails again."""
    gap = differs(sites)
    if gap <= allowed:
        return {}
    if len(sites) == 1:
        return {sites[0]: gap}
    middle = len(sites) // 2
    return tries(sites[:middle], differs, allowed) | tries(sites[middle:], differs, allowed)


def output_gap(bench: Bench, reads: Sequence[Site], edits: Sequence[Edit]) -> float:
    """How far reads and edits move the whole output; infinity where they are an error."""
    try:
        return difference(bench.run(reads, edits)[0], bench.base)
    except Exception:  # noqa: BLE001 - whatever a network raises under a tap is the law's finding
        return float("inf")


def sample(bench: Bench, sites: Sequence[Site]) -> list[Site]:
    """The sites of the first, the middle and the last of the layers that are built alike."""
    alike: dict[Any, list[Site]] = {}
    for site in sites:
        layer = bench.model.anatomy.layer(site)
        alike.setdefault((site.kind, site.stack, _build(layer)), []).append(site)
    return [s for some in alike.values() for s in dict.fromkeys((some[0], some[len(some) // 2], some[-1]))]


def _build(layer: Layer) -> Any:
    """How a layer is built: equal for layers that differ in their weights only."""
    places = [
        (kind, place.side, place.path.removeprefix(layer.path), place.index, place.scale, place.flat, place.fleeting)
        for kind, place in layer.places.items()
    ]
    return (type(layer.module), tuple(places), tuple(layer.refused), layer.n_heads, layer.n_kv_heads)


def noise_in_row(row: int, size: float = 1.0, *, seed: int | None = None) -> Callable[[Tensor], Tensor]:
    """A function that adds noise to one row of a value: `size` times as large as the row's entries spread."""

    def change(value: Tensor) -> Tensor:
        new = value.clone()
        generator = torch.Generator().manual_seed(row if seed is None else seed)
        noise = torch.randn(value.shape[1:], generator=generator, dtype=torch.float32).to(value)
        entries = value[row].detach().float()
        entries = entries[torch.isfinite(entries) & (entries > -1e30)]  # a mask is no spread
        spread = float(entries.std()) if entries.numel() > 1 else 1.0
        new[row] = value[row] + noise * (size * (spread or 1.0))
        return new

    return change
