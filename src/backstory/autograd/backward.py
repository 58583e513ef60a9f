"""The reverse walk: every node turns its output's cotangent into its inputs' cotangents.

Nodes are visited from the newest to the oldest, which is a topological order because a node is
always made after its inputs. The walk is a loop over a heap, so depth is no limit. A plain walk runs
the vjp rules on arrays; with ``create_graph`` it runs the same rules on tensors.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from backstory.arrays import namespace
from backstory.errors import ArgumentError, DtypeError, GraphError, ShapeError, VersionError
from backstory.graph import Node, context
from backstory.ops import unbroadcast
from backstory.tensor import Tensor, as_tensor, wrap

__all__ = ["backward", "cotangents", "grad"]


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Add the gradients of ``tensors`` to the ``grad`` of every leaf they were computed from.

    >>> import backstory
    >>> x = backstory.tensor(1.0, requires_grad=True)
    >>> backward(x**2); backward(x**3)
    >>> x.grad  # 2 and 3, accumulated
    tensor(5.)
    """
    roots = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    upstream = _upstream(roots, grad_tensors)
    for listener in tuple(context().backward_listeners):
        listener(roots)
    leaves = _walk(roots, upstream, create_graph if retain_graph is None else retain_graph, create_graph)
    for leaf, (part, fresh) in leaves.items():
        _accumulate(leaf, part, fresh)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of ``outputs`` with respect to ``inputs``, without touching any ``grad``.

    >>> import backstory
    >>> x = backstory.tensor(2.0, requires_grad=True)
    >>> (first,) = grad(x**3, x, create_graph=True)
    >>> (second,) = grad(first, x)
    >>> first.item(), second.item()
    (12.0, 12.0)
    """
    roots = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    upstream = _upstream(roots, grad_outputs)
    for x in wanted:
        if not x.requires_grad:
            raise GraphError(
                f"grad() with respect to a tensor of shape {x.shape} that does not require grad",
                why="nothing was recorded for it",
                instead="make it with requires_grad=True before computing the outputs",
            )
    found: dict[Any, Any] = {}
    places = [x if x.grad_fn is None else x.grad_fn for x in wanted]
    nodes = {x.grad_fn for x in wanted}

    def visit(node: Node, g: Any) -> None:
        if node in nodes:
            found[node] = g

    leaves = _walk(
        roots, upstream, bool(create_graph if retain_graph is None else retain_graph), create_graph, visit
    )
    found.update({leaf: part for leaf, (part, _) in leaves.items()})
    missing = [i for i, place in enumerate(places) if place not in found]
    if missing and not allow_unused:
        raise GraphError(
            f"grad() with respect to input {missing[0]}",
            why="the outputs were not computed from it",
            instead="allow_unused=True to receive None for it",
        )
    return tuple(
        _as_gradient(found[place], x) if place in found else None
        for x, place in zip(wanted, places, strict=True)
    )


def cotangents(root: Tensor, gradient: Any = None) -> dict[Node, Any]:
    """The upstream gradient of every node below ``root``, as arrays; the graph is kept."""
    found: dict[Node, Any] = {}
    _walk([root], _upstream([root], gradient), True, False, found.__setitem__)
    return found


def _upstream(roots: list[Tensor], gradients: Any) -> list[Tensor]:
    """The checked upstream gradient of every root; 1 for a scalar that names none."""
    if gradients is None:
        gradients = [None] * len(roots)
    elif isinstance(gradients, Tensor) or not isinstance(gradients, (list, tuple)):
        gradients = [gradients]
    if len(gradients) != len(roots):
        raise ArgumentError(
            f"backward() received {len(roots)} tensors and {len(gradients)} gradients",
            why="every tensor has one upstream gradient",
            instead="one gradient per tensor, None for a scalar",
        )
    if not roots:
        raise ArgumentError(
            "backward() received no tensors", why="there is nothing to start from", instead="[loss]"
        )
    return [_one_upstream(root, g) for root, g in zip(roots, gradients, strict=True)]


def _one_upstream(root: Tensor, g: Any) -> Tensor:
    if not root._requires_grad:
        raise GraphError(
            f"backward() on a tensor of shape {root.shape} that does not require grad and has no history",
            why="no operation that led to it was recorded: its inputs do not require grad, "
            "it was detached, or it was computed under no_grad",
            instead="requires_grad=True on the parameters, and no detach() or no_grad in between",
        )
    if root.dtype.kind != "f":
        raise DtypeError(
            f"backward() on a tensor of {root.dtype}",
            why="only floats have gradients",
            instead="a float loss",
        )
    if g is None:
        if root.shape and root.numel() != 1:
            raise ShapeError(
                f"backward() without a gradient on a tensor of shape {root.shape}",
                why="the gradient of several numbers at once is not defined",
                instead="y.sum().backward(), or y.backward(gradient) with a gradient of that shape",
            )
        one = np.empty(root.shape, root.dtype)
        one.fill(1)
        return wrap(one, 0)
    g = as_tensor(g)
    if g.shape != root.shape:
        raise ShapeError(
            f"backward() on a tensor of shape {root.shape} received a gradient of shape {g.shape}",
            why="the upstream gradient has one entry for each entry of the tensor",
            instead=f"a gradient of shape {root.shape}",
        )
    return g.to(root.dtype)


def _walk(
    roots: list[Tensor], upstream: list[Tensor], retain: bool, create_graph: bool, visit: Any = None
) -> dict[Tensor, tuple[Any, bool]]:
    """:func:`_walk_aloud` without NumPy's warnings; ``create_graph`` records under ``no_grad`` too."""
    ctx = context()
    level = ctx.levels[roots[0].level]
    before = level.grad_enabled
    level.grad_enabled = before or create_graph
    try:
        return ctx.quiet.copy().run(_walk_aloud, roots, upstream, retain, create_graph, visit)
    finally:
        level.grad_enabled = before


def _walk_aloud(
    roots: list[Tensor],
    upstream: list[Tensor],
    retain: bool,
    create_graph: bool,
    visit: Callable[[Node, Any], None] | None = None,
) -> dict[Tensor, tuple[Any, bool]]:
    """The cotangent of every leaf, each with whether its memory is surely nobody else's."""
    pending: dict[Node, Any] = {}
    leaves: dict[Tensor, tuple[Any, bool]] = {}
    heap: list[tuple[int, Node]] = []
    value: Any = None
    for root, g in zip(roots, upstream, strict=True):
        value = g if create_graph or g.level < root.level else g.array
        _arrive(root.grad_fn or root, value, False, pending, leaves, heap)
    xp = namespace(value)  # every cotangent of a walk lives in one namespace
    while heap:
        node = heapq.heappop(heap)[1]
        g = pending.pop(node)
        if visit is not None:
            visit(node, g)
        ans, inputs, residuals = _values(node, create_graph)
        op, params, fresh = node.op, node.params, node.op.fresh
        for i, edge in enumerate(node.edges):
            if edge is None:
                continue
            shape = edge.shape
            part = op.vjp(xp, i, g, ans, inputs, shape, params, residuals)
            if part.shape != shape:
                part = unbroadcast(xp, part, shape)
            if part.dtype is not edge.dtype:
                part = xp.astype(part, edge.dtype)
            _arrive(edge, part, fresh, pending, leaves, heap)
        if not retain:
            node.free()
    return leaves


def _arrive(
    edge: Any,
    part: Any,
    fresh: bool,
    pending: dict[Node, Any],
    leaves: dict[Tensor, tuple[Any, bool]],
    heap: list[tuple[int, Node]],
) -> None:
    """Add one contribution to the cotangent of a node, which then waits its turn, or of a leaf."""
    if edge.__class__ is Node:
        if edge in pending:
            pending[edge] = pending[edge] + part
        else:
            pending[edge] = part
            heapq.heappush(heap, (-edge.order, edge))
    elif edge in leaves:
        leaves[edge] = (leaves[edge][0] + part, True)
    else:
        leaves[edge] = (part, fresh)


def _values(node: Node, create_graph: bool) -> tuple[Any, list[Any], Any]:
    """What the node kept for its rule, if it still has it unchanged."""
    if node.freed:
        raise GraphError(
            f"a second backward() through {node!r} of shape {node.shape}",
            why="the first one freed the values that it needs",
            instead="backward(retain_graph=True) the first time, or compute the loss again",
        )
    for counter, version, _ in node.versions:
        if counter[0] != version:
            raise _changed(node, version, counter[0])
    if create_graph:
        return (*_as_tensors(node), None)
    return node.ans, node.inputs, node.residuals


def _changed(node: Node, version: int, now: int) -> VersionError:
    return VersionError(
        f"backward() through {node!r} of shape {node.shape}",
        why=f"a value that it needs was changed in place: it was at version {version} and is at {now}",
        instead="x = x + y (a new tensor) for the change, or the change after backward()",
    )


def _as_tensors(node: Node) -> tuple[Any, list[Any]]:
    """What the node kept, as tensors with their history, so that its rule can be recorded."""
    counters = {place: counter for counter, _, place in node.versions}
    inputs = []
    for j, (value, edge) in enumerate(zip(node.inputs, node.edges, strict=True)):
        if not hasattr(value, "dtype"):
            inputs.append(value)
        elif isinstance(edge, Tensor):
            inputs.append(edge)
        else:
            inputs.append(_linked(value, edge, node.level, counters.get(j)))
    ans = None if node.ans is None else _linked(node.ans, node, node.level, counters[-1])
    return ans, inputs


def _linked(array: Any, node: Node | None, level: int, counter: list[int] | None) -> Tensor:
    """A tensor of memory that was kept: changes in place are counted where its first owner counts them."""
    result = wrap(array, level)
    result.grad_fn = node
    result._requires_grad = node is not None
    if counter is not None:
        result._counter = counter
    return result


def _as_gradient(part: Any, like: Tensor) -> Tensor:
    if like.level == 0 and not isinstance(part, Tensor):
        return wrap(np.array(part), 0)
    return part if isinstance(part, Tensor) and part.level == like.level else wrap(part, like.level)


def _accumulate(leaf: Tensor, part: Any, fresh: bool) -> None:
    """leaf.grad ← leaf.grad + part, in memory that nobody else holds."""
    if isinstance(part, Tensor) or leaf.level > 0:
        part = _as_gradient(part, leaf)
        if leaf.grad is not None:
            leaf.grad = leaf.grad + part
        else:
            leaf.grad = part if fresh else part.clone()
    elif leaf.grad is None:
        # A NumPy scalar, which products of 0-d arrays are, could not be changed in place.
        leaf.grad = wrap(part if fresh and part.__class__ is np.ndarray else np.array(part), 0)
    elif leaf.grad.requires_grad:
        leaf.grad = leaf.grad + wrap(part, 0)
    else:
        leaf.grad.array += part
        leaf.grad._counter[0] += 1
