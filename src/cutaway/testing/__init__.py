"""For authors of methods, tasks and studies: tiny models, and the laws that each of them keeps.

    from cutaway.testing import check_method, check_study, check_task, tiny, tiny_task

    check_method("my_method")          # raises AssertionError with a sentence for each law that is broken
    result = my_method(tiny("gpt2"), tiny_task(), top=2)

`cutaway.testing.strategies` has hypothesis strategies (it needs hypothesis).
"""

from __future__ import annotations

from cutaway.testing.check_method import METHOD_LAWS, check_method
from cutaway.testing.check_study import STUDY_LAWS, check_study
from cutaway.testing.check_task import TASK_LAWS, check_task
from cutaway.testing.tiny import texts_of, tiny, tiny_folder, tiny_task, tiny_tokenizer

__all__ = [
    "METHOD_LAWS",
    "STUDY_LAWS",
    "TASK_LAWS",
    "check_method",
    "check_study",
    "check_task",
    "texts_of",
    "tiny",
    "tiny_folder",
    "tiny_task",
    "tiny_tokenizer",
]
