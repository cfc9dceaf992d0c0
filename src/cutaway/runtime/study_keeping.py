"""What is left of a study that was interrupted? Its finished steps and its trained models, on disk.

Each step is a folder that appears whole: its values as JSON, with a file for each Result and Artifact in them. A
step belongs to what the study's file does, scale, seed, and the versions of what computed it; another of these, and it is made
anew. A trained model is a folder that any `transformers` opens, with the recipe it came from; it stays until
its recipe changes.
Limits: one process at a time runs a study at a scale and seed; the second is told so.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock, Timeout

from cutaway.core.artifact import Artifact
from cutaway.core.errors import CutawayError, StoreError
from cutaway.core.progress import tracking
from cutaway.core.provenance import record_of_model, versions
from cutaway.core.recipe import fingerprint as fingerprint_of_code
from cutaway.core.result import Result
from cutaway.core.study import StudyRun, keepable
from cutaway.models.folder import fingerprint, quiet
from cutaway.models.weights import cache_folder, read_json, write_json
from cutaway.runtime.study_recipe import fingerprint_of_training

if TYPE_CHECKING:
    from cutaway.core.provenance import OpenModel
    from cutaway.models.model import Model

T = TypeVar("T")
STEP, MODEL = "step.json", "study.json"
SHIPPED = Path(__file__).parents[1] / "studies" / "models"
_RESULT, _ARTIFACT = "$result", "$artifact"


def studies_folder() -> Path:
    """Where studies keep their steps and models: CUTAWAY_STUDIES, or beside the converted models in the user's cache."""
    return Path(os.environ.get("CUTAWAY_STUDIES") or cache_folder().parent / "studies").expanduser()


@dataclass
class Kept:
    """What a run of a study keeps: see `cutaway.core.study.Keeper`.

    Attributes:
        study: its name.
        steps: the folder of the steps.
        place: scale, seed and options, which trained models depend on too.
        did: what was done: name, seconds, and whether it was kept from before.
        models: records of the models that were measured.
    """

    study: str
    steps: Path
    place: Mapping[str, Any]
    did: list[dict[str, Any]] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)

    def step(self, name: str, make: Callable[[], T]) -> T:
        """See `Keeper`. A step that is unreadable is made anew."""
        if any(each["name"] == name for each in self.did):
            raise StoreError(
                f"the study {self.study!r} has two steps called {name!r};",
                "a step is kept by its name.",
                "Give each a name of its own.",
            )
        folder = self.steps / _slug(name)
        kept = read_json(folder / STEP)
        if kept is not None and kept.get("versions") == dict(versions()):
            try:
                value = _read(kept["value"], folder)
                self.did.append({"name": name, "seconds": kept["seconds"], "kept": True})
                return value
            except (CutawayError, KeyError, TypeError):  # damaged: it is made anew
                pass
        clock = time.perf_counter()
        with tracking(name, total=None):
            value = keepable(make(), name)
        seconds = round(time.perf_counter() - clock, 3)
        with _appearing(folder) as beside:
            files: dict[str, Any] = {}
            said = _write(value, beside, files)
            record = {"name": name, "seconds": seconds, "versions": dict(versions()), "value": said}
            (beside / STEP).write_text(json.dumps(record, indent=1), encoding="utf-8")
        self.did.append({"name": name, "seconds": seconds, "kept": False})
        return value

    def trained(self, name: str, train: Callable[[StudyRun], Any], run: StudyRun) -> Any:
        """See `Keeper`. What is returned was always read back from the folder."""
        recipe = fingerprint_of_training(train)
        folder = self._found(name, recipe)
        seconds = 0.0
        if folder is None:
            clock = time.perf_counter()
            with tracking(f"training {name}", total=None):
                model = train(run)
            seconds = round(time.perf_counter() - clock, 3)
            folder = self._model_folder(name, recipe)
            self._keep_model(model, folder, name, recipe, seconds)
        self.did.append({"name": f"trained {name}", "seconds": seconds, "kept": not seconds})
        return run.seen(_opened(folder, f"{self.study}/{name}", recipe, run.options))

    def scratch(self, name: str) -> Path | None:
        """See `Keeper`."""
        folder = self.steps / "training" / _slug(name)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def seen(self, model: OpenModel) -> None:
        """See `Keeper`."""
        record = record_of_model(model)
        if record not in self.models:
            self.models.append(record)

    def forget(self) -> None:
        """Delete the steps; trained models stay."""
        shutil.rmtree(self.steps, ignore_errors=True)

    def _found(self, name: str, recipe: str) -> Path | None:
        """The folder of the trained model: in the cache, or shipped with the package."""
        for folder in (self._model_folder(name, recipe), SHIPPED / self.study / _slug(name)):
            record = read_json(folder / MODEL) or {}
            if record.get("recipe") == recipe and record.get("place") == dict(self.place):
                return folder
        return None

    def _model_folder(self, name: str, recipe: str) -> Path:
        told = hashlib.sha256(json.dumps([recipe, dict(self.place)], sort_keys=True).encode()).hexdigest()
        return studies_folder() / "models" / self.study.replace("/", "--") / f"{_slug(name)}-{told[:12]}"

    def _keep_model(self, model: Model, folder: Path, name: str, recipe: str, seconds: float) -> None:
        with _appearing(folder) as beside, quiet():
            model.hf.save_pretrained(beside)
            if model.tokenizer is not None:
                model.tokenizer.save_pretrained(beside)
            record = {
                "study": self.study,
                "name": name,
                "recipe": recipe,
                "place": dict(self.place),
                "seconds": seconds,
                "versions": dict(versions()),
            }
            write_json(beside / MODEL, record)
        shutil.rmtree(self.steps / "training" / _slug(name), ignore_errors=True)


def keeping(study: str, file: Path, run_scale: str, seed: int, options: Mapping[str, Any]) -> Kept:
    """What keeps a run of a study.

    Args:
        study: name of the study.
        file: where it is written.
        run_scale: the scale.
        seed: the seed.
        options: how models are opened, where that was asked for.
    """
    chosen = {key: str(value) for key, value in options.items()}
    place = {"scale": run_scale, "seed": seed, **({"options": chosen} if chosen else {})}
    told = hashlib.sha256(json.dumps([fingerprint_of_code(file), place], sort_keys=True).encode()).hexdigest()
    folder = studies_folder() / "steps" / study.replace("/", "--") / f"{run_scale}-{seed}-{told[:12]}"
    return Kept(study, folder, place)


@contextmanager
def alone(kept: Kept) -> Iterator[None]:
    """Hold off other processes that would run the same.

    Raises:
        StoreError: one does.
    """
    lock = kept.steps.with_suffix(".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout as error:
        raise StoreError(
            f"the study {kept.study!r} is being run by another process with this scale and seed;",
            "one at a time keeps the steps.",
            "Wait for it, or give another --seed.",
        ) from error


def kept_steps(kept: Kept) -> list[str]:
    """Names of the steps that are finished."""
    paths = sorted(kept.steps.glob(f"*/{STEP}"), key=lambda path: path.stat().st_mtime_ns)
    records = (read_json(path) for path in paths)
    return [record["name"] for record in records if record and record.get("versions") == dict(versions())]


def _opened(folder: Path, name: str, recipe: str, options: Mapping[str, Any]) -> Model:
    from cutaway.models.model import Model
    from cutaway.models.open import open_parts

    parts = open_parts(str(folder), **options)
    source = f"trained by the study, recipe {recipe[:12]}, {fingerprint(folder)}"
    return Model(parts.hf, parts.tokenizer, name=name, source=source)


def _write(value: Any, folder: Path, files: dict[str, Any]) -> Any:
    """The value with a file's name where a Result or Artifact stood."""
    match value:
        case Result():
            name = f"{len(files)}.nc"
            files[name] = value.save(folder / name)
            learned = {key: _write(each, folder, files) for key, each in value.artifacts.items()}
            return {_RESULT: name, "artifacts": learned}
        case Artifact():
            name = f"{len(files)}.safetensors"
            files[name] = value.save(folder / name)
            return {_ARTIFACT: name}
        case dict():
            return {key: _write(each, folder, files) for key, each in value.items()}
        case list():
            return [_write(each, folder, files) for each in value]
    return value


def _read(said: Any, folder: Path) -> Any:
    match said:
        case {"$result": str(name), "artifacts": dict(learned)}:
            result = Result.load(folder / name)
            found = {key: _read(each, folder) for key, each in learned.items()}
            return replace(result, artifacts=found) if found else result
        case {"$artifact": str(name)}:
            return Artifact.load(folder / name)
        case dict():
            return {key: _read(each, folder) for key, each in said.items()}
        case list():
            return [_read(each, folder) for each in said]
    return said


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of `folder` when the block ends without an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:12]}.tmp"
    beside.mkdir()
    try:
        yield beside
        shutil.rmtree(folder, ignore_errors=True)
        beside.replace(folder)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror or error}.",
            instead="Make room, or name another folder with CUTAWAY_CACHE.",
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _slug(name: str) -> str:
    """A file's name for any text: readable, and never that of another text."""
    readable = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:40]
    return f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
