"""Models of the hub, against a server on this machine that answers as the hub does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cutaway.core.errors import ModelError
from cutaway.models.hub import needed
from cutaway.models.open import open_parts

COMMIT, OLD = "a" * 40, "b" * 40


@dataclass
class Hub:
    """Repositories by name, each with its files by commit; `asked` are the requests."""

    repositories: dict[str, dict[str, Path]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(path)
        words = path.split("?")[0].strip("/").split("/")
        api = words[:2] == ["api", "models"]
        name = "/".join(words[2:4] if api else words[:2])
        if name not in self.repositories:
            return 401, {"X-Error-Code": "RepoNotFound"}, b"Repository not found"
        commits = self.repositories[name]
        revision = words[5 if api else 3] if len(words) > (5 if api else 3) else "main"
        commit = {"main": COMMIT, "old": OLD}.get(revision, revision)
        if commit not in commits:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"Invalid rev id"
        files = {str(file.relative_to(commits[commit])): file for file in commits[commit].rglob("*") if file.is_file()}
        if api:
            siblings = [{"rfilename": file} for file in files]
            if "tree" in words:
                listed = [
                    {"type": "file", "path": f, "size": p.stat().st_size, "oid": "0" * 40} for f, p in files.items()
                ]
                return 200, {}, json.dumps(listed).encode()
            return 200, {}, json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode()
        if name in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b"Access to this model is restricted"
        body = files["/".join(words[4:])].read_bytes()
        return 200, {"ETag": f'"{commit[:1]}{hash(body):x}"', "X-Repo-Commit": commit}, body


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = hub.answer(self.path)
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setenv("CUTAWAY_CACHE", str(tmp_path / "cache"))
    yield hub
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def repository(hub: Hub, tmp_path: Path) -> Hub:
    for commit, layers in ((COMMIT, 2), (OLD, 1)):
        folder = tmp_path / commit
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 8}
        with torch.random.fork_rng():
            LlamaForCausalLM(LlamaConfig(num_hidden_layers=layers, **sizes)).save_pretrained(folder)
        words = Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="a"))
        PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)
        (folder / "README.md").write_text("not needed")
        (folder / "pytorch_model.bin").write_text("not needed")
        (folder / "onnx").mkdir()
        (folder / "onnx" / "model.onnx").write_text("not needed")
        (folder / "modeling.py").write_text("not needed")
    hub.repositories["someone/tiny"] = {COMMIT: tmp_path / COMMIT, OLD: tmp_path / OLD}
    return hub


def message(name: str, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        open_parts(name, device="cpu", **options)
    return str(caught.value)


def test_a_model_is_fetched_once_and_known_by_its_commit(repository: Hub, tmp_path: Path) -> None:
    opened = open_parts("someone/tiny", device="cpu")
    assert opened.source == f"hub:someone/tiny@{COMMIT}"
    assert opened.name == "someone/tiny"
    assert opened.hf.config.num_hidden_layers == 2
    snapshot = tmp_path / "hub" / "models--someone--tiny" / "snapshots" / COMMIT
    here = {str(file.relative_to(snapshot)) for file in snapshot.rglob("*")}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= here
    assert not here & {"README.md", "pytorch_model.bin", "onnx", "modeling.py"}
    repository.asked.clear()
    open_parts("someone/tiny", device="cpu")
    assert repository.asked == ["/api/models/someone/tiny"]  # whether there is a newer one; nothing is fetched


def test_a_revision_is_opened_and_a_commit_that_is_here_is_not_asked_for(repository: Hub) -> None:
    opened = open_parts("someone/tiny", device="cpu", revision="old")
    assert opened.source == f"hub:someone/tiny@{OLD}"
    assert opened.hf.config.num_hidden_layers == 1
    repository.asked.clear()
    assert open_parts("someone/tiny", device="cpu", revision=OLD).source == f"hub:someone/tiny@{OLD}"
    assert repository.asked == []
    assert message("someone/tiny", revision="new").startswith("'someone/tiny' has no revision 'new'.")


def test_without_the_hub_what_is_here_is_opened(repository: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    open_parts("someone/tiny", device="cpu")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert open_parts("someone/tiny", device="cpu").source == f"hub:someone/tiny@{COMMIT}"
    said = message("someone/else")
    assert said.startswith("The model 'someone/else' is not on this machine, and the hub could not be asked for it (")
    assert "did you mean 'someone/tiny'?" in said


def test_a_name_that_the_hub_does_not_know(hub: Hub) -> None:
    said = message("someone/smolm2")
    assert said.startswith("There is no model 'someone/smolm2': neither here nor, for your account, on the hub.")
    assert said.endswith("See `cutaway models`; a private model needs `hf auth login`.")
    assert message("not a name").startswith("There is no model 'not a name'")


def test_a_gated_model_says_where_to_accept_its_terms(repository: Hub) -> None:
    repository.gated.add("someone/tiny")
    said = message("someone/tiny")
    assert said.startswith("'someone/tiny' is gated: its owner asks you to accept terms")
    assert "https://huggingface.co/someone/tiny" in said
    assert said.endswith("Then run `hf auth login` on this machine and open the model again.")


def test_an_alias_with_a_revision_is_taken_from_the_hub(repository: Hub) -> None:
    repository.repositories["sentence-transformers/all-MiniLM-L6-v2"] = repository.repositories["someone/tiny"]
    opened = open_parts("minilm", device="cpu", revision="old")
    assert (opened.name, opened.source) == ("minilm", f"hub:sentence-transformers/all-MiniLM-L6-v2@{OLD}")


def test_the_files_that_opening_takes() -> None:
    small = ["config.json", "tokenizer.json", "vocab.txt"]
    parts = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = "model.safetensors.index.json"
    other = ["README.md", "onnx/model.onnx", "consolidated.safetensors", "tf_model.h5", "code.py"]
    assert needed([*small, *other, "model.safetensors", "pytorch_model.bin"], "x/y") == sorted(
        [*small, "model.safetensors"]
    )
    assert needed([*small, *other, *parts, index], "x/y") == sorted([*small, *parts, index])
    assert needed([*small, "pytorch_model.bin"], "x/y") == sorted([*small, "pytorch_model.bin"])
    assert "code.py" in needed([*small, *other, "model.safetensors"], "x/y", code=True)


def test_a_repository_of_gguf_files_says_how_to_get_one() -> None:
    with pytest.raises(ModelError) as caught:
        needed(["README.md", "tiny.Q4_0.gguf"], "someone/tiny-GGUF")
    assert str(caught.value) == (
        "'someone/tiny-GGUF' has no config.json for transformers. It has tiny.Q4_0.gguf. "
        "Run `hf download someone/tiny-GGUF tiny.Q4_0.gguf` and open the file it prints."
    )
