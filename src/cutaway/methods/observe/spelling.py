"""How does a model spell its own tokens? A tree of exact probabilities, and a test of many tokens.

A model that never sees letters is asked to spell a token with hyphens, after one worked example or more [@watkins2023]. The tree
starts with the letters given (`starters`); at each node stand the probabilities of the letters A to Z as the next token,
capitals and small ones added, and a letter becomes a node while the product along its branch is above `cutoff`. The whole
distribution is read, for all nodes of one depth in one run, so that nothing is sampled. Beside a node: the mass that went to no
single letter (`elsewhere`), and the probability that no hyphen follows it, where the spelling may end (`ends`).
The test spells tokens greedily: the score is the share of letters before the first wrong one. The check compares with the
score of each answer against other tokens' spellings.
Limits: the hyphen is put in, so that a branch is what the model would say if it went on spelling. Letters written together
("TR") count as elsewhere. A small model may copy the example. Another wording may give another spelling.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
import xarray as xr
from pydantic import AfterValidator, Field

from cutaway.core import view as views
from cutaway.core.errors import TaskError
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.task import Task
from cutaway.core.tokens import plain_ids, prompt_ids
from cutaway.methods.alphabet import LETTERS, WordToken, drawn_tokens, letter_ids, word_vocabulary
from cutaway.methods.bootstrap import mean_interval
from cutaway.methods.control import compared, enough, unchecked
from cutaway.methods.labels import described
from cutaway.models.model import Model

EXAMPLES = ((" table", "T-A-B-L-E"), (" river", "R-I-V-E-R"), (" cup", "C-U-P"), (" window", "W-I-N-D-O-W"))
QUESTION = 'Spell the string "{}" in capital letters, separated by hyphens.\n'
NODES = 400  # of a tree
AT_ONCE = 16  # prompts in a run


@dataclass(frozen=True)
class Node:
    """A letter of a spelling.

    Attributes:
        text: the letters from the first one on.
        weight: probability of its branch after the starters.
        depth: letters after the starters; 0 for the root.
        elsewhere: the mass at its children's place that went to no single letter.
        ends: the probability that no hyphen follows it.
        children: the letters that go on from here.
    """

    text: str
    weight: float = 1.0
    depth: int = 0
    elsewhere: float = 0.0
    ends: float = 0.0
    children: tuple[Node, ...] = ()

    @property
    def normalised(self) -> float:
        """The geometric mean of the probabilities along the branch."""
        return float(self.weight ** (1 / self.depth)) if self.depth else 1.0

    def all(self) -> list[Node]:
        """This node and all below it."""
        return [self, *(node for child in self.children for node in child.all())]


NextLetters = Callable[[Sequence[str]], tuple[Any, Any]]


@method(
    asks="How does the model spell its own tokens?",
    cites="watkins2023",
    needs=("causal", "unembedding"),
)
def spelling(
    model: Model,
    task: Task,
    *,
    token: Annotated[
        str, Field(description="what the tree spells; the last word of the first prompt where it is empty")
    ] = "",
    starters: Annotated[str, Field(description="letters that the spelling begins with, such as I or IN")] = "",
    cutoff: Annotated[float, Field(gt=0, lt=1, description="branches that are less probable are not followed")] = 0.01,
    depth: Annotated[int, Field(ge=1, le=20, description="letters of a branch at most")] = 6,
    examples: Annotated[int, Field(ge=0, le=4, description="spellings that are shown before the question")] = 1,
    tokens: Annotated[int, Field(ge=2, description="tokens of the vocabulary that are spelled in the test")] = 20,
    longest: Annotated[int, Field(ge=1, description="letters of these tokens at most")] = 8,
    controls: Annotated[
        int,
        Field(ge=0, description="times that answers are compared with other tokens, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 100,
    seed: Annotated[int, Field(ge=0, description="draws the tokens")] = 0,
) -> Result:
    """The tree of a token's spellings, and the score of many tokens."""
    asked = token or _last_word(task.prompts[0])
    tree = spelling_tree(next_letters(model, asked, examples), letters_of(starters), cutoff, depth)
    chosen = [each for each in word_vocabulary(model, 3) if len(each.letters) <= longest]
    chosen = drawn_tokens(chosen or word_vocabulary(model), tokens, seed)
    answers = spelled(model, chosen, examples)
    scores = np.array([score(answer, each.letters) for answer, each in zip(answers, chosen)])
    data = _data(tree, chosen, answers, scores, seed)
    mean, low, high = mean_interval(scores, seed)
    checks = (_check(scores, answers, chosen, controls, seed),) if controls and len(chosen) > 1 else ()
    return Result(
        data=data,
        metrics={
            "mean_score": mean,
            "mean_score_low": low,
            "mean_score_high": high,
            "spelled_rightly": float((scores == 1).mean()),
            "nodes": len(tree.all()) - 1,
            "best_branch": _best(tree).text or "none",
        },
        views=_views(asked),
        checks=checks,
        notes=(*_said(tree), *unchecked(controls)),
    )


# --- the tree ----------------------------------------------------------------------------------------------------


def spelling_tree(ask: NextLetters, starters: str, cutoff: float, depth: int, most: int = NODES) -> Node:
    """The tree of spellings.

    Args:
        ask: for texts (letters so far) the probabilities of each letter next [text, letter], and that none follows [text].
        starters: the letters of the root.
        cutoff: a branch is kept while its weight is above this.
        depth: letters after the starters at most.
        most: nodes at most; the least probable ones are left out.
    """
    root = Node(starters)
    levels = [[root]]
    parents: list[list[int]] = [[-1]]
    counted = 1
    for level in range(depth + 1):
        if not levels[-1]:
            break
        letters, ends = ask([node.text for node in levels[-1]])
        grown: list[tuple[Node, int]] = []
        for place, node in enumerate(levels[-1]):
            share = [float(p) for p in letters[place]]
            levels[-1][place] = replace(node, elsewhere=max(0.0, 1 - sum(share)), ends=float(ends[place]))
            grown += [
                (Node(node.text + letter, p * node.weight, level + 1), place)
                for letter, p in zip(LETTERS, share)
                if p * node.weight > cutoff and level < depth
            ]
        kept = sorted(sorted(grown, key=lambda pair: -pair[0].weight)[: most - counted], key=lambda pair: pair[0].text)
        counted += len(kept)
        levels.append([node for node, _ in kept])
        parents.append([parent for _, parent in kept])
    return _joined(levels, parents)


def _joined(levels: list[list[Node]], parents: list[list[int]]) -> Node:
    for level in range(len(levels) - 1, 0, -1):
        for place, node in enumerate(levels[level - 1]):
            below = tuple(child for child, parent in zip(levels[level], parents[level]) if parent == place)
            levels[level - 1][place] = replace(node, children=below)
    return levels[0][0]


def next_letters(model: Model, token: str, examples: int = 1) -> NextLetters:
    """What a model says next when it spells a token: exact, with hyphens put between the letters."""
    start = list(prompt_ids(model.tokenizer, _prompt(token, examples)))
    letters = letter_ids(model)
    (hyphen,) = _one_token(model, "-")
    last = model.anatomy.n_layers - 1
    columns = torch.tensor([[ids[0], ids[-1]] for ids in letters.values()])
    single = columns[:, 0] == columns[:, 1]

    @torch.no_grad()
    def ask(texts: Sequence[str]) -> tuple[Any, Any]:
        rows = [start + [i for letter in text for i in (letters[letter][0], hyphen)] for text in texts]
        shares, ends = [], []
        for first in range(0, len(rows), AT_ONCE):
            some = rows[first : first + AT_ONCE]
            run = model.run(some, read=f"resid_post[{last}]@-1, resid_post[{last}]@-2", logits="none")
            said = model.unembed(run[f"resid_post[{last}]@-1"]).float().softmax(dim=-1).cpu()
            each = said[:, columns]
            shares.append(torch.where(single, each[..., 0], each.sum(dim=-1)))
            before = model.unembed(run[f"resid_post[{last}]@-2"]).float().softmax(dim=-1).cpu()
            ends.append(1 - before[:, hyphen])
        ended = torch.cat(ends)
        return torch.cat(shares).double().numpy(), np.where([bool(text) for text in texts], ended, 0.0)

    return ask


def _one_token(model: Model, text: str) -> list[int]:
    ids = plain_ids(model.tokenizer, [text])[0]
    if len(ids) != 1:
        raise TaskError(f"{text!r} is {len(ids)} tokens of {model.name};", "letters are joined by one token.")
    return ids


def _prompt(token: str, examples: int) -> str:
    shown = [f"{QUESTION.format(text)}{letters}\n\n" for text, letters in EXAMPLES[:examples]]
    return "".join(shown) + QUESTION.format(token)


def letters_of(starters: str) -> str:
    """The letters of `I-N-`, in capitals.

    Raises:
        TaskError: something else than letters and hyphens.
    """
    letters = starters.replace("-", "").strip().upper()
    if any(letter not in LETTERS for letter in letters):
        raise TaskError(
            f"the starters are {starters!r};", "they are letters A to Z, hyphens between or not.", "Write starters=I-N."
        )
    return letters


def _last_word(text: str) -> str:
    """The last word of letters, with the space before it; ` table` where there is none."""
    found = re.findall(r" ?[A-Za-z]+", text)
    return found[-1] if found else " table"


def _best(tree: Node) -> Node:
    """The most probable branch, down to where it is most likely to end."""
    node = tree
    while node.children and (not node.depth or node.ends < 0.5):
        node = max(node.children, key=lambda child: child.weight)
    return node


def tree_record(node: Node) -> dict[str, Any]:
    """The tree as plain JSON values."""
    plain = {key: value for key, value in vars(node).items() if key != "children"}
    return {**plain, "children": [tree_record(child) for child in node.children]}


def tree_from_record(record: dict[str, Any]) -> Node:
    """The tree that `tree_record` wrote down."""
    return Node(**{**record, "children": tuple(tree_from_record(child) for child in record["children"])})


# --- the test ----------------------------------------------------------------------------------------------------


def spelled(model: Model, chosen: Sequence[WordToken], examples: int = 1) -> list[str]:
    """What the model writes, greedily, when it is asked to spell each token."""
    answers = [""] * len(chosen)
    order = sorted(range(len(chosen)), key=lambda place: len(chosen[place].letters))
    for first in track(range(0, len(order), AT_ONCE), "spelling"):
        some = order[first : first + AT_ONCE]
        length = 2 * max(len(chosen[place].letters) for place in some) + 2
        said = model.generate([_prompt(chosen[place].text, examples) for place in some], max_new_tokens=length)
        for place, text in zip(some, said.texts):
            answers[place] = text.strip().splitlines()[0] if text.strip() else ""
    return answers


def score(answer: str, letters: str) -> float:
    """The share of letters before the first wrong one; 1 for the whole spelling and nothing more.

    >>> score("T-A-B-L-E", "TABLE"), score("t a b", "TABLE"), score("X", "TABLE")
    (1.0, 0.6, 0.0)
    """
    said = re.sub(r"[\s\-–—‐‑.,]+", "", answer).upper()
    same = next((place for place, (a, b) in enumerate(zip(said, letters)) if a != b), min(len(said), len(letters)))
    longer = same == len(letters) and len(said) > len(letters)
    return same / (len(letters) + longer)


def _check(scores: Any, answers: Sequence[str], chosen: Sequence[WordToken], controls: int, seed: int) -> Check:
    random = np.random.default_rng(seed)
    others = []
    for _ in range(controls):
        order = random.permutation(len(chosen))
        others.append(float(np.mean([score(answer, chosen[int(o)].letters) for answer, o in zip(answers, order)])))
    return compared(
        float(scores.mean()),
        others,
        claim="The model knows something of how its tokens are spelled.",
        how="Score the answers against their own tokens; the control deals the tokens out to the answers at random.",
        unit="share of letters before the first wrong one",
    )


# --- the result --------------------------------------------------------------------------------------------------


def _data(tree: Node, chosen: Sequence[WordToken], answers: Sequence[str], scores: Any, seed: int) -> xr.Dataset:
    nodes = tree.all()
    edges = [(node, child) for node in nodes for child in node.children] or [(tree, replace(tree, text="(none)"))]
    lengths = np.array([len(token.letters) for token in chosen])
    each = sorted(set(lengths.tolist()))
    by_length = np.array([mean_interval(scores[lengths == length], seed) for length in each])
    name = {id(node): _name(node) for node in nodes}
    below = [child for _, child in edges]
    data = xr.Dataset(
        {
            "source": (("edge",), np.array([name[id(node)] for node, _ in edges], dtype=object)),
            "target": (("edge",), np.array([name.get(id(child), child.text) for child in below], dtype=object)),
            "weight": (("edge",), np.array([child.weight for child in below])),
            "normalised": (("edge",), np.array([child.normalised for child in below])),
            "ends": (("edge",), np.array([child.ends for child in below])),
            "elsewhere": (("edge",), np.array([child.elsewhere for child in below])),
            "answer": (("token",), np.array(answers, dtype=object)),
            "score": (("token",), scores),
            "headless": (("token",), np.array([token.headless for token in chosen])),
            "mean_score": (("length",), by_length[:, 0]),
            "low": (("length",), by_length[:, 1]),
            "high": (("length",), by_length[:, 2]),
        },
        coords={"token": np.array([token.text for token in chosen], dtype=object), "length": each},
    )
    return described(
        data,
        weight="probability of the branch",
        normalised="its geometric mean for each letter",
        ends="probability that the spelling ends here",
        elsewhere="mass that went to no letter",
        score="share of letters before the first wrong one",
        mean_score="mean score",
        length=("length of the token", "letters"),
    )


def _name(node: Node) -> str:
    return "-".join(node.text) or "(start)"


def _said(tree: Node) -> tuple[str, ...]:
    found = [f"At the root {tree.elsewhere:.1%} of the probability goes to no single letter."]
    if len(tree.all()) >= NODES:
        found.append(f"The tree was stopped at {NODES} nodes; a larger cutoff gives a smaller tree.")
    return tuple(found)


def _views(token: str) -> tuple[views.View, ...]:
    return (
        views.graph(source="source", target="target", weight="weight", title=f"How the model spells “{token}”"),
        views.bars(
            value="mean_score", label="length", low="low", high="high", title="Score by the length of the token"
        ),
        views.table(columns=["token", "answer", "score", "headless"], title="Tokens that were spelled"),
        views.table(columns=["target", "weight", "normalised", "ends", "elsewhere"], title="The branches of the tree"),
    )
