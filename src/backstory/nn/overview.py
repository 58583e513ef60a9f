"""What a model is made of and what it costs, seen while it runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from backstory.autograd.modes import enable_grad
from backstory.errors import ArgumentError
from backstory.graph import context
from backstory.nn.evaluation import undisturbed
from backstory.nn.flops import flops
from backstory.nn.module import Module
from backstory.ops import Op
from backstory.tables import html_table, text_table
from backstory.tensor import Tensor, as_tensor

__all__ = ["LayerSummary", "Summary", "summary"]

WORDS = {
    "layer": "layer", "kind": "kind", "output": "output", "parameters": "parameters",
    "flops": "FLOPs", "kept": "kept for backward", "model": "(the model itself)", "calls": "{kind} × {calls}",
    "total": "total", "trained": "{trained} of {parameters} parameters are trained, {memory} in all",
    "buffers": "buffers: {memory}", "input": "for an input of shape {shapes}", "mode": "in {mode} mode",
    "never": "never ran: {names}",
}  # fmt: skip
"""All words of the table, in one place for translation."""


@dataclass
class LayerSummary:
    """One module: what it owns itself, and what ran in it but not in its submodules.

    ``output`` holds the shapes of its last output, ``kept`` the bytes that the graph holds for backward.
    """

    path: str
    kind: str
    parameters: int
    trained: int
    calls: int = 0
    output: tuple[tuple[int, ...], ...] = ()
    flops: int = 0
    kept: int = 0
    operations: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """What :func:`summary` found; prints as a table, in a terminal of ``rich`` and in notebooks too."""

    layers: tuple[LayerSummary, ...]
    shapes: tuple[tuple[int, ...], ...]
    memory: int
    buffers: int
    training: bool

    @property
    def parameters(self) -> int:
        """How many entries all parameters have."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def trained(self) -> int:
        """How many of them require a gradient."""
        return sum(layer.trained for layer in self.layers)

    @property
    def flops(self) -> int:
        """Floating-point operations of one forward pass."""
        return sum(layer.flops for layer in self.layers)

    @property
    def kept(self) -> int:
        """Bytes that the graph of one forward pass holds for backward, without parameters and inputs."""
        return sum(layer.kept for layer in self.layers)

    def __getitem__(self, path: str) -> LayerSummary:
        for layer in self.layers:
            if layer.path == path:
                return layer
        raise KeyError(f"{path!r} is none of {[layer.path for layer in self.layers]}")

    def _shown(self) -> Iterator[LayerSummary]:
        """What owns something or did something; a container that only calls others says nothing."""
        containers = {layer.path.rpartition(".")[0] for layer in self.layers if layer.path}
        for layer in self.layers:
            if layer.calls and (layer.parameters or layer.operations or layer.path not in containers):
                yield layer

    def _rows(self) -> list[tuple[str, ...]]:
        rows = []
        for layer in self._shown():
            kind = layer.kind
            if layer.calls > 1:
                kind = WORDS["calls"].format(kind=kind, calls=layer.calls)
            shapes = ", ".join(map(str, layer.output))
            numbers = (f"{layer.parameters:,}", _count(layer.flops), _bytes(layer.kept))
            rows.append((layer.path or WORDS["model"], kind, shapes, *numbers))
        totals = (f"{self.parameters:,}", _count(self.flops), _bytes(self.kept))
        return [*rows, (WORDS["total"], "", "", *totals)]

    @staticmethod
    def _head() -> tuple[str, ...]:
        return tuple(WORDS[key] for key in ("layer", "kind", "output", "parameters", "flops", "kept"))

    def _notes(self) -> list[str]:
        trained, parameters = f"{self.trained:,}", f"{self.parameters:,}"
        notes = [WORDS["trained"].format(trained=trained, parameters=parameters, memory=_bytes(self.memory))]
        if self.buffers:
            notes.append(WORDS["buffers"].format(memory=_bytes(self.buffers)))
        shapes = WORDS["input"].format(shapes=", ".join(map(str, self.shapes)))
        notes.append(f"{shapes}, {WORDS['mode'].format(mode='training' if self.training else 'evaluation')}")
        never = [layer.path for layer in self.layers if not layer.calls and layer.parameters]
        return [*notes, WORDS["never"].format(names=", ".join(never))] if never else notes

    def __str__(self) -> str:
        return "\n".join([text_table(self._head(), self._rows(), left=3), *self._notes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        notes = "<br>".join(map(escape, self._notes()))
        table = html_table(self._head(), self._rows(), left=3)
        return f'<div style="font-size:13px;line-height:1.45">{table}<small>{notes}</small></div>'

    def __rich__(self) -> Any:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, caption="\n".join(self._notes()), caption_justify="left")
        for i, name in enumerate(self._head()):
            table.add_column(name, justify="left" if i < 3 else "right")
        *rows, total = self._rows()
        for row in rows:
            table.add_row(*row)
        table.add_section()
        table.add_row(*total, style="bold")
        return table


def summary(model: Module, *inputs: Any, training: bool = False) -> Summary:
    """A table of the model's layers: output shapes, parameters, FLOPs and memory, for one forward pass.

    ``inputs`` are what ``model(*inputs)`` takes. FLOPs are counted from the operations that run, each for the
    module in which it runs, so functional calls are seen and nothing is guessed from a module's type; a
    multiplication and an addition are two. "Kept for backward" are the bytes that the graph holds until the
    backward pass, each array once, without parameters and inputs. The pass runs in evaluation mode, or as in
    ``training``; running statistics, random streams and training flags are as before afterwards.

    >>> import backstory
    >>> from backstory import nn
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> print(summary(net, backstory.ones(8, 3)))
    layer  kind    output  parameters  FLOPs  kept for backward
    ───────────────────────────────────────────────────────────
    0      Linear  (8, 4)          16    224                0 B
    1      ReLU    (8, 4)           0     32              128 B
    2      Linear  (8, 2)          10    144                0 B
    total                          26    400              128 B
    26 of 26 parameters are trained, 104 B in all
    for an input of shape (8, 3), in evaluation mode
    """
    if not isinstance(model, Module) or not inputs:
        raise ArgumentError(
            f"summary({', '.join(type(x).__name__ for x in (model, *inputs))})",
            why="operations are counted while the model runs on an input",
            instead="summary(model, x) with a module of backstory.nn and a batch",
        )
    given = tuple(as_tensor(x) if isinstance(x, np.ndarray) else x for x in inputs)
    watcher = _Watcher(model, given)
    ctx = context()
    before = ctx.observer
    with undisturbed(model, training), enable_grad(), watcher.outputs():
        ctx.observer = watcher
        try:
            model(*given)
        finally:
            ctx.observer = before
    return Summary(
        tuple(watcher.layers.values()),
        tuple(x.shape for x in _tensors(given)),
        sum(p.array.nbytes for p in model.parameters()),
        sum(b.array.nbytes for b in model.buffers()),
        training,
    )


class _Watcher:
    """The observer of one forward pass."""

    def __init__(self, model: Module, inputs: Any) -> None:
        self.layers: dict[str, LayerSummary] = {}
        self._of: dict[int, LayerSummary] = {}
        self._owners: set[int] = set()
        self._modules = list(model.named_modules())
        seen: set[int] = set()
        for path, module in self._modules:
            # What computes a parameter is a part of the layer whose parameter it is.
            owner = ".".join(itertools.takewhile(lambda name: name != "parametrizations", path.split(".")))
            layer = self.layers.setdefault(owner, LayerSummary(owner, type(module).__name__, 0, 0))
            self._of[id(module)] = layer
            if owner == path:
                self._owners.add(id(module))
            for p in module._parameters.values():
                if p is not None and id(p) not in seen:
                    seen.add(id(p))
                    layer.parameters += p.numel()
                    layer.trained += p.numel() if p.requires_grad else 0
        self._stack = [self.layers[""]]
        owned = [*model.parameters(), *model.buffers(), *_tensors(inputs)]
        self._held = {id(_base(x.array)): _base(x.array) for x in owned}

    @contextmanager
    def outputs(self) -> Iterator[None]:
        """Hear what every module returns."""
        plain = [module for _, module in self._modules if module._hooks is None]
        handles = [module.register_forward_hook(self._returned) for _, module in self._modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for module in plain:
                object.__delattr__(module, "_hooks")

    def _returned(self, module: Module, args: Any, output: Any) -> None:
        layer = self._of[id(module)]
        if id(module) in self._owners:
            layer.calls += 1
            layer.output = tuple(x.shape for x in _tensors(output))

    def enter(self, module: Module) -> None:
        """A module is called."""
        self._stack.append(self._of.get(id(module), self._stack[-1]))

    def leave(self, module: Module) -> None:
        """A module has returned, or raised."""
        self._stack.pop()

    def ran(self, op: Op, args: Any, result: Tensor, params: Any) -> None:
        """An operation ran."""
        layer = self._stack[-1]
        layer.operations[op.name] = layer.operations.get(op.name, 0) + 1
        layer.flops += flops(op, args, result, params)
        node = result.grad_fn
        if node is not None:
            for array in _arrays((node.inputs, node.ans, node.residuals)):
                base = _base(array)
                if id(base) not in self._held:
                    self._held[id(base)] = base  # held, so that its id is not given away
                    layer.kept += base.nbytes


def _base(array: Any) -> Any:
    """The array that owns the memory."""
    while isinstance(array, np.ndarray) and isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _arrays(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _arrays(part)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _count(number: float) -> str:
    """640, 4,300, 12.52 k, 1.284 M"""
    return f"{number:,}" if number < 10_000 else _scaled(number, 1000, ("k", "M", "G", "T"))


def _bytes(number: float) -> str:
    return f"{number} B" if number < 1024 else _scaled(number, 1024, ("KiB", "MiB", "GiB", "TiB"))


def _scaled(number: float, step: int, units: tuple[str, ...]) -> str:
    place = 0
    while number >= step and place < len(units):
        number, place = number / step, place + 1
    return f"{number:.4g} {units[place - 1]}"
