"""What did a run give? A `Run` maps sites to tensors, with the logits and the tokens beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cutaway.core.errors import SiteError
from cutaway.core.site import KINDS, Site, Span

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Run(Mapping[Site, "Tensor"]):
    """What one planned forward (and backward) gave.

    `run["z[9].head[6]@-1"]` finds the value if it, or a larger site that holds it, was read; a pattern such as
    `run["resid_post[*]@-1"]` gives the layers stacked, the layer dimension first.

    Attributes:
        held: site -> tensor, the prompt dimension first.
        ids: token ids of each prompt.
        tokens: the tokens of each prompt as text.
        logits: [prompt, position, vocab], with the positions that were asked for; None where none were.
        grads: site -> gradient of the metric, with the shape of the value.
        metric: [prompt], where a metric was asked for.
        positions: named positions of the prompts.
        rows: for each row of the batch, which prompt it is: more rows than prompts where an edit has several scales.
        plan: what was done, in words.
        logits_at_end: True when `logits` are those of the last token alone.
        encoder_ids: token ids that the encoder read, in an encoder-decoder; `ids` are the decoder's.
        n_layers: number of layers of each stack, for layers that are counted from the end.
    """

    held: Mapping[Site, Tensor]
    ids: tuple[tuple[int, ...], ...]
    tokens: tuple[tuple[str, ...], ...] = ()
    logits: Tensor | None = None
    grads: Mapping[Site, Tensor] = field(default_factory=dict)
    metric: Tensor | None = None
    positions: Mapping[str, Sequence[int]] = field(default_factory=dict)
    rows: tuple[int, ...] = ()
    plan: Any = None
    logits_at_end: bool = False
    encoder_ids: tuple[tuple[int, ...], ...] = ()
    n_layers: Mapping[str, int] = field(default_factory=dict)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of tokens of each row."""
        return tuple(len(ids) for ids in self.ids)

    def lengths_at(self, site: Site) -> tuple[int, ...]:
        """Number of positions of each row at a site: the encoder's tokens or the decoder's."""
        return tuple(len(ids) for ids in self.encoder_ids) if site.on_encoder and self.encoder_ids else self.lengths

    @property
    def last_logits(self) -> Tensor:
        """The logits at each prompt's last token [prompt, vocab]."""
        if self.logits is None:
            raise SiteError("This run kept no logits.", "", 'Ask for them: model.run(..., logits="last").')
        if self.logits_at_end:
            return self.logits[:, 0]
        return self.logits[self._rows(), [length - 1 for length in self.lengths]]

    def __getitem__(self, key: Site | str) -> Tensor:
        return self._find(self.held, Site.parse(key), "read")

    def grad(self, key: Site | str) -> Tensor:
        """The gradient of the metric at a site; the same addresses as `run[...]`."""
        return self._find(self.grads, Site.parse(key), "differentiated")

    def per_query_head(self, key: Site | str) -> Tensor:
        """Keys or values once for each query head: [prompt, position, query head, d_head]."""
        site = Site.parse(key)
        value = self[site]
        heads = [v.shape[2] for s, v in self.held.items() if s.kind in ("q", "z") and s.layer == site.layer]
        if not heads:
            raise SiteError(
                f"The number of query heads of layer {site.layer} is not known in this run.",
                "",
                f"Read 'q[{site.layer}]' too, or read '{site.kind}_per_query_head[{site.layer}]'.",
            )
        return value.repeat_interleave(heads[0] // value.shape[2], dim=2)

    def __iter__(self) -> Iterator[Site]:
        return iter(self.held)

    def __len__(self) -> int:
        return len(self.held)

    def __contains__(self, key: object) -> bool:
        try:
            self[key]  # type: ignore[index]
        except SiteError:
            return False
        return True

    def __repr__(self) -> str:
        return f"Run({len(self.ids)} prompts, {len(self.held)} sites: {', '.join(map(str, list(self.held)[:6]))})"

    def _rows(self) -> list[int]:
        return list(range(len(self.ids)))

    def _find(self, table: Mapping[Site, Tensor], site: Site, done: str) -> Tensor:
        size = self.n_layers.get("" if site.stack == "cross" else site.stack, 0)
        if isinstance(site.layer, int) and -size <= site.layer < 0:
            site = replace(site, layer=site.layer + size)
        if site in table:
            return table[site]
        if isinstance(site.layer, Span):
            return self._stacked(table, site, done)
        for held, value in table.items():
            if (held.kind, held.layer, held.stack) == (site.kind, site.layer, site.stack) and _holds(held, site):
                return self._part(held, value, site)
        spread = [name for name in ("head", "unit", "expert") if isinstance(getattr(site, name), Span)]
        if len(spread) == 1 and (parts := self._gathered(table, site, spread[0])):
            return _side_by_side(parts, site, spread[0])
        raise SiteError(
            f"'{site}' was not {done} in this run.",
            f"It has: {', '.join(str(s) for s in list(table)[:8]) or 'no sites'}{' …' if len(table) > 8 else ''}.",
            f'Ask for it: model.run(prompts, read="{site}").',
        )

    def _stacked(self, table: Mapping[Site, Tensor], site: Site, done: str) -> Tensor:
        import torch

        mine = [s for s in table if (s.kind, s.stack) == (site.kind, site.stack) and isinstance(s.layer, int)]
        known = self.n_layers.get("" if site.stack == "cross" else site.stack)
        size = known or 1 + max((int(s.layer) for s in mine), default=-1)  # type: ignore[arg-type]
        assert isinstance(site.layer, Span)
        wanted = [layer for layer in site.layer.indices(size) if any(s.layer == layer for s in mine)]
        if not wanted:
            raise SiteError(f"No layer of '{site}' was {done} in this run.", "", f'Ask for them: read="{site}".')
        parts = [
            self._find(
                table,
                Site(site.kind, layer, site.head, site.unit, site.expert, site.position, site.stack),
                done,
            )
            for layer in wanted
        ]
        return torch.stack(parts)

    def _gathered(self, table: Mapping[Site, Tensor], site: Site, name: str) -> list[Tensor]:
        """Values of the single heads, units or experts that a slice names, where these were read one by one."""
        span = getattr(site, name)
        mine = {s: v for s, v in table.items() if s.kind == site.kind}
        every = {getattr(s, name): v for s, v in mine.items() if replace(s, **{name: span}) == site}
        numbers = sorted(number for number in every if isinstance(number, int))
        if span.from_end or not numbers:
            return []
        wanted = [number for number in span.indices(numbers[-1] + 1) if number in numbers]
        return [every[number] for number in wanted]

    def _part(self, held: Site, value: Tensor, site: Site) -> Tensor:
        dims = list(held.dims)
        for name, wanted, have in (
            ("expert", site.expert, held.expert),
            ("head", site.head, held.head),
            (KINDS[site.kind][1][-1], site.unit, held.unit),
        ):
            if isinstance(wanted, int) and have is None and name in dims:
                value = value.select(dims.index(name), wanted)
                dims.remove(name)
            elif isinstance(wanted, Span) and have is None and name in dims:
                axis = dims.index(name)
                value = value.movedim(axis, 0)[wanted.indices(value.shape[axis])].movedim(0, axis)
        name = "query" if "query" in dims else "position"
        if held.position is None and isinstance(site.position, int | str) and name in dims:
            axis = dims.index(name)
            named = self.positions if site.on_encoder or not self.encoder_ids else {}
            where = token_positions(site.position, self.lengths_at(site), named)
            moved = value.movedim(axis, 1)
            value = moved[self._rows(), where]
        elif held.position is None and isinstance(site.position, Span) and site.position != Span():
            axis = dims.index(name)
            self._require_one_end(site)
            value = value.movedim(axis, 0)[site.position.indices(value.shape[axis])].movedim(0, axis)
        return value

    def _require_one_end(self, site: Site) -> None:
        """A slice of positions that counts from the end needs prompts that end at one place."""
        lengths, span = self.lengths_at(site), site.position
        assert isinstance(span, Span)
        if len(set(lengths)) > 1 and span.from_end:
            raise SiteError(
                f"'{site}' counts from the end of prompts of {min(lengths)} to {max(lengths)} tokens.",
                "Where prompts differ in length, a slice counts from the start of each prompt.",
                "Ask for one position at a time, as in '@-1'.",
            )


def _side_by_side(parts: Sequence[Tensor], site: Site, name: str) -> Tensor:
    import torch

    dim = KINDS[site.kind][1][-1] if name == "unit" else name
    return torch.stack(list(parts), dim=site.dims.index(dim))


def _holds(held: Site, site: Site) -> bool:
    """True when the value of `site` is a part of the value of `held`."""
    return all(
        mine is None or mine == theirs
        for mine, theirs in (
            (held.head, site.head),
            (held.unit, site.unit),
            (held.expert, site.expert),
            (held.position, site.position),
        )
    )


def token_positions(
    position: int | str, lengths: Sequence[int], named: Mapping[str, Sequence[int]] | None = None
) -> list[int]:
    """The token index that a position names in each prompt.

    Args:
        position: a number (negative counts from each prompt's end) or the name of a position.
        lengths: number of tokens of each prompt.
        named: token index of each named position in each prompt; `end` is always known.
    """
    if isinstance(position, str):
        if position == "end":
            return [length - 1 for length in lengths]
        if not named or position not in named:
            known = ", ".join(sorted({"end", *(named or {})}))
            raise SiteError(
                f"No position is called {position!r} here.",
                f"Known: {known}.",
                "Or write a number, as in '@-1'.",
            )
        return list(named[position])
    short = [length for length in lengths if not -length <= position < length]
    if short:
        raise SiteError(
            f"Position {position} does not exist in a prompt of {short[0]} tokens:",
            f"there are 0 to {short[0] - 1}, or -{short[0]} to -1 from the end.",
        )
    return [position % length for length in lengths]
