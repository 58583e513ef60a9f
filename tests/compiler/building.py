"""Graphs made by hand, value by value."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from backstory.compiler.graph import Graph, Input, Number, Origin, Output, Value, inferred


class Building:
    """A graph under construction: ``b("add", x, y)`` adds a value; shapes and dtypes follow."""

    def __init__(self) -> None:
        self.inputs: list[Input] = []
        self.numbers: list[Number] = []
        self.values: list[Value] = []
        self.outputs: list[Output] = []
        self.origin = Origin()

    def input(
        self, shape: tuple[int, ...], dtype: str = "f4", kind: str = "argument", label: str = ""
    ) -> Value:
        value = Value("input", (), {}, shape, np.dtype(dtype), Origin())
        self.inputs.append(Input(value, kind, label))
        return value

    def number(self, kind: type = float, label: str = "") -> Number:
        self.numbers.append(Number(len(self.numbers), kind, label))
        return self.numbers[-1]

    def constant(self, array: Any) -> Value:
        array = np.array(array)
        self.values.append(Value("constant", (), {"array": array}, array.shape, array.dtype, self.origin))
        return self.values[-1]

    def __call__(self, primitive: str, *inputs: Any, **params: Any) -> Value:
        if primitive in ("sum", "squares", "max", "min", "prod", "any", "all"):
            params = {"axis": tuple(range(len(inputs[0].shape))), "keepdims": False} | params
        if "dtype" in params:
            params["dtype"] = np.dtype(params["dtype"])
        shape, dtype = inferred(primitive, inputs, params)
        self.values.append(Value(primitive, inputs, params, shape, dtype, self.origin))
        return self.values[-1]

    def output(self, value: Value, into: Value | None = None, label: str = "") -> None:
        target = None if into is None else next(x for x in self.inputs if x.value is into)
        self.outputs.append(Output(value, target, label))

    @property
    def graph(self) -> Graph:
        return Graph(self.inputs, self.numbers, self.values, self.outputs)


def linear(b: Building, x: Value, w: Value, bias: Value) -> Value:
    """x Wᵀ + b"""
    return b("add", b("matmul", x, b("permute_dims", w, axes=(1, 0))), bias)


def network(b: Building, widths: list[int], batch: int) -> tuple[list[Value], list[Value], Value]:
    """The activations and parameters of an MLP, and its last linear layer."""
    x = b.input((batch, widths[0]), label="x")
    parameters, activations = [], [x]
    for i, (n, m) in enumerate(itertools.pairwise(widths)):
        b.origin = Origin("linear", f"layers.{i}", "forward")
        w = b.input((m, n), kind="state", label=f"layers.{i}.weight")
        bias = b.input((m,), kind="state", label=f"layers.{i}.bias")
        parameters += [w, bias]
        x = linear(b, x, w, bias)
        if i < len(widths) - 2:
            b.origin = Origin("relu", f"layers.{i}", "forward")
            x = b("maximum", x, 0)
            activations.append(x)
    return activations, parameters, x


def backward(b: Building, activations: list[Value], parameters: list[Value], g: Value) -> list[Value]:
    """The gradients of the parameters, from the cotangent of the last layer."""
    grads: list[Value] = []
    for i in reversed(range(len(activations))):
        a, w = activations[i], parameters[2 * i]
        b.origin = Origin("linear", f"layers.{i}", "backward")
        db = b("sum", g, axis=(0,))
        dw = b("matmul", b("permute_dims", g, axes=(1, 0)), a)
        grads = [dw, db, *grads]
        if i:
            da = b("matmul", g, w)
            b.origin = Origin("relu", f"layers.{i - 1}", "backward")
            gate = b("bitwise_invert", b("less_equal", a, 0))
            g = b("where", gate, da, 0)
    return grads


def cross_entropy(b: Building, logits: Value, labels: Value) -> tuple[Value, Value]:
    """The mean loss and the cotangent of the logits."""
    b.origin = Origin("cross_entropy", "", "forward")
    n, classes = logits.shape
    shifted = b("subtract", logits, b("max", logits, axis=(1,), keepdims=True))
    exponentials = b("exp", shifted)
    total = b("sum", exponentials, axis=(1,), keepdims=True)
    hot = b("equal", b.constant(np.arange(classes)), b("reshape", labels, shape=(n, 1)))
    picked = b("sum", b("where", hot, shifted, 0), axis=(1,))
    losses = b("subtract", b("log", b("reshape", total, shape=(n,))), picked)
    loss = b("divide", b("sum", losses), n)
    b.origin = Origin("cross_entropy", "", "backward")
    again = b("equal", b.constant(np.arange(classes)), b("reshape", labels, shape=(n, 1)))
    partial = b("subtract", b("divide", exponentials, total), b("astype", again, dtype="f4"))
    g = b("divide", b.constant(np.float32(1)), n)
    return loss, b("multiply", partial, g)


def mse(b: Building, x: Value, y: Value) -> tuple[Value, Value]:
    """The mean loss and the cotangent of x."""
    b.origin = Origin("mse", "", "forward")
    difference = b("subtract", x, y)
    loss = b("divide", b("sum", b("multiply", difference, difference)), x.size)
    b.origin = Origin("mse", "", "backward")
    g = b("multiply", b.constant(np.float32(1)), 2.0 / x.size)
    return loss, b("multiply", b("subtract", x, y), g)


def adam(b: Building, parameters: list[Value], grads: list[Value]) -> None:
    """Adam's update of every parameter, in place."""
    rate, eps = b.number(label="rate"), b.number(label="eps")
    first, second, decay = (b.number(label=n) for n in ("1 − β₁", "1 − β₂", "β₂"))
    b.origin = Origin("Adam", "", "update")
    for p, g in zip(parameters, grads, strict=True):
        m, v = b.input(p.shape, kind="state"), b.input(p.shape, kind="state")
        new_m = b("add", m, b("multiply", b("subtract", g, m), first))
        new_v = b("add", b("multiply", v, decay), b("multiply", b("multiply", g, g), second))
        change = b("multiply", b("divide", new_m, b("add", b("sqrt", new_v), eps)), rate)
        b.output(b("add", p, change), into=p)
        b.output(new_m, into=m)
        b.output(new_v, into=v)


def sgd(b: Building, parameters: list[Value], grads: list[Value]) -> None:
    """SGD with momentum, in place."""
    rate, momentum = b.number(label="−lr"), b.number(label="momentum")
    b.origin = Origin("SGD", "", "update")
    for p, g in zip(parameters, grads, strict=True):
        v = b.input(p.shape, kind="state")
        new = b("add", b("multiply", v, momentum), g)
        b.output(b("add", p, b("multiply", new, rate)), into=p)
        b.output(new, into=v)


def classifier_step(widths: list[int], batch: int) -> Graph:
    """A training step: cross-entropy and Adam."""
    b = Building()
    activations, parameters, logits = network(b, widths, batch)
    labels = b.input((batch,), "i8", label="labels")
    loss, g = cross_entropy(b, logits, labels)
    adam(b, parameters, backward(b, activations, parameters, g))
    b.output(loss)
    return b.graph


def regression_step(widths: list[int], batch: int) -> Graph:
    """A training step: mean squared error and SGD with momentum."""
    b = Building()
    activations, parameters, out = network(b, widths, batch)
    target = b.input(out.shape, label="target")
    loss, g = mse(b, out, target)
    sgd(b, parameters, backward(b, activations, parameters, g))
    b.output(loss)
    return b.graph
