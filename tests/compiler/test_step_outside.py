"""Tensors from outside that a step uses in some way are read anew in each call; results that are views."""

from __future__ import annotations

import numpy as np
import pytest
from compiler.steps import BUILDERS, same

import backstory
from backstory import func, nn

ONES = backstory.ones(3, 4)
# What a step does with a tensor that no argument names.
USES = {
    "computed with": lambda x: x * 2,
    "detached": lambda x: x.detach() * 2,
    "its data": lambda x: x.data * 2,
    "as integers": lambda x: x.long(),
    "as bools": lambda x: x.bool(),
    "as another dtype": lambda x: x.float(),
    "copied by tensor()": lambda x: backstory.tensor(x) * 2,
    "as_tensor": lambda x: backstory.as_tensor(x) + 1,
    "cloned": lambda x: x.clone(),
    "a parameter of it": lambda x: nn.Parameter(x) * 2,
    "copied into zeros": lambda x: backstory.zeros(3, 4).copy_(x),
    "added in place": lambda x: ONES.clone().add_(x),
    "viewed": lambda x: x.view(12) * 2,
    "indexed": lambda x: x[0],
    "its rows": lambda x: sum(row for row in x),
    "joined": lambda x: backstory.cat([x, x]),
    "where": lambda x: backstory.where(x > 50, x, 0.0),
    "masked": lambda x: ONES.masked_fill(x > 50, 0.0),
    "sorted": lambda x: backstory.sort(x, 1).values,
    "einsum": lambda x: backstory.einsum("ij,ij->i", x, x),
    "func.grad": lambda x: func.grad(lambda y: (y * x).sum())(ONES),
    "func.vmap": lambda x: func.vmap(lambda y: (y * x).sum())(ONES),
    "func.vmap over it": lambda x: func.vmap(lambda y: y * 2)(x),
    "func.jvp": lambda x: func.jvp(lambda y: y * y, (x,), (ONES,))[1],
}


@pytest.mark.parametrize("build", BUILDERS.values(), ids=list(BUILDERS))
@pytest.mark.parametrize("use", USES.values(), ids=list(USES))
def test_a_tensor_from_outside_is_read_in_every_call(use, build):
    x = backstory.tensor(np.arange(12.0).reshape(3, 4))
    step = backstory.compile(lambda: use(x), build=build)
    for _ in range(3):
        same([step().detach().numpy()], [use(x).detach().numpy()])
        x.add_(100.0)
    assert step.cache_info().misses == 1


VIEWS = {
    "one": lambda x: (x * 2).reshape(12),
    "of a view": lambda x: (x * 2).T.reshape(12)[2:],
    "back again": lambda x: (x * 2).T.T,
    "of a part of a part": lambda x: (x * 2).reshape(12)[3:][1:],
    "of a tensor from outside": lambda x: x.T.T,
}


@pytest.mark.parametrize("build", BUILDERS.values(), ids=list(BUILDERS))
@pytest.mark.parametrize("view", VIEWS.values(), ids=list(VIEWS))
def test_a_result_may_be_a_view_of_a_view(view, build):
    x = backstory.tensor(np.arange(12.0).reshape(3, 4))
    step = backstory.compile(view, build=build)
    for _ in range(2):
        same([step(x).numpy()], [view(x).numpy()])
        x = x + 1


@pytest.mark.parametrize("build", BUILDERS.values(), ids=list(BUILDERS))
def test_a_tensor_from_outside_is_returned_itself_though_the_step_does_nothing_with_it(build):
    step = backstory.compile(lambda x: (x * 2, ONES), build=build)
    for _ in range(2):
        assert step(backstory.zeros(2))[1] is ONES
