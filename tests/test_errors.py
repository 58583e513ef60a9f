"""Every bad input is refused by its own class, says what, why and what instead, and changes nothing."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import backstory
from backstory import errors, nn, optim
from backstory.autograd import backward, grad, new_level
from backstory.nn import functional, init
from backstory.tensor import wrap

f32 = backstory.ones(2, 3)
logits = backstory.zeros(2, 3)
leaf = backstory.ones(2, requires_grad=True)


def recorded() -> backstory.Tensor:
    return leaf * 2.0


def escaped() -> backstory.Tensor:
    with new_level() as level:
        return wrap(backstory.ones(2), level.number)


def freed() -> backstory.Tensor:
    y = (leaf * leaf).sum()
    y.backward()
    leaf.grad = None
    return y


# what is called: the class, and words of what was received, of why, and of what to write instead
CASES = {
    "broadcast": (lambda: f32 + backstory.ones(4), errors.ShapeError, "(2, 3), (4,)", "broadcast", "equal"),
    "matmul": (lambda: f32 @ f32, errors.ShapeError, "(2, 3), (2, 3)", "(dim 0)", "x @ w.T"),
    "matmul scalar": (lambda: f32 @ backstory.tensor(1.0), errors.ShapeError, "()", "scalar", "x * y"),
    "matmul dtypes": (lambda: f32 @ f32.T.double(), errors.DtypeError, "float64", "one dtype", "x.to("),
    "linear dtypes": (
        lambda: nn.Linear(3, 1)(f32.double()),
        errors.DtypeError,
        "float64, float32",
        "one dtype",
        "x.to(",
    ),
    "linear features": (
        lambda: nn.Linear(4, 1)(f32),
        errors.ShapeError,
        "(2, 3)",
        "4 features",
        "Linear(3, 1)",
    ),
    "linear sizes": (
        lambda: nn.Linear(-1, 1),
        errors.ArgumentError,
        "Linear(-1, 1)",
        "negative",
        "at least 0",
    ),
    "reshape": (lambda: f32.reshape(4, 2), errors.ShapeError, "(4, 2)", "size 6", "as many entries"),
    "reshape float": (lambda: f32.reshape(2.5), errors.ArgumentError, "2.5", "float", "integers"),
    "permute": (lambda: f32.permute(0, 0), errors.ShapeError, "(0, 0)", "axis", "once"),
    "transpose": (lambda: f32.transpose(0, 5), errors.ShapeError, "transpose(0, 5)", "2 axes", "-2 to 1"),
    "expand": (lambda: f32.expand(2, 4), errors.ShapeError, "(2, 4)", "broadcast", "length 1"),
    "expand fewer": (lambda: f32.expand(3), errors.ShapeError, "(3,)", "dimensions", "length 1"),
    "index": (lambda: f32[7], errors.BoundsError, "index=7", "out of bounds", "from -n to n - 1"),
    "indices": (lambda: f32[0, 0, 0], errors.BoundsError, "(0, 0, 0)", "too many", "at most"),
    "sum axis": (lambda: f32.sum(5), errors.BoundsError, "axis=5", "out of bounds", "-ndim"),
    "max axis": (lambda: f32.max(2), errors.BoundsError, "axis=2", "out of bounds", "-ndim"),
    "max empty": (lambda: backstory.zeros(0).max(), errors.ShapeError, "(0,)", "zero-size", "one entry"),
    "zeros": (lambda: backstory.zeros(-1), errors.ShapeError, "(-1,)", "negative", "0 or more"),
    "negative power": (
        lambda: backstory.tensor([2]) ** -1,
        errors.ShapeError,
        "(1,), -1",
        "negative",
        "float base",
    ),
    "subtract bools": (
        lambda: backstory.tensor([True]) - backstory.tensor([True]),
        errors.DtypeError,
        "bool, bool",
        "subtract",
        "x.to(dtype)",
    ),
    "too large": (
        lambda: backstory.tensor([1], dtype="uint8") + 300,
        errors.DtypeError,
        "uint8, 300",
        "out of bounds",
        "x.to(dtype)",
    ),
    "where": (lambda: backstory.where([1, 0], f32, f32), errors.DtypeError, "int64", "true or false", "!= 0"),
    "mean of integers": (
        lambda: backstory.arange(3).mean(),
        errors.DtypeError,
        "int64",
        "not an integer",
        "float32",
    ),
    "ragged": (
        lambda: backstory.tensor([[1, 2], [3]]),
        errors.ArgumentError,
        "list",
        "shape",
        "equal lengths",
    ),
    "complex": (lambda: backstory.tensor(1j), errors.DtypeError, "complex", "floats", "float32"),
    "words": (lambda: backstory.tensor("a"), errors.DtypeError, "<U1", "floats", "float32"),
    "no dtype": (lambda: backstory.tensor(1, dtype="f9"), errors.DtypeError, "f9", "", "float32"),
    "item": (lambda: f32.item(), errors.ShapeError, "(2, 3)", "single entry", "tolist()"),
    "truth": (lambda: bool(f32 > 0), errors.ShapeError, "(2, 3)", "several", "sum()"),
    "numpy": (lambda: leaf.numpy(), errors.GraphError, "numpy()", "lost", "detach().numpy()"),
    "integer leaf": (
        lambda: backstory.tensor([1], requires_grad=True),
        errors.DtypeError,
        "int64",
        "only floats",
        "requires_grad_()",
    ),
    "requires_grad off": (
        lambda: recorded().requires_grad_(False),
        errors.GraphError,
        "MulBackward0",
        "recorded already",
        "detach()",
    ),
    "not a scalar": (lambda: recorded().backward(), errors.ShapeError, "(2,)", "several numbers", "y.sum()"),
    "no history": (
        lambda: f32.sum().backward(),
        errors.GraphError,
        "()",
        "no operation",
        "requires_grad=True",
    ),
    "freed": (lambda: freed().backward(), errors.GraphError, "MulBackward0", "freed", "retain_graph=True"),
    "gradient shape": (lambda: recorded().backward(f32), errors.ShapeError, "(2, 3)", "each entry", "(2,)"),
    "gradient count": (
        lambda: backward([leaf, leaf], [None]),
        errors.ArgumentError,
        "2 tensors and 1",
        "one upstream",
        "None for a scalar",
    ),
    "no roots": (lambda: backward([]), errors.ArgumentError, "no tensors", "start", "[loss]"),
    "grad of a constant": (
        lambda: grad(recorded().sum(), f32),
        errors.GraphError,
        "does not require grad",
        "nothing was recorded",
        "requires_grad=True",
    ),
    "label too large": (
        lambda: functional.cross_entropy(logits, [0, 3]),
        errors.LabelError,
        "label 3 (sample 1)",
        "3 classes, numbered 0 to 2",
        "start at 0",
    ),
    "label negative": (
        lambda: functional.cross_entropy(logits, [-1, 0]),
        errors.LabelError,
        "label -1 (sample 0)",
        "3 classes",
        "start at 0",
    ),
    "labels of floats": (
        lambda: functional.cross_entropy(logits, [0.0, 1.0]),
        errors.DtypeError,
        "labels of float32",
        "integers",
        "int64",
    ),
    "logits of integers": (
        lambda: functional.cross_entropy(backstory.tensor([[1, 2]]), [0]),
        errors.DtypeError,
        "logits of int64",
        "floats",
        "int64",
    ),
    "labels and logits": (
        lambda: functional.cross_entropy(logits, [0, 1, 2]),
        errors.ShapeError,
        "(2, 3) and labels (3,)",
        "one label",
        "(N,)",
    ),
    "reduction": (
        lambda: functional.cross_entropy(logits, [0, 1], reduction="avg"),
        errors.ArgumentError,
        "'avg'",
        "averaged",
        "'mean'",
    ),
    "mse shapes": (
        lambda: functional.mse_loss(f32, backstory.ones(2)),
        errors.ShapeError,
        "(2, 3) and targets (2,)",
        "forgotten axis",
        "reshape(2, 3)",
    ),
    "mse of integers": (
        lambda: functional.mse_loss(backstory.tensor([1]), [2]),
        errors.DtypeError,
        "int64 and targets of int64",
        "not an integer",
        "float32",
    ),
    "copy of a result": (
        lambda: copy.deepcopy(recorded()),
        errors.GraphError,
        "MulBackward0",
        "only leaves",
        "detach()",
    ),
    "escaped": (lambda: escaped() + 1, errors.GraphError, "has ended", "outlive", "returns"),
    "gain": (lambda: init.calculate_gain("swish"), errors.ArgumentError, "'swish'", "no gain", "'relu'"),
    "fan of a vector": (lambda: init.kaiming_normal_(leaf), errors.ShapeError, "(2,)", "two axes", "zeros_"),
    "fan mode": (
        lambda: init.kaiming_normal_(nn.Linear(2, 2).weight, mode="fan"),
        errors.ArgumentError,
        "'fan'",
        "variance",
        "'fan_in'",
    ),
    "learning rate": (
        lambda: optim.SGD([leaf], lr=-0.1),
        errors.ArgumentError,
        "lr=-0.1",
        "climb",
        "lr=0.01",
    ),
    "learning rate nan": (
        lambda: optim.Adam([leaf], lr=float("nan")),
        errors.ArgumentError,
        "lr=nan",
        "finite",
        "lr=0.01",
    ),
    "momentum": (
        lambda: optim.SGD([leaf], momentum=-1),
        errors.ArgumentError,
        "momentum=-1",
        "at least 0",
        "momentum=0.9",
    ),
    "nesterov": (
        lambda: optim.SGD([leaf], nesterov=True),
        errors.ArgumentError,
        "nesterov=True",
        "momentum",
        "momentum=0.9",
    ),
    "betas": (
        lambda: optim.Adam([leaf], betas=(0.9, 1.0)),
        errors.ArgumentError,
        "betas[1]=1.0",
        "below 1",
        "betas[1]",
    ),
    "no parameters": (
        lambda: optim.SGD([]),
        errors.ArgumentError,
        "no parameters",
        "nothing",
        "parameters()",
    ),
    "one tensor": (lambda: optim.SGD(leaf), errors.ArgumentError, "one tensor", "collection", "[w]"),
    "twice": (lambda: optim.SGD([leaf, leaf]), errors.ArgumentError, "twice", "moved twice", "one group"),
    "not a leaf": (lambda: optim.SGD([recorded()]), errors.GraphError, "Tensor", "leaf", "parameters()"),
    "norm": (
        lambda: nn.utils.clip_grad_norm_(leaf, -1.0),
        errors.ArgumentError,
        "max_norm=-1.0",
        "not negative",
        "1.0",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused_with_what_why_and_instead(name):
    call, kind, what, why, instead = CASES[name]
    versions = [x._version for x in (f32, leaf, logits)]
    with pytest.raises(errors.BackstoryError) as caught:
        call()
    error = caught.value
    assert type(error) is kind
    assert what in error.what
    assert why in error.why
    assert instead in error.instead
    assert str(error) == f"{error.what}\n  why: {error.why}\n  instead: {error.instead}"
    assert [x._version for x in (f32, leaf, logits)] == versions
    assert leaf.grad is None
    assert f32.numpy().sum() == 6.0


@pytest.mark.parametrize("kind", [getattr(errors, name) for name in errors.__all__], ids=errors.__all__)
def test_errors_survive_pickling_and_are_caught_as_pythons_own(kind):
    error = kind("what", why="why", instead="instead")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    builtin = {
        "ArgumentError": ValueError,
        "ShapeError": RuntimeError,
        "BoundsError": IndexError,
        "DtypeError": TypeError,
        "LabelError": IndexError,
        "GraphError": RuntimeError,
        "VersionError": RuntimeError,
        "MissingExtraError": ImportError,
    }
    assert isinstance(error, builtin.get(kind.__name__, Exception))


def test_a_refused_step_moves_no_parameter():
    x, y = nn.Parameter(backstory.ones(2)), nn.Parameter(backstory.ones(2))
    optimizer = optim.SGD([{"params": [x]}, {"params": [y]}], lr=0.1)
    (x * y).sum().backward()
    optimizer.param_groups[1]["lr"] = -1.0
    with pytest.raises(errors.ArgumentError, match=r"lr=-1\.0"):
        optimizer.step()
    assert x.tolist() == y.tolist() == [1.0, 1.0]


def test_a_state_that_does_not_fit_is_refused_and_nothing_is_loaded():
    net = nn.Linear(2, 3)
    before = net.weight.detach().numpy().copy()
    good = {"weight": np.zeros((3, 2)), "bias": np.zeros(3)}
    for state, kind in (
        ({"weight": good["weight"]}, errors.ArgumentError),
        ({**good, "more": np.zeros(1)}, errors.ArgumentError),
        ({**good, "bias": np.zeros(4)}, errors.ShapeError),
    ):
        with pytest.raises(kind, match=r"load_state_dict\(\)"):
            net.load_state_dict(state)
        np.testing.assert_array_equal(net.weight.detach().numpy(), before)


def test_a_module_that_forgot_to_call_init_is_told_so():
    class Net(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(1, 1)

    with pytest.raises(errors.ArgumentError, match=r"super\(\)\.__init__\(\)"):
        Net()
