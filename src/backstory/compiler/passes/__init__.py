"""Passes: a graph in and a graph out that computes the same, with a verifier after each."""

from __future__ import annotations

from collections.abc import Callable

from backstory.compiler.graph import Graph, verify
from backstory.compiler.passes.algebra import algebra
from backstory.compiler.passes.canonical import canonical
from backstory.compiler.passes.common import common
from backstory.compiler.passes.dead import alive
from backstory.compiler.passes.decomposition import decomposed
from backstory.compiler.passes.folding import folded

__all__ = ["PASSES", "algebra", "alive", "canonical", "common", "decomposed", "folded", "simplified"]

PASSES: tuple[Callable[[Graph], Graph], ...] = (alive, folded, decomposed, canonical, algebra, common, alive)
_ROUNDS = 4


def simplified(graph: Graph) -> Graph:
    """The graph after all passes, again and again until they find nothing more.

    >>> import numpy as np
    >>> from backstory.compiler.graph import Input, Output, Value
    >>> x = Value("input", (), {}, (3,), np.dtype("f4"))
    >>> twice = Value("multiply", (x, 1), {}, (3,), x.dtype)
    >>> y = Value("add", (twice, twice), {}, (3,), x.dtype)
    >>> [v.primitive for v in simplified(Graph([Input(x, "argument")], [], [twice, y], [Output(y)])).values]
    ['add']
    """
    for _ in range(_ROUNDS):
        before = graph.values
        for step in PASSES:
            graph = step(graph)
            verify(graph)
        if graph.values == before:
            break
    return graph
