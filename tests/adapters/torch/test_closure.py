"""Steps that are given a closure: the gradients come to be within the step."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import backstory  # noqa: E402


def setting(kind, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1)).double()
    return model, kind(model.parameters(), **options), torch.randn(20, 4, dtype=torch.float64)


def closure_of(model, optimizer, x):
    def closure():
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    "options", [{"lr": 0.1}, {"lr": 0.1, "momentum": 0.9}, {"lr": 0.1, "weight_decay": 0.1}]
)
def test_a_step_with_a_closure_is_recorded_as_a_step_without(tmp_path, named, options):
    runs = []
    for closed in (True, False):
        model, optimizer, x = setting(torch.optim.SGD, **options)
        folder = tmp_path / str(closed)
        with backstory.watch(model, optimizer, folder, data=x, scan_at=lambda step: True) as run:
            for _ in range(5):
                closure = closure_of(model, optimizer, x)
                if closed:
                    loss = optimizer.step(closure=closure) if named else optimizer.step(closure)
                    assert loss.item() > 0
                else:
                    closure()
                    optimizer.step()
        runs.append(run)
    first, second = runs
    np.testing.assert_array_equal(first.losses, second.losses)
    np.testing.assert_array_equal(first.gates("1/relu#0")[1], second.gates("1/relu#0")[1])
    for name, norms in second.norms().items():
        np.testing.assert_array_equal(first.norms()[name], norms)
    assert [c.as_dict() for c in first.certificates()] == [c.as_dict() for c in second.certificates()]


def test_an_optimizer_that_calls_its_closure_often_takes_one_step(tmp_path):
    model, optimizer, x = setting(torch.optim.LBFGS, lr=0.5, max_iter=5)
    with backstory.watch(model, optimizer, tmp_path / "run", data=x) as run:
        for _ in range(3):
            before = model[0].weight.detach().clone()
            first = (model(x) ** 2).mean()
            gradient = torch.autograd.grad(first, model[0].weight)[0].norm().item()
            optimizer.step(closure_of(model, optimizer, x))
            moved = (model[0].weight.detach() - before).norm().item()
            found = run.norms()["0.weight"][:, -1]
            np.testing.assert_allclose(found[:2], [gradient, moved], rtol=1e-9)
    assert run.steps.tolist() == [1, 2, 3]


def test_a_closure_that_raises_raises_to_the_user(tmp_path):
    model, optimizer, x = setting(torch.optim.SGD, lr=0.1)

    def closure():
        raise ZeroDivisionError("theirs")

    with backstory.watch(model, optimizer, tmp_path / "run", data=x) as run:
        with pytest.raises(ZeroDivisionError, match="theirs"):
            optimizer.step(closure)
        optimizer.step(closure_of(model, optimizer, x))
    assert run.steps.tolist() == [1]
    assert np.isfinite(run.losses).all()
