"""Einstein's summation: products of tensors named by letters, done as matrix products two at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from backstory.core import apply, as_tensor
from backstory.errors import ArgumentError, ShapeError
from backstory.functions.linalg import diagonal
from backstory.functions.reduction import sum
from backstory.functions.shape import expand, permute, reshape
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = ["einsum"]

_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
Labels = tuple[Any, ...]  # a letter, or the number of an axis behind an ellipsis, for each axis


def einsum(equation: Any, *operands: Any) -> Tensor:
    """Sums of products, as the equation says: ``"ij,jk->ik"`` is the product of two matrices.

    Axes with one letter have one length (or 1, which broadcasts). Letters that are not in the result are
    summed over; a letter twice in one operand is its diagonal; ``...`` stands for further axes. Without
    ``->`` the result has the letters that occur once, in the alphabet's order.

    >>> einsum("i,j->ij", [1, 2], [3, 4])
    tensor([[3, 4],
            [6, 8]])
    """
    equation, tensors = _written(equation, operands)
    terms, result = _parsed(equation, tensors)
    parts = [_merged(x, labels) for x, labels in zip(tensors, terms, strict=True)]
    _check_lengths(equation, parts)
    for pair in _order(parts, result):
        taken = [parts[i] for i in pair]
        parts = [part for i, part in enumerate(parts) if i not in pair]
        kept = {label for _, labels in parts for label in labels} | set(result)
        parts.append(_product(taken, kept))
    x, labels = _summed(*parts[0], set(result))
    return permute(x, tuple(labels.index(label) for label in result))


def _written(equation: Any, operands: tuple[Any, ...]) -> tuple[str, list[Any]]:
    """The equation as a text, also where axes are lists of numbers: einsum(x, [0, 1], y, [1, 2], [0, 2])."""
    if isinstance(equation, str):
        if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
            operands = tuple(operands[0])
        if not operands:
            raise ArgumentError(
                f"einsum({equation!r})", why="there is nothing to multiply", instead="tensors"
            )
        return equation, [as_tensor(x) for x in operands]
    values = (equation, *operands)
    tensors, lists = values[: len(values) // 2 * 2 : 2], values[1::2]
    text = ",".join(_letters(axes) for axes in lists)
    return text + ("->" + _letters(values[-1]) if len(values) % 2 else ""), [as_tensor(x) for x in tensors]


def _letters(axes: Any) -> str:
    return "".join("..." if i is ... else _ALPHABET[i] for i in axes)


def _parsed(equation: str, tensors: list[Any]) -> tuple[list[Labels], Labels]:
    """The label of every axis of every operand, and those of the result."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    texts = left.split(",")
    if len(texts) != len(tensors):
        raise ArgumentError(
            f"einsum({equation!r}) received {len(tensors)} tensors",
            why=f"the equation names {len(texts)}",
            instead="one tensor for each term",
        )
    terms = [_labels(equation, text, x) for text, x in zip(texts, tensors, strict=True)]
    extra = max((-label for term in terms for label in term if isinstance(label, int)), default=0)
    dots: Labels = tuple(range(-extra, 0))
    if not arrow:
        letters = [label for term in terms for label in term if isinstance(label, str)]
        return terms, (*dots, *sorted(label for label in set(letters) if letters.count(label) == 1))
    before, ellipsis, after = right.partition("...")
    result: Labels = (*before, *(dots if ellipsis else ()), *after)
    known = {label for term in terms for label in term}
    unknown = [label for label in result if label not in known]
    if unknown or len(set(result)) < len(result):
        raise ArgumentError(
            f"einsum({equation!r})",
            why=f"the result names {unknown[0]!r}, no term does"
            if unknown
            else "the result names an axis twice",
            instead="letters of the terms, each once",
        )
    return terms, result


def _labels(equation: str, text: str, x: Any) -> Labels:
    before, ellipsis, after = text.partition("...")
    letters = before + after
    extra = x.ndim - len(letters)
    if not all(letter in _ALPHABET for letter in letters) or extra < 0 or (extra and not ellipsis):
        raise ShapeError(
            f"einsum({equation!r}) received a tensor of shape {x.shape} for {text!r}",
            why=f"it has {x.ndim} axes",
            instead="one letter (a-z, A-Z) for each axis, or ... for further axes",
        )
    return (*before, *range(-extra, 0), *after)


def _merged(x: Any, labels: Labels) -> tuple[Any, Labels]:
    """A label that an operand has twice stands for the diagonal of the two axes."""
    while len(set(labels)) < len(labels):
        label = next(label for label in labels if labels.count(label) > 1)
        first, second = [i for i, other in enumerate(labels) if other == label][:2]
        if x.shape[first] != x.shape[second]:
            raise ShapeError(
                f"einsum of a tensor of shape {x.shape} with {label!r} on two axes",
                why="a diagonal has axes of one length",
                instead="another letter",
            )
        x = diagonal(x, 0, first, second)
        labels = (*(other for i, other in enumerate(labels) if i not in (first, second)), label)
    return x, labels


def _check_lengths(equation: str, parts: list[tuple[Any, Labels]]) -> None:
    found: dict[Any, int] = {}
    for x, labels in parts:
        for label, length in zip(labels, x.shape, strict=True):
            if length != 1 and found.setdefault(label, length) != length:
                raise ShapeError(
                    f"einsum({equation!r}) received shapes {', '.join(str(x.shape) for x, _ in parts)}",
                    why=f"axes named {label!r} have lengths {found[label]} and {length}",
                    instead="one length for each letter",
                )


def _order(parts: list[tuple[Any, Labels]], result: Labels) -> list[tuple[int, int]]:
    """Which two operands meet next, again and again: NumPy's greedy path where there are more than two."""
    if len(parts) <= 2:
        return [(0, 1)] * (len(parts) - 1)
    numbers = {label: i for i, label in enumerate({label: None for _, labels in parts for label in labels})}
    described: list[Any] = []
    for x, labels in parts:
        described += [np.broadcast_to(np.empty(()), x.shape), [numbers[label] for label in labels]]
    path, _ = np.einsum_path(*described, [numbers[label] for label in result], optimize="greedy")
    steps: list[tuple[int, int]] = []
    count = len(parts)
    for step in path[1:]:
        # A step of more than two operands: two at a time, the product taking the last place.
        last, *others = sorted(step, reverse=True)
        for other in others:
            steps.append((other, last))
            count -= 1
            last = count - 1
    return steps


def _summed(x: Any, labels: Labels, kept: set[Any]) -> tuple[Any, Labels]:
    """Without the axes that nobody asks for any more."""
    gone = tuple(i for i, label in enumerate(labels) if label not in kept)
    if gone:
        x = sum(x, gone)
    return x, tuple(label for label in labels if label in kept)


def _product(pair: list[tuple[Any, Labels]], kept: set[Any]) -> tuple[Any, Labels]:
    """One operand from two: batch axes, then those of the first, then those of the second."""
    (x, xs), (y, ys) = pair
    x, xs = _summed(x, xs, kept | set(ys))
    y, ys = _summed(y, ys, kept | set(xs))
    shared = [label for label in xs if label in ys]
    lengths = {label: max(x.shape[xs.index(label)], y.shape[ys.index(label)]) for label in shared}
    lengths |= {label: 0 for label in shared if 0 in (x.shape[xs.index(label)], y.shape[ys.index(label)])}
    over = [label for label in shared if label not in kept]
    batch = [label for label in shared if label in kept]
    rows = [label for label in xs if label not in shared]
    columns = [label for label in ys if label not in shared]
    x, y = _spread(x, xs, lengths), _spread(y, ys, lengths)
    sizes = dict(zip(xs, x.shape, strict=True)) | dict(zip(ys, y.shape, strict=True))
    size = {
        name: math.prod(sizes[label] for label in group)
        for name, group in (("rows", rows), ("columns", columns), ("over", over))
    }
    lead = [sizes[label] for label in batch]
    a = permute(x, tuple(xs.index(label) for label in (*batch, *rows, *over)))
    b = permute(y, tuple(ys.index(label) for label in (*batch, *over, *columns)))
    labels = (*batch, *rows, *columns)
    shape = tuple(sizes[label] for label in labels)
    if not over:  # nothing is summed over: a product entry by entry
        a = reshape(a, (*lead, *(sizes[label] for label in rows), *(1,) * len(columns)))
        b = reshape(b, (*lead, *(1,) * len(rows), *(sizes[label] for label in columns)))
        return a * b, labels
    a = reshape(a, (*lead, size["rows"], size["over"]))
    b = reshape(b, (*lead, size["over"], size["columns"]))
    return reshape(apply(TABLE["matmul"], a, b), shape), labels


def _spread(x: Any, labels: Labels, lengths: dict[Any, int]) -> Any:
    """``x`` with its axes of length 1 as long as the other operand's of the same letter."""
    shape = tuple(lengths.get(label, n) for label, n in zip(labels, x.shape, strict=True))
    return x if shape == x.shape else expand(x, shape)
