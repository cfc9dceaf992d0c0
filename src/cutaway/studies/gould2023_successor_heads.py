"""Is there a head that counts one up? From Monday to Tuesday, from first to second, by its weights.

The paper finds, in models of 31 million to 12 billion weights, single heads whose OV circuit sends ordinal words of many
kinds to their successors [@gould2023]. Here all heads of a model are scanned on the classes of words that are single
tokens of its vocabulary; the head is chosen on half of the classes and tested on the other half.
Limits: words of several tokens are left out; the paper's later parts (features modulo ten, vector arithmetic) are not
tested.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cutaway.core.claim import Claim, Figure
from cutaway.core.result import Result
from cutaway.core.study import Findings, StudyRun, study
from cutaway.data.ordinals import single_tokens
from cutaway.data.tasks.ioi import ioi
from cutaway.methods.full_circuits import layers_with_heads
from cutaway.methods.intervene.successor_score import halves, scores_of_heads, successor_score, weighted
from cutaway.models.model import Model
from cutaway.studies.opening import opened, untrained


@study(
    paper="gould2023",
    item="P15",
    asks="Is there a head that counts one up: Monday to Tuesday, first to second?",
    uses=("successor_score", "ov_qk_analysis"),
    seconds={"tiny": 10, "small": 240},
    claims=(
        Claim(
            "exists",
            "There is a head that sends most ordinal words to their successors, in models of 31 million weights and up",
            where="successor heads across models",
            mark="ours",
            at_least=0.5,
            unit="share of words of held-out classes",
        ),
        Claim(
            "classes",
            "It does so for several kinds of words",
            mark="ours",
            at_least=4,
            unit="classes with half of the words or more",
        ),
        Claim(
            "stands_out",
            "The head stands out from the others (there about eight times the runner-up; here against the median head)",
            theirs="8",
            where="case study",
            at_least=3.0,
            unit="times the median head's score, at least one word",
        ),
        Claim(
            "not_backwards",
            "It counts up, not down",
            mark="ours",
            at_most=0.15,
            unit="share of words sent to the word before",
        ),
        Claim(
            "needed",
            "Prompts that count through a class need it",
            theirs="64 of 64 prompts",
            where="succession prompts",
            at_least=0.1,
            unit="logits lost without it, above the random heads' median",
        ),
        Claim(
            "untrained",
            "No head of an untrained network does it",
            mark="ours",
            at_most=0.2,
            unit="share of words of held-out classes",
        ),
    ),
)
def gould2023_successor_heads(run: StudyRun) -> Findings:
    """Scan all heads, choose one on half of the classes, and test it on the others."""
    task = ioi(n=2, seed=run.seed)
    model = opened(run, paper="EleutherAI/pythia-1.4b", texts=task)
    controls = run.size(tiny=5, small=20, paper=20)
    found = run.step("scores", lambda: successor_score(model, task, controls=controls, seed=run.seed))
    control = run.step("untrained", lambda: _untrained(run, model))
    return Findings(_figures(found, control), found, _DIFFERS)


_DIFFERS = (
    "The paper's case study is pythia-1.4b; at small scale this is SmolLM2-135M-Instruct, whose numbers are single digits, so "
    "that the classes are days, months, letters, digits, number words and ordinal words where they are single tokens. A word "
    "stands as the stream after layer 0 with attention switched off. The head is chosen and tested on different classes. No head "
    "of this model counts on by this measure: the best sends one word in fifteen to its successor, so that its being several "
    "times the median head (which sends none) and its not counting down say nothing. Words may need more of this model's "
    "thirty thin layers, and attention to themselves, before heads can read their place in the order: that is left out here."
)


def _untrained(run: StudyRun, model: Model) -> float:
    """The score on held-out classes of the head that is best on the others, in an untrained network."""
    other = untrained(model, run.seed)
    classes = single_tokens(model.tokenizer)
    _, up, _ = scores_of_heads(other, layers_with_heads(other), classes, "mlp_and_stream")
    chosen, tested = halves(classes, run.seed)
    return float(weighted(up, classes, tested)[int(np.argmax(weighted(up, classes, chosen)))])


def _figures(found: Result, control: float) -> dict[str, Figure]:
    metrics: dict[str, Any] = dict(found.metrics)
    best = str(metrics["best_head"])
    layer, head = map(int, best.split("."))
    data = found.data
    score = float(metrics["score"])
    names = [str(name) for name in data["best"].values]
    by_class = data["by_class"].values[names.index(best)] if best in names else np.zeros(data.sizes["class"])
    words = int(data["words"].sum())
    median = max(float(np.nanmedian(data["succession"].values)), 1 / words)
    check = found.checks[0]
    said = f"head {best}, tested on {metrics['classes_held_out']}"
    per_class = ", ".join(f"{name} {value:.2f}" for name, value in zip(data["class"].values, by_class, strict=True))
    return {
        "exists": Figure(
            float(metrics["score_on_held_out_classes"]),
            n=words,
            control=float(metrics["median_head"]),
            control_is="median head",
            note=said,
        ),
        "classes": Figure(int((by_class >= 0.5).sum()), n=len(by_class), note=per_class),
        "stands_out": Figure(score / median, n=words, note=f"{score:.3f} of all words"),
        "not_backwards": Figure(float(data["decrement"].sel(layer=layer, head=head)), n=words),
        "needed": Figure(
            check.measured - check.control,
            check.measured - check.interval[1],
            check.measured - check.interval[0],
            check.n,
            note=f"{check.measured:.3f} logits without it",
        ),
        "untrained": Figure(control),
    }
