"""Are the papers that are cited really there? Citation keys against a BibTeX file.

Limits: an entry is known by its first line, `@article{key,`; nothing is checked about what stands in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=8)
def keys_of(references: Path) -> frozenset[str]:
    """The citation keys of a BibTeX file."""
    return frozenset(re.findall(r"^@\w+\{\s*([^,\s]+)\s*,", references.read_text(encoding="utf-8"), re.MULTILINE))


def cited(cites: str) -> list[str]:
    """Single keys of `cites="a2020, b2021"`."""
    return [key.strip() for key in cites.split(",") if key.strip()]


def missing_citations(cites: str, docstring: str, references: Path | None) -> Iterator[str]:
    """A sentence for each key that the docstring does not name, or that the BibTeX file does not have."""
    for key in cited(cites):
        if f"@{key}" not in docstring:
            yield f"the module docstring does not cite [@{key}]"
        if references is not None and key not in keys_of(references):
            yield f"{key!r} is not in {references.name}"
