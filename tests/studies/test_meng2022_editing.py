"""The editing half of the ROME study runs at its smallest, with every figure and the paper's table."""

from __future__ import annotations

import numpy as np

from cutaway.core.study import StudyRun
from cutaway.studies.meng2022_editing import _figures, meng2022_editing


def test_it_measures_every_claim_and_shows_the_table() -> None:
    findings = meng2022_editing(StudyRun("tiny"))
    assert set(findings.figures) == {claim.key for claim in meng2022_editing.claims}
    data = findings.result.data
    assert data["editor"].values.tolist() == ["unedited", "ROME", "FT", "FT+L"]
    assert np.isfinite(data["success"].values).all()
    assert data["edited_layer"].values.tolist()[0] == "traced"
    assert findings.result.checks
    assert findings.figures["rome_score"].control is not None


def test_figures_follow_from_the_tables() -> None:
    import xarray as xr

    from cutaway.core.result import Result

    def table(values: list[list[float]]) -> Result:
        coords = {
            "part": ["efficacy", "paraphrase", "neighbourhood", "score S"],
            "state": ["before", "after", "random change"],
        }
        return Result(xr.Dataset({"success": (("part", "state"), values)}, coords=coords))

    rome = table([[0.1, 1.0, 0.2], [0.1, 0.9, 0.2], [0.8, 0.7, 0.75], [0.2, 0.85, 0.3]])
    free = table([[0.1, 1.0, 0.2], [0.1, 0.9, 0.2], [0.8, 0.4, 0.75], [0.2, 0.65, 0.3]])
    bound = table([[0.1, 0.9, 0.2], [0.1, 0.5, 0.2], [0.8, 0.7, 0.75], [0.2, 0.60, 0.3]])
    results = {"rome": rome, "finetuning": free, "constrained_finetuning": bound}
    found = _figures(results, {"traced": 0.9, "3": 0.8, "5": 0.95}, 4)
    values = {key: round(figure.value, 6) for key, figure in found.items()}
    assert values == {
        "rome_score": 0.85,
        "rome_leads": 0.2,
        "rome_paraphrase": 0.9,
        "rome_neighbours": 0.1,
        "finetuning_spills": 0.4,
        "bounded_finetuning_misses": 0.4,
        "layer_matters": 0.5,
    }
