"""How a derivation is written: formulas with its symbols and numbers, gradients, roles, and closed forms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from backstory.insight.explanation.derivation import Derivation, Flow, Quantity, Step
from backstory.insight.explanation.formula import (
    bracketed,
    filled,
    latex_number,
    letters,
    plain,
    tidied,
    with_parameters,
)
from backstory.insight.explanation.words import BACKWARD, FORWARD, WORDS

__all__ = ["Notation"]

LONGEST = 70  # letters of a closed form that is put into another one
MATRIX = ("linear", "matmul")
# The parameter that holds the derivative at 0, where left and right differ.
AT_ZERO = {"relu": ("at_zero", 0.0), "leaky_relu": ("negative_slope", 0.01)}


class Notation:
    """Writes the parts of one derivation as LaTeX, and remarks as text."""

    def __init__(self, derivation: Derivation) -> None:
        self.derivation = derivation
        self.scalar = derivation.scalar
        self.deltas: dict[Quantity, str] = {}
        if not self.scalar:
            for step in derivation.steps:
                if _affine(step, derivation):
                    self.deltas[step.result] = rf"\delta_{{{len(self.deltas) + 1}}}"
            if len(self.deltas) == 1:
                self.deltas = dict.fromkeys(self.deltas, r"\delta")

    # Symbols

    def gradient(self, quantity: Quantity) -> str:
        """∂L/∂w where all is scalar, else dW, or δ for what an affine layer gives."""
        quantity = _source(quantity)
        if quantity in self.deltas:
            return self.deltas[quantity]
        root, symbol = self.derivation.root.symbol, quantity.symbol
        if self.scalar or r"\text" in symbol:
            return rf"\frac{{\partial {root}}}{{\partial {symbol}}}"
        return rf"\mathrm{{d}}{symbol if '^' not in symbol else bracketed_always(symbol)}"

    # Forward

    def formula(self, step: Step) -> str:
        """The step with symbols, such as ``\\max(z, 0)``."""
        symbols = [q.symbol for q in step.inputs]
        if step.op.name == "concat":
            return rf"\left[{', '.join(symbols)}\right]"
        return self._filled(step, step.op.formula.split(" = ")[0], symbols)

    def numbers(self, step: Step) -> str | None:
        """The step with numbers in place of its symbols, where all are single numbers."""
        if any(q.shape != () or q.value is None for q in (*step.inputs, step.result)):
            return None
        written = [latex_number(q.value) for q in step.inputs]  # type: ignore[arg-type]
        return self._filled(step, step.op.formula.split(" = ")[-1], written)

    def remarks(self, step: Step) -> list[str]:
        """What is worth knowing of the forward step: gates, copies, the layout."""
        found = []
        if step.op.name in FORWARD:
            found.append(FORWARD[step.op.name])
        if step.op.gates:
            found += self._gate(step)
        layout = self._layout(step)
        if layout:
            found.append(WORDS[f"layout {layout}"])
        if step.op.name not in MATRIX:
            found += [
                WORDS["copied"].format(symbol=plain(flow.target.symbol), axes=_listed(flow.summed))
                for flow in step.flows
                if flow.summed
            ]
        return found

    def _gate(self, step: Step) -> list[str]:
        """How far the gate is open: counted where it is open or closed, else the span of its derivative."""
        local = next((flow.local for flow in step.flows if flow.argument == 0), None)
        z = step.inputs[0].value
        if local is None or not local.size:
            return []
        found = []
        if local.dtype.kind != "b":
            low, high = (plain(latex_number(v)) for v in (local.min(), local.max()))
            found.append(WORDS["slope" if low == high else "slopes"].format(low=low, high=high))
        elif local.shape == ():
            found.append(WORDS["open" if local else "closed"].split(":")[0])
        else:
            found.append(WORDS["gates"].format(open=int(local.sum()), count=local.size))
        zeros = 0 if z is None else int((z == 0).sum())
        if zeros and step.op.name in AT_ZERO:
            choice = plain(latex_number(step.node.params.get(*AT_ZERO[step.op.name])))
            key = "at zero one" if local.shape == () else "at zero"
            symbol = plain(step.inputs[0].symbol)
            found.append(f"{symbol} is " + WORDS[key].format(count=zeros, size=local.size, choice=choice))
        return found

    def _layout(self, step: Step) -> str | None:
        if step.op.name == "linear":
            return "x W^T"
        if step.op.name != "matmul":
            return None
        first, second = (_source(q) for q in step.inputs)
        if second.step is not None and second.step.op.name == "permute" and _is_weight(second.step.inputs[0]):
            return "x W^T"
        if _is_weight(second) and not _is_weight(first):
            return "X W"
        return "W x" if _is_weight(first) and not _is_weight(second) else None

    # Backward

    def flow(self, flow: Flow) -> str:
        """What the step hands on, with symbols: upstream × local."""
        return self._handed(flow, self.gradient(flow.step.result))

    def local(self, flow: Flow) -> str:
        """The local derivative with symbols; for matrix products the factor itself."""
        text = self._derivative(flow)
        without = re.sub(r"\s*(\\[,;]\s*)?(?<![A-Za-z\\])G(_n|\^\{\\top\})?(?![A-Za-z])\s*", "", text)
        return without.replace(r"\,", "").strip() if without != text else text

    def _derivative(self, flow: Flow) -> str:
        """The record's derivative with the symbols of the step; G stays."""
        written = _written(flow)
        symbols = [q.symbol for q in flow.step.inputs]
        return tidied(self._filled(flow.step, written, symbols))

    def _handed(self, flow: Flow, upstream: str) -> str:
        written = _written(flow)
        derivative = self._derivative(flow)
        sign = r"\cdot" if self.scalar else r"\odot"
        if flow.step.op.name == "permute":
            done = rf"{bracketed_always(upstream)}^{{\top}}" if "^" in upstream else rf"{upstream}^{{\top}}"
        elif written == "1":
            done = upstream
        elif written == "-1":
            done = f"-{bracketed(upstream)}"
        elif re.search(r"(?<![A-Za-z\\])G(?![A-Za-z])", written):
            done = filled(derivative, {"G": bracketed(upstream)})
        else:
            done = f"{bracketed(upstream)} {sign} {bracketed(derivative)}"
        return _with_sum(done, flow)

    def role(self, flow: Flow) -> str:
        """What the operation does with the gradient."""
        step, op = flow.step, flow.step.op
        if op.gates and flow.local is not None and flow.local.shape == ():
            found = WORDS["open" if flow.local else "closed"] if flow.local.dtype.kind == "b" else ""
        elif op.gates and flow.local is not None and flow.local.dtype.kind == "b":
            found = WORDS["gates"].format(open=int(flow.local.sum()), count=flow.local.size)
        else:
            words = BACKWARD.get(op.name, "")
            found = words if isinstance(words, str) else words[flow.argument]
        others = [plain(_source(q).symbol) for i, q in enumerate(step.inputs) if i != flow.argument]
        found = found.format(other=others[0] if others else "", weight=others[0] if others else "")
        found = found.replace("ᵀᵀ", "")
        if flow.summed:
            symbol = plain(flow.target.symbol)
            summed = WORDS["summed"].format(symbol=symbol, axes=_listed(flow.summed))
            found = f"{found}; {summed}" if found else summed
        return found

    # Closed forms

    def short(self) -> Iterator[tuple[Quantity, str]]:
        """The gradient of everything that has a name, in terms of the others, from the loss to the inputs."""
        known: dict[Quantity, _Product] = {self.derivation.root: _Product(1.0, ())}
        waiting: set[Quantity] = set()  # leaves of one layer, told together in the order of their use
        for step in reversed(self.derivation.steps):
            quantity = step.result
            if not step.quiet and quantity is not self.derivation.root:
                written, told = self._closed(quantity, known)
                if told:
                    yield from self._told(waiting, known)
                    waiting.clear()
                    yield quantity, written
            complete = [flow.target for flow in step.flows if flow is flow.target.flows[-1]]
            waiting.update(target for target in complete if target.kind == "leaf")
        yield from self._told(waiting, known)

    def _told(
        self, waiting: set[Quantity], known: dict[Quantity, _Product]
    ) -> Iterator[tuple[Quantity, str]]:
        for leaf in self.derivation.leaves:
            if leaf in waiting:
                yield leaf, self._closed(leaf, known)[0]

    def _closed(self, quantity: Quantity, known: dict[Quantity, _Product]) -> tuple[str, bool]:
        """The closed form of one gradient, and whether it has a line of its own."""
        parts = [self._times(flow, known) for flow in self._flows(quantity)]
        found = parts[0]
        if len(parts) > 1:
            found = _Product(1.0, (" + ".join(part.latex(self.scalar) for part in parts),))
        written = found.latex(self.scalar)
        told = (
            quantity.named
            or quantity in self.deltas
            or len(plain(written)) > LONGEST
            or self._used_often(quantity, written)
        )
        known[quantity] = _Product(1.0, (self.gradient(quantity),)) if told else found
        return written, told

    def _flows(self, quantity: Quantity) -> list[Flow]:
        """What flows into a quantity, seen through quiet steps."""
        found = []
        for flow in quantity.flows:
            found += self._flows(flow.step.result) if flow.step.quiet else [flow]
        return found

    def _used_often(self, quantity: Quantity, written: str) -> bool:
        handed = len(quantity.step.flows) if quantity.step else 0
        return handed > 1 and len(plain(written)) > 12

    def _times(self, flow: Flow, known: dict[Quantity, _Product]) -> _Product:
        """The upstream's closed form times the local derivative."""
        upstream = known[_source(flow.step.result)]
        op, inputs = flow.step.op, flow.step.inputs
        written = _written(flow)
        used = [q for letter, q in zip(letters(op), inputs, strict=False) if _occurs(letter, written)]
        if flow.summed or op.name == "permute" or _occurs("G", written):
            return _Product(1.0, (self._handed(flow, upstream.latex(self.scalar)),))
        if written in ("1", "-1"):
            return _Product(upstream.coefficient * float(written), upstream.factors)
        if op.name == "pow" and inputs[1].kind == "number" and flow.argument == 0:
            power = float(inputs[1].value)  # type: ignore[arg-type]
            base = self._expanded(inputs[0])
            factor = tidied(base if power == 2 else f"{bracketed(base)}^{{{latex_number(power - 1)}}}")
            return _Product(upstream.coefficient * power, (*upstream.factors, factor))
        if flow.local is not None and all(q.kind == "number" for q in used) and flow.local.size:
            number = float(flow.local.reshape(-1)[0])
            if np.all(flow.local == number) and "params" not in written:
                return _Product(upstream.coefficient * number, upstream.factors)
        return _Product(upstream.coefficient, (*upstream.factors, self._derivative(flow)))

    def _expanded(self, quantity: Quantity) -> str:
        """The symbol, or for an unnamed sum or difference what it is."""
        step = _source(quantity).step
        if quantity.named or step is None or step.op.name not in ("add", "sub"):
            return quantity.symbol
        if any(q.kind == "result" and not q.named for q in step.inputs):
            return quantity.symbol
        return self.formula(step)

    def _filled(self, step: Step, latex: str, values: list[str]) -> str:
        mapping = dict(zip(letters(step.op), values, strict=False))
        params = step.node.params
        if step.op.name in ("mean", "mse", "cross_entropy") and params.get("reduction", "mean") == "mean":
            rows = step.inputs[0].shape
            count = rows[0] if step.op.name == "cross_entropy" else _size(rows)
            mapping["n" if step.op.name != "cross_entropy" else "N"] = str(
                count // max(_size(step.result.shape), 1)
            )
        elif "reduction" in params:
            latex = re.sub(r"\\frac\{(\d)\}\{[nN]\}", lambda m: m.group(1).replace("1", ""), latex)
        if step.op.name == "linear" and len(values) < 3:
            latex = latex.replace(" + b", "")
        latex = with_parameters(latex, step.op, params)
        return tidied(filled(latex, mapping))


@dataclass(frozen=True)
class _Product:
    """A number times factors in LaTeX."""

    coefficient: float
    factors: tuple[str, ...]

    def latex(self, scalar: bool) -> str:
        """As one formula."""
        factors = list(self.factors)
        if len(factors) > 1 or (self.coefficient != 1 and factors):
            factors = [bracketed(factor) for factor in factors]
        if self.coefficient == -1 and factors:
            return "-" + (r" \cdot " if scalar else r" \odot ").join(factors)
        joined = (r" \cdot " if scalar else r" \odot ").join(factors)
        if self.coefficient == 1 and factors:
            return joined
        number = latex_number(self.coefficient)
        return rf"{number} \cdot {joined}" if joined else number


def bracketed_always(latex: str) -> str:
    """``latex`` in parentheses."""
    return rf"\left({latex}\right)"


def _written(flow: Flow) -> str:
    """The record's derivative by the argument; one that takes any number has the same for all."""
    derivatives = flow.step.op.derivative
    return derivatives[min(flow.argument, len(derivatives) - 1)]


def _occurs(letter: str, latex: str) -> bool:
    return bool(re.search(rf"(?<![\\A-Za-z]){letter}(?![A-Za-z])", latex))


def _with_sum(latex: str, flow: Flow) -> str:
    if not flow.summed:
        return latex
    axes = ", ".join(str(axis) for axis in flow.summed)
    axes = axes if len(flow.summed) == 1 else f"({axes})"
    return rf"\operatorname{{sum}}({latex},\ \text{{axis}} = {axes})"


def _source(quantity: Quantity) -> Quantity:
    """What a quiet view shows."""
    while quantity.step is not None and quantity.step.quiet:
        quantity = quantity.step.inputs[0]
    return quantity


def _is_weight(quantity: Quantity) -> bool:
    return quantity.kind == "leaf"


def _affine(step: Step, derivation: Derivation) -> bool:
    """Whether the step completes an affine map: a linear layer, or a matrix product and its bias."""
    if step.op.name == "linear":
        return True
    if step.op.name == "add":
        return any(_made_by_matmul(q) for q in step.inputs)
    users = {id(flow.step): flow.step for flow in step.result.flows}
    return step.op.name == "matmul" and not any(
        user.quiet or user.op.name == "add" for user in users.values()
    )


def _made_by_matmul(quantity: Quantity) -> bool:
    source = _source(quantity)
    return source.step is not None and source.step.op.name == "matmul"


def _listed(axes: tuple[int, ...]) -> str:
    return ", ".join(str(axis) for axis in axes)


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=int))
