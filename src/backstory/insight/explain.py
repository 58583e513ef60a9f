"""explain: the derivation of a loss, node by node, forwards and then backwards."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from backstory.insight.explanation import Derivation, Names, derivation
from backstory.insight.explanation.markup import html, markdown
from backstory.insight.explanation.rows import Rows, rows
from backstory.insight.explanation.text import text
from backstory.nn import Module
from backstory.tensor import Tensor

__all__ = ["Explanation", "explain"]


@dataclass(frozen=True, eq=False)
class Explanation:
    """A derivation that prints itself: ``print`` gives text, a notebook shows tables.

    ``derivation`` holds the same as data: steps, values, gradients, what flows along each edge.
    """

    derivation: Derivation
    rows: Rows

    def __str__(self) -> str:
        return text(self.rows)

    __repr__ = __str__

    def markdown(self) -> str:
        """As Markdown with LaTeX."""
        return markdown(self.rows)

    def html(self) -> str:
        """As HTML that stands on its own in any page."""
        return html(self.rows)

    _repr_html_ = html


def explain(loss: Tensor, names: Mapping[str, Tensor | Module] | None = None) -> Explanation:
    """How ``loss`` was computed and how its gradient flows back, node by node, with the numbers at hand.

    Every line of the backward part is upstream × local = product, and says what the operation does
    with a gradient: addition hands it on, multiplication swaps its factors, what broadcasting copied is
    summed, a gate lets it pass or not. A last part puts it together, such as dW₁ = δ₁·xᵀ.

    Tensors are called by their ``name``, else by ``names``, else by the variables of the caller, else by
    the path in a module that the caller holds. Arrays of more than 12 entries are shown by their shape.
    Ask before ``backward()``, which frees what is shown.

    Raises GraphError for a loss without history or after ``backward()``, and VersionError where a value
    was changed in place since.

    >>> import backstory
    >>> w, x, b = (backstory.tensor(v, requires_grad=True) for v in (3.0, 2.0, 1.0))
    >>> L = (w * x + b - 5) ** 2
    >>> print(explain(L, {"w": w, "x": x, "b": b, "L": L}))  # doctest: +ELLIPSIS
    Forward
      v₁  = w·x     = 3·2    = 6
      v₂  = v₁ + b  = 6 + 1  = 7
      v₃  = v₂ − 5  = 7 − 5  = 2
      L   = v₃²     = 2²     = 4
    ...
    In short
      ∂L/∂w  = 2·v₃·x  = 8
      ∂L/∂x  = 2·v₃·w  = 12
      ∂L/∂b  = 2·v₃    = 4
    """
    found = derivation(loss, Names.around(sys._getframe(1), names))
    return Explanation(found, rows(found))
