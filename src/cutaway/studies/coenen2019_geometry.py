"""What shape have grammar and word senses inside an encoder? Probes, trees and centroids.

The geometry of BERT [@coenen2019]: linear probes find dependencies in attention; a tree fits into a space exactly when squared
distances are taken for its distances, and not otherwise; vectors of a word in its senses lie apart, the more so in later
layers; and joining a sentence with another one, in which the word has its other sense, pulls it away from its own. The trees
are those of the English Web Treebank, whose place the environment variable CUTAWAY_UD says; at the scale `tiny` they are
made by a grammar.
Limits: senses are those of sentences written for the project, far apart and two to a word, where the paper has SemCor's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from cutaway.core.claim import Claim, Figure
from cutaway.core.result import Result
from cutaway.core.study import Findings, StudyRun, study
from cutaway.core.task import Task
from cutaway.data.conllu import Sentence
from cutaway.data.treebank import treebank_sentences
from cutaway.methods.bootstrap import mean_interval
from cutaway.methods.distances import tree_distances, tree_embedding
from cutaway.methods.observe.word_sense_geometry import sense_material, sense_vectors, word_sense_geometry
from cutaway.methods.probe.attention_probe import attention_probe
from cutaway.methods.sense_space import Occurrence, cosines, nearest_centroids, train_sense_map
from cutaway.methods.tree_probe import train_probe
from cutaway.methods.words import sentences_in_tokens, streams_of, word_tokens, word_vectors
from cutaway.models.model import Model
from cutaway.models.open import open as open_model
from cutaway.testing.tiny import tiny

TREES, STARTS = 200, 5
RARE = 30  # edges of a relation whose length is measured


@study(
    paper="coenen2019",
    item="P31",
    asks="What shape do syntax and word senses have inside BERT?",
    uses=("attention_probe", "structural_probe", "word_sense_geometry"),
    seconds={"tiny": 10, "small": 240},
    claims=(
        Claim(
            "dependency",
            "A linear probe on attention tells dependencies from other pairs",
            theirs="85.8 %",
            where="§3.1",
            mark="read",
            at_least=0.8,
            unit="share of pairs",
        ),
        Claim(
            "dependency_untrained",
            "It does so because of what the network has learned",
            mark="ours",
            at_least=0.1,
            unit="share of pairs, above shuffled weights",
        ),
        Claim(
            "relation",
            "A linear probe on attention tells relations from each other",
            theirs="71.9 %",
            where="§3.1",
            mark="read",
            at_least=0.2,
            unit="share of words, above the commonest relation",
        ),
        Claim(
            "power_two",
            "Every tree has points whose squared distances are its distances",
            theirs="theorem 1",
            where="§3.2",
            mark="derived",
            at_most=1e-6,
            unit="largest error, 200 random trees",
        ),
        Claim(
            "power_one",
            "Without the square some trees have none: not even three leaves around a node",
            theirs="theorem",
            where="§3.2",
            mark="derived",
            at_least=0.05,
            unit="stress of the best fit",
        ),
        Claim(
            "edge_lengths",
            "Edges of different relations have different lengths in the space of the structural probe",
            theirs="1.2 to 2.5",
            where="figure 4",
            mark="read",
            at_least=1.5,
            unit="longest over shortest mean squared edge of a relation",
        ),
        Claim(
            "senses",
            "The nearest centroid tells the sense of a word",
            theirs="F1 71.1",
            where="§4.1, table 1",
            mark="read",
            at_least=0.85,
            unit="share of occurrences, last layer",
        ),
        Claim(
            "later_layers",
            "Later layers tell senses better",
            theirs="rises with the layer",
            where="§4.1",
            mark="read",
            at_least=0.0,
            unit="last layer above the first",
        ),
        Claim(
            "semantic_probe",
            "A sixth of the dimensions is enough to tell senses",
            theirs="holds down to 128 of 768",
            where="§4.2",
            mark="read",
            at_least=-0.02,
            unit="share of occurrences, against all dimensions",
        ),
        Claim(
            "concatenation",
            "Joined to a sentence with its other sense, a word lies less clearly with its own",
            where="§4.3",
            mark="read",
            at_least=0.7,
            unit="share of pairs",
        ),
    ),
)
def coenen2019_geometry(run: StudyRun) -> Findings:
    """Probe attention, embed trees, and tell senses."""
    treebank = run.size(tiny="made", small="ewt", paper="ewt")
    model = encoder(run)
    task = Task.from_prompts("He sat on the bank of the river.")
    controls = run.size(tiny=0, small=5, paper=5)
    probe = run.step(
        "attention probe",
        lambda: attention_probe(
            model,
            task,
            treebank=treebank,
            sentences=run.size(tiny=10, small=600, paper=2001),
            fewest=run.size(tiny=5, small=100, paper=200),
            controls=controls,
            seed=run.seed,
        ),
    )
    senses = run.step("senses", lambda: word_sense_geometry(model, task, controls=controls, seed=run.seed))
    shapes = run.step(
        "trees", lambda: {"power_two": power_two_error(run.seed), "power_one": power_one_stress(run.seed)}
    )
    edges = run.step("edges", lambda: _edges(run, model, treebank))
    mapped = run.step("semantic probe", lambda: _semantic_probe(run, model))
    joined = run.step("joined", lambda: _joined(run, model))
    figures = {**_attention(probe), **_senses(senses), **_others(shapes, edges, mapped, joined)}
    return Findings(figures, senses, _DIFFERS)


_DIFFERS = (
    "The paper looks at BERT-base, the Penn Treebank and SemCor; at small scale this is all-MiniLM-L6-v2 (6 layers of 12 heads, "
    "384 dimensions) on 600 sentences of the English Web Treebank, with its relations, and on 144 sentences written for the "
    "project with twelve words in two senses each. An occurrence is left out of the centroids that it is compared with; "
    "the semantic probe is trained on half of the words and tested on the others. The probe on attention reads both "
    "directions of a pair."
)


def encoder(run: StudyRun) -> Model:
    """The encoder of this run's scale: tiny random weights, MiniLM, or BERT."""
    if run.scale == "tiny":
        return run.seen(tiny("bert", seed=run.seed))
    return run.seen(open_model(run.size(tiny="", small="minilm", paper="bert-base-uncased"), **run.options))


# --- trees -------------------------------------------------------------------------------------------------------


def power_two_error(seed: int, trees: int = TREES) -> float:
    """The largest difference of squared distance and distance in the tree, of random trees of 2 to 30 words."""
    random = np.random.default_rng(seed)
    worst = 0.0
    for _ in range(trees):
        heads = [-1, *(int(random.integers(word)) for word in range(1, int(random.integers(2, 31))))]
        turn = np.linalg.qr(random.standard_normal((len(heads) - 1, len(heads) - 1)))[0]
        points = tree_embedding(heads) @ turn  # any rotation keeps it
        squares = np.square(points[:, None] - points[None]).sum(axis=-1)
        worst = max(worst, float(np.abs(squares - tree_distances(heads)).max()))
    return worst


def power_one_stress(seed: int) -> float:
    """The least stress of points whose plain distances shall be those of three leaves around a node."""
    gold = torch.from_numpy(tree_distances([-1, 0, 0, 0])).double()
    pairs = torch.triu_indices(4, 4, 1)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(STARTS):
        points = torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS([points], max_iter=500, line_search_fn="strong_wolfe")

        def stress(points: torch.Tensor = points) -> torch.Tensor:
            apart = (points[pairs[0]] - points[pairs[1]]).norm(dim=-1)
            wanted = gold[pairs[0], pairs[1]]
            return ((apart - wanted) ** 2).sum() / (wanted**2).sum()

        def closure(points: torch.Tensor = points, optimiser: torch.optim.Optimizer = optimiser) -> torch.Tensor:
            optimiser.zero_grad()
            value = stress(points)
            value.backward()
            return value

        optimiser.step(closure)
        found.append(float(stress(points).detach()) ** 0.5)
    return min(found)


def _edges(run: StudyRun, model: Model, treebank: str) -> dict[str, list[float] | list[str]]:
    """The mean squared length of each relation's edges on sentences that the structural probe was not trained on."""
    trees = treebank_sentences(treebank, run.size(tiny=20, small=600, paper=2001), run.seed)
    kept, found, _ = sentences_in_tokens(model, trees)
    trees = tuple(trees[index] for index in kept)
    layer = streams_of(model, "resid_post[*]")[model.anatomy.n_layers // 2]
    vectors = [each[0] for each in word_vectors(model, found, [layer])]
    half = len(trees) // 2
    rank = min(64, model.anatomy.d_model)
    probe = train_probe(trees[:half], vectors[:half], rank, run.size(tiny=2, small=30, paper=30), run.seed)
    lengths: dict[str, list[float]] = {}
    for tree, values in zip(trees[half:], vectors[half:]):
        apart = probe.distances(values)
        for word, (head, relation) in enumerate(zip(tree.heads, tree.relations)):
            if head >= 0 and relation != "punct":
                lengths.setdefault(relation, []).append(float(apart[word, head]))
    fewest = run.size(tiny=3, small=RARE, paper=RARE)
    names = sorted(name for name, each in lengths.items() if len(each) >= fewest)
    return {"relations": names, "lengths": [float(np.mean(lengths[name])) for name in names]}


# --- senses ------------------------------------------------------------------------------------------------------


def _semantic_probe(run: StudyRun, model: Model) -> dict[str, float]:
    """Senses told with all dimensions and with a sixth of them, of words that the map was not trained on."""
    _, found, tokens, _ = sense_material(model, "made")
    streams = streams_of(model, "resid_post[*]")[-1:]
    (vectors,) = sense_vectors(model, tokens, found, streams)
    words = sorted({one.lemma for one in found})
    rank = max(2, model.anatomy.d_model // 6)
    full, small = [], []
    for part in (words[::2], words[1::2]):
        learned = [row for row, one in enumerate(found) if one.lemma in part]
        tested = [row for row, one in enumerate(found) if one.lemma not in part]
        mapping = train_sense_map(
            vectors[learned], [found[row] for row in learned], rank, run.seed, run.size(tiny=5, small=200, paper=200)
        )
        others = [found[row] for row in tested]
        full += nearest_centroids(vectors[tested], others).tolist()
        small += nearest_centroids(vectors[tested] @ mapping.T, others).tolist()
    return {"full": float(np.mean(full)), "mapped": float(np.mean(small)), "rank": rank, "n": len(full)}


def _joined(run: StudyRun, model: Model) -> dict[str, list[float]]:
    """How much nearer a word is to the centroid of its own sense than to the other, alone and joined to its other sense."""
    sentences, found, tokens, _ = sense_material(model, "made")
    streams = streams_of(model, "resid_post[*]")[-1:]
    (vectors,) = sense_vectors(model, tokens, found, streams)
    pairs = _pairs(found, run.size(tiny=1, small=6, paper=6))
    texts = [join(sentences[found[a].sentence], sentences[found[b].sentence], found[a], found[b]) for a, b in pairs]
    pieces = [word_tokens(model, text, spans) for text, spans in texts]
    after = [each[0] for each in word_vectors(model, pieces, streams)]  # [word, d_model] of each text
    before_ratio, after_ratio = [], []
    for (a, b), both in zip(pairs, after):
        for own, other, now in ((a, b, both[0]), (b, a, both[1])):
            before_ratio.append(_ratio(vectors[own], vectors, found, own, other))
            after_ratio.append(_ratio(now, vectors, found, own, other))
    return {"before": before_ratio, "after": after_ratio}


def _pairs(found: Sequence[Occurrence], each: int) -> list[tuple[int, int]]:
    """Occurrences of a word in its first and its second sense, so many pairs of each word."""
    pairs = []
    for lemma in dict.fromkeys(one.lemma for one in found):
        senses = list(dict.fromkeys(one.sense for one in found if one.lemma == lemma))
        rows = [[row for row, one in enumerate(found) if one.sense == sense] for sense in senses[:2]]
        pairs += list(zip(*rows))[:each]
    return pairs


def join(first: Sentence, second: Sentence, one: Occurrence, other: Occurrence) -> tuple[str, list[tuple[int, int]]]:
    """Two sentences joined by "and", and the characters of the two words."""
    head = first.text.rstrip(".")
    start = len(head) + len(" and ")
    a, b = first.words[one.word].span, second.words[other.word].span
    text = f"{head} and {second.text[0].lower()}{second.text[1:]}"
    return text, [a, (b[0] + start, b[1] + start)]


def _ratio(vector: NDArray, vectors: NDArray, found: Sequence[Occurrence], own: int, other: int) -> float:
    """Cosine with the centroid of its own sense (itself left out) over that with the centroid of the other sense."""
    mine = [row for row, one in enumerate(found) if one.sense == found[own].sense and row != own]
    theirs = [row for row, one in enumerate(found) if one.sense == found[other].sense and row != other]
    table = cosines(np.stack([vector, vectors[mine].mean(axis=0), vectors[theirs].mean(axis=0)]))
    return float(table[0, 1] / table[0, 2])


# --- figures -----------------------------------------------------------------------------------------------------


def _attention(probe: Result) -> dict[str, Figure]:
    rows = {name: probe.data.sel(question=name) for name in ("dependency", "relation")}

    def figure(question: str, baseline: str, above: bool) -> Figure:
        row = rows[question]
        value, low, high = (float(row[each].sel(by="attention")) for each in ("accuracy", "low", "high"))
        control = float(row["accuracy"].sel(by=baseline))
        taken = control if above else 0.0
        distance = float(row["accuracy"].sel(by="distance alone"))
        said = f"{value:.1%}; {baseline} {control:.1%}; the distance alone {distance:.1%}."
        return Figure(value - taken, low - taken, high - taken, None, 0.0 if above else control, baseline, said)

    return {
        "dependency": figure("dependency", "labels at random", above=False),
        "dependency_untrained": figure("dependency", "attention, shuffled weights", above=True),
        "relation": figure("relation", "commonest label", above=True),
    }


def _senses(found: Result) -> dict[str, Figure]:
    data = found.data
    value, low, high = (float(data[name].values[-1]) for name in ("right", "low", "high"))
    first = float(data["right"].values[0])
    check = found.checks[0] if found.checks else None
    control = check.control if check else float(found.metrics["commonest_sense"])
    n = int(data.sizes["lemma"])
    return {
        "senses": Figure(
            value,
            low,
            high,
            n,
            control,
            "weights shuffled" if check else "the commonest sense",
            f"{n} words in two senses.",
        ),
        "later_layers": Figure(value - first, note=f"First layer {first:.1%}, last {value:.1%}."),
    }


def _others(
    shapes: dict[str, float],
    edges: dict[str, list],
    mapped: dict[str, float],
    joined: dict[str, list[float]],
) -> dict[str, Figure]:
    lower = (np.array(joined["after"]) < np.array(joined["before"])).astype(float)
    mean, low, high = mean_interval(lower, 0)
    figures = {
        "power_two": Figure(shapes["power_two"], n=TREES),
        "power_one": Figure(shapes["power_one"], n=STARTS),
        "semantic_probe": Figure(
            mapped["mapped"] - mapped["full"],
            n=int(mapped["n"]),
            note=f"{mapped['mapped']:.1%} with {int(mapped['rank'])} dimensions, {mapped['full']:.1%} with all.",
        ),
        "concatenation": Figure(mean, low, high, len(lower), 0.5, "a coin"),
    }
    if edges["lengths"]:
        order = np.argsort(edges["lengths"])
        shortest, longest = int(order[0]), int(order[-1])
        said = [f"{edges['relations'][i]} {edges['lengths'][i]:.2f}" for i in (shortest, longest)]
        figures["edge_lengths"] = Figure(
            edges["lengths"][longest] / edges["lengths"][shortest], n=len(order), note=" to ".join(said) + "."
        )
    return figures
