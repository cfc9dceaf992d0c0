"""Which picture shows these numbers? A View names arrays of a Result and says what each is in the picture.

The set of kinds is small and closed, so that terminal, web, notebook and paper can each draw all of them,
and a method never draws. A view holds names, not numbers: `roles.resolve` finds the arrays, and refuses a
view whose names or dimensions do not fit before anything is drawn.
Limits: a picture shows one or two dimensions; `at` says where the others stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, get_args

from cutaway.core.errors import ParameterError, nearest
from cutaway.core.roles import ROLES, name_of

Kind = Literal["tokens", "heatmap", "attention", "curves", "bars", "scatter", "histogram", "graph", "table", "text"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Place = int | float | str
ScaleKind = Literal["auto", "diverging", "sequential"]


@dataclass(frozen=True)
class View:
    """A picture named by data.

    Attributes:
        kind: one of `KINDS`.
        title: what the picture shows, in a few words.
        roles: part in the picture -> name of a variable, coordinate or dimension of the Result.
        at: dimension -> where the picture stands in it. Text is a label. A number is a value of the
            dimension's own numeric coordinate where it has one, and an index otherwise; a negative one
            that is no such value counts from the end.
        note: one sentence under the picture, such as how to read it.
        options: how it is drawn: `scale`, `bins`.
    """

    kind: Kind
    title: str
    roles: Mapping[str, str]
    at: Mapping[str, Place] = field(default_factory=dict)
    note: str = ""
    options: Mapping[str, Place] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ParameterError(
                f"there is no view of kind {self.kind!r};",
                f"the kinds are {', '.join(KINDS)}.",
                nearest(self.kind, KINDS),
            )
        for name in ("roles", "at", "options"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        _refuse_roles(self)

    def __hash__(self) -> int:
        return hash((self.kind, self.title, *sorted(self.roles.items())))

    def __reduce__(self) -> tuple[Any, ...]:
        return view_from_record, (view_record(self),)


def tokens(
    *,
    value: str,
    token: str = "token",
    at: Mapping[str, Place] | None = None,
    title: str = "",
    note: str = "",
    scale: ScaleKind = "auto",
) -> View:
    """A sentence, each token coloured by its value. `token` names the words along the same dimension."""
    return _view("tokens", {"value": value, "token": token}, at, title, note, scale=scale)


def heatmap(
    *,
    value: str,
    x: str,
    y: str,
    text: str | None = None,
    at: Mapping[str, Place] | None = None,
    title: str = "",
    note: str = "",
    scale: ScaleKind = "auto",
) -> View:
    """A grid of colours. `x` and `y` name a dimension, or labels along one; `text` words for the cells."""
    return _view("heatmap", {"value": value, "x": x, "y": y, "text": text}, at, title, note, scale=scale)


def attention(
    *,
    value: str,
    query: str = "query",
    key: str = "key",
    token: str | None = None,
    key_token: str | None = None,
    at: Mapping[str, Place] | None = None,
    title: str = "",
    note: str = "",
    scale: ScaleKind = "auto",
) -> View:
    """Which position (row, the query) attends to which (column, the key).

    `token` names the words of both sides; `key_token` those of the keys where they differ (cross-attention).
    """
    roles = {"value": value, "query": query, "key": key, "token": token, "key_token": key_token}
    return _view("attention", roles, at, title, note, scale=scale)


def curves(
    *,
    value: str,
    x: str,
    series: str | None = None,
    low: str | None = None,
    high: str | None = None,
    at: Mapping[str, Place] | None = None,
    title: str = "",
    note: str = "",
) -> View:
    """A line for each member of `series` (a second dimension of `value`), and a band from `low` to `high`."""
    roles = {"value": value, "x": x, "series": series, "low": low, "high": high}
    return _view("curves", roles, at, title, note)


def bars(
    *,
    value: str,
    label: str,
    low: str | None = None,
    high: str | None = None,
    group: str | None = None,
    at: Mapping[str, Place] | None = None,
    title: str = "",
    note: str = "",
) -> View:
    """A bar for each `label`, with an interval from `low` to `high`.

    `group` names a second dimension of `value` (bars side by side) or a class along the same one (colours).
    """
    roles = {"value": value, "label": label, "low": low, "high": high, "group": group}
    return _view("bars", roles, at, title, note)


def scatter(
    *,
    x: str,
    y: str,
    label: str | None = None,
    value: str | None = None,
    at: Mapping[str, Place] | None = None,
    title: str = "",
    note: str = "",
    scale: ScaleKind = "auto",
) -> View:
    """A point for each element of `x` and `y`; `label` names the points, `value` colours them."""
    return _view("scatter", {"x": x, "y": y, "label": label, "value": value}, at, title, note, scale=scale)


def histogram(
    *,
    value: str,
    group: str | None = None,
    bins: int = 30,
    at: Mapping[str, Place] | None = None,
    title: str = "",
    note: str = "",
) -> View:
    """How often each value occurs; `group` names classes along one or more dimensions of `value`."""
    return _view("histogram", {"value": value, "group": group}, at, title, note, bins=bins)


def graph(
    *,
    source: str,
    target: str,
    weight: str | None = None,
    node: str | None = None,
    position: str | None = None,
    heading: str | None = None,
    at: Mapping[str, Place] | None = None,
    title: str = "",
    note: str = "",
) -> View:
    """Arrows from `source` to `target`: names of nodes, or indices into `node`, one element an arrow.

    Where all nodes are sites at positions (`z[3].head[2]@end`), rows are layers and columns positions: `position` names them
    in their order, `heading` says what stands above each.
    """
    roles = {"source": source, "target": target, "weight": weight, "node": node}
    roles |= {"position": position, "heading": heading}
    return _view("graph", roles, at, title, note)


def table(*, columns: Sequence[str], at: Mapping[str, Place] | None = None, title: str = "", note: str = "") -> View:
    """Columns of numbers and words along one dimension."""
    return _view("table", {f"column {i}": name for i, name in enumerate(columns, 1)}, at, title, note)


def text(*, value: str, at: Mapping[str, Place] | None = None, title: str = "", note: str = "") -> View:
    """Words as they are: one text, or several along one dimension."""
    return _view("text", {"value": value}, at, title, note)


def view_record(view: View) -> dict[str, Any]:
    """The view as plain JSON values."""
    return {
        "kind": view.kind,
        "title": view.title,
        "roles": dict(view.roles),
        "at": dict(view.at),
        "note": view.note,
        "options": dict(view.options),
    }


def view_from_record(record: Mapping[str, Any]) -> View:
    """The view that `view_record` wrote down."""
    return View(**record)


def _view(
    kind: Kind,
    roles: Mapping[str, str | None],
    at: Mapping[str, Place] | None,
    title: str,
    note: str,
    **options: Place,
) -> View:
    named = {role: name for role, name in roles.items() if name is not None}
    kept = {name: value for name, value in options.items() if value != "auto"}
    return View(kind, title or _default_title(named), named, at or {}, note, kept)


def _default_title(roles: Mapping[str, str]) -> str:
    main = roles.get("value") or roles.get("weight") or ", ".join(roles.values())
    return main.replace("_", " ")


def _refuse_roles(view: View) -> None:
    if view.kind == "table":
        if not view.roles:
            raise ParameterError("a table has no columns;", "it needs one at least.", 'Write columns=["name"].')
        return
    known = ROLES[view.kind]
    for role in view.roles:
        if role not in known:
            expected = f"its parts are {', '.join(known)}."
            raise ParameterError(f"{name_of(view)}has no part {role!r};", expected, nearest(role, known))
    missing = [role for role, what in known.items() if what.required and role not in view.roles]
    if missing:
        needed = ", ".join(role for role, what in known.items() if what.required)
        raise ParameterError(
            f"{name_of(view)}does not say what its {' and '.join(missing)} is;",
            f"a picture of kind {view.kind} needs {needed}.",
            f'Write {missing[0]}="name of a variable".',
        )
