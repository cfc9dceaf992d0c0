"""What was learned and can be used again? Named tensors, and a record of what they are.

Directions, probes, lenses, dictionaries and edited weights are all a few tensors with a note of where in
which model they belong. They are kept as one safetensors file with the record as JSON in its header: no
pickle, nothing runs when it is opened.
Limits: tensors are held in memory, on the processor.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cutaway.core import registry
from cutaway.core.errors import MethodError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Artifact:
    """Something learned and reusable.

    Attributes:
        kind: `direction`, `probe`, `lens`, `dictionary` or `weights`, or a further word.
        tensors: the learned values by name.
        about: what they are: the site they belong to, sizes, figures; JSON values.
        provenance: where they come from; JSON values.
    """

    kind: str
    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tensors:
            raise MethodError(f"a {self.kind} without tensors was made;", "an artifact holds one at least.")
        held = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}
        object.__setattr__(self, "tensors", MappingProxyType(held))
        for name in ("about", "provenance"):
            try:
                plain = json.loads(json.dumps(dict(getattr(self, name))))
            except (TypeError, ValueError) as error:
                raise MethodError(
                    f"what a {self.kind} is about cannot be written as JSON ({error});",
                    "it holds text, numbers, lists and mappings.",
                ) from error
            object.__setattr__(self, name, MappingProxyType(plain))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Artifact) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    @cached_property
    def id(self) -> str:
        """Hash of kind, tensors and what they are about; the same in every process."""
        import torch

        summer = hashlib.sha256(json.dumps([self.kind, dict(self.about)], sort_keys=True).encode())
        for name, tensor in sorted(self.tensors.items()):
            summer.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
            summer.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        return summer.hexdigest()

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file, whole or not at all.

        Raises:
            StoreError: the file cannot be written.
        """
        registry.get("format", "safetensors")().save(self, Path(path))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Artifact:
        """Read what `save` wrote.

        Raises:
            StoreError: the file is absent, damaged, or no artifact.
        """
        artifact: Artifact = registry.get("format", "safetensors")().load(Path(path))
        return artifact
