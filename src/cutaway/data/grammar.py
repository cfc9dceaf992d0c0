"""What would a treebank of plain English look like whose every tree is certain? Sentences made by a grammar.

A clause is drawn (transitive, passive, "said that …", "because …"), its parts are drawn in turn, and what is written down
is the tree that it was made from, in the relations of Universal Dependencies [@nivre2020]. Two thirds of the sentences
name somebody twice: by a pronoun, by the same name or by the same noun, with others between. `sense_sentences` are
sentences written for the project in which a word has one of two meanings, no two of them alike.
Limits: past tense, no questions, trees without crossing branches; words mean little together ("The tall lamp slept").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cutaway.core.errors import TaskError
from cutaway.data.conllu import Mention, Sentence, Word
from cutaway.data.sampling import pick
from cutaway.data.senses import SENSES
from cutaway.data.words import listed

WOMEN = listed("Mary Anna Emma Lucy Sarah Alice Helen Laura")
MEN = listed("John Paul Peter David Frank Henry Simon Martin")
FEMALE = listed("queen woman girl mother sister actress princess aunt")
MALE = listed("king man boy father brother actor prince uncle")
THINGS = listed("lamp horse letter house garden table river boat apple book picture dog coat clock bridge hat")
SIGHTS = listed("saw found watched followed painted remembered noticed visited liked described")
MOVES = listed("slept laughed waited arrived left smiled shouted travelled")
GIFTS = listed("gave sent showed lent offered")
CLAIMS = listed("said thought knew believed hoped")
PLANS = listed("wanted tried decided hoped")
DEEDS = listed("see find watch follow paint remember visit describe")
DONE = listed("seen found watched followed painted remembered visited described")
QUALITIES = listed("old young tall small happy quiet famous strange clever tired")
MANNERS = listed("quickly quietly often slowly suddenly gladly")
PLACES = listed("near in behind beside under")
REASONS = listed("because after before while when")
NUMBERS = listed("two three four five seven ten")


@dataclass(frozen=True)
class _Node:
    """A word with its dependents on either side."""

    form: str
    upos: str
    relation: str = "root"
    left: tuple[_Node, ...] = ()
    right: tuple[_Node, ...] = ()
    entity: str = ""

    def named(self, relation: str) -> _Node:
        return replace(self, relation=relation)

    def having(self, *left: _Node | None, right: Sequence[_Node | None] = ()) -> _Node:
        """With further dependents, outside those that it has."""
        added = tuple(node for node in left if node)
        return replace(self, left=added + self.left, right=self.right + tuple(node for node in right if node))


def made_sentences(n: int, seed: int = 0) -> tuple[Sentence, ...]:
    """`n` different sentences, the same ones for the same seed.

    Raises:
        TaskError: fewer than one is asked for.
    """
    if n < 1:
        raise TaskError(f"{n} sentences were asked for;", "it is 1 or more.")
    rng = np.random.default_rng(seed)
    found: dict[str, Sentence] = {}
    while len(found) < n:
        node = _coreferent(rng) if rng.random() < 2 / 3 else _clause(rng)
        sentence = _written(node, f"made-{seed}-{len(found)}")
        found.setdefault(sentence.text, sentence)
    return tuple(found.values())


def sense_sentences() -> tuple[Sentence, ...]:
    """Sentences with a word in one of two senses: `Word.sense` says which. They have no trees: a chain stands for one."""
    made: list[Sentence] = []
    for word, senses in SENSES.items():
        for sense, texts in senses.items():
            made += [_with_sense(text, word, f"{word}.{sense}", len(made) + i) for i, text in enumerate(texts)]
    return tuple(made)


def _with_sense(text: str, word: str, sense: str, number: int) -> Sentence:
    words: list[Word] = []
    for form in text.replace(".", " .").replace(",", " ,").split():
        start = words[-1].span[1] + (form not in ".,") if words else 0
        here = sense if form.lower() in (word, f"{word}s") else ""
        relation = "root" if not words else "dep"
        words.append(
            Word(form, "PUNCT" if form in ".," else "X", len(words) - 1, relation, (start, start + len(form)), "", here)
        )
    return Sentence(text, tuple(words), f"sense-{number}")


# --- noun phrases ------------------------------------------------------------------------------------------------


def _word(form: str, upos: str, relation: str) -> _Node:
    return _Node(form, upos, relation)


def _thing(rng: np.random.Generator, depth: int = 1) -> _Node:
    """`the old lamp near the river`, `three horses`."""
    noun = pick(rng, THINGS)
    quality = _word(pick(rng, QUALITIES), "ADJ", "amod") if rng.random() < 0.4 else None
    if rng.random() < 0.2:
        return _Node(f"{noun}s", "NOUN").having(_word(pick(rng, NUMBERS), "NUM", "nummod"), quality)
    node = _Node(noun, "NOUN").having(_word(_article(rng, quality), "DET", "det"), quality)
    if depth and rng.random() < 0.3:
        node = node.having(right=[_placed(rng, "nmod", depth - 1)])
    return node


def _article(rng: np.random.Generator, quality: _Node | None) -> str:
    if quality is None or rng.random() < 0.5:
        return "the"
    return "an" if quality.form[0] in "aeiou" else "a"


def _placed(rng: np.random.Generator, relation: str, depth: int = 0) -> _Node:
    """`near the river`."""
    thing = _thing(rng, depth)
    return thing.having(_word(pick(rng, PLACES), "ADP", "case")).named(relation)


def _person(rng: np.random.Generator, female: bool | None = None, name: bool | None = None) -> _Node:
    """`Mary`, `the tall king`, `the queen 's brother`."""
    female = bool(rng.integers(2)) if female is None else female
    if rng.random() < 0.4 if name is None else name:
        return _Node(pick(rng, WOMEN if female else MEN), "PROPN")
    noun = _Node(pick(rng, FEMALE if female else MALE), "NOUN")
    quality = _word(pick(rng, QUALITIES), "ADJ", "amod") if rng.random() < 0.4 else None
    return noun.having(_word("the", "DET", "det"), quality)


def _owned(rng: np.random.Generator, owner: _Node) -> _Node:
    """`her old lamp`, `Mary 's lamp`."""
    quality = _word(pick(rng, QUALITIES), "ADJ", "amod") if rng.random() < 0.3 else None
    if owner.upos == "PROPN":
        owner = owner.having(right=[_word("'s", "PART", "case")])
    return _Node(pick(rng, THINGS), "NOUN").having(owner.named("nmod:poss"), quality)


# --- clauses -----------------------------------------------------------------------------------------------------


def _clause(rng: np.random.Generator, depth: int = 1) -> _Node:
    """A clause about anybody."""
    subject = _person(rng) if rng.random() < 0.8 else _thing(rng)
    if depth and subject.upos == "NOUN" and rng.random() < 0.25:
        seen = _Node(pick(rng, SIGHTS), "VERB", "acl:relcl").having(_word("who", "PRON", "nsubj"))
        subject = subject.having(right=[seen.having(right=[_thing(rng, 0).named("obj")])])
    if depth and rng.random() < 0.2:
        other = _person(rng, name=True).having(_word("and", "CCONJ", "cc")).named("conj")
        subject = subject.having(right=[other])
    return _predicate(rng, subject, depth)


def _predicate(rng: np.random.Generator, subject: _Node, depth: int) -> _Node:
    """A verb or quality with this subject."""
    forms: list[Callable[[np.random.Generator, _Node], _Node]] = [_sees, _sees, _goes, _gives, _is, _passive, _plans]
    if depth:
        forms += [_says, _reasons, _both]
    node = pick(rng, forms)(rng, subject)
    if node.upos == "VERB" and node.relation == "root" and rng.random() < 0.25:
        node = replace(node, left=(*node.left, _word(pick(rng, MANNERS), "ADV", "advmod")))
    return node


def _sees(rng: np.random.Generator, subject: _Node, thing: _Node | None = None) -> _Node:
    where = _placed(rng, "obl") if rng.random() < 0.3 else None
    helper = rng.random() < 0.25
    verb = _Node(pick(rng, DEEDS if helper else SIGHTS), "VERB")
    verb = verb.having(_word(pick(rng, ("would", "could", "must")), "AUX", "aux") if helper else None)
    return verb.having(subject.named("nsubj"), right=[(thing or _thing(rng)).named("obj"), where])


def _goes(rng: np.random.Generator, subject: _Node) -> _Node:
    where = _placed(rng, "obl", 1) if rng.random() < 0.6 else None
    return _Node(pick(rng, MOVES), "VERB").having(subject.named("nsubj"), right=[where])


def _gives(rng: np.random.Generator, subject: _Node) -> _Node:
    objects = [_person(rng).named("iobj"), _thing(rng, 0).named("obj")]
    return _Node(pick(rng, GIFTS), "VERB").having(subject.named("nsubj"), right=objects)


def _is(rng: np.random.Generator, subject: _Node) -> _Node:
    very = _word(pick(rng, ("very", "quite", "always")), "ADV", "advmod") if rng.random() < 0.4 else None
    return _Node(pick(rng, QUALITIES), "ADJ").having(subject.named("nsubj"), _word("was", "AUX", "cop"), very)


def _passive(rng: np.random.Generator, subject: _Node) -> _Node:
    agent = _person(rng).having(_word("by", "ADP", "case")).named("obl:agent")
    was = _word("was", "AUX", "aux:pass")
    return _Node(pick(rng, DONE), "VERB").having(subject.named("nsubj:pass"), was, right=[agent])


def _plans(rng: np.random.Generator, subject: _Node) -> _Node:
    deed = _Node(pick(rng, DEEDS), "VERB", "xcomp").having(_word("to", "PART", "mark"))
    return _Node(pick(rng, PLANS), "VERB").having(
        subject.named("nsubj"), right=[deed.having(right=[_thing(rng).named("obj")])]
    )


def _says(rng: np.random.Generator, subject: _Node) -> _Node:
    said = _clause(rng, 0)
    said = said.having(_word("that", "SCONJ", "mark")).named("ccomp")
    return _Node(pick(rng, CLAIMS), "VERB").having(subject.named("nsubj"), right=[said])


def _reasons(rng: np.random.Generator, subject: _Node) -> _Node:
    reason = _clause(rng, 0).having(_word(pick(rng, REASONS), "SCONJ", "mark")).named("advcl")
    main = _predicate(rng, subject, 0)
    if rng.random() < 0.3:
        return main.having(reason.having(right=[_word(",", "PUNCT", "punct")]))
    return main.having(right=[reason])


def _both(rng: np.random.Generator, subject: _Node) -> _Node:
    second = _Node(pick(rng, MOVES), "VERB", "conj").having(_word("and", "CCONJ", "cc"))
    return _sees(rng, subject).having(right=[second])


# --- somebody named twice ----------------------------------------------------------------------------------------


def _coreferent(rng: np.random.Generator) -> _Node:
    """`Mary saw the king before she slept near the river`: one of two people is named again."""
    female = bool(rng.integers(2))
    first, second = _person(rng, female), _person(rng, not female)
    which = int(rng.integers(2))
    people = [replace(first, entity="e0"), replace(second, entity="e1")]
    feminine = female if which == 0 else not female
    again = _again(rng, people[which], feminine)
    main = _sees(rng, people[0], people[1])
    after = _afterwards(rng, again)
    while {person.form for person in people} & set(_anonymous(after)):  # nobody else is called the same
        after = _afterwards(rng, again)
    return main.having(right=[after.having(_word(pick(rng, REASONS), "SCONJ", "mark")).named("advcl")])


def _afterwards(rng: np.random.Generator, again: _Node) -> _Node:
    if again.relation == "owner":
        return _sees(rng, _person(rng, name=True), _owned(rng, again))
    return pick(rng, [_goes, _sees, _is, _plans, _passive])(rng, again)


def _anonymous(node: _Node) -> list[str]:
    """The words of a tree that are no mention."""
    below = [form for child in (*node.left, *node.right) for form in _anonymous(child)]
    return below if node.entity else [node.form, *below]


def _again(rng: np.random.Generator, person: _Node, female: bool) -> _Node:
    """The same person once more."""
    draw = rng.random()
    if draw < 0.4:
        return _Node("she" if female else "he", "PRON", entity=person.entity)
    if draw < 0.6:
        return _Node("her" if female else "his", "PRON", "owner", entity=person.entity)
    if person.upos == "PROPN":
        return _Node(person.form, "PROPN", entity=person.entity)
    return _Node(person.form, "NOUN", entity=person.entity).having(_word("the", "DET", "det"))


# --- writing down ------------------------------------------------------------------------------------------------


def _written(root: _Node, name: str) -> Sentence:
    """The sentence of a tree, with a full stop."""
    root = root.having(right=[_word(".", "PUNCT", "punct")])
    nodes: list[tuple[_Node, int]] = []  # each with the place of its head in this list's final order
    places: dict[int, int] = {}
    _in_order(root, None, nodes, places)
    text, words = "", list[Word]()
    for place, (node, parent) in enumerate(nodes):
        form = node.form[0].upper() + node.form[1:] if place == 0 else node.form
        text += "" if not text or form in (".", ",", "'s") else " "
        head = places[parent] if parent else -1
        words.append(Word(form, node.upos, head, node.relation, (len(text), len(text) + len(form)), node.form))
        text += form
    return Sentence(text, tuple(words), name, _mentions(nodes, words))


def _in_order(node: _Node, parent: _Node | None, nodes: list[tuple[_Node, int]], places: dict[int, int]) -> None:
    for child in node.left:
        _in_order(child, node, nodes, places)
    places[id(node)] = len(nodes)
    nodes.append((node, id(parent) if parent else 0))
    for child in node.right:
        _in_order(child, node, nodes, places)


def _mentions(nodes: Sequence[tuple[_Node, int]], words: Sequence[Word]) -> tuple[Mention, ...]:
    found = []
    for place, (node, _) in enumerate(nodes):
        if node.entity:
            inside = _below(place, words)
            kind = {"PRON": "pronoun", "PROPN": "proper"}.get(node.upos, "nominal")
            found.append(Mention(min(inside), max(inside) + 1, place, node.entity, kind))
    return tuple(found)


def _below(place: int, words: Sequence[Word]) -> list[int]:
    inside = [place]
    for other in range(len(words)):
        here = other
        while here >= 0 and here != place:
            here = words[here].head
        if here == place and other != place:
            inside.append(other)
    return inside
