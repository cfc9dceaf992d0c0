"""How does one begin a method, a task or a study of one's own? `cutaway new method NAME` writes a file that works.

What is written is a small true example with its check and its control, and a test that holds it to the laws
of every method. It runs at once; the rest is changing it.
"""

from __future__ import annotations

import keyword
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from cutaway.core import registry
from cutaway.core.errors import ParameterError, nearest

KINDS = ("method", "task", "study")


def new(
    kind: Annotated[str, typer.Argument(metavar="KIND", hidden=True)],
    name: Annotated[str, typer.Argument(metavar="NAME", hidden=True)],
    folder: Annotated[Path, typer.Option("--folder", metavar="FOLDER", help="Where the files are written.")] = Path(),
) -> None:
    """Begin a method, a task or a study of your own: a file that works.

    KIND is method, task or study; NAME is what it will be called, in small letters: answer_rank.

    Beside it stands a test that holds it to the laws of every method. Change the file as you like.
    """
    written = write(kind, name.replace("-", "_"), folder)
    console = Console(highlight=False)
    console.print(f"Wrote {written[0]} and {written[1]}.")
    run = {
        "method": f"run {written[0].stem} --task ioi",
        "task": f"run logit_lens --task {written[0].stem}",
        "study": f"study run {written[0].stem} --scale tiny",
    }[kind]
    for label, command in (
        ("Try it: ", f"cutaway --plugin {written[0]} {run}"),
        ("Test it:", f"python -m pytest {written[1]}"),
    ):
        console.print(Text.assemble((f"{label} ", "dim"), command), soft_wrap=True)
    share = f'an entry point in its pyproject.toml: [project.entry-points.cutaway] {name} = "{name}"'
    console.print(Text(f"Share it: put it into a package with {share}", style="dim"), soft_wrap=True)


def write(kind: str, name: str, folder: Path) -> tuple[Path, Path]:
    """Write the file and its test.

    Returns:
        Both paths.

    Raises:
        ParameterError: a kind or name that cannot be, a name that is taken, or a file that is there already.
    """
    if kind not in KINDS:
        raise ParameterError(
            f"there is nothing to begin called {kind!r};",
            nearest(kind, KINDS),
            f"Write cutaway new method {name}.",
        )
    _refuse_name(kind, name)
    texts = {f"{name}.py": f"{kind}.py.txt", f"test_{name}.py": f"test_{kind}.py.txt"}
    for target in texts:
        if (folder / target).exists():
            raise ParameterError(
                f"the file {folder / target} is there already;",
                "nothing is overwritten.",
                "Take another name or --folder.",
            )
    folder.mkdir(parents=True, exist_ok=True)
    for target, source in texts.items():
        template = resources.files("cutaway.cli").joinpath("scaffold", source).read_text(encoding="utf-8")
        (folder / target).write_text(template.replace("NAME", name), encoding="utf-8")
    file, test = (folder / target for target in texts)
    return file, test


def _refuse_name(kind: str, name: str) -> None:
    if not name.isidentifier() or keyword.iskeyword(name) or name.lower() != name or name.startswith("_"):
        expected = "a name is small letters, digits and underscores, as of a Python function."
        raise ParameterError(f"{name!r} cannot name a {kind};", expected, f"Write cutaway new {kind} my_{kind}.")
    ours = [entry.name for entry in registry.entries(kind) if entry.distribution == registry.OURS]
    if name in ours:
        expected = "plug-ins do not take the names of built-ins."
        raise ParameterError(f"cutaway has a {kind} {name!r} already;", expected, f"Write for example my_{name}.")
