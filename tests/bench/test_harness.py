"""The harness: ratios, intervals, records and the report say what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _repository_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def test_a_speed_and_a_cost_are_each_others_inverse() -> None:
    from bench.harness import compare

    seconds = [(1.0, 4.0), (2.0, 6.0), (1.0, 5.0)]
    speed = compare("w", "ours", "theirs", "speed", seconds, reach=3.5)
    cost = compare("w", "ours", "theirs", "cost", seconds, reach=0.2)

    assert speed.ratio == 4.0  # the median of 4, 3, 5
    assert cost.ratio == pytest.approx(0.25)
    assert (speed.met, cost.met) == (True, False)
    assert speed.low == 3.0 and speed.high == 5.0


def test_cells_divide_each_side_by_its_own_number() -> None:
    from bench.harness import compare

    row = compare("w", "ours", "theirs", "speed", [(10.0, 10.0)], cells=(100, 10), unit="cell")

    assert row.ratio == pytest.approx(10.0)
    assert row.seconds == [(0.1, 1.0)]


def test_a_fast_row_with_other_values_is_not_met() -> None:
    from bench.harness import compare

    row = compare("w", "ours", "t", "speed", [(1.0, 9.0)], reach=2.0, difference=1e-3, tolerance=1e-4)

    assert row.met is False and row.equal is False


def test_who_comes_first_changes_and_warm_rounds_are_dropped() -> None:
    from bench.harness import pairs_of, rounds
    from bench.sides import Answer

    called: list[str] = []

    def call(name: str) -> Answer:
        called.append(name)
        return Answer(float(len(called)), None, None)

    found = rounds({"ours": lambda: call("ours"), "theirs": lambda: call("theirs")}, 3, warm=1)

    assert called == ["theirs", "ours", "ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert pairs_of(found["ours"], found["theirs"]) == [(3.0, 4.0), (6.0, 5.0), (7.0, 8.0)]


def test_the_interval_narrows_with_more_pairs_and_holds_the_median() -> None:
    from bench.harness import interval

    generator = np.random.default_rng(0)
    few, many = generator.normal(2.0, 0.1, 10), generator.normal(2.0, 0.1, 200)
    low, high = interval(list(few))
    narrow = interval(list(many))

    assert low <= np.median(few) <= high
    assert narrow[1] - narrow[0] < high - low


def test_values_of_other_shapes_or_with_other_holes_are_refused() -> None:
    from bench.harness import largest_difference

    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        largest_difference(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="One side has values where the other has none"):
        largest_difference(np.array([1.0, np.nan]), np.array([1.0, 2.0]))
    assert largest_difference(np.array([1.0, np.nan]), np.array([1.5, np.nan])) == 0.5


def test_a_record_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    from bench.harness import write_json

    path = tmp_path / "records" / "one.json"
    write_json(path, {"figure": 1.5})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"figure": float("nan")})

    assert json.loads(path.read_text()) == {"figure": 1.5}


def test_the_report_shows_work_ratio_reach_and_verdict() -> None:
    from dataclasses import asdict

    from bench.harness import compare
    from bench.report import table

    rows = [
        compare(
            "grid",
            "sweep",
            "loop",
            "speed",
            [(0.002, 0.1)] * 3,
            reach=35.0,
            unit="cell",
            difference=2e-5,
            tolerance=1e-4,
        ),
        compare("idle", "run", "forward", "cost", [(0.11, 0.1)] * 3, reach=1.02),
    ]
    shown = table([{"rows": [{**asdict(row), "equal": row.equal} for row in rows]}]).splitlines()

    assert (
        shown[2] == "| grid | sweep | loop | 50.0 × faster [50, 50] | ≥ 35 × | yes | 2.0e-05 | 2 ms / 100 ms a cell |"
    )
    assert shown[3] == "| idle | run | forward | 1.100 × [1.1, 1.1] | ≤ 1.02 × | **no** |  | 110 ms / 100 ms |"


def test_a_side_that_fails_says_so_with_its_own_words(tmp_path: Path) -> None:
    from bench.sides import side

    with (
        pytest.raises(RuntimeError, match="The side 'plain' failed:"),
        side("plain", str(tmp_path), threads=1),
    ):
        pass


def test_a_side_that_dies_says_so_with_its_exit_status(tiny: Path) -> None:
    from bench.sides import side

    with side("plain", str(tiny), threads=1) as plain:
        plain.process.kill()
        with pytest.raises(RuntimeError, match=r"The side 'plain' ended \(exit status -9\) without an answer"):
            plain.ask("forward", ids=[1])


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A random two-layer model with a character tokenizer, saved in hub layout."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = {letter: index for index, letter in enumerate("?abcdefghijklmnopqrstuvwxyz ")}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?").save_pretrained(tmp_path)
    config = LlamaConfig(
        vocab_size=len(letters),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(tmp_path)
    yield tmp_path


def test_a_side_opens_works_and_brings_values_back(tiny: Path) -> None:
    from bench.sides import side

    with side("plain", str(tiny), threads=1) as plain:
        answer = plain.ask("forward", ids=[1, 2, 3], values=True)
        again = plain.ask("forward", ids=[1, 2, 3], values=True)
        with pytest.raises(RuntimeError, match="KeyError: 'nothing'"):
            plain.ask("nothing")
        still = plain.ask("lens", ids=[1, 2, 3, 4], values=True)

    assert plain.process.returncode == 0
    assert answer.seconds > 0
    assert (answer.values["logits"] == again.values["logits"]).all()
    assert still.values["top"].shape == (2, 4, 5)


def made(name: str, *, quick: bool = False, rows: list[dict[str, object]] | None = None) -> dict[str, object]:
    """A record as the harness keeps it."""
    return {
        "name": name,
        "date": "2026-01-01T00:00:00+00:00",
        "quick": quick,
        "threads": 2,
        "machine": {"processors": 2, "processor": "P", "python": "3.11", "load before": 0.1},
        "model": {"name": "M", "sha256": "0" * 64, "bytes": 1},
        "versions": {"cutaway": "0.1.0"},
        "rows": rows or [],
    }


def grown(tokens: int, seconds: float) -> dict[str, object]:
    from dataclasses import asdict

    from bench.harness import compare

    facts = {
        "tokens": tokens,
        "cells of the grid": 30 * tokens,
        "cells measured": 30 * tokens,
        "seconds of the grid": seconds,
        "MiB at the peak, beyond those before": 12.0,
    }
    row = compare("cell", "sweep", "forward", "speed", [(0.01, 0.1)], unit="cell", facts=facts)
    return {**asdict(row), "equal": row.equal}


def test_the_page_has_growth_its_power_and_the_conditions() -> None:
    from bench.report import page

    shown = page([made("growth", rows=[grown(16, 2.0), grown(32, 8.0), grown(64, 32.0)])])

    assert "| 64 | 1920 | 32 | 10 | 100 | 12 |" in shown
    assert "to the power 2.00" in shown  # twice the cells, four times the seconds
    assert "2 processors (P), load 0.1 before, 2 threads" in shown


def test_the_page_is_not_written_from_quick_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bench.harness import write_json

    from bench import report

    write_json(tmp_path / "growth.json", made("growth", quick=True, rows=[grown(16, 2.0)]))

    with pytest.raises(SystemExit):
        report.main(["--records", str(tmp_path), "--write"])
    assert "quick runs, which measure nothing" in capsys.readouterr().err


def test_prompts_of_a_length_are_a_pair_that_differs_where_it_says(tiny: Path) -> None:
    from bench.prompts import ids_of, single, text_of
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    with pytest.raises(ValueError, match="'ab' is 2 tokens, not one"):
        single(tokenizer, "ab")
    assert ids_of(tokenizer, "abc") == [1, 2, 3]
    with pytest.raises(ValueError, match="reads as other tokens"):
        text_of(tokenizer, [0, 1])


def test_rows_measured_anew_replace_their_own_and_say_so() -> None:
    from bench.harness import merged

    def row(work: str, ratio: float) -> dict[str, object]:
        return {"work": work, "ours": "o", "against": "a", "ratio": ratio, "facts": {"kept": 1}}

    kept = {"date": "then", "machine": {"load before": 0.1}, "rows": [row("first", 1.0), row("second", 2.0)]}
    fresh = {"date": "now", "machine": {"load before": 0.5}, "rows": [row("second", 3.0), row("third", 4.0)]}
    found = merged(kept, fresh)

    assert [each["ratio"] for each in found["rows"]] == [1.0, 3.0, 4.0]
    assert found["date"] == "then" and found["rows"][0]["facts"] == {"kept": 1}
    assert found["rows"][1]["facts"] == {"kept": 1, "measured anew": "now", "load before it": 0.5}


def test_rows_of_an_unknown_name_are_refused_and_leave_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench import harness, run

    def measure(bench: harness.Bench) -> tuple[list[harness.Row], list[harness.Side]]:
        assert not any([bench.wants("saliency"), bench.wants("memory")])
        return [], []

    monkeypatch.setattr("bench.attribution.measure", measure)
    monkeypatch.setattr(harness, "RECORDS", tmp_path)
    bench = harness.Bench("m", tmp_path, None, 1, False, None, lambda text: None, "salience")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"no rows named 'salience'; --only takes saliency, memory\.$"):
            run.run(bench, "attribution")
    assert not list(tmp_path.iterdir())
