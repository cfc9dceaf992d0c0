"""How is an edited model opened and kept? Edits put in as it opens, and a folder that remembers its edits.

A saved folder is one of the hub's layout, which any program opens; beside the weights, `cutaway_edits.json` lists the
edits that are in them, in order, so that the last one can be undone from the folder alone, bit for bit.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cutaway.core.artifact import Artifact
from cutaway.core.errors import ModelError
from cutaway.models import weight_edit
from cutaway.models.folder import quiet
from cutaway.models.model import Model
from cutaway.models.open import open
from cutaway.models.weights import read_json, write_json

LEDGER = "cutaway_edits.json"


def open_edited(name: str, edits: Sequence[str | Path] = (), **options: Any) -> Model:
    """Open a model, with the ledger of its folder, and make edits in the order given.

    Args:
        name: as in `open`.
        edits: artifacts of kind `weights`.
        options: further arguments of `open`.

    Raises:
        ModelError: an edit was made for other weights.
    """
    artifacts = [Artifact.load(path) for path in edits]
    model = open(name, **options)
    weight_edit.remember(model, ledger_of(name))
    for artifact in artifacts:
        weight_edit.apply(model, artifact)
    return model


def ledger_of(name: str) -> list[str]:
    """The ids of the edits in a folder's weights; none for what is no folder of ours."""
    record = read_json(Path(name) / LEDGER) if (Path(name) / LEDGER).is_file() else None
    return [str(each) for each in (record or {}).get("edits", [])]


def save(model: Model, folder: str | Path) -> Path:
    """Write the model with the edits it carries into a new folder, whole or not at all.

    Raises:
        ModelError: the folder exists, or cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        raise ModelError(f"{str(folder)!r} exists.", "A model is saved into a new folder.", "Name another one.")
    if not folder.absolute().parent.is_dir():
        raise ModelError(
            f"The folder {str(folder.parent)!r} does not exist.", "A folder is made in one.", "Make it first."
        )
    beside = folder.absolute().parent / f".{folder.name}.{uuid.uuid4().hex[:12]}.tmp"
    try:
        with quiet():
            model.hf.save_pretrained(beside)
            if model.tokenizer is not None:
                model.tokenizer.save_pretrained(beside)
        write_json(beside / LEDGER, {"edits": list(weight_edit.ledger(model)), "opened_as": model.name})
        beside.replace(folder)
    except OSError as error:
        raise ModelError(
            f"{str(folder)!r} cannot be written: {error}.", "", "Name another place, or make room."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder
