"""Where are the files of a store, and how does one get its name? Written beside, flushed, then moved in one step.

`objects/ab/cdef….nc` is the file of the result whose id is `abcdef…`. A file is written in `incoming/`, and
reaches `objects/` whole or not at all. Moving a file there and writing its row is done by one process at a
time (`alone`): a lock that the system takes back from a process that dies.
Limits: names are made from ids alone, and an id is hexadecimal digits; no other text becomes part of a path.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout

from cutaway.core.errors import StoreError

SUFFIXES = (".nc", ".safetensors")
_ID = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[0-9a-f]{62}")
_WAIT = 120  # seconds; what is done under the lock takes milliseconds


@dataclass(frozen=True)
class Objects:
    """The files of a store, below `folder`."""

    folder: Path

    @cached_property
    def _lock(self) -> FileLock:
        return FileLock(self.folder / "lock", timeout=_WAIT)

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            StoreError: the place cannot be written to.
        """
        with _in_words(self.folder):
            for folder in (self.folder, self.folder / "objects", self.folder / "incoming"):
                folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else moves, removes or takes in files meanwhile. May be nested.

        Raises:
            StoreError: another process has been at it for minutes.
        """
        with _in_words(self.folder):
            try:
                self._lock.acquire()
            except Timeout as error:
                raise StoreError(
                    f"another process has held {self._lock.lock_file} for {_WAIT} s.",
                    "It is held for the moment in which a file gets its name.",
                    "Try again, or end that process.",
                ) from error
        try:
            yield
        finally:
            self._lock.release()

    def path(self, item: str, suffix: str) -> Path:
        """Where the file of this item is or will be.

        Raises:
            StoreError: not an id.
        """
        if not _ID.fullmatch(item) or suffix not in SUFFIXES:
            raise StoreError(f"{item[:80]!r} is not an id;", "an id is 64 hexadecimal digits.")
        return self.folder / "objects" / item[:2] / f"{item[2:]}{suffix}"

    def beside(self, suffix: str) -> Path:
        """A new path to write to, on the same disk."""
        return self.folder / "incoming" / f"{uuid.uuid4().hex}{suffix}"

    def settle(self, beside: Path, item: str, suffix: str) -> Path:
        """Give a file that is written and flushed its name; one that had the name before is replaced.

        Raises:
            StoreError: the disk refuses.
        """
        path = self.path(item, suffix)
        with _in_words(path):
            if not path.parent.is_dir():
                path.parent.mkdir(exist_ok=True)
                _flush(path.parent.parent)
            beside.replace(path)
            _flush(path.parent)
        return path

    def remove(self, path: Path) -> int:
        """Delete a file of the store; how many bytes it had."""
        with _in_words(path):
            try:
                size = path.stat().st_size
                path.unlink()
            except FileNotFoundError:
                return 0
        return size

    def listing(self) -> Iterator[tuple[str, Path]]:
        """The ids and paths of all files that have their names."""
        for path in self._all():
            if self._is_ours(path):
                yield path.parent.name + path.stem, path

    def strange(self) -> Iterator[Path]:
        """Files among them that no cutaway put there."""
        return (path for path in self._all() if not self._is_ours(path))

    def leftovers(self, older_than: float = 0.0) -> Iterator[Path]:
        """Files that were never finished; `older_than` seconds, so that those being written are left."""
        latest = time.time() - older_than
        for path in sorted((self.folder / "incoming").iterdir()):
            try:
                if path.is_file() and path.stat().st_mtime <= latest:
                    yield path
            except FileNotFoundError:  # it was finished just now
                continue

    def _all(self) -> Iterator[Path]:
        for folder in sorted((self.folder / "objects").iterdir()):
            yield from sorted(folder.iterdir()) if folder.is_dir() else (folder,)

    def _is_ours(self, path: Path) -> bool:
        named = re.fullmatch("[0-9a-f]{2}", path.parent.name) and _NAME.fullmatch(path.stem)
        return bool(named) and path.suffix in SUFFIXES and path.is_file()


def sha256_of(path: Path) -> str:
    """Digest of the bytes of a file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(folder: Path) -> None:
    """A name is on the disk when its folder is; Windows does that by itself."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the store cannot use {path}: {error.strerror or error}.",
            "A store is a folder that you may write to.",
            "Name another with --store or CUTAWAY_STORE, or make room.",
        ) from error
