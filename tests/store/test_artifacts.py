from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file

from cutaway.core.artifact import Artifact
from cutaway.core.errors import StoreError
from cutaway.store import artifacts


def test_what_is_read_is_what_was_written(tmp_path: Path, kept: ModuleType) -> None:
    artifact = kept.artifact()
    back = Artifact.load(artifact.save(tmp_path / "d.safetensors"))
    assert back == artifact
    assert back.kind == "direction"
    assert back.about == artifact.about
    assert back.provenance == artifact.provenance
    assert back.tensors["direction"].dtype == torch.bfloat16
    assert all(torch.equal(back.tensors[name], tensor) for name, tensor in artifact.tensors.items())
    assert [file.name for file in tmp_path.iterdir()] == ["d.safetensors"]


def test_any_safetensors_reader_gets_the_tensors(tmp_path: Path, kept: ModuleType) -> None:
    path = kept.artifact().save(tmp_path / "d.safetensors")
    assert torch.equal(load_file(path)["direction"], torch.arange(4, dtype=torch.bfloat16))


def test_an_artifact_is_verified_without_torch(tmp_path: Path, kept: ModuleType) -> None:
    names = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool float8_e4m3fn float8_e5m2 complex64"
    tensors = {name: torch.tensor([0, 1, 1]).to(getattr(torch, name)) for name in names.split()}
    tensors |= {"scalar": torch.tensor(1.5), "none": torch.zeros(0, 3)}
    for artifact in (kept.artifact(), Artifact("dictionary", tensors, {"é": [1]}, {"seed": 0})):
        path = artifact.save(tmp_path / "a.safetensors")
        record = artifacts.verified(path)
        assert (record["id"], record["kind"]) == (artifact.id, artifact.kind)
        assert (record["about"], record["provenance"]) == (dict(artifact.about), dict(artifact.provenance))


def test_what_cannot_be_verified_is_refused_in_words(tmp_path: Path, kept: ModuleType) -> None:
    path = tmp_path / "d.safetensors"
    with pytest.raises(StoreError, match="does not exist"):
        artifacts.verified(path)
    whole = kept.artifact().save(path).read_bytes()
    for broken in (b"", b"x", whole[:20], bytes(8) + whole, b"\xff" * 8 + whole):
        path.write_bytes(broken)
        with pytest.raises(StoreError, match="is damaged or no artifact"):
            artifacts.verified(path)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(StoreError, match="its contents and its id differ"):
        artifacts.verified(path)
    path.write_bytes(whole.replace(b'\\"format\\": 1', b'\\"format\\": 2'))
    with pytest.raises(StoreError, match="is written in format 2, newer than 1"):
        artifacts.verified(path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(StoreError, match="is damaged or no artifact"):
        artifacts.verified(path)


def test_tensors_that_share_memory_are_kept(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    artifact = Artifact("weights", {"whole": whole, "row": whole[0], "turned": whole.T})
    back = Artifact.load(artifact.save(tmp_path / "w.safetensors"))
    assert torch.equal(back.tensors["turned"], whole.T)


def test_a_file_of_version_1_still_opens(data: Path, kept: ModuleType) -> None:
    assert Artifact.load(data / "artifact_v1.safetensors") == kept.artifact()


def test_what_is_no_artifact_is_refused_in_words(tmp_path: Path, kept: ModuleType) -> None:
    path = tmp_path / "d.safetensors"
    with pytest.raises(StoreError, match="does not exist"):
        Artifact.load(path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(StoreError, match="holds tensors, but no artifact of cutaway"):
        Artifact.load(path)
    whole = kept.artifact().save(path).read_bytes()
    path.write_bytes(whole[:20])
    with pytest.raises(StoreError, match="is damaged or not a safetensors file"):
        Artifact.load(path)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(StoreError, match="its contents and its id differ"):
        Artifact.load(path)
