"""An explanation as JSON values: every number that the report shows, and nothing that is not measured."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from cutaway.core.result import Check, Result

if TYPE_CHECKING:
    from cutaway.apps.explanation.explanation import Explanation

LARGEST = 20_000


def of(explanation: Explanation) -> dict[str, Any]:
    """The whole explanation."""
    q = explanation.question
    probabilities = q.logits.softmax(-1)
    return {
        "prompt": q.prompt,
        "contrast": q.contrast or None,
        "tokens": list(q.tokens),
        "answer": {"token": q.answer, "id": q.answer_id, "probability": float(probabilities[q.answer_id])},
        "held_against": {"token": q.wrong, "id": q.wrong_id, "probability": float(probabilities[q.wrong_id])},
        "logit_difference": float(q.logits[q.answer_id] - q.logits[q.wrong_id]),
        "summary": list(explanation.summary),
        "sections": [
            {"name": s.name, "title": s.title, "says": list(s.says), **_result(s.result)} for s in explanation.sections
        ],
        "notes": list(q.notes),
        "commands": list(explanation.commands),
        "provenance": dict(explanation.provenance),
    }


def text(explanation: Explanation) -> str:
    """The whole explanation as a JSON document."""
    return json.dumps(of(explanation), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _result(result: Result) -> dict[str, Any]:
    return {
        "metrics": {name: _plain(value) for name, value in result.metrics.items()},
        "checks": [_check(check) for check in result.checks],
        "notes": list(result.notes),
        "data": {
            str(name): {"dims": list(array.dims), "values": _plain(array.values.tolist())}
            for name, array in {**result.data.coords, **result.data.data_vars}.items()
            if array.size <= LARGEST
        },
    }


def _check(check: Check) -> dict[str, Any]:
    return {
        "claim": check.claim,
        "how": check.how,
        "measured": _plain(check.measured),
        "control": _plain(check.control),
        "interval": _plain(list(check.interval)),
        "n": check.n,
        "passed": check.passed,
        "unit": check.unit,
    }


def _plain(value: Any) -> Any:
    """Numbers that JSON has: what is not finite becomes null."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
