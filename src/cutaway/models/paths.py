"""What does a part say to a later part directly? Path patching, many senders in one batch.

The definition [@wang2022; @goldowskydill2023], for senders S and receivers R:

1. the base run and the other run are recorded;
2. the base prompts are run with every head's z kept as in the base run, but the senders' as in the other run: what
   changes in the stream comes from the senders alone, through MLPs that compute anew (or are kept too);
3. the receivers' values (`q`, `k`, `v`, `mlp_in`, ...) are taken from that run and put into the base run, where
   everything computes anew. For the receiver `logits` step 2 already gives the answer.

Each set of senders is a block of rows; layers below the first sender (step 2) or receiver (step 3) are passed over.
Limits: sites of the main stack; prompts and their other prompts have equally many tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.core.edit import Edit, replace
from cutaway.core.errors import PlanError
from cutaway.core.progress import track
from cutaway.core.run import token_positions
from cutaway.core.site import Site
from cutaway.models import memory, taps
from cutaway.models.encode import Encoded
from cutaway.models.forward import input_device, model_inputs
from cutaway.models.metric import Metric
from cutaway.models.program import Clock, Program, index_of
from cutaway.models.recording import Recording, by_length, record
from cutaway.models.resume import for_rows
from cutaway.models.sweep import tier_of

if TYPE_CHECKING:
    from cutaway.models.model import Model

LOGITS = Site("logits")
SENDERS = ("z", "mlp_contrib")
RECEIVERS = ("q", "k", "v", "attn_in", "mlp_in", "logits")


@dataclass
class Paths:
    """Path patching on the same prompts.

    Args:
        model: the network.
        base: the base run's prompts, with their named positions.
        other: the other run's token ids, one row for each prompt.
        freeze_mlps: keep MLPs as in the base run too: only the direct path counts.
    """

    model: Model
    base: Encoded
    other: Sequence[Sequence[int]]
    freeze_mlps: bool = False
    _groups: dict[tuple[int, ...], _Group] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = [len(row) for row in self.other]
        if lengths != self.base.lengths:
            raise PlanError("Prompts and other prompts differ in length.", "A path is patched position by position.")

    def scores(
        self,
        senders: Sequence[Sequence[Site]],
        receivers: Sequence[Sequence[Site]],
        metric: Callable[[Tensor], Tensor],
        *,
        what: str = "paths",
    ) -> Float[Tensor, "senders receivers prompt"]:
        """The metric for every set of senders and every set of receivers [senders, receivers, prompt].

        Args:
            senders: sets of `z[l].head[h]`, `z[l]` and `mlp_contrib[l]`, with or without a position.
            receivers: sets of `q`, `k`, `v` (with or without a head), `attn_in`, `mlp_in`, or `logits` alone.
            metric: of the logits at the last token.
            what: what progress is reported as.
        """
        _refuse(senders, receivers)
        found = torch.full((len(senders), len(receivers), len(self.base.ids)), torch.nan, dtype=torch.float64)
        order = sorted(range(len(senders)), key=lambda number: -_first(senders[number]))
        jobs = []
        for length, prompts in by_length(self.base).items():
            size = self._rows(length)
            at_once = max(1, size // len(prompts))
            for start in range(0, len(prompts), size):
                some = prompts[start : start + size]
                jobs += [(order[i : i + at_once], some) for i in range(0, len(order), at_once)]
        for numbers, some in track(jobs, what) if len(jobs) > 1 else jobs:
            group = self._group(tuple(some))
            values = group.scores([senders[i] for i in numbers], receivers, metric)
            where = torch.tensor(some)
            for place, number in enumerate(numbers):
                found[number][:, where] = values[:, place].double().cpu()
        return found

    def _rows(self, length: int) -> int:
        anatomy, width = self.model.anatomy, next(self.model.hf.parameters()).element_size()
        kept = anatomy.n_layers * length * (anatomy.n_heads * anatomy.d_head + anatomy.d_model) * width
        working = 16 * length * anatomy.d_model * width
        return memory.rows_at_once(kept + working, length, input_device(self.model.hf))

    def _group(self, prompts: tuple[int, ...]) -> _Group:
        if prompts not in self._groups:
            layers = self.model.anatomy.stacks[""].layers
            kinds = [(part, ("z" if "z" in part.places else "attn_contrib", "mlp_contrib")) for part in layers]
            sites = [Site(kind, part.index) for part, both in kinds for kind in both if kind in part.places]
            here, there = (
                record(self.model, [ids[i] for i in prompts], sites, cache=False, streams=streams)
                for ids, streams in ((self.base.ids, True), (self.other, False))
            )
            named = {name: [where[i] for i in prompts] for name, where in self.base.named.items()}
            self._groups[prompts] = _Group(self.model, here, there, prompts, named, self.freeze_mlps)
        return self._groups[prompts]


def _refuse(senders: Sequence[Sequence[Site]], receivers: Sequence[Sequence[Site]]) -> None:
    for role, sets, kinds in (("sender", senders, SENDERS), ("receiver", receivers, RECEIVERS)):
        for site in (site for one in sets for site in one):
            if site.kind not in kinds or site.stack or site.is_pattern:
                raise PlanError(
                    f"'{site}' is no {role} of a path.",
                    f"{role.capitalize()}s are {', '.join(kinds)} of the main stack.",
                    "Write for example 'z[3].head[2]' as a sender and 'q[7].head[1]' as a receiver.",
                )
    for one in receivers:
        if LOGITS in one and len(one) > 1:
            raise PlanError("'logits' is a receiver beside others.", "It is a receiver of its own.")


def _first(sites: Sequence[Site]) -> int:
    return min(int(site.layer) for site in sites)  # type: ignore[arg-type]


@dataclass
class _Group:
    """Prompts of one length, with their base run and their other run."""

    model: Model
    here: Recording
    there: Recording
    prompts: tuple[int, ...]
    named: dict[str, list[int]]
    freeze_mlps: bool

    def scores(
        self,
        senders: Sequence[Sequence[Site]],
        receivers: Sequence[Sequence[Site]],
        metric: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """[receivers, senders, prompt]."""
        reads = tuple(dict.fromkeys(site.whole for one in receivers for site in one if site != LOGITS))
        wants_logits = any(LOGITS in one for one in receivers)
        last = None if wants_logits else max(int(site.layer) for site in reads)  # type: ignore[arg-type]
        first = min(_first(one) for one in senders)
        values, direct = self._run(len(senders), first, list(self._frozen(senders, first)), reads, metric, last)
        found = []
        for one in receivers:
            if LOGITS in one:
                assert direct is not None
                found.append(direct)
                continue
            edits = [replace(site, self._part(site, values[site.whole], len(senders))) for site in one]
            _, after = self._run(len(senders), _first(one), edits, (), metric, None)
            assert after is not None
            found.append(after)
        return torch.stack([value.reshape(len(senders), len(self.prompts)) for value in found])

    def _clock(self, sets: int) -> Clock:
        rows = sets * len(self.prompts)
        named = {name: list(where) * sets for name, where in self.named.items()}
        return Clock([self.here.length] * rows, named=named, rows=list(range(rows)))

    def _part(self, site: Site, value: Tensor, sets: int) -> Tensor:
        index, _ = index_of(site, value, self._clock(sets), 0)
        return value[index]

    def _frozen(self, senders: Sequence[Sequence[Site]], first: int) -> Iterator[Edit]:
        """Every head (and MLP, where they are kept) as in the base run, the senders as in the other."""
        sent = {site.whole for one in senders for site in one}
        for whole, base in self.here.sites.items():
            assert isinstance(whole.layer, int)
            if whole.layer < first or (whole.kind == "mlp_contrib" and not self.freeze_mlps):
                continue
            value = base.repeat(len(senders), *[1] * (base.dim() - 1))
            if whole in sent:
                self._send(value, whole, senders)
            yield replace(whole, value)
        if self.freeze_mlps:
            return
        for whole in sorted((site for site in sent if site.kind == "mlp_contrib"), key=str):
            yield _only(whole, self._sending(whole, senders))

    def _send(self, value: Tensor, whole: Site, senders: Sequence[Sequence[Site]]) -> None:
        """Write the other run's values of a whole site into the rows of its senders, in place."""
        rows = value.reshape(len(senders), len(self.prompts), *value.shape[1:])
        there = self.there.sites[whole]
        for number, one in enumerate(senders):
            for site in one:
                if site.whole == whole:
                    self._copy(rows[number], there, site)

    def _copy(self, block: Tensor, there: Tensor, site: Site) -> None:
        if isinstance(site.position, int | str):
            lengths = [self.here.length] * len(self.prompts)
            for row, place in enumerate(token_positions(site.position, lengths, self.named)):
                heads = site.head if isinstance(site.head, int) else slice(None)
                block[row, place, heads] = there[row, place, heads].to(block)
        elif isinstance(site.head, int):
            block[:, :, site.head] = there[:, :, site.head].to(block)
        else:
            block.copy_(there)

    def _sending(self, whole: Site, senders: Sequence[Sequence[Site]]) -> Callable[[Tensor], Tensor]:
        def change(value: Tensor) -> Tensor:
            new = value.clone()
            self._send(new, whole, senders)
            return new

        return change

    def _run(
        self,
        sets: int,
        first: int,
        edits: Sequence[Edit],
        reads: tuple[Site, ...],
        metric: Callable[[Tensor], Tensor],
        last: int | None,
    ) -> tuple[dict[Site, Tensor], Tensor | None]:
        """One pass over the rows of all sets: what was read, and the metric (None after an early exit)."""
        model, n = self.model, len(self.prompts)
        rows = torch.arange(n).repeat(sets)
        program = Program(model.anatomy, reads, tuple(edits), self._clock(sets))
        skips = [] if tier_of(model) == "full" else [self._passed_over(i, rows) for i in range(first)]
        found: list[Tensor] = []
        assert model.anatomy.unembed is not None
        measure = taps.ModuleTap(model.anatomy.unembed, "in", lambda final: self._measured(final, sets, metric, found))
        try:
            with torch.no_grad(), program.installed(stop_after=last), taps.module_taps([*skips, measure]):
                out: Any = model.hf(**model_inputs(model.hf, [self.here.ids[i] for i in rows.tolist()]))
        except taps.Stop:
            return program.values, found[0] if found else None
        return program.values, self._scored(sets, metric)(out.logits[:, -1])

    def _scored(self, sets: int, metric: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return metric.for_rows(list(self.prompts) * sets) if isinstance(metric, Metric) else metric

    def _measured(
        self, final: Tensor, sets: int, metric: Callable[[Tensor], Tensor], found: list[Tensor]
    ) -> Tensor | None:
        if final.dim() != 3 or final.shape[1] != self.here.length:
            return None
        final, ends = final[:, -1:], self.model._unembedding
        if isinstance(metric, Metric) and not metric.needs_vocabulary and ends.exact:
            logits = ends.of_final(final[:, 0], metric.tokens)
            found.append(metric.of_tokens(logits, list(self.prompts) * sets))
            raise taps.Stop
        return final

    def _passed_over(self, index: int, rows: Tensor) -> taps.ModuleTap:
        layer = self.model.anatomy.stacks[""].layers[index]
        expanded = for_rows(self.here.outputs[index], rows, len(self.prompts))
        own = expanded if isinstance(expanded, Tensor) else expanded[layer.out_index or 0]
        return taps.ModuleTap(layer.module, "skip", lambda hidden: own, layer.out_index, expanded)


def _only(site: Site, function: Callable[[Tensor], Tensor]) -> Edit:
    from cutaway.core.edit import apply

    return apply(site, function)
