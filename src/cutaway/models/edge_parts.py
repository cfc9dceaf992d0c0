"""Between which parts does a network have edges? Its sources and targets, with the modules that stand between them.

A target reads `norm(stream)`: the norm that stands in front of a branch is found from values, as is the matrix that
makes each head's q, k and v (`projections.py`) and the one that takes each head's z to the stream. What is not exact
is not offered: where the heads of a branch do not add up to what it adds (a norm or a gate after them) the branch is
one source, `attn_contrib[l]`; where its heads cannot be told apart in what they read it is one target, `attn_in[l]`.
Refused, with the reason: networks whose stream is normalised after each sum, and layers that add something else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cutaway.core.edge import EdgeGraph
from cutaway.core.errors import ModelError
from cutaway.core.site import Site
from cutaway.models import projections, taps
from cutaway.models.anatomy import Layer
from cutaway.models.probe import same
from cutaway.models.projections import Projections
from cutaway.models.unembedding import FrozenNorm

if TYPE_CHECKING:
    from cutaway.models.model import Model

EMBED = Site("resid_pre", 0)  # what enters layer 0: the value of the source `embed`
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True, eq=False)
class Norm:
    """What stands between the stream and a branch.

    Attributes:
        module: the norm; None where the branch reads the stream itself.
        learned: its gain and scale, once they were needed; see `norm_gradients.pulled_back`.
    """

    module: nn.Module | None
    learned: list[FrozenNorm | None] = field(default_factory=list)

    def __call__(self, stream: Float[Tensor, "*row position d_model"]) -> Float[Tensor, "*row position d_model"]:
        """The norm of a stream, by the network's own module but past its hooks."""
        if self.module is None:
            return stream
        out = self.module.forward(stream)
        return out if isinstance(out, Tensor) else out[0]


@dataclass(frozen=True, eq=False)
class LayerParts:
    """The sources and targets of one layer.

    Attributes:
        layer: where its values pass.
        attention, mlp: whether it has the branch.
        projections: of its heads; None where the branch is one target, `attn_in`.
        heads: whether its heads are sources; otherwise the branch is one, `attn_contrib`.
        scale: by which what attention returns is multiplied when it is added.
        attn_norm, mlp_norm: in front of the branches.
    """

    layer: Layer
    attention: bool
    mlp: bool
    projections: Projections | None
    heads: bool
    scale: float
    attn_norm: Norm
    mlp_norm: Norm

    @property
    def index(self) -> int:
        """Number of the layer."""
        return self.layer.index

    @property
    def source_sites(self) -> tuple[Site, ...]:
        """What to read for the contributions of its sources, whole."""
        found = []
        if self.attention:
            found.append(Site("z" if self.heads else "attn_contrib", self.index))
        if self.mlp:
            found.append(Site("mlp_contrib", self.index))
        return tuple(found)


@dataclass(frozen=True, eq=False)
class Parts:
    """All parts of a network, with their graph."""

    graph: EdgeGraph
    layers: tuple[LayerParts, ...]

    @property
    def source_sites(self) -> tuple[Site, ...]:
        """What to read for the contributions of all sources: `resid_pre[0]` stands for `embed`."""
        return (EMBED, *(site for part in self.layers for site in part.source_sites))

    @property
    def mlp_outputs(self) -> tuple[Site, ...]:
        """What the modules of the MLPs return, where that can be read."""
        return tuple(Site("mlp_out", part.index) for part in self.layers if "mlp_out" in part.layer.places)

    @cached_property
    def numbers(self) -> dict[tuple[int, str], list[int]]:
        """The numbers of the sources of each layer and kind."""
        found: dict[tuple[int, str], list[int]] = {}
        for number, site in enumerate(self.graph.sources):
            if isinstance(site.layer, int):
                found.setdefault((site.layer, site.kind), []).append(number)
        return found

    def constant(self, target: Site) -> Float[Tensor, " d_model"] | None:
        """What a target reads that no source writes: the biases of the attention outputs before it."""
        total: Tensor | None = None
        for part in self.layers:
            here = target.layer == part.index
            if here and (target.kind != "mlp_in" or part.layer.parallel):
                break
            bias = getattr(part.layer.output_projection, "bias", None) if part.attention and part.heads else None
            if isinstance(bias, Tensor):
                total = bias * part.scale if total is None else total + bias * part.scale
            if here:
                break
        return total


def parts_of(model: Model) -> Parts:
    """The parts of a network, learned once; `ModelError` says why where it has no edges that are exact."""
    known: Parts | None = model.__dict__.get("_edge_parts")
    if known is None:
        known = model.__dict__["_edge_parts"] = _parts(model)
    return known


def _parts(model: Model) -> Parts:
    anatomy, name = model.anatomy, type(model.hf).__name__
    if anatomy.is_encoder_decoder or anatomy.unembed is None:
        raise ModelError(
            f"{name} has no edges to logits of its own stream.", "Edges need one stack with an unembedding."
        )
    for layer in anatomy.stacks[""].layers:
        if (reason := _not_a_sum(layer)) is not None:
            raise ModelError(
                f"The stream of {name} is not a sum of what its parts add: {reason} (layer {layer.index}).",
                "Edges are exact only where it is.",
                "Patch sites instead, for example with method patching.",
            )
    values = _watched(model)
    found = projections.find(model)
    layers = tuple(
        _layer_parts(model, layer, found[layer.index], values[layer.index]) for layer in anatomy.stacks[""].layers
    )
    notes = [_note(part, found[part.index]) for part in layers]
    return Parts(_graph(layers, tuple(dict.fromkeys(note for note in notes if note))), layers)


def _not_a_sum(layer: Layer) -> str | None:
    if layer.post_norm and layer.norms:
        return "it is normalised after each sum"
    if not layer.complete:
        return layer.refused.get("attn_contrib") or layer.refused.get("mlp_contrib") or "something else is added too"
    for kind in ("resid_pre", "resid_post"):
        if kind not in layer.places:
            return layer.refused.get(kind, f"{kind} was not found")
    if "MLP comes before attention" in layer.refused.get("resid_mid", ""):
        return "the MLP comes before attention"
    if "attn_contrib" in layer.places and "attn_in" not in layer.places and layer.attention is None:
        return layer.refused.get("attn_in", "no module takes the input of attention")
    if "mlp_contrib" in layer.places and "mlp_in" not in layer.places:
        return layer.refused.get("mlp_in", "no module takes the input of the MLP")
    return None


# --- learning the norms ------------------------------------------------------------------------------------------


@dataclass
class _Values:
    """What modules of a layer took and gave in a short run: (module, input, output), and the layer's input."""

    calls: list[tuple[nn.Module, Tensor, Tensor]]
    stream: Tensor | None = None


def _watched(model: Model) -> list[_Values]:
    from cutaway.models.anatomy import _probe_inputs

    layers = model.anatomy.stacks[""].layers
    values = [_Values([]) for _ in layers]
    modules: dict[str, nn.Module] = {}
    for layer in layers:
        modules |= {f"{layer.index} {path}": module for path, module in layer.module.named_modules() if path}

    def seen(name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        found = taps.first_tensor(args, kwargs)
        out = output if isinstance(output, Tensor) else next((t for t in output if isinstance(t, Tensor)), None)
        if found is not None and out is not None:
            values[int(name.partition(" ")[0])].calls.append((module, inputs.pop(module, found[1]), out.clone()))

    inputs: dict[nn.Module, Tensor] = {}

    def entering(layer: Layer) -> taps.ModuleTap:
        return taps.ModuleTap(layer.module, "in", lambda t: setattr(values[layer.index], "stream", t.clone()))

    def keeping(module: nn.Module) -> taps.ModuleTap:
        return taps.ModuleTap(module, "in", lambda t: inputs.__setitem__(module, t.clone()))

    with (
        torch.no_grad(),
        taps.module_taps([*map(entering, layers), *map(keeping, modules.values())]),
        taps.watching(modules, seen),
    ):
        model.hf(**_probe_inputs(model.anatomy))
    return values


def _layer_parts(model: Model, layer: Layer, found: Projections | str, values: _Values) -> LayerParts:
    attention, mlp = "attn_contrib" in layer.places, "mlp_contrib" in layer.places
    own = found if isinstance(found, Projections) and attention else None
    heads = own is not None or "z" in layer.places
    scale, heads = _head_scale(model, layer, values) if attention and heads else (1.0, False)
    stream = values.stream
    assert stream is not None
    attn_norm = mlp_norm = Norm(None)
    if attention:
        taker = own.q.module if own is not None else layer.places["attn_in"].module
        attn_norm = _norm(layer, values, stream, _input(values, taker), "attention")
        for kind in ("k", "v") if own is not None else ():
            assert own is not None
            if not torch.equal(_input(values, own.of(kind).module), _input(values, taker)):
                raise _unexplained(layer, "attention", "q, k and v read different values")
    if mlp:
        middle = stream if layer.parallel or not attention else stream + _added(layer, values, "attn_contrib")
        mlp_norm = _norm(layer, values, middle, _input(values, layer.places["mlp_in"].module), "MLP")
    return LayerParts(layer, attention, mlp, own, heads, scale, attn_norm, mlp_norm)


def _call(values: _Values, module: nn.Module) -> tuple[Tensor, Tensor]:
    return next((inp, out) for seen, inp, out in values.calls if seen is module)


def _input(values: _Values, module: nn.Module) -> Tensor:
    return _call(values, module)[0]


def _added(layer: Layer, values: _Values, kind: str) -> Tensor:
    place = layer.places[kind]
    raw = _call(values, place.module)[1]
    return place.get(raw, 1).reshape(1, -1, raw.shape[-1])


def _norm(layer: Layer, values: _Values, stream: Tensor, taken: Tensor, branch: str) -> Norm:
    """The module that gives what a branch takes, from the stream."""
    tolerance = ROUNDING.get(stream.dtype, 5e-2)
    if same(taken, stream, tolerance):
        return Norm(None)
    for module, inp, out in values.calls:
        if inp.numel() == stream.numel() and same(out, taken, 0) and same(inp, stream, tolerance):
            return Norm(module)
    raise _unexplained(layer, branch, "no one module makes it from the stream")


def _unexplained(layer: Layer, branch: str, why: str) -> ModelError:
    return ModelError(
        f"What the {branch} of layer {layer.index} reads is not explained: {why}.",
        "An edge needs the norm between the stream and the branch.",
        "Patch sites instead, for example with method patching.",
    )


def _head_scale(model: Model, layer: Layer, values: _Values) -> tuple[float, bool]:
    """The factor between what attention returns and what is added; and whether the heads add up to it."""
    if layer.output_projection is None or "z" not in layer.places:
        return 1.0, False
    weight = getattr(layer.output_projection, "weight", None)
    plain = isinstance(weight, Tensor) and weight.is_floating_point() and weight.device.type != "meta"
    place = layer.places["attn_contrib"]
    if not plain or layer.n_heads <= 0:
        return 1.0, False
    z, out = _call(values, layer.output_projection)
    matrix = model.W_O(layer.index).to(z)
    each = z.reshape(1, -1, matrix.shape[0], matrix.shape[1]) if z.shape[-1] == matrix.shape[0] * matrix.shape[1] else z
    if each.dim() != 4:
        return 1.0, False
    summed = torch.einsum("bthv,hvd->btd", each, matrix)
    bias = getattr(layer.output_projection, "bias", None)
    summed = summed if bias is None else summed + bias
    added = _added(layer, values, "attn_contrib")
    tolerance = ROUNDING.get(z.dtype, 5e-2)
    fits = same(summed, out, tolerance) and same(out * place.scale, added, tolerance)
    return place.scale, fits


# --- the graph ---------------------------------------------------------------------------------------------------


def _graph(layers: tuple[LayerParts, ...], notes: tuple[str, ...]) -> EdgeGraph:
    sources: list[tuple[Site, int]] = [(Site("embed"), -1)]
    targets: list[tuple[Site, int]] = []
    for part in layers:
        number, when = part.index, 2 * part.index
        sources += [(site, when) for site in _attention_sources(part)]
        sources += [(Site("mlp_contrib", number), when + 1)] * part.mlp
        targets += [(site, when) for site in _attention_targets(part)]
        targets += [(Site("mlp_in", number), when if part.layer.parallel else when + 1)] * part.mlp
    targets.append((Site("logits"), 2 * len(layers)))
    written = np.array([when for _, when in sources])
    read = np.array([when for _, when in targets])
    names, readers = tuple(site for site, _ in sources), tuple(site for site, _ in targets)
    feeds = np.array([[_feeds(target, source, layers) for source in names] for target in readers])
    return EdgeGraph(names, readers, written[:, None] < read[None, :], feeds, len(layers), notes)


def _attention_sources(part: LayerParts) -> list[Site]:
    if not part.attention:
        return []
    if not part.heads:
        return [Site("attn_contrib", part.index)]
    return [Site("z", part.index, head) for head in range(part.layer.n_heads)]


def _attention_targets(part: LayerParts) -> list[Site]:
    if not part.attention:
        return []
    if part.projections is None:
        return [Site("attn_in", part.index)]
    return [Site(kind, part.index, head) for kind, own in part.projections for head in range(len(own.columns))]


def _feeds(target: Site, source: Site, layers: tuple[LayerParts, ...]) -> bool:
    """Whether a source is computed from a target."""
    if target.layer != source.layer or target.layer is None or source.layer is None:
        return False
    if (target.kind == "mlp_in") != (source.kind == "mlp_contrib"):
        return False
    if target.head is None or source.head is None:
        return True
    assert isinstance(target.layer, int) and isinstance(source.head, int)
    part = layers[target.layer].layer
    shared = part.n_heads // max(1, part.n_kv_heads) if target.kind in "kv" else 1
    return bool(source.head // shared == target.head)


def _note(part: LayerParts, found: Projections | str) -> str:
    if part.attention and part.projections is None:
        return f"Attention is one target for each layer: {found if isinstance(found, str) else 'it has no heads'}."
    if part.attention and not part.heads:
        return (
            "Attention is one source for each layer, for its heads do not add up to what it adds (a norm after them)."
        )
    return ""
