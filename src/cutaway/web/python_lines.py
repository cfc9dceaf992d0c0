"""Which Python lines make this result again? Read from the command that its record holds.

Limits: where no command can say how a result was made (many prompts written in Python, or a part of an
explanation), the lines open the kept result instead, and say so.
"""

from __future__ import annotations

import ast
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OPTIONS = ("model", "device", "dtype", "task", "file", "metric", "prompt", "contrast", "answer", "wrong", "plugin")


@dataclass
class Command:
    """A `cutaway run` line, taken apart."""

    method: str = ""
    options: dict[str, list[str]] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    task_words: dict[str, str] = field(default_factory=dict)


def python_lines(command: str, provenance: Mapping[str, Any], id: str) -> str:
    """The lines, as a script.

    Args:
        command: the command line that repeats the run; may be empty.
        provenance: the record of the result.
        id: of the result in the store.
    """
    read = read_command(command)
    if read is None:
        return _opening(id, command)
    method, task = read.method.replace("-", "_"), _task(read)
    named = f"ca.{method}" if method.isidentifier() else f"registry.get('method', {read.method!r})"
    lines = ["import cutaway as ca"]
    if "plugin" in read.options or any(line.startswith("registry.") for line in (named, task)):
        lines.append("from cutaway.core import registry")
    lines.append("")
    lines += [f"registry.load_file({file!r})" for file in read.options.get("plugin", ())]
    lines.append(f"model = ca.open({_arguments(_model_words(read))})")
    lines.append(f"task = {task}")
    values = _values(read.words, provenance.get("parameters") or {})
    lines.append(f"result = {named}({_arguments(['model', 'task', *values])})")
    lines.append("result.show()")
    return "\n".join(lines) + "\n"


def read_command(command: str) -> Command | None:
    """A `cutaway run` line taken apart; None for anything else."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if not words or words[0] != "cutaway" or "run" not in words:
        return None
    read, rest = Command(), iter(words[1:])
    for word in rest:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name not in OPTIONS:
                return None
            read.options.setdefault(name, []).append(value if equals else next(rest, ""))
        elif word == "run" and not read.method:
            read.method = next(rest, "")
        elif "=" in word:
            key, _, value = word.partition("=")
            target = read.task_words if key.startswith("task.") else read.words
            target[key.removeprefix("task.")] = value
        else:
            return None
    return read if read.method else None


def _opening(id: str, command: str) -> str:
    said = f"# Made with: {command}\n" if command and "\n" not in command else ""
    return (
        f"# How this result was made cannot be said in a few lines; these open it from the store.\n{said}"
        f"from cutaway.store.index import Store\n\nresult = Store.open().result({id!r})\nresult.show()\n"
    )


def _model_words(read: Command) -> list[str]:
    options = {name: read.options[name][-1] for name in ("device", "dtype") if name in read.options}
    return [repr(read.options.get("model", ["smollm2"])[-1]), *(f"{name}={value!r}" for name, value in options.items())]


def _task(read: Command) -> str:
    options = read.options
    if "task" in options:
        name, words = options["task"][-1], _values(read.task_words, {})
        if name.isidentifier():
            return f"ca.tasks.{name}({_arguments(words)})"
        return f"registry.get('task', {name!r})({_arguments(words)})"
    if "file" in options:
        return f"ca.Task.from_file({options['file'][-1]!r})"
    given = [repr(options.get("prompt", []))]
    if "contrast" in options:
        given.append(f"contrasts={options['contrast']!r}")
    for name, key in (("answer", "answers"), ("wrong", "wrong")):
        if name in options:
            given.append(f"{key}={[text.split('|') for text in options[name]]!r}")
    if "metric" in options:
        given.append(f"metric={options['metric'][-1]!r}")
    return f"ca.Task.from_prompts({_arguments(given)})"


def _values(words: Mapping[str, str], known: Mapping[str, Any]) -> list[str]:
    """Values as Python writes them: those of the record where it has them, else read from the text."""
    found = {name: known[name] if name in known else _literal(text) for name, text in words.items()}
    return [f"{name}={value!r}" for name, value in found.items()]


def _literal(text: str) -> Any:
    if text in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, int | float | list) else text


def _arguments(given: Sequence[str]) -> str:
    return ", ".join(given)
