"""How is a number made of others? A formula with its operands, kept only where it gives the number that the network has.

A formula is proposed for a whole row of values at once (all units of a site at one position) and compared with the row
that the network computed. What does not agree is never shown: a wrong formula would have to be right for every unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SHOWN = 8


@dataclass(frozen=True)
class Operand:
    """A number that goes into a formula: its name, its value, and the site where it stands, if it is a site's."""

    name: str
    value: float
    site: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {"name": self.name, "value": self.value, "site": self.site}


@dataclass(frozen=True)
class Term:
    """A product in a sum."""

    name: str
    left: float
    right: float

    @property
    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {"name": self.name, "left": self.left, "right": self.right, "product": self.left * self.right}


@dataclass(frozen=True)
class Formula:
    """One cell's formula.

    Attributes:
        text: in names, such as `resid_mid = resid_pre + attn_contrib`.
        numbers: in numbers, such as `0.512 + -0.031`.
        value: what it gives.
        operands: its numbers.
        terms: of a sum of products the largest ones, by absolute value.
        count: how many products the sum has.
        rest: the sum of those that are not among `terms`.
    """

    text: str
    numbers: str
    value: float
    operands: tuple[Operand, ...] = ()
    terms: tuple[Term, ...] = ()
    count: int = 0
    rest: float = 0.0

    @property
    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "formula": self.text,
            "numbers": self.numbers,
            "computed": self.value,
            "operands": [one.record for one in self.operands],
            "terms": [one.record for one in self.terms],
            "count": self.count,
            "rest": self.rest,
        }


@dataclass(frozen=True)
class Proposal:
    """A formula for every unit of a row.

    Attributes:
        row: what it gives for all units.
        cell: the formula of one unit.
    """

    row: Callable[[], Tensor]
    cell: Callable[[int], Formula]


def agrees(ours: Tensor, theirs: Tensor) -> bool:
    """True when two rows are the same up to the rounding of the network's dtype."""
    if ours.shape != theirs.shape:
        return False
    tolerance = 2e-4 if theirs.dtype in (torch.float32, torch.float64) else 3e-2
    real = torch.isfinite(theirs)
    if not torch.equal(real, torch.isfinite(ours)):
        return False
    left, right = ours[real].double(), theirs[real].double()
    return bool((left - right).norm() <= tolerance * right.norm() + 1e-9)


def plain(value: float) -> str:
    """A number with four digits that count."""
    return f"{value:.4g}"


def same(name: str, source: str, values: Tensor, site: Callable[[int], str]) -> Proposal:
    """The value is another site's value."""

    def cell(unit: int) -> Formula:
        value = float(values[unit])
        return Formula(f"{name} = {source}", plain(value), value, (Operand(source, value, site(unit)),))

    return Proposal(lambda: values, cell)


def total(name: str, parts: Sequence[tuple[str, Tensor, Callable[[int], str]]]) -> Proposal:
    """A sum of rows: (name, values, site of a unit)."""

    def cell(unit: int) -> Formula:
        operands = tuple(Operand(part, float(values[unit]), site(unit)) for part, values, site in parts)
        text = f"{name} = {' + '.join(part for part, _, _ in parts)}"
        return Formula(text, " + ".join(plain(o.value) for o in operands), sum(o.value for o in operands), operands)

    return Proposal(lambda: torch.stack([values for _, values, _ in parts]).sum(dim=0), cell)


def dot(
    text: str,
    left: Tensor,
    right: Tensor,
    names: Callable[[int], str],
    *,
    bias: float | None = None,
    factor: float = 1.0,
) -> Formula:
    """A sum of products, times a factor, plus a bias."""
    left, right = left.double().cpu(), right.double().cpu()
    products = left * right
    order = products.abs().argsort(descending=True)[:SHOWN].tolist()
    terms = tuple(Term(names(i), float(left[i]), float(right[i])) for i in order)
    whole = float(products.sum())
    rest = whole - sum(term.left * term.right for term in terms)
    numbers = " + ".join(f"{plain(term.left)}·{plain(term.right)}" for term in terms[:3])
    numbers += f" + … ({len(products)} products)" if len(products) > 3 else ""
    value, operands = whole * factor, [Operand("sum of products", whole)]
    if factor != 1.0:
        numbers = f"({numbers}) × {plain(factor)}"
        operands.append(Operand("scale", factor))
    if bias is not None:
        numbers += f" + {plain(bias)}"
        value += bias
        operands.append(Operand("bias", bias))
    return Formula(text, numbers, value, tuple(operands), terms, len(products), rest)
