"""What is a hypothesis about a network, as data? A tree of parts, each with what its input may be exchanged for.

A node says: the output depends on the value at these sites only through some features of the prompt. So the value may
come from any other prompt that agrees on those features. A node's children say the same of what goes into it. Written
as text, one clause a node, separated by semicolons:

    count: z[1].head[0] ~ equal direct; z[2].head[1] ~ horizon; resid_pre[1]@subject ~ subject > count

`name:` is wanted where another clause names the node as its parent (`> name`; the output otherwise). Features are joined
by `+`; `*` stands for none: any prompt will do. `direct` counts the direct path to the parent alone.
Limits: prompts are exchanged for prompts of as many tokens.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cutaway.core.errors import ParameterError, nearest
from cutaway.core.site import Site, parse_sites
from cutaway.core.task import EncodedTask

OUTPUT = "output"
Features = Mapping[str, Sequence[Hashable]]
_CLAUSE = re.compile(
    r"^\s*(?:(?P<name>\w+)\s*:)?\s*(?P<sites>[^~]+?)\s*~\s*(?P<agree>[\w+\s*]+?)\s*(?P<direct>\bdirect\b)?\s*(?:>\s*(?P<parent>\w+))?\s*$"
)


@dataclass(frozen=True)
class Node:
    """One part of a hypothesis.

    Attributes:
        name: what it is called.
        sites: its values; patterns are allowed. None for the output itself.
        agree: features on which the prompt that its value comes from agrees with the parent's prompt; none: any prompt.
        children: what its value depends on; none: it is taken whole from the other prompt. With children, everything
            else that goes into it comes from a prompt drawn by lot.
        direct: only the direct path to the parent is exchanged.
    """

    name: str
    sites: tuple[Site, ...] = ()
    agree: tuple[str, ...] = ()
    children: tuple[Node, ...] = ()
    direct: bool = False

    def __iter__(self) -> Iterator[Node]:
        yield self
        for child in self.children:
            yield from child


def parse_hypothesis(text: str) -> Node:
    """The tree that clauses describe; `Node("output")` at its root.

    Raises:
        ParameterError: a clause that does not parse, or a parent that is not named.
    """
    clauses = [clause for clause in text.split(";") if clause.strip()]
    found: dict[str, tuple[Node, str]] = {}
    for number, clause in enumerate(clauses):
        match = _CLAUSE.match(clause)
        if match is None:
            raise ParameterError(
                f"the clause {clause.strip()!r} does not parse;",
                "a clause is `name: sites ~ features direct > parent`; name, direct and parent may be left out.",
                "Write for example 'z[5].head[1]@end ~ answer'.",
            )
        name = match["name"] or f"part {number + 1}"
        agree = tuple(feature for feature in re.split(r"[+\s]+", match["agree"]) if feature and feature != "*")
        node = Node(name, tuple(parse_sites(match["sites"])), agree, (), bool(match["direct"]))
        if name in found or name == OUTPUT:
            raise ParameterError(f"two nodes are called {name!r};", "each has a name of its own.")
        found[name] = (node, match["parent"] or OUTPUT)
    for name, (_, parent) in found.items():
        if parent not in (OUTPUT, *found) or parent == name:
            raise ParameterError(
                f"the node {name!r} goes into {parent!r}, which is no other node;", nearest(parent, found)
            )
    return Node(OUTPUT, children=_children(found, OUTPUT, ()))


def _children(found: Mapping[str, tuple[Node, str]], parent: str, above: tuple[str, ...]) -> tuple[Node, ...]:
    mine = [node for node, into in found.values() if into == parent]
    return tuple(
        Node(node.name, node.sites, node.agree, _children(found, node.name, (*above, node.name)), node.direct)
        for node in mine
    )


def features_of(encoded: EncodedTask) -> dict[str, tuple[Hashable, ...]]:
    """What prompts of a task can agree on: `prompt` itself, `answer`, `wrong`, `template`, and each named word."""
    found: dict[str, tuple[Hashable, ...]] = {"prompt": tuple(range(len(encoded)))}
    if any(encoded.answer_ids):
        found["answer"] = encoded.answer_ids
    if any(encoded.wrong_ids):
        found["wrong"] = encoded.wrong_ids
    if encoded.task.template:
        found["template"] = tuple(encoded.task.template[index] for index in encoded.kept)
    for name, spans in encoded.task.positions.items():
        texts = [(encoded.task.prompts[index], spans[index]) for index in encoded.kept]
        found[name] = tuple(text[start:end] for text, (start, end) in texts)
    return found


def require_features(tree: Node, features: Features) -> None:
    """Refuse a tree that names features which the prompts do not have.

    Raises:
        ParameterError: an unknown feature.
    """
    for node in tree:
        for name in node.agree:
            if name not in features:
                raise ParameterError(
                    f"the node {node.name!r} names the feature {name!r}, which the prompts do not have;",
                    nearest(name, features),
                )


@dataclass(frozen=True, eq=False)
class Sampler:
    """Draws prompts that agree with others.

    Attributes:
        features: of every prompt.
        lengths: tokens of every prompt.
        shuffled: the features of each prompt are taken from this one (a control); None: its own.
    """

    features: Features
    lengths: Sequence[int]
    shuffled: Sequence[int] | None = None

    def like(self, prompts: Sequence[int], agree: Sequence[str], random: np.random.Generator) -> list[int]:
        """For each prompt one of its length that agrees with it on these features: any such one, itself included."""
        pools: dict[Hashable, list[int]] = {}
        for prompt in range(len(self.lengths)):
            pools.setdefault(self._key(prompt, agree), []).append(prompt)
        drawn = []
        for prompt in prompts:
            pool = pools[self._key(prompt, agree)]
            drawn.append(pool[int(random.integers(len(pool)))])
        return drawn

    def choices(self, agree: Sequence[str]) -> float:
        """How many prompts one can be exchanged for, itself included, on average."""
        sizes: dict[Hashable, int] = {}
        for prompt in range(len(self.lengths)):
            key = self._key(prompt, agree)
            sizes[key] = sizes.get(key, 0) + 1
        return sum(size * size for size in sizes.values()) / len(self.lengths)

    def _key(self, prompt: int, agree: Sequence[str]) -> Hashable:
        said = prompt if self.shuffled is None else self.shuffled[prompt]
        return (self.lengths[prompt], *(self.features[name][said] for name in agree))

    def with_shuffled_features(self, random: np.random.Generator) -> Sampler:
        """The same prompts, with features dealt out anew among those of one length."""
        order = list(range(len(self.lengths)))
        for length in set(self.lengths):
            mine = [prompt for prompt in order if self.lengths[prompt] == length]
            for prompt, other in zip(mine, random.permutation(mine), strict=True):
                order[prompt] = int(other)
        return Sampler(self.features, self.lengths, tuple(order))
