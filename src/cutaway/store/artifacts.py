"""How is something learned kept? As one safetensors file, with its record as JSON in the header.

Limits: tensors are read into memory whole.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutaway.core.errors import CutawayError, StoreError
from cutaway.core.method import format
from cutaway.core.result import Format
from cutaway.store.atomic import write_bytes

if TYPE_CHECKING:
    from cutaway.core.artifact import Artifact

VERSION = 1
_TORCH_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    **{f"{sign}{bits}": f"{word}{bits}" for sign, word in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)},
    "BOOL": "bool",
    "C64": "complex64",
}


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


def verified(path: Path) -> dict[str, Any]:
    """The record of an artifact whose bytes were found to be what was written. Read without torch.

    Returns:
        `kind`, `about`, `provenance` and `id`.

    Raises:
        StoreError: as `load`.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = 8 + int.from_bytes(content[:8], "little")
            header = json.loads(content[8:start])
            record = json.loads(header.pop("__metadata__")["cutaway"])
            if record["format"] > VERSION:
                raise _unusable(path, f"is written in format {record['format']}, newer than {VERSION}")
            summer = hashlib.sha256(json.dumps([record["kind"], record["about"]], sort_keys=True).encode())
            for name, said in sorted(header.items()):
                first, end = said["data_offsets"]
                dtype = f"torch.{_TORCH_NAMES[said['dtype']]}"
                summer.update(json.dumps([name, dtype, said["shape"]]).encode())
                summer.update(content[start + first : start + end])
    except FileNotFoundError as error:
        raise StoreError(f"{path} does not exist.", "An artifact is one file, as artifact.save wrote it.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unusable(path, "is damaged or no artifact of cutaway") from error
    if summer.hexdigest() != record["id"]:
        raise _unusable(path, "does not hold what was written: its contents and its id differ")
    return {"provenance": {}, **record}


def _unusable(path: Path, what: str) -> StoreError:
    return StoreError(f"{path} {what}.", "An artifact is one file, as artifact.save wrote it.", "Make it again.")
