"""What happens when a direction is added while the model writes? One decode for all strengths.

The direction is the difference between the streams of two sentences; the control is a random one of the same length.
"""

import torch

import cutaway as ca

model = ca.open("smollm2")
site, strengths = "resid_post[12]", [-1.0, 0.0, 1.0]
pair = ["I love this, it is wonderful", "I hate this, it is terrible"]
start = "I think that the film was"

ends = model.run(pair, read=f"{site}@-1", logits="none")[f"{site}@-1"]
direction = ends[0] - ends[1]
noise = torch.randn(direction.shape, generator=torch.Generator().manual_seed(0)).to(direction)
noise = noise * direction.norm() / noise.norm()

for name, vector in (("love - hate", direction), ("random, as long", noise)):
    print(name)
    written = model.generate(start, edit=ca.add(site, vector, scale=strengths), max_new_tokens=14)
    for strength, text in zip(written.scales, written.texts, strict=True):
        print(f"  {strength:+.1f}  {start}{text!r}")
