"""How does a model spell what it has never seen in letters? Spelling trees, scores, and letters in embeddings.

The "spelling miracle" [@watkins2023]: a model that sees tokens and no letters spells many of them. Tokens of the vocabulary are
spelled after one worked example, the tree of one token is drawn, and linear probes look for the letters in the
embeddings, as was done for GPT-J [@kaushal2022].
Limits: the posts have pictures and sorts of mistakes rather than figures, so that most criteria here are our own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cutaway.core.claim import Claim, Figure
from cutaway.core.result import Result
from cutaway.core.study import Findings, StudyRun, study
from cutaway.core.task import Task
from cutaway.methods.bootstrap import mean_interval
from cutaway.methods.observe.spelling import spelling
from cutaway.methods.probe.letter_probe import letter_probe
from cutaway.studies.opening import opened

TOKEN = " petertodd"


@study(
    paper="watkins2023",
    item="T7",
    asks="How does a model spell tokens whose letters it never sees?",
    uses=("spelling", "letter_probe"),
    seconds={"tiny": 8, "small": 240},
    claims=(
        Claim(
            "spells",
            "The model spells tokens although it sees no letters",
            mark="ours",
            at_least=0.2,
            unit="share of letters before the first wrong one, above tokens dealt out at random",
        ),
        Claim(
            "beginnings",
            "Beginnings are spelled better than middles",
            where="sorts of misspellings: beginning and end",
            mark="memory",
            at_least=0.1,
            unit="share of tokens, first letter above the middle one",
        ),
        Claim(
            "ends",
            "Ends are spelled better than middles",
            where="sorts of misspellings: beginning and end",
            mark="memory",
            at_least=0.1,
            unit="share of tokens, last letter above the middle one",
        ),
        Claim(
            "headless",
            "Tokens that begin no word are spelled worse",
            mark="ours",
            at_least=0.05,
            unit="score of tokens with a space before them, above those without",
        ),
        Claim(
            "long_words",
            "Long tokens are spelled worse than short ones",
            mark="ours",
            at_least=0.05,
            unit="score of tokens of 3 to 5 letters, above longer ones",
        ),
        Claim(
            "first_letter_probe",
            "A linear probe reads the first letter off the embedding",
            where="linear probes for GPT-J",
            mark="ours",
            at_least=0.5,
            unit="share of tokens",
        ),
        Claim(
            "later_letters_probe",
            "Later letters are harder to read off",
            where="linear probes for GPT-J",
            mark="memory",
            at_least=0.05,
            unit="share of tokens, first letter above the third",
        ),
    ),
)
def watkins2023_spellgpt(run: StudyRun) -> Findings:
    """Spell tokens, draw a tree, and look for letters in the embeddings."""
    task = Task.from_prompts([f"The string{TOKEN}"], name="the token of the tree")
    model = opened(run, paper="EleutherAI/gpt-j-6b", texts=task)
    spelled = run.step(
        "spelling",
        lambda: spelling(
            model,
            task,
            token=TOKEN,
            tokens=run.size(tiny=8, small=200, paper=500),
            depth=run.size(tiny=2, small=8, paper=10),
            longest=10,
            controls=run.size(tiny=20, small=200, paper=200),
            seed=run.seed,
        ),
    )
    probe = run.step(
        "probe",
        lambda: letter_probe(
            model,
            task,
            tokens=run.size(tiny=60, small=6000, paper=20000),
            controls=run.size(tiny=0, small=5, paper=5),
            seed=run.seed,
        ),
    )
    return Findings({**_spelling(spelled), **_probe(probe)}, spelled, _DIFFERS)


_DIFFERS = (
    "The posts are about GPT-3 (davinci-instruct-beta), which is no longer served; at small scale this is "
    "SmolLM2-135M-Instruct with 200 tokens of 3 to 10 letters, spelled greedily after one worked example. Probabilities of the "
    "tree are exact, where the posts have the hundred most probable tokens. The probes are linear and trained on 80 % of "
    "6,000 tokens, the spellings of one word together; those of the posts were trained on GPT-J's embeddings."
)


# --- figures -----------------------------------------------------------------------------------------------------


def _spelling(found: Result) -> dict[str, Figure]:
    data = found.data
    words = [str(token).strip().upper() for token in data["token"].values]
    answers = [str(answer).replace("-", "").replace(" ", "").upper() for answer in data["answer"].values]
    scores, headless = data["score"].values, data["headless"].values.astype(bool)
    short = np.array([len(word) <= 5 for word in words])
    mean, low, high = mean_interval(scores, 0)
    check = found.checks[0]
    figures = {
        "spells": Figure(
            mean - check.control,
            low - check.control,
            high - check.control,
            len(scores),
            0.0,
            "the same answers scored against other tokens",
            f"Mean score {mean:.2f}; {float((scores == 1).mean()):.1%} spelled rightly.",
        )
    }
    first, middle, last = (letters_right(answers, words, place) for place in ("first", "middle", "last"))
    if len(first):
        figures["beginnings"] = _difference(first, middle, f"First {first.mean():.1%}, middle {middle.mean():.1%}.")
        figures["ends"] = _difference(last, middle, f"Last {last.mean():.1%}, middle {middle.mean():.1%}.")
    for key, group in (("headless", ~headless), ("long_words", short)):
        if group.any() and not group.all():
            one, other = scores[group].mean(), scores[~group].mean()
            said = f"{one:.2f} of {int(group.sum())} against {other:.2f} of {int((~group).sum())}."
            figures[key] = Figure(float(one - other), n=len(scores), note=said)
    return figures


def letters_right(answers: Sequence[str], words: Sequence[str], place: str) -> np.ndarray:
    """Whether the first, the middle or the last letter is right, of each answer to a word of three letters or more."""
    found = []
    for answer, word in zip(answers, words):
        if len(word) >= 3:
            said = {"first": answer[:1], "middle": answer[len(word) // 2 :][:1], "last": answer[-1:]}[place]
            wanted = {"first": word[0], "middle": word[len(word) // 2], "last": word[-1]}[place]
            found.append(said == wanted)
    return np.array(found, dtype=float)


def _difference(one: np.ndarray, other: np.ndarray, note: str) -> Figure:
    mean, low, high = mean_interval(one - other, 0)
    return Figure(mean, low, high, len(one), note=note)


def _probe(found: Result) -> dict[str, Figure]:
    accuracy = found.data["accuracy"]
    figures = {}
    for key, letter, less in (("first_letter_probe", "first", ""), ("later_letters_probe", "first", "third")):
        if {letter, less} - {""} <= set(map(str, accuracy["letter"].values)):
            row = found.data.sel(letter=letter)
            control = float(row["accuracy"].sel(by="random vectors"))
            value, low, high = (float(row[each].sel(by="embeddings")) for each in ("accuracy", "low", "high"))
            taken = float(accuracy.sel(letter=less, by="embeddings")) if less else 0.0
            said = f"Letters at random {float(row['accuracy'].sel(by='letters at random')):.1%}." if not less else ""
            figures[key] = Figure(
                value - taken,
                low - taken,
                high - taken,
                int(row["count"]),
                None if less else control,
                "" if less else "random vectors of the same covariance",
                said,
            )
    return figures
