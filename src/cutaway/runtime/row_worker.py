"""What does a worker do that attributes rows of a file? It opens the model once and does the rows that it is given.

Started by `cutaway.runtime.attribute_dataset` as `python -m cutaway.runtime.row_worker`. Results go into their files from
here, before anybody hears of them: a process that is ended loses only the row under way.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutaway.core import registry
from cutaway.runtime.attribute_dataset import Asked, attributed, prepared, record_of
from cutaway.runtime.frames import Frame
from cutaway.runtime.worker import Line, serve

if TYPE_CHECKING:
    from cutaway.models.model import Model


class Rows:
    """The file that was opened, and the requests that the worker knows."""

    _model: Model
    _asked: Asked

    def open(self, message: Mapping[str, Any], line: Line) -> Frame:
        """Open the model and read the file."""
        from cutaway.models.open import open

        self._asked = prepared(message["file"], message["folder"], message["method"], message["parameters"])
        self._model = open(message["model"], **message["options"])
        return Frame({"answer": {}})

    def row(self, message: Mapping[str, Any], line: Line) -> Frame:
        """Attribute one row."""
        return Frame({"answer": record_of(attributed(self._model, self._asked, int(message["id"])))})


def main() -> None:
    """Be the worker until nothing more is asked."""
    options = argparse.ArgumentParser()
    options.add_argument("--plugin", action="append", default=[], type=Path)
    for plugin in options.parse_args().plugin:
        registry.load_file(plugin)
    rows = Rows()
    serve({"open": rows.open, "row": rows.row})


if __name__ == "__main__":
    main()
