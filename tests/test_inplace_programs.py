"""Random programs of views, changes in place and reads: PyTorch's gradients, or an error where it has one."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import backstory

VIEWS = {
    "first": lambda x: x[0],
    "last": lambda x: x[-1],
    "strided": lambda x: x[::2],
    "tail": lambda x: x[..., 1:],
    "row": lambda x: x.reshape(1, -1)[0],
    "turned": lambda x: x.permute(tuple(range(len(x.shape)))[::-1]),
    "new axis": lambda x: x[None],
    "detached": lambda x: x.detach(),
}
CHANGES = {
    "add_": lambda x, other: x.add_(2.0),
    "mul_": lambda x, other: x.mul_(0.5),
    "sin_": lambda x, other: x.sin_(),
    "square": lambda x, other: x.mul_(x.clone()),
    "mul_ other": lambda x, other: x.mul_(other.clone().sum()),
    "add_ other": lambda x, other: x.add_(other.sum()),
    "copy_": lambda x, other: x.copy_(other.sum()),
    "fill": lambda x, other: x.fill_(0.75),
    "set": lambda x, other: x.__setitem__(0, other.sum()),
    "relu_": lambda x, other: x.relu_(),
}
READS = {
    "linear": lambda x: x.sum(),
    "square": lambda x: (x * x).sum(),
    "sine": lambda x: x.sin().sum(),
}
STEP = st.one_of(
    st.tuples(st.just("view"), st.integers(0, 9), st.sampled_from(sorted(VIEWS))),
    st.tuples(st.just("change"), st.integers(0, 9), st.sampled_from(sorted(CHANGES)), st.integers(0, 9)),
    st.tuples(st.just("read"), st.integers(0, 9), st.sampled_from(sorted(READS))),
)
DATA = np.array([[0.3, -0.7, 1.1], [0.9, 0.2, -0.4]])


def run(library, steps):
    """The leaf's gradient (``None`` for an error), and the values at the end."""
    make = backstory.tensor if library is backstory else torch.tensor
    leaf = make(DATA, requires_grad=True)
    tensors, total = [leaf * 1.5, make(DATA.copy())], leaf.sum() * 0.0
    try:
        for kind, which, name, *other in steps:
            x = tensors[which % len(tensors)]
            _ = x.grad_fn  # until asked, PyTorch takes a view whose base took a history for a leaf
            if kind == "view" and len(x.shape) > 0 and x.numel() > 1:
                tensors.append(VIEWS[name](x))
            elif kind == "change" and not (name == "set" and len(x.shape) == 0):
                CHANGES[name](x, tensors[other[0] % len(tensors)])
            elif kind == "read":
                total = total + READS[name](x)
        for x in tensors:
            total = total + (x.clone() * x.clone()).sum()
        total.backward()
    except RuntimeError:
        return None, None
    values = [x.detach().numpy() for x in tensors]
    return np.asarray(leaf.grad.numpy()), values


@settings(max_examples=settings.default.max_examples * 8)
@given(st.lists(STEP, min_size=2, max_size=9))
def test_programs_have_pytorchs_gradients_or_are_refused_where_it_refuses(steps):
    with np.errstate(all="ignore"):
        expected, expected_values = run(torch, steps)
        found, values = run(backstory, steps)
    assert (found is None) == (expected is None)
    if expected is not None:
        for mine, theirs in zip(values, expected_values, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
