"""How does a folder in the hub's layout become a module, with no more memory than its weights take?

The module is the one that `from_pretrained` gives, in evaluation mode, of the class that the configuration
names: a causal language model, an encoder with or without its head, an encoder–decoder.

Memory: weights that are wanted in the type they are stored in are mapped from the file and read page by page
as they are used. The mapping is private to the process: changing a weight never reaches the file. Weights
wanted in another type are read tensor by tensor and converted, because the pages of a mapped file would stay
in memory beside the converted ones.
Limits: a head that is not in the checkpoint is not invented. Weights of PyTorch's older format, and
checkpoints without generation_config.json, are converted with their files mapped, which takes both sizes.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from cutaway.core.errors import ModelError
from cutaway.models.weights import read_json, weight_files

if TYPE_CHECKING:
    import torch

_VOCABULARIES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
)


TOY = "cutaway_toy"  # the type of our own small networks (`toy_parts.MODEL_TYPE`, which needs torch)
PIECE = 1 << 22  # numbers that are converted at a time
_CODES = {
    "F32": "float32",
    "BF16": "bfloat16",
    "F16": "float16",
    "F64": "float64",
    "I64": "int64",
    "I32": "int32",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class Load:
    """How a module is wanted. `dtype` is a type, "auto" for the stored one, or None for the default."""

    device: torch.device
    dtype: torch.dtype | str | None = None
    device_map: str | Mapping[str, Any] | None = None
    attn_implementation: str | None = None
    quantization: Any = None
    code: bool = False

    def options(self) -> dict[str, Any]:
        """The keywords of `from_pretrained` that were asked for."""
        asked = {
            "device_map": self.device_map,
            "attn_implementation": self.attn_implementation,
            "quantization_config": self.quantization,
        }
        return {name: value for name, value in asked.items() if value is not None}


def load(folder: Path, name: str, how: Load) -> tuple[Any, Any]:
    """The module and the tokenizer in a folder.

    Raises:
        ModelError: whatever transformers could not do with it.
    """
    import torch
    from transformers import AutoConfig, AutoTokenizer

    _check_vocabulary(folder, name)
    if (read_json(folder / "config.json") or {}).get("model_type") == TOY:
        toys().register()
    with quiet(), torch.random.fork_rng(devices=()):  # weights that are missing would be drawn
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=how.code)
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=how.code)
            hf = _module(folder, name, config, how)  # second: it takes up what reading a vocabulary leaves free
            if how.device_map is None and not _quantised(config, how):
                hf = hf.to(how.device)
        except ModelError:
            raise
        except Exception as error:
            raise explained(error, name) from error
    hf.config._name_or_path = hf.name_or_path = name  # transformers puts the path of a cache on this machine
    return hf.eval(), tokenizer


def check(folder: Path, name: str) -> None:
    """See that a folder has a configuration and whole weights, before anything large is read.

    Raises:
        ModelError: something is missing, or a file is shorter or longer than it says itself.
    """
    if not (folder / "config.json").exists():
        here = sorted(path.name for path in folder.iterdir())
        models = [file for file in here if file.endswith(".gguf")]
        raise ModelError(
            f"The folder of {name!r} has no config.json.",
            f"A model's folder has config.json, weights and tokenizer. In it: {', '.join(here[:5]) or 'nothing'}.",
            f"Write ca.open({str(folder / models[0])!r})." if models else "Give the folder that has it.",
        )
    if read_json(folder / "config.json") is None:
        raise _damaged(name, "config.json is not JSON")
    files = weight_files(folder)
    if not files:
        raise ModelError(
            f"The folder of {name!r} has no weights.",
            "They are model.safetensors, or several files with model.safetensors.index.json.",
            "Copy them beside config.json.",
        )
    for file in files:
        fault = "is named by the index and is not there" if not file.exists() else _broken(file)
        if fault:
            raise _damaged(name, f"{file.name} {fault}")


def _broken(file: Path) -> str:
    """What is wrong with the length of a safetensors file, from its header alone."""
    if file.suffix != ".safetensors":
        return ""
    size = file.stat().st_size
    if size < 1000 and file.read_bytes().startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS (run `git lfs pull`)"
    try:
        header = _header(file)
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    except EOFError:
        return f"breaks off after {size} bytes"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "has a header that makes no sense"
    with file.open("rb") as opened:
        promised = 8 + int.from_bytes(opened.read(8), "little") + end
    return "" if promised == size else f"has {size} bytes, and its header promises {promised}"


def _header(file: Path) -> dict[str, Any]:
    """What a safetensors file says of its tensors."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > file.stat().st_size - 8:
            raise EOFError
        header: dict[str, Any] = json.loads(opened.read(length))
    return header


def fingerprint(folder: Path) -> str:
    """A word that tells checkpoints apart: sha256 of the configuration and of samples of the weights.

    Reading all weights at each opening would take longer than opening. A file's length, its header and 64
    places of 4 KiB in it change with any step of training.
    """
    total = hashlib.sha256((folder / "config.json").read_bytes())
    for file in weight_files(folder):
        size = file.stat().st_size
        total.update(f"{file.name} {size}".encode())
        with file.open("rb") as opened:
            for place in range(64):
                opened.seek(size * place // 64)
                total.update(opened.read(1 << 12))
    return f"sample-sha256:{total.hexdigest()[:16]}"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from writing and drawing bars, and leave its settings as they were.

    Of what it would warn of, missing weights matter here, and they are an error of ours.
    """
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def toys() -> Any:
    """The module of our own small networks, which transformers is told of when a folder holds one."""
    return importlib.import_module("cutaway.models.toy")


def auto_class(config: Any) -> Any:
    """The class of transformers that opens this configuration with the head that its checkpoint has."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    architecture, kind = (config.architectures or [""])[0], config.model_type
    if kind == TOY:
        return toys().auto_class(config)
    remote = getattr(config, "auto_map", None) or {}
    causal, masked = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if not architecture and kind in causal and kind not in masked:
        return transformers.AutoModelForCausalLM
    for name, classes in (
        ("AutoModelForCausalLM", causal),
        ("AutoModelForSeq2SeqLM", auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
        ("AutoModelForMaskedLM", masked),
        ("AutoModelForImageTextToText", auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES),
    ):
        if name in remote or (architecture and classes.get(kind) == architecture):
            return getattr(transformers, name)
    return transformers.AutoModel


def _module(folder: Path, name: str, config: Any, how: Load) -> Any:
    """The module with all its weights, or an error that names the ones that are missing."""
    auto, options = auto_class(config), {"output_loading_info": True, **how.options()}
    if _quantised(config, how):
        options.setdefault("device_map", {"": how.device})  # quantised weights are not moved afterwards
    stored = _stored(folder, config)
    dtype, loaded = _wanted(stored, config, how), None
    if "device_map" not in options and None not in (dtype, stored) and dtype != stored:
        loaded = _converting(folder, config, dtype, options)
    if loaded is None:
        options |= {"config": config, "dtype": dtype or "auto", "trust_remote_code": how.code}
        loaded = auto.from_pretrained(folder, **options)
    hf, info = loaded
    missing = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if missing and all(key.startswith("pooler.") for key in missing):
        hf.pooler = None  # it would hold random numbers
    elif missing:
        raise _damaged(name, f"it has no {', '.join(missing[:4])} ({len(missing)} parameters are missing)")
    return hf


def _converting(folder: Path, config: Any, dtype: Any, options: dict[str, Any]) -> tuple[Any, Any] | None:
    """The module with its weights read one by one and converted; None where transformers must read them."""
    import transformers

    files = weight_files(folder)
    model_class = getattr(transformers, (config.architectures or [""])[0], None)
    if model_class is None or any(file.suffix != ".safetensors" for file in files):
        return None
    if model_class.can_generate():
        if not (folder / "generation_config.json").exists():
            return None  # transformers then finds such settings in config.json
        options = {**options, "generation_config": transformers.GenerationConfig.from_pretrained(folder)}
    # some classes keep some weights in another type than is asked for
    exact = any(getattr(model_class, f"_keep_in_fp32_modules{name}", None) for name in ("", "_strict"))
    weights: dict[str, Any] = {}
    for file in files:
        header = _header(file)
        header.pop("__metadata__", None)
        if any(entry["dtype"] not in _CODES for entry in header.values()):
            return None
        weights |= {key: Stored.at(file, entry, None if exact else dtype) for key, entry in header.items()}
    loaded: tuple[Any, Any] = model_class.from_pretrained(
        None, config=config, state_dict=weights, dtype=dtype, **options
    )
    return loaded


@dataclass(frozen=True)
class Stored:
    """A tensor in a safetensors file, read and converted some rows at a time when it is asked for with `[...]`.

    The library's slices of a file that is not mapped read the whole tensor, and then take the rows.
    """

    file: Path
    start: int
    shape: tuple[int, ...]
    stored: torch.dtype
    wanted: torch.dtype

    @classmethod
    def at(cls, file: Path, entry: Mapping[str, Any], dtype: torch.dtype | None) -> Stored:
        """The tensor of an entry in the file's header; `dtype` None keeps the stored type, as integers do."""
        import torch

        with file.open("rb") as opened:
            begin = 8 + int.from_bytes(opened.read(8), "little") + entry["data_offsets"][0]
        stored: torch.dtype = getattr(torch, _CODES[entry["dtype"]])
        wanted = dtype if dtype is not None and stored.is_floating_point else stored
        return cls(file, begin, tuple(entry["shape"]), stored, wanted)

    def __getitem__(self, index: EllipsisType) -> torch.Tensor:
        import torch

        result = torch.empty(math.prod(self.shape), dtype=self.wanted)
        with self.file.open("rb") as opened:
            opened.seek(self.start)
            for first in range(0, len(result), PIECE):
                part = result[first : first + PIECE]
                read = bytearray(len(part) * self.stored.itemsize)
                opened.readinto(read)
                part.copy_(torch.frombuffer(read, dtype=self.stored))
        return result.view(self.shape)


def _stored(folder: Path, config: Any) -> torch.dtype | None:
    """The type of the weights in the checkpoint, as its configuration says, or else its first file."""
    import torch

    stored: Any = config.dtype or config.get_text_config().dtype
    if stored is None and (first := weight_files(folder)[0]).suffix == ".safetensors":
        codes = {entry.get("dtype") for entry in _header(first).values()}
        stored = next((dtype for code, dtype in _CODES.items() if code in codes and "F" in code), None)
    named: torch.dtype | None = getattr(torch, stored) if isinstance(stored, str) else stored
    return named


def _wanted(stored: torch.dtype | None, config: Any, how: Load) -> torch.dtype | None:
    """The type that the weights get; None leaves it to the checkpoint."""
    import torch

    if isinstance(how.dtype, torch.dtype):
        return how.dtype
    if how.dtype == "auto" or _quantised(config, how):
        return None
    return torch.float32 if how.device.type == "cpu" else stored


def _quantised(config: Any, how: Load) -> bool:
    return how.quantization is not None or getattr(config, "quantization_config", None) is not None


def _check_vocabulary(folder: Path, name: str) -> None:
    if not any((folder / file).exists() for file in _VOCABULARIES):
        raise ModelError(
            f"The folder of {name!r} has no tokenizer.",
            "A model reads text through its own tokenizer (tokenizer.json, or its vocabulary).",
            "Save it beside config.json: AutoTokenizer.from_pretrained(...).save_pretrained(folder).",
        )


def explained(error: Exception, name: str) -> ModelError:
    """An error of transformers in three parts."""
    text = " ".join(str(error).split())
    first = text[:300] + ("…" if len(text) > 300 else "")
    if "trust_remote_code" in text:
        return ModelError(
            f"{name!r} comes with Python code of its own, which would be run on this machine.",
            "Such code is run only when it is asked for by name; read it first.",
            f"Write ca.open({name!r}, trust_remote_code=True).",
        )
    if "does not recognize this architecture" in text or "Unrecognized model" in text:
        return ModelError(
            f"The installed transformers does not know the architecture of {name!r}: {first}",
            "New architectures come with new versions of transformers.",
            "Run `pip install --upgrade transformers`.",
        )
    if "attn_implementation" in text:
        return ModelError(
            f"{name!r} cannot be opened with that attention: {first}",
            "Every model has 'eager', and nearly all have 'sdpa'.",
            "Write attn_implementation='eager', or leave it out.",
        )
    if isinstance(error, ImportError):
        return ModelError(
            f"{name!r} needs a package that is not installed: {first}",
            "device_map needs accelerate; quantization 8bit and 4bit need bitsandbytes.",
            "Install it with pip and open the model again.",
        )
    if type(error).__name__ == "SafetensorError":
        return _damaged(name, first)
    return ModelError(
        f"transformers could not open {name!r}: {type(error).__name__}: {first}",
        "It must open with `from_pretrained` of the installed transformers.",
        "Check the arguments and the files of the model.",
    )


def _damaged(name: str, how: str) -> ModelError:
    return ModelError(
        f"The files of {name!r} are damaged or not complete: {how}.",
        "Each must be there, as long as its header says, with every weight of the model.",
        "Fetch or copy them again.",
    )
