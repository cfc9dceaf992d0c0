"""The recipe of the tracing study: which facts, which window, and figures that follow from a trace."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from cutaway.core.result import Result
from cutaway.core.study import InMemory, StudyRun
from cutaway.methods.tracing import NO_ATTENTION, NO_MLP, STREAM
from cutaway.studies.meng2022_rome import _severed, _task, _window, meng2022_rome
from cutaway.testing import tiny


def test_facts_have_subjects_answers_and_no_contrasts() -> None:
    task = _task(StudyRun("tiny"))
    assert task.metric == "log_probability" and not task.contrasts and not task.wrong
    assert all(start < end for start, end in task.positions["subject"]) and all(task.answers)


def test_the_window_is_the_papers_share_of_the_depth() -> None:
    assert _window(tiny()) == 1
    wide = type("Wide", (), {"anatomy": type("Anatomy", (), {"n_layers": 48})})
    assert _window(wide()) == 10  # type: ignore[arg-type]


def test_severing_is_compared_in_the_lower_half_of_the_layers() -> None:
    curves = np.array([[0.4, 0.4, 9.0, 9.0], [0.1, 0.1, 0.0, 0.0], [0.3, 0.3, 0.0, 0.0]])
    data = xr.Dataset({"curve": (("series", "layer"), curves)}, coords={"series": [STREAM, NO_MLP, NO_ATTENTION]})
    figure = _severed(Result(data), 7)
    assert figure.value == pytest.approx(0.75 - 0.25) and figure.n == 7


def test_figures_are_read_off_the_trace() -> None:
    keeper = InMemory()
    findings = meng2022_rome(StudyRun("tiny", 2, keeper))
    trace = keeper.kept["trace"]
    assert findings.figures["total_effect"].value == pytest.approx(100 * float(trace.metrics["total_effect"]), abs=1e-9)
    column = trace.data["effect_by_place"].sel(kind="MLP", place="last subject token").values
    assert findings.figures["early_site_depth"].value == pytest.approx(int(column.argmax()) / 3)
    late = trace.data["effect_by_place"].sel(kind="attention", place="last token").values
    expected = (int(late.argmax()) - int(column.argmax())) / 3
    assert findings.figures["late_site"].value == pytest.approx(expected)
    np.testing.assert_array_equal(findings.result.data["effect_mlp"], trace.data["effect_mlp"])
