"""Hooks on modules, against PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import close

import backstory
from backstory import errors, func, nn

X = np.random.default_rng(0).normal(size=(4, 3))
W = np.random.default_rng(1).normal(size=(2, 3))


def models():
    """(library, model) of a linear layer with relu, of the same weights, for each library."""
    mine, theirs = (
        nn.Sequential(nn.Linear(3, 2), nn.ReLU()),
        torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()),
    )
    mine, theirs = mine.double(), theirs.double()
    with backstory.no_grad(), torch.no_grad():
        mine[0].weight.copy_(W)
        mine[0].bias.fill_(0.1)
        theirs[0].weight.copy_(torch.tensor(W))
        theirs[0].bias.fill_(0.1)
    return (backstory, mine), (torch, theirs)


def listed(value):
    if isinstance(value, tuple):
        return tuple(map(listed, value))
    return None if value is None else np.round(np.array(value.detach().tolist()), 10).tolist()


def both(run, needs: bool = True):
    """``run`` on each library; what it returns and all gradients must be equal."""
    results = []
    for lib, model in models():
        x = lib.tensor(X, requires_grad=needs)
        seen = run(lib, model, x)
        grads = [listed(p.grad) for p in model.parameters()]
        results.append((seen, grads, listed(x.grad)))
    assert results[0] == results[1]
    return results[0][0]


def test_forward_hooks_see_and_replace_arguments_and_outputs():
    def run(lib, model, x):
        seen = []
        model[0].register_forward_pre_hook(lambda m, args: (args[0] * 2,))
        model[0].register_forward_pre_hook(lambda m, args: seen.append(listed(args)))
        model[0].register_forward_hook(lambda m, args, out: out + 1)
        last = model[0].register_forward_hook(lambda m, args, out: out * 100)
        last.remove()
        model(x).sum().backward()
        return seen

    assert len(both(run)) == 1


def test_hooks_with_keywords_and_in_front():
    def run(lib, model, x):
        seen = []
        model.register_forward_pre_hook(lambda m, args, kw: (args, kw), with_kwargs=True)
        model.register_forward_hook(lambda m, args, kw, out: seen.append(("second", kw)), with_kwargs=True)
        model.register_forward_hook(lambda m, args, out: seen.append("first"), prepend=True)
        model(x).sum().backward()
        return seen

    assert both(run)[0] == "first"


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
@pytest.mark.parametrize("needs", [True, False])
def test_backward_hooks_see_gradients_of_inputs_and_outputs(needs):
    def run(lib, model, x):
        seen = []
        for module in (model, model[0], model[1]):
            module.register_full_backward_hook(lambda m, gi, go: seen.append((listed(gi), listed(go))))
        (model(x) ** 2).sum().backward()
        return seen

    assert len(both(run, needs)) == 3


def test_backward_hooks_replace_gradients():
    def run(lib, model, x):
        model[0].register_full_backward_hook(lambda m, gi, go: (gi[0] * 3,))
        model[1].register_full_backward_pre_hook(lambda m, go: (go[0] * 2,))
        handle = model[0].register_full_backward_hook(lambda m, gi, go: (gi[0] * 100,))
        handle.remove()
        (model(x) ** 2).sum().backward()

    both(run)


def test_a_module_with_hooks_computes_under_no_grad_and_in_transforms():
    (_, model), _ = models()
    plain = model(backstory.tensor(X)).detach().numpy()
    seen = []
    model[0].register_full_backward_hook(lambda m, gi, go: seen.append(1))
    with backstory.no_grad():
        close(model(backstory.tensor(X)).numpy(), plain)
    assert not seen
    gradient = func.grad(lambda x: model(x).sum())(backstory.tensor(X)).detach().numpy()
    assert seen
    mapped = func.vmap(func.grad(lambda x: model(x).sum()))(backstory.tensor(X))
    close(mapped.detach().numpy(), gradient)


def test_wrong_results_of_hooks_are_refused():
    (_, model), _ = models()
    with (
        model.register_full_backward_hook(lambda m, gi, go: (gi[0], gi[0])),
        pytest.raises(errors.GraphError, match="2 gradients"),
    ):
        model(backstory.tensor(X, requires_grad=True)).sum().backward()
    with (
        model.register_forward_pre_hook(lambda m, args, kw: args, with_kwargs=True),
        pytest.raises(errors.GraphError, match="args, kwargs"),
    ):
        model(backstory.tensor(X))
