"""How well does the network do when only the hypothesis holds? Recursive resampling of a tree of parts.

The tree is walked from the output down. The value of a leaf comes from a run of a prompt that agrees with its parent's
prompt on the node's features. A node with children runs on a prompt drawn by lot, with the children's values put in.
Every row of the batch draws for itself, so one pass a node evaluates all rows at once [@chan2022].

`direct` children are added to what the parent reads, as a change of its input stream by the difference of what the part
wrote, so that nothing between them sees it.
Limits: a direct path needs heads that are added to the stream as they are (no norm after the sublayer).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core.edit import Edit
from cutaway.core.edit import replace as put
from cutaway.core.errors import ModelError, ParameterError
from cutaway.core.progress import track
from cutaway.core.run import Run
from cutaway.core.site import Site
from cutaway.core.task import EncodedTask
from cutaway.methods.hypothesis import Node, Sampler
from cutaway.models.model import Model
from cutaway.models.recording import by_length

PROMPT = "prompt"  # the feature on which a prompt agrees with itself alone


@dataclass(frozen=True, eq=False)
class Scrub:
    """A network with prompts to be exchanged.

    Attributes:
        model: the network.
        encoded: the prompts, with answers.
        sampler: which prompt may stand for which.
    """

    model: Model
    encoded: EncodedTask
    sampler: Sampler

    def losses(self, tree: Node, prompts: Sequence[int], random: np.random.Generator) -> NDArray[np.float64]:
        """The loss of each prompt's own answer, when the output is computed as the tree allows [prompt].

        Args:
            tree: its root is the output. With neither children nor features it is a prompt drawn by lot; a root that
                agrees on `prompt` is the model itself.
            prompts: indices of prompts.
            random: draws.
        """
        found = np.zeros(len(prompts))
        for places in by_length([self.encoded.ids[prompt] for prompt in prompts]).values():
            mine = [prompts[place] for place in places]
            logits = self._output(tree, mine, random)
            found[places] = [self._loss(row, prompt) for row, prompt in zip(logits, mine, strict=True)]
        return found

    def _output(self, tree: Node, prompts: list[int], random: np.random.Generator) -> Float[Tensor, "row vocab"]:
        base = self.sampler.like(prompts, tree.agree, random)
        edits, direct = self._children(tree, prompts, random)
        last = Site("resid_post", self.model.anatomy.n_layers - 1)
        if not direct:
            return self._run(base, edits, (), logits=True).last_logits
        changed = self._with_direct(base, edits, direct, last)
        return self._run(base, [*edits, changed], (), logits=True).last_logits

    def _values(self, node: Node, prompts: list[int], random: np.random.Generator) -> dict[Site, Tensor]:
        """The node's values for rows whose parent runs on `prompts`: each row draws its own."""
        chosen = self.sampler.like(prompts, node.agree, random)
        sites = self._sites(node)
        if not node.children:
            run = self._run(chosen, (), sites)
            return {site: run[site] for site in sites}
        edits, direct = self._children(node, chosen, random)
        base = self.sampler.like(chosen, (), random)
        if direct:
            edits = [*edits, self._with_direct(base, edits, direct, _stream_before(node, sites))]
        run = self._run(base, edits, sites)
        return {site: run[site] for site in sites}

    def _children(
        self, node: Node, prompts: list[int], random: np.random.Generator
    ) -> tuple[list[Edit], dict[Site, Tensor]]:
        edits: list[Edit] = []
        direct: dict[Site, Tensor] = {}
        for child in node.children:
            values = self._values(child, prompts, random)
            if child.direct:
                direct.update(values)
            else:
                edits += [put(site, value) for site, value in values.items()]
        return edits, direct

    def _with_direct(self, base: list[int], edits: Sequence[Edit], direct: dict[Site, Tensor], stream: Site) -> Edit:
        """The parent's input stream, changed by the difference of what its direct children write into it."""
        run = self._run(base, edits, [*direct, stream])
        changed = run[stream].clone()
        for site, value in direct.items():
            changed = changed + self._written(site, value - run[site], changed)
        return put(stream, changed)

    def _written(self, site: Site, change: Tensor, like: Tensor) -> Tensor:
        """What a change of a part's value changes in the stream [row, position, d_model]."""
        layer = self.model.anatomy.layer(site)
        plain = layer.places.get("attn_contrib") == layer.places.get("attn_out")
        if site.kind == "z" and isinstance(site.head, int) and plain and isinstance(site.layer, int):
            change = change @ self.model.W_O(site.layer).detach()[site.head].to(change)
        elif site.kind not in ("attn_contrib", "mlp_contrib"):
            raise ModelError(
                f"'{site}' has no direct path that is a sum in {type(self.model.hf).__name__};",
                "heads (z[l].head[h]) that are added as they are, attn_contrib[l] and mlp_contrib[l] have one.",
                "Leave out `direct`.",
            )
        if site.position is None:
            return change
        whole = torch.zeros_like(like)
        if site.position not in (-1, "end"):
            raise ParameterError(
                f"the direct path of '{site}' is taken at one position;",
                "it is taken at all positions, or at the last.",
                f"Write '{replace(site, position=None)}'.",
            )
        whole[:, -1] = change
        return whole

    def _sites(self, node: Node) -> tuple[Site, ...]:
        return tuple(self.model.expand(list(node.sites)))

    def _run(self, prompts: list[int], edits: Sequence[Edit], read: Sequence[Site], *, logits: bool = False) -> Run:
        named = {name: [where[prompt] for prompt in prompts] for name, where in self.encoded.positions.items()}
        return self.model.run(
            [list(self.encoded.ids[prompt]) for prompt in prompts],
            read=list(read),
            edit=list(edits),
            positions=named,
            logits="last" if logits else "none",
        )

    def _loss(self, logits: Tensor, prompt: int) -> float:
        """Of the answer against the wrong answers, where there are any; else against every token. In nats."""
        scores = logits.double()
        right = scores[list(self.encoded.answer_ids[prompt])].logsumexp(-1)
        wrong = self.encoded.wrong_ids[prompt] if self.encoded.wrong_ids else ()
        rivals = scores[[*self.encoded.answer_ids[prompt], *wrong]] if wrong else scores
        return float(rivals.logsumexp(-1) - right)


def _stream_before(node: Node, sites: Sequence[Site]) -> Site:
    """The stream that a node's sites read."""
    layers = {site.layer for site in sites}
    attention = {
        site.kind in ("q", "k", "v", "z", "pattern", "scores", "attn_in", "attn_out", "attn_contrib") for site in sites
    }
    if len(layers) != 1 or len(attention) != 1:
        raise ParameterError(
            f"the node {node.name!r} has sites of several layers or kinds;",
            "a direct path goes to what one layer's attention or MLP reads.",
            "Make a node of each.",
        )
    return Site("resid_pre" if attention.pop() else "resid_mid", layers.pop())


def whole_model() -> Node:
    """The output of the prompt itself: the model's own loss."""
    return Node("output", agree=(PROMPT,))


def any_prompt() -> Node:
    """The output of a prompt drawn by lot: the loss without any hypothesis."""
    return Node("output")


@dataclass(frozen=True)
class Recovered:
    """What a hypothesis recovers.

    Attributes:
        model, random: loss of the model itself, and of prompts drawn by lot.
        scrubbed: loss in each resampling.
    """

    model: float
    random: float
    scrubbed: tuple[float, ...]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of the loss recovered in each resampling: 1 the model's own, 0 prompts drawn by lot."""
        gap = self.random - self.model
        return (self.random - np.array(self.scrubbed)) / gap if abs(gap) > 1e-12 else np.zeros(len(self.scrubbed))

    @property
    def share(self) -> float:
        """On average."""
        return float(self.shares.mean())


def recovered(scrub: Scrub, tree: Node, *, samples: int, seed: int, ends: Recovered | None = None) -> Recovered:
    """Resample a hypothesis several times over all prompts.

    Args:
        scrub: network and prompts.
        tree: the hypothesis.
        samples: how many resamplings.
        seed: draws them.
        ends: where the losses of the model and of prompts by lot are known from.
    """
    prompts = list(range(len(scrub.encoded)))
    random = np.random.default_rng(seed)

    def loss(one: Node) -> float:
        return float(scrub.losses(one, prompts, random).mean())

    if ends is None:
        by_lot = [loss(any_prompt()) for _ in track(range(max(samples, 5)), "scrubbing everything")]
        ends = Recovered(loss(whole_model()), float(np.mean(by_lot)), ())
    scrubbed = tuple(loss(tree) for _ in track(range(samples), "scrubbing the hypothesis"))
    return Recovered(ends.model, ends.random, scrubbed)
