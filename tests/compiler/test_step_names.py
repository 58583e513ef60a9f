"""What a step takes from Python: constants, names and branches, which a trace could freeze unseen."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from compiler.steps import same, tensor

import backstory
from backstory import nn, optim
from backstory.errors import ArgumentError, TraceError
from backstory.optim import lr_scheduler

SCALE = 2.0
SETTINGS = {"scale": 2.0}
WEIGHTS = [backstory.tensor([1.0, 2.0])]


def test_a_changed_global_is_seen(compiled, monkeypatch):
    step = compiled(lambda x: x * SCALE)
    x = tensor(1.0)
    assert step(x).item() == 2.0
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert step(x).item() == 3.0


def test_a_changed_entry_of_a_dict_or_a_list_is_seen(compiled, monkeypatch):
    step = compiled(lambda x: x * SETTINGS["scale"] + WEIGHTS[0])
    x = backstory.tensor([1.0, 1.0])
    same(step(x), backstory.tensor([3.0, 4.0]))
    monkeypatch.setitem(SETTINGS, "scale", 5.0)
    same(step(x), backstory.tensor([6.0, 7.0]))
    before, WEIGHTS[0] = WEIGHTS[0], backstory.tensor([0.0, 0.0])
    found = step(x)
    WEIGHTS[0] = before
    same(found, backstory.tensor([5.0, 5.0]))


def test_a_changed_closure_is_seen(compiled):
    scale = 2.0
    step = compiled(lambda x: x * scale)
    x = tensor(1.0)
    assert step(x).item() == 2.0
    scale = 4.0
    assert step(x).item() == 4.0


class Holder:
    def __init__(self):
        self.scale, self.weight = 2.0, tensor(1.0)

    def step(self, x):
        return x * self.scale + self.weight


def test_a_changed_attribute_of_the_object_of_a_method_is_seen(compiled):
    holder = Holder()
    step = compiled(holder.step)
    x = tensor(1.0)
    assert step(x).item() == 3.0
    holder.scale = 5.0
    assert step(x).item() == 6.0
    holder.weight = tensor(10.0)
    assert step(x).item() == 15.0


def test_a_changed_attribute_of_a_module_is_seen(compiled):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = 2.0

        def forward(self, x):
            return x * self.scale

    model = Scaled()
    step, x = compiled(model), tensor(1.0)
    assert step(x).item() == 2.0
    model.scale = 3.0
    assert step(x).item() == 3.0


def test_a_helper_that_is_replaced_or_reads_another_value_is_seen(compiled):
    factor = 2.0

    def helper(x):
        return x * factor

    step, x = compiled(lambda x: helper(x) + 1), tensor(1.0)
    assert step(x).item() == 3.0
    factor = 3.0
    assert step(x).item() == 4.0

    def helper(x):  # noqa: F811
        return x * 10

    assert step(x).item() == 11.0


def test_a_branch_on_an_integer_or_a_flag_argument_makes_another_program(compiled):
    step = compiled(lambda x, n, flag: x * n if flag else x - n)
    x = tensor(3.0)
    assert [step(x, 2, True).item(), step(x, 2, False).item(), step(x, 3, True).item()] == [6.0, 1.0, 9.0]
    assert step.cache_info().misses == 3
    assert step(x, 2, True).item() == 6.0
    assert step.cache_info()[:2] == (1, 3)


def test_true_is_not_one_and_one_is_not_a_float(compiled):
    step = compiled(lambda x, n: (x * n, type(n) is bool))
    x = backstory.tensor([2])
    assert [step(x, n)[0].dtype.name for n in (1, True, 1.0)] == ["int64", "int64", "float32"]
    assert step(x, True)[1]


def test_a_float_argument_is_read_in_every_call_and_a_branch_on_it_guards(compiled):
    step = compiled(lambda x, a: x * a if a > 1 else x - a)
    x = tensor(2.0)
    assert [step(x, a).item() for a in (3.0, 4.0, 0.5, 5.0)] == [6.0, 8.0, 1.5, 10.0]
    assert step.cache_info().misses == 2
    scale = compiled(lambda x, a: x * a)
    assert [scale(x, np.float64(a)).item() for a in (3.0, 4.0)] == [6.0, 8.0]
    assert scale.cache_info().misses == 1


@pytest.mark.parametrize(
    "body",
    ["if x.sum() > 1: pass", "x.sum().item()", "float(x.sum())", "x.tolist()", "x[x > 0]"],
)
def test_what_depends_on_the_numbers_is_refused_with_its_line(compiled, body):
    space: dict = {}
    exec(
        compile(
            f"def step(x):\n    y = x * 2\n    {body.replace('x', 'y')}\n    return y\n", "user.py", "exec"
        ),
        space,
    )
    with pytest.raises(TraceError, match=r"user\.py:3"):
        compiled(space["step"])(tensor(1.0, 2.0))


def test_a_refused_step_runs_eagerly_with_one_warning_if_it_may(compiled):
    def step(x):
        return x * 2 if x.sum() > 1 else x

    lenient = compiled(step, strict=False)
    with pytest.warns(UserWarning, match="runs eagerly") as warned:
        same([lenient(tensor(1.0)), lenient(tensor(2.0))], [tensor(1.0), tensor(4.0)])
    assert len(warned) == 1


def test_numbers_drawn_from_numpy_are_refused(compiled):
    rng = np.random.default_rng(0)
    with pytest.raises(TraceError, match="random"):
        compiled(lambda x: x + rng.normal())(tensor(1.0))
    with pytest.raises(TraceError, match="random"):
        compiled(lambda x: x + np.random.rand())(tensor(1.0))  # noqa: NPY002


def test_a_schedule_inside_the_step_is_refused_and_put_back(compiled):
    model = nn.Linear(1, 1).double()
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    scheduler = lr_scheduler.StepLR(optimizer, 1, 0.1)

    def step(x):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
        scheduler.step()

    with pytest.raises(TraceError, match="the step itself changes 'lr'"):
        compiled(step)(tensor(1.0))
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_counter_of_python_inside_the_step_is_refused(compiled):
    count = 0

    def step(x):
        nonlocal count
        count += 1
        return x + count

    with pytest.raises(TraceError, match="count"):
        compiled(step)(tensor(1.0))
    assert count == 0


def test_a_tensor_that_outlives_the_step_is_refused(compiled):
    kept = []
    with pytest.raises(TraceError, match=r"kept|outlives"):
        compiled(lambda x: kept.append(x * 2))(tensor(1.0))


def scaled(x):
    return x * SCALE


class InForward(nn.Module):
    def forward(self, x):
        return x * SCALE


class InHelper(nn.Module):
    def forward(self, x):
        return scaled(x)


class InMethod(nn.Module):
    def forward(self, x):
        return self.part(x)

    def part(self, x):
        return x * self.scale

    @property
    def scale(self):
        return SCALE


class InFunction(backstory.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * SCALE

    @staticmethod
    def backward(ctx, upstream):
        return upstream * SCALE


class InObject:
    def part(self, x):
        return x * SCALE


HOLDER = InObject()


def hooked():
    module = nn.Identity()
    module.register_forward_hook(lambda module, given, result: result * SCALE)
    return module


def weighed():
    weight = tensor(1.0).requires_grad_()
    weight.register_hook(lambda upstream: upstream * SCALE)

    def step(x):
        weight.grad = None
        (weight * x).backward()
        return weight.grad

    return step


@pytest.mark.parametrize(
    "make",
    [
        InForward,
        InHelper,
        InMethod,
        hooked,
        weighed,
        lambda: nn.Sequential(nn.Identity(), InForward()),
        lambda: lambda x: InFunction.apply(x),
        lambda: lambda x: HOLDER.part(x),
        lambda: lambda x, holder=HOLDER: holder.part(x),
    ],
    ids=[
        "forward",
        "helper",
        "method",
        "hook",
        "hook of a tensor",
        "a part",
        "function",
        "object",
        "default",
    ],
)
def test_a_changed_global_is_seen_wherever_the_code_is_that_reads_it(compiled, monkeypatch, make):
    run, x = make(), tensor(1.0)
    whole, inner = compiled(run), compiled(lambda x: run(x))
    assert (whole(x).item(), inner(x).item()) == (2.0, 2.0)
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert (whole(x).item(), inner(x).item()) == (3.0, 3.0)


def test_a_changed_entry_of_a_container_of_a_module_is_seen(compiled):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scales = {"a": 2.0}

        def forward(self, x):
            return x * self.scales["a"]

    model = Scaled()
    step, x = compiled(model), tensor(1.0)
    assert step(x).item() == 2.0
    model.scales["a"] = 3.0
    assert step(x).item() == 3.0
    assert step.cache_info().misses == 2


def test_a_changed_attribute_of_a_part_or_constant_of_a_class_is_seen(compiled):
    class Settings:
        scale = 2.0

    class Scaled(nn.Module):
        factor = 1.0

        def __init__(self):
            super().__init__()
            self.settings = Settings()

        def forward(self, x):
            return x * self.settings.scale * self.factor

    model = Scaled()
    step, x = compiled(model), tensor(1.0)
    assert step(x).item() == 2.0
    Settings.scale = 3.0
    assert step(x).item() == 3.0
    model.settings.scale = 4.0
    assert step(x).item() == 4.0
    Scaled.factor = 10.0
    assert step(x).item() == 40.0
    del Scaled.factor
    with pytest.raises(AttributeError, match="factor"):
        step(x)


def test_a_counter_of_a_class_is_refused_and_put_back(compiled):
    class Counting(nn.Module):
        calls = 0

        def forward(self, x):
            Counting.calls += 1
            return x * self.calls

    class Own:
        calls = 0

        def step(self, x):
            self.calls += 1
            return x * self.calls

    class Slotted:
        __slots__ = ("calls",)

        def __init__(self):
            self.calls = 0

        step = Own.step

    own, slotted = Own(), Slotted()
    for step in (Counting(), own.step, slotted.step):
        with pytest.raises(TraceError, match="calls"):
            compiled(step)(tensor(1.0))
    assert (Counting.calls, slotted.calls) == (0, 0)
    assert not vars(own)


class Bag:
    pass


def test_functions_that_refer_to_each_other_in_a_long_row_are_read_up_to_a_bound(compiled):
    space: dict = {"flag": False}
    for i in range(2000):
        exec(f"def f{i}(x):\n    return f{i + 1}(x) if flag else x * 2.0\n", space)
    step = compiled(space["f0"])
    assert step(tensor(1.0)).item() == 2.0
    assert step(tensor(3.0)).item() == 6.0

    bags = [Bag() for _ in range(2000)]
    for bag, other in itertools.pairwise(bags):
        bag.scale, bag.after = 3.0, other
    step = compiled(lambda x: x * bags[0].after.scale)
    assert step(tensor(1.0)).item() == 3.0
    first = bags[0]
    step = compiled(lambda x: x * first.after.scale)
    assert step(tensor(1.0)).item() == 3.0
    bags[1].scale = 4.0
    assert step(tensor(1.0)).item() == 4.0


def test_what_a_module_or_a_hook_keeps_of_a_step_is_refused(compiled):
    class Keeping(nn.Module):
        def __init__(self):
            super().__init__()
            self.kept = []

        def forward(self, x):
            self.kept.append(x.shape)
            return x * 2

    model = Keeping()
    with pytest.raises(TraceError, match="kept"):
        compiled(model)(tensor(1.0))
    assert not model.kept

    linear, kept = nn.Linear(1, 1).double(), []
    linear.register_forward_hook(lambda module, given, result: kept.append(result.detach()))
    with pytest.raises(TraceError, match="kept"):
        compiled(linear)(tensor(1.0))
    assert not kept


def test_a_module_that_replaces_a_tensor_of_its_own_is_refused_and_keeps_it(compiled):
    class Averaging(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", tensor(0.0))
            self.last = tensor(5.0)

        def forward(self, x):
            self.new = x
            self.mean = self.mean * 0.5 + x
            self.last = x * 2
            return self.mean

    model = Averaging()
    with pytest.raises(TraceError, match=r"changes the Python value '(mean|last|new)'"):
        compiled(lambda x: model(x * 1))(tensor(1.0))
    same([model.mean, model.state_dict()["mean"], model.last], [tensor(0.0), tensor(0.0), tensor(5.0)])
    assert not hasattr(model, "new")


@pytest.mark.parametrize("keep", [lambda y, w: y.detach(), lambda y, w: w.detach(), lambda y, w: y + 1])
def test_a_tensor_that_an_object_keeps_is_refused_though_its_memory_is_known(compiled, keep):
    w, bag = tensor(2.0), Bag()

    def step(x):
        y = x * w
        bag.kept = keep(y, w)
        return y

    with pytest.raises(TraceError, match=r"shape \(1,\).* outlives the step"):
        compiled(step)(tensor(1.0))


def test_a_function_whose_body_does_not_run_in_the_call_is_refused(compiled):
    def batches(x):
        yield x

    async def later(x):
        return x

    for function in (batches, later):
        with pytest.raises(ArgumentError, match="yields or awaits"):
            compiled(function)


def test_a_compiled_module_has_the_attributes_of_the_module(compiled):
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    step = compiled(model)
    assert list(step.parameters()) == list(model.parameters())
    step.eval()
    assert not model.training
    same(step(backstory.ones(1, 2)), model(backstory.ones(1, 2)))
    with pytest.raises(AttributeError, match="nothing"):
        _ = step.nothing


def test_an_array_may_become_a_tensor_that_shares_its_memory(compiled):
    def step(array):
        x = backstory.from_numpy(array)
        x.mul_(2)
        return x.sum() + backstory.as_tensor(array).sum()

    array = np.ones(3)
    run = compiled(step)
    assert [run(array).item() for _ in range(3)] == [12, 24, 48]
    np.testing.assert_array_equal(array, [8, 8, 8])
