"""How do a server and its worker talk? JSON lines one way, frames the other, and never a pickle.

A request is one line of JSON. An answer is a frame: one line of JSON (its header) and, where the header says
`bytes`, that many raw bytes after it. Both ends are pipes of one machine.
Limits: a header is at most `LONGEST` long; what is larger travels as raw bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from cutaway.core.errors import CutawayError

LONGEST = 64 * 1024 * 1024


@dataclass(frozen=True)
class Frame:
    """What a worker says: a header of JSON values, and raw bytes where it has any."""

    header: Mapping[str, Any] = field(default_factory=dict)
    body: bytes = b""


def line_of(message: Mapping[str, Any]) -> bytes:
    """A message as one line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def write_frame(stream: BinaryIO, frame: Frame) -> None:
    """Write a frame and send it off."""
    header = {**frame.header, "bytes": len(frame.body)} if frame.body else frame.header
    stream.write(line_of(header))
    if frame.body:
        stream.write(frame.body)
    stream.flush()


def read_line(stream: BinaryIO) -> dict[str, Any] | None:
    """The next message; None at the end of the stream, also where the last line was cut off.

    Raises:
        CutawayError: a line that is not a JSON object, or far too long.
    """
    line = stream.readline(LONGEST)
    if not line.endswith(b"\n"):
        if len(line) >= LONGEST:
            raise CutawayError(f"a message is longer than {LONGEST:,} bytes;", "larger things travel as raw bytes.")
        return None
    try:
        message = json.loads(line)
    except ValueError as error:
        raise CutawayError(f"{line[:60]!r} is no message;", "a message is one line of JSON.") from error
    if not isinstance(message, dict):
        raise CutawayError(f"{line[:60]!r} is no message;", "a message is an object.")
    return message


def read_frame(stream: BinaryIO) -> Frame | None:
    """The next frame; None at the end of the stream, also where the last frame was cut off.

    Raises:
        CutawayError: as `read_line`.
    """
    header = read_line(stream)
    if header is None:
        return None
    size = int(header.pop("bytes", 0))
    body = stream.read(size) if size else b""
    return Frame(header, body) if len(body) == size else None
