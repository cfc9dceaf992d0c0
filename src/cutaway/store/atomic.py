"""How is a file written so that nobody ever reads half of it? Beside its place, then moved there in one step.

A process that is killed while writing leaves the old file as it was, and at worst a hidden temporary file
beside it.
Limits: the step is atomic on one file system, which is why the temporary file lies in the same folder.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cutaway.core.errors import StoreError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the block ends without an error.

    Raises:
        StoreError: the folder does not exist, or cannot be written to.
    """
    if not path.parent.is_dir():
        raise StoreError(
            f"{path.name} cannot be written: there is no folder {str(path.parent)!r}.",
            instead=f"Make it first: mkdir -p {path.parent}",
        )
    beside = path.parent / f".{path.name[:80]}.{uuid.uuid4().hex[:12]}.tmp"
    try:
        yield beside
        _flush(beside)
        beside.replace(path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}.",
            instead="Choose another folder, or make room.",
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file, or none.

    Raises:
        StoreError: as `replacing`.
    """
    with replacing(path) as beside:
        beside.write_bytes(content)


def _flush(path: Path) -> None:
    """Onto the disk before it gets its name, or a power cut could leave the name on an empty file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
