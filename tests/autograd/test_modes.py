"""Modes are restored whatever happens, and belong to one thread and one level."""

from __future__ import annotations

import threading

import pytest

import backstory
from backstory.autograd import new_level
from backstory.errors import ArgumentError
from backstory.graph import context


def leaf() -> backstory.Tensor:
    return backstory.tensor(2.0, requires_grad=True)


def test_no_grad_records_nothing_and_ends_with_its_block():
    x = leaf()
    with backstory.no_grad():
        assert not backstory.is_grad_enabled()
        y = x * 3.0
    assert backstory.is_grad_enabled()
    assert y.grad_fn is None
    assert not y.requires_grad
    assert (x * 3.0).requires_grad


def test_modes_nest_and_each_block_restores_what_was():
    x = leaf()
    with backstory.no_grad():
        with backstory.enable_grad():
            with backstory.set_grad_enabled(False):
                assert not (x * 1.0).requires_grad
            assert (x * 1.0).requires_grad
        assert not (x * 1.0).requires_grad
    assert (x * 1.0).requires_grad


def test_no_grad_ends_after_an_exception():
    with pytest.raises(KeyError), backstory.no_grad():
        raise KeyError
    assert backstory.is_grad_enabled()


def test_no_grad_decorates_a_function_again_and_again():
    @backstory.no_grad()
    def evaluate(x):
        return x * 2.0

    for _ in range(2):
        assert not evaluate(leaf()).requires_grad
    assert backstory.is_grad_enabled()


def test_no_grad_of_one_thread_leaves_the_others_alone():
    inside, done = threading.Event(), threading.Event()
    seen = []

    def other() -> None:
        with backstory.no_grad():
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(10)
    seen.append((leaf() * 2.0).requires_grad)
    done.set()
    thread.join()
    assert seen == [True]


def test_a_new_thread_starts_with_the_default_modes():
    seen = []
    with backstory.no_grad(), backstory.relu_derivative_at_zero(1.0):
        thread = threading.Thread(
            target=lambda: seen.append((backstory.is_grad_enabled(), context().relu_at_zero))
        )
        thread.start()
        thread.join()
    assert seen == [(True, 0.0)]


def test_threads_run_backward_at_the_same_time_on_graphs_of_their_own():
    results = {}

    def work(k: int) -> None:
        x = backstory.tensor(float(k), dtype="float64", requires_grad=True)
        for _ in range(50):
            (x * x).backward()
        results[k] = x.grad.item()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {k: 100.0 * k for k in range(4)}


def gradient_at_zero(**arguments: float) -> float:
    x = backstory.tensor(0.0, requires_grad=True)
    backstory.relu(x, **arguments).backward()
    return x.grad.item()


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_relus_derivative_at_zero_is_chosen_by_context_or_argument(value):
    with backstory.relu_derivative_at_zero(value):
        assert gradient_at_zero() == value
        assert gradient_at_zero(at_zero=1.0 - value) == 1.0 - value
    assert gradient_at_zero(at_zero=value) == value
    assert gradient_at_zero() == 0.0


def test_the_choice_at_zero_is_made_where_relu_runs_not_where_backward_runs():
    x = backstory.tensor(0.0, requires_grad=True)
    with backstory.relu_derivative_at_zero(1.0):
        y = x.relu()
    y.backward()
    assert x.grad.item() == 1.0


def test_choices_at_zero_nest_and_end_after_an_exception():
    with backstory.relu_derivative_at_zero(0.5):
        with pytest.raises(KeyError), backstory.relu_derivative_at_zero(1.0):
            raise KeyError
        assert gradient_at_zero() == 0.5
    assert gradient_at_zero() == 0.0


def test_the_module_and_the_method_take_the_choice_too():
    x = backstory.tensor(0.0, requires_grad=True)
    backstory.nn.ReLU(at_zero=0.5)(x).backward()
    assert x.grad.item() == 0.5


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_slope_outside_the_subdifferential_is_refused(value):
    with (
        pytest.raises(ArgumentError, match=r"derivative of relu at 0.*\n.*between 0 and 1"),
        backstory.relu_derivative_at_zero(value),
    ):
        pass
    with pytest.raises(ArgumentError, match=r"derivative of relu at 0"):
        backstory.relu(leaf(), at_zero=value)


def test_levels_end_after_an_exception():
    with pytest.raises(KeyError), new_level():
        raise KeyError
    assert len(context().levels) == 1
