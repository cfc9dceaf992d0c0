"""How is a study run by name, so that it can be interrupted, and what came out is kept?

    outcome = run("wang2022_ioi", scale="small")
    outcome.record.claims            # each with the paper's figure, ours, and the verdict

A run that fails or is stopped leaves its finished steps, and the same command goes on from there; a run that ends leaves
a record (at the scale `tiny` none: random weights test no claim) and forgets its steps.
Limits: one study in this process; models that a study trained stay in the cache.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cutaway.core import registry
from cutaway.core.claim import Claim, Scale
from cutaway.core.errors import ParameterError
from cutaway.core.provenance import versions
from cutaway.core.recipe import fingerprint
from cutaway.core.registry import Entry
from cutaway.core.study import Findings, Study, StudyRun
from cutaway.runtime import study_records
from cutaway.runtime.study_keeping import Kept, alone, keeping, kept_steps
from cutaway.runtime.study_recipe import opens_a_model, trainings_of
from cutaway.runtime.study_records import Record


@dataclass(frozen=True)
class Outcome:
    """What came of a run: the record, and the picture that belongs to it."""

    record: Record
    findings: Findings
    written: bool


@dataclass(frozen=True)
class Prepared:
    """A study with how it will run: everything but the work.

    Attributes:
        before: the steps that an interrupted run left.
        model: that was asked for in place of the scale's own.
    """

    study: Study
    entry: Entry
    scale: Scale
    seed: int
    kept: Kept
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""

    @property
    def asked(self) -> StudyRun:
        """What the study is called with."""
        return StudyRun(self.scale, self.seed, self.kept, self.options, self.model)

    @property
    def command(self) -> str:
        """What runs it like this."""
        options = "".join(f" --{key} {value}" for key, value in self.options.items())
        seed = f" --seed {self.seed}" if self.seed else ""
        model = f" --model {shlex.quote(self.model)}" if self.model else ""
        return f"cutaway study run {self.entry.name} --scale {self.scale}{model}{seed}{options}"

    @property
    def before(self) -> list[str]:
        """Names of the steps that an interrupted run left."""
        return kept_steps(self.kept)


def study_named(name: str) -> Study:
    """The study `name`, imported."""
    found: Study = registry.get("study", name)
    return found


def prepare(
    name: str,
    *,
    scale: Scale = "small",
    seed: int = 0,
    model: str = "",
    fresh: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Prepared:
    """Check all that can be checked before the work begins.

    Args:
        name: of the study.
        scale: `tiny`, `small` or `paper`.
        seed: draws everything that is drawn.
        model: measured in place of the scale's own.
        fresh: forget the steps of an interrupted run.
        options: how models are opened: device, dtype.

    Raises:
        MethodError: there is no such study.
        ParameterError: there is no such scale, or the study opens no model that could be another.
    """
    entry = registry.find("study", name)
    StudyRun(scale=scale, seed=seed, model=model)
    if model and not opens_a_model(entry.path):
        raise ParameterError(
            f"{entry.name} was given the model {model!r};",
            "it measures a model that it trains, or one of a kind of its own.",
            f"Write cutaway study run {entry.name}.",
        )
    given = {key: value for key, value in (options or {}).items() if value is not None}
    kept = keeping(entry.name, entry.path, scale, seed, {**given, **({"model": model} if model else {})})
    if fresh:
        kept.forget()
    return Prepared(study_named(name), entry, scale, seed, kept, given, model)


def run(name: str, **choices: Any) -> Outcome:
    """Run a study by name; see `prepare` for the choices."""
    return carry_out(prepare(name, **choices))


def carry_out(prepared: Prepared, *, record: bool = True) -> Outcome:
    """Run, keep the record, and forget the steps.

    Args:
        prepared: what to run.
        record: whether a run at `small` or `paper` scale is recorded.

    Raises:
        StoreError: another process runs the same.
    """
    kept = prepared.kept
    with alone(kept):
        clock = time.perf_counter()
        findings = prepared.study(prepared.asked)
        seconds = time.perf_counter() - clock + sum(step["seconds"] for step in kept.did if step["kept"])
        made = _record(prepared, prepared.study.judged(findings, prepared.scale), findings, seconds)
        wanted = record and prepared.scale != "tiny"
        if wanted:
            made = study_records.write(made, findings.result)
        kept.forget()
    return Outcome(made, findings, wanted)


def train(prepared: Prepared) -> list[dict[str, Any]]:
    """Train the models of a study that are not in the cache yet, and nothing else.

    Returns:
        Name and seconds of each, and whether it was kept from before.

    Raises:
        StoreError: another process runs the same study.
    """
    kept = prepared.kept
    with alone(kept):
        asked = prepared.asked
        module = sys.modules[prepared.study.function.__module__]
        for name, function in trainings_of(prepared.entry.path).items():
            asked.trained(name, getattr(module, function))
    return kept.did


def _record(prepared: Prepared, claims: tuple[Claim, ...], findings: Findings, seconds: float) -> Record:
    kept = prepared.kept
    return Record(
        study=prepared.entry.name,
        scale=prepared.scale,
        claims=claims,
        differs=findings.differs,
        seed=prepared.seed,
        versions=dict(versions()),
        device=_device(kept),
        models=tuple(kept.models),
        seconds=round(seconds, 1),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        code=fingerprint(prepared.entry.path)[:16],
        steps=tuple(kept.did),
        picture={"id": findings.result.id, "file": ""},
        command=prepared.command,
        model=prepared.model,
    )


def _device(kept: Kept) -> str:
    """Where the models were, and with how many threads where that was a processor."""
    import torch

    devices = sorted({str(model["device"]) for model in kept.models}) or ["cpu"]
    names = [
        f"cpu, {torch.get_num_threads()} threads" if device == "cpu" else _called(device, torch) for device in devices
    ]
    return "; ".join(names)


def _called(device: str, torch: Any) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device
