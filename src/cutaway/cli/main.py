"""Which commands are there, and how do they end? The entry point of `cutaway`.

A command is a function in a file of its own; `COMMANDS` says where. Only the file of the command that was
typed is imported: of the others the help shows the first line of their docstring, read from the source. So
`cutaway --help` is quick however heavy a command is. Exit status: 0 when it went well, 2 with a sentence
when something was asked for that cannot be done, 130 when it was cancelled. What a command itself has to
say (a law that fails) is 1.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

import cutaway
from cutaway.core import catalog, registry
from cutaway.core.errors import Cancelled, CutawayError

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Command:
    """A command: its name, which is also the name of its file and function, and its group in the help."""

    name: str
    group: str

    @property
    def file(self) -> Path:
        """Where its function is."""
        return _FOLDER / f"{self.name}.py"


COMMANDS = (
    Command("explain", "Ask a model"),
    Command("attribute", "Ask a model"),
    Command("run", "Ask a model"),
    Command("check", "Ask a model"),
    Command("edit", "Ask a model"),
    Command("study", "Ask a model"),
    Command("serve", "See what there is"),
    Command("list", "See what there is"),
    Command("models", "See what there is"),
    Command("show", "See what there is"),
    Command("new", "Add your own"),
    Command("store", "Keep and share"),
)


def main() -> None:
    """Run the command line and leave with its exit status."""
    warnings.showwarning = _show_warning
    sys.exit(run_words(sys.argv[1:]))


def run_words(words: Sequence[str]) -> int:
    """Run the command line on these words.

    Returns:
        The exit status.
    """
    try:
        command_for(words)(list(words) or ["--help"], prog_name="cutaway")
    except SystemExit as done:
        return _status(done.code)
    except CutawayError as error:
        _say(str(error))
        return 2
    except (Cancelled, KeyboardInterrupt) as stopped:
        _say(str(stopped) or "Cancelled.")
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough; a second complaint at exit is of no use
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


def command_for(words: Sequence[str]) -> Callable[..., Any]:
    """The command line, with the commands that occur in `words` imported and of the others their help alone.

    Returns:
        What runs it: a function of the words.
    """
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
        epilog="Start with [bold]cutaway list[/bold]; [bold]cutaway COMMAND --help[/bold] says more.",
    )
    app.callback()(_options)
    for command in COMMANDS:
        if command.file.exists():
            _add(app, command, imported=command.name in words)
    return _without_flag_types(typer.main.get_command(app))


def _add(app: typer.Typer, command: Command, *, imported: bool) -> None:
    if not imported:
        help_line = catalog.first_line(command.file, command.name)
        app.command(command.name, help=help_line, rich_help_panel=command.group)(_not_imported)
        return
    module = importlib.import_module(f"cutaway.cli.{command.name}")
    function: Callable[..., Any] = getattr(module, command.name)
    app.command(command.name, rich_help_panel=command.group)(function)


def _without_flag_types(group: Any) -> Callable[..., Any]:
    """The same commands, whose help does not say `<bool>` after an option that takes no value."""
    context = typer.Context(group)
    for command in (group, *group.commands.values()):
        for option in (*command.params, command.get_help_option(context)):
            if getattr(option, "is_flag", False):
                option.metavar = ""
    runs: Callable[..., Any] = group
    return runs


def _not_imported() -> None:
    """Stands for a command that was not typed, so that the help can list it."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cutaway {cutaway.__version__}")
        raise typer.Exit


def _options(
    plugin: Annotated[
        list[Path] | None,
        typer.Option("--plugin", metavar="FILE", help="Python file with methods or tasks of your own."),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Open up a running language model: see what it computes, find what causes what, change it."""
    for file in plugin or ():
        registry.load_file(file)


def _status(code: str | int | None) -> int:
    if isinstance(code, str):
        _say(code)
        return 2
    return code or 0


def _say(text: str) -> None:
    """A sentence on standard error, wrapped as the terminal is wide."""
    from rich.console import Console
    from rich.text import Text

    first = text.split(" ", 1)[0]
    sentence = text[:1].upper() + text[1:] if first.isalpha() else text  # not `top=3`, not a path
    Console(stderr=True).print(Text(sentence), soft_wrap=not sys.stderr.isatty())


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """A warning for people is one sentence; one for developers stays as Python writes it."""
    if issubclass(category, registry.PluginWarning):
        _say(f"Warning: {message}")
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))
