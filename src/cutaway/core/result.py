"""What does a method return? Labelled arrays, their figures, and the checks of what it claims.

A Result is the one object at which methods, stores and pictures meet. It is frozen, its views are checked
against its data when it is made, and its id is a hash of what it says, so equal results have equal ids on
every machine. Pictures and files are reached through the registry: a Result knows no renderer and no
format.
Limits: arrays hold real numbers, truth values or text; half precision is widened to 32 bits, text is held
as Python strings. The id leaves out provenance: the same numbers got on another day are the same result.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from cutaway.core import registry
from cutaway.core.content import digest, frozen_dataset
from cutaway.core.errors import MethodError, ParameterError, StoreError
from cutaway.core.roles import resolve
from cutaway.core.view import View, view_from_record, view_record

if TYPE_CHECKING:
    from cutaway.core.artifact import Artifact

Metric = float | int | str


@dataclass(frozen=True)
class Check:
    """The intervention that tests a claim, with its control.

    Attributes:
        claim: what is said, in a sentence.
        how: the intervention that tests it, and its control.
        measured: what the intervention gave.
        control: what the control gave, in the middle (mean or median).
        interval: where the control lies, such as 95 % of the random sets.
        n: how many controls there were.
        passed: whether the claim holds.
        unit: of measured, control and interval.
    """

    claim: str
    how: str
    measured: float
    control: float
    interval: tuple[float, float]
    n: int
    passed: bool
    unit: str = ""

    def __post_init__(self) -> None:
        low, high = (float(end) for end in self.interval)
        if low > high:
            raise MethodError(
                f"the control of {self.claim!r} has the interval [{low}, {high}];",
                "its first end is the lower one.",
                f"Write interval=({high}, {low}).",
            )
        object.__setattr__(self, "interval", (low, high))
        for name, kind in (("measured", float), ("control", float), ("n", int), ("passed", bool)):
            object.__setattr__(self, name, kind(getattr(self, name)))

    @property
    def verdict(self) -> str:
        """The outcome in words."""
        return "holds" if self.passed else "does not hold"

    @property
    def place(self) -> str:
        """Where the measured value lies: `above`, `inside` or `below` the interval of the control."""
        low, high = self.interval
        if self.measured > high:
            return "above"
        return "below" if self.measured < low else "inside"


@dataclass(frozen=True)
class Format:
    """A way to keep something in a file.

    Attributes:
        save: writes it to a path, whole or not at all.
        load: reads it back; None where the format only shows.
    """

    save: Callable[[Any, Path], None]
    load: Callable[[Path], Any] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What a method returns.

    Attributes:
        data: labelled arrays.
        metrics: single figures, by name.
        views: the pictures that show the data.
        checks: what tests the claims.
        notes: sentences that a reader must know, such as what was left out.
        provenance: where it comes from; JSON values. The `@method` wrapper writes it.
        artifacts: what was learned, by name: a circuit, a direction, edited weights. They are kept in files of their own;
            a saved result knows them by their ids (`provenance["artifacts"]`).

    Raises:
        ParameterError: a view that names what the data do not have.
        MethodError: data, metrics or provenance that cannot be kept.
    """

    data: xr.Dataset
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    views: tuple[View, ...] = ()
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.artifacts:
            ids = {name: artifact.id for name, artifact in self.artifacts.items()}
            object.__setattr__(self, "provenance", {**self.provenance, "artifacts": ids})
        object.__setattr__(self, "artifacts", MappingProxyType(dict(self.artifacts)))
        checked = {
            "data": frozen_dataset(self.data),
            "metrics": MappingProxyType({name: _metric(name, value) for name, value in self.metrics.items()}),
            "provenance": MappingProxyType(_json_values(self.provenance)),
            **{name: tuple(getattr(self, name)) for name in ("views", "checks", "notes")},
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        for view in self.views:
            resolve(view, self.data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Result) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        origin = self.provenance.get("method", "")
        arrays = ", ".join(
            f"{name} ({', '.join(f'{dim} {size}' for dim, size in array.sizes.items())})"
            for name, array in self.data.data_vars.items()
        )
        held = sum(check.passed for check in self.checks)
        return (
            f"<Result {self.id[:8]} {f'{origin}: ' if origin else ''}{arrays or 'no arrays'}; "
            f"{len(self.views)} views, {held} of {len(self.checks)} checks hold>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.data, dict(self.metrics), self.views, self.checks, self.notes, dict(self.provenance))
        return Result, (*parts, dict(self.artifacts))

    @cached_property
    def id(self) -> str:
        """Hash of data, metrics, views, checks and notes; the same in every process and on every machine."""
        return digest(self.data, said_in(self))

    def show(self, kind: str | None = None, view: int | None = None, **options: Any) -> Any:
        """Draw with the renderer `kind`: where you are (notebook or terminal) unless named.

        Args:
            kind: `terminal`, `notebook`, or another renderer, whose drawing is returned.
            view: index of the one view to draw; all of them when None.
            options: options of that renderer.

        Raises:
            CutawayError: there is no such renderer or view.
        """
        if kind is None and "ipykernel" in sys.modules:
            return importlib.import_module("IPython.display").display(self)
        return registry.get("renderer", kind or "terminal")(self, view, **options)

    def save(self, path: str | Path) -> Path:
        """Write to a file. Its suffix says how: `.nc` keeps everything; the others show or export.

        Returns:
            The path written.

        Raises:
            StoreError: the suffix is unknown, or the file cannot be written.
        """
        target = Path(path)
        _format_of(target).save(self, target)
        return target

    @classmethod
    def load(cls, path: str | Path) -> Result:
        """Read what `save` wrote as `.nc` or `.json`.

        Raises:
            StoreError: the file is absent, damaged, or of a format that is only written.
        """
        source = Path(path)
        load = _format_of(source).load
        if load is None:
            raise StoreError(
                f"{source.name} is a picture or an export of a result;",
                "a result is read from .nc or .json.",
                'Keep results with result.save("result.nc").',
            )
        result: Result = load(source)
        return result

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = registry.get("renderer", "notebook")(self)
        return bundle

    def _display_(self) -> Any:
        """What marimo shows at the end of a cell."""
        return registry.get("renderer", "marimo")(self)


def said_in(result: Result) -> dict[str, Any]:
    """What a result says beside its arrays, as plain JSON values."""
    return {
        "metrics": dict(result.metrics),
        "views": [view_record(view) for view in result.views],
        "checks": [{**vars(check), "interval": list(check.interval)} for check in result.checks],
        "notes": list(result.notes),
    }


def result_from(data: xr.Dataset, said: Mapping[str, Any], provenance: Mapping[str, Any]) -> Result:
    """The result with these arrays, from what `said_in` wrote down."""
    return Result(
        data=data,
        metrics=said["metrics"],
        views=tuple(view_from_record(record) for record in said["views"]),
        checks=tuple(Check(**record) for record in said["checks"]),
        notes=tuple(said["notes"]),
        provenance=provenance,
    )


def view_at(result: Result, view: int) -> View:
    """The view with this index; a negative one counts from the end.

    Raises:
        ParameterError: there is none.
    """
    if not -len(result.views) <= view < len(result.views):
        listed = "; ".join(f"{i}: {v.title} ({v.kind})" for i, v in enumerate(result.views))
        raise ParameterError(f"there is no view {view};", f"the result has {listed or 'no views'}.")
    return result.views[view]


def _format_of(path: Path) -> Format:
    suffix = path.suffix.lower()
    known = {end: e for e in reversed(registry.entries("format")) for end in e.facts.get("suffixes") or ()}
    if suffix not in known:
        raise StoreError(
            f"{path.name!r} ends in {suffix!r}, which is no format that cutaway writes;",
            f"the suffixes are {', '.join(sorted(known))}.",
            f'Write "{path.stem or "result"}.nc" to keep everything.',
        )
    made: Format = registry.get("format", known[suffix].name)()
    return made


def _metric(name: str, value: Any) -> Metric:
    plain = value.item() if isinstance(value, np.generic | np.ndarray) and value.size == 1 else value
    if not isinstance(plain, float | int | str):
        raise MethodError(
            f"the metric {name!r} is {plain!r} ({type(plain).__name__});",
            "a metric is one number or one text.",
            "Write float(...), or put arrays into data.",
        )
    return plain


def _json_values(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as it will be read back: tuples become lists."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(record)))
    except (TypeError, ValueError) as error:
        raise MethodError(
            f"the provenance cannot be written as JSON ({error});",
            "it holds text, numbers, lists and mappings.",
        ) from error
    return plain
