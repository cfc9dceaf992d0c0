"""Training is seeded, goes on after an interruption with the same bits, and says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cutaway.core.errors import Cancelled, ModelError
from cutaway.core.progress import reporting
from cutaway.models.training import CHECKPOINT, Recipe, rate_at, train
from cutaway.testing import tiny

STEPS = 12


@pytest.fixture(autouse=True)
def begun_apart() -> Iterator[None]:
    """torch draws the weights of new modules from the global state."""
    with torch.random.fork_rng(devices=[]):
        yield


class Dropping(nn.Module):
    """A network that draws while it learns, with a norm (its buffers are learned too) and a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.embed = nn.Embedding(7, 6)
        self.norm = nn.BatchNorm1d(6)
        self.drop = nn.Dropout(0.3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, ids: Tensor) -> Tensor:
        return self.drop(self.norm(self.embed(ids).flatten(0, 1))) @ self.embed.weight.T


def loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    ids = batch["input_ids"]
    return nn.functional.cross_entropy(network(ids), ids.roll(1, 1).flatten())


def batch(step: int) -> Tensor:
    return torch.randint(7, (3, 5), generator=torch.Generator().manual_seed(step))


def one_after_another() -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(5)
    while True:
        yield torch.randint(7, (3, 5), generator=generator)


class StopsAt:
    """Asks to stop after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def start(self, what: str, total: int | None) -> None:
        pass

    def advance(self, n: int) -> None:
        self.left -= n

    def done(self) -> None:
        pass

    def cancelled(self) -> bool:
        return self.left <= 0


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


SETTINGS = {"steps": STEPS, "learning_rate": 0.05, "weight_decay": 0.1, "warmup": 3, "loss": loss, "seed": 4}


@pytest.mark.parametrize("stop", [1, 5, STEPS - 1])
@pytest.mark.parametrize("source", ["function", "iterator"])
def test_an_interrupted_training_ends_with_the_same_bits(tmp_path: Path, stop: int, source: str) -> None:
    def batches() -> object:
        return batch if source == "function" else one_after_another()

    whole = Dropping()
    expected = train(whole, batches(), **SETTINGS)
    with pytest.raises(Cancelled), reporting(StopsAt(stop)):
        train(Dropping(), batches(), keep=tmp_path, every=4, **SETTINGS)
    resumed = Dropping()
    got = train(resumed, batches(), keep=tmp_path, every=4, **SETTINGS)
    assert got.resumed == stop
    assert got.losses == expected.losses
    assert same(weights(resumed), weights(whole))


def test_a_killed_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    def dies(step: int) -> Tensor:
        if step == 7:
            raise KeyboardInterrupt
        return batch(step)

    whole, resumed = Dropping(), Dropping()
    train(whole, batch, **SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        train(Dropping(), dies, keep=tmp_path, every=3, **SETTINGS)
    assert train(resumed, batch, keep=tmp_path, every=3, **SETTINGS).resumed == 6
    assert same(weights(resumed), weights(whole))
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_a_checkpoint_of_another_recipe_is_not_taken_up(tmp_path: Path) -> None:
    train(Dropping(), batch, keep=tmp_path, **SETTINGS)
    assert train(Dropping(), batch, keep=tmp_path, **SETTINGS).resumed == STEPS
    assert train(Dropping(), batch, keep=tmp_path, **{**SETTINGS, "seed": 5}).resumed == 0


def test_a_damaged_checkpoint_is_not_taken_up(tmp_path: Path) -> None:
    train(Dropping(), batch, keep=tmp_path, **SETTINGS)
    (tmp_path / CHECKPOINT).write_bytes(b"half of")
    assert train(Dropping(), batch, keep=tmp_path, **SETTINGS).resumed == 0


def test_the_same_seed_gives_the_same_network_and_another_another() -> None:
    networks = [Dropping() for _ in range(3)]
    for network, seed in zip(networks, (1, 1, 2)):
        train(network, batch, **{**SETTINGS, "seed": seed})
    assert same(weights(networks[0]), weights(networks[1]))
    assert not same(weights(networks[0]), weights(networks[2]))


def test_a_training_leaves_the_random_state_and_the_flags_alone() -> None:
    network = Dropping().eval()
    network.norm.weight.requires_grad_(False)
    before = torch.get_rng_state()
    train(network, batch, **SETTINGS)
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training
    assert not network.norm.weight.requires_grad
    assert network.embed.weight.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())


def test_it_is_plain_adamw() -> None:
    """The slow, obvious way: torch's own optimiser in a loop."""
    ours, plain = nn.Linear(3, 3).double(), nn.Linear(3, 3).double()
    plain.load_state_dict(ours.state_dict())

    def squared(network: nn.Module, given: dict[str, Tensor]) -> Tensor:
        return (network(given["x"]) - given["x"]).square().mean()

    def data(step: int) -> dict[str, Tensor]:
        return {"x": torch.randn(4, 3, generator=torch.Generator().manual_seed(step), dtype=torch.float64)}

    train(ours, data, steps=9, learning_rate=0.1, weight_decay=0.2, schedule="constant", clip=None, loss=squared)
    optimiser = torch.optim.AdamW(
        [{"params": [plain.weight], "weight_decay": 0.2}, {"params": [plain.bias], "weight_decay": 0.0}], lr=0.1
    )
    for step in range(9):
        optimiser.zero_grad()
        squared(plain, data(step)).backward()
        optimiser.step()
    assert torch.allclose(ours.weight, plain.weight, rtol=1e-12, atol=0)
    assert torch.allclose(ours.bias, plain.bias, rtol=1e-12, atol=0)


def test_a_language_model_learns_its_text() -> None:
    model = tiny()
    ids = torch.tensor([model.encode("When Mary and John went to the store, John gave a drink to Mary")] * 2)
    done = train(model.hf, lambda step: ids, steps=30, learning_rate=1e-2, evaluate=lambda hf: {"ids": ids.numel()})
    assert done.losses[-1] < 0.3 * done.losses[0]
    assert done.final_loss < done.losses[0]
    assert done.evaluations == {30: {"ids": float(ids.numel())}}


def test_evaluations_survive_an_interruption(tmp_path: Path) -> None:
    settings = {**SETTINGS, "evaluate": lambda network: {"training": network.training}, "evaluate_every": 4}
    with pytest.raises(Cancelled), reporting(StopsAt(6)):
        train(Dropping(), batch, keep=tmp_path, **settings)
    done = train(Dropping(), batch, keep=tmp_path, **settings)
    assert done.evaluations == {step: {"training": 0.0} for step in (4, 8, 12)}


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_rate_rises_to_its_highest_and_falls_after(schedule: str) -> None:
    recipe = Recipe(20, 0.5, 0.0, 5, schedule, (0.9, 0.999), None, 0, False)  # type: ignore[arg-type]
    rates = [rate_at(step, recipe) for step in range(20)]
    assert rates[4] == max(rates) == 0.5
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert (rates[-1] < 0.1) == (schedule != "constant")


def test_wrong_settings_are_sentences() -> None:
    with pytest.raises(ModelError, match=r"no schedule 'cosin'; did you mean 'cosine'\?"):
        train(Dropping(), batch, steps=1, schedule="cosin", loss=loss)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="steps=0, every=200"):
        train(Dropping(), batch, steps=0, loss=loss)
    with pytest.raises(ModelError, match="the batches ended at step 2; there is one for each step"):
        train(Dropping(), [batch(0), batch(1)], steps=3, loss=loss)
    with pytest.raises(ModelError, match="the loss at step 0 is nan; .* Lower learning_rate"):
        train(Dropping(), batch, steps=2, loss=lambda network, given: loss(network, given) * float("nan"))
