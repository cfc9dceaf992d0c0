"""Trials that resume against whole passes: values, gradients, and networks that cannot resume."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cutaway.core.site import Site
from cutaway.models import resumed_trial
from cutaway.models.resumed_trial import Trial, trial
from cutaway.models.trial import logits_at, vector_added
from cutaway.testing import tiny
from cutaway.testing.traces import differences, trace

ROWS = ((5, 9, 12, 7, 30, 11), (8, 9, 40), (3, 4, 5, 6, 7))
PLACES = (3, 0, 4)
AT = [[3, 5], [1, 2], [4]]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("site", [Site("mlp_out", 0), Site("mlp_out", 2), Site("resid_post", 1), Site("attn_out", 1)])
def test_a_resumed_trial_is_a_whole_pass(family: Any, site: Site) -> None:
    model = tiny(family)
    model.hf.double()
    before = trace(model)
    tried = trial(model, site, ROWS, PLACES)
    assert tried.kept is not None
    vector = torch.randn(32, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    fast = tried.logits(vector, AT)
    slow = logits_at(model, ROWS, AT, vector_added(model, site, PLACES, vector))
    for left, right in zip(fast, slow):
        torch.testing.assert_close(left, right)
    target = [sum((values.log_softmax(-1)[:, 7]).sum() for values in each) for each in (fast, slow)]
    slopes = [torch.autograd.grad(each, vector)[0] for each in target]
    torch.testing.assert_close(slopes[0], slopes[1])
    again = tried.logits(vector.detach(), AT)
    torch.testing.assert_close(again[0], slow[0].detach())
    assert not list(differences(before, trace(model)))


def test_a_network_that_does_not_give_the_same_runs_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    real = resumed_trial._aligned
    monkeypatch.setattr(resumed_trial, "_aligned", lambda *args: real(*args) + 1)
    tried = trial(model, Site("mlp_out", 1), ROWS, PLACES)
    assert tried.kept is None
    vector = torch.ones(32)
    plain = logits_at(model, ROWS, AT, vector_added(model, Site("mlp_out", 1), PLACES, vector))
    torch.testing.assert_close(tried.logits(vector, AT)[0], plain[0])


def test_a_network_without_such_arguments_runs_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumed_trial.forward, "accepts", lambda hf, name: name != "position_ids")
    tried = trial(tiny("gpt2"), Site("mlp_out", 1), ROWS, PLACES)
    assert isinstance(tried, Trial)
    assert tried.kept is None
