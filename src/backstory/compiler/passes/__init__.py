"""Passes: a graph in and a graph out that computes the same, with a verifier after each.

A pass is one walk on which each value goes through all rules, one after the other: constants are folded,
whole arrays become entries, what can be written in several ways is written in one, algebra is done, and what
was computed before is found again.
"""

from __future__ import annotations

from collections.abc import Callable

from backstory.compiler.graph import Graph, verify
from backstory.compiler.passes.algebra import algebra
from backstory.compiler.passes.canonical import canonical
from backstory.compiler.passes.common import common
from backstory.compiler.passes.dead import alive
from backstory.compiler.passes.decomposition import decomposed
from backstory.compiler.passes.folding import folded
from backstory.compiler.passes.rewriting import Rule, rewritten

__all__ = ["RULES", "algebra", "alive", "canonical", "common", "decomposed", "folded", "simplified"]

RULES: tuple[Callable[[], Rule], ...] = (folded, decomposed, canonical, algebra, common)
"""What is called once for each pass and gives its rules, in their order."""
_ROUNDS = 4


def simplified(graph: Graph) -> Graph:
    """The graph after as many passes as find something, without what nothing needs.

    >>> import numpy as np
    >>> from backstory.compiler.graph import Input, Output, Value
    >>> x = Value("input", (), {}, (3,), np.dtype("f4"))
    >>> twice = Value("multiply", (x, 1), {}, (3,), x.dtype)
    >>> y = Value("add", (twice, twice), {}, (3,), x.dtype)
    >>> [v.primitive for v in simplified(Graph([Input(x, "argument")], [], [twice, y], [Output(y)])).values]
    ['add']
    """
    graph = alive(graph)
    for _ in range(_ROUNDS):
        before = graph
        graph = alive(rewritten(graph, *(rules() for rules in RULES)))
        if graph is before:
            break
        verify(graph)
    return graph
