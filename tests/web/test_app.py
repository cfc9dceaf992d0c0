"""The endpoints on a real server with a real (tiny) model, held against the library itself."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cutaway.core import registry, view
from cutaway.core.result import Result
from cutaway.store.index import Store

Server = Any  # see conftest
PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def model(server: Server) -> Any:
    """The same model, opened here."""
    import cutaway

    return cutaway.open(server.model)


@pytest.fixture(scope="module")
def result(server: Server, kept: dict[str, Any]) -> Result:
    """The kept result as the library reads it."""
    with Store.open(server.store) as store:
        return store.result(kept["results"][0])


# --- catalogue -------------------------------------------------------------------------------------------------------


def test_the_server_says_who_it_is(server: Server) -> None:
    import cutaway

    assert server.get("/api/health").json == {"name": "cutaway", "version": cutaway.__version__, "loopback": True}


@pytest.mark.parametrize("kind", ["method", "task"])
def test_everything_in_the_registry_is_listed(server: Server, kind: str) -> None:
    listed = {each["name"]: each for each in server.get(f"/api/{kind}s").json}
    assert list(listed) == [entry.name for entry in registry.entries(kind)]
    for entry in registry.entries(kind):
        record = listed[entry.name]
        assert (record["asks"], record["summary"], record["package"]) == (entry.asks, entry.summary, entry.distribution)
        assert record["schema"] == registry.get(kind, entry.name).schema()
        assert ", ".join(record["cites"]) == entry.cites
        assert record["problem"] == ""


def test_a_method_has_its_group_needs_and_documentation(server: Server) -> None:
    (lens,) = [each for each in server.get("/api/methods").json if each["name"] == "logit_lens"]
    assert (lens["group"], lens["needs"]) == ("observe", list(registry.find("method", "logit_lens").needs))
    assert "nostalgebraist" in lens["doc"]


def test_what_methods_cite_can_be_looked_up(server: Server) -> None:
    known = server.get("/api/references").json
    cited = {key for each in server.get("/api/methods").json + server.get("/api/tasks").json for key in each["cites"]}
    assert cited <= set(known)
    assert all(each["year"].isdigit() and each["title"] for each in known.values())
    assert known["wang2022"]["authors"].startswith("Kevin")
    assert known["wang2022"]["url"].startswith("https://")


def test_all_kinds_of_view_are_listed(server: Server) -> None:
    listed = {each["kind"]: each["roles"] for each in server.get("/api/views").json}
    assert tuple(listed) == view.KINDS
    assert listed["heatmap"]["value"] == {"dims": [2], "required": True, "numeric": True}


def test_models_say_what_opens_and_what_to_install(server: Server) -> None:
    listed = {each["name"]: each for each in server.get("/api/models").json}
    assert {"smollm2", "gemma3-270m", "minilm"} <= set(listed)
    for each in listed.values():
        assert each["available"] or (each["why_not"] and each["install"])


def test_the_model_of_the_start_is_open(server: Server, model: Any) -> None:
    server.get("/api/anatomy", model=server.model)
    (ours,) = [each for each in server.get("/api/models").json if each["name"] == server.model]
    assert ours["opened"]
    assert ours["layers"] == model.anatomy.n_layers
    assert ours["parameters"] == sum(p.numel() for p in model.hf.parameters())


def test_the_server_itself_never_imports_torch(tmp_path: Path) -> None:
    """Every endpoint of the catalogue and of results is asked inside one process, which then says what it imported."""
    program = f"""
import asyncio, json, sys
from cutaway.web.app import create_app
from cutaway.web.settings import Settings

async def ask(app, path):
    said = []
    async def send(message): said.append(message)
    async def receive(): return {{"type": "http.request", "body": b"", "more_body": False}}
    target, _, query = path.partition("?")
    await app({{"type": "http", "http_version": "1.1", "method": "GET", "path": target, "raw_path": target.encode(),
        "root_path": "", "scheme": "http", "query_string": query.encode(), "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80)}}, receive, send)
    return said[0]["status"]

async def main():
    app = create_app(Settings(store={str(tmp_path / "store")!r}))
    async with app.router.lifespan_context(app):
        paths = ["/", "/api/health", "/api/methods", "/api/tasks", "/api/references", "/api/views", "/api/models",
                 "/api/results", "/api/jobs", "/openapi.json"]
        found = [await ask(app, path) for path in paths]
        await asyncio.sleep(2)
        print(json.dumps([found, [m for m in ("torch", "transformers") if m in sys.modules]]))

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[200] * 10, []]


@pytest.mark.parametrize("module", ["cutaway", "cutaway.cli.main", "cutaway.cli.list", "cutaway.cli.serve"])
def test_the_rest_does_not_import_the_server(module: str) -> None:
    program = f"import {module}, sys; print([m for m in ('fastapi', 'starlette', 'sqlalchemy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- quick questions -------------------------------------------------------------------------------------------------


def test_tokens_are_those_of_the_model(server: Server, model: Any) -> None:
    answer = server.post("/api/tokenize", {"model": server.model, "text": PROMPT}).json
    assert answer["ids"] == model.encode(PROMPT)
    assert answer["tokens"] == model.token_strings(answer["ids"])
    assert [PROMPT[a:b] for a, b in answer["spans"]][1:] == ["The", " capital", " of", " France", " is"]


def test_the_next_token_is_that_of_the_model(server: Server, model: Any) -> None:
    answer = server.post("/api/next", {"model": server.model, "text": PROMPT, "top": 5}).json
    logits = model.run([PROMPT], logits="last").last_logits[0]
    best = logits.argsort(descending=True)[:5].tolist()
    assert [each["id"] for each in answer["tokens"]] == best
    np.testing.assert_allclose([t["logit"] for t in answer["tokens"]], logits[best].tolist(), rtol=1e-5)


def test_activations_come_as_a_bundle(server: Server, model: Any) -> None:
    answer = server.get("/api/activations", model=server.model, text=PROMPT, sites="resid_post[1],pattern[0]")
    line, _, body = answer.body.partition(b"\n")
    header = json.loads(line)
    run = model.run([PROMPT], read="resid_post[1], pattern[0]")
    for entry in header["arrays"]:
        values = np.frombuffer(body, "<f4", entry["bytes"] // 4, entry["offset"]).reshape(entry["shape"])
        np.testing.assert_allclose(values, run[entry["name"]][0].float().numpy(), atol=1e-5)
    assert len(header["arrays"]) == 2


def test_an_anatomy_says_its_sizes(server: Server, model: Any) -> None:
    found = server.get("/api/anatomy", model=server.model).json
    assert (found["n_layers"], found["d_model"]) == (model.anatomy.n_layers, model.anatomy.d_model)
    assert server.post("/api/models/open", {"model": server.model}).json["anatomy"]["n_layers"] == found["n_layers"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", {"max_new_tokens": 3}),
        ("/api/ablate", {"sites": ["z[1].head[2]"], "controls": 3}),
    ],
)
def test_generation_and_ablation_answer(server: Server, path: str, body: dict[str, Any]) -> None:
    answer = server.post(path, {"model": server.model, "text": PROMPT, **body})
    assert answer.status == 200, answer.body
    assert answer.json


def test_attention_scores_every_head(server: Server, model: Any) -> None:
    found = server.get("/api/attention", model=server.model, text=PROMPT).json
    assert np.array(found["entropy"]).shape == (model.anatomy.n_layers, model.anatomy.n_heads)


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/api/next", {"text": "a b", "top": 0}, "top is 0"),
        ("/api/next", {"text": "a b", "edit": [{"do": "explode", "site": "z[0]"}]}, "explode"),
        ("/api/ablate", {"text": "a b", "sites": ["nowhere[3]"]}, "nowhere"),
        ("/api/ablate", {"text": "a b", "sites": ["z[99]"]}, "99"),
        ("/api/next", {"text": "a b", "colour": "red"}, "colour"),
        ("/api/next", {}, "text is missing"),
        ("/api/next", {"text": "a \ud800 b"}, "unicode"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(server: Server, path: str, body: dict[str, Any], said: str) -> None:
    answer = server.post(path, {"model": server.model, **body})
    assert answer.status == 422
    assert said in " ".join(filter(None, (answer.error[part] for part in ("what", "expected", "instead"))))


def test_the_same_question_is_answered_from_memory(server: Server) -> None:
    body = {"model": server.model, "text": "A question asked twice", "top": 3}
    first = server.post("/api/next", body)
    started = time.perf_counter()
    assert server.post("/api/next", body).body == first.body
    assert time.perf_counter() - started < 0.5


# --- jobs ------------------------------------------------------------------------------------------------------------


def test_a_job_gives_the_same_result_as_the_function(server: Server, kept: dict[str, Any], model: Any) -> None:
    import cutaway

    assert kept["results"] == [cutaway.logit_lens(model, PROMPT, top=3).id]


def test_a_task_is_run_with_its_parameters(server: Server, model: Any) -> None:
    import cutaway

    job = server.run(kind="method", method="logit_lens", task="ioi", task_parameters={"n": 8}, parameters={"top": 2})
    assert job["state"] == "done", job["error"]
    assert job["results"] == [cutaway.logit_lens(model, cutaway.tasks.ioi(n=8), top=2).id]
    record = server.get(f"/api/results/{job['results'][0]}").json
    assert record["command"] == f"cutaway run logit_lens --model {server.model} --task ioi task.n=8 top=2"


def events(server: Server, id: str) -> list[tuple[str, dict[str, Any]]]:
    """Read server-sent events to the end of the stream."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", f"/api/jobs/{id}/events")
    response = connection.getresponse()
    assert response.getheader("content-type", "").startswith("text/event-stream")
    found = []
    for block in response.read().decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((fields["event"], json.loads(fields["data"])))
    connection.close()
    return found


def test_an_explanation_is_a_job_whose_progress_is_heard(server: Server) -> None:
    body = {"kind": "explain", "model": server.model, "prompt": PROMPT, "instead": "The capital of Italy is"}
    job = server.post("/api/jobs", body).json
    heard = events(server, job["id"])
    assert heard[-1][0] == "state"
    last = heard[-1][1]
    assert last["state"] == "done", last["error"]
    steps = [each for name, each in heard if name == "progress"]
    assert [each["fraction"] for each in steps] == sorted(each["fraction"] for each in steps)
    report = last["report"]
    assert report["prompt"] == PROMPT
    assert len(report["sections"]) == len(last["results"]) == 6
    for section, id in zip(report["sections"], last["results"]):
        record = server.get(f"/api/results/{id}").json
        assert record["title"] == section["title"]
        assert record["job"] == job["id"]
        assert [check["claim"] for check in record["checks"]] == [check["claim"] for check in section["checks"]]
    assert server.get("/api/jobs").json[0]["report"] is None, "lists are short"


def test_a_long_job_is_cancelled_and_the_next_one_runs(server: Server) -> None:
    body = {"kind": "method", "model": server.model, "method": "patching", "task": "ioi", "parameters": {}}
    job = server.post("/api/jobs", {**body, "task_parameters": {"n": 2000}}).json
    assert job["state"] == "queued"
    server.wait(job["id"], "running")
    listener: list[Any] = []
    thread = threading.Thread(target=lambda: listener.extend(events(server, job["id"])))
    thread.start()
    assert server.post(f"/api/jobs/{job['id']}/cancel").status == 200
    assert server.wait(job["id"], seconds=40)["state"] == "cancelled"
    thread.join(20)
    assert listener[-1][1]["state"] == "cancelled"
    again = server.run(kind="method", method="logit_lens", prompts={"prompts": [PROMPT]}, parameters={"top": 3})
    assert again["state"] == "done"


def test_reading_and_tokenising_go_on_while_a_job_runs(server: Server, kept: dict[str, Any]) -> None:
    server.post("/api/tokenize", {"model": server.model, "text": "open it"})
    body = {"kind": "method", "model": server.model, "method": "patching", "task": "ioi", "parameters": {}}
    job = server.post("/api/jobs", {**body, "task_parameters": {"n": 2000}}).json
    server.wait(job["id"], "running")
    for path in (f"/api/results/{kept['results'][0]}", "/api/results", "/api/methods", "/"):
        assert server.get(path).status == 200
    assert server.post("/api/tokenize", {"model": server.model, "text": "typed while it runs"}).status == 200
    assert server.get(f"/api/jobs/{job['id']}").json["state"] == "running"
    server.post(f"/api/jobs/{job['id']}/cancel")
    server.wait(job["id"], seconds=40)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "logit_lenz"}, "did you mean 'logit_lens'?"),
        ({"task": "ioy"}, "did you mean 'ioi'?"),
        ({"parameters": {"tip": 3}}, "did you mean 'top'?"),
        ({"parameters": {"top": "three"}}, "'three'"),
        ({"parameters": {"top": 0}}, "greater than"),
        ({"task_parameters": {"n": "many"}}, "'many'"),
        ({"task": None}, "there is nothing to run on"),
        ({"prompts": {"prompts": ["a b"]}}, "both a task and prompts"),
        ({"kind": "dance"}, "dance"),
        ({"model": "smollm3"}, "did you mean 'smollm2'?"),
    ],
)
def test_a_slip_is_said_before_the_job_is_taken(server: Server, change: dict[str, Any], said: str) -> None:
    body = {"kind": "method", "method": "logit_lens", "model": server.model, "task": "ioi", "parameters": {}} | change
    before = len(server.get("/api/jobs", limit=500).json)
    answer = server.post("/api/jobs", body)
    assert answer.status == 422
    assert said in " ".join(filter(None, (answer.error[part] for part in ("what", "expected", "instead"))))
    assert len(server.get("/api/jobs", limit=500).json) == before


def test_what_only_the_model_can_know_fails_the_job_in_a_sentence(server: Server) -> None:
    job = server.run(kind="explain", prompt=PROMPT, instead="The capital is")
    assert job["state"] == "failed"
    assert "Choose a word that is as many tokens." in job["error"]


def test_an_unknown_job_is_not_found(server: Server) -> None:
    for path in (f"/api/jobs/{'0' * 32}", f"/api/jobs/{'0' * 32}/events"):
        assert server.get(path).status == 404
    assert server.post(f"/api/jobs/{'0' * 32}/cancel").status == 404


# --- results ---------------------------------------------------------------------------------------------------------


def test_a_result_is_told_about_without_its_numbers(server: Server, kept: dict[str, Any], result: Result) -> None:
    record = server.get(f"/api/results/{result.id}").json
    assert record["id"] == result.id
    assert record["dims"] == {str(dim): size for dim, size in result.data.sizes.items()}
    arrays = {each["name"]: each for each in record["arrays"]}
    assert set(arrays) == {str(name) for name in result.data.variables}
    for name, variable in result.data.variables.items():
        assert arrays[str(name)]["dims"] == list(variable.dims)
        assert arrays[str(name)]["shape"] == list(variable.shape)
        assert arrays[str(name)]["coordinate"] == (name in result.data.coords)
    assert [check["claim"] for check in record["checks"]] == [check.claim for check in result.checks]
    assert [check["verdict"] for check in record["checks"]] == [check.verdict for check in result.checks]
    assert len(record["views"]) == len(result.views)
    assert record["provenance"]["parameters"]["top"] == 3
    assert record["job"] == kept["id"]
    assert "values" not in json.dumps(record["arrays"])


def test_the_beginning_of_an_id_will_do(server: Server, result: Result) -> None:
    assert server.get(f"/api/results/{result.id[:10]}").json["id"] == result.id


def test_every_array_comes_as_it_is(server: Server, result: Result) -> None:
    for name, variable in result.data.variables.items():
        answer = server.get(f"/api/results/{result.id}/array/{name}")
        assert answer.status == 200
        shape = [int(size) for size in answer.headers["x-shape"].split(",") if size]
        assert answer.headers["x-dims"] == ",".join(map(str, variable.dims))
        assert shape == list(variable.shape)
        if answer.headers["x-dtype"] == "string":
            assert answer.json == variable.values.ravel().tolist()
        else:
            values = np.frombuffer(answer.body, np.dtype(answer.headers["x-dtype"]).newbyteorder("<")).reshape(shape)
            np.testing.assert_array_equal(values, variable.values)


@pytest.mark.parametrize(
    ("query", "picked"),
    [
        ("layer=1", {"layer": 1}),
        ("layer=-1&prompt=0", {"layer": -1, "prompt": 0}),
        ("position=1:4", {"position": slice(1, 4)}),
        ("position=0:6:2&layer=:2", {"position": slice(0, 6, 2), "layer": slice(None, 2)}),
        ("position=3:1", {"position": slice(3, 1)}),
    ],
)
def test_a_part_is_selected_by_dimension(server: Server, result: Result, query: str, picked: dict[str, Any]) -> None:
    answer = server.get(f"/api/results/{result.id}/array/entropy?{query}")
    wanted = result.data["entropy"].isel(picked)
    assert answer.headers["x-dims"] == ",".join(map(str, wanted.dims))
    assert answer.headers["x-shape"] == ",".join(map(str, wanted.shape))
    np.testing.assert_array_equal(np.frombuffer(answer.body, "<f4"), wanted.values.ravel())


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("layer=99", "no index 99"),
        ("layer=x", "is not a selection"),
        ("layer=1:2:0", "is not a selection"),
        ("layer=1&layer=2", "named twice"),
        ("lair=1", "did you mean 'layer'?"),
        ("layer=99999999999999999999", "is not a selection"),
    ],
)
def test_a_part_that_is_not_there_is_a_sentence(server: Server, result: Result, query: str, said: str) -> None:
    answer = server.get(f"/api/results/{result.id}/array/entropy?{query}")
    assert answer.status == 422
    assert said in " ".join(filter(None, (answer.error[part] for part in ("what", "expected", "instead"))))


def test_an_array_is_kept_by_the_browser(server: Server, result: Result) -> None:
    path = f"/api/results/{result.id}/array/entropy"
    answer = server.get(path)
    assert "immutable" in answer.headers["cache-control"]
    assert server.send("GET", path, headers={"If-None-Match": answer.headers["etag"]}).status == 304


def test_a_person_says_what_a_result_is(server: Server) -> None:
    id = server.run(kind="method", method="logit_lens", prompts={"prompts": ["of France is"]}, parameters={})[
        "results"
    ][0]
    said = {"title": "A finding", "tags": ["good", "paper"], "note": "Look at layer 2."}
    assert server.send("PATCH", f"/api/results/{id}", said).json["title"] == "A finding"
    record = server.get(f"/api/results/{id}").json
    assert {key: record[key] for key in said} == said
    assert server.send("PATCH", f"/api/results/{id}", {"tags": ["paper"]}).json["note"] == said["note"]
    assert [each["id"] for each in server.get("/api/results", tag="paper").json["items"]] == [id]
    assert server.get("/api/results", text="finding").json["total"] == 1
    assert server.get("/api/results", tag="other").json["total"] == 0
    server.get(f"/api/results/{id}/array/entropy")
    assert server.send("DELETE", f"/api/results/{id}").status == 204
    assert server.get(f"/api/results/{id}").status == 404
    assert server.get(f"/api/results/{id}/array/entropy").status == 404
    assert server.get("/api/results", tag="paper").json["total"] == 0


def test_only_a_whole_id_is_deleted(server: Server, result: Result) -> None:
    assert server.send("DELETE", f"/api/results/{result.id[:12]}").status == 422
    assert server.get(f"/api/results/{result.id}").status == 200


def test_lists_are_filtered_ordered_and_cut(server: Server, kept: dict[str, Any]) -> None:
    whole = server.get("/api/results", method="logit_lens", limit=500).json
    assert whole["total"] == len(whole["items"])
    assert {each["method"] for each in whole["items"]} == {"logit_lens"}
    ordered = server.get("/api/results", order="title").json["items"]
    assert [each["title"] for each in ordered] == sorted(each["title"] for each in ordered)
    assert len(server.get("/api/results", limit=1, offset=1).json["items"]) <= 1
    assert server.get("/api/results", order="beauty").status == 422
    assert server.get("/api/results", limit=0).status == 422


@pytest.mark.parametrize("format", ["svg", "png", "csv", "nc", "json", "html"])
def test_a_result_is_taken_along(server: Server, result: Result, tmp_path: Path, format: str) -> None:
    answer = server.get(f"/api/results/{result.id}/export", format=format)
    assert answer.status == 200
    assert answer.headers["content-disposition"] == f'attachment; filename="cutaway-{result.id[:12]}.{format}"'
    if format in ("nc", "json"):
        file = tmp_path / f"taken.{format}"
        file.write_bytes(answer.body)
        assert Result.load(file).id == result.id
    elif format == "png":
        assert answer.body.startswith(b"\x89PNG")
    else:
        assert answer.body.decode() == registry.get("renderer", format)(result)


def test_one_view_is_taken_dark(server: Server, result: Result) -> None:
    light, dark = (
        server.get(f"/api/results/{result.id}/export", format="svg", view=0, theme=theme).body.decode()
        for theme in ("light", "dark")
    )
    start, _, rest = dark.partition("<style>")
    style, _, end = rest.partition("</style>")
    assert start + end == light == registry.get("renderer", "svg")(result, 0)
    assert ".paper{fill:#15181c}" in style
    png = server.get(f"/api/results/{result.id}/export", format="png", view=0, theme="dark").body
    assert png != server.get(f"/api/results/{result.id}/export", format="png", view=0).body


def test_a_view_that_is_not_there_is_not_found(server: Server, result: Result) -> None:
    assert server.get(f"/api/results/{result.id}/export", format="svg", view=99).status == 404
    assert server.get(f"/api/results/{result.id}/export", format="gif").status == 422


def test_the_python_lines_make_the_result_again(server: Server, result: Result, tmp_path: Path) -> None:
    text = server.get(f"/api/results/{result.id}/python").json["text"]
    assert "ca.logit_lens(model, task, top=3)" in text
    script = tmp_path / "again.py"
    script.write_text(text.replace("result.show()", "print(result.id)"), encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == result.id, done.stderr


def test_a_damaged_file_is_a_sentence(server: Server) -> None:
    job = server.run(kind="method", method="logit_lens", prompts={"prompts": ["Italy is of"]}, parameters={})
    (file,) = server.store.rglob(f"{job['results'][0][2:]}.nc")
    file.write_bytes(b"not a file")
    for tail in ("", "/array/entropy", "/python", "/export?format=svg"):
        answer = server.get(f"/api/results/{job['results'][0]}{tail}")
        assert 400 <= answer.status < 500, answer.body
        assert "damaged" in answer.error["what"]
    assert server.send("DELETE", f"/api/results/{job['results'][0]}").status == 204
