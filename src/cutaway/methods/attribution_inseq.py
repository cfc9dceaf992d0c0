"""What did Inseq find? Its saved attributions as a Result, to be shown, aggregated and kept as any other.

`out.save("out.json")` of Inseq (also compressed) writes one sequence or more; each becomes a prompt here. Attributions
that still have a value for each embedding coordinate are summed over them, as Inseq's gradients times inputs are, or
measured by their L2 norm, which is what Inseq shows.

Limits: numbers are read as 32 or 16 bit floats, or plain lists; Inseq's 8 bit files are refused. What Inseq says of a
token before it is written (the diagonal and beyond) is missing.
"""

from __future__ import annotations

import base64
import gzip
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cutaway.core import view as views
from cutaway.core.errors import StoreError
from cutaway.core.result import Result

Floats = NDArray[np.float64]
_TYPES = {"F32": np.float32, "F16": np.float16, "F64": np.float64}


def from_inseq(path: str | Path, *, how: Literal["l2", "sum"] = "l2") -> Result:
    """Read a file that Inseq's `save` wrote.

    Args:
        path: a `.json` or `.json.gz` file.
        how: what becomes of a value for each embedding coordinate: its L2 norm, or its sum.

    Raises:
        StoreError: the file is not one of Inseq's, or holds numbers of a kind that is not read.
    """
    content = _read(Path(path))
    info = content.get("info") or {}
    sequences = [each["attributes"] for each in content.get("sequence_attributions") or ()]
    if not sequences:
        raise StoreError(f"{Path(path).name} holds no attribution of Inseq's.", "", "Save it with out.save(...).")
    maps = [_map_of(each, how) for each in sequences]
    name = str(info.get("attribution_method", "attribution"))
    data = _dataset(sequences, maps, [str(text) for text in info.get("input_texts") or ()])
    title = f"{name.replace('_', ' ').capitalize()} (Inseq)"
    first = {"prompt": 0}
    return Result(
        data=data,
        metrics={"attributed_function": str(info.get("attributed_fn", ""))},
        views=(
            views.heatmap(
                value="attribution", x="place", y="target_token", at=first, title=f"{title}, for each target"
            ),
            views.tokens(value="attribution", token="token", at={**first, "target": 0}, title=title),
        ),
        notes=(
            f"Read from {Path(path).name}, which Inseq wrote for {info.get('model_name', 'a model')}: not checked.",
        ),
        provenance={"source": "inseq", "inseq": _plain(info)},
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        raw = path.read_bytes()
        whole = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
        content = whole["attributes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path.name} cannot be read as an attribution of Inseq's ({type(error).__name__}).",
            "It is the JSON that out.save(...) writes.",
        ) from error
    if not isinstance(content, dict):
        raise StoreError(f"{path.name} is JSON, but not Inseq's.", "It is what out.save(...) writes.")
    return content


def _map_of(sequence: Mapping[str, Any], how: str) -> Floats:
    """[target, column]: the source's tokens and then the target's, up to the one before each target."""
    parts = []
    for name in ("source_attributions", "target_attributions"):
        values = _array(sequence.get(name))
        if values is not None and values.ndim == 3:
            values = np.sqrt((values**2).sum(-1)) if how == "l2" else values.sum(-1)
        if values is not None:
            parts.append(values.T)
    if not parts:
        raise StoreError("The file holds tokens and no attributions.", "", "Save the output of model.attribute(...).")
    return np.concatenate(parts, axis=1)


def _array(written: Any) -> Floats | None:
    if written is None:
        return None
    if isinstance(written, str):
        return _safetensors(base64.b64decode(written))
    if isinstance(written, dict):
        written = written.get("__ndarray__", written.get("data"))
    return np.asarray(written, dtype=np.float64)


def _safetensors(raw: bytes) -> Floats:
    """The one tensor of a safetensors file in memory."""
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    entry = header["attribution"]
    kind = _TYPES.get(entry["dtype"])
    if kind is None:
        raise StoreError(
            f"The file holds numbers of the kind {entry['dtype']}.",
            f"{', '.join(_TYPES)} are read.",
            'Save it with scores_precision="float32".',
        )
    start, end = (8 + length + place for place in entry["data_offsets"])
    return np.frombuffer(raw[start:end], dtype=kind).reshape(entry["shape"]).astype(np.float64)


def _texts(tokens: Sequence[Mapping[str, Any]] | None) -> list[str]:
    found = [str(token["attributes"]["token"]) for token in tokens or ()]
    return [text.replace("Ġ", " ").replace("▁", " ").replace("Ċ", "\n") for text in found]


def _dataset(sequences: Sequence[Mapping[str, Any]], maps: Sequence[Floats], prompts: list[str]) -> xr.Dataset:
    columns = [
        (_texts(each.get("source")) if each.get("source_attributions") is not None else []) + _texts(each["target"])
        for each in sequences
    ]
    starts = [int(each.get("attr_pos_start") or 0) for each in sequences]
    names = [_texts(each["target"])[start : start + len(found)] for each, start, found in zip(sequences, starts, maps)]
    targets, places = max(map(len, maps)), max(map(len, columns))
    values = np.full((len(maps), targets, places), np.nan, dtype=np.float32)
    for row, found in enumerate(maps):
        values[row, : found.shape[0], : found.shape[1]] = found

    def padded(rows: Sequence[Sequence[str]], width: int) -> NDArray[np.object_]:
        table = np.full((len(rows), width), "", dtype=object)
        for row, texts in enumerate(rows):
            table[row, : len(texts)] = texts
        return table

    table = padded(columns, places)
    numbered = np.array([[f"{i} {text}" if text else "" for i, text in enumerate(row)] for row in table], dtype=object)
    scores: dict[str, Any] = {}
    for name in sequences[0].get("step_scores") or {}:
        found_scores = np.full((len(maps), targets), np.nan)
        for row, each in enumerate(sequences):
            here = _array(each["step_scores"].get(name))
            if here is not None:
                found_scores[row, : len(here)] = here
        scores[name] = (("prompt", "target"), found_scores)
    return xr.Dataset(
        {"attribution": (("prompt", "target", "position"), values), **scores},
        coords={
            "prompt": prompts if len(prompts) == len(maps) else [str(row) for row in range(len(maps))],
            "target": np.arange(targets),
            "position": np.arange(places),
            "token": (("prompt", "position"), table),
            "place": (("prompt", "position"), numbered),
            "target_token": (("prompt", "target"), padded(names, targets)),
        },
    )


def _plain(info: Mapping[str, Any]) -> dict[str, Any]:
    kept = (str, int, float, bool, type(None))
    return {str(name): value for name, value in info.items() if isinstance(value, kept)}
