import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutaway.core.claim import Claim, Figure
from cutaway.core.errors import MethodError

NUMBER = st.floats(-1e6, 1e6)


@given(NUMBER, NUMBER, NUMBER)
def test_a_verdict_follows_from_figure_criterion_and_scale(value: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    claim = Claim("size", "It is large.", at_least=low, at_most=high)
    for scale, good in (("small", "same phenomenon at small scale"), ("paper", "reproduced")):
        verdict = claim.measured(Figure(value), scale).verdict  # type: ignore[arg-type]
        assert verdict == (good if low <= value <= high else "not reproduced")
    assert claim.measured(Figure(value), "tiny").verdict == "not tested here"  # random weights test no claim


def test_what_was_not_measured_is_not_tested() -> None:
    claim = Claim("size", "It is large.", at_least=3.0, unit="logits")
    assert (claim.verdict, claim.holds, claim.criterion) == ("not tested here", None, "≥ 3 logits")
    assert Claim("size", "It is small.", at_most=0.5).criterion == "≤ 0.5"
    assert claim.measured(Figure(float("nan")), "paper").verdict == "not reproduced"


def test_a_claim_has_its_criterion_before_its_figure() -> None:
    with pytest.raises(MethodError, match="has no criterion; .* fixed before it is measured"):
        Claim("size", "It is large.")
    with pytest.raises(MethodError, match=r"has the mark 'red'; .*did you mean 'read'\?"):
        Claim("size", "It is large.", at_least=1.0, mark="red")  # type: ignore[arg-type]
    with pytest.raises(MethodError, match=r"interval \[2\.0, 1\.0\]"):
        Figure(1.0, low=2.0, high=1.0)
