"""What a trace leaves behind in Python that no call would do again: such a step is refused."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

from backstory.compiler.symbols import Symbol
from backstory.compiler.trace import Trace
from backstory.core import Core
from backstory.errors import TraceError
from backstory.history import place_of

__all__ = ["refuse_altered", "refuse_escaped"]


def refuse_altered(trace: Trace) -> None:
    """Refuse a step that gives tensors from outside a history, or freezes them: Python's doing, once."""
    for gradient in trace.gradients.values():
        lifted = trace.lifted.get(id(gradient.tensor))
        if lifted is not None and lifted.grad_fn is not None and gradient.after is not gradient.before:
            raise TraceError(
                f"backward() inside a step reaches a tensor that {lifted.grad_fn!r} made outside",
                why="its history was recorded outside, and the step would walk back into it",
                instead="x.detach(), or what computes it inside the step",
            )
    if trace.altered:
        x = trace.altered[0]
        name = trace.origins.labels.get(id(x)) or x.name or f"of shape {x.shape}"
        raise TraceError(
            f"the step changes requires_grad, the history or the hooks of the tensor {name} from outside",
            why="the step is traced once, and what each call computes has no history afterwards",
            instead="the change between the calls, or x.detach() of it inside",
        )


def refuse_escaped(trace: Trace, known: Sequence[Any]) -> None:
    """Refuse a step that keeps a tensor of its trace, but those ``known``: it would stay as it is."""
    mine = {id(x) for x in known}
    for x in known:
        if isinstance(x, Core) and isinstance(x.array, Symbol):
            x._view = None  # what it is a view of ends with the trace
    if _kept(trace, mine):
        gc.collect()  # those that hold each other
    for x in _kept(trace, mine):
        line = getattr(x.array, "line", None)
        made = f", made at {place_of(line)}" if line else ""
        raise TraceError(
            f"a tensor of shape {x.shape}{made}, outlives the step",
            why="the step is traced once, and what it keeps would never be computed again",
            instead="return it (in tuples, lists or dicts), and keep what the call returns",
        )


def _kept(trace: Trace, known: set[int]) -> list[Any]:
    return [x for reference in trace.tensors if (x := reference()) is not None and id(x) not in known]
