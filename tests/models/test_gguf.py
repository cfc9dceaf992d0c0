"""GGUF files become the networks they were made from: every kind of network, against the module it was written from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf as ggml
import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, AutoTokenizer

from cutaway.core.errors import Cancelled, ModelError
from cutaway.core.progress import reporting
from cutaway.models import gguf
from cutaway.models.folder import fingerprint
from cutaway.models.open import open_parts
from cutaway.models.weights import RECORD, Weights, conversion_folder, fault, find, sha256_of

TOKENS = [*sorted(ByteLevel.alphabet()), "he", "Ġt", "Ġth", "Ġthe", "ll", "<s>", "</s>"]
MERGES = ["h e", "Ġ t", "Ġt h", "Ġth e", "l l"]
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "vocab_size": len(TOKENS),
    "bos_token_id": len(TOKENS) - 2,
    "eos_token_id": len(TOKENS) - 1,
    "pad_token_id": None,
}
GEMMA = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 8}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-untied": ("llama", {"tie_word_embeddings": False}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 32}),
    "gemma": ("gemma", {"head_dim": 32}),
    "gemma2": ("gemma2", {**GEMMA, "attn_logit_softcapping": 20.0, "final_logit_softcapping": 10.0}),
    "gemma3": ("gemma3_text", {**GEMMA, "num_hidden_layers": 7}),
    "gpt2": ("gpt2", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, "n_inner": 96}),
}


def network(kind: str, **changed: Any) -> Any:
    model_type, own = KINDS[kind]
    sizes = SIZES if model_type != "gpt2" else {k: v for k, v in SIZES.items() if k.endswith(("_id", "vocab_size"))}
    config = transformers.AutoConfig.for_model(model_type, **{"tie_word_embeddings": True, **sizes, **own, **changed})
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():  # no norm at one, no bias at zero: each weight must arrive at its place
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def write(
    model: Any,
    kind: str,
    path: Path,
    *,
    pack: ggml.GGMLQuantizationType | None = None,
    keys: dict[str, Any] | None = None,
    extra: dict[str, np.ndarray] | None = None,
    without: str = "",
) -> Path:
    """Write a module as llama.cpp's converter does: names, order of q and k, Gemma's norms, GPT-2's matrices."""
    kind, config = kind.split("-")[0], model.config
    writer = ggml.GGUFWriter(str(path), kind)
    gpt2 = kind == "gpt2"
    writer.add_context_length(config.n_positions if gpt2 else config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.n_inner if gpt2 else config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    if gpt2:
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        rope = config.rope_parameters.get("full_attention", config.rope_parameters)
        writer.add_rope_freq_base(rope["rope_theta"])
    if kind in ("qwen3", "gemma", "gemma2", "gemma3"):
        writer.add_key_length(config.head_dim)
    if kind in ("gemma2", "gemma3"):
        writer.add_sliding_window(config.sliding_window)
    if kind == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    add = {str: writer.add_string, float: writer.add_float32, int: writer.add_uint32}
    for key, value in (keys or {}).items():
        add[type(value)](key, value)
    add_vocabulary(writer)
    names = ggml.get_tensor_name_map(writer_arch(kind), config.num_hidden_layers)
    for name, weight in model.named_parameters():
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        array = as_llama_cpp(kind, name, weight.detach(), config).contiguous().numpy()
        if target == without:
            continue
        if pack is not None and array.ndim == 2 and array.shape[1] % 32 == 0:
            writer.add_tensor(target, ggml.quants.quantize(array, pack), raw_dtype=pack)
        else:
            writer.add_tensor(target, array)
    for name, array in (extra or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def writer_arch(kind: str) -> Any:
    return next(arch for arch, name in ggml.MODEL_ARCH_NAMES.items() if name == kind)


def as_llama_cpp(kind: str, name: str, weight: torch.Tensor, config: Any) -> torch.Tensor:
    if kind == "llama" and ("q_proj" in name or "k_proj" in name):
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
        half = weight.shape[0] // heads // 2
        halves = weight.view(heads, 2, half, -1)
        pairs = torch.stack([halves[:, 0], halves[:, 1]], dim=2)  # row i of each half become neighbours
        return pairs.reshape(weight.shape)
    if kind.startswith("gemma") and name.endswith("norm.weight"):
        return weight + 1
    if kind == "gpt2" and weight.ndim == 2 and ".h." in name:
        return weight.T
    return weight


def add_vocabulary(writer: ggml.GGUFWriter, pre: str = "smollm") -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    control = ggml.TokenType.CONTROL
    writer.add_token_types([control if token.startswith("<") and len(token) > 1 else 1 for token in TOKENS])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(TOKENS.index("<s>"))
    writer.add_eos_token_id(TOKENS.index("</s>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template("{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CUTAWAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return write(network("llama"), "llama", tmp_path / "tiny.gguf")


def converted(path: Path) -> Path:
    return gguf.converted(find(str(path)))


IDS = torch.randint(0, 256, (2, 60), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_was_written_to_gguf_comes_back(kind: str, tmp_path: Path) -> None:
    model = network(kind)
    opened = open_parts(str(write(model, kind, tmp_path / "tiny.gguf")), device="cpu").hf
    assert type(opened) is type(model)
    expected, got = model.state_dict(), opened.state_dict()
    assert got.keys() == expected.keys()
    for name, weight in expected.items():
        # adding one to Gemma's norms and taking it away again rounds; all else is exact
        slack = 1e-6 if kind.startswith("gemma") and "norm" in name else 0.0
        assert torch.allclose(got[name], weight, atol=slack, rtol=0), name
    with torch.no_grad():
        torch.testing.assert_close(opened(IDS).logits, model(IDS).logits, atol=2e-4, rtol=1e-4)


def test_packed_weights_are_near_the_ones_they_were_packed_from(tmp_path: Path) -> None:
    model = network("llama")
    packed = write(model, "llama", tmp_path / "tiny.gguf", pack=ggml.GGMLQuantizationType.Q8_0)
    opened = open_parts(str(packed), device="cpu").hf
    for name, weight in model.state_dict().items():
        largest = weight.abs().max()
        assert (opened.state_dict()[name] - weight).abs().max() <= largest / 127, name
    assert packed.stat().st_size < 0.5 * (converted(packed) / "model.safetensors").stat().st_size


def test_a_large_tensor_is_unpacked_in_pieces_and_is_the_same(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sha256_of([converted(llama) / "model.safetensors"])
    shutil.rmtree(converted(llama))
    monkeypatch.setattr(gguf, "PIECE", 64 * 3)  # three rows
    assert sha256_of([converted(llama) / "model.safetensors"]) == whole


def test_llama_3_scaling_of_positions_is_found_again(tmp_path: Path) -> None:
    scaling = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, **scaling}
    model = network("llama", rope_parameters=rope, head_dim=64, max_position_embeddings=131072)
    plain = 1.0 / 500000.0 ** (torch.arange(0, 64, 2) / 64)
    factors = (plain / model.model.rotary_emb.inv_freq).float().numpy()
    assert 1 < len(np.unique(factors.round(3))) < 32
    keys = {"llama.attention.key_length": 64}
    path = write(model, "llama", tmp_path / "tiny.gguf", extra={"rope_freqs.weight": factors}, keys=keys)
    opened = open_parts(str(path), device="cpu").hf
    torch.testing.assert_close(opened.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)
    with torch.no_grad():
        assert torch.allclose(opened(IDS).logits, model(IDS).logits, atol=1e-5)


def test_linear_scaling_of_positions(tmp_path: Path) -> None:
    model = network("llama", rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0})
    keys = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    opened = open_parts(str(write(model, "llama", tmp_path / "tiny.gguf", keys=keys)), device="cpu").hf
    with torch.no_grad():
        assert torch.equal(opened(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": {"llama.rope.scaling.type": "yarn"}}, "scaling 'yarn'"),
        ({"extra": {"rope_freqs.weight": np.full(8, 3, np.float32)}}, "not Llama 3's"),
        ({"extra": {"blk.0.ffn_gate_exps.weight": np.ones((2, 4), np.float32)}}, "1 tensors are not in the model"),
        ({"without": "blk.1.ffn_up.weight"}, "1 parameters are not in the file (model.layers.1.mlp.up_proj.weight)"),
    ],
)
def test_a_file_that_would_open_as_another_network_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write(network("llama"), "llama", tmp_path / "tiny.gguf", **changes)
    with pytest.raises(ModelError) as caught:
        converted(path)
    assert message in str(caught.value)
    assert "ca.open('owner/model')" in str(caught.value)


def test_an_unknown_kind_of_network_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    writer = ggml.GGUFWriter(str(path), "mamba")
    writer.add_tensor("token_embd.weight", np.ones((2, 4), np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()
    with pytest.raises(ModelError, match=r"of the kind 'mamba': it is not converted. From GGUF come: llama, qwen2"):
        converted(path)


def test_a_damaged_file_is_named(llama: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.gguf"
    short.write_bytes(llama.read_bytes()[:-1000])
    promised = llama.stat().st_size
    with pytest.raises(ModelError, match=rf"short.gguf is damaged: it has {promised - 1000} bytes, and its header"):
        converted(short)
    short.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ModelError, match=r"it does not begin with the letters GGUF. .* Fetch the file again"):
        converted(short)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_to_a_header_ends_in_another_error(data: st.DataObject, llama: Path, tmp_path: Path) -> None:
    content = bytearray(llama.read_bytes())
    start = min(tensor.start for tensor in gguf.read_header(llama).tensors.values())
    place = data.draw(st.integers(4, start - 1))
    content[place] = data.draw(st.integers(0, 255))
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(content[: data.draw(st.sampled_from([len(content), place]))])
    try:
        header = gguf.read_header(damaged)
    except ModelError as error:
        assert "is damaged" in str(error)  # some damage is harmless
    else:
        assert header.tensors.keys()


def test_the_vocabulary_splits_text_as_it_was_trained_and_gives_it_back(llama: Path) -> None:
    tokenizer = open_parts(str(llama), device="cpu").tokenizer
    assert tokenizer.is_fast
    assert tokenizer.tokenize("the  12 hell<s>") == ["t", "he", "Ġ", "Ġ", "1", "2", "Ġ", "he", "ll", "<s>"]
    for text in ("  hello\n\n\tworld  é ☃ 𝔘", " a ", "don't 1234 x=1;\r\n", "a , b . .", "<s>x</s>"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    messages = [{"role": "user", "content": "hell"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "<s>hell</s>"
    assert tokenizer.model_max_length == 256


def test_files_beside_the_gguf_do_not_matter(llama: Path) -> None:
    (llama.parent / "tokenizer_config.json").write_text('{"bos_token": "WRONG", "model_max_length": 3}')
    (llama.parent / "chat_template.jinja").write_text("WRONG")
    tokenizer = open_parts(str(llama), device="cpu").tokenizer
    assert tokenizer.bos_token == "<s>"
    assert "WRONG" not in tokenizer.chat_template


def test_large_networks_are_stored_in_bfloat16_and_say_so(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = open_parts(str(llama), device="cpu")
    assert exact.source.endswith("as float32")
    shutil.rmtree(converted(llama))
    monkeypatch.setattr(gguf, "FLOAT32_UP_TO", 1000)
    rounded = open_parts(str(llama), device="cpu", dtype="auto")
    assert rounded.source.endswith("as bfloat16")
    for name, weight in exact.hf.state_dict().items():
        assert torch.equal(rounded.hf.state_dict()[name], weight.to(torch.bfloat16)), name


def test_a_file_in_pieces_is_put_together(llama: Path, tmp_path: Path) -> None:
    expected, content = converted(llama), llama.read_bytes()
    sums = sha256_of([expected / "model.safetensors"])
    shutil.rmtree(expected)
    pieces = tuple(tmp_path / f"part{n}" for n in range(3))
    for n, piece in enumerate(pieces):
        piece.write_bytes(content[n * 5000 : (n + 1) * 5000 if n < 2 else None])
    folder = gguf.converted(Weights("tiny", "gguf", "tiny.gguf", pieces))
    assert folder == expected
    assert sha256_of([folder / "model.safetensors"]) == sums
    assert not list(folder.glob("*.gguf"))


def test_the_record_has_the_sums_of_the_files(llama: Path) -> None:
    folder = converted(llama)
    record = json.loads((folder / RECORD).read_text())
    assert record["name"] == "tiny.gguf"
    assert record["sha256"] == hashlib.sha256(llama.read_bytes()).hexdigest()
    assert set(record["files"]) == {file.name for file in folder.iterdir()} - {RECORD}
    for name, known in record["files"].items():
        assert known["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert fault(folder, full=True) == ""


def test_a_truncated_conversion_is_made_again(llama: Path) -> None:
    folder = converted(llama)
    weights = folder / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-100])
    assert fault(folder) == f"model.safetensors has {len(good) - 100} bytes instead of {len(good)}"
    assert converted(llama) == folder
    assert weights.read_bytes() == good


def test_a_changed_byte_is_found_by_its_time_or_on_demand(llama: Path) -> None:
    folder = converted(llama)
    weights = folder / "model.safetensors"
    good, times = weights.read_bytes(), weights.stat()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert fault(folder) == "model.safetensors does not have its checksum"
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fault(folder) == ""  # neither size nor time tell: a check on demand does
    assert fault(folder, full=True) == "model.safetensors does not have its checksum"
    weights.touch()
    converted(llama)
    assert weights.read_bytes() == good


def test_a_copied_cache_is_read_through_once(llama: Path) -> None:
    folder = converted(llama)
    weights = folder / "model.safetensors"
    os.utime(weights, ns=(10**18, 10**18))
    assert fault(folder) == ""
    assert json.loads((folder / RECORD).read_text())["files"]["model.safetensors"]["written"] == 10**18


class StopAt:
    """A reporter that asks to stop at the n-th step."""

    def __init__(self, step: int) -> None:
        self.left = step

    def start(self, what: str, total: int | None) -> None:
        self.what, self.total = what, total

    def advance(self, n: int) -> None:
        self.left -= n

    def done(self) -> None: ...

    def cancelled(self) -> bool:
        return self.left <= 0


def test_progress_is_told_and_a_stopped_conversion_leaves_nothing(llama: Path, cache: Path) -> None:
    with reporting(stop := StopAt(5)), pytest.raises(Cancelled):
        converted(llama)
    assert stop.what == "unpacking tiny.gguf (once)"
    assert stop.total == len(gguf.read_header(llama).tensors)
    left = [path.name for path in (cache / "models").iterdir()]
    assert sorted(name.split(".")[-1] for name in left) == ["lock", "seen"]
    assert fault(converted(llama), full=True) == ""


def test_what_a_killed_process_left_is_cleared(llama: Path) -> None:
    folder = conversion_folder(hashlib.sha256(llama.read_bytes()).hexdigest())
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(parents=True)
    (partial / "half").write_text("half")
    assert not (converted(llama) / "half").exists()
    assert not partial.exists()


BOTH = """
import sys
from cutaway.core.progress import reporting
from cutaway.models.open import open_parts
class Count:
    count = 0
    def start(self, what, total): self.count += what.startswith("unpacking")
    def advance(self, n): pass
    def done(self): pass
    def cancelled(self): return False
print("ready", flush=True)
sys.stdin.readline()
with reporting(counter := Count()):
    opened = open_parts(sys.argv[1], device="cpu")
print(counter.count, opened.source, sum(float(p.detach().double().sum()) for p in opened.hf.parameters()))
"""


def test_two_processes_at_once_convert_once(llama: Path) -> None:
    command = [sys.executable, "-c", BOTH, str(llama)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    said = []
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        said.append(out.split(maxsplit=1))
    assert sorted(count for count, _ in said) == ["0", "1"]
    assert said[0][1] == said[1][1]


def test_a_cache_that_cannot_be_written_says_what_to_set(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("CUTAWAY_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"could not be converted into the cache folder .* Set CUTAWAY_CACHE"):
        converted(llama)


def test_without_room_nothing_is_written(llama: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    usage = shutil.disk_usage(llama)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(ModelError, match=r"0\.0 GB are needed, and 0\.0 GB are free"):
        converted(llama)
    assert not [path for path in (cache / "models").iterdir() if path.is_dir() and path.name != "seen"]


def test_changing_a_weight_never_reaches_the_cache(llama: Path) -> None:
    folder = converted(llama)
    opened = open_parts(str(llama), device="cpu").hf
    with torch.no_grad():
        opened.model.layers[0].mlp.up_proj.weight.fill_(7.0)
    assert fault(folder, full=True) == ""
    assert not open_parts(str(llama), device="cpu").hf.model.layers[0].mlp.up_proj.weight.eq(7).any()


def test_the_name_of_a_converted_file_is_enough(llama: Path) -> None:
    source = open_parts(str(llama), device="cpu").source
    assert source == f"gguf:tiny.gguf sha256:{hashlib.sha256(llama.read_bytes()).hexdigest()[:16]} as float32"
    llama.unlink()
    assert open_parts("tiny.gguf", device="cpu").source == source


def test_a_fingerprint_tells_weights_apart(llama: Path) -> None:
    folder = converted(llama)
    before = fingerprint(folder)
    assert before == fingerprint(folder)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-2000:] = bytes(2000)
    weights.write_bytes(content)
    assert fingerprint(folder) != before


@pytest.mark.real
@pytest.mark.parametrize("alias", ["smollm2", pytest.param("gemma3-270m", marks=pytest.mark.all)])
def test_a_carried_file_opens_as_transformers_own_reader_opens_it(
    alias: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUTAWAY_CACHE")
    weights = find(alias)
    path = tmp_path / weights.label
    with path.open("wb") as file:
        for piece in weights.paths:
            file.write(piece.read_bytes())
    ours = open_parts(alias, device="cpu")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    for (name, weight), (also, other) in zip(ours.hf.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert name == also
        assert torch.equal(weight, other), name
    text = "When Mary and John went to the store, John gave a drink to"
    ids = ours.tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        logits = ours.hf(**ids).logits
        assert torch.equal(logits, theirs(**ids).logits)
    assert ours.tokenizer.decode(logits[0, -1].argmax()) == " Mary"


@pytest.mark.real
def test_smollm2_reads_text_as_its_own_tokenizer_does() -> None:
    tokenizer = AutoTokenizer.from_pretrained(gguf.converted(find("smollm2")))
    assert tokenizer.tokenize("a  12 , b") == ["a", "ĠĠ", "1", "2", "Ġ,", "Ġb"]  # digits stand alone
    for text in ("  hello\n\n\tworld  é ☃ 𝔘 <|im_start|>x", "a ", "don't 1234 x=1;\r\n", "a . ."):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert chat.endswith("<|im_start|>user\nHi<|im_end|>\n")
