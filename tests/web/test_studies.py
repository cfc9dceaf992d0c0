"""Studies on a real server: all papers, one study with its record, and its picture part by part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cutaway.core import registry
from cutaway.core.result import Result
from cutaway.web.study_records import StudyEntry, StudyPicture, StudyRecord

Server = Any  # see conftest
ECHO = Path(__file__).parents[1] / "runtime" / "echo_study.py"
NAME = "echo_study--echo_study"  # the slash of a plug-in's name


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, start: Callable[..., Server]) -> Server:
    """A server with the study of a plug-in, whose record is that of a real run."""
    from cutaway.runtime.studies import run

    folder = tmp_path_factory.mktemp("studied")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUTAWAY_STUDIES", str(folder / "studies"))
        patch.setenv("CUTAWAY_RECORDS", str(folder / "records"))
        patch.setattr(registry, "_files", {})
        registry.load_file(ECHO)
        run("echo_study", scale="small")
    server = start(folder / "store", plugins=(str(ECHO),), CUTAWAY_RECORDS=str(folder / "records"))
    server.records = folder / "records"
    return server


def test_every_paper_is_listed(served: Server) -> None:
    listed = [StudyEntry.model_validate(each, extra="forbid") for each in served.get("/api/studies").json]
    assert len({each.item for each in listed if each.item[0] in "PA"}) == 53
    (echo,) = [each for each in listed if each.study == "echo_study/echo_study"]
    assert echo.status == "recorded"
    assert [claim.verdict for claim in echo.claims] == ["same phenomenon at small scale", "not tested here"]


def test_a_study_has_its_record(served: Server) -> None:
    record = served.get(f"/api/studies/{NAME}").json
    StudyRecord.model_validate(record, extra="forbid")
    assert record["differs"] == "All of it is another thing than what the paper did."
    assert record["record"]["seed"] == 0
    assert record["command"] == "cutaway study run echo_study/echo_study --scale small"
    assert record["claims"][0]["theirs"] == "1.0 (from memory)"
    assert record["picture"] is True


def test_its_picture_is_read_part_by_part(served: Server) -> None:
    picture = served.get(f"/api/studies/{NAME}/picture").json
    StudyPicture.model_validate(picture, extra="forbid")
    result = Result.load(served.records / f"{NAME}.small.nc")
    assert picture["id"] == result.id
    assert picture["views"][0]["title"] == "Two largest logits"
    sent = served.get(f"/api/studies/{NAME}/array/logit", rank="0:1")
    assert sent.headers["x-shape"] == "1"
    numbers = np.frombuffer(sent.body, dtype=sent.headers["x-dtype"])
    assert numbers[0] == result.data["logit"].values[0]


def test_a_paper_without_a_study_is_found_by_its_number(served: Server) -> None:
    record = served.get("/api/studies/P1").json
    assert record["status"] == "to come"
    assert record["record"] is None
    assert record["picture"] is False


@pytest.mark.parametrize("path", ["nothing", "nothing/picture", "P1/picture", f"{NAME}/array/nothing"])
def test_what_is_not_there_is_a_sentence(served: Server, path: str) -> None:
    answer = served.get(f"/api/studies/{path}")
    assert answer.status == 404
    assert answer.error["what"]


def test_names_are_names(served: Server) -> None:
    assert served.get("/api/studies/..%2F..%2Fetc").status in (404, 422)
    assert served.get("/api/studies/a$b").status == 422
