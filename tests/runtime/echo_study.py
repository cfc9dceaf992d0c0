"""A study that trains a network, fails where it is told to, and measures something small [@olsson2022]."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import xarray as xr

import cutaway as ca
from cutaway.core.study import Claim, Figure, Findings, StudyRun, study
from cutaway.models.model import Model
from cutaway.studies.opening import opened
from cutaway.testing import tiny

CLAIMS = (
    Claim("lead", "The favourite leads", "1.0", "figure 1", "memory", at_least=-1.0, unit="logits"),
    Claim("never", "What is not measured", at_most=1.0),
)


def small_network(run: StudyRun) -> Model:
    """Not trained at all."""
    _fail("training")
    return tiny("gpt2", seed=run.seed + LATER)


LATER = 1


def _fail(at: str) -> None:
    if os.environ.get("ECHO_FAILS") == at:
        raise RuntimeError(f"failed at {at}")
    if "ECHO_LOG" in os.environ:
        with Path(os.environ["ECHO_LOG"]).open("a") as log:
            log.write(at + "\n")


@study(paper="olsson2022", item="P34", asks="Does it lead?", claims=CLAIMS, seconds={"tiny": 1, "small": 1})
def echo_study(run: StudyRun) -> Findings:
    """Lead of the favourite."""
    model = opened(run, paper="gpt2") if run.model else run.trained("network", small_network)
    lead = run.step("lead", lambda: _lead(model))
    picture = run.step("picture", lambda: _picture(lead))
    _fail("end")
    figures = {"lead": Figure(lead["lead"], low=-1, high=100, n=1, control=0.5, control_is="nothing")}
    return Findings(figures, picture["result"], differs="All of it is another thing than what the paper did.")


def _lead(model: Model) -> dict[str, Any]:
    _fail("lead")
    top = model.run("When Mary and John", logits="last").last_logits[0].topk(2).values
    return {"lead": top[0] - top[1], "both": (float(top[0]), float(top[1]))}


def _picture(lead: dict[str, Any]) -> dict[str, Any]:
    _fail("picture")
    data = xr.Dataset({"logit": ("rank", lead["both"])}, coords={"rank": ["first", "second"]})
    view = ca.views.bars(value="logit", label="rank", title="Two largest logits")
    return {"result": ca.Result(data=data, views=(view,)), "sizes": [1, 2]}
