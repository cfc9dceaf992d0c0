"""Where does what a method learned go? `--artifact FILE`, or `--artifact NAME=FILE` where it learned several things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cutaway.core.errors import StoreError, nearest

if TYPE_CHECKING:
    from cutaway.core.artifact import Artifact

SUFFIX = ".safetensors"


def asked_for(words: Sequence[str]) -> list[tuple[str, Path]]:
    """Names (empty: the only one) and files, from what was written after `--artifact`.

    Raises:
        StoreError: a file with another suffix, or in a folder that does not exist: found out before the work.
    """
    found = []
    for word in words:
        name, equals, file = word.rpartition("=")
        path = Path(file if equals else word)
        if path.suffix != SUFFIX:
            raise StoreError(
                f"the file {path} ends in {path.suffix!r};",
                f"an artifact is kept in one {SUFFIX} file.",
                f"Write --artifact {path.stem}{SUFFIX}.",
            )
        if not path.absolute().parent.is_dir():
            raise StoreError(
                f"the folder {path.parent} does not exist;", "a file is written into one.", "Make it first."
            )
        found.append((name, path))
    return found


def written(artifacts: Mapping[str, Artifact], wanted: Sequence[tuple[str, Path]], method: str) -> list[Path]:
    """Write the artifacts that were asked for.

    Raises:
        StoreError: the method learned nothing, or nothing of that name.
    """
    paths = []
    for name, path in wanted:
        if not artifacts:
            raise StoreError(f"{method} learned nothing that could be kept in {path};", "", "Leave out --artifact.")
        if not name and len(artifacts) > 1:
            names = ", ".join(artifacts)
            raise StoreError(
                f"{method} learned {len(artifacts)} things: {names};",
                "each has a file of its own.",
                f"Write --artifact {next(iter(artifacts))}={path}.",
            )
        if name and name not in artifacts:
            raise StoreError(f"{method} learned nothing called {name!r};", nearest(name, artifacts))
        paths.append(artifacts[name or next(iter(artifacts))].save(path))
    return paths
