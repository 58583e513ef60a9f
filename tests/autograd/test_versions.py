"""A value that the backward walk needs and that was changed in place is refused, never used."""

from __future__ import annotations

import numpy as np
import pytest
from support import close

import backstory
from backstory import nn
from backstory.autograd import grad
from backstory.errors import VersionError


def vector(*values: float) -> backstory.Tensor:
    return backstory.tensor(values, dtype="float64", requires_grad=True)


def test_a_saved_value_that_was_changed_in_place_is_refused_by_name_shape_and_versions():
    x = vector(1.0, 2.0)
    hidden = x.exp()
    out = hidden.sum()
    with backstory.no_grad():
        hidden.add_(1.0)
    with pytest.raises(VersionError, match=r"ExpBackward0.*\(2,\).*\n.*version 0 and is at 1.*\n"):
        out.backward()
    assert x.grad is None


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.detach().mul_(2.0),
        lambda w: w.reshape(1, 2).zero_(),
        lambda w: w[0].fill_(7.0),
        lambda w: w[:1].detach().add_(1.0),
        lambda w: w.__setitem__(0, 3.0),
        lambda w: w.T.copy_(np.zeros(2)),
        lambda w: w.__imul__(3.0),
    ],
    ids=["detach", "reshape", "entry", "slice of detach", "setitem", "transpose", "augmented"],
)
def test_a_change_through_a_view_or_detach_is_seen(change):
    w, x = vector(1.0, 2.0), vector(3.0, 4.0)
    out = (w * x).sum()
    with backstory.no_grad():
        change(w)
    with pytest.raises(VersionError, match="MulBackward0"):
        out.backward()


def test_a_change_of_a_value_that_no_rule_reads_is_allowed():
    x = vector(1.0, 2.0)
    y = x + 1.0
    out = y.sum()
    with backstory.no_grad():
        y.zero_()
    out.backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_a_step_of_the_optimizer_between_forward_and_backward_is_seen():
    w = nn.Parameter(backstory.ones(2))
    optimizer = backstory.optim.SGD([w], lr=0.1)
    (w * w).sum().backward()
    stale = (w * w).sum()
    optimizer.step()
    with pytest.raises(VersionError):
        stale.backward()


def test_a_change_before_the_second_backward_is_seen_in_the_second_derivative():
    x = vector(1.0, 2.0)
    hidden = x * 1.0
    (first,) = grad(hidden.exp().sum() + (hidden**3).sum(), x, create_graph=True)
    with backstory.no_grad():
        hidden.zero_()
    with pytest.raises(VersionError):
        first.sum().backward()


def test_new_values_are_not_changes():
    x = vector(1.0, 2.0)
    y = x.exp()
    out = y.sum()
    y = y + 1.0
    out.backward()
    close(x.grad.numpy(), np.exp([1.0, 2.0]))
