"""One step of a recurrent network, and a sequence of steps.

Each step takes what the input and what the last output give to the gates, both (…, gates · hidden).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from backstory.functions.activation import relu, sigmoid
from backstory.functions.joining import chunk, stack
from backstory.functions.transcendental import tanh
from backstory.nn.functional.linear import linear
from backstory.tensor import Tensor

__all__ = ["State", "Step", "Weights", "gru_step", "lstm_step", "relu_step", "run", "tanh_step"]

State = tuple[Tensor, ...]
Step = Callable[[Tensor, Tensor, State], State]
# of the input, of the last output, their biases, and of an LSTM's projection
Weights = Sequence[Tensor | None]


def tanh_step(from_input: Tensor, from_last: Tensor, state: State) -> State:
    """h′ = tanh(W x + b + U h + c), Elman 1990."""
    return (tanh(from_input + from_last),)


def relu_step(from_input: Tensor, from_last: Tensor, state: State) -> State:
    """h′ = max(W x + b + U h + c, 0)"""
    return (relu(from_input + from_last),)


def lstm_step(from_input: Tensor, from_last: Tensor, state: State) -> State:
    """c′ = σ(f) c + σ(i) tanh(g) and h′ = σ(o) tanh(c′), for the gates i, f, g, o.

    Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000.
    """
    i, f, g, o = chunk(from_input + from_last, 4, -1)
    cell = sigmoid(f) * state[1] + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(cell), cell


def gru_step(from_input: Tensor, from_last: Tensor, state: State) -> State:
    """h′ = (1 − z) n + z h with z = σ(z₁ + z₂), n = tanh(n₁ + σ(r₁ + r₂) n₂); Cho et al. 2014.

    The gates are r, z, n; those of the input are 1, and those of the last output 2.
    """
    r1, z1, n1 = chunk(from_input, 3, -1)
    r2, z2, n2 = chunk(from_last, 3, -1)
    keep = sigmoid(z1 + z2)
    new = tanh(n1 + sigmoid(r1 + r2) * n2)
    return (new + keep * (state[0] - new),)


def run(step: Step, x: Tensor, state: State, weights: Weights, backwards: bool = False) -> tuple[Any, State]:
    """All steps of x (L, …, features): the outputs (L, …, hidden), and the state after the last step.

    With ``backwards`` the steps go from the end to the start, and outputs stand where their inputs do.
    """
    of_input, of_last, bias_of_input, bias_of_last, projection = weights
    assert of_input is not None
    assert of_last is not None
    steps = pieces(linear(x, of_input, bias_of_input))
    outputs = []
    for from_input in reversed(steps) if backwards else steps:
        state = step(from_input, linear(state[0], of_last, bias_of_last), state)
        if projection is not None:
            state = (linear(state[0], projection), *state[1:])
        outputs.append(state[0])
    return stack(outputs[::-1] if backwards else outputs), state


def pieces(x: Tensor) -> list[Tensor]:
    """x[0], x[1], …, cut by halves.

    The gradient of each part is as large as what it was cut from; so n parts cost n log n and not n².
    """
    if x.shape[0] == 1:
        return [x[0]]
    half = x.shape[0] // 2
    return [*pieces(x[:half]), *pieces(x[half:])]
