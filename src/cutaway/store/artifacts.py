"""How is something learned kept? As one safetensors file, with its record as JSON in the header.

Limits: tensors are read into memory whole.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from cutaway.core.errors import CutawayError, StoreError
from cutaway.core.method import format
from cutaway.core.result import Format
from cutaway.store.atomic import write_bytes

if TYPE_CHECKING:
    from cutaway.core.artifact import Artifact

VERSION = 1


@format("safetensors", asks="How do I keep a direction, a probe or a dictionary?")
def safetensors_file() -> Format:
    """Safetensors: the tensors of an artifact, with its record in the header."""
    return Format(save, load)


def save(artifact: Artifact, path: Path) -> None:
    """Write the artifact, whole or not at all.

    Raises:
        StoreError: the file cannot be written.
    """
    from safetensors.torch import save as serialised

    record = {
        "format": VERSION,
        "kind": artifact.kind,
        "about": dict(artifact.about),
        "provenance": dict(artifact.provenance),
        "id": artifact.id,
    }
    # safetensors refuses tensors that share memory, which tied weights do
    tensors = {name: tensor.clone() for name, tensor in artifact.tensors.items()}
    write_bytes(path, serialised(tensors, metadata={"cutaway": json.dumps(record)}))


def load(path: Path) -> Artifact:
    """Read what `save` wrote.

    Raises:
        StoreError: the file is absent, damaged, newer than this version, or no artifact.
    """
    from safetensors import SafetensorError, safe_open

    from cutaway.core.artifact import Artifact

    if not path.is_file():
        raise StoreError(f"{path} does not exist.", "An artifact is one file, as artifact.save wrote it.")
    try:
        with safe_open(path, framework="pt") as opened:
            record = json.loads((opened.metadata() or {}).get("cutaway", "null"))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise _unusable(path, "is damaged or not a safetensors file") from error
    if not isinstance(record, dict):
        raise _unusable(path, "holds tensors, but no artifact of cutaway")
    if record.get("format", 0) > VERSION:
        raise _unusable(path, f"is written in format {record['format']}, newer than {VERSION}")
    try:
        artifact = Artifact(record["kind"], tensors, record["about"], record["provenance"])
    except (KeyError, TypeError, CutawayError) as error:
        raise _unusable(path, "has a record that is not an artifact's") from error
    if artifact.id != record.get("id"):
        raise _unusable(path, "does not hold what was written: its contents and its id differ")
    return artifact


def _unusable(path: Path, what: str) -> StoreError:
    return StoreError(f"{path} {what}.", "An artifact is one file, as artifact.save wrote it.", "Make it again.")
