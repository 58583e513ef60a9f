"""What a compiled step gives back is what the eager step does: also leaves, histories and identities."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import NamedTuple

import numpy as np
import pytest
from compiler.steps import same, values

import backstory
from backstory import nn, optim
from backstory.autograd import Function, grad
from backstory.errors import BackstoryError
from backstory.func import tree
from backstory.tensor import Tensor


def seen(result):
    """What a caller sees of tensors beside their entries."""
    leaves = [x for x in tree.flatten(result)[0] if isinstance(x, Tensor)]
    return [
        (type(x), x.requires_grad, x.is_leaf, x.grad_fn is None, x.is_inference(), x.dtype.name)
        for x in leaves
    ] + [[leaves[j] is x for j in range(i)] for i, x in enumerate(leaves)]


class Cubed(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.more = x * 2  # not saved as it should be, and kept all the same
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, g):
        return ctx.saved_tensors[0] ** 2 * 3 * g


def weight():
    return backstory.tensor([1.0, -2.0, 3.0], requires_grad=True)


def walked(w, x):
    loss = (w * x).tanh().sum()
    loss.backward()
    return loss


def walked_in_the_middle(w, x):
    h = (w * x).tanh()
    h.sum().backward()
    return h, h * 2, h.detach()


def walked_and_kept(w, x):
    loss = (w * x).tanh().sum()
    loss.backward(retain_graph=True)
    return loss


def nothing_to_free(w, x):
    loss = (w * 2).sum()
    loss.backward()
    return loss


def walked_twice_over(w, x):
    first = (w * x).tanh()
    first.sum().backward()
    second = w.exp().sum()
    return second, first.sum() + second


def walked_by_custom_rules(w, x):
    loss = Cubed.apply(w * x).sum()
    loss.backward()
    return loss


def a_leaf_of_its_own(w, x):
    leaf = x.detach().requires_grad_()
    (leaf * leaf * w).sum().backward()
    return leaf, leaf.grad, leaf * 2


def a_leaf_with_a_hook(w, x):
    leaf = x.detach().requires_grad_()
    leaf.register_hook(lambda g: g * 10)
    return leaf, (leaf * leaf * w).sum()


def a_leaf_that_nobody_sees(w, x):
    leaf = x.clone().requires_grad_()
    return (leaf * leaf).sum()


def leaves_without_use(w, x):
    return backstory.zeros(2, requires_grad=True), nn.Parameter(backstory.ones(2)), nn.Parameter(x, False)


def retained(w, x):
    h = w * x
    h.retain_grad()
    (h * h).sum().backward()
    return h


def one_thing_twice(w, x):
    y, z = (w * x).sum(), x * 2
    return [y, y], {"z": z, "again": (z, y)}


def arguments_and_parameters(w, x):
    return x, w, w, x.detach(), w.detach()


def under_no_grad(w, x):
    with backstory.no_grad():
        y = w * x
    return y, y * w


def in_inference_mode(w, x):
    with backstory.inference_mode():
        return w * x


def gradients(w, x):
    (w * w * x).sum().backward()
    return w.grad, grad((w**3).sum(), w)[0], grad((w**3).sum(), w, create_graph=True)[0]


CASES = [
    walked,
    walked_in_the_middle,
    walked_and_kept,
    nothing_to_free,
    walked_twice_over,
    walked_by_custom_rules,
    a_leaf_of_its_own,
    a_leaf_with_a_hook,
    a_leaf_that_nobody_sees,
    leaves_without_use,
    retained,
    one_thing_twice,
    arguments_and_parameters,
    under_no_grad,
    in_inference_mode,
    gradients,
]


def outcome(function, w, x):
    """All that a caller can find out: entries, histories, kept gradients, and a walk from each result."""
    result = function(w, x)
    found = [values(result), seen(result)]
    leaves = {id(y): y for y in tree.flatten(result)[0]}.values()
    found += [None if y._grad is None else values(y._grad) for y in leaves]
    for y in leaves:
        w.grad = None
        try:
            y.sum().backward() if y.ndim else y.backward()
        except BackstoryError as error:
            found.append((type(error), str(error)))
        found.append([None if v.grad is None else values(v.grad) for v in (w, x)])
    return found


@pytest.mark.parametrize("function", CASES, ids=lambda function: function.__name__)
def test_results_have_the_eager_history(function, compiled):
    run = compiled(function)
    for k in (1.0, 2.0, 3.0):
        x = backstory.tensor([0.5, 1.0, -1.5]) * k
        same(outcome(run, weight(), x), outcome(function, weight(), x.clone()))
    assert run.cache_info().misses == 1


@pytest.mark.parametrize(
    "function",
    [
        one_thing_twice,
        a_leaf_that_nobody_sees,
        leaves_without_use,
        arguments_and_parameters,
        under_no_grad,
        in_inference_mode,
    ],
    ids=lambda function: function.__name__,
)
def test_results_of_what_has_a_history_itself_have_the_eager_history(function, compiled):
    def outside(run, k):
        v = weight()
        found = outcome(lambda w, x: run(v * 2, x), v, backstory.tensor([0.5, 1.0, -1.5]) * k)
        return [*found, None if v.grad is None else values(v.grad)]

    run = compiled(function)
    for k in (1.0, 2.0):
        same(outside(run, k), outside(function, k))


def test_a_walked_loss_shows_the_operation_that_made_it(compiled):
    loss = compiled(walked)(weight(), backstory.ones(3))
    expected = walked(weight(), backstory.ones(3))
    assert repr(loss.grad_fn) == repr(expected.grad_fn)
    assert repr(loss.grad_fn.next_functions) == repr(expected.grad_fn.next_functions)
    assert repr(loss) == repr(expected)


def test_what_is_computed_outside_and_closed_over_leads_back_there(compiled):
    found = []
    for wrap in (compiled, lambda function: function):
        w = weight()
        scaled, row = w * 3, (w * 2)[1:]
        run = wrap(lambda x, scaled=scaled, row=row: (x * scaled).sum() + (row * row).sum())
        for k in (1.0, 2.0):
            run(backstory.tensor([1.0, 2.0, 4.0]) * k).backward(retain_graph=True)
        found.append(values(w.grad))
    same(*found)


def test_a_buffer_that_gets_a_history_between_calls(compiled):
    found = []
    for wrap in (compiled, lambda function: function):
        w, buffer = weight(), backstory.ones(3)
        part = buffer[:2]
        run = wrap(lambda x, buffer=buffer: (x * buffer).sum())
        own = wrap(lambda x: (x * x).sum())
        first = run(backstory.ones(3)), own(part)
        buffer.mul_(w)
        second = run(backstory.ones(3)), own(part)
        (second[0] + second[1]).backward()
        found.append([values([first, second, w.grad]), seen([first, second])])
    same(*found)


def test_the_old_gradient_and_the_new_one_as_results(compiled):
    found = []
    for wrap in (compiled, lambda function: function):
        w, v = weight(), weight()
        w.grad, v.grad = backstory.ones(3), backstory.ones(3) * 7

        def step(x, w=w, v=v):
            old, w.grad, v.grad = w.grad, None, w.grad
            (w * x).sum().backward()
            return old, w.grad

        run = wrap(step)
        for k in (1.0, 2.0, 3.0):
            old, new = run(backstory.ones(3) * k)
            assert old is v.grad
            assert new is w.grad
            found.append(values([old, new]))
    same(found[:3], found[3:])


class Pair(NamedTuple):
    x: Tensor
    rest: dict


def nested(pair, *more, scale=1.0, **others):
    total = pair.x * scale + sum(x.sum() for x in pair.rest.values())
    for x in (*more, *others.values()):
        total = total + (x[0] if isinstance(x, (list, tuple)) else x)
    result = Pair(total, OrderedDict(first=[total * 2, (None, 3)], second="text"))
    return result, defaultdict(list, {"a": total.sum()}), (), [], {}


def test_nested_arguments_and_results_and_keywords(compiled):
    run = compiled(nested)

    def calls(k):
        x = backstory.ones(3) * k
        yield (Pair(x, {"a": x, "b": x * 2}),), {}
        yield (Pair(x, {"a": x, "b": x * 2}),), {"scale": 2.0 * k}
        yield (Pair(x, OrderedDict(a=x)), [x], (x, None)), {"scale": 2.0, "y": x, "z": (x * 3,)}
        yield (Pair(x, defaultdict(list, {"a": x})), x.numpy()), {"y": x}
        yield (Pair(x, {3: x, ("a", 1): x}), x), {"y": x, "scale": 1.5}

    for k in (1, 2):
        for given, keywords in calls(k):
            found, expected = run(*given, **keywords), nested(*given, **keywords)
            assert str(type(found[1])) + str(found[1:]) == str(type(expected[1])) + str(expected[1:])
            assert type(found[0].rest) is OrderedDict
            same(values(found), values(expected))
    assert run.cache_info()[:2] == (5, 5)


def test_the_order_of_keywords_matters_only_where_the_function_can_see_it(compiled):
    def named(*, x, y, scale=1.0):
        return x * 2 - y * scale

    def seeing(**parts):
        return [part * i for i, part in enumerate(parts.values())]

    x, y = backstory.ones(2, requires_grad=True), backstory.ones(2) * 3
    run, other = compiled(named), compiled(seeing)
    for calls in (
        ({"x": x, "y": y}, {"y": y, "x": x}),
        ({"x": x, "y": y, "scale": 2.0}, {"scale": 2.0, "y": y, "x": x}),
    ):
        for keywords in calls:
            found = run(**keywords)
            same(found, named(**keywords))
            assert grad(found.sum(), x)[0].tolist() == [2, 2]
            same(values(other(**keywords)), values(seeing(**keywords)))
    assert [x.cache_info().misses for x in (run, other)] == [2, 4]


def test_one_tensor_in_several_places_of_nested_arguments(compiled):
    def step(pair, rows, *, last):
        pair.x.add_(1)
        return pair.rest["a"] * 10 + rows[0] + last

    run = compiled(step)

    def calls():
        a, b, c = (backstory.tensor([v]) for v in (1.0, 2.0, 3.0))
        yield (Pair(a, {"a": b}), [c]), {"last": c}
        yield (Pair(a, {"a": a}), [b]), {"last": c}
        yield (Pair(a, {"a": b}), [a]), {"last": a}
        yield (Pair(a, {"a": b}), [b]), {"last": c}

    for _ in range(2):
        for (given, keywords), (other, own) in zip(calls(), calls(), strict=True):
            same(run(*given, **keywords), step(*other, **own))
            same(values(given), values(other))


def test_one_parameter_in_two_modules_and_two_places_of_an_optimizer_step(compiled):
    def trained(wrap):
        backstory.manual_seed(0)
        first, second = nn.Linear(3, 3), nn.Linear(3, 3)
        second.weight = first.weight
        optimizer = optim.SGD({*first.parameters(), *second.parameters()}, lr=0.1, momentum=0.9)

        def step(x):
            optimizer.zero_grad()
            loss = (second(first(x)) ** 2).sum()
            loss.backward()
            optimizer.step()
            return loss

        run, x = wrap(step), backstory.tensor(np.eye(3, dtype=np.float32))
        return values([[run(x) for _ in range(3)], first.weight, second.bias])

    same(trained(compiled), trained(lambda function: function))
