"""Recurrent layers: RNN, LSTM and GRU over sequences, and their cells for one step."""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar

import numpy as np

from backstory.arrays import Generator
from backstory.errors import ArgumentError, ShapeError
from backstory.functions.joining import cat, stack
from backstory.functions.shape import reshape, transpose
from backstory.nn import init
from backstory.nn.functional import dropout
from backstory.nn.functional.dropout import checked_probability
from backstory.nn.functional.linear import linear
from backstory.nn.functional.recurrent import (
    State,
    Step,
    Weights,
    gru_step,
    lstm_step,
    relu_step,
    run,
    tanh_step,
)
from backstory.nn.module import Module
from backstory.nn.parameter import Parameter
from backstory.promotion import get_default_dtype
from backstory.tensor import Tensor, as_tensor

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]

_NONLINEARITIES: dict[str, Step] = {"tanh": tanh_step, "relu": relu_step}


class _Recurrent(Module):
    """What layers and cells share: sizes, parameters that start uniform in ±1/√hidden_size."""

    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1  # how many tensors the state is
    step: Step

    def __init__(self, input_size: int, hidden_size: int, bias: bool) -> None:
        super().__init__()
        if input_size < 0 or hidden_size < 1:
            raise ArgumentError(
                f"{type(self).__name__}({input_size}, {hidden_size})",
                why="the state holds at least one number, and a number of features is not negative",
                instead=f"{type(self).__name__}(input_size, hidden_size)",
            )
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias

    def _own(self, suffix: str, sizes: tuple[int, int], dtype: Any, projected: int = 0) -> None:
        """Parameters for ``sizes`` features of the input and of the last output."""
        rows = self.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, sizes[0]), "weight_hh": (rows, sizes[1])}
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        if projected:
            shapes |= {"weight_hr": (projected, self.hidden_size)}
        dtype = get_default_dtype() if dtype is None else dtype
        for name, shape in shapes.items():
            setattr(self, name + suffix, Parameter(as_tensor(np.empty(shape, dtype))))

    def _weights(self, suffix: str) -> Weights:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        return [getattr(self, name + suffix, None) for name in names]

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw all parameters anew."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound, generator=generator)

    def _checked_state(self, hx: Any, shapes: list[tuple[int, ...]], dtype: Any) -> State:
        """The state as a tuple of tensors of ``shapes``: zeros if none is given."""
        if hx is None:
            return tuple(as_tensor(np.zeros(shape, dtype)) for shape in shapes)
        given = tuple(map(as_tensor, hx)) if self.states > 1 and isinstance(hx, (tuple, list)) else (hx,)
        given = tuple(map(as_tensor, given))
        if [h.shape for h in given] != shapes:
            raise ShapeError(
                f"{type(self).__name__} received a state of shape {', '.join(str(h.shape) for h in given)}",
                why="it holds the output" + (" and the cell" if self.states > 1 else ""),
                instead=" and ".join(map(str, shapes)) + (", as a tuple (h, c)" if self.states > 1 else ""),
            )
        return given


class _Layers(_Recurrent):
    """Layers over a sequence, each in one direction or in both."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias)
        name = type(self).__name__
        checked_probability(name, dropout)
        if num_layers < 1 or not 0 <= proj_size < hidden_size:
            raise ArgumentError(
                f"{name}(num_layers={num_layers}, hidden_size={hidden_size}, proj_size={proj_size})",
                why="there is at least one layer, and a projection makes outputs smaller",
                instead="num_layers=1 or more, and proj_size below hidden_size (0 for none)",
            )
        if proj_size and self.states == 1:
            raise ArgumentError(
                f"{name}(proj_size={proj_size})",
                why="outputs are projected where a cell remembers more than they say",
                instead="nn.LSTM(…, proj_size=…), or a Linear behind it",
            )
        if dropout and num_layers == 1:
            warnings.warn(
                f"{name}(dropout={dropout}) with one layer: it acts between layers, so here on nothing",
                UserWarning,
                stacklevel=3,
            )
        self.num_layers, self.batch_first, self.dropout = num_layers, batch_first, dropout
        self.bidirectional, self.proj_size = bidirectional, proj_size
        self.suffixes = ["", "_reverse"] if bidirectional else [""]
        wide = (proj_size or hidden_size) * len(self.suffixes)
        for layer in range(num_layers):
            for suffix in self.suffixes:
                sizes = (wide if layer else input_size, proj_size or hidden_size)
                self._own(f"_l{layer}{suffix}", sizes, dtype, proj_size)
        self.reset_parameters(generator)

    def forward(self, x: Any, hx: Any = None) -> tuple[Tensor, Any]:
        """The outputs of the last layer at every step, and the state of every layer after its last step."""
        x = as_tensor(x)
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size or 0 in x.shape[:1]:
            batched = "(N, L, {0})" if self.batch_first else "(L, N, {0})"
            raise ShapeError(
                f"{type(self).__name__}({self.input_size}, …) received x of shape {x.shape}",
                why=f"each step has {self.input_size} features, and there is at least one step",
                instead=f"x of shape {batched.format(self.input_size)}, or (L, {self.input_size}) unbatched",
            )
        turned = self.batch_first and x.ndim == 3
        x = transpose(x, 0, 1) if turned else x
        count = self.num_layers * len(self.suffixes)
        sizes = [self.proj_size or self.hidden_size, self.hidden_size][: self.states]
        state = self._checked_state(hx, [(count, *x.shape[1:-1], n) for n in sizes], x.dtype)
        after: list[State] = []
        for layer in range(self.num_layers):
            outputs = []
            for suffix in self.suffixes:
                before = tuple(part[len(after)] for part in state)
                weights = self._weights(f"_l{layer}{suffix}")
                out, last = run(self.step, x, before, weights, backwards=suffix != "")
                outputs.append(out)
                after.append(last)
            x = outputs[0] if len(outputs) == 1 else cat(outputs, -1)
            if self.dropout and layer + 1 < self.num_layers:
                x = dropout(x, self.dropout, self.training)
        final = tuple(stack(parts) for parts in zip(*after, strict=True))
        return (transpose(x, 0, 1) if turned else x), (final if self.states > 1 else final[0])

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        usual = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0}
        for name, value in {**usual, "bidirectional": False}.items():
            text += f", {name}={getattr(self, name)}" if getattr(self, name) != value else ""
        return text


class RNN(_Layers):
    """h′ = tanh(W x + b + U h + c) at every step, or relu with ``nonlinearity="relu"``; Elman 1990.

    x is (L, N, input_size), with ``batch_first`` (N, L, input_size), or (L, input_size) for one sequence; the
    state (layers · directions, N, hidden_size), zeros unless given. Returns the outputs of the last layer
    (…, directions · hidden_size) and the state after the last step. Parameters are ``weight_ih_l0``,
    ``weight_hh_l0``, ``bias_ih_l0``, ``bias_hh_l0``, with ``_reverse`` for the way back, as in PyTorch; they
    start uniform in ±1/√hidden_size.

    >>> import backstory
    >>> outputs, last = RNN(3, 4, num_layers=2, bidirectional=True)(backstory.ones(5, 2, 3))
    >>> outputs.shape, last.shape
    ((5, 2, 8), (4, 2, 4))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        **keywords: Any,
    ) -> None:
        step = _step_of("RNN", nonlinearity)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, **keywords
        )
        self.nonlinearity, self.step = nonlinearity, step


class LSTM(_Layers):
    """c′ = σ(f) c + σ(i) tanh(g) and h′ = σ(o) tanh(c′): the cell c is changed by adding, so it can last.

    Hochreiter & Schmidhuber 1997. Shapes as for :class:`RNN`; the state is a tuple (h, c). With ``proj_size``
    the outputs are projected to so many features by ``weight_hr`` (Sak et al. 2014).

    >>> import backstory
    >>> outputs, (h, c) = LSTM(3, 4, batch_first=True)(backstory.ones(2, 5, 3))
    >>> outputs.shape, h.shape, c.shape
    ((2, 5, 4), (1, 2, 4), (1, 2, 4))
    """

    gates, states = 4, 2
    step = staticmethod(lstm_step)


class GRU(_Layers):
    """h′ = (1 − z) n + z h with the gates z and r, n = tanh(n₁ + r n₂); Cho et al. 2014.

    Shapes as for :class:`RNN`.

    >>> import backstory
    >>> outputs, last = GRU(3, 4)(backstory.ones(5, 3))
    >>> outputs.shape, last.shape
    ((5, 4), (1, 4))
    """

    gates = 3
    step = staticmethod(gru_step)


def _step_of(name: str, nonlinearity: str) -> Step:
    if nonlinearity not in _NONLINEARITIES:
        raise ArgumentError(
            f"{name}(nonlinearity={nonlinearity!r})", why="there are two", instead="'tanh' or 'relu'"
        )
    return _NONLINEARITIES[nonlinearity]


class _Cell(_Recurrent):
    """One step, (N, input_size) or (input_size,)."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias)
        self._own("", (input_size, hidden_size), dtype)
        self.reset_parameters(generator)

    def forward(self, x: Any, hx: Any = None) -> Any:
        """The state after the step."""
        x = as_tensor(x)
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}({self.input_size}, …) received x of shape {x.shape}",
                why=f"a step has {self.input_size} features",
                instead=f"x of shape (N, {self.input_size}) or ({self.input_size},)",
            )
        shape = (*x.shape[:-1], self.hidden_size)
        state = self._checked_state(hx, [shape] * self.states, x.dtype)
        of_input, of_last, bias_of_input, bias_of_last, _ = self._weights("")
        assert of_input is not None
        assert of_last is not None
        rows = [reshape(one, (1, -1)) if one.ndim == 1 else one for one in (x, *state)]
        after = self.step(
            linear(rows[0], of_input, bias_of_input), linear(rows[1], of_last, bias_of_last), tuple(rows[1:])
        )
        shaped = tuple(reshape(one, shape) for one in after)
        return shaped if self.states > 1 else shaped[0]

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else f", bias={self.bias}")


class RNNCell(_Cell):
    """One step of an :class:`RNN`: x (N, input_size) and h (N, hidden_size) → h′; one sample may come alone.

    >>> import backstory
    >>> RNNCell(3, 4)(backstory.ones(2, 3)).shape
    (2, 4)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        **keywords: Any,
    ) -> None:
        step = _step_of("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, bias, **keywords)
        self.nonlinearity, self.step = nonlinearity, step

    def extra_repr(self) -> str:
        return super().extra_repr() + (
            "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}"
        )


class LSTMCell(_Cell):
    """One step of an :class:`LSTM`: x (N, input_size) and (h, c), each (N, hidden_size) → (h′, c′).

    >>> import backstory
    >>> h, c = LSTMCell(3, 4)(backstory.ones(2, 3))
    >>> h.shape, c.shape
    ((2, 4), (2, 4))
    """

    gates, states = 4, 2
    step = staticmethod(lstm_step)


class GRUCell(_Cell):
    """One step of a :class:`GRU`: x (N, input_size) and h (N, hidden_size) → h′.

    >>> import backstory
    >>> GRUCell(3, 4)(backstory.ones(3)).shape
    (4,)
    """

    gates = 3
    step = staticmethod(gru_step)
