"""The written interface: it is what the server says, what it says is true, and nothing in it breaks the server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cutaway.web import records
from cutaway.web.openapi import PLACE, document

Server = Any  # see conftest


def test_the_written_interface_is_the_one_that_is_served(server: Server) -> None:
    assert PLACE.read_text(encoding="utf-8") == document(), "write it anew: python -m cutaway.web.openapi"
    assert server.get("/openapi.json").json == json.loads(document())


def test_every_endpoint_says_what_it_answers_and_how_it_fails() -> None:
    for path, operations in json.loads(document())["paths"].items():
        assert path.startswith("/api/")
        for method, operation in operations.items():
            assert operation["description"], f"{method} {path}"
            assert "4XX" in operation["responses"]
            assert "422" not in operation["responses"], "failures have one shape"


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/api/health", records.Health),
        ("/api/methods", records.MethodEntry),
        ("/api/tasks", records.TaskEntry),
        ("/api/views", records.ViewKind),
        ("/api/models", records.ModelEntry),
        ("/api/jobs", records.JobRecord),
        ("/api/results", records.ResultPage),
        ("/api/results/{id}", records.ResultRecord),
        ("/api/jobs/{job}", records.JobRecord),
        ("/api/results/{id}/python", records.PythonLines),
    ],
)
def test_answers_have_the_shape_that_is_written(server: Server, kept: dict[str, Any], path: str, shape: Any) -> None:
    """No key more, none less: the types of the front end are made of these shapes."""
    answer = server.get(path.format(id=kept["results"][0], job=kept["id"])).json
    found = answer if isinstance(answer, list) else [answer]
    assert found
    for each in found:
        made = shape.model_validate(each, extra="forbid", by_alias=True)
        assert set(made.model_dump(by_alias=True)) == set(each)


@pytest.mark.parametrize(
    ("path", "body", "shape"),
    [
        ("/api/tokenize", {"text": "a b"}, records.Tokenized),
        ("/api/next", {"text": "a b"}, records.Next),
        ("/api/generate", {"text": "a b"}, records.Generated),
        ("/api/ablate", {"text": "a b", "sites": ["z[1].head[2]"], "do": "mean"}, records.Ablation),
        ("/api/edge", {"text": "a b", "contrast": "a b", "edge": "embed -> logits"}, records.EdgeTested),
        ("/api/models/open", {}, records.Opened),
    ],
)
def test_quick_answers_have_the_shape_that_is_written(server: Server, path: str, body: Any, shape: Any) -> None:
    shape.model_validate(server.post(path, {"model": server.model, **body}).json, extra="forbid")


@pytest.fixture(scope="module")
def target(start: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Iterator[Server]:
    """A server of its own: what is drawn deletes results too."""
    server = start(tmp_path_factory.mktemp("drawn") / "store", "--model", str(model_folder))
    server.model = str(model_folder)
    yield server
    server.stop()


@pytest.fixture
def thing(target: Server) -> dict[str, Any]:
    """A finished job with a result."""
    job: dict[str, Any] = target.run(
        kind="method", method="logit_lens", prompts={"prompts": ["The capital of France is"]}, parameters={"top": 3}
    )
    return job


def test_scores_of_heads_have_the_shape_that_is_written(server: Server) -> None:
    found = server.get("/api/attention", model=server.model, text="a b", text_b="c").json
    records.AttentionScores.model_validate(found, extra="forbid")


def pinned(server: Server, kept: dict[str, Any]) -> dict[str, Any]:
    """The interface with names that are there, so that what is drawn gets past the door."""
    text = server.get("/openapi.json").body.decode()
    interface: dict[str, Any] = json.loads(text)
    shapes = interface["components"]["schemas"]
    for shape in shapes.values():
        for name, values in (("model", [server.model]), ("method", ["logit_lens", "attention"]), ("task", ["ioi"])):
            if name in shape.get("properties", {}) and shape.get("additionalProperties") is False:
                shape["properties"][name] = {"type": "string", "enum": values}
    shapes["AblateAsked"]["properties"]["sites"]["items"] = {"enum": ["z[1].head[2]", "mlp_out[0]", "resid_post[9]"]}
    shapes["Edit"]["properties"]["site"] = {"enum": ["z[1].head[2]", "mlp_out[0]@-1", "nowhere"]}
    shapes["Edit"]["properties"]["do"] = {"enum": ["zero", "mean", "scale", "add_random"]}
    for operations in interface["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                schema = parameter["schema"]
                if parameter["name"] == "model" and parameter["in"] == "query" and parameter.get("required"):
                    parameter["schema"] = {"type": "string", "enum": [server.model]}
                elif parameter["name"] == "sites":
                    parameter["schema"] = {"type": "string", "enum": ["resid_post[1]", "z[0].head[1]@-1,pattern[2]"]}
                elif parameter["name"] == "name" and parameter["in"] == "path":
                    parameter["schema"] = {"type": "string", "enum": ["entropy", "token", "nothing"]}
                elif schema.get("pattern") == "^[0-9a-f]{4,64}$":
                    parameter["schema"] = {"type": "string", "enum": [kept["results"][0]]}
                elif schema.get("pattern") == "^[0-9a-f]{32}$":
                    parameter["schema"] = {"type": "string", "enum": [kept["id"]]}
    return interface


ALL_CHECKS = "not_a_server_error,content_type_conformance,status_code_conformance"


def fuzzed(server: Server, interface: Path, *options: str, checks: str = "not_a_server_error") -> str:
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(interface), "--url", server.url]
    command += ["--checks", checks, "--no-color"]
    command += ["--request-timeout", "60", "--generation-database", "none", "--suppress-health-check", "all", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=interface.parent)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def written(tmp_path: Path, interface: dict[str, Any]) -> Path:
    place = tmp_path / "interface.json"
    place.write_text(json.dumps(interface), encoding="utf-8")
    return place


def test_nothing_that_is_drawn_breaks_the_server(target: Server, thing: dict[str, Any], tmp_path: Path) -> None:
    place = written(tmp_path, pinned(target, thing))
    fuzzed(target, place, "--max-examples", "2", "--max-time", "20", "--seed", "1", "--phases", "fuzzing")
    assert target.get("/api/health").status == 200


@pytest.mark.all
@pytest.mark.parametrize("which", ["pinned", "as written"])
def test_nothing_breaks_the_server_at_length(target: Server, thing: dict[str, Any], tmp_path: Path, which: str) -> None:
    interface = pinned(target, thing) if which == "pinned" else json.loads(document())
    place = written(tmp_path, interface)
    phases = ("--phases", "examples,coverage,fuzzing,stateful")
    fuzzed(target, place, "--max-examples", "60", "--max-time", "400", *phases, checks=ALL_CHECKS)
    assert target.post("/api/next", {"model": target.model, "text": "still here"}).status == 200
