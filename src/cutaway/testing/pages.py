"""Which pages of the documentation are made from the code? `python -m cutaway.testing.pages` writes them.

Methods and tasks are read from the registry, commands from the command line itself, kinds of site from `KINDS` with the
definitions of the glossary, references from the BibTeX file, studies from the catalogue and the records that come with
the package. A test holds that the pages are current.
Limits: works in a checkout, where `docs/` lies beside `src/`.
"""

from __future__ import annotations

import ast
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cutaway.core import registry
from cutaway.core.catalog import Entry
from cutaway.core.errors import CutawayError
from cutaway.core.site import KINDS

DOCS = Path(__file__).resolve().parents[3] / "docs"
MADE = "<!-- Made by python -m cutaway.testing.pages: change the code instead. -->"
_PARTS = {
    "stream": "the residual stream and the branches that add to it",
    "attention": "inside attention",
    "scores": "inside attention's softmax",
    "mlp": "inside the MLP",
    "experts": "inside a mixture of experts",
    "ends": "before and after the layers",
}
_ENTRY = re.compile(r"@(\w+)\{([^,]+),(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\s*(\w+)\s*=\s*\{(.*)\},?\s*$", re.MULTILINE)


def pages() -> dict[Path, str]:
    """Every generated page with what it must hold now."""
    makers: Mapping[str, Callable[[], str]] = {
        "reference/methods.md": lambda: _functions("method", "Methods", _METHODS),
        "reference/tasks.md": lambda: _functions("task", "Tasks", _TASKS),
        "reference/sites.md": _sites,
        "reference/commands.md": _commands,
        "references.md": _references,
        "studies.md": _studies,
    }
    return {DOCS / name: make() for name, make in makers.items()}


def stale() -> list[str]:
    """The generated pages that are not what the code would write."""
    found = pages()
    return [
        str(path.relative_to(DOCS))
        for path, text in found.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def definitions() -> dict[str, str]:
    """The words of the glossary with their definitions."""
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    found = re.findall(r"^\* \*\*(.+?)\*\*: (.+(?:\n  .+)*)", text, re.MULTILINE)
    return {word: re.sub(r"\s*\n\s*", " ", meaning) for word, meaning in found}


# --- methods and tasks -------------------------------------------------------------------------------------------

_METHODS = """A method is a typed function `(model, task, *, parameters) -> Result`. Call it from Python
(`cutaway.logit_lens(model, task, top=3)`) or by name (`cutaway run logit_lens --task ioi top=3`); parameters have
the same names in both. [How to add one](../how-to/add_a_method.md).
"""
_TASKS = """A task is prompts with their contrasts, answers and named positions. Make one in Python
(`cutaway.tasks.ioi(n=50)`) or name it on the command line (`--task ioi task.n=50`).
[How to add one](../how-to/add_a_task.md), and [how to use your own prompts](../how-to/your_own_model_and_prompts.md).
"""


def _functions(kind: str, title: str, introduction: str) -> str:
    entries = [entry for entry in registry.entries(kind) if entry.distribution == registry.OURS]
    rows = [f"| [`{e.name}`](#{e.name}) | {e.asks} |" for e in entries]
    head = [f"# {title}", "", MADE, "", introduction, f"| {kind} | asks |", "|---|---|", *rows, ""]
    return "\n".join([*head, *(line for entry in entries for line in _function(entry))])


def _function(entry: Entry) -> Iterator[str]:
    cites = [f"[{key}](../references.md#{key})" for key in re.split(r",\s*", entry.cites) if key]
    facts = {"asks": entry.asks, "needs": ", ".join(f"`{n}`" for n in entry.needs), "cites": ", ".join(cites)}
    yield from (f"## {entry.name}", "", entry.summary, "")
    yield from (f"* {name}: {fact}" for name, fact in facts.items() if fact)
    yield from ("", "| parameter | type | default | |", "|---|---|---|---|")
    for p in entry.parameters:
        default = "needed" if p.default is None else f"`{p.default}`"
        yield f"| `{p.name}` | {_code(p.type)} | {default} | {_cell(p.help)} |"
    yield from ("", _linked(_docstring(entry.path)), "")


def _docstring(path: Path) -> str:
    """The module docstring below its first line, which repeats the question."""
    text = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    return text.partition("\n")[2].strip()


def _linked(text: str) -> str:
    """Citations as links; what is indented stays as it is written."""

    def link(found: re.Match[str]) -> str:
        return "; ".join(f"[{key}](../references.md#{key})" for key in re.findall(r"@(\w+)", found[0]))

    return re.sub(r"\[@\w+(?:; @\w+)*\]", link, text)


def _code(text: str) -> str:
    return f"`{_cell(text)}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


# --- sites -------------------------------------------------------------------------------------------------------


def _sites() -> str:
    meanings = definitions()
    missing = [kind for kind in KINDS if kind not in meanings]
    if missing:
        raise CutawayError(
            f"The glossary does not define {', '.join(missing)}.",
            "Every kind of site is defined there, in a sentence or two.",
            f"Write a line `* **{missing[0]}**: …` into docs/glossary.md.",
        )
    lines = ["# Sites", "", MADE, "", _SITES]
    for part, title in _PARTS.items():
        lines += [f"## {title[0].upper()}{title[1:]}", "", "| kind | dimensions | is |", "|---|---|---|"]
        kinds = [(kind, dims) for kind, (group, dims) in KINDS.items() if group == part]
        lines += [f"| `{kind}` | {', '.join(('prompt', *dims))} | {_cell(meanings[kind])} |" for kind, dims in kinds]
        lines.append("")
    return "\n".join(lines)


_SITES = """A site is written `KIND[LAYER].head[N]@POSITION`; all but the kind may be missing. Layers, heads, units,
experts and positions may each be a number, a negative number from the end, a slice (`8:`) or `*`; a position may also
be a name (`@subject`). `cutaway check MODEL` says which of these a network has.
[How to read and write them](../how-to/read_write_sweep.md).
"""


# --- commands ----------------------------------------------------------------------------------------------------


def _commands() -> str:
    from cutaway.cli.main import COMMANDS, command_for

    group: Any = command_for([command.name for command in COMMANDS])
    lines = ["# Commands", "", MADE, "", _COMMANDS]
    lines += _table(group.params)
    for name, command in group.commands.items():
        lines += ["", f"## cutaway {name}", "", _prose(command.help), *_usage(name, command.params), ""]
        lines += _table(command.params)
    return "\n".join(lines) + "\n"


_COMMANDS = """`cutaway COMMAND --help` prints the same. A command ends with status 0 when it went well, 1 when a law
failed, 2 when something was asked for that cannot be done (with a sentence that says what to write instead), and 130
when it was cancelled.

Before the command:
"""


def _usage(name: str, params: Sequence[Any]) -> list[str]:
    words = [_named(p) if p.required else f"[{_named(p)}]" for p in params if not p.opts[0].startswith("-")]
    return ["", "```text", " ".join(["cutaway", name, "[OPTIONS]", *words]), "```"]


def _table(params: Sequence[Any]) -> list[str]:
    rows = [_option(p) for p in params if p.opts[0].startswith("-") or getattr(p, "help", None)]
    return ["| option | | default |", "|---|---|---|", *rows]


def _option(param: Any) -> str:
    names = ", ".join(sorted(param.opts, key=len, reverse=True)) if param.opts[0].startswith("-") else _named(param)
    flag = getattr(param, "is_flag", False) or not param.opts[0].startswith("-")
    takes = "" if flag else f" {param.metavar or 'VALUE'}"
    default = param.default
    shown = "" if default is None or default == "" or isinstance(default, bool) or callable(default) else f"`{default}`"
    return f"| `{names}{takes}` | {_cell(getattr(param, 'help', '') or '')} | {shown} |"


def _named(param: Any) -> str:
    return str(param.metavar or param.name.upper())


def _prose(text: str | None) -> str:
    """Help text without the marks that colour it; examples as code."""
    plain = re.sub(r"\[/?(?:dim|bold|green|cyan)?\]", "", (text or "").strip())
    return re.sub(r"(?m)(?<=: )(cutaway .+)$", r"`\1`", plain)


# --- studies -----------------------------------------------------------------------------------------------------


def _studies() -> str:
    from cutaway.runtime.study_records import shipped
    from cutaway.studies.pages import markdown
    from cutaway.studies.report import standings

    return markdown(standings(shipped(), strangers=False), MADE)


# --- references --------------------------------------------------------------------------------------------------


def _references() -> str:
    text = (DOCS / "references.bib").read_text(encoding="utf-8")
    lines = ["# References", "", MADE, "", "The papers and articles that the code cites, from `references.bib`.", ""]
    for _, key, body in sorted(_ENTRY.findall(text), key=lambda found: found[1]):
        lines += [f"## {key.strip()}", "", _reference(dict(_FIELD.findall(body))), ""]
    return "\n".join(lines)


def _reference(entry: Mapping[str, str]) -> str:
    title = _untex(entry["title"])
    linked = f"[{title}]({entry['url']})" if "url" in entry else title
    where = entry.get("journal") or entry.get("booktitle") or entry.get("publisher") or ""
    note = f" {_untex(entry['note'])}." if "note" in entry else ""
    return f"{_authors(entry['author'])} ({entry['year']}). {linked}.{f' {_untex(where)}.' if where else ''}{note}"


def _authors(text: str) -> str:
    """Family names with initials; of many, the first three."""
    names = [_untex(name) for name in text.split(" and ")]
    written = [_name(name) for name in names[:3]]
    return f"{', '.join(written)} et al." if len(names) > 3 else ", ".join(written)


def _name(name: str) -> str:
    family, comma, given = name.partition(", ")
    return f"{family} {''.join(part[0] + '.' for part in given.split())}" if comma else family


_ACCENTS = {"'": "\u0301", "`": "\u0300", '"': "\u0308", "^": "\u0302", "~": "\u0303", "v": "\u030c", "c": "\u0327"}
_ACCENTED = re.compile(r"\\(['`\"^~]|[vc](?=[ {]))\s*\{?(\w)\}?")


def _untex(text: str) -> str:
    text = _ACCENTED.sub(lambda found: unicodedata.normalize("NFC", found[2] + _ACCENTS[found[1]]), text)
    return text.replace("\\l", "ł").replace("--", "–").replace("{", "").replace("}", "").strip()


def main(words: Sequence[str]) -> int:
    """Write the pages, or with `--check` say which are stale.

    Returns:
        The exit status: 1 when `--check` found a stale page.
    """
    old = stale()
    if "--check" in words:
        for name in old:
            sys.stderr.write(f"docs/{name} is not what the code would write: run make docs\n")
        return int(bool(old))
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    sys.stdout.write("".join(f"wrote docs/{name}\n" for name in old) or "all pages are current\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
