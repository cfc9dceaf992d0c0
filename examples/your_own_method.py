"""How is a method written? One function with its check: which layer writes most of the answer?"""

from typing import Annotated

import torch
import xarray as xr
from pydantic import Field

import cutaway as ca
from cutaway.methods.control import compared, sets_like
from cutaway.models.metric import metric_of


@ca.method(asks="Which layer moves the score most at the last token?", needs=("unembedding", "answers"))
def layer_steps(
    model: ca.Model,
    task: ca.Task,
    *,
    controls: Annotated[int, Field(ge=5, description="random layers that the check compares with")] = 10,
    seed: Annotated[int, Field(ge=0, description="draws them")] = 0,
) -> ca.Result:
    """The score that the stream would give after each layer, and the step of each layer."""
    encoded = task.encode(model.tokenizer)
    metric = metric_of(encoded)
    run = model.run(encoded, read="resid_pre[0]@-1, resid_post[*]@-1", logits="last")
    streams = torch.cat([run["resid_pre[0]@-1"][None], run["resid_post[*]@-1"]])  # depth prompt d_model
    scores = torch.stack([metric(model.unembed(stream)).mean() for stream in streams]).detach()
    steps = {layer: float(scores[layer + 1] - scores[layer]) for layer in range(model.anatomy.n_layers)}
    largest = max(steps, key=lambda layer: steps[layer])

    def loss(layer: int) -> float:
        edits = [ca.ablate(f"{part}[{layer}]@-1", "zero") for part in ("attn_contrib", "mlp_contrib")]
        after = model.run(encoded, edit=edits, logits="last").last_logits
        return float((metric(run.last_logits) - metric(after)).mean())

    others = [layers[0] for layers in sets_like([largest], list(steps), controls, seed, sort=lambda _: "layer")]
    check = compared(
        loss(largest),
        [loss(layer) for layer in others],
        claim=f"Layer {largest} moves the score more than other layers do.",
        how="Take out what it adds at the last token; the control takes out a random other layer.",
        unit=encoded.task.metric.replace("_", " "),
    )
    return ca.Result(
        data=xr.Dataset({"step": ("layer", list(steps.values()))}, coords={"layer": list(steps)}),
        metrics={"largest_layer": largest},
        views=(ca.views.bars(value="step", label="layer", title="What each layer adds to the score"),),
        checks=(check,),
        notes=encoded.notes,
    )


if __name__ == "__main__":
    result = layer_steps(ca.open("smollm2"), ca.tasks.ioi(n=4), controls=8)
    result.show()
    result.save("layer_steps.nc")
    print("Kept in layer_steps.nc; `cutaway show layer_steps.nc` draws it again.")
