"""Where in a network? A `Site` is the address of a value in any model.

    resid_post[5]               the residual stream after layer 5, at every position
    z[9].head[6]                what head 6 of layer 9 writes, before the output projection
    mlp_act[3].unit[512]@-1     neuron 512 of layer 3 at each prompt's last token
    resid_pre[8:]@*             a pattern: layers 8 and up, each position on its own
    encoder.resid_post[2]       the encoder's stream in an encoder-decoder
    resid_pre[4]@subject        the position that a task calls `subject`

A site prints what it parses (`Site.parse(str(site)) == site`), hashes, and works as a key, in URLs and on the
command line. Layers, heads, units, experts and positions may each be a number, a slice or `*`; such a site is a
*pattern*, and `expand` turns it into concrete sites once the sizes of a model are known.

The kinds are the field's names. Two pairs are easy to mix up: `attn_out` is what the attention module returns,
`attn_contrib` what is really added to the residual stream; they differ where a norm or a multiplier stands between.
`q` and `k` are what attention uses (after rotary embedding); `q_pre_rope` and `k_pre_rope` are before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from cutaway.core.errors import SiteError, nearest

Part = Literal["stream", "attention", "scores", "mlp", "experts", "ends"]

# kind -> (the part of a layer it belongs to, its dimensions after the prompt). The order is the order in which a
# sequential pre-norm layer computes them.
KINDS: dict[str, tuple[Part, tuple[str, ...]]] = {
    "embed": ("ends", ("position", "d_model")),
    "resid_pre": ("stream", ("position", "d_model")),
    "attn_in": ("stream", ("position", "d_model")),
    "q_pre_rope": ("attention", ("position", "head", "d_head")),
    "k_pre_rope": ("attention", ("position", "head", "d_head")),
    "q": ("attention", ("position", "head", "d_head")),
    "k": ("attention", ("position", "head", "d_head")),
    "v": ("attention", ("position", "head", "d_head")),
    "k_per_query_head": ("attention", ("position", "head", "d_head")),
    "v_per_query_head": ("attention", ("position", "head", "d_head")),
    "scores": ("scores", ("head", "query", "key")),
    "pattern": ("scores", ("head", "query", "key")),
    "z": ("attention", ("position", "head", "d_head")),
    "attn_out": ("stream", ("position", "d_model")),
    "attn_contrib": ("stream", ("position", "d_model")),
    "resid_mid": ("stream", ("position", "d_model")),
    "mlp_in": ("stream", ("position", "d_model")),
    "mlp_pre": ("mlp", ("position", "d_mlp")),
    "mlp_act": ("mlp", ("position", "d_mlp")),
    "router": ("experts", ("position", "expert")),
    "expert_out": ("experts", ("expert", "position", "d_model")),
    "mlp_out": ("stream", ("position", "d_model")),
    "mlp_contrib": ("stream", ("position", "d_model")),
    "resid_post": ("stream", ("position", "d_model")),
    "final": ("ends", ("position", "d_model")),
    "logits": ("ends", ("position", "vocab")),
}
KIND_ORDER = {kind: rank for rank, kind in enumerate(KINDS)}
STACKS = ("", "encoder", "cross")


@dataclass(frozen=True)
class Span:
    """A slice as data: `8:`, `:4`, `2:9:2`, or `*` (everything)."""

    start: int | None = None
    stop: int | None = None
    step: int | None = None

    def __str__(self) -> str:
        if self == Span():
            return "*"
        text = f"{'' if self.start is None else self.start}:{'' if self.stop is None else self.stop}"
        return text if self.step is None else f"{text}:{self.step}"

    @property
    def from_end(self) -> bool:
        """True when a bound counts from the end, or the numbers come in reverse."""
        return any(number is not None and number < 0 for number in (self.start, self.stop, self.step))

    def indices(self, size: int) -> list[int]:
        """The numbers that the slice takes out of `range(size)`."""
        return list(range(size))[slice(self.start, self.stop, self.step)]


Index = int | Span | None
EVERY = Span()

_ENDS = "|".join(kind for kind, (part, _) in KINDS.items() if part == "ends")
_SITE = re.compile(
    rf"^(?:(?!(?:{_ENDS})\.)(?P<stack>[a-z]+)\.)?"  # what follows `embed.` is a part, not a kind
    r"(?P<kind>[a-z_]+)(?:\[(?P<layer>[^\]]*)\])?"
    r"(?P<parts>(?:\.[a-z]+\[[^\]]*\])*)(?:@(?P<position>.+))?$"
)
_PART = re.compile(r"\.([a-z]+)\[([^\]]*)\]")
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


@dataclass(frozen=True)
class Site:
    """A frozen, hashable, printable address of a value in a model; see the module's examples.

    Attributes:
        kind: what the value is, one of `KINDS`.
        layer: which layer; None for `embed`, `final` and `logits`.
        head: which head of an attention value (a key/value head for `k` and `v`), or all.
        unit: which coordinate of the last dimension (a neuron of `mlp_act`), or all.
        expert: which expert of `router` and `expert_out`, or all.
        position: which token: a number (negative counts from each prompt's end), a slice, a task's named
            position, or None for all. For `scores` and `pattern` it is the query.
        stack: "" for the decoder or only stack, `encoder`, or `cross` for cross-attention.
    """

    kind: str
    layer: Index = None
    head: Index = None
    unit: Index = None
    expert: Index = None
    position: int | Span | str | None = None
    stack: str = ""

    def __post_init__(self) -> None:
        _validate(self)

    @staticmethod
    def parse(text: str | Site) -> Site:
        """Read one site from text; `SiteError` says what is wrong with it."""
        return text if isinstance(text, Site) else _parse(text)

    def __str__(self) -> str:
        stack = f"{self.stack}." if self.stack else ""
        layer = "" if self.layer is None else f"[{self.layer}]"
        parts = [(name, getattr(self, name)) for name in ("head", "unit", "expert")]
        inner = "".join(f".{name}[{value}]" for name, value in parts if value is not None)
        position = "" if self.position is None else f"@{self.position}"
        return f"{stack}{self.kind}{layer}{inner}{position}"

    def __repr__(self) -> str:
        return f"Site({str(self)!r})"

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions of the value behind this site, the prompt first."""
        dims = ["prompt", *KINDS[self.kind][1]]
        gone = {
            "head": isinstance(self.head, int),
            dims[-1]: isinstance(self.unit, int),
            "expert": isinstance(self.expert, int),
            "query" if "query" in dims else "position": isinstance(self.position, int | str),
        }
        return tuple(dim for dim in dims if not gone.get(dim, False))

    @property
    def on_encoder(self) -> bool:
        """True when positions are the encoder's: in its own stack, and for the keys that a decoder looks at."""
        keys = ("k", "v", "k_pre_rope", "k_per_query_head", "v_per_query_head")
        return self.stack == "encoder" or (self.stack == "cross" and self.kind in keys)

    @property
    def is_pattern(self) -> bool:
        """True when the site names several values: a slice or `*` of layers, heads, units or experts."""
        return any(isinstance(value, Span) for value in (self.layer, self.head, self.unit, self.expert))

    @property
    def whole(self) -> Site:
        """The same value with all its heads, units, experts and positions: what a tap reads."""
        return Site(self.kind, self.layer, stack=self.stack)

    def at(self, position: int | str | Span | None) -> Site:
        """The same site at another position."""
        return replace(self, position=position)

    def expand(
        self, *, layers: int, heads: int = 0, units: int = 0, experts: int = 0, positions: int | None = None
    ) -> list[Site]:
        """Every concrete site that a pattern names, in order of layer, head, unit, expert, position.

        Args:
            layers: number of layers of the site's stack.
            heads: number of heads of the site's kind (key/value heads for `k` and `v`).
            units: size of the site's last dimension.
            experts: number of experts of a layer.
            positions: number of tokens; None leaves `@*` and slices of positions as they are.
        """
        found = [self]
        sizes = {"layer": layers, "head": heads, "unit": units, "expert": experts}
        for field, size in sizes.items():
            found = [one for site in found for one in _expanded(site, field, size)]
        if positions is not None and isinstance(self.position, int | Span):
            found = [one for site in found for one in _expanded(site, "position", positions)]
        return found


def parse_sites(text: str | Site | Iterable[str | Site]) -> tuple[Site, ...]:
    """Sites from text with commas between them, from one site, or from a sequence of either.

    >>> parse_sites("resid_post[*]@-1, z[9]")
    (Site('resid_post[*]@-1'), Site('z[9]'))
    """
    if isinstance(text, Site):
        return (text,)
    if isinstance(text, str):
        return tuple(_parse(part) for part in _split(text))
    return tuple(site for part in text for site in parse_sites(part))


def _split(text: str) -> Iterator[str]:
    """Parts between commas that stand outside brackets."""
    for part in re.split(r",(?![^\[]*\])", text):
        if part.strip():
            yield part.strip()


def _parse(text: str) -> Site:
    match = _SITE.match(text.strip())
    if match is None:
        raise SiteError(
            f"{text!r} is not a site.",
            "A site is KIND[LAYER].head[N]@POSITION, where all but the kind may be missing,",
            "for example 'resid_post[5]', 'z[9].head[6]' or 'resid_pre[8:]@*'.",
        )
    fields: dict[str, Index] = {}
    for name, value in _PART.findall(match["parts"]):
        if name not in ("head", "unit", "expert"):
            raise SiteError(f"{text!r} names a part {name!r}.", nearest(name, ["head", "unit", "expert"]))
        fields[name] = _index(value, text)
    layer = None if match["layer"] is None else _index(match["layer"], text)
    position = None if match["position"] is None else _position(match["position"], text)
    return Site(match["kind"], layer, position=position, stack=match["stack"] or "", **fields)


def _index(text: str, whole: str) -> Index:
    text = text.strip()
    if text == "*":
        return EVERY
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    if re.fullmatch(r"(-?\d+)?:(-?\d+)?(:-?\d+)?", text):
        numbers = [int(part) if part else None for part in text.split(":")]
        if len(numbers) == 3 and numbers[2] == 0:
            raise SiteError(f"{text!r} in {whole!r} steps by 0.", "A slice steps by 1 or more,", "as in '0:12:2'.")
        return Span(*numbers)
    raise SiteError(
        f"{text!r} in {whole!r} is not an index.",
        "An index is a number, a slice or '*',",
        "as in [5], [8:] or [*].",
    )


def _position(text: str, whole: str) -> int | Span | str | None:
    text = text.strip()
    if _NAME.match(text):
        return text
    return _index(text, whole)


def _validate(site: Site) -> None:
    if site.kind not in KINDS:
        raise SiteError(f"{site.kind!r} is not a kind of site:", nearest(site.kind, KINDS))
    if site.stack not in STACKS:
        raise SiteError(f"{site.stack!r} is not a stack:", nearest(site.stack, STACKS[1:]))
    part, dims = KINDS[site.kind]
    if (part == "ends") != (site.layer is None):
        if part == "ends":
            raise SiteError(f"{site.kind!r} belongs to no layer.", "", f"Write {site.kind!r} alone.")
        raise SiteError(f"{site.kind!r} needs a layer.", "", f"Write {site.kind + '[5]'!r} or {site.kind + '[*]'!r}.")
    for field in ("head", "expert"):
        if getattr(site, field) is not None and field not in dims:
            able = [kind for kind, (_, names) in KINDS.items() if field in names]
            raise SiteError(f"{site.kind!r} has no {field}s.", f"Kinds that have: {', '.join(able)}.")
    if site.kind == "router" and site.unit is not None:
        raise SiteError("The units of 'router' are its experts.", "", "Write 'router[3].expert[2]'.")
    if isinstance(site.position, str) and not _NAME.fullmatch(site.position):
        raise SiteError(f"{site.position!r} is not a name of a position.", "", "Write a word, as in '@subject'.")


def _expanded(site: Site, field: str, size: int) -> Sequence[Site]:
    value: Any = getattr(site, field)
    if value is None or isinstance(value, str):
        return [site]
    if isinstance(value, Span):
        return [_with(site, field, number) for number in value.indices(size)]
    if not -size <= value < size:
        raise SiteError(
            f"{field} {value} of '{site}' does not exist:",
            f"there are {size} {field}s, numbered 0 to {size - 1}" if size else f"there are no {field}s",
            "(negative numbers count from the end)." if size else "here.",
        )
    return [_with(site, field, value % size)]


def _with(site: Site, field: str, number: int) -> Site:
    changed: dict[str, Any] = {field: number}
    return replace(site, **changed)
