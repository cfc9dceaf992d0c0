"""What does a paper say, and what did we find? Its sentence and figure, our figure, the scale, the verdict.

A claim carries its criterion from the start: what our figure has to be for the claim to hold. The verdict follows from
figure, criterion and scale, so that nobody words it afterwards.
Limits: one figure a claim; a claim about a curve is a claim about a number read off it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal, get_args

from cutaway.core.errors import MethodError, nearest

Verdict = Literal["reproduced", "same phenomenon at small scale", "not reproduced", "not tested here"]
Scale = Literal["tiny", "small", "paper"]
Mark = Literal["read", "secondary", "memory", "derived", "ours"]
MARKS: dict[str, str] = {
    "read": "read in the paper, its code or its result files",
    "secondary": "read in a secondary source",
    "memory": "from memory: check the paper before quoting",
    "derived": "derived from figures that were read",
    "ours": "no figure of the paper: our own criterion",
}


@dataclass(frozen=True)
class Figure:
    """One number that was measured for a claim.

    Attributes:
        value: the number.
        low: lower end of its interval, where one was measured.
        high: upper end.
        n: of how many prompts, samples or components.
        control: the same number for the control (random parts of the same size, untrained weights, shuffled labels).
        control_is: what the control was.
        note: what a reader must know of it.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    control: float | None = None
    control_is: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", float(self.value))
        for name in ("low", "high", "control"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else float(value))
        if self.low is not None and self.high is not None and self.low > self.high:
            raise MethodError(
                f"a figure has the interval [{self.low}, {self.high}];",
                "its first end is the lower one.",
                f"Write low={self.high}, high={self.low}.",
            )


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper beside what was measured.

    Attributes:
        key: its short name within the study.
        sentence: what the paper says, short.
        theirs: the paper's figure, as printed there.
        where: section, figure or table of the paper.
        mark: how the paper's figure is known: one of `MARKS`.
        at_least: the criterion: our figure is this or more.
        at_most: the criterion: our figure is this or less; with `at_least`, within the two.
        unit: of both figures.
        figure: what was measured; None while it was not.
        scale: `tiny` (seconds), `small` (minutes on two cores) or `paper` (the paper's own model).
    """

    key: str
    sentence: str
    theirs: str = ""
    where: str = ""
    mark: Mark = "read"
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""
    figure: Figure | None = None
    scale: Scale = "tiny"

    def __post_init__(self) -> None:
        for what, value, allowed in (("mark", self.mark, tuple(MARKS)), ("scale", self.scale, get_args(Scale))):
            if value not in allowed:
                raise MethodError(
                    f"the claim {self.key!r} has the {what} {value!r};",
                    f"a {what} is one of: {', '.join(allowed)}.",
                    nearest(value, allowed),
                )
        if self.at_least is None and self.at_most is None:
            raise MethodError(
                f"the claim {self.key!r} has no criterion;",
                "what our figure has to be is fixed before it is measured.",
                "Write at_least=..., at_most=..., or both.",
            )

    @property
    def criterion(self) -> str:
        """What our figure has to be, in words."""
        unit = f" {self.unit}" if self.unit else ""
        match self.at_least, self.at_most:
            case None, most:
                return f"≤ {most:g}{unit}"
            case least, None:
                return f"≥ {least:g}{unit}"
            case least, most:
                return f"{least:g} to {most:g}{unit}"

    @property
    def holds(self) -> bool | None:
        """Whether our figure meets the criterion; None while there is none."""
        if self.figure is None:
            return None
        value = self.figure.value
        if math.isnan(value):
            return False
        above = self.at_least is None or value >= self.at_least
        return above and (self.at_most is None or value <= self.at_most)

    @property
    def verdict(self) -> Verdict:
        """The outcome in words. At the scale `tiny` weights are random: it shows that a study runs, and tests nothing."""
        if self.holds is None or self.scale == "tiny":
            return "not tested here"
        if not self.holds:
            return "not reproduced"
        return "reproduced" if self.scale == "paper" else "same phenomenon at small scale"

    def measured(self, figure: Figure | None, scale: Scale) -> Claim:
        """The claim with what was measured at a scale."""
        return dataclasses.replace(self, figure=figure, scale=scale)
