"""How is a network opened? By one name, exactly as transformers opens it.

A name leads to weights (`weights`), these to a folder in the hub's layout (`hub` fetches one, `gguf` makes
one), and the folder to the module that `from_pretrained` gives (`folder`). Nothing is folded, copied or
replaced. On a CPU weights are float32 unless asked otherwise, so that a comparison of two computations shows
the computations and not the rounding; elsewhere they keep the type they are stored in. Limits: one process; a
model that is larger than one device is spread with `device_map`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutaway.core.errors import ModelError, nearest
from cutaway.models import gguf, hub
from cutaway.models.folder import Load, check, fingerprint, load
from cutaway.models.weights import ALIASES, RECORD, Weights, find, read_json

if TYPE_CHECKING:
    import torch

    from cutaway.models.model import Model

DTYPES = ("float32", "bfloat16", "float16", "float64", "auto")
QUANTIZATIONS = ("8bit", "4bit")


@dataclass(frozen=True)
class Opened:
    """A module of transformers and its tokenizer, the name it was asked by, and a line that identifies it."""

    hf: Any
    tokenizer: Any
    name: str
    source: str


def open(
    name: str = "smollm2",
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    device_map: str | Mapping[str, Any] | None = None,
    attn_implementation: str | None = None,
    revision: str | None = None,
    quantization: Any = None,
    trust_remote_code: bool = False,
) -> Model:
    """Open a network by its name.

    Args:
        name: an alias (`smollm2`, `gemma3-270m`, `minilm`), a folder in the hub's layout, a GGUF file, or a
            model of the hub (`owner/model`).
        device: where it runs; a GPU when there is one, else the CPU.
        dtype: the type of its weights, such as "bfloat16"; "auto" keeps the stored one. By default float32 on
            a CPU and the stored one elsewhere.
        device_map: "auto" or a map, to spread a large model over devices (needs the package accelerate).
        attn_implementation: "eager", "sdpa", or another that transformers has.
        revision: branch, tag or commit on the hub; with an alias, the hub is taken instead of the package.
        quantization: "8bit" or "4bit" (need the package bitsandbytes), or a quantisation config of
            transformers.
        trust_remote_code: run the Python code that comes with the model. None is run unless this is True.

    Raises:
        ModelError: unknown name, absent or damaged weights, remote code, gated or unreachable repository.
    """
    from cutaway.models.model import Model

    opened = open_parts(
        name,
        device=device,
        dtype=dtype,
        device_map=device_map,
        attn_implementation=attn_implementation,
        revision=revision,
        quantization=quantization,
        trust_remote_code=trust_remote_code,
    )
    return Model(opened.hf, opened.tokenizer, name=opened.name, source=opened.source)


def open_parts(
    name: str = "smollm2",
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    device_map: str | Mapping[str, Any] | None = None,
    attn_implementation: str | None = None,
    revision: str | None = None,
    quantization: Any = None,
    trust_remote_code: bool = False,
) -> Opened:
    """The module and the tokenizer that `open` makes a Model of; it takes the same arguments."""
    how = Load(
        device=choose_device(device, device_map),
        dtype=dtype_named(dtype),
        device_map=device_map,
        attn_implementation=attn_implementation,
        quantization=quantization_named(quantization),
        code=trust_remote_code,
    )
    weights = find(name, hub=revision is not None)
    if revision is not None and weights.kind != "hub":
        raise ModelError(
            f"revision={revision!r} was asked for, but {name!r} is on this machine and has no revisions.",
            "Models of the hub have them.",
            "Leave `revision` out, or write the hub's name: ca.open('owner/model', revision=...).",
        )
    folder = _folder(weights, revision, code=trust_remote_code)
    check(folder, weights.name)
    hf, tokenizer = load(folder, weights.name, how)
    return Opened(hf, tokenizer, weights.name, _source(weights, folder))


def _folder(weights: Weights, revision: str | None, *, code: bool) -> Path:
    match weights.kind:
        case "hub":
            return hub.fetch(weights.name, weights.label, revision, code=code)
        case "gguf":
            return gguf.converted(weights)
        case "folder":
            return weights.paths[0]


def _source(weights: Weights, folder: Path) -> str:
    """What identifies the weights: the hub's commit, a GGUF file's checksum, or samples of a folder."""
    if weights.kind == "hub":
        return f"hub:{weights.label}@{folder.name}"
    if weights.kind == "gguf":
        record = read_json(folder / RECORD) or {}
        return f"gguf:{weights.label} sha256:{record['sha256'][:16]} as {record['dtype']}"
    where = "package" if weights.name in ALIASES else "folder"
    return f"{where}:{weights.label} {fingerprint(folder)}"


def choose_device(device: str | torch.device | None, device_map: Any = None) -> torch.device:
    """The device that was asked for, or the best one there is.

    Raises:
        ModelError: a device that does not exist here, or a device together with a map of devices.
    """
    import torch

    if device is not None and device_map is not None:
        raise ModelError(
            f"device={str(device)!r} and device_map={device_map!r} were both given.",
            "A model lies on one device, or is spread by a map.",
            "Give one of them.",
        )
    counts = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    here = [kind for kind, count in counts.items() if count]
    if device is None:
        return torch.device(here[0])
    try:
        chosen = torch.device(device)
        known = (chosen.index or 0) < counts.get(chosen.type, 1)
    except RuntimeError:
        known = False
    if not known:
        raise ModelError(
            f"There is no device {str(device)!r} here.",
            f"There is: {', '.join(f'{kind} ({counts[kind]})' for kind in here)}.",
            f"Write device={here[0]!r}, or leave it out.",
        )
    return chosen


def dtype_named(dtype: str | torch.dtype | None) -> torch.dtype | str | None:
    """A type of weights by its name; "auto" and None stay.

    Raises:
        ModelError: an unknown name.
    """
    import torch

    if dtype is None or isinstance(dtype, torch.dtype) or dtype == "auto":
        return dtype
    if dtype not in DTYPES:
        raise ModelError(
            f"dtype={dtype!r} is not a type of weights.",
            f"There are {', '.join(DTYPES)}; {nearest(str(dtype), DTYPES)}",
            "Write dtype='bfloat16', or leave it out.",
        )
    named: torch.dtype = getattr(torch, dtype)
    return named


def quantization_named(asked: Any) -> Any:
    """A quantisation config of transformers by its name; others stay as they are.

    Raises:
        ModelError: an unknown name, or bitsandbytes is not installed.
    """
    if not isinstance(asked, str):
        return asked
    if asked not in QUANTIZATIONS:
        raise ModelError(
            f"quantization={asked!r} is not known by name.",
            f"By name there are {' and '.join(QUANTIZATIONS)}; {nearest(asked, QUANTIZATIONS)}",
            "Give one of them, or a quantisation config of transformers.",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            f"quantization={asked!r} needs the package bitsandbytes, which is not installed.",
            "Without it models open in float32, bfloat16 or float16.",
            "Run `pip install bitsandbytes`.",
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=asked == "8bit", load_in_4bit=asked == "4bit")
