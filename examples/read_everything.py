"""What is inside a run? Every kind of value that this network has, with its dimensions and its size."""

import cutaway as ca
from cutaway.core.site import KINDS

model = ca.open("smollm2")
prompt = "The Eiffel Tower is in the city of"
layer = model.anatomy.n_layers // 2

kinds = [kind for kind in KINDS if kind not in ("embed", "final", "logits")]
served = [kind for kind in kinds if kind in model.anatomy.stacks[""].layers[layer].places]
# Scores hold the mask as very large negative numbers: those are left out of the mean below.
run = model.run(prompt, read=[f"{kind}[{layer}]" for kind in served] + ["embed", "final"], logits="last")

print(f"Layer {layer} of {model.anatomy.n_layers}, {len(run.tokens[0])} tokens: {'|'.join(run.tokens[0])}")
for site, value in run.items():
    sizes = " × ".join(f"{dim} {size}" for dim, size in zip(site.dims, value.shape, strict=True))
    print(f"{site!s:24} {sizes:44} mean |x| {value[value.abs() < 1e6].abs().mean():8.3f}")

refused = model.anatomy.stacks[""].layers[layer].refused
print("Not here:", "; ".join(f"{kind} ({refused[kind]})" for kind in kinds if kind not in served))
print("Next:", model.token_strings(run.last_logits[0].topk(3).indices.tolist()))
