"""Which score of a task has a gradient? Metrics that move in steps, or that stand still at the model itself, have none.

Rank and accuracy are constant almost everywhere, and the divergence from the unchanged prediction is flat where
nothing is changed. For them the logit difference is taken where the task has wrong answers, and the log-probability
of the answer where it has none.
"""

from __future__ import annotations

from cutaway.core.task import EncodedTask

SMOOTH = ("logit_difference", "probability_difference", "log_probability")


def smooth_metric(encoded: EncodedTask) -> tuple[str, tuple[str, ...]]:
    """The name of a metric with a gradient; and a note where it is not the task's own.

    Args:
        encoded: a task with answers.
    """
    name, paired = encoded.task.metric, any(encoded.wrong_ids)
    if not encoded.task.answers:
        return "log_probability", ()
    if name in SMOOTH:
        return name if paired or name == "log_probability" else "log_probability", ()
    taken = "logit_difference" if paired else "log_probability"
    return taken, (f"The metric {name} has no gradient that says anything: {taken} is explained instead.",)
