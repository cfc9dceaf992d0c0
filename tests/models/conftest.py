"""Tiny random networks of real architectures, opened once, and what every test of the engine leaves as it found it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from cutaway.core.task import Task
from cutaway.models import taps
from cutaway.models.model import Model
from cutaway.testing.architectures import tiny_model
from cutaway.testing.tiny import texts_of, tiny, tiny_tokenizer

Open = Callable[..., Model]


@functools.cache
def _opened(kind: str, attention: str, dtype: torch.dtype, family: str | None) -> Model:
    hf = tiny_model(kind, family, attn_implementation=attention, dtype=dtype)  # type: ignore[arg-type]
    return Model(hf, name=f"tiny {kind}")


@pytest.fixture(scope="session")
def opened() -> Open:
    """A tiny network by its type; each is made once. Double precision, so that a difference is no rounding."""

    def make(
        kind: str, attention: str = "eager", dtype: torch.dtype = torch.float64, family: str | None = None
    ) -> Model:
        return _opened(kind, attention, dtype, family)

    return make


@pytest.fixture
def spoken() -> Callable[[Task], Model]:
    """A tiny Llama with a tokenizer that knows the words of a task."""

    def make(task: Task) -> Model:
        tokenizer = tiny_tokenizer(texts_of(task), start=True)
        hf = tiny_model("llama", dtype=torch.float64)
        with torch.random.fork_rng(devices=[]):
            hf.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        return Model(hf, tokenizer, name="tiny llama")

    return make


@pytest.fixture
def plain() -> Callable[..., Any]:
    """transformers' own forward pass of one prompt, alone."""

    def run(model: Model, ids: list[int], **options: Any) -> Any:
        with torch.no_grad():
            return model.hf(torch.tensor([list(ids)]), **options)

    return run


@pytest.fixture
def double_throughout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Double precision to the end: transformers' own norms and softmax go down to single precision and back."""
    softmax, to, as_float = torch.nn.functional.softmax, torch.Tensor.to, torch.Tensor.float

    def precise_softmax(value: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        if value.dtype == torch.float64 and options.get("dtype") == torch.float32:
            options["dtype"] = torch.float64
        return softmax(value, *args, **options)

    def precise_to(value: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        down = value.dtype == torch.float64 and args[:1] == (torch.float32,)
        return value if down else to(value, *args, **options)

    monkeypatch.setattr(torch.nn.functional, "softmax", precise_softmax)
    monkeypatch.setattr(torch.Tensor, "to", precise_to)
    monkeypatch.setattr(torch.Tensor, "float", lambda t: t if t.dtype == torch.float64 else as_float(t))


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Every test ends with transformers' own functions, no hooks, no replaced forwards, and the same random state."""
    random = torch.random.get_rng_state()
    yield
    assert taps.idle()
    assert not taps._attention_taps
    assert not taps._expert_taps
    assert torch.equal(torch.random.get_rng_state(), random), "the global random state was used"


@pytest.fixture
def untouched() -> Callable[[Model], None]:
    """Asserts that nothing hangs on a network."""

    def check(model: Model) -> None:
        for name, module in model.hf.named_modules():
            hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
            # transformers leaves its own for output_hidden_states, once asked for.
            assert not [hook for hook in hooks if not hook.__module__.startswith("transformers.")], name
            assert "forward" not in module.__dict__, name

    return check


@pytest.fixture
def pairs() -> Callable[..., Any]:
    """An encoded task made of token ids: ragged, with contrasts that differ at one token or at several."""

    def make(lengths: tuple[int, ...] = (7, 5), changed: tuple[tuple[int, ...], ...] = ((3,), (0, 2))) -> Any:
        generator = torch.Generator().manual_seed(3)
        ids, other = [], []
        for length, places in zip(lengths, changed, strict=True):
            row = torch.randint(5, 60, (length,), generator=generator).tolist()
            ids.append(tuple(row))
            other.append(tuple((i + 17 if place in places else i) for place, i in enumerate(row)))
        named = {
            "subject": tuple(min(4 - i, n - 1) for i, n in enumerate(lengths)),
            "end": tuple(n - 1 for n in lengths),
        }
        n = len(ids)
        return _EncodedIds(
            tuple(ids), tuple(other), tuple((70 + i, 71) for i in range(n)), tuple((80 + i,) for i in range(n)), named
        )

    return make


class _EncodedIds:
    """What `EncodedTask` has, without texts."""

    def __init__(self, ids: Any, contrast_ids: Any, answer_ids: Any, wrong_ids: Any, positions: Any) -> None:
        self.ids, self.contrast_ids, self.positions = ids, contrast_ids, positions
        self.answer_ids, self.wrong_ids = answer_ids, wrong_ids
        self.task = Task(name="ids", prompts=tuple(str(i) for i in range(len(ids))))


@pytest.fixture(scope="module")
def small() -> dict[str, Model]:
    """Tiny Llama (two key/value heads for four) and GPT-2 in double precision."""
    made = {"llama": tiny("llama"), "gpt2": tiny("gpt2")}
    for model in made.values():
        model.hf.double()
    return made


@pytest.fixture(scope="module")
def double_everywhere() -> Iterator[None]:
    """Double precision to the end, where transformers goes down to single precision and back."""
    softmax, to, as_float = torch.nn.functional.softmax, torch.Tensor.to, torch.Tensor.float
    patch = pytest.MonkeyPatch()

    def precise_softmax(value: Any, *args: Any, **options: Any) -> Any:
        if value.dtype == torch.float64 and options.get("dtype") == torch.float32:
            options["dtype"] = torch.float64
        return softmax(value, *args, **options)

    def precise_to(value: Any, *args: Any, **options: Any) -> Any:
        return value if value.dtype == torch.float64 and args[:1] == (torch.float32,) else to(value, *args, **options)

    patch.setattr(torch.nn.functional, "softmax", precise_softmax)
    patch.setattr(torch.Tensor, "to", precise_to)
    patch.setattr(torch.Tensor, "float", lambda t: t if t.dtype == torch.float64 else as_float(t))
    yield
    patch.undo()
