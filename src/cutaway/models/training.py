"""How is a small network trained, so that the same seed gives the same network, also after an interruption?

Studies that need a network which knows one thing train it themselves. AdamW with a warm-up and a schedule; at times a
checkpoint is written (weights, the optimiser's state, the losses so far), from which the same call goes on and ends with
bit for bit the weights that an uninterrupted run ends with (on a processor, in float32, with as many threads).
Limits: one device; the batches are the caller's, and must be the same at each call: a function of the step is best, since
of an iterator those before the checkpoint are drawn and thrown away.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from cutaway.core.errors import Cancelled, ModelError, nearest
from cutaway.core.progress import tracking

Batch = Tensor | Mapping[str, Tensor]
Batches = Callable[[int], Batch] | Iterable[Batch]
Schedule = Literal["cosine", "linear", "constant"]
SCHEDULES = ("cosine", "linear", "constant")
CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class Recipe:
    """What the weights depend on beside the batches.

    Attributes:
        steps: batches that are learned from.
        learning_rate: at its highest.
        weight_decay: of matrices; `decays_all` lets norms and biases decay too.
        warmup: steps in which the rate rises to its highest.
        schedule: how it falls after them: to zero along a cosine or a line, or not at all.
        betas: of AdamW.
        clip: largest norm of the gradient; None for no limit.
        seed: draws what the network itself draws (dropout).
        decays_all: whether every parameter decays.
    """

    steps: int
    learning_rate: float
    weight_decay: float
    warmup: int
    schedule: Schedule
    betas: tuple[float, float]
    clip: float | None
    seed: int
    decays_all: bool


@dataclass(frozen=True)
class Training:
    """What came of a training.

    Attributes:
        losses: of each step, on its batch before the step was taken.
        evaluations: what `evaluate` said, by the number of steps taken.
        seconds: how long this call took.
        resumed: the step at which this call went on; 0 when it began.
    """

    losses: tuple[float, ...]
    evaluations: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    seconds: float = 0.0
    resumed: int = 0

    @property
    def final_loss(self) -> float:
        """Mean loss of the last tenth of the steps."""
        last = self.losses[-max(1, len(self.losses) // 10) :]
        return sum(last) / len(last)


def train(
    hf: nn.Module,
    batches: Batches,
    *,
    steps: int,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    warmup: int = 0,
    schedule: Schedule = "cosine",
    betas: tuple[float, float] = (0.9, 0.999),
    clip: float | None = 1.0,
    decays_all: bool = False,
    seed: int = 0,
    loss: Callable[[nn.Module, Mapping[str, Tensor]], Tensor] | None = None,
    keep: Path | None = None,
    every: int = 200,
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    evaluate_every: int = 0,
    what: str = "training",
) -> Training:
    """Train a network where it lies.

    Args:
        hf: the network; it is in evaluation mode afterwards, without gradients.
        batches: a function of the step (from 0), or batches one after another: token ids [row, position], or what the
            network takes by name. Without `labels` the next token is learned.
        steps: see `Recipe`, as `learning_rate`, `weight_decay`, `warmup`, `schedule`, `betas`, `clip`, `decays_all` and
            `seed`.
        loss: a function of network and batch; the network's own loss by default.
        keep: folder for the checkpoint; without one an interrupted training begins anew.
        every: steps from one checkpoint to the next.
        evaluate: figures of the network, taken in evaluation mode.
        evaluate_every: steps from one evaluation to the next; 0: at the end alone.
        what: name of the work, for progress.

    Returns:
        The losses, and what `evaluate` said.

    Raises:
        ModelError: wrong settings, batches that end too early, or a loss that is no number.
        Cancelled: the work was stopped; the checkpoint has everything up to that step.
    """
    recipe = Recipe(steps, learning_rate, weight_decay, warmup, schedule, betas, clip, seed, decays_all)
    _refuse(recipe, every)
    started = time.perf_counter()
    learning = _Learning(hf, recipe, keep)
    resumed = learning.resume()
    next_batch = _from_step(batches, resumed)
    with _trainable(hf), _own_random_state(hf), tracking(what, total=steps) as advance:
        try:
            if resumed:
                advance(resumed)
            for step in range(resumed, steps):
                _seed(hf, seed, step)
                learning.step(_on_device(next_batch(step), hf), loss or own_loss, step)
                done = step + 1
                if evaluate is not None and (done == steps or (evaluate_every and done % evaluate_every == 0)):
                    learning.evaluations[done] = _evaluated(hf, evaluate)
                if done % every == 0 and done < steps:
                    learning.save(done)
                advance(1)
        except Cancelled:
            learning.save(len(learning.losses))
            raise
    if keep is not None and resumed < steps:
        learning.save(steps)
    return Training(tuple(learning.losses), dict(learning.evaluations), time.perf_counter() - started, resumed)


def rate_at(step: int, recipe: Recipe) -> float:
    """The learning rate of a step, counted from 0."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    passed = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    match recipe.schedule:
        case "cosine":
            return recipe.learning_rate * (1 + math.cos(math.pi * passed)) / 2
        case "linear":
            return recipe.learning_rate * (1 - passed)
        case _:
            return recipe.learning_rate


def own_loss(hf: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """The loss that a network of transformers gives for its labels; the next token where there are none."""
    given = dict(batch)
    given.setdefault("labels", given["input_ids"])
    found: Tensor = hf(**given).loss
    return found


class _Learning:
    """A network with its optimiser and what has been learned so far."""

    def __init__(self, hf: nn.Module, recipe: Recipe, keep: Path | None) -> None:
        self.hf, self.recipe = hf, recipe
        self.path = keep / CHECKPOINT if keep is not None else None
        self.parameters = dict(hf.named_parameters())
        decaying = [p for p in self.parameters.values() if recipe.decays_all or p.ndim > 1]
        others = [p for p in self.parameters.values() if not (recipe.decays_all or p.ndim > 1)]
        groups = [{"params": decaying, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0, betas=recipe.betas)
        self.losses: list[float] = []
        self.evaluations: dict[int, Mapping[str, float]] = {}

    def step(
        self, batch: Mapping[str, Tensor], loss: Callable[[nn.Module, Mapping[str, Tensor]], Tensor], step: int
    ) -> None:
        """Learn from one batch."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(step, self.recipe)
        self.optimiser.zero_grad(set_to_none=True)
        value = loss(self.hf, batch)
        value.backward()
        said = float(value.detach())
        if not math.isfinite(said):
            raise ModelError(
                f"the loss at step {step} is {said};",
                "a training goes on only with numbers.",
                f"Lower learning_rate (it is {self.recipe.learning_rate:g}), or raise warmup.",
            )
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters.values(), self.recipe.clip)
        self.optimiser.step()
        self.losses.append(said)

    @property
    def identity(self) -> str:
        """What a checkpoint must have been made of to be used."""
        shapes = {name: [str(p.dtype), *p.shape] for name, p in self.parameters.items()}
        return hashlib.sha256(json.dumps([asdict(self.recipe), shapes], sort_keys=True).encode()).hexdigest()

    def save(self, step: int) -> None:
        """Write a checkpoint, whole or not at all."""
        if self.path is None or not self.losses:
            return
        from safetensors.torch import save_file

        tensors = {f"weights/{name}": p.detach() for name, p in self.parameters.items()}
        tensors |= {f"buffers/{name}": b for name, b in self.hf.named_buffers()}
        for name, parameter in self.parameters.items():
            state = self.optimiser.state.get(parameter, {})
            tensors |= {f"{key}/{name}": state[key] for key in ("exp_avg", "exp_avg_sq", "step") if key in state}
        tensors["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        said = {"step": step, "identity": self.identity, "evaluations": self.evaluations}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        save_file(kept, beside, metadata={"cutaway": json.dumps(said)})
        beside.replace(self.path)

    def resume(self) -> int:
        """Take up a checkpoint of the same recipe, if there is one.

        Returns:
            The step to go on with.
        """
        if self.path is None or not self.path.is_file():
            return 0
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as opened:
                said = json.loads((opened.metadata() or {})["cutaway"])
                if said["identity"] != self.identity:
                    return 0
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, OSError, ValueError, KeyError):
            return 0  # damaged: the training begins anew
        self._take(tensors)
        self.losses = tensors["losses"].tolist()
        self.evaluations = {int(step): figures for step, figures in said["evaluations"].items()}
        return int(said["step"])

    @torch.no_grad()
    def _take(self, tensors: Mapping[str, Tensor]) -> None:
        for name, buffer in self.hf.named_buffers():
            buffer.copy_(tensors[f"buffers/{name}"])
        for name, parameter in self.parameters.items():
            parameter.copy_(tensors[f"weights/{name}"])
            if f"step/{name}" in tensors:
                self.optimiser.state[parameter] = {
                    "step": tensors[f"step/{name}"].clone(),
                    "exp_avg": tensors[f"exp_avg/{name}"].to(parameter.device),
                    "exp_avg_sq": tensors[f"exp_avg_sq/{name}"].to(parameter.device),
                }


def _from_step(batches: Batches, start: int) -> Callable[[int], Batch]:
    """The batch of each step, in order; of an iterator those before `start` are thrown away."""
    if callable(batches):
        return batches
    drawn = iter(batches)

    def following(step: int) -> Batch:
        try:
            return next(drawn)
        except StopIteration as error:
            raise ModelError(
                f"the batches ended at step {step};",
                "there is one for each step.",
                "Give fewer steps, or a function of the step.",
            ) from error

    for step in range(start):
        following(step)
    return following


def _on_device(batch: Batch, hf: nn.Module) -> Mapping[str, Tensor]:
    device = next(hf.parameters()).device
    named = {"input_ids": batch} if isinstance(batch, Tensor) else batch
    return {name: tensor.to(device) for name, tensor in named.items()}


@contextmanager
def _trainable(hf: nn.Module) -> Iterator[None]:
    """Training mode with gradients; afterwards evaluation mode, with the flags as they were."""
    flags = {parameter: parameter.requires_grad for parameter in hf.parameters()}
    hf.train().requires_grad_(True)
    try:
        yield
    finally:
        hf.eval()
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)
            parameter.grad = None


def _evaluated(hf: nn.Module, evaluate: Callable[[nn.Module], Mapping[str, float]]) -> dict[str, float]:
    hf.eval()
    try:
        with torch.no_grad():
            return {name: float(value) for name, value in evaluate(hf).items()}
    finally:
        hf.train()


@contextmanager
def _own_random_state(hf: nn.Module) -> Iterator[None]:
    """What is drawn inside leaves the global random state as it was."""
    device = next(hf.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _seed(hf: nn.Module, seed: int, step: int) -> None:
    """Each step draws from a state of its own, so that it matters not where a training was taken up."""
    drawn = int.from_bytes(hashlib.sha256(f"{seed} {step}".encode()).digest()[:7], "little")
    torch.default_generator.manual_seed(drawn)
    device = next(hf.parameters()).device
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(drawn)


def _refuse(recipe: Recipe, every: int) -> None:
    if recipe.schedule not in SCHEDULES:
        raise ModelError(f"there is no schedule {recipe.schedule!r};", nearest(recipe.schedule, SCHEDULES))
    if recipe.steps < 1 or every < 1 or recipe.warmup < 0 or recipe.learning_rate <= 0:
        raise ModelError(
            f"steps={recipe.steps}, every={every}, warmup={recipe.warmup}, learning_rate={recipe.learning_rate:g} cannot be;",
            "there is one step or more, warmup is not negative, and the rate is above zero.",
            "Write for example steps=1000, learning_rate=1e-3.",
        )
