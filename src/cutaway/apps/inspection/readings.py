"""What has each site of this prompt? Runs of the last few prompts are kept, so that a page reads a value once.

A page asks for one slice after another of the same forward pass. The whole value of a site is kept for a short while;
slices come from it. Limits: as many bytes as `LIMIT`; older prompts go first.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from cutaway.core.run import Run
from cutaway.core.site import Site
from cutaway.models.model import Model

LIMIT = 512 * 2**20


@dataclass(eq=False)
class Readings:
    """Values of one model's sites on its last prompts: ids -> whole site -> tensor."""

    kept: OrderedDict[tuple[int, ...], dict[Site, Tensor]] = field(default_factory=OrderedDict)
    limit: int = LIMIT

    def run(self, model: Model, ids: Sequence[int], sites: Sequence[Site]) -> Run:
        """A run of one prompt that has read these concrete sites."""
        key, wholes = tuple(ids), list(dict.fromkeys(site.whole for site in sites))
        held = self.kept.pop(key, {})
        missing = [site for site in wholes if site not in held]
        if missing:
            held = {**held, **model.run([list(ids)], read=missing, logits="none").held}
        self.kept[key] = held
        self._forget()
        return Run({site: held[site] for site in wholes}, (key,), (tuple(model.token_strings(key)),))

    def _forget(self) -> None:
        """The oldest prompts go first; the newest stays whatever its size until the next one comes."""
        while len(self.kept) > 1 and self.bytes > self.limit:
            self.kept.popitem(last=False)
        newest = next(iter(self.kept.values()))
        while len(newest) > 1 and self.bytes > self.limit:
            newest.pop(next(iter(newest)))

    @property
    def bytes(self) -> int:
        """Bytes of all values that are kept."""
        return sum(t.numel() * t.element_size() for held in self.kept.values() for t in held.values())


_READINGS: weakref.WeakKeyDictionary[Model, Readings] = weakref.WeakKeyDictionary()


def readings(model: Model) -> Readings:
    """The readings of a model; they go when the model goes."""
    return _READINGS.setdefault(model, Readings())
