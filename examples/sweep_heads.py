"""Which heads matter for a task? Each head is patched on its own, and the plan says what that costs."""

import cutaway as ca

model = ca.open("smollm2")
task = ca.tasks.ioi(n=4, contrast="swap")
over = "z[*].head[*]@-1"

print(model.plan(task, over=over))
sweep = model.sweep(task, over=over)
share = sweep.normalised().mean(dim=0)  # 0: as the contrast, 1: as the prompt; the mean over the prompts

print(f"{len(sweep.cells)} heads on {len(sweep.values)} prompts")
for place in share.abs().topk(8).indices.tolist():
    values = ", ".join(f"{value:5.2f}" for value in sweep.normalised()[:, place].tolist())
    print(f"{sweep.cells[place]!s:20} brings back {share[place]:5.2f} on average   [{values}]")
