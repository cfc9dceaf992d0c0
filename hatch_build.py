"""A wheel without the workbench is refused: pages are built where they are missing, and must then be there.

An editable install (a checkout) needs no pages, so neither npm nor Node is asked for there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ENTRIES = ("index.html", "widget/widget.js", "widget/widget.css")
HASHED = re.compile(r"(?:\./|assets/)([\w.-]+-[\w-]{8}\.(?:js|css|woff2))\b")  # the names that Vite gives


class WorkbenchHook(BuildHookInterface):
    """Build the front end into `src/cutaway/web/static` when it is not there yet."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the wheel is packed."""
        if version == "editable":
            return
        root = Path(self.root)
        static = root / "src" / "cutaway" / "web" / "static"
        if (missing(static) or left_over(static)) and shutil.which("npm"):
            for words in (["npm", "ci", "--no-audit", "--no-fund"], ["npm", "run", "build"]):
                subprocess.run(words, cwd=root / "frontend", check=True)
        if lacking := missing(static):
            raise RuntimeError(
                f"The wheel would lack the workbench: {', '.join(lacking)} is not in {static.relative_to(root)}. "
                "It is built by Node 20 or newer and npm. Install them, then write: make web"
            )


def named(static: Path) -> set[str]:
    """The built files that the page names, and those that these name."""
    found: set[str] = set()
    waiting = [static / "index.html"]
    while waiting:
        path = waiting.pop()
        text = path.read_text(encoding="utf-8") if path.is_file() and path.suffix != ".woff2" else ""
        new = {f"assets/{name}" for name in HASHED.findall(text)} - found
        found |= new
        waiting += [static / name for name in new]
    return found


def missing(static: Path) -> list[str]:
    """What the workbench needs and is not there."""
    return [name for name in (*ENTRIES, *sorted(named(static))) if not (static / name).is_file()]


def left_over(static: Path) -> list[str]:
    """What is there of another build, which nothing names any more."""
    there = {f"assets/{path.name}" for path in (static / "assets").glob("*")}
    return sorted(there - named(static))
