"""Where do the pages come from? The built front end, read into memory; a path of a request never touches the disk.

Files whose names carry a hash of their contents may be kept for ever, the page itself is asked for anew each
time. Every path that is no file and no part of the API is a page of the front end, so that an address
restores what it showed. Without a built front end, a plain page says how to build it.
Limits: the files are read again when the page itself was changed on the disk.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from cutaway.web.answers import NotHere, refusal

_HASHED = re.compile(r"-[A-Za-z0-9_-]{8,}\.\w+$")
_TEXT = ("text/", "application/json", "application/javascript", "image/svg+xml", "application/manifest+json")
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml",
          ".woff2": "font/woff2", ".webmanifest": "application/manifest+json", ".html": "text/html"}  # fmt: skip
_NOT_BUILT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Cutaway</title>
<meta name="viewport" content="width=device-width">
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:4em auto;padding:0 1em}</style></head>
<body><h1>The pages are not built</h1>
<p>The server runs, and its interface for programs is at <a href="/openapi.json">/openapi.json</a>.
The pages are made from <code>frontend/</code>: run <code>make web</code> in the folder of the project, then load
this page again. An installed package carries them already.</p></body></html>
"""


@dataclass(frozen=True)
class File:
    """A file of the front end."""

    body: bytes
    media_type: str
    hashed: bool

    @cached_property
    def packed(self) -> bytes:
        """Compressed; empty where that saves nothing."""
        if len(self.body) < 1024 or not self.media_type.startswith(_TEXT):
            return b""
        return gzip.compress(self.body, 6, mtime=0)

    @cached_property
    def tag(self) -> str:
        """Changes when the contents do."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:20]}"'


class Pages:
    """Answers whatever is not the API."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(__file__).parent / "static"
        self._files: dict[str, File] = {}
        self._changed: int | None = None

    async def answer(self, request: Request) -> Response:
        """The file, or the page."""
        files = self._fresh()
        path = request.url.path
        found = files.get(path)
        if found is None and (path.startswith(("/api/", "/assets/", "/widget/")) or path == "/api"):
            return refusal(
                NotHere(f"there is nothing at {path[:80]!r};", "the interface is described in /openapi.json.")
            )
        if found is None:
            found = files.get("/index.html") or File(_NOT_BUILT.encode(), "text/html", hashed=False)
        return _sent(found, request)

    def _fresh(self) -> dict[str, File]:
        try:
            changed = (self._folder / "index.html").stat().st_mtime_ns
        except OSError:
            return {}
        if changed != self._changed:
            self._files = {f"/{p.relative_to(self._folder).as_posix()}": _read(p) for p in _files_in(self._folder)}
            self._changed = changed
        return self._files


def _files_in(folder: Path) -> list[Path]:
    """The files below a folder; links that lead out of it are left alone."""
    inside = folder.resolve()
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and p.resolve().is_relative_to(inside)]


def _read(path: Path) -> File:
    guessed = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return File(path.read_bytes(), guessed, bool(_HASHED.search(path.name)) and path.suffix != ".html")


def _sent(file: File, request: Request) -> Response:
    headers = {
        "etag": file.tag,
        "cache-control": "public, max-age=31536000, immutable" if file.hashed else "no-cache",
        "vary": "accept-encoding",
    }
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    body = file.body
    if file.packed and "gzip" in request.headers.get("accept-encoding", ""):
        body, headers["content-encoding"] = file.packed, "gzip"
    kind = file.media_type
    return Response(body, media_type=f"{kind}; charset=utf-8" if kind.startswith("text/") else kind, headers=headers)
