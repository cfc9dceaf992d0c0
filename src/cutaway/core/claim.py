"""What does a paper say, and what did we find? Its sentence and figure, our figure, the scale, the verdict.

Limits: one figure a claim; a claim about a curve is a claim about a number read off it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from cutaway.core.errors import MethodError, nearest

Verdict = Literal["reproduced", "same phenomenon at small scale", "not reproduced", "not tested here"]
Scale = Literal["tiny", "small", "paper"]


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper beside what was measured.

    Attributes:
        sentence: what the paper says, short.
        where: page, figure or table of the paper.
        theirs: the paper's figure, as printed there.
        ours: our figure; None while it was not measured.
        scale: `tiny` (seconds), `small` (minutes on two cores) or `paper` (the paper's own model).
        verdict: the outcome in words.
        unit: of both figures.
    """

    sentence: str
    where: str = ""
    theirs: str = ""
    ours: float | None = None
    scale: Scale = "tiny"
    verdict: Verdict = "not tested here"
    unit: str = ""

    def __post_init__(self) -> None:
        for what, value, allowed in (
            ("verdict", self.verdict, get_args(Verdict)),
            ("scale", self.scale, get_args(Scale)),
        ):
            if value not in allowed:
                raise MethodError(
                    f"the claim {self.sentence!r} has the {what} {value!r};",
                    f"a {what} is one of: {', '.join(allowed)}.",
                    nearest(value, allowed),
                )
        if self.ours is None and self.verdict != "not tested here":
            raise MethodError(
                f"the claim {self.sentence!r} is called {self.verdict!r} without a figure of ours;",
                "a verdict other than 'not tested here' needs what was measured.",
                "Write ours=...",
            )
