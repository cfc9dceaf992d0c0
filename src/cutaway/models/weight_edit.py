"""How are weights changed so that they can be changed back, bit for bit? Changes as artifacts, and a ledger of them.

An artifact of kind `weights` holds for each changed parameter its bits before and after, so that applying and undoing it
are copies, not sums: nothing is rounded. Both refuse a model whose weights are not the ones the artifact was made for.
The ledger remembers which artifacts a model carries, in order: the last one is undone first.
Limits: weights are whole tensors of floating-point numbers on one device; quantised and offloaded ones are refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.core.artifact import Artifact
from cutaway.core.errors import ModelError, nearest
from cutaway.models.model import Model

KIND = "weights"
BEFORE, AFTER = "before/", "after/"
_ledgers: weakref.WeakKeyDictionary[nn.Module, list[str]] = weakref.WeakKeyDictionary()


def digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's type, shape and bits."""
    held = tensor.detach().cpu().contiguous()
    summer = hashlib.sha256(f"{held.dtype} {tuple(held.shape)}".encode())
    summer.update(held.reshape(-1).view(torch.uint8).numpy().data)
    return summer.hexdigest()


def fingerprint(model: Model) -> str:
    """SHA-256 of all weights of a model, by name."""
    summer = hashlib.sha256()
    for name, weight in sorted(model.hf.named_parameters()):
        summer.update(f"{name} {digest(weight)}".encode())
    return summer.hexdigest()


def weights(model: Model, changes: Mapping[str, Tensor], about: Mapping[str, Any]) -> Artifact:
    """The artifact of a change: bits before (those of the model as it stands) and after.

    Args:
        model: the network, not yet changed.
        changes: the new value of each changed parameter, by its name in `model.hf`.
        about: what the change is for; JSON values.
    """
    tensors: dict[str, Tensor] = {}
    named: dict[str, dict[str, Any]] = {}
    for name, new in changes.items():
        old = parameter(model, name)
        fitted = _fitted(name, old, new)
        tensors |= {BEFORE + name: old.detach().clone(), AFTER + name: fitted.clone()}
        named[name] = {
            "before": digest(old),
            "after": digest(fitted),
            "norm_of_the_change": float((fitted.double() - old.detach().double()).norm()),
            "norm_before": float(old.detach().double().norm()),
        }
    known = {"network": type(model.hf).__name__, "model": model.name, "parameters": named}
    return Artifact(KIND, tensors, {**about, **known})


def changes_of(artifact: Artifact) -> dict[str, Tensor]:
    """The new values of an artifact's parameters, by name.

    Raises:
        ModelError: the artifact is not of kind `weights`.
    """
    if artifact.kind != KIND:
        raise ModelError(
            f"This artifact is of kind {artifact.kind!r}.",
            "Only edited weights can be applied to a model's weights (kind 'weights').",
            "Make one with `cutaway run rome … --artifact edit.safetensors`.",
        )
    return {name.removeprefix(AFTER): t for name, t in artifact.tensors.items() if name.startswith(AFTER)}


def parameter(model: Model, name: str) -> nn.Parameter:
    """A parameter by its name in `model.hf`.

    Raises:
        ModelError: there is none of this name, or it cannot be changed.
    """
    named = dict(model.hf.named_parameters())
    if name not in named:
        raise ModelError(
            f"{model.name} has no weights called {name!r}.",
            "An edit fits the model that it was made for.",
            nearest(name, list(named)),
        )
    found = named[name]
    if found.device.type == "meta" or not found.is_floating_point():
        what = "offloaded" if found.device.type == "meta" else f"of type {found.dtype}"
        raise ModelError(f"{name} is {what}.", "Weights in memory, of floating-point type, can be changed.")
    return found


@contextlib.contextmanager
def changed(model: Model, changes: Mapping[str, Tensor]) -> Iterator[Model]:
    """The model with other weights for the length of a `with` block; the old bits are back after it, whatever happens.

    Args:
        model: the network.
        changes: the new value of each changed parameter, by its name in `model.hf`.
    """
    held = {name: parameter(model, name) for name in changes}
    fitted = {name: _fitted(name, held[name], new) for name, new in changes.items()}
    before = {name: weight.detach().clone() for name, weight in held.items()}
    try:
        for name, weight in held.items():
            _write(model, weight, fitted[name])
        yield model
    finally:
        for name, weight in held.items():
            _write(model, weight, before[name])


@contextlib.contextmanager
def applied(model: Model, artifact: Artifact) -> Iterator[Model]:
    """The model under an edit for the length of a `with` block.

    Raises:
        ModelError: the edit was made for other weights.
    """
    apply(model, artifact)
    try:
        yield model
    finally:
        undo(model, artifact)


def apply(model: Model, artifact: Artifact) -> None:
    """Make an edit, for good or until it is undone.

    Raises:
        ModelError: the edit was made for other weights, or is there already.
    """
    if artifact.id in ledger(model):
        raise ModelError(f"The edit {artifact.id[:8]} is in {model.name} already.", "An edit is made once.")
    _require(model, artifact, BEFORE)
    for name, new in changes_of(artifact).items():
        _write(model, parameter(model, name), new)
    _ledgers.setdefault(model.hf, []).append(artifact.id)


def undo(model: Model, artifact: Artifact) -> None:
    """Take the last edit back: the weights have their bits of before again.

    Where the ledger knows of no edit, the bits alone say that it is there.

    Raises:
        ModelError: it is not the last edit, or the weights were changed since.
    """
    made = ledger(model)
    if made and made[-1] != artifact.id:
        later = made[made.index(artifact.id) + 1 :] if artifact.id in made else []
        raise ModelError(
            f"The edit {artifact.id[:8]} is not the last one of {model.name}.",
            f"The last edit is {made[-1][:8]}; edits are undone in the reverse of their order.",
            f"Undo first: {', '.join(each[:8] for each in reversed(later))}." if later else "",
        )
    _require(model, artifact, AFTER)
    for name in changes_of(artifact):
        _write(model, parameter(model, name), artifact.tensors[BEFORE + name])
    if made:
        _ledgers[model.hf].pop()


def ledger(model: Model) -> tuple[str, ...]:
    """The ids of the edits that a model carries, the first made first."""
    return tuple(_ledgers.get(model.hf, ()))


def remember(model: Model, ids: list[str]) -> None:
    """Tell the ledger of edits that came with a model's folder."""
    _ledgers[model.hf] = list(ids)


def _require(model: Model, artifact: Artifact, side: str) -> None:
    """The model's weights are, bit for bit, those of one side of the artifact."""
    for name, new in changes_of(artifact).items():
        present = parameter(model, name)
        wanted = artifact.tensors[side + name]
        if present.dtype != wanted.dtype or present.shape != wanted.shape:
            raise ModelError(
                f"{name} is {_looks(present)} in {model.name} and {_looks(wanted)} in the edit.",
                "An edit fits weights of the type and shape it was made for.",
                f"Open the model with dtype={str(wanted.dtype).removeprefix('torch.')!r}."
                if present.shape == wanted.shape
                else "",
            )
        if digest(present) == digest(wanted):
            continue
        if side == BEFORE and digest(present) == digest(new):
            raise ModelError(f"{name} of {model.name} has the edited values already.", "An edit is made once.")
        word = "before" if side == BEFORE else "after"
        raise ModelError(
            f"{name} of {model.name} is not what it was {word} this edit.",
            f"The edit {artifact.id[:8]} was made for {artifact.about.get('model', 'another model')} and fits those bits only.",
            "Open that model, without later edits or further training.",
        )


def _looks(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _fitted(name: str, old: Tensor, new: Tensor) -> Tensor:
    """The new value in the type and on the device of the old one."""
    if old.shape != new.shape:
        raise ModelError(f"The new {name} has the shape {tuple(new.shape)}.", f"The weights have {tuple(old.shape)}.")
    if not bool(torch.isfinite(new).all()):
        raise ModelError(f"The new {name} has values that are not numbers.", "Weights are finite.")
    return new.detach().to(device=old.device, dtype=old.dtype)


@torch.no_grad()
def _write(model: Model, weight: nn.Parameter, value: Tensor) -> None:
    weight.copy_(value)
    model.__dict__.pop("_unembedding", None)  # it keeps what it derived from weights
