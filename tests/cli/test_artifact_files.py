from pathlib import Path

import pytest
import torch
import xarray as xr

from cutaway.cli.artifact_files import asked_for, written
from cutaway.core.artifact import Artifact
from cutaway.core.errors import StoreError
from cutaway.core.result import Result

CIRCUIT = Artifact("circuit", {"edges": torch.tensor([[0, 1]])})
LENS = Artifact("lens", {"weight": torch.eye(2)})


def test_the_only_artifact_needs_no_name(tmp_path: Path) -> None:
    paths = written({"circuit": CIRCUIT}, asked_for([str(tmp_path / "c.safetensors")]), "acdc")
    assert Artifact.load(paths[0]) == CIRCUIT


def test_of_several_each_is_named(tmp_path: Path) -> None:
    both = {"circuit": CIRCUIT, "lens": LENS}
    with pytest.raises(StoreError, match=r"learned 2 things: circuit, lens; .* Write --artifact circuit="):
        written(both, asked_for([str(tmp_path / "c.safetensors")]), "acdc")
    with pytest.raises(StoreError, match=r"nothing called 'lenz'; .*'lens'"):
        written(both, asked_for([f"lenz={tmp_path / 'c.safetensors'}"]), "acdc")
    paths = written(both, asked_for([f"lens={tmp_path / 'l.safetensors'}"]), "acdc")
    assert Artifact.load(paths[0]) == LENS


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"ends in '\.nc'; .* Write --artifact circuit\.safetensors"):
        asked_for([str(tmp_path / "circuit.nc")])
    with pytest.raises(StoreError, match="does not exist"):
        asked_for([str(tmp_path / "no" / "c.safetensors")])
    with pytest.raises(StoreError, match="logit_lens learned nothing"):
        written({}, asked_for([str(tmp_path / "c.safetensors")]), "logit_lens")


def test_a_result_remembers_its_artifacts_by_their_ids(tmp_path: Path) -> None:
    result = Result(xr.Dataset({"size": 1.0}), artifacts={"circuit": CIRCUIT})
    assert result.provenance["artifacts"] == {"circuit": CIRCUIT.id}
    again = Result.load(result.save(tmp_path / "r.nc"))
    assert again.provenance["artifacts"] == {"circuit": CIRCUIT.id}
    assert again.id == result.id
