"""What is to be written into a model? A new answer for a subject, with questions that must and must not change.

The form is that of CounterFact [@meng2022]: a prompt with its subject, the new answer and the true one, paraphrases that
should give the new answer too, prompts of neighbours that should keep the true one, beginnings of a text about the
subject, and texts about things of which the new answer is true.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cutaway.core.errors import TaskError
from cutaway.core.task import Task

NO_SUBJECT = "No subject is named: the edit is placed at the last token of the prompt."


@dataclass(frozen=True)
class EditRequest:
    """One fact to be written.

    Attributes:
        before, subject, after: the prompt is these three after one another.
        target: the new answer, as the text goes on.
        true: the answer that the model should have given; empty where it is not known.
        paraphrases: whole prompts that ask the same.
        neighbours: whole prompts about other subjects, with the answer that each should keep.
        beginnings: of texts about the subject.
        references: texts about things of which the new answer is true.
        relation: what kind of fact it is.
    """

    before: str
    subject: str
    after: str
    target: str
    true: str = ""
    paraphrases: tuple[str, ...] = ()
    neighbours: tuple[tuple[str, str], ...] = ()
    beginnings: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    relation: str = ""

    @property
    def prompt(self) -> str:
        """The whole prompt."""
        return self.before + self.subject + self.after

    @property
    def span(self) -> tuple[int, int]:
        """The characters of the subject in the prompt."""
        return len(self.before), len(self.before) + len(self.subject)

    @property
    def says(self) -> str:
        """The fact in a line."""
        return f"{self.prompt}{self.target}"

    def behind(self, prefix: str) -> EditRequest:
        """The same with text in front of the prompt."""
        return replace(self, before=prefix + self.before)


def requests_of(task: Task, subject: str = "") -> tuple[tuple[EditRequest, ...], tuple[str, ...]]:
    """The facts that a task asks for: its answers are the new ones, its wrong answers the true ones.

    Args:
        task: has answers. The subject is its position `subject`, or what `subject` says.
        subject: the words of the subject, which stand in every prompt, or take the place of `{}` there.

    Returns:
        The requests, and what a reader must know.

    Raises:
        TaskError: a prompt without the subject.
    """
    found = tuple(_request(task, index, subject) for index in range(len(task)))
    return found, () if subject or "subject" in task.positions else (NO_SUBJECT,)


def spaced(prompt: str, answer: str) -> str:
    """An answer with the space that parts it from its prompt.

    >>> spaced("The capital of France is", "Rome")
    ' Rome'
    """
    return answer if answer[:1].isspace() or prompt[-1:].isspace() else f" {answer}"


def _request(task: Task, index: int, subject: str) -> EditRequest:
    prompt = task.prompts[index]
    target = task.answers[index][0]
    true = task.wrong[index][0] if task.wrong else ""
    if subject:
        prompt = prompt.replace("{}", subject, 1)
        start = prompt.find(subject)
        if start < 0:
            raise TaskError(
                f"the subject {subject!r} is not in prompt {index} ({prompt!r});",
                "it is words of the prompt, or takes the place of {} there.",
                'Write for example -p "The capital of {} is" subject=France.',
            )
        span = (start, start + len(subject))
    elif "subject" in task.positions:
        span = task.positions["subject"][index]
    else:
        span = (0, len(prompt))
    start, end = span
    relation = task.template[index] if task.template else ""
    return EditRequest(prompt[:start], prompt[start:end], prompt[end:], target, true, relation=relation)
