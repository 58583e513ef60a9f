"""Matrix products, diagonals and triangles, the inverse and the solution of linear equations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from backstory.core import apply, as_tensor
from backstory.errors import DtypeError, ShapeError
from backstory.functions.reduction import sum
from backstory.functions.shape import clone, expand, movedim, permute, reshape, unsqueeze
from backstory.indexing import each_axis, one_axis
from backstory.ops import TABLE

if TYPE_CHECKING:
    from backstory.tensor import Tensor

__all__ = [
    "addbmm",
    "addmm",
    "addmv",
    "addr",
    "baddbmm",
    "bmm",
    "diag",
    "diag_embed",
    "diagonal",
    "dot",
    "inner",
    "inv",
    "inverse",
    "kron",
    "matmul",
    "mm",
    "mv",
    "outer",
    "solve",
    "tensordot",
    "trace",
    "tril",
    "triu",
    "vdot",
]


def matmul(x: Any, y: Any) -> Tensor:
    """The matrix product X Y with PyTorch's rules: vectors are rows on the left, columns on the right.

    >>> matmul([[1.0, 2.0]], [3.0, 4.0])
    tensor([11.])
    """
    x, y = as_tensor(x), as_tensor(y)
    if x.ndim == 0 or y.ndim == 0:
        raise ShapeError(
            f"matmul received shapes {x.shape} and {y.shape}",
            why="a scalar has no axis to sum over",
            instead="x * y",
        )
    row, column = x.ndim == 1, y.ndim == 1
    if row or column:
        x = x.reshape(1, -1) if row else x
        y = y.reshape(-1, 1) if column else y
        product = apply(TABLE["matmul"], x, y)
        lead = product.shape[:-2]
        kept = () if row and column else (product.shape[-1:] if row else product.shape[-2:-1])
        return product.reshape(lead + kept)
    return apply(TABLE["matmul"], x, y)


def _ranks(name: str, instead: str, *pairs: tuple[Any, int]) -> list[Any]:
    """Tensors, each with the number of axes that goes with it."""
    found = [as_tensor(x) for x, _ in pairs]
    if any(x.ndim != rank for x, (_, rank) in zip(found, pairs, strict=True)):
        raise ShapeError(
            f"{name} received shapes {', '.join(str(x.shape) for x in found)}",
            why=f"it takes tensors of {', '.join(str(rank) for _, rank in pairs)} axes",
            instead=instead,
        )
    return found


def mm(x: Any, y: Any) -> Tensor:
    """The product of two matrices (n, m) and (m, p)."""
    return apply(TABLE["matmul"], *_ranks("mm", "x @ y, which takes any", (x, 2), (y, 2)))


def bmm(x: Any, y: Any) -> Tensor:
    """The products of two stacks of matrices (b, n, m) and (b, m, p)."""
    x, y = _ranks("bmm", "x @ y, which takes any", (x, 3), (y, 3))
    if x.shape[0] != y.shape[0]:
        raise ShapeError(
            f"bmm received shapes {x.shape} and {y.shape}",
            why=f"{x.shape[0]} matrices do not pair with {y.shape[0]}",
            instead="stacks of one length, or x @ y, which broadcasts",
        )
    return apply(TABLE["matmul"], x, y)


def mv(x: Any, y: Any) -> Tensor:
    """The product of a matrix (n, m) and a vector (m,)."""
    return matmul(*_ranks("mv", "x @ y, which takes any", (x, 2), (y, 1)))


def dot(x: Any, y: Any) -> Tensor:
    """Σ xᵢ yᵢ of two vectors of one length.

    >>> dot([1.0, 2.0], [3.0, 4.0])
    tensor(11.)
    """
    return matmul(*_ranks("dot", "(x * y).sum()", (x, 1), (y, 1)))


vdot = dot


def inner(x: Any, y: Any) -> Tensor:
    """Sums of products along the last axes: out[i, j] = Σₖ x[i, k] y[j, k]; of numbers their product."""
    x, y = as_tensor(x), as_tensor(y)
    if x.ndim == 0 or y.ndim == 0:
        return x * y
    return tensordot(x, y, ([-1], [-1]))


def outer(x: Any, y: Any) -> Tensor:
    """out[i, j] = xᵢ yⱼ of two vectors.

    >>> outer([1, 2], [3, 4])
    tensor([[3, 4],
            [6, 8]])
    """
    x, y = _ranks("outer", "x[..., None] * y", (x, 1), (y, 1))
    return unsqueeze(x, 1) * y


def _plus(name: str, x: Any, product: Tensor, beta: float, alpha: float) -> Tensor:
    """beta · x + alpha · product, where x broadcasts to the product; a beta of 0 ignores x, also its NaN."""
    x = as_tensor(x)
    if x.dtype != product.dtype:
        raise DtypeError(
            f"{name} received {x.dtype} and a product of {product.dtype}",
            why="it adds numbers of one dtype",
            instead=f"x.to(backstory.{product.dtype})",
        )
    if x.shape != product.shape:
        x = expand(x, product.shape)
    return scaled(product, alpha) if beta == 0 else scaled(x, beta) + scaled(product, alpha)


def scaled(x: Tensor, factor: float) -> Tensor:
    """``factor`` · x in the dtype of ``x``, to which the factor is converted: 1.5 times an integer is it."""
    if factor == 1:
        return x
    kind = x.dtype.kind
    if kind != "f":
        factor = np.asarray(int(factor)).astype(x.dtype).item()
    return x & factor if kind == "b" else x * factor


def addmm(x: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta · x + alpha · (mat1 @ mat2) of two matrices."""
    return _plus("addmm", x, mm(mat1, mat2), beta, alpha)


def addmv(x: Any, mat: Any, vec: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta · x + alpha · (mat @ vec) of a matrix and a vector."""
    return _plus("addmv", x, mv(mat, vec), beta, alpha)


def addr(x: Any, vec1: Any, vec2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta · x + alpha · outer(vec1, vec2) of two vectors."""
    return _plus("addr", x, outer(vec1, vec2), beta, alpha)


def baddbmm(x: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta · x + alpha · (batch1 @ batch2) of two stacks of matrices."""
    return _plus("baddbmm", x, bmm(batch1, batch2), beta, alpha)


def addbmm(x: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta · x + alpha · Σ (batch1 @ batch2), summed over the stack."""
    x1, x2 = _ranks("addbmm", "x + (b1 @ b2).sum(0)", (batch1, 3), (batch2, 3))
    return _plus("addbmm", x, tensordot(x1, x2, ([0, 2], [0, 1])), beta, alpha)


def tensordot(x: Any, y: Any, dims: Any = 2) -> Tensor:
    """Sums of products over the axes ``dims``: the last of x and first of y, or two lists of axes.

    >>> tensordot([[1.0, 2.0]], [[3.0], [4.0]], 1)
    tensor([[11.]])
    """
    x, y = as_tensor(x), as_tensor(y)
    if isinstance(dims, int):
        if not 0 <= dims <= min(x.ndim, y.ndim):
            raise ShapeError(
                f"tensordot(dims={dims}) of shapes {x.shape} and {y.shape}",
                why="both need that many axes",
                instead=f"a number of axes from 0 to {min(x.ndim, y.ndim)}",
            )
        left, right = list(range(x.ndim - dims, x.ndim)), list(range(dims))
    else:
        left, right = (list(d) if isinstance(d, (list, tuple)) else [d] for d in dims)
    left, right = each_axis("tensordot", x, left), each_axis("tensordot", y, right)
    x, y = _stretched(x, y, left, right), _stretched(y, x, right, left)
    if [x.shape[i] for i in left] != [y.shape[i] for i in right]:
        raise ShapeError(
            f"tensordot(dims={dims}) of shapes {x.shape} and {y.shape}",
            why="the axes that are summed over have different lengths",
            instead="pairs of axes of equal length",
        )
    rows = tuple(i for i in range(x.ndim) if i not in left)
    columns = tuple(i for i in range(y.ndim) if i not in right)
    count = math.prod(x.shape[i] for i in left)
    shape = (*(x.shape[i] for i in rows), *(y.shape[i] for i in columns))
    a = reshape(permute(x, rows + left), (math.prod(x.shape[i] for i in rows), count))
    b = reshape(permute(y, right + columns), (count, math.prod(y.shape[i] for i in columns)))
    return reshape(apply(TABLE["matmul"], a, b), shape)


def _stretched(x: Tensor, y: Tensor, left: tuple[int, ...], right: tuple[int, ...]) -> Tensor:
    """``x`` with its axes ``left`` of length 1 as long as the axes ``right`` of ``y``."""
    shape = list(x.shape)
    for i, j in zip(left, right, strict=False):
        shape[i] = y.shape[j] if shape[i] == 1 else shape[i]
    return x if tuple(shape) == x.shape else expand(x, shape)


def kron(x: Any, y: Any) -> Tensor:
    """The Kronecker product: every entry of ``x`` times the whole of ``y``.

    >>> kron([1, 10], [1, 2])
    tensor([ 1,  2, 10, 20])
    """
    x, y = as_tensor(x), as_tensor(y)
    rank = max(x.ndim, y.ndim)
    a, b = (1,) * (rank - x.ndim) + x.shape, (1,) * (rank - y.ndim) + y.shape
    product = reshape(x, [n for m in a for n in (m, 1)]) * reshape(y, [n for m in b for n in (1, m)])
    return reshape(product, [n * m for n, m in zip(a, b, strict=True)])


def diagonal(x: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal in the plane of two axes, as a new last axis: a view. ``offset`` > 0 is above it."""
    x = as_tensor(x)
    plane = each_axis("diagonal", x, (dim1, dim2))
    if x.ndim < 2:
        raise ShapeError(f"diagonal of shape {x.shape}", why="a plane has two axes", instead="a matrix")
    if plane != (x.ndim - 2, x.ndim - 1):
        x = movedim(x, plane, (-2, -1))
    return apply(TABLE["diagonal"], x, offset=int(offset))


def diag_embed(x: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices with the last axis of ``x`` on their diagonals, in the plane of two new axes."""
    x = as_tensor(x)
    if x.ndim == 0:
        raise ShapeError("diag_embed of a number", why="it has no axis", instead="a vector")
    rank = x.ndim + 1
    plane = tuple(one_axis("diag_embed", x, d, rank) for d in (dim1, dim2))
    if plane[0] == plane[1]:
        raise ShapeError(f"diag_embed({dim1=}, {dim2=})", why="they are the same axis", instead="two axes")
    if plane[0] > plane[1]:
        plane, offset = plane[::-1], -offset
    side = x.shape[-1] + abs(offset)
    made = apply(TABLE["diag_embed"], x, offset=int(offset), shape=(*x.shape[:-1], side, side))
    return made if plane == (rank - 2, rank - 1) else movedim(made, (-2, -1), plane)


def diag(x: Any, diagonal: int = 0) -> Tensor:
    """Of a vector the matrix with it on its diagonal; of a matrix a copy of its diagonal.

    >>> diag([1, 2])
    tensor([[1, 0],
            [0, 2]])
    """
    x = as_tensor(x)
    if x.ndim == 1:
        return diag_embed(x, diagonal)
    (x,) = _ranks("diag", "diagonal(x) or diag_embed(x) for more axes", (x, 2))
    return clone(apply(TABLE["diagonal"], x, offset=int(diagonal)))


def trace(x: Any) -> Tensor:
    """The sum of a matrix's diagonal."""
    (x,) = _ranks("trace", "x.diagonal(...).sum(-1) for more axes", (x, 2))
    return sum(apply(TABLE["diagonal"], x, offset=0))


def tril(x: Any, diagonal: int = 0) -> Tensor:
    """Matrices with the entries on and below the ``diagonal``-th diagonal, and 0 above."""
    return apply(TABLE["tril"], _matrices("tril", x), k=int(diagonal))


def triu(x: Any, diagonal: int = 0) -> Tensor:
    """Matrices with the entries on and above the ``diagonal``-th diagonal, and 0 below."""
    return apply(TABLE["triu"], _matrices("triu", x), k=int(diagonal))


def _matrices(name: str, x: Any) -> Tensor:
    x = as_tensor(x)
    if x.ndim < 2:
        raise ShapeError(
            f"{name} of shape {x.shape}", why="a matrix has two axes", instead="two axes or more"
        )
    return x


def _square(name: str, x: Any) -> Tensor:
    x = _matrices(name, x)
    if x.dtype.kind != "f":
        raise DtypeError(
            f"{name} of {x.dtype}", why="its entries are not integers", instead="x.to(backstory.float64)"
        )
    if x.shape[-1] != x.shape[-2]:
        raise ShapeError(
            f"{name} of shape {x.shape}",
            why="only square matrices have an inverse",
            instead="a square matrix",
        )
    return x


def inv(x: Any) -> Tensor:
    """A⁻¹ of square matrices on the last two axes; dA = −A⁻ᵀ G A⁻ᵀ. A singular one raises.

    >>> inv([[2.0, 0.0], [0.0, 4.0]])
    tensor([[0.5 , 0.  ],
            [0.  , 0.25]])
    """
    return apply(TABLE["inv"], _square("inv", x))


inverse = inv


def solve(a: Any, b: Any, *, left: bool = True) -> Tensor:
    """X of A X = B, or of X A = B where not ``left``. B holds matrices, or vectors as in PyTorch.

    >>> solve([[2.0, 0.0], [0.0, 4.0]], [2.0, 2.0])
    tensor([1. , 0.5])
    """
    a, b = _square("solve", a), as_tensor(b)
    vectors = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])
    right = unsqueeze(b, -1) if vectors else b
    if not left:
        if vectors:
            raise ShapeError(
                f"solve(left=False) received shapes {a.shape} and {b.shape}",
                why="a column times a matrix is no column",
                instead="b.unsqueeze(-2), one row",
            )
        return solve(a.mT, right.mT).mT
    found = apply(TABLE["solve"], a, right)
    return reshape(found, found.shape[:-1]) if vectors else found
