"""Where a gradient shrinks or grows on its way back: weights' factor and activations' factor, by layer.

The chain rule multiplies, from the last activation back to the first, local derivatives of activations and
weights in turn: ∂L/∂z₁ holds ∏ diag(f′(zₗ))·Wₗ₊₁ᵀ. Of each the factor by which it changes the gradient's norm
is measured; the product of all factors is the change from the last activation to the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from backstory.autograd import grad
from backstory.errors import ArgumentError
from backstory.insight.sites import Observer, observing, site_name
from backstory.nn import Module
from backstory.ops import Op
from backstory.tensor import Tensor

__all__ = ["GradientFactors", "gradient_factors"]

SQUASHING = ("sigmoid", "tanh")


@dataclass(frozen=True)
class GradientFactors:
    """What :func:`gradient_factors` found, from the first site to the last; prints as a table.

    ``activations[l]`` = ‖∂L/∂zₗ‖ / ‖∂L/∂aₗ‖ of site l. ``weights[l]`` = ‖∂L/∂aₗ‖ / ‖∂L/∂zₗ₊₁‖ is the factor
    of what lies between site l and the next: weights, and normalisation and shortcuts if there are any.
    ``norms[l]`` = ‖∂L/∂zₗ‖.
    """

    sites: tuple[str, ...]
    activations: np.ndarray
    weights: np.ndarray
    norms: np.ndarray

    @property
    def product(self) -> float:
        """All factors multiplied: ‖∂L/∂z₁‖ / ‖∂L/∂aₗ‖ from the last activation l to the first."""
        with np.errstate(all="ignore"):
            return float(np.prod(self.activations) * np.prod(self.weights))

    def __str__(self) -> str:
        wide = max(len("product"), *map(len, self.sites))
        lines = [f"{'site':{wide}}  {'‖∂L/∂z‖':>9}  {'activation':>10}  {'weights behind':>14}"]
        for i, name in enumerate(self.sites):
            behind = f"{self.weights[i]:14.3g}" if i < len(self.weights) else " " * 14
            lines.append(
                f"{name:{wide}}  {self.norms[i]:9.2e}  {self.activations[i]:10.3g}  {behind}".rstrip()
            )
        with np.errstate(all="ignore"):
            products = np.prod(self.activations), np.prod(self.weights)
        lines.append(f"{'product':{wide}}  {'':9}  {products[0]:10.3g}  {products[1]:14.3g}")
        return "\n".join(lines)


class _Ends(Observer):
    """Both ends of every activation that runs."""

    def __init__(self, model: Module) -> None:
        super().__init__(model)
        self.names: list[str] = []
        self.ends: list[Tensor] = []

    def ran(self, op: Op, args: Any, result: Tensor, params: Any) -> None:
        super().ran(op, args, result, params)
        if op.name in SQUASHING and isinstance(args[0], Tensor):
            self.gate(self.key_of(op), op, args, result, params)

    def gate(self, key: tuple[str, str, int], op: Op, args: Any, result: Tensor, params: Any) -> None:
        if args[0].requires_grad:
            self.names.append(site_name(key))
            self.ends += [args[0], result]


def gradient_factors(model: Module, x: Any, loss: Callable[[Tensor], Tensor]) -> GradientFactors:
    """The factors by which each activation and the weights behind it change the gradient on its way back.

    ``loss`` makes a scalar of the model's output. Norms are over samples and units together: a factor above 1
    lets the gradient of this loss on these inputs grow. Parameters and their ``grad`` stay as they are.

    >>> import backstory
    >>> from backstory import nn
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 3), nn.Sigmoid(), nn.Linear(3, 1))
    >>> found = gradient_factors(model, backstory.ones(4, 2), lambda out: out.sum())
    >>> found.sites, bool((found.activations <= 0.25).all()), len(found.weights)
    (('1/sigmoid#0', '3/sigmoid#0'), True, 1)
    """
    seen = _Ends(model)
    with observing(seen):
        seen.restart()
        out = loss(model(x))
    if not seen.ends:
        raise ArgumentError(
            f"gradient_factors({type(model).__name__}): no activation with a gradient ran",
            why="factors are those of activations and of what lies between them",
            instead="a model with ReLU, sigmoid or another activation behind parameters that require grad",
        )
    found = grad(out, seen.ends, allow_unused=True)
    norms = np.array([0.0 if g is None else float(np.linalg.norm(g.numpy().astype(float))) for g in found])
    before, after = norms[::2], norms[1::2]
    with np.errstate(all="ignore"):
        return GradientFactors(tuple(seen.names), before / after, after[:-1] / before[1:], before)
