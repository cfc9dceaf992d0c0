"""What is a study? One paper in one file: it runs methods and returns a figure for each claim that it tests.

`@study` names the paper and its claims with their criteria; the function takes a `StudyRun`, which says at what scale it
runs and keeps what its steps give, and returns `Findings`. A study that was interrupted runs again and finds its
finished steps kept. Who keeps them is not its business: on its own it keeps them in memory.
Limits: steps give Results, Artifacts or JSON values; what a step depends on is its name, the study's file, scale and
seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, get_args

from cutaway.core.claim import Claim, Figure, Scale
from cutaway.core.errors import MethodError, ParameterError, nearest
from cutaway.core.provenance import OpenModel, record_of_model

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from cutaway.core.result import Result

T = TypeVar("T")
M = TypeVar("M", bound=OpenModel)


class Keeper(Protocol):
    """Keeps what the steps of a study gave, and the models that it trained."""

    def step(self, name: str, make: Callable[[], T]) -> T:
        """What was kept under this name, or what `make` gives, which is then kept."""

    def trained(self, name: str, train: Callable[[StudyRun], Any], run: StudyRun) -> Any:
        """The model that was trained under this name, or the one that `train` gives, which is then kept."""

    def scratch(self, name: str) -> Path | None:
        """A folder for what a training under way keeps; None where nothing outlives this process."""

    def seen(self, model: OpenModel) -> None:
        """Something is measured on this model."""


@dataclass
class InMemory:
    """Keeps for as long as this object lives."""

    kept: dict[str, Any] = field(default_factory=dict)
    models: list[dict[str, Any]] = field(default_factory=list)

    def step(self, name: str, make: Callable[[], T]) -> T:
        """See `Keeper`."""
        if name not in self.kept:
            self.kept[name] = keepable(make(), name)
        return self.kept[name]

    def trained(self, name: str, train: Callable[[StudyRun], Any], run: StudyRun) -> Any:
        """See `Keeper`."""
        if (place := f"trained {name}") not in self.kept:
            self.kept[place] = train(run)
        return self.kept[place]

    def scratch(self, name: str) -> Path | None:
        """See `Keeper`."""
        return None

    def seen(self, model: OpenModel) -> None:
        """See `Keeper`."""
        record = record_of_model(model)
        if record not in self.models:
            self.models.append(record)


def keepable(value: Any, step: str) -> Any:
    """What a step gave, as it will be read back: numbers of numpy become Python's, tuples become lists.

    Raises:
        MethodError: it cannot be kept.
    """
    from cutaway.core.artifact import Artifact
    from cutaway.core.result import Result

    match value:
        case None | bool() | int() | float() | str() | Result() | Artifact():
            return value
        case Mapping():
            return {_text_key(key, step): keepable(each, step) for key, each in value.items()}
        case list() | tuple():
            return [keepable(each, step) for each in value]
    if callable(getattr(value, "tolist", None)):  # arrays of numpy and tensors are lists of numbers
        return keepable(value.tolist(), step)
    raise MethodError(
        f"the step {step!r} gave {type(value).__name__};",
        "a step gives a Result, an Artifact, numbers, texts, or lists and mappings of them.",
        "Return what the later steps need of it.",
    )


def _text_key(key: Any, step: str) -> str:
    if not isinstance(key, str):
        raise MethodError(
            f"the step {step!r} gave a mapping with the key {key!r};",
            "keys are text, or they would be read back as other keys.",
            f"Write str(key), such as {str(key)!r}.",
        )
    return key


@dataclass(frozen=True)
class StudyRun:
    """How a study runs this time.

    Attributes:
        scale: `tiny` (seconds), `small` (minutes on two cores) or `paper` (the paper's own model).
        seed: draws everything that is drawn.
        keeper: keeps what the steps give.
        options: what opening a model is given: device, dtype. See `cutaway.studies.opening`.
        model: another one than the scale's own, at the scale `small`; empty: the scale's own.
    """

    scale: Scale = "tiny"
    seed: int = 0
    keeper: Keeper = field(default_factory=InMemory)
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""

    def __post_init__(self) -> None:
        if self.scale not in get_args(Scale):
            raise ParameterError(
                f"there is no scale {self.scale!r};",
                "a study runs at the scale tiny, small or paper.",
                nearest(self.scale, get_args(Scale)),
            )
        if self.model and self.scale != "small":
            raise ParameterError(
                f"the model {self.model!r} was asked for at the scale {self.scale};",
                "tiny measures random weights, and paper the paper's own model.",
                "Leave out the scale: another model is measured at small scale.",
            )

    def step(self, name: str, make: Callable[[], T]) -> T:
        """What a step gives: a Result or JSON values. A step that was finished before is not run again."""
        return self.keeper.step(name, make)

    def trained(self, name: str, train: Callable[[StudyRun], Any]) -> Any:
        """The model that a study trains, an opened `Model`: trained now, or kept from before.

        Args:
            name: of the model, such as `bracket_classifier`.
            train: a function of the study's file; it and what it uses of its file are the recipe.
        """
        return self.keeper.trained(name, train, self)

    def scratch(self, name: str) -> Path | None:
        """A folder for the checkpoints of a training (`keep=` of `models.training.train`), or None."""
        return self.keeper.scratch(name)

    def seen(self, model: M) -> M:
        """The same model, which the record of this run will name."""
        self.keeper.seen(model)
        return model

    def size(self, *, tiny: T, small: T, paper: T) -> T:
        """One of three values, by scale."""
        return {"tiny": tiny, "small": small, "paper": paper}[self.scale]

    def generator(self) -> torch.Generator:
        """A new random generator from the seed."""
        import torch

        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True)
class Findings:
    """What a study found.

    Attributes:
        figures: what was measured, by the key of its claim; a claim without one is not tested here.
        result: the figure that a reader of the paper recognises, with its data.
        differs: what differs from the paper, and why: one paragraph.
    """

    figures: Mapping[str, Figure]
    result: Result
    differs: str


@dataclass(frozen=True)
class Study:
    """A study: call it with a `StudyRun`, or ask it what it claims."""

    function: Callable[[StudyRun], Findings]
    paper: str
    item: str
    asks: str
    claims: tuple[Claim, ...]
    uses: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = [claim.key for claim in self.claims]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice or not keys:
            raise MethodError(
                f"the study {self.name!r} has the claim {twice[0]!r} twice;"
                if twice
                else f"{self.name!r} has no claims;",
                "a study has claims, each with a key of its own.",
            )
        kept = ("__module__", "__name__", "__qualname__", "__doc__")
        vars(self).update({key: getattr(self.function, key) for key in kept} | {"__wrapped__": self.function})

    def __call__(self, run: StudyRun | None = None) -> Findings:
        """Run at a scale.

        Raises:
            MethodError: it returned a figure for a claim that it does not have.
        """
        findings = self.function(run or StudyRun())
        if not isinstance(findings, Findings):
            raise MethodError(
                f"the study {self.name!r} returned {type(findings).__name__};", "a study returns Findings."
            )
        known = [claim.key for claim in self.claims]
        for key in findings.figures:
            if key not in known:
                raise MethodError(
                    f"the study {self.name!r} measured {key!r}, which is no claim of it;",
                    nearest(key, known),
                    "Add the claim, or name the figure after one.",
                )
        return findings

    @property
    def name(self) -> str:
        """The name in the registry: that of the function."""
        return self.function.__name__

    def judged(self, findings: Findings, scale: Scale) -> tuple[Claim, ...]:
        """The claims, each with what was found."""
        return tuple(claim.measured(findings.figures.get(claim.key), scale) for claim in self.claims)

    def __reduce__(self) -> str:
        return self.name


def study(
    *,
    paper: str,
    item: str,
    asks: str,
    claims: Sequence[Claim],
    uses: Sequence[str] = (),
    seconds: Mapping[str, float] | None = None,
) -> Callable[[Callable[[StudyRun], Findings]], Study]:
    """Make a function `(run: StudyRun) -> Findings` a study.

    Args:
        paper: citation key of `docs/references.bib`.
        item: its number in the public list, such as `P34` or `A7`.
        asks: the paper's question, in one line.
        claims: what the paper says, each with its criterion.
        uses: the methods that it runs.
        seconds: about how long each scale takes on two cores.
    """

    def decorate(function: Callable[[StudyRun], Findings]) -> Study:
        return Study(function, paper, item, asks, tuple(claims), tuple(uses), dict(seconds or {}))

    return decorate


__all__ = ["Claim", "Figure", "Findings", "InMemory", "Keeper", "Study", "StudyRun", "study"]
