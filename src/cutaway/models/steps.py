"""How does a layer change the stream? The branch outputs that explain each step, found by their values.

A step is `after = norm(before + scale * value)`; the sums in between are seen as inputs of modules. Limits: what is no
such sum (streams of several lanes, streams that are scaled as a whole) has no steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.models.probe import Call, Trace, same


@dataclass(frozen=True)
class Step:
    """One step of the residual stream: `after = norm(before + scale * value)`, `norm` only in post-norm layers."""

    call: Call
    index: int | None
    scale: float
    target: Tensor
    norm: Call | None
    parallel: bool = False

    @property
    def value(self) -> Tensor:
        """What the step adds, before its scale."""
        return next(t for i, t in self.call.outs if i == self.index)


def steps_of(trace: Trace, tolerance: float) -> list[Step] | None:
    """How a layer gets from its input to its output, or None where no sum of branches explains it."""
    if trace.inp is None or trace.out is None or trace.inp.shape != trace.out.shape:
        return None
    calls = [c for c in trace.once if c.inp is not None or c.outs]
    numel = trace.inp.numel()
    values = [(c, i, t) for c in calls for i, t in c.outs if t.numel() == numel and t.shape[-1] == trace.inp.shape[-1]]
    leaf_outs = [t for c, _, t in values if c.is_leaf]
    sums: list[tuple[Tensor, Call]] = []
    for call in calls:
        t = call.inp
        if t is None or t.numel() != numel or t.shape[-1] != trace.inp.shape[-1] or same(t, trace.inp, 0):
            continue
        if any(same(t, other, 0) for other in leaf_outs) or any(same(t, other, 0) for other, _ in sums):
            continue
        sums.append((t, call))
    return _search(trace.inp, -1, trace.out, values, sums, calls, tolerance, 0)


def _search(
    base: Tensor,
    since: int,
    goal: Tensor,
    values: list[tuple[Call, int | None, Tensor]],
    sums: list[tuple[Tensor, Call]],
    calls: list[Call],
    tolerance: float,
    depth: int,
) -> list[Step] | None:
    if depth > 4:
        return None
    # The goal itself, the input of a norm that gives the goal (post-norm), then the sums in between.
    ends: list[tuple[Tensor, Call | None, bool]] = [(goal, None, True)]
    ends += [(c.inp, c, True) for c in calls if c.inp is not None and _normalises(c) and _gives(c, goal, tolerance)]
    for total, _ in sums:
        ends.append((total, None, False))
        ends += [(total, c, False) for c in calls if c.inp is not None and _normalises(c) and same(c.inp, total, 0)]
    for target, norm, done in ends:
        step = _one_step(base, target, norm, since, values, tolerance)
        if step is None:
            continue
        if done:
            return [step]
        after = norm.outs[0][1] if norm is not None else target
        rest = _search(after, step.call.order, goal, values, sums, calls, tolerance, depth + 1)
        if rest is not None:
            return [step, *rest]
    return _two_at_once(base, goal, since, values, tolerance)


def _gives(call: Call, value: Tensor, tolerance: float) -> bool:
    return any(same(t, value, 0) for _, t in call.outs)


def _normalises(call: Call) -> bool:
    return call.is_leaf and bool(call.outs) and not call.has_matrix and "norm" in type(call.module).__name__.lower()


def _multiple(value: Tensor, of: Tensor, tolerance: float) -> float | None:
    """The number s with `value = s * of`, or None."""
    if value.numel() != of.numel():
        return None
    value, of = value.reshape(-1), of.reshape(-1)
    power = float(of @ of)
    if power == 0:
        return None
    s = float(value @ of) / power
    if abs(s) < 1e-6 or float((value - s * of).norm()) > tolerance * float(value.norm()):
        return None
    return 1.0 if abs(s - 1) < 2 * tolerance else s


def _one_step(
    base: Tensor,
    target: Tensor | None,
    norm: Call | None,
    since: int,
    values: list[tuple[Call, int | None, Tensor]],
    tolerance: float,
) -> Step | None:
    if target is None or target.numel() != base.numel():
        return None
    difference = target.reshape(base.shape) - base
    if float(difference.norm()) <= tolerance * float(base.norm()):
        return None
    for call, index, value in reversed(values):  # the last module of a branch is the one that the sum takes
        if call.order <= since:
            break
        s = _multiple(difference, value, _loosened(tolerance, base, difference))
        if s is not None:
            return Step(call, index, s, target, norm)
    return None


def _loosened(tolerance: float, base: Tensor, difference: Tensor) -> float:
    """A sum is rounded at the size of the stream: that noise is larger beside a small difference."""
    return tolerance * max(1.0, float(base.norm() / difference.norm()))


def _two_at_once(
    base: Tensor, goal: Tensor, since: int, values: list[tuple[Call, int | None, Tensor]], tolerance: float
) -> list[Step] | None:
    """Parallel layers: attention and MLP are added in one sum."""
    difference = (goal - base).reshape(-1)
    late = [(c, i, t.reshape(-1)) for c, i, t in values if c.order > since]
    unique: list[tuple[Call, int | None, Tensor]] = []
    for entry in reversed(late):
        if not any(same(entry[2], other[2], 0) for other in unique):
            unique.append(entry)
    limit = _loosened(tolerance, base, difference) * float(difference.norm())
    for place, (call_a, i, a) in enumerate(unique):
        for call_b, j, b in unique[place + 1 :]:
            basis = torch.stack([a, b], dim=1)
            gram = basis.T @ basis
            if float(torch.linalg.det(gram)) <= 1e-12 * float(gram[0, 0] * gram[1, 1]):
                continue
            s = torch.linalg.solve(gram, basis.T @ difference)
            if float((basis @ s - difference).norm()) <= limit:
                scales = [1.0 if abs(float(x) - 1) < 1e-2 else float(x) for x in s]
                return [
                    Step(call_b, j, scales[1], goal, None, parallel=True),
                    Step(call_a, i, scales[0], goal, None, parallel=True),
                ]
    return None
