"""Edits as data: what is made, and what is refused before any network runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from cutaway.core import edit
from cutaway.core.edit import Edit, edits_of
from cutaway.core.errors import PlanError, SiteError
from cutaway.core.run import Run
from cutaway.core.site import Site

VECTOR = torch.ones(4)


def test_each_operation_becomes_data() -> None:
    assert edit.ablate("z[9].head[6]").operation == "zero"
    assert edit.ablate("z[9]", "mean").operation == "mean"
    drawn = edit.ablate("z[9]", "resample", seed=3)
    assert (drawn.operation, drawn.seed) == ("resample", 3)
    steer = edit.add("resid_post[12]@-1", VECTOR, scale=[-4, 0, 4])
    assert (steer.site, steer.scales) == (Site("resid_post", 12, position=-1), (-4.0, 0.0, 4.0))
    assert steer.value is VECTOR
    assert edit.scale("mlp_out[3]", 0.5).scales == (0.5,)
    assert edit.scale("mlp_out[3]", range(3)).scales == (0.0, 1.0, 2.0)
    assert edit.replace("attn_out[2]", VECTOR).operation == "replace"
    assert edit.project_out("resid_mid[*]", VECTOR).value is VECTOR
    assert edit.apply("mlp_act[4]", torch.relu).function is torch.relu


def test_patch_takes_a_run_or_values() -> None:
    run = Run({Site("resid_pre", 7): torch.zeros(1, 3, 4)}, ids=((1, 2, 3),))
    from_run = edit.patch("resid_pre[7]@1", run)
    assert from_run.source is run
    assert from_run.value is None
    assert from_run.source_site is None
    elsewhere = edit.patch("resid_pre[7]@1", run, at="resid_pre[2]@0")
    assert elsewhere.source_site == Site("resid_pre", 2, position=0)
    assert edit.patch("resid_pre[7]", VECTOR).value is VECTOR


def test_an_edit_prints_what_it_does() -> None:
    assert str(edit.ablate("z[9].head[6]")) == "zero z[9].head[6]"
    assert str(edit.add("resid_post[1]", VECTOR, scale=[-4, 0.5])) == "add resid_post[1] × -4, 0.5"


def test_an_edit_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        edit.ablate("z[9]").seed = 1  # type: ignore[misc]


def test_one_edit_or_many_or_none() -> None:
    one = edit.ablate("z[0]")
    assert edits_of(None) == ()
    assert edits_of(one) == (one,)
    assert edits_of([one, one]) == (one, one)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: edit.ablate("z[1]", "mena"), "ablate does not know 'mena': did you mean 'mean'?"),
        (lambda: edit.add("z[1]", [1.0, 2.0]), "add got list. It takes a torch tensor, as in torch.tensor([...])."),
        (lambda: edit.replace("z[1]", 3.0), "replace got float. It takes a torch tensor"),
        (lambda: edit.patch("z[1]", None), "replace got NoneType. It takes a torch tensor"),
        (lambda: edit.add("z[1]", VECTOR, scale=[]), "An empty list of scales. Give at least one number, as in scale="),
        (
            lambda: edit.apply("z[1]", 3),
            "apply got int. It takes a function of a tensor, as in apply(site, torch.relu).",
        ),
        (
            lambda: edits_of(["z[1]"]),
            "'z[1]' is not an edit. Edits are made by patch, ablate, add, scale, replace, project_out and apply,",
        ),
    ],
)
def test_what_is_wrong_is_said(make: Any, says: str) -> None:
    with pytest.raises(PlanError) as caught:
        make()
    assert str(caught.value).startswith(says)


def test_a_wrong_site_is_refused_at_once() -> None:
    with pytest.raises(SiteError, match="did you mean 'resid_post'"):
        edit.ablate("resid_pst[1]")
    with pytest.raises(SiteError, match="did you mean 'resid_pre'"):
        edit.patch("resid_post[1]", Run({}, ids=()), at="resid_pr[1]")


def test_edits_are_told_apart() -> None:
    assert edit.ablate("z[1]") == Edit(Site("z", 1), "zero")
    assert edit.ablate("z[1]") != edit.ablate("z[2]")
