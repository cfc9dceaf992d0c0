"""What the strategies draw is what it says, and the laws it is for hold."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings

from cutaway.core.result import Result
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.testing import strategies, texts_of, tiny_tokenizer

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(strategies.sites(patterns=True))
def test_a_site_prints_what_it_parses(site: Site) -> None:
    assert Site.parse(str(site)) == site


@quick
@given(strategies.tasks(contrasts=True))
def test_a_drawn_task_can_be_encoded_whole(task: Task) -> None:
    encoded = task.encode(tiny_tokenizer(texts_of(task), start=True))
    assert len(encoded) == len(task)
    assert all(len(a) == len(b) for a, b in zip(encoded.ids, encoded.contrast_ids))


@quick
@given(strategies.results())
def test_a_drawn_result_survives_a_file(result: Result) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = result.save(Path(folder) / "r.nc")
        assert Result.load(path).id == result.id


@quick
@given(strategies.prompts())
def test_a_drawn_prompt_is_a_text(prompt: str) -> None:
    assert Task.from_prompts(prompt).prompts == (prompt,)
