r"""How does text survive a file format that cannot hold all of it? By escapes that are undone on reading.

NetCDF text is UTF-8 that ends at the first NUL byte, so a token that is a NUL, or half of a surrogate pair,
cannot be held as it is. An array that has such a text is written with backslash escapes (`\u0000`, and `\\`
for a backslash) and is marked; all other arrays stay as they are, so that any reader sees the plain tokens.
Limits: a reader that does not know the mark sees the escapes.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

_UNSAFE = re.compile("[\x00\ud800-\udfff]")
_TO_ESCAPE = re.compile("[\x00\\\\\ud800-\udfff]")
_ESCAPED = re.compile(r"\\(\\|u([0-9a-f]{4}))")


def needs_escape(array: NDArray[Any]) -> bool:
    """Whether some text in the array cannot be written as it is."""
    return any(_UNSAFE.search(text) for text in array.ravel().tolist())


def escaped(array: NDArray[Any]) -> NDArray[Any]:
    """The array with all its texts escaped."""
    return _each(array, lambda text: _TO_ESCAPE.sub(_escape, text))


def unescaped(array: NDArray[Any]) -> NDArray[Any]:
    """The array as it was before `escaped`."""
    return _each(array, lambda text: _ESCAPED.sub(_unescape, text))


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return "\\\\" if character == "\\" else f"\\u{ord(character):04x}"


def _unescape(match: re.Match[str]) -> str:
    return chr(int(match.group(2), 16)) if match.group(2) else "\\"


def _each(array: NDArray[Any], change: Any) -> NDArray[Any]:
    changed = np.empty(array.shape, dtype=object)
    changed.ravel()[:] = [change(text) for text in array.ravel().tolist()]
    return changed
