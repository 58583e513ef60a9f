"""The ways to differentiate, side by side: numerical, symbolic, automatic forwards and in reverse."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backstory.autograd import grad, no_grad
from backstory.core import tensor
from backstory.errors import ArgumentError, ShapeError
from backstory.func import linearize, vjp
from backstory.insight.explanation import Derivation, Names, derivation
from backstory.insight.explanation.rows import number_text
from backstory.insight.explanation.tangents import push_forward
from backstory.tensor import Tensor

__all__ = ["Comparison", "Method", "ModeCost", "ModeCosts", "compare_differentiation", "compare_modes"]

STEPS = tuple(10.0 ** (-k / 2) for k in range(2, 31))
SHOWN = (1e-1, 1e-3, 1e-8, 1e-12)
WORDS = {
    "method": "method", "value": "derivative", "error": "error", "cost": "cost", "size": "size",
    "numerical": "numerical, h = {step}", "best": "numerical, h = {step} (the best)",
    "symbolic": "symbolic", "forward": "automatic, forward (jvp)", "reverse": "automatic, reverse (vjp)",
    "times": "{cost:.1f} × f", "operations": "{size} operations",
    "function": "f itself has {size} operations",
    "no symbolic": "symbolic: left out, {why}",
    "needs sympy": "SymPy is not installed: pip install 'backstory[symbolic]'",
    "no form": "{op} has no symbolic form here",
    "against exact": "errors are against the symbolic derivative to 40 digits",
    "against reverse": "errors are against reverse mode",
    "inputs": "inputs", "outputs": "outputs", "by jvp": "Jacobian by JVP", "by vjp": "Jacobian by VJP",
    "ms": "{ms:.2f} ms",
}  # fmt: skip
"""All words of the tables, in one place for translation."""


@dataclass(frozen=True)
class Method:
    """One way to the derivative: its value, its error, its cost in evaluations of f, how many operations."""

    name: str
    value: float
    error: float
    cost: float | None = None
    size: int | None = None


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare_differentiation` found; prints as a table, ``plots.differentiation`` draws it.

    ``steps`` and ``errors`` are those of the central difference. ``exact`` tells whether errors are against
    the symbolic derivative.
    """

    x: float
    methods: tuple[Method, ...]
    steps: np.ndarray
    errors: np.ndarray
    exact: bool
    size: int
    notes: tuple[str, ...]

    @property
    def best_step(self) -> float:
        """The step with the smallest error."""
        return float(self.steps[int(np.argmin(self.errors))])

    def method(self, start: str) -> Method:
        """The first method whose name starts so."""
        return next(method for method in self.methods if method.name.startswith(start))

    def __str__(self) -> str:
        lines = [[WORDS[key] for key in ("method", "value", "error", "cost", "size")]]
        for m in self.methods:
            cost = "" if m.cost is None else WORDS["times"].format(cost=m.cost)
            size = "" if m.size is None else WORDS["operations"].format(size=m.size)
            lines.append([m.name, f"{m.value:.15g}".replace("-", "−"), _short(m.error), cost, size])
        return "\n".join([*_columns(lines), *self.notes])

    __repr__ = __str__


def compare_differentiation(
    f: Callable[[Tensor], Tensor], x: float, steps: Sequence[float] = STEPS
) -> Comparison:
    """The derivative of ``f`` at ``x`` by every way there is: value, error, cost and size of each.

    ``f`` takes and returns a float64 tensor without axes. Numerical is the central difference over
    ``steps``: too large a step cuts off, too small a one rounds off. Symbolic (SymPy, if it is installed)
    is exact, and its expression swells. Automatic is exact to rounding, at a small multiple of f's cost.

    >>> found = compare_differentiation(lambda x: (x**2 + 1).log(), 2.0)
    >>> round(found.method("automatic, reverse").value, 12), found.method("symbolic").error
    (0.8, 0.0)
    """
    leaf = tensor(float(x), "float64", requires_grad=True)
    y = f(leaf)
    if not isinstance(y, Tensor) or y.shape != ():
        raise ShapeError(
            f"compare_differentiation(): f returned {getattr(y, 'shape', type(y).__name__)}",
            why="ways are compared on a function of one number",
            instead="a function that takes and returns a tensor without axes",
        )
    if any(not step > 0 for step in steps) or not len(steps):
        raise ArgumentError(
            f"compare_differentiation(steps={list(steps)!r})",
            why="a difference needs two distinct points",
            instead="positive steps such as 1e-5",
        )
    found = derivation(y, Names([]))
    once = _seconds(lambda: _number(f, x))
    reverse = grad(f(leaf), leaf)[0].item()  # type: ignore[union-attr]
    forward = _forward(found, leaf)
    symbolic, notes = _symbolic(found, leaf, x)
    exact = symbolic[0] if symbolic is not None else reverse
    h = np.array(steps, dtype=np.float64)
    values = np.array([(_number(f, x + step) - _number(f, x - step)) / (2 * step) for step in h])
    errors = np.abs(values - exact)
    best = int(np.argmin(errors))
    methods = [
        Method(WORDS["numerical"].format(step=_short(h[i])), float(values[i]), float(errors[i]))
        for i in _shown(h, best)
    ]
    methods.append(
        Method(WORDS["best"].format(step=_short(h[best])), float(values[best]), float(errors[best]), 2.0)
    )
    if symbolic is not None:
        methods.append(Method(WORDS["symbolic"], symbolic[0], 0.0, *symbolic[1:]))
    cost = 1 + _seconds(lambda: _forward(found, leaf)) / once
    methods.append(Method(WORDS["forward"], forward, abs(forward - exact), cost, 2 * len(found.steps)))
    cost = _seconds(lambda: grad(f(leaf), leaf)) / once
    methods.append(Method(WORDS["reverse"], reverse, abs(reverse - exact), cost, 2 * len(found.steps)))
    notes = (
        WORDS["against exact" if symbolic is not None else "against reverse"],
        WORDS["function"].format(size=len(found.steps)),
        *notes,
    )
    return Comparison(float(x), tuple(methods), h, errors, symbolic is not None, len(found.steps), notes)


def _shown(h: np.ndarray, best: int) -> list[int]:
    """A few steps besides the best one, to contrast it with."""
    near = [int(np.argmin(np.abs(np.log10(h) - np.log10(step)))) for step in SHOWN]
    return [i for i in dict.fromkeys(near) if i != best]


def _number(f: Callable[[Tensor], Tensor], x: float) -> float:
    with no_grad():
        return f(tensor(float(x), "float64")).item()


def _forward(found: Derivation, leaf: Tensor) -> float:
    """The derivative by one forward walk, on plain numbers: tensors of a transform would be timed instead."""
    seeds = {q: np.ones(()) for q in found.leaves if q.value is leaf.array}
    return float(push_forward(found, seeds)[found.root])


def _seconds(run: Callable[[], Any]) -> float:
    """The shortest of a few times that ``run`` takes."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(10):
            run()
        times.append((time.perf_counter() - start) / 10)
    return min(times)


def _symbolic(
    found: Derivation, leaf: Tensor, x: float
) -> tuple[tuple[float, float, int] | None, tuple[str, ...]]:
    """The symbolic derivative's value, its cost beside that of f as a formula, its size; or why not."""
    try:
        import sympy
    except ImportError:
        return None, (WORDS["no symbolic"].format(why=WORDS["needs sympy"]),)
    from backstory.insight.symbolic import NoSymbolicForm, expression

    symbol = sympy.Symbol("x", real=True)
    leaves = {q: symbol for q in found.leaves if q.value is leaf.array}
    try:
        formula = expression(found, leaves)
    except NoSymbolicForm as error:
        return None, (WORDS["no symbolic"].format(why=WORDS["no form"].format(op=error.args[0])),)
    derivative = sympy.diff(formula, symbol)
    value = float(derivative.subs(symbol, sympy.Rational(x)).evalf(40))
    once, run = (sympy.lambdify(symbol, form, "math") for form in (formula, derivative))
    cost = (_seconds(lambda: once(x)) + _seconds(lambda: run(x))) / _seconds(lambda: once(x))
    return (value, cost, int(sympy.count_ops(derivative))), ()


@dataclass(frozen=True)
class ModeCost:
    """The seconds that one full Jacobian (outputs × inputs) takes by each mode."""

    inputs: int
    outputs: int
    jvp: float
    vjp: float


@dataclass(frozen=True)
class ModeCosts:
    """What :func:`compare_modes` measured; prints as a table, ``plots.modes`` draws it."""

    costs: tuple[ModeCost, ...]

    def crossing(self, count: str) -> float | None:
        """At about how many ``"inputs"`` or ``"outputs"`` both cost the same, between the sizes measured."""
        half = len(self.costs) // 2
        group = self.costs[:half] if count == "inputs" else self.costs[half:]
        sizes = np.log([getattr(c, count) for c in group])
        lead = np.log([c.jvp / c.vjp for c in group])
        for i in range(len(group) - 1):
            if lead[i] * lead[i + 1] < 0:
                share = lead[i] / (lead[i] - lead[i + 1])
                return float(np.exp(sizes[i] + share * (sizes[i + 1] - sizes[i])))
        return None

    def __str__(self) -> str:
        lines = [[WORDS[key] for key in ("inputs", "outputs", "by jvp", "by vjp")]]
        for c in self.costs:
            times = (WORDS["ms"].format(ms=1000 * seconds) for seconds in (c.jvp, c.vjp))
            lines.append([str(c.inputs), str(c.outputs), *times])
        return "\n".join(_columns(lines))

    __repr__ = __str__


def compare_modes(
    sizes: Sequence[int] = (1, 2, 4, 8, 16, 32, 64), fixed: int = 16, width: int = 32
) -> ModeCosts:
    """The cost of the Jacobian of a network by JVPs and by VJPs, measured against inputs and outputs.

    The network maps inputs → ``width`` → outputs by tanh. First the inputs run through ``sizes`` with
    ``fixed`` outputs, then the outputs with ``fixed`` inputs. It runs once, and then one JVP gives a
    column of the Jacobian and one VJP a row: forward mode costs per input, reverse mode per output.

    >>> costs = compare_modes(sizes=(1, 4), fixed=2).costs
    >>> [(c.inputs, c.outputs) for c in costs]
    [(1, 2), (4, 2), (2, 1), (2, 4)]
    """
    if not sizes or min(*sizes, fixed, width) < 1:
        raise ArgumentError(
            f"compare_modes(sizes={list(sizes)!r}, fixed={fixed}, width={width})",
            why="a network has at least one input and one output",
            instead="numbers of at least 1",
        )
    pairs = [(n, fixed) for n in sizes] + [(fixed, m) for m in sizes]
    return ModeCosts(tuple(_mode_cost(n, m, width) for n, m in pairs))


def _mode_cost(inputs: int, outputs: int, width: int) -> ModeCost:
    rng = np.random.default_rng(0)
    first, second = tensor(rng.normal(size=(inputs, width))), tensor(rng.normal(size=(width, outputs)))
    x = tensor(rng.normal(size=(1, inputs)))
    columns = [tensor(unit) for unit in np.eye(inputs)[:, None]]
    rows = [tensor(unit) for unit in np.eye(outputs)[:, None]]

    def network(x: Tensor) -> Tensor:
        return (x @ first).tanh() @ second

    def by_jvp() -> np.ndarray:
        _, pushforward = linearize(network, x)
        return np.stack([pushforward(unit).array[0] for unit in columns], axis=1)

    def by_vjp() -> np.ndarray:
        _, pullback = vjp(network, x)
        return np.stack([pullback(unit)[0].array[0] for unit in rows])

    assert np.allclose(by_jvp(), by_vjp())
    return ModeCost(inputs, outputs, _shortest(by_jvp), _shortest(by_vjp))


def _shortest(run: Callable[[], Any]) -> float:
    times = []
    for _ in range(7):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def _short(value: float) -> str:
    return number_text(float(f"{value:.2g}")).removeprefix("1 × ")


def _columns(lines: list[list[str]]) -> list[str]:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
