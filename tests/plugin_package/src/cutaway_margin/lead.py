"""Does a trained model lead more clearly than an untrained one? A study from somebody else's package [@olsson2022].

Limits: an example of how a study comes with a package; no paper makes this claim.
"""

from __future__ import annotations

import cutaway as ca
from cutaway.core.study import Claim, Figure, Findings, StudyRun, study
from cutaway.studies.opening import opened, untrained
from cutaway_margin.margin import margin

PROMPT = "The cat sat on the mat and the cat sat on the"


@study(
    paper="olsson2022",
    item="",
    asks="Does a trained model lead more clearly than an untrained one?",
    claims=(Claim("lead", "The favourite leads by a logit", mark="ours", at_least=1.0, unit="logits"),),
    seconds={"tiny": 1, "small": 10},
)
def lead(run: StudyRun) -> Findings:
    """Lead of the favourite, against the same network without training."""
    model = opened(run, paper="gpt2")
    result = run.step("trained", lambda: margin(model, PROMPT))
    bare = run.step("untrained", lambda: margin(untrained(model, run.seed), PROMPT).metrics["mean_margin"])
    figure = Figure(_lead(result), n=1, control=float(bare), control_is="random weights")
    return Findings({"lead": figure}, result, differs="There is no paper that this could differ from.")


def _lead(result: ca.Result) -> float:
    return float(result.metrics["mean_margin"])
