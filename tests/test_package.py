"""The package as a whole: what importing it costs, names, and which way imports point."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import backstory
from backstory import functions

HEAVY = ("matplotlib", "jinja2", "joblib", "rich", "safetensors", "sklearn", "sqlite3", "torch", "typer")


def test_importing_backstory_needs_numpy_alone():
    script = f"import sys, backstory; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_backstory_leaves_numpys_error_state_alone():
    script = (
        "import numpy as np; a = np.geterr(); import backstory; backstory.ones(1); print(a == np.geterr())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_every_public_name_is_there():
    for module in (
        backstory,
        backstory.nn,
        backstory.optim,
        backstory.autograd,
        backstory.arrays,
        backstory.ops,
        backstory.array_api,
        backstory.errors,
        backstory.nn.functional,
        backstory.nn.init,
    ):
        missing = [name for name in module.__all__ if not hasattr(module, name)]
        assert missing == [], module.__name__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        backstory.nonsense  # noqa: B018


def test_every_function_of_every_subject_is_public():
    for subject in pkgutil.iter_modules(functions.__path__, functions.__name__ + "."):
        module = importlib.import_module(subject.name)
        for name in module.__all__:
            assert getattr(backstory, name) is getattr(module, name), name
            assert name in backstory.__all__, name


def test_methods_are_functions_with_their_signatures_and_docstrings():
    x = backstory.tensor([1.0, 4.0])
    assert backstory.Tensor.sum is backstory.sum
    assert list(inspect.signature(x.sum).parameters) == ["dim", "keepdim", "dtype"]
    assert backstory.Tensor.sqrt_.__doc__ == f"In place: {backstory.sqrt.__doc__}"
    assert x.sqrt_() is x
    assert x.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "name", ["exp", "log", "sqrt", "tanh", "sigmoid", "relu", "sum", "mean", "max", "matmul"]
)
def test_functions_and_methods_are_the_same_operation(name):
    x = backstory.tensor([[1.0, 2.0], [3.0, 0.5]])
    arguments = [x] if name == "matmul" else []
    by_function = getattr(backstory, name)(x, *arguments)
    assert by_function.tolist() == getattr(x, name)(*arguments).tolist()


def test_functions_take_numbers_lists_and_arrays():
    assert backstory.exp(0).item() == 1.0
    assert backstory.maximum([1.0, 5.0], 2.0).tolist() == [2.0, 5.0]
    assert backstory.sum([[1, 2], [3, 4]], dim=0).tolist() == [4, 6]
    assert backstory.max([1.0, 3.0], dim=0).indices.item() == 1
    assert backstory.transpose([[1.0, 2.0]], 0, 1).shape == (2, 1)
    assert backstory.reshape([1, 2], (2, 1)).shape == (2, 1)
    assert backstory.log_softmax([0.0, 0.0], 0).tolist() == pytest.approx([-0.6931472] * 2)
