"""How histories follow changes in place: of a tensor, of its views, and of what it is a view of.

The memory that tensors share has one count of changes and one of *rebasings*: changes that gave it a
new history. A view whose last rebasing is not the memory's own is out of date; before it is used, its
history is recorded anew from its parent's. So a change costs nothing where no view is used again.
"""

from __future__ import annotations

import linecache
import sys
import weakref
from collections.abc import Mapping
from typing import Any

from backstory.errors import GraphError
from backstory.graph import Node, context, structure
from backstory.ops import TABLE, Op

__all__ = [
    "Shared",
    "View",
    "check_changeable",
    "count_change",
    "place_of",
    "rebase",
    "refresh",
    "share_value",
    "unshare",
    "user_line",
]

_OVERWRITE = TABLE["overwrite"]
_PACKAGE = __name__.partition(".")[0]
_INSIDE = _PACKAGE + "."


class View:
    """That a tensor is ``op`` of ``parent``, in the same memory, as of the rebasing ``rebased``.

    ``rebased`` is ``None`` for a view that was made where nothing is recorded: it has no history.
    """

    __slots__ = ("op", "params", "parent", "rebased")

    def __init__(self, parent: Any, op: Op, params: Mapping[str, Any], rebased: int | None) -> None:
        self.parent, self.op, self.params, self.rebased = parent, op, params, rebased


class Shared:
    """How a tensor of a transform shares its value: it is ``op`` of ``parent``, and has ``parts`` itself.

    ``recorded`` says whether the part has a history; ``op`` is ``None`` of a detached part. The ``origin``
    of an argument is the tensor that the transform was called with. Parts are held weakly.
    """

    __slots__ = ("op", "origin", "params", "parent", "parts", "recorded")

    rebased = None  # nothing is ever out of date: a change brings all parts up to date at once

    def __init__(
        self, parent: Any = None, op: Op | None = None, params: Any = None, origin: Any = None
    ) -> None:
        self.parent, self.op, self.params, self.origin = parent, op, params, origin
        self.parts: list[weakref.ref[Any]] = []
        self.recorded = parent is None or context().recording.grad_enabled


def share_value(part: Any, parent: Any, op: Op | None, params: Any) -> None:
    """``part`` is ``op`` of ``parent``, in the same transform: a change of one is a change of the other."""
    if parent._view is None:
        parent._view = Shared()
    part._view = Shared(parent, op, params)
    parts = parent._view.parts
    parts[:] = [ref for ref in parts if ref() is not None]
    parts.append(weakref.ref(part))


def refresh(x: Any) -> None:
    """Bring the history of a view up to date with the memory that it shares."""
    stale = []
    now = x._counter[1]
    while x._view is not None and x._view.rebased not in (None, now):
        stale.append(x)
        x = x._view.parent
    for x in reversed(stale):
        view = x._view
        view.rebased = now
        parent = view.parent
        if parent._requires_grad:
            edge = parent._grad_fn or parent
            x._grad_fn = Node(view.op, view.params, [edge], [None], None, None, (), x)
            x._requires_grad = True


def rebase(x: Any, node: Node) -> None:
    """``node`` made what ``x`` holds now; so all that ``x`` is a view of was partly overwritten."""
    now = x._counter[1] = x._counter[1] + 1
    _give(x, node)
    while (view := x._view) is not None:
        view.rebased = now
        parent = view.parent
        partly = parent._requires_grad and parent.array.size != x.array.size
        edge = (parent._grad_fn or parent) if partly else None
        params = {"view": view.op, "of": view.params}
        node = Node(_OVERWRITE, params, [edge, node], [None, None], None, None, (), parent)
        _give(parent, node)
        x = parent


def _give(x: Any, node: Node) -> None:
    """``node`` is where ``x`` comes from now; a gradient that is to be retained is retained there."""
    before = x._grad_fn
    if before is not None and before.extra is not None and before.extra.retained is not None:
        node.more().retained, before.extra.retained = before.extra.retained, None
    if not x._requires_grad and context().trace is None:
        structure[0] += 1
    x._grad_fn, x._requires_grad = node, True


def check_changeable(x: Any, name: str) -> None:
    """Refuse a change that would be missing from a history, before anything is changed."""
    if not x.array.flags.writeable:
        raise GraphError(
            f"{name} on a tensor of shape {x.shape} whose memory is read-only",
            why="an expanded tensor has one number for many entries, and some NumPy arrays are locked",
            instead="x = x.clone(), which has memory of its own",
        )
    _ = x._counter[0]  # of a tensor of inference mode it is refused outside of that mode
    if not context().levels[0].grad_enabled:
        return
    refresh(x)
    root, hidden = x, False
    while root._view is not None:
        hidden = hidden or root._view.rebased is None
        root = root._view.parent
    if root._requires_grad and root._grad_fn is None:
        what = "leaf tensor" if root is x else "view of a leaf tensor"
        raise GraphError(
            f"{name} on a {what} of shape {x.shape} that requires grad",
            why="its gradient would belong to a value that is no longer there",
            instead="x = x + y (a new tensor), or the change under `with backstory.no_grad():`",
        )
    if hidden and root._requires_grad:
        raise GraphError(
            f"{name} on a view of shape {x.shape} that was made under no_grad",
            why="the view has no history, and the change would be missing from that of its base",
            instead="the view and the change on the same side of `with backstory.no_grad():`",
        )


def unshare(node: Node, since: int, counter: list[Any]) -> None:
    """Give the nodes made after ``since`` copies of what they keep of a memory about to change."""
    stack, seen = [node], set()
    while stack:
        node = stack.pop()
        if node.order < since or node in seen:
            continue
        seen.add(node)
        versions = list(node.versions)
        for k, (owner, _, j) in enumerate(versions):
            if owner is counter and j >= 0:
                node.inputs[j] = node.inputs[j].copy()
                versions[k] = ([0, 0, None], 0, j)
        node.versions = versions
        stack.extend(edge for edge in node.edges if edge.__class__ is Node)


def count_change(counter: list[Any], place: Any) -> None:
    """One change more of a memory, made at ``place``."""
    counter[0] += 1
    counter[2] = place


def user_line() -> tuple[str, int] | None:
    """The file and the line of the innermost code that is not this package's."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(_INSIDE) and name != _PACKAGE:
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None


def place_of(place: tuple[str, int] | None) -> str:
    """The words for a place of :func:`user_line`, with the line itself where it can be read."""
    if place is None:
        return "a place unknown"
    file, line = place
    source = linecache.getline(file, line).strip()
    return f"{file}:{line}" + (f" `{source}`" if source else "")
