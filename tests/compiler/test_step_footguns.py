"""What could silently go wrong with a compiled step, each with the call that would show it."""

from __future__ import annotations

import gc
import multiprocessing
import threading
import weakref

import numpy as np
import pytest
from compiler.steps import same, tensor, values

import backstory
from backstory import nn, optim
from backstory.errors import BackstoryError, GraphError, TraceError, VersionError

SCALE = 2.0
SETTINGS = {"scale": 2.0}
WEIGHTS = [backstory.tensor([1.0, 2.0])]


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)).double()


def data(rows=5):
    return backstory.randn(rows, 3, dtype=np.float64)


def trainer(model, optimizer):
    def step(x):
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    return step


# Memory


def test_results_that_the_caller_holds_stay_what_they_were(compiled):
    step = compiled(lambda x: (x * 2, x.sum()))
    for n in (3, 5000):
        held = [step(backstory.ones(n) * k) for k in (1, 2, 3)]
        views = [step(backstory.ones(n) * k)[0][1:] for k in (1, 2)]
        arrays = [step(backstory.ones(n) * k)[0].numpy() for k in (1, 2)]
        assert [x[0].item() for x, _ in held] == [2, 4, 6]
        assert [total.item() for _, total in held] == [n, 2 * n, 3 * n]
        assert [x[0].item() for x in views] == [2, 4]
        assert [x[0] for x in arrays] == [2, 4]


@pytest.mark.parametrize("hold", [lambda g: g, lambda g: g.numpy(), lambda g: g[:1], lambda g: g.detach()])
@pytest.mark.parametrize("clear", [True, False])
def test_gradients_that_the_caller_holds_stay_what_they_were(compiled, hold, clear):
    w = tensor(1.0, 2.0).requires_grad_()

    def step(x):
        w.grad = None
        (w * x).sum().backward()

    run, held = compiled(step), []
    for k in (1.0, 2.0, 3.0):
        run(tensor(k, k))
        held.append(hold(w.grad))
        if clear:
            w.grad = None
    assert [float(g[0]) for g in held] == [1, 2, 3]


def test_one_tensor_passed_twice(compiled):
    step = compiled(lambda x, y: x * y)
    a, b = tensor(2.0), tensor(5.0)
    assert [step(a, a).item(), step(a, b).item(), step(b, b).item(), step(b, a).item()] == [4, 10, 25, 10]


def test_one_tensor_passed_twice_and_changed(compiled):
    def step(x, y):
        x.add_(1)
        return y * 10

    run, a, b = compiled(step), tensor(1.0), tensor(1.0)
    assert run(a, b).item() == 10
    assert run(a, a).item() == 30
    assert (a.item(), b.item()) == (3, 1)
    assert run(a, b).item() == 10


def test_an_argument_in_memory_that_the_step_changes_is_refused(compiled):
    whole = tensor(1.0, 2.0, 3.0)

    def step(x, y):
        x.add_(1)
        return y * 10

    run = compiled(step)
    same(run(tensor(1.0, 2.0), tensor(5.0, 6.0)), tensor(50.0, 60.0))
    with pytest.raises(TraceError, match="share memory"):
        run(whole[:2], whole[1:])
    same(whole, tensor(1.0, 2.0, 3.0))
    same(run(whole[:1].clone(), whole[1:2]), tensor(20.0))


def test_a_result_as_the_next_argument(compiled):
    step = compiled(lambda x: x * 2)
    for n in (1, 5000):
        x = backstory.ones(n)
        for _ in range(4):
            x = step(x)
        assert x[0].item() == 16


def test_a_gradient_as_an_argument(compiled):
    w = tensor(3.0).requires_grad_()

    def step(x):
        w.grad = None
        (w * w * x).backward()

    run = compiled(step)
    run(tensor(1.0)[0])
    run(w.grad[0])
    assert w.grad.item() == 36


def test_an_argument_that_is_a_parameter(compiled):
    w = tensor(2.0)
    step = compiled(lambda x: x * w)
    assert step(w).item() == 4
    assert step(tensor(5.0)).item() == 10
    assert step(w.detach()).item() == 4


def test_a_view_of_a_parameter_made_before_sees_the_update(compiled):
    model = network()
    view = model[0].weight.detach()[0]
    step = compiled(trainer(model, optim.SGD(model.parameters(), lr=0.1)))
    before = view.numpy().copy()
    step(data())
    assert (view.numpy() != before).any()
    np.testing.assert_array_equal(view.numpy(), model[0].weight.detach()[0].numpy())


def test_arguments_that_do_not_lie_in_order(compiled):
    step = compiled(lambda x: x * 2)
    x = backstory.randn(4, 6)
    for y in (x, x.T, x[:, ::2], x[1:]):
        same(step(y), y * 2)


def test_changes_in_place_of_an_argument_that_does_not_lie_in_order(compiled):
    run = compiled(lambda x: x.mul_(2))
    x = backstory.ones(3, 4)
    y = run(x[:, ::2])
    same(x[:, ::2], backstory.ones(3, 2) * 2)
    same(x[:, 1::2], backstory.ones(3, 2))
    assert y.shape == (3, 2)


def test_in_place_operations_and_views_inside(compiled):
    def step(x):
        y = x * 1
        row = y[0]
        row.mul_(3)
        y[1] += 1
        z = y.T
        z[0, 0] = 9.0
        y.reshape(-1)[3:].relu_()
        return y, row, z

    x = backstory.randn(3, 3)
    run = compiled(step)
    for k in (1.0, -1.0):
        same(run(x * k), step(x * k))


# What changes between calls


def test_a_parameter_replaced_between_calls(compiled):
    model = nn.Linear(2, 1, bias=False).double()
    step = compiled(lambda x: model(x))
    x = tensor(1.0, 1.0)
    with backstory.no_grad():
        step(x)
        model.weight = nn.Parameter(backstory.ones(1, 2, dtype=np.float64) * 3)
        assert step(x).item() == 6


@pytest.mark.parametrize("change", ["another list", "one fewer"])
def test_the_parameters_of_a_group_changed_between_calls(compiled, change):
    found = []
    for run in (compiled, lambda function: function):
        parts = [backstory.ones(2).requires_grad_() for _ in range(3)]
        optimizer = optim.SGD(parts[:2], lr=0.1)

        def step(x, parts=parts, optimizer=optimizer):
            optimizer.zero_grad()
            sum((p * x).sum() for p in parts).backward()
            optimizer.step()

        step = run(step)
        for number in range(3):
            step(backstory.ones(2))
            group = optimizer.param_groups[0]
            if number == 1:
                optimizer.state[parts[2]] = optimizer.state[parts[0]]
                if change == "another list":
                    group["params"] = parts[1:]
                else:
                    group["params"].pop()
        found.append(values(parts))
    same(*found)


def test_training_and_evaluation_take_turns_without_a_third_trace(compiled):
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3)).double()
    step, x = compiled(lambda x: model(x)), data()
    with backstory.no_grad():
        for _ in range(3):
            model.train()
            backstory.manual_seed(5)
            found = step(x)
            backstory.manual_seed(5)
            same(found, model(x))
            model.eval()
            same(step(x), model(x))
    assert step.cache_info()[:2] == (4, 2)


def test_a_step_may_switch_the_mode_itself(compiled):
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).double()

    def train(x):
        model.train()
        return model(x).sum().detach()

    def judge(x):
        model.eval()
        return model(x).sum().detach()

    fit, test, x = compiled(train), compiled(judge), data()
    for _ in range(3):
        fit(x)
        assert model.training
        assert model[1].training
        found = test(x)
        assert not model.training
        same(found, model(x).sum().detach())
    assert fit.cache_info().misses <= 2
    assert test.cache_info().misses <= 2


def test_a_module_or_a_hook_added_after_compiling(compiled):
    model = nn.Sequential(nn.Linear(3, 3)).double()
    step, x = compiled(lambda x: model(x)), data()
    with backstory.no_grad():
        step(x)
        model.append(nn.ReLU())
        same(step(x), model(x))
        handle = model[0].register_forward_hook(lambda module, args, out: out * 2)
        same(step(x), model(x))
        handle.remove()
        same(step(x), model(x))
    w = tensor(1.0).requires_grad_()

    def backward(x):
        w.grad = None
        (w * x).sum().backward()

    run = compiled(backward)
    run(tensor(2.0))
    w.register_hook(lambda g: g * 10)
    run(tensor(2.0))
    assert w.grad.item() == 20


def test_a_group_added_to_the_optimizer(compiled):
    a, b = tensor(1.0).requires_grad_(), tensor(1.0).requires_grad_()
    optimizer = optim.SGD([a], lr=0.5)

    def step(x):
        optimizer.zero_grad()
        (a * b * x).sum().backward()
        optimizer.step()

    run = compiled(step)
    run(tensor(1.0))
    assert (a.item(), b.item()) == (0.5, 1.0)
    b.grad = None
    optimizer.add_param_group({"params": [b]})
    run(tensor(1.0))
    assert (a.item(), b.item()) == (0.0, 0.75)


def test_a_parameter_frozen_between_calls(compiled):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    step, x = compiled(trainer(model, optimizer)), data()
    step(x)
    model[0].weight.requires_grad_(False)
    model[0].weight.grad = None
    before = model[0].weight.numpy().copy()
    step(x)
    np.testing.assert_array_equal(model[0].weight.numpy(), before)
    model[0].weight.requires_grad_(True)
    step(x)
    assert (model[0].weight.detach().numpy() != before).any()


def test_loaded_states_and_eager_steps_between_calls(compiled):
    def run(wrap):
        backstory.manual_seed(1)
        model = network()
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        eager = trainer(model, optimizer)
        step, x = wrap(eager), data()
        step(x)
        saved = {k: v.clone() for k, v in model.state_dict().items()}, optimizer.state_dict()
        step(x), eager(x), step(x)
        model.load_state_dict(saved[0])
        optimizer.load_state_dict(saved[1])
        losses = [step(x), step(x)]
        return values([losses, list(model.parameters())])

    same(run(compiled), run(lambda function: function))


def test_a_gradient_set_by_hand(compiled):
    w = tensor(1.0).requires_grad_()

    def step(x):
        (w * x).sum().backward()

    run = compiled(step)
    run(tensor(2.0))
    w.grad = tensor(100.0)
    run(tensor(2.0))
    assert w.grad.item() == 102
    run(tensor(2.0))
    assert w.grad.item() == 104


# Errors


def test_an_index_out_of_range_is_eager_modes_error(compiled):
    table = nn.Embedding(4, 2)

    def step(i):
        return table(i).sum().detach()

    run = compiled(step)
    run(backstory.tensor([0, 3]))
    with pytest.raises(BackstoryError) as found:
        run(backstory.tensor([0, 4]))
    with pytest.raises(BackstoryError) as expected:
        step(backstory.tensor([0, 4]))
    assert type(found.value) is type(expected.value)
    run(backstory.tensor([1, 2]))


def test_a_loss_computed_outside_is_refused_inside(compiled):
    w = tensor(1.0).requires_grad_()
    loss = (w * 2).sum()
    with pytest.raises(TraceError, match="outside"):
        compiled(lambda: loss.backward())()
    loss.backward()
    assert w.grad.item() == 2


def test_a_leaf_frozen_inside_is_refused(compiled):
    w = tensor(1.0).requires_grad_()
    with pytest.raises(TraceError, match="requires_grad"):
        compiled(lambda x: w.requires_grad_(False) * x)(tensor(1.0))
    assert w.requires_grad


# Threads, processes, and the end


def test_two_threads_call_one_step(compiled):
    step = compiled(lambda x: (x * 2).sum())
    found = {}

    def work(k):
        found[k] = [step(backstory.ones(50) * k).item() for _ in range(50)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {k: [100.0 * k] * 50 for k in range(4)}


def test_a_thread_draws_from_its_own_stream(compiled):
    step = compiled(lambda x: x + backstory.rand(3))
    x, found = backstory.zeros(3), []
    backstory.manual_seed(4)
    step(x)

    def work():
        backstory.manual_seed(9)
        found.append(step(x))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    backstory.manual_seed(9)
    same(found[0], backstory.rand(3))


@backstory.compile
def doubled(x):
    return x * 2


def _child(queue):
    queue.put(doubled(backstory.ones(3)).numpy().tolist())


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_calls_from_another_process(method):
    doubled(backstory.ones(3))
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_child, args=(queue,))
    child.start()
    assert queue.get(timeout=120) == [2.0, 2.0, 2.0]
    child.join()


def test_nothing_is_left_of_a_step_that_is_dropped(compiled):
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    step = compiled(trainer(model, optimizer))
    step(data())
    references = [weakref.ref(x) for x in (model, model[0].weight, optimizer, step)]
    del model, optimizer, step
    gc.collect()
    assert [reference() for reference in references] == [None] * 4


@pytest.mark.parametrize("learns", [False, True])
def test_what_the_first_call_was_given_is_not_kept(compiled, learns):
    w = data(3).requires_grad_(learns)
    step = compiled(lambda x: (w * x).sum())
    x = data(3)
    was = weakref.ref(x)
    for y in (x, data(3)):
        step(y)
    del x, y
    gc.collect()
    assert was() is None


def test_few_programs_are_kept(compiled):
    step = compiled(lambda x: x * 2, maxsize=2)
    for n in (1, 2, 3, 3, 2, 1):
        step(backstory.ones(n))
    assert step.cache_info() == (2, 4, 2, 2)
    step.cache_clear()
    assert step.cache_info().currsize == 0


def test_a_value_changed_before_the_backward_pass_is_refused(compiled):
    w = tensor(2.0).requires_grad_()
    step = compiled(lambda x: (w * w * x).sum())
    loss = step(tensor(1.0))
    with backstory.no_grad():
        w.mul_(2)
    with pytest.raises(VersionError):
        loss.backward()
    loss = step(tensor(1.0))
    loss.backward()
    assert w.grad.item() == 8
    with pytest.raises(GraphError, match=r"second backward|freed"):
        loss.backward()


def test_an_array_that_the_step_closes_over_is_read_in_every_call(compiled):
    array = np.array([1.0, 2.0])
    step = compiled(lambda x: x + backstory.from_numpy(array))
    same(step(tensor(1.0, 1.0)), tensor(2.0, 3.0))
    array[0] = 10.0
    same(step(tensor(1.0, 1.0)), tensor(11.0, 3.0))
