"""Our integrated gradients equal Captum's, and Inseq's (which calls Captum), for every target to 1e-4."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.peers, pytest.mark.real]

Start = Callable[[str], Any]
STEPS = 8  # the same nodes on both sides: the rule is compared, not how close it comes to the integral


@pytest.fixture(scope="module")
def asked(start: Start, tokenizer: Any, folder: Path) -> dict[str, Any]:
    from bench.gradients import question
    from bench.harness import Bench

    bench = Bench("smollm2", folder, None, threads=1, quick=True, most=None, say=lambda text: None)
    return question(bench, start("plain"))


@pytest.mark.parametrize("target", ["probability", "logit"])
def test_integrated_gradients_equal_captum(start: Start, asked: dict[str, Any], tokenizer: Any, target: str) -> None:
    from bench.gradients import by_hand
    from bench.harness import largest_difference

    ours = start("ours").ask("gradients", **asked, steps=STEPS, target=target, values=True).values
    given = by_hand(asked, tokenizer.unk_token_id)
    theirs = start("inseq").ask("captum", **given, steps=STEPS, target=target, values=True).values

    assert largest_difference(ours["values"], theirs["values"]) < 1e-4 * max(1.0, np.nanmax(np.abs(theirs["values"])))
    np.testing.assert_allclose(ours["gaps"], theirs["gaps"], rtol=1e-3, atol=1e-4)
    assert np.nanmax(np.abs(theirs["values"])) > 0.1


def test_integrated_gradients_equal_inseq(start: Start, asked: dict[str, Any]) -> None:
    from bench.harness import largest_difference

    ours = start("ours").ask("gradients", **asked, steps=STEPS, values=True).values
    theirs = start("inseq").ask("attribute", **asked, steps=STEPS, values=True).values

    assert largest_difference(ours["values"], theirs["values"]) < 1e-4
