"""How does a change of a head's z reach the next layer? Without running attention again.

What a head writes is linear in its z: the attention module's output changes by Δz W_O. So a row that changes z at layer
l takes the base run's attention output plus that difference, and only the rest of the layer (norm, MLP) is run: the
layer's own code, with its attention module passed over. The row then joins the batch at layer l + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cutaway.core.site import Site
from cutaway.models import taps
from cutaway.models.anatomy import Layer
from cutaway.models.recording import Recording

if TYPE_CHECKING:
    from cutaway.models.model import Model
    from cutaway.models.resume import Job


def attention_module(layer: Layer) -> nn.Module | None:
    """The module that can be passed over: it holds the whole of attention, its output projection too."""
    place = layer.places.get("attn_out")
    if place is None or layer.parallel or layer.core is None or layer.output_projection is None:
        return None
    if any(weight.device.type == "meta" for weight in layer.output_projection.parameters()):
        return None  # the weights are fetched for each use: only their module has them
    inside = list(place.module.modules())
    return place.module if layer.core in inside and layer.output_projection in inside else None


def entered(model: Model, base: Recording, jobs: Sequence[Job]) -> list[Job]:
    """The same jobs, in order; those that change z become changes of the stream after their layer."""
    by_layer: dict[int, list[int]] = {}
    for place, job in enumerate(jobs):
        if job.site.kind == "z" and Site("attn_out", job.layer) in base.sites:
            by_layer.setdefault(job.layer, []).append(place)
    found = list(jobs)
    for index, places in by_layer.items():
        streams = _after_layer(model, base, index, [jobs[place] for place in places])
        last = index + 1 == model.anatomy.n_layers
        site = Site("resid_post", index) if last else Site("resid_pre", index + 1)
        for place, stream in zip(places, streams, strict=True):
            found[place] = replace(jobs[place], site=site, layer=index + 1, value=stream)
    return found


def _after_layer(model: Model, base: Recording, index: int, jobs: Sequence[Job]) -> Tensor:
    """The stream after a layer, for rows that change z in it [job, position, d_model]."""
    layer = model.anatomy.stacks[""].layers[index]
    place, weight = layer.places["attn_out"], model.W_O(index)
    start = min(job.start for job in jobs)
    prompts = torch.tensor([job.prompt for job in jobs], device=base.streams[index].device)
    attention = base.sites[Site("attn_out", index)][prompts]
    old = base.sites[Site("z", index)]
    for row, job in enumerate(jobs):
        heads = slice(None) if job.site.head is None else slice(job.site.head, job.site.head + 1)  # type: ignore[operator]
        where = slice(None) if job.site.position is None else slice(job.site.position, job.site.position + 1)  # type: ignore[operator]
        before = old[job.prompt, where, heads]
        new = before.clone()
        inner = (slice(None),) * 2 + ((job.site.unit,) if isinstance(job.site.unit, int) else ())
        new[inner] = job.value.to(new).reshape(new[inner].shape)
        attention[row, where] += torch.einsum("phd,hdm->pm", new - before, weight[heads].to(new))
    stub = taps.ModuleTap(place.module, "skip", lambda hidden: attention[:, start:], place.index, base.attention[index])
    args, kwargs = base.calls[index]
    found = taps.first_tensor(args, kwargs)
    assert found is not None
    name, rows = found[0], base.streams[index][prompts, start:]
    if isinstance(name, str):
        kwargs = {**kwargs, name: rows}
    else:
        args = (*args[:name], rows, *args[name + 1 :])
    with torch.no_grad(), taps.module_taps([stub]):
        output = layer.module.forward(*args, **kwargs)
    after = output if isinstance(output, Tensor) else output[layer.out_index or 0]
    whole = base.streams[index + 1][prompts].clone()
    whole[:, start:] = after
    return whole
