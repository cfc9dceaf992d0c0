"""Was this worked out before? Costly artifacts, kept in the user's cache under what they were made from.

A file is written whole or not at all, and its contents are checked when it is read: what is damaged is made anew. What
takes less than a second is not kept, and a cache that cannot be written to is no error.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from cutaway.core.artifact import Artifact
from cutaway.core.errors import CutawayError
from cutaway.models.weights import cache_folder

WORTH_KEEPING = 1.0  # seconds


def kept(kind: str, made_from: Mapping[str, Any], make: Callable[[], Artifact]) -> Artifact:
    """The artifact that `make` gives, from the cache where it is there.

    Args:
        kind: of the artifact.
        made_from: everything that it depends on; JSON values.
        make: makes it.
    """
    key = hashlib.sha256(json.dumps([kind, dict(made_from)], sort_keys=True).encode()).hexdigest()
    path = cache_folder().parent / "artifacts" / f"{kind}-{key[:32]}.safetensors"
    if path.is_file():
        try:
            return Artifact.load(path)
        except CutawayError:
            pass  # damaged: it is made again
    started = time.perf_counter()
    made = make()
    if time.perf_counter() - started >= WORTH_KEEPING:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.save(path)
        except (CutawayError, OSError):
            pass
    return made
