"""What was asked? The arguments of a quick request, checked; what is wrong is said in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cutaway.core.edit import Edit, ablate, add, scale
from cutaway.core.errors import ModelError, ParameterError, TaskError, nearest
from cutaway.core.site import KINDS, Site, parse_sites
from cutaway.models.model import Model

OPERATIONS = ("zero", "mean", "scale", "add_random")


def only(arguments: Mapping[str, Any], *known: str) -> None:
    """Refuse arguments that the request does not have."""
    for name in arguments:
        if name not in known:
            raise ParameterError(f"There is no argument {name!r} here:", nearest(name, known))


def text(arguments: Mapping[str, Any], name: str = "text", default: str | None = None) -> str:
    """A text argument."""
    value = arguments.get(name, default)
    if not isinstance(value, str):
        raise ParameterError(
            f"{name!r} is {value!r}.", "It is a text,", f'as in {{"{name}": "The capital of France is"}}.'
        )
    return value


def number(arguments: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    """A whole number between two bounds; digits are taken too, since a query string has nothing else."""
    value = arguments.get(name, default)
    if isinstance(value, str) and value.lstrip("-").isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ParameterError(f"{name!r} is {value!r}.", f"It is a whole number from {low} to {high}.")
    return value


def sites(arguments: Mapping[str, Any], name: str = "sites") -> tuple[Site, ...]:
    """Sites, as a list or as text with commas between them."""
    value = arguments.get(name)
    listed = isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value))
    if not listed or not value:
        raise ParameterError(
            f"{name!r} is {value!r}.", "It is a list of sites,", f'as in {{"{name}": ["z[9].head[6]", "mlp_out[3]"]}}.'
        )
    return parse_sites(value)


def ids(model: Model, arguments: Mapping[str, Any]) -> tuple[int, ...]:
    """The token ids of the request's text; of two texts, where the request has `text_b`."""
    written = text(arguments)
    other = text(arguments, "text_b", "")
    if model.tokenizer is None:
        raise ModelError(
            f"{model.name} has no tokenizer.", "A text cannot be read by it.", "Use model.run with token ids."
        )
    found = tuple(model.tokenizer(written, other)["input_ids"]) if other else tuple(model.encode(written))
    if not found:
        raise TaskError("The text is empty.", "It has one word or more,", 'for example "The capital of France is".')
    limit = getattr(model.anatomy.text_config, "max_position_embeddings", None)
    if isinstance(limit, int) and len(found) > limit > 0:
        raise TaskError(f"The text has {len(found)} tokens.", f"{model.name} takes {limit} at most.", "Shorten it.")
    return found


def second_text(model: Model, arguments: Mapping[str, Any]) -> int | None:
    """The token at which the second text starts; None where there is one text only."""
    other = text(arguments, "text_b", "")
    if not other:
        return None
    both = model.tokenizer(text(arguments), other)
    if getattr(model.tokenizer, "is_fast", False):
        return next((i for i, side in enumerate(both.sequence_ids(0)) if side == 1), None)
    return len(both["input_ids"]) - len(model.tokenizer(other, add_special_tokens=False)["input_ids"])


def edits(model: Model, arguments: Mapping[str, Any]) -> tuple[Edit, ...]:
    """Edits written as JSON: `{"do": "zero", "site": "z[9].head[6]"}`."""
    given = arguments.get("edit", ())
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ParameterError(
            f"'edit' is {given!r}.", "It is a list of edits,", 'as in [{"do": "zero", "site": "z[9].head[6]"}].'
        )
    return tuple(_edit(model, one) for one in given)


def _edit(model: Model, given: Any) -> Edit:
    if not isinstance(given, Mapping) or not isinstance(given.get("site"), str):
        raise ParameterError(
            f"{given!r} is not an edit.",
            "An edit names what is done and where,",
            'as in {"do": "zero", "site": "mlp_out[3]"}.',
        )
    only(given, "do", "site", "factor", "seed", "norm")
    site, do = Site.parse(given["site"]), given.get("do", "zero")
    if do in ("zero", "mean"):
        return ablate(site, do)
    if do == "scale":
        return scale(site, _float(given, "factor", 0.5))
    if do == "add_random":
        return add(site, _random(model, site, given), scale=_float(given, "norm", 1.0))
    raise ParameterError(f"An edit cannot {do!r}:", nearest(str(do), OPERATIONS))


def _random(model: Model, site: Site, given: Mapping[str, Any]) -> Any:
    """A direction of length one, drawn with the edit's seed."""
    import torch

    dims = KINDS[site.kind][1]
    sizes = {"d_model": model.anatomy.d_model, "d_mlp": model.anatomy.d_mlp, "d_head": model.anatomy.d_head}
    if dims[-1] not in sizes or site.unit is not None:
        raise ParameterError(
            f"No random direction can be added at '{site}'.", "It needs a vector, such as resid_post[3]."
        )
    generator = torch.Generator().manual_seed(number(given, "seed", 0, 0, 2**31 - 1))
    vector = torch.randn(sizes[dims[-1]], generator=generator)
    return (vector / vector.norm()).to(model.device, model.dtype)


def _float(given: Mapping[str, Any], name: str, default: float) -> float:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise ParameterError(f"{name!r} is {value!r}.", "It is a number,", f'as in {{"{name}": {default}}}.')
    return float(value)
