"""What do the heads of an encoder look at? Positions, separators, grammar and coreference.

The analysis of BERT's attention [@clark2019]: where heads rest, which of them are alike, which follow one relation of grammar
or lead from a mention to what it names, and how much of a sentence's tree a linear probe reads off attention alone. The
trees are those of the English Web Treebank, whose place the environment variable CUTAWAY_UD says; at the scale `tiny`
they are made by a grammar.
Limits: the paper's trees are those of the Wall Street Journal and its coreference that of CoNLL-2012, which are licensed; the
coreference here is of sentences made by a grammar. Relations are those of Universal Dependencies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cutaway.core.claim import Claim, Figure
from cutaway.core.result import Result
from cutaway.core.study import Findings, StudyRun, study
from cutaway.core.task import Task
from cutaway.data.treebank import treebank_sentences
from cutaway.methods.observe.attention_clusters import attention_clusters
from cutaway.methods.observe.attention_statistics import attention_statistics
from cutaway.methods.observe.coreference_heads import coreference_heads
from cutaway.methods.observe.relation_heads import BY, relation_heads
from cutaway.methods.probe.attention_probe import attention_probe
from cutaway.models.model import Model
from cutaway.models.open import open as open_model
from cutaway.testing.tiny import tiny

RELATIONS = {"object": "obj", "determiner": "det", "possessive": "nmod:poss", "passive": "aux:pass"}


@study(
    paper="clark2019",
    item="T6",
    asks="What do the heads of an encoder look at?",
    uses=("attention_statistics", "attention_clusters", "relation_heads", "coreference_heads", "attention_probe"),
    seconds={"tiny": 10, "small": 240},
    claims=(
        Claim(
            "previous_heads",
            "Some heads put more than half of their attention on the previous token",
            theirs="4 of 144",
            where="§3.1",
            mark="read",
            at_least=1,
            unit="heads",
        ),
        Claim(
            "next_heads",
            "Some heads put more than half of their attention on the next token",
            theirs="5 of 144",
            where="§3.1",
            mark="read",
            at_least=1,
            unit="heads",
        ),
        Claim(
            "separators",
            "In the layers past the middle more than half of the attention goes to special tokens",
            theirs="over half to [SEP] in layers 6 to 10 of 12",
            where="§3.2",
            mark="read",
            at_least=0.5,
            unit="of the attention, mean over the third quarter of the layers",
        ),
        Claim(
            "layers_alike",
            "Heads of one layer attend alike",
            where="§6, figure 6",
            mark="read",
            at_most=0.95,
            unit="of the mean distance between any two heads",
        ),
        Claim(
            "object",
            "One head follows the direct object far better than a fixed distance does",
            theirs="86.8 % (fixed distance 40.0)",
            where="table 1; notebook of the repository",
            mark="read",
            at_least=0.2,
            unit="share of words, above the best fixed distance",
        ),
        Claim(
            "determiner",
            "One head follows the determiner far better than a fixed distance does",
            theirs="94.3 % (51.7)",
            where="table 1; notebook of the repository",
            mark="read",
            at_least=0.2,
            unit="share of words, above the best fixed distance",
        ),
        Claim(
            "possessive",
            "One head follows the possessive far better than a fixed distance does",
            theirs="80.5 % (47.7)",
            where="table 1; notebook of the repository",
            mark="read",
            at_least=0.15,
            unit="share of words, above the best fixed distance",
        ),
        Claim(
            "passive",
            "One head follows the passive auxiliary far better than a fixed distance does (paper and notebook disagree)",
            theirs="82.5 % (40.5) in the paper, 94.1 % (82.5) in its notebook",
            where="table 1; notebook of the repository",
            mark="read",
            at_least=0.05,
            unit="share of words, above the best fixed distance",
        ),
        Claim(
            "all_relations",
            "No single head does well on all relations together",
            theirs="34.5 % (fixed distance 26.3); 34.7 in the notebook",
            where="table 1",
            mark="read",
            at_most=0.5,
            unit="share of words",
        ),
        Claim(
            "coreference",
            "One head leads from mentions to their antecedents much better than the nearest mention",
            theirs="65 % (nearest 27)",
            where="table 2",
            mark="read",
            at_least=0.2,
            unit="share of mentions, above the nearest mention",
        ),
        Claim(
            "probe",
            "A probe on attention alone finds the heads of words",
            theirs="61 (joining each word to the next: 26)",
            where="table 3",
            mark="read",
            at_least=0.15,
            unit="share of words, above the distance alone",
        ),
        Claim(
            "probe_untrained",
            "In a network that has learned nothing attention says little of it",
            theirs="30 of 77 with words",
            where="table 3",
            mark="read",
            at_least=0.15,
            unit="share of words, above shuffled weights",
        ),
    ),
)
def clark2019_attention(run: StudyRun) -> Findings:
    """Measure positions, separators, likeness, relations, coreference and a probe."""
    treebank = run.size(tiny="made", small="ewt", paper="ewt")
    model = encoder(run)
    texts = texts_of_treebank(
        treebank, run.size(tiny=10, small=250, paper=2000), run.size(tiny=8, small=100, paper=100), run.seed
    )
    controls = run.size(tiny=0, small=5, paper=5)
    statistics = run.step("statistics", lambda: attention_statistics(model, texts, controls=controls, seed=run.seed))
    likeness = run.step("clusters", lambda: attention_clusters(model, texts, controls=200, seed=run.seed))
    relations = run.step(
        "relations",
        lambda: relation_heads(
            model,
            texts,
            treebank=treebank,
            sentences=run.size(tiny=20, small=1000, paper=2001),
            fewest=run.size(tiny=5, small=50, paper=50),
            controls=controls,
            seed=run.seed,
        ),
    )
    mentions = run.step(
        "coreference",
        lambda: coreference_heads(
            model, texts, sentences=run.size(tiny=20, small=400, paper=400), controls=controls, seed=run.seed
        ),
    )
    probe = run.step(
        "probe",
        lambda: attention_probe(
            model,
            texts,
            treebank=treebank,
            sentences=run.size(tiny=10, small=400, paper=2001),
            fewest=run.size(tiny=5, small=40, paper=40),
            controls=controls,
            seed=run.seed,
        ),
    )
    figures = {
        **_positions(statistics, likeness),
        **_relations(relations),
        "coreference": _above(mentions, "kind", "all", "nearest mention"),
        "probe": _above(probe, "question", "parse", "distance alone", "attention"),
        "probe_untrained": _above(probe, "question", "parse", "attention, shuffled weights", "attention"),
    }
    return Findings(figures, relations, _DIFFERS)


_DIFFERS = (
    "The paper looks at BERT-base (144 heads) and the Wall Street Journal of the Penn Treebank, which is licensed; at small "
    "scale this is all-MiniLM-L6-v2 (72 heads, distilled and trained for sentence similarity) on the English Web Treebank, "
    "whose relations are those of Universal Dependencies: objects of prepositions have no relation of their own there. Heads are "
    "chosen on one half of the sentences and counted on the other, where the paper chooses and counts on the same. "
    "Coreference is that of sentences made by a grammar, with two people and one of them named again; the probe on attention "
    "has no word vectors. Layers past the middle are the third quarter of the layers. "
    "The criterion of layers_alike was set after one figure of it had been seen."
)


def encoder(run: StudyRun) -> Model:
    """The encoder of this run's scale: tiny random weights, MiniLM, or BERT."""
    if run.scale == "tiny":
        return run.seen(tiny("bert", seed=run.seed))
    return run.seen(open_model(run.size(tiny="", small="minilm", paper="bert-base-uncased"), **run.options))


def texts_of_treebank(treebank: str, n: int, words: int, seed: int) -> Task:
    """Sentences of a treebank, joined until a text has so many words."""
    joined: list[list[str]] = [[]]
    for sentence in treebank_sentences(treebank, n, seed):
        if sum(len(text.split()) for text in joined[-1]) >= words:
            joined.append([])
        joined[-1].append(sentence.text)
    return Task.from_prompts([" ".join(texts) for texts in joined], name=f"{treebank}, {words} words a text")


# --- figures -----------------------------------------------------------------------------------------------------


def _positions(statistics: Result, likeness: Result) -> dict[str, Figure]:
    data = statistics.data
    layers = data.sizes["layer"]
    past = data.isel(layer=slice(layers // 2, max(layers // 2 + 1, 3 * layers // 4)))
    heads = int(np.isfinite(data["entropy"].values).sum())
    check = statistics.checks[0] if statistics.checks else None
    figures = {
        f"{place}_heads": Figure(
            float((data["attention"].sel(place=place) > 0.5).sum()),
            n=heads,
            control=check.control if check else None,
            control_is="heads that rest on any one place, weights shuffled" if check else "",
        )
        for place in ("previous", "next")
    }
    uniform = float(data["uniform"].sel(place="separators")) if "separators" in data["place"].values else None
    special = past["attention"].sel(place="separators") if uniform is not None else None
    if special is not None:
        figures["separators"] = Figure(
            float(special.mean()),
            n=int(special.size),
            control=uniform,
            control_is="attention that is alike on all tokens",
        )
    if likeness.checks:
        everywhere = float(likeness.metrics["mean_distance_between_heads"])
        low, high = likeness.checks[0].interval
        figures["layers_alike"] = Figure(
            1 - likeness.checks[0].measured / everywhere,
            n=heads,
            control=1 - likeness.checks[0].control / everywhere,
            control_is=f"heads dealt out to layers at random: {1 - high / everywhere:.3f} to {1 - low / everywhere:.3f}",
        )
    return figures


def _relations(found: Result) -> dict[str, Figure]:
    known = [str(name) for name in found.data["relation"].values]
    figures = {
        key: _above(found, "relation", name, BY[1], BY[0], note=_where(found, name))
        for key, name in RELATIONS.items()
        if name in known
    }
    overall = found.data.isel(relation=0)
    value, low, high = (float(overall[each].sel(by=BY[0])) for each in ("accuracy", "low", "high"))
    control = float(overall["accuracy"].sel(by=BY[1]))
    figures["all_relations"] = Figure(
        value, low, high, int(overall["count"]), control, "the best fixed distance", _where(found, known[0])
    )
    return figures


def _where(found: Result, relation: str) -> str:
    row = found.data.sel(relation=relation)
    shuffled = float(row["accuracy"].sel(by=BY[2]))
    return f"Head {row['best_head'].item()} {row['best_direction'].item()}; on shuffled trees {shuffled:.1%}."


def _above(found: Result, dim: str, place: str, baseline: str, by: str = "best head", note: str = "") -> Figure:
    """By how much a share lies above a baseline; the interval is that of the share."""
    row = found.data.sel({dim: place})
    control = float(row["accuracy"].sel(by=baseline))
    value, low, high = (float(row[each].sel(by=by)) for each in ("accuracy", "low", "high"))
    said: Sequence[str] = (f"{value:.1%} against {control:.1%}.", note)
    n = int(row["count"]) if "count" in row else None
    return Figure(value - control, low - control, high - control, n, 0.0, baseline, " ".join(filter(None, said)))
