"""Can a chat model say which words made it decide? Its own account against occlusion and LIME.

A model judges film reviews, and is asked which of their words mattered: in free text, word by word or as a short list, and
by the probability that it names each word [@huang2023]. Orders of words from its accounts, from occlusion and from LIME
are held to the same measures of faithfulness, beside random orders and those that an untrained network names, and to each
other. Replies that cannot be read are counted as a claim of their own; nothing is put in their place. The sentences are
those of the Stanford Sentiment Treebank, whose place the environment variable CUTAWAY_SST says; at the scale `tiny` they are
written for the project.
Limits: a decision is the likelier of two answers, so that a model which would write neither has one too. LIME is the
method's regression over the words of the review alone, for the method itself takes words of the question out too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from cutaway.core.claim import Claim
from cutaway.core.study import Findings, StudyRun, study
from cutaway.core.task import Task
from cutaway.data.reviews import Review, reviews
from cutaway.models.model import Model
from cutaway.studies.huang2023_dialogue import (
    CLASSES,
    SO,
    asked_each,
    asked_first,
    asked_list,
    decisions,
    judged,
    named,
    written,
)
from cutaway.studies.huang2023_figures import figures_of, picture
from cutaway.studies.huang2023_orders import Asked, examined
from cutaway.studies.opening import opened, untrained

SENTENCES = 8  # of a step
TOKENS_EACH, TOKENS_LIST = 160, 32


@study(
    paper="huang2023",
    item="P33",
    asks="Is a model's own account of its answer as faithful as attribution?",
    uses=("occlusion", "lime"),
    seconds={"tiny": 10, "small": 300},
    claims=(
        Claim(
            "accuracy",
            "The model judges reviews rightly",
            theirs="92 %",
            where="accuracy, prediction alone",
            mark="secondary",
            at_least=0.7,
            unit="share of reviews",
        ),
        Claim(
            "explaining_first",
            "It judges worse when it has to say first which words matter",
            theirs="80 % (92 without)",
            where="accuracy, explaining first, top words",
            mark="secondary",
            at_least=0.02,
            unit="share of reviews, lost",
        ),
        Claim(
            "answers",
            "It answers in the form that it was asked for: a number for each word",
            mark="ours",
            at_least=0.9,
            unit="share of replies with a number for half of the words or more",
        ),
        Claim(
            "lists",
            "It answers in the form that it was asked for: the most important words alone",
            mark="ours",
            at_least=0.9,
            unit="share of replies that are a list with a word of the review",
        ),
        Claim(
            "occlusion_matters",
            "Words that occlusion ranks first matter more than random words",
            mark="ours",
            at_least=0.03,
            unit="comprehensiveness, above random orders",
        ),
        Claim(
            "lime_matters",
            "Words that LIME ranks first matter more than random words",
            mark="ours",
            at_least=0.03,
            unit="comprehensiveness, above random orders",
        ),
        Claim(
            "named_matters",
            "Words that the model names matter more than random words",
            mark="ours",
            at_least=0.03,
            unit="comprehensiveness, above random orders",
        ),
        Claim(
            "comprehensiveness",
            "Taken out, the words that the model names are missed as much as those of occlusion and LIME",
            theirs="0.27 (occlusion 0.20, LIME 0.27)",
            where="faithfulness, predicting first: comprehensiveness",
            mark="secondary",
            at_least=0.75,
            unit="of what occlusion and LIME gain over random orders",
        ),
        Claim(
            "sufficiency",
            "Left alone, the words that the model names carry the answer as well as those of occlusion and LIME",
            theirs="0.22 (occlusion 0.23, LIME 0.20; small is good)",
            where="faithfulness, predicting first: sufficiency",
            mark="secondary",
            at_least=0.75,
            unit="of what occlusion and LIME gain over random orders",
        ),
        Claim(
            "flip",
            "Without the first word that the model names the decision turns about as often as without theirs",
            theirs="0.07 (occlusion 0.14, LIME 0.10)",
            where="faithfulness, predicting first: DFMIT",
            mark="secondary",
            at_least=-0.1,
            at_most=0.1,
            unit="share of reviews, above the mean of occlusion and LIME",
        ),
        Claim(
            "fraction",
            "About as many of the words that the model names must go until the decision turns",
            theirs="0.56 (occlusion 0.64, LIME 0.56)",
            where="faithfulness, predicting first: DFFrac",
            mark="secondary",
            at_most=0.1,
            unit="share of the words, above the mean of occlusion and LIME",
        ),
        Claim(
            "rank_correlation",
            "The ranks of the words that the model names say little of what each costs",
            theirs="-0.01 (occlusion -0.02, LIME 0.02)",
            where="faithfulness, predicting first: RankDel",
            mark="secondary",
            at_least=-0.2,
            at_most=0.2,
            unit="rank correlation",
        ),
        Claim(
            "listed_words",
            "Words that the model lists matter more than as many random ones",
            theirs="0.11 (occlusion 0.11, LIME 0.18)",
            where="top words, predicting first: comprehensiveness",
            mark="secondary",
            at_least=0.03,
            unit="fall of f without them, above random words",
        ),
        Claim(
            "disagreement",
            "The model names other words than occlusion does",
            where="abstract: quite different by agreement measures",
            mark="read",
            at_most=0.6,
            unit="share of the first fifth of the words that both have",
        ),
        Claim(
            "few_levels",
            "Importances that the model writes have few levels",
            theirs="5.69 levels in 18.2 words",
            where="discussion, predicting first",
            mark="secondary",
            at_most=0.5,
            unit="levels for each word",
        ),
    ),
)
def huang2023_self_explanation(run: StudyRun) -> Findings:
    """Ask for decisions and accounts, take words out in the order of each account, and compare."""
    found = _material(run)
    texts = [review.text for review in found]
    model = opened(run, paper="HuggingFaceTB/SmolLM2-1.7B-Instruct", texts=_words_of(found))
    decided = run.step("decisions", lambda: decisions(model, [judged(text) for text in texts]).tolist())
    replies = run.step("replies", lambda: _replies(run, model, texts, decided))
    accounts = run.step("named words", lambda: _named(model, texts, decided))
    control = run.step("named words, untrained", lambda: _named(untrained(model, run.seed), texts, decided))
    samples = run.size(tiny=16, small=64, paper=200)
    seeds = [1000 * run.seed + number for number in range(len(texts))]
    said = zip(texts, decided, accounts, control, replies["each"], replies["list"], seeds, strict=True)
    asked = [Asked(*each) for each in said]
    rows: list[dict[str, Any]] = []
    for start in range(0, len(asked), size := run.size(tiny=2, small=SENTENCES, paper=SENTENCES)):
        some = asked[start : start + size]
        rows += run.step(f"reviews from {start + 1}", partial(_examined, model, some, samples))
    labels = [review.positive for review in found]
    figures = figures_of(labels, decided, replies["decided after"], rows, run.seed)
    return Findings(figures, picture(texts, replies, rows), _DIFFERS)


_DIFFERS = (
    "The paper asks ChatGPT, which gives its confidence as a number; here f is the probability of one answer against the "
    "other, read off SmolLM2-135M-Instruct at small scale (a larger model of the same family at paper scale), and 32 "
    "reviews of 5 to 25 words are taken from the development sentences of the treebank, not 100 of all lengths from its test "
    "sentences. Explaining and deciding are turns of a conversation, not parts of one reply; the decision is the same "
    "whether it is explained afterwards or not, so that faithfulness is that of predicting first alone. The account that is "
    "compared throughout is the probability of naming each word, because a small model may write nothing that can be read; "
    "what it writes is measured where it can be read, and counted where not. The paper has no random orders and no "
    "untrained network. Measures are averaged over tenths of the words, LIME has 64 texts a review where the paper has ten "
    "a word, and the paper's prompts are not used word for word: the questions about words come after one worked example. Of "
    "two wordings, with and without the example, the former was chosen by a look at replies to a few training sentences. The "
    "correlation of ranks follows the words being taken out one block after the other, which is our reading of the paper's "
    "measure. All criteria were fixed before any figure was seen. That a claim about replies needs 5 that can be read, and is "
    "not tested otherwise, was added after a run at small scale in which one of 32 replies listed a word of its review."
)


def _material(run: StudyRun) -> tuple[Review, ...]:
    name = run.size(tiny="made", small="sst", paper="sst")
    return reviews(name, run.size(tiny=4, small=32, paper=100), run.seed, shortest=5, longest=25)


def _words_of(found: Sequence[Review]) -> Task:
    """Texts whose words shall be single tokens of the tiny model: what is asked of it."""
    asked = [asked_each(each.text, 1.0) for each in found] + [asked_first(each.text) for each in found]
    lines = [f"{role}:\n{text}" for turns in asked for role, text in turns]
    return Task.from_prompts([*lines, *CLASSES, SO], name="what is asked")


# --- accounts ----------------------------------------------------------------------------------------------------


def _replies(run: StudyRun, model: Model, texts: Sequence[str], decided: Sequence[float]) -> dict[str, Any]:
    """What the model writes when it is asked about each word, for a list, and for a list first; and what it decides then."""
    each, few = (
        run.size(tiny=4, small=TOKENS_EACH, paper=TOKENS_EACH),
        run.size(tiny=4, small=TOKENS_LIST, paper=TOKENS_LIST),
    )
    first = [asked_first(text) for text in texts]
    before = written(model, first, few)
    after = [[*turns, ("assistant", reply), ("user", SO)] for turns, reply in zip(first, before, strict=True)]
    return {
        "each": written(model, [asked_each(text, value) for text, value in zip(texts, decided)], each),
        "list": written(model, [asked_list(text, value) for text, value in zip(texts, decided)], few),
        "first": before,
        "decided after": [float(decisions(model, [turns])[0]) for turns in after],
    }


def _named(model: Model, texts: Sequence[str], decided: Sequence[float]) -> list[list[float]]:
    return [named(model, text, value) for text, value in zip(texts, decided, strict=True)]


def _examined(model: Model, some: Sequence[Asked], samples: int) -> list[dict[str, Any]]:
    return [examined(model, asked, samples) for asked in some]
