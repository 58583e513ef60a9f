"""Where the values of a trace come from: module paths, sites, and the user's lines."""

from __future__ import annotations

import weakref
from typing import Any

from backstory.compiler.graph import Origin
from backstory.compiler.names import Names
from backstory.history import user_line
from backstory.ops import Op

__all__ = ["Origins"]


class Origins:
    """The modules that are being called, and the origin of what runs now.

    Paths start at the outermost module that is called. A gating operation has the name of its site,
    ``layers.2/relu#0``; its calls are counted anew in every call of the outermost module. What the code of
    the modules refers to joins ``names``.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self.now = Origin()
        self.modules: dict[int, Any] = {}
        self.labels: dict[int, str] = {}
        self._paths: dict[int, str] = {}
        self._stack: list[str] = []
        self._calls: dict[tuple[str, str], int] = {}
        self._entering: Any = None
        self._nodes: weakref.WeakKeyDictionary[Any, Origin] = weakref.WeakKeyDictionary()

    def entered(self, module: Any) -> bool:
        """Whether this call of a module is the one that :meth:`run` makes."""
        if self._entering is module:
            self._entering = None
            return True
        return False

    def run(self, module: Any, args: Any, kwargs: Any) -> Any:
        """Call a module, with its path on the stack."""
        if id(module) not in self.modules:
            self.modules[id(module)] = module
            self._names.add_module(module)
        if not self._stack:
            self._paths = {id(part): path for path, part in module.named_modules()}
            self._calls.clear()
            for named in (module.named_parameters(), module.named_buffers()):
                for name, x in named:
                    self.labels.setdefault(id(x), name)
        inside = self._stack[-1] if self._stack else ""
        self._stack.append(self._paths.get(id(module), inside))
        self._entering = module
        try:
            return module(*args, **kwargs)
        finally:
            self._stack.pop()

    def forward(self, op: Op, args: Any) -> None:
        """An operation is about to run."""
        path = self._stack[-1] if self._stack else ""
        if op.gates or (op.gating is not None and op.gating(args)):
            count = self._calls.get((path, op.name), 0)
            self._calls[path, op.name] = count + 1
            path = f"{path}/{op.name}#{count}" if path else f"{op.name}#{count}"
        self.now = Origin(op.name, path, "forward", user_line())

    def made(self, node: Any) -> None:
        """The operation that ran last was recorded."""
        self._nodes[node] = self.now

    def backward(self, node: Any) -> None:
        """The rule of a node is about to run."""
        origin = self._nodes.get(node)
        self.now = Origin(
            node.op.name, "" if origin is None else origin.path, "backward", origin and origin.line
        )
