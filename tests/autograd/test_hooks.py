"""Hooks on tensors and nodes, retained gradients, inputs=, anomalies, modes: as PyTorch does them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import close

import backstory
from backstory import errors, func
from backstory.autograd import backward, detect_anomaly, grad, set_detect_anomaly

X = np.array([1.0, -2.0, 3.0])


def both(function):
    """``function`` of each library and a leaf; the gradients of the two leaves must be equal."""
    mine, theirs = backstory.tensor(X, requires_grad=True), torch.tensor(X, requires_grad=True)
    results = function(backstory, mine), function(torch, theirs)
    close(mine.grad.numpy(), theirs.grad.numpy())
    return results


def test_a_hook_on_a_leaf_replaces_its_gradient_once_per_walk():
    def run(lib, x):
        seen = []
        x.register_hook(lambda g: (seen.append(g.tolist()), g * 2)[1])
        (x * x + x).sum().backward()
        x.sum().backward()
        return seen

    mine, theirs = both(run)
    assert mine == theirs


def test_hooks_on_results_run_in_order_and_their_handles_remove_them():
    def run(lib, x):
        y = x * 3
        seen = []
        first = y.register_hook(lambda g: g + 1)
        y.register_hook(lambda g: seen.append(g.tolist()))
        removed = y.register_hook(lambda g: g * 100)
        removed.remove()
        removed.remove()
        (y * y).sum().backward(retain_graph=True)
        first.remove()
        (y * y).sum().backward()
        return seen

    mine, theirs = both(run)
    assert mine == theirs


def test_hooks_on_nodes_see_and_replace_gradients():
    def run(lib, x):
        y = x * 3
        seen = []
        y.grad_fn.register_prehook(lambda outs: (outs[0] * 2,))
        y.grad_fn.register_hook(lambda ins, outs: seen.append((ins[0].tolist(), outs[0].tolist())))
        y.grad_fn.register_hook(lambda ins, outs: (ins[0] + 1, *ins[1:]))
        (y * y).sum().backward()
        return seen

    mine, theirs = both(run)
    assert mine == theirs


def test_retain_grad_keeps_the_gradient_after_the_hooks():
    def run(lib, x):
        y = x * 3
        y.retain_grad()
        y.register_hook(lambda g: g * 2)
        z = y.sum()
        z.backward()
        return y.grad.tolist(), y.retains_grad, x.retains_grad

    mine, theirs = both(run)
    assert mine == theirs


def test_a_hook_after_accumulation_receives_the_leaf():
    def run(lib, x):
        seen = []
        x.register_post_accumulate_grad_hook(lambda leaf: seen.append(leaf.grad.tolist()))
        (x * 2).sum().backward()
        (x * 3).sum().backward()
        return seen

    mine, theirs = both(run)
    assert mine == theirs


def test_hooks_are_recorded_with_create_graph():
    x, t = backstory.tensor(X, requires_grad=True), torch.tensor(X, requires_grad=True)
    for leaf in (x, t):
        leaf.register_hook(lambda g: g * g)
    (mine,) = grad((x**3).sum(), x, create_graph=True)
    (theirs,) = torch.autograd.grad((t**3).sum(), t, create_graph=True)
    close(grad(mine.sum(), x)[0].numpy(), torch.autograd.grad(theirs.sum(), t)[0].numpy())


def test_a_hook_that_returns_a_wrong_shape_is_refused():
    x = backstory.tensor(X, requires_grad=True)
    x.register_hook(lambda g: g[:2])
    with pytest.raises(errors.ShapeError, match=r"\(2,\)"):
        x.sum().backward()
    with pytest.raises(errors.GraphError, match="does not require grad"):
        backstory.tensor(X).register_hook(print)
    with pytest.raises(errors.GraphError, match="leaves alone"):
        (x * 2).register_post_accumulate_grad_hook(print)


def test_hooks_run_inside_transforms():
    seen = []

    def f(x):
        y = x * x
        y.register_hook(lambda g: (seen.append(g.shape), g * 2)[1])
        return y.sum()

    close(func.grad(f)(backstory.tensor(X)).numpy(), 4 * X)
    close(func.vmap(func.grad(f))(backstory.tensor(X)).numpy(), 4 * X)
    assert seen == [(3,), ()]


def test_backward_with_inputs_gives_gradients_to_them_alone():
    for lib in (backstory, torch):
        a, b = (lib.tensor(X, requires_grad=True) for _ in range(2))
        c = a * b
        (c * c).sum().backward(inputs=[a, c])
        close(a.grad.numpy() if lib is backstory else a.grad.detach().numpy(), 2 * X**3)
        close(c.grad.numpy() if lib is backstory else c.grad.detach().numpy(), 2 * X**2)
        assert b.grad is None


def test_only_the_way_to_the_inputs_is_walked_and_freed():
    x = backstory.tensor(X, requires_grad=True)
    visited = []
    side = (x * 2).exp()
    side.grad_fn.register_prehook(lambda g: visited.append(1))
    y = x.tanh()
    out = (y * y + side).sum()
    grad(out, y)
    assert not visited
    side.sum().backward()
    assert visited


def test_detect_anomaly_names_operation_inputs_and_line():
    x = backstory.tensor([0.0, 4.0], requires_grad=True)
    x.name = "x"
    with detect_anomaly():
        y = x.sqrt()  # the line
        loss = (y * 0.0).sum()
        with pytest.raises(errors.GraphError) as caught:
            loss.backward()
    words = str(caught.value)
    for part in ("SqrtBackward0", "input 0", "x of shape (2,)", "test_hooks.py", "# the line"):
        assert part in words


def test_detect_anomaly_tells_other_errors_with_their_line_and_ends_with_the_block():
    x = backstory.tensor([0.0, 4.0], requires_grad=True)
    with detect_anomaly(check_nan=False):
        y = x * 1
        z = y * y  # the product
        y.add_(1.0)
        total = z.sum()
        with pytest.raises(errors.VersionError) as caught:
            total.backward()
    assert "# the product" in caught.value.__notes__[0]
    (x.sqrt() * 0.0).sum().backward()
    assert np.isnan(x.grad.numpy()[0])
    with set_detect_anomaly(True), pytest.raises(errors.GraphError, match="NaN"):
        (x.sqrt() * 0.0).sum().backward()
    with set_detect_anomaly(True), set_detect_anomaly(False):
        (x.sqrt() * 0.0).sum().backward()


# Modes


def test_modes_decorate_functions_generators_and_stand_as_statements():
    w = backstory.tensor(2.0, requires_grad=True)

    @backstory.no_grad
    def bare(x):
        return x * w

    @backstory.no_grad()
    def called(x):
        return x * w

    @backstory.set_grad_enabled(False)
    def switched(x):
        return x * w

    @backstory.inference_mode()
    def inferred(x):
        return x * w

    for function in (bare, called, switched, inferred):
        assert not function(3.0).requires_grad
        assert backstory.is_grad_enabled()

    @backstory.no_grad()
    def steps():
        yield (w * 2).requires_grad
        yield (w * 2).requires_grad

    for recorded in steps():
        assert not recorded
        assert (w * 2).requires_grad

    backstory.set_grad_enabled(False)
    try:
        assert not (w * 2).requires_grad
        with backstory.enable_grad():
            assert (w * 2).requires_grad
    finally:
        backstory.set_grad_enabled(True)


def test_what_inference_mode_made_can_take_no_part_in_a_gradient():
    w = backstory.tensor([2.0, 3.0], requires_grad=True)
    with backstory.inference_mode():
        y = w * 3
        assert backstory.is_inference_mode_enabled()
        y.add_(1.0)
        with backstory.inference_mode(False):
            assert (w * 2).requires_grad
    assert y.is_inference()
    assert not w.is_inference()
    assert not (y + 1).requires_grad
    with pytest.raises(errors.GraphError, match="inference mode"):
        w * y
    with pytest.raises(errors.GraphError, match="inference mode"):
        y.add_(1.0)
    (w * y.clone()).sum().backward()
    assert w.grad is not None


def test_a_chain_of_100_000_with_hooks_and_inputs_neither_recurses_nor_overflows():
    x = backstory.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.grad_fn.register_prehook(lambda g: None)
    backward(y, inputs=[x])
    assert x.grad.item() == 1.0


def test_the_gradient_of_an_intermediate_result_is_none_with_a_warning_unless_it_is_retained():
    x = backstory.tensor([1.0, 2.0], requires_grad=True)
    y, kept = x * 2, x * 3
    kept.retain_grad()
    assert kept.grad is None
    (y + kept).sum().backward()
    with pytest.warns(UserWarning, match=r"<MulBackward0> made is not kept"):
        assert y.grad is None
    assert kept.grad.tolist() == [1.0, 1.0]
    assert x.detach().grad is None
