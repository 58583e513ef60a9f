"""The reverse walk: what arrives where, in whose memory, and what stays alive."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from support import close

import backstory
from backstory import nn
from backstory.autograd import backward, cotangents, grad
from backstory.errors import GraphError
from backstory.graph import Node


def scalar(value: float) -> backstory.Tensor:
    return backstory.tensor(value, dtype="float64", requires_grad=True)


def vector(*values: float) -> backstory.Tensor:
    return backstory.tensor(values, dtype="float64", requires_grad=True)


# Accumulation


def test_gradients_accumulate_over_backward_calls():
    x = scalar(1.0)
    (x**2).backward()
    assert x.grad.item() == 2.0
    (x**3).backward()
    assert x.grad.item() == 5.0


def test_gradients_accumulate_over_paths():
    x = scalar(3.0)
    y = x * x + x * 4.0 + x
    y.backward()
    assert x.grad.item() == 11.0


def test_zero_grad_starts_anew():
    layer = nn.Linear(2, 1)
    layer(backstory.ones(3, 2)).sum().backward()
    layer.zero_grad()
    assert [p.grad for p in layer.parameters()] == [None, None]


@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_zero_grad_can_keep_the_memory(shape):
    x = nn.Parameter(backstory.ones(*shape))
    optimizer = backstory.optim.SGD([x], lr=0.1)
    (x * x).sum().backward()
    grad_before = x.grad
    optimizer.zero_grad(set_to_none=False)
    assert (x.grad.numpy() == 0).all()
    assert (grad_before.numpy() == 0).all()


def test_the_same_root_twice_counts_twice():
    x = scalar(1.0)
    y = x * 2.0
    backward([y, y], [None, None])
    assert x.grad.item() == 4.0


def test_backward_of_a_leaf_gives_it_the_upstream_gradient():
    x = vector(1.0, 2.0)
    x.backward(np.array([3.0, 4.0]))
    assert x.grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_backward_without_a_gradient_needs_a_single_entry_of_any_rank(shape):
    x = backstory.ones(*shape, requires_grad=True)
    (x * 2.0).backward()
    assert x.grad.shape == shape
    assert x.grad.tolist() == np.full(shape, 2.0).tolist()


def test_an_upstream_gradient_of_another_dtype_is_converted():
    x = backstory.tensor([1.0, 2.0], requires_grad=True)
    x.backward(np.array([1.0, 2.0]))
    assert x.grad.dtype == backstory.float32


# Memory


def grads_of_a_sum() -> tuple[backstory.Tensor, backstory.Tensor, np.ndarray]:
    x, y, upstream = vector(1.0, 2.0), vector(3.0, 4.0), np.array([1.0, 1.0])
    (x + y).backward(backstory.as_tensor(upstream))
    return x, y, upstream


def test_gradients_of_two_leaves_never_share_memory():
    x, y, _ = grads_of_a_sum()
    assert not np.shares_memory(x.grad.numpy(), y.grad.numpy())


def test_a_gradient_never_shares_memory_with_the_users_upstream():
    x, y, upstream = grads_of_a_sum()
    x.grad.fill_(9.0)
    y.grad.fill_(9.0)
    assert upstream.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + 0.0,
        lambda x: x.reshape(2, 1).reshape(2),
        lambda x: x.expand(2),
        lambda x: x[:],
        lambda x: x.clone(),
        lambda x: x,
    ],
    ids=["add", "reshape", "expand", "getitem", "clone", "leaf"],
)
@pytest.mark.parametrize("create_graph", [False, True])
def test_operations_that_pass_gradients_on_do_not_share_their_memory(function, create_graph):
    x = vector(1.0, 2.0)
    upstream = backstory.tensor([3.0, 4.0], dtype="float64")
    function(x).backward(upstream, create_graph=create_graph)
    assert x.grad.tolist() == [3.0, 4.0]
    assert not np.shares_memory(x.grad.detach().numpy(), upstream.numpy())
    (x * 1.0).sum().backward()
    assert upstream.tolist() == [3.0, 4.0]
    (returned,) = grad(function(x), x, upstream)
    assert not np.shares_memory(returned.numpy(), upstream.numpy())


def test_a_gradient_never_shares_memory_with_a_value():
    x, y = vector(1.0, 2.0), vector(3.0, 4.0)
    (x * y).backward(np.ones(2))
    for g in (x.grad, y.grad):
        for value in (x, y):
            assert not np.shares_memory(g.numpy(), value.detach().numpy())


def test_accumulation_keeps_the_memory_that_the_user_holds():
    x = vector(1.0, 2.0)
    (x * 2.0).sum().backward()
    held = x.grad.numpy()
    (x * 3.0).sum().backward()
    assert held.tolist() == [5.0, 5.0]


def test_a_gradient_of_a_0d_leaf_is_an_array_that_can_be_changed():
    x = scalar(3.0)
    (x * x).backward()
    assert type(x.grad.numpy()) is np.ndarray
    x.grad.zero_()
    assert x.grad.item() == 0.0


# What stays alive


def test_a_second_backward_is_refused_where_values_were_freed():
    x = scalar(2.0)
    y = x * x
    y.backward()
    with pytest.raises(GraphError, match=r"second backward.*MulBackward0.*\n.*freed.*\n.*retain_graph"):
        y.backward()
    assert x.grad.item() == 4.0


def test_a_second_backward_works_where_nothing_was_saved():
    x = scalar(2.0)
    y = x + 1.0
    y.backward()
    y.backward()
    assert x.grad.item() == 2.0


def test_retain_graph_allows_a_second_backward():
    x = scalar(2.0)
    y = (x * x).exp()
    y.backward(retain_graph=True)
    first = x.grad.item()
    y.backward()
    assert x.grad.item() == 2 * first


def test_shared_subgraphs_that_were_freed_are_refused():
    x = scalar(2.0)
    shared = x * x
    shared.sum().backward()
    with pytest.raises(GraphError, match="freed"):
        (shared * 3.0).backward()


def test_values_are_freed_by_backward():
    x = vector(1.0, 2.0)
    hidden = x.exp()
    alive = weakref.ref(hidden.grad_fn)
    out = hidden.sum()
    out.backward()
    assert out.grad_fn.next_functions[0][0].ans is None
    del hidden, out
    gc.collect()
    assert alive() is None


def test_graphs_die_without_the_garbage_collector():
    x = vector(1.0, 2.0)
    gc.disable()
    try:
        y = (x * x).exp().sum()
        node = weakref.ref(y.grad_fn)
        del y
        assert node() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("step", [lambda y: y * 1.0, lambda y: y + 0.0, lambda y: (y * y).sqrt()])
def test_a_chain_of_100_000_runs_backward_and_is_freed_without_recursion(step):
    x = scalar(1.0)
    y = x
    for _ in range(100_000 if step(x).grad_fn.op.name != "sqrt" else 50_000):
        y = step(y)
    y.backward()
    assert x.grad.item() == 1.0
    last = weakref.ref(y.grad_fn)
    del y
    assert last() is None


@pytest.mark.parametrize("depth", [100, 10_000])
def test_every_node_of_a_ladder_is_visited_once(depth):
    x = scalar(1.0)
    y = x
    for _ in range(depth):
        y = (y + y) * 0.5
    assert len(cotangents(y)) == 2 * depth
    y.backward()
    assert x.grad.item() == 1.0


# The graph


def test_nodes_are_named_as_in_pytorch():
    x, y = scalar(2.0), torch.tensor(2.0, requires_grad=True)
    mine = (x * 2 + 1).exp().relu().sum()
    theirs = (y * 2 + 1).exp().relu().sum()
    a, b = mine.grad_fn, theirs.grad_fn
    while b is not None:
        assert a.name() == type(b).__name__
        if not b.next_functions:
            break
        a, b = a.next_functions[0][0], b.next_functions[0][0]
    assert a.name() == "AccumulateGrad"
    assert a.variable is x


def test_edges_to_constants_are_none():
    x = scalar(2.0)
    node = (x * backstory.tensor(3.0)).grad_fn
    assert [edge if edge is None else edge.name() for edge, _ in node.next_functions] == [
        "AccumulateGrad",
        None,
    ]


def test_leaves_have_no_node_and_results_of_constants_neither():
    x = scalar(1.0)
    assert x.is_leaf
    assert x.grad_fn is None
    y = backstory.tensor(1.0) * 2.0
    assert y.is_leaf
    assert not y.requires_grad
    assert not (x * 2.0).is_leaf


def test_integers_carry_no_gradient_back_to_floats():
    x = vector(1.5, 2.5)
    y = x.to("int64")
    assert not y.requires_grad
    assert not y.to("float64").requires_grad


def test_cotangents_are_the_gradients_of_the_intermediate_results():
    x, torch_x = vector(1.0, 2.0), torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    hidden = x * 3.0
    out = (hidden * hidden).sum()
    found = cotangents(out)
    torch_hidden = torch_x * 3.0
    torch_hidden.retain_grad()
    (torch_hidden * torch_hidden).sum().backward()
    close(found[hidden.grad_fn], torch_hidden.grad.numpy())
    assert all(isinstance(node, Node) for node in found)
    assert x.grad is None


# grad()


def test_grad_leaves_every_grad_alone():
    x, w = scalar(2.0), scalar(3.0)
    (g,) = grad(x * w, x)
    assert g.item() == 3.0
    assert x.grad is None
    assert w.grad is None


def test_grad_of_an_intermediate_result_and_of_one_input_twice():
    x = scalar(2.0)
    y = x * x
    out = y * 3.0
    assert [g.item() for g in grad(out, [y, x, y, x])] == [3.0, 12.0, 3.0, 12.0]


def test_grad_of_an_unused_input_is_refused_or_none():
    x, unused = scalar(2.0), scalar(1.0)
    with pytest.raises(GraphError, match=r"input 1.*\n.*not computed from it.*\n.*allow_unused"):
        grad(x * 2.0, [x, unused])
    assert grad(x * 2.0, [x, unused], allow_unused=True)[1] is None


def test_third_derivative_of_a_power():
    x = scalar(2.0)
    (first,) = grad(x**4, x, create_graph=True)
    (second,) = grad(first, x, create_graph=True)
    (third,) = grad(second, x)
    assert (first.item(), second.item(), third.item()) == (32.0, 48.0, 48.0)


def test_backward_with_create_graph_gives_gradients_a_history():
    x = scalar(2.0)
    (x**3).backward(create_graph=True)
    first = x.grad
    x.grad = None
    first.backward()
    assert (first.item(), x.grad.item()) == (12.0, 12.0)


def test_gradient_penalty_equals_pytorch(rng):
    w, v = rng.normal(size=(4, 3)), rng.normal(size=(2, 4))
    x = rng.normal(size=(5, 3))

    def penalty(lib, tensor, relu):
        leaves = [tensor(a) for a in (w, v, x)]
        out = (relu(leaves[2] @ leaves[0].T) @ leaves[1].T).exp().sum()
        g = lib.grad(out, leaves[2], create_graph=True)[0]
        (g * g).sum().backward()
        return [a.grad for a in leaves]

    mine = penalty(backstory.autograd, lambda a: backstory.tensor(a, requires_grad=True), lambda a: a.relu())
    theirs = penalty(torch.autograd, lambda a: torch.tensor(a, requires_grad=True), torch.relu)
    for a, b in zip(mine, theirs, strict=True):
        close(a.detach().numpy(), b.numpy(), rtol=1e-11)


def test_create_graph_records_the_gradient_under_no_grad_as_in_pytorch():
    x = scalar(2.0)
    y = x**3
    with backstory.no_grad():
        (first,) = grad(y, x, create_graph=True)
        assert not backstory.is_grad_enabled()
    (second,) = grad(first, x)
    assert second.item() == 12.0
