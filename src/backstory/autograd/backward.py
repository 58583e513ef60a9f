"""``backward`` and ``grad``: gradients of recorded computations, added to leaves or returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from backstory.autograd.walk import route_to, walk
from backstory.errors import ArgumentError, DtypeError, GraphError, ShapeError
from backstory.graph import Node, context
from backstory.history import count_change, user_line
from backstory.tensor import Tensor, as_tensor, wrap

__all__ = ["backward", "cotangents", "grad"]


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add the gradients of ``tensors`` to the ``grad`` of every leaf they were computed from.

    ``grad_tensors`` are the upstream gradients, of the tensors' shapes; a scalar needs none. The graph
    is freed unless ``retain_graph``. With ``create_graph`` the gradients have a history too. With
    ``inputs`` the gradients of those tensors alone are added, and only what leads to them is walked.

    >>> import backstory
    >>> x = backstory.tensor(1.0, requires_grad=True)
    >>> backward(x**2); backward(x**3)
    >>> x.grad  # 2 and 3, accumulated
    tensor(5.)
    """
    roots = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    upstream = _upstream(roots, grad_tensors)
    wanted = None if inputs is None else _wanted("backward()", inputs)
    for listener in tuple(context().backward_listeners):
        listener(roots)
    retain = create_graph if retain_graph is None else retain_graph
    if wanted is not None:
        found = _captured(roots, upstream, wanted, retain, create_graph)
        for x in wanted:
            if _place(x) in found:
                _accumulate(x, found[_place(x)], False)
        return
    for leaf, (part, fresh) in walk(roots, upstream, retain, create_graph).items():
        _accumulate(leaf, part, fresh)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of ``outputs`` with respect to ``inputs``, without touching any ``grad``.

    An input that the outputs were not computed from raises; it gives ``None`` with ``allow_unused``, and
    zeros with ``materialize_grads``. Only what leads to the inputs is walked, and freed.

    >>> import backstory
    >>> x = backstory.tensor(2.0, requires_grad=True)
    >>> (first,) = grad(x**3, x, create_graph=True)
    >>> (second,) = grad(first, x)
    >>> first.item(), second.item()
    (12.0, 12.0)
    """
    roots = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    wanted = _wanted("grad()", inputs)
    upstream = _upstream(roots, grad_outputs)
    retain = create_graph if retain_graph is None else retain_graph
    found = _captured(roots, upstream, wanted, retain, create_graph)
    missing = [i for i, x in enumerate(wanted) if _place(x) not in found]
    if missing and not (allow_unused or materialize_grads):
        raise GraphError(
            f"grad() with respect to input {missing[0]}",
            why="the outputs were not computed from it",
            instead="allow_unused=True to receive None for it",
        )
    return tuple(
        _as_gradient(found[_place(x)], x) if _place(x) in found else _zeros(x) if materialize_grads else None
        for x in wanted
    )


def _wanted(what: str, inputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
    wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if not wanted:
        raise ArgumentError(
            f"{what} received no inputs", why="there is nothing to differentiate by", instead="[x]"
        )
    for x in wanted:
        if not x.requires_grad:
            raise GraphError(
                f"{what} with respect to a tensor of shape {x.shape} that does not require grad",
                why="nothing was recorded for it",
                instead="make it with requires_grad=True before computing the outputs",
            )
    return wanted


def _place(x: Tensor) -> Any:
    """Where the walk finds the cotangent of ``x``: its node, or the leaf itself."""
    return x if x.grad_fn is None else x.grad_fn


def _captured(
    roots: list[Tensor], upstream: list[Tensor], wanted: list[Tensor], retain: bool, create_graph: bool
) -> dict[Any, Any]:
    """The cotangents of ``wanted`` by place, as the walk holds them."""
    found: dict[Any, Any] = {}
    nodes = {x.grad_fn for x in wanted}

    def visit(node: Node, g: Any) -> None:
        if node in nodes:
            found[node] = g

    route = route_to(roots, [_place(x) for x in wanted])
    leaves = walk(roots, upstream, retain, create_graph, visit, route)
    found.update({leaf: part for leaf, (part, _) in leaves.items()})
    return found


def _zeros(x: Tensor) -> Tensor:
    return wrap(np.zeros(x.shape, x.dtype), 0)


def cotangents(root: Tensor, gradient: Any = None) -> dict[Node, Any]:
    """The upstream gradient of every node below ``root``, as arrays; the graph is kept."""
    found: dict[Node, Any] = {}
    walk([root], _upstream([root], gradient), True, False, found.__setitem__)
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
    if not root.requires_grad:
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


def _as_gradient(part: Any, like: Tensor) -> Tensor:
    if like.level == 0 and not isinstance(part, Tensor):
        return wrap(context().xp.asarray(part, copy=True), 0)
    return part if isinstance(part, Tensor) and part.level >= like.level else wrap(part, like.level)


def _accumulate(leaf: Tensor, part: Any, fresh: bool) -> None:
    """leaf._grad ← leaf._grad + part, in memory that nobody else holds."""
    ctx = context()
    if ctx.trace is not None:
        ctx.trace.reads_gradient(leaf)
    if isinstance(part, Tensor) or leaf.level > 0:
        part = _as_gradient(part, leaf)
        if leaf._grad is not None:
            leaf._grad = leaf._grad + part
        else:
            leaf._grad = part if fresh else part.clone()
    elif leaf._grad is None:
        # A NumPy scalar, which products of 0-d arrays are, could not be changed in place.
        fresh = fresh and not isinstance(part, np.generic)
        leaf._grad = wrap(part if fresh else ctx.xp.asarray(part, copy=True), 0)
    elif leaf._grad.requires_grad:
        leaf._grad = leaf._grad + wrap(part, 0)
    else:
        leaf._grad.array += part
        count_change(leaf._grad._counter, user_line())
    if leaf._hooks is not None:
        for hook in tuple(leaf._hooks.after.values()):
            hook(leaf)
