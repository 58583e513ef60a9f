"""Chains of 100,000 operations: forward, backward, being freed; no recursion, linear time and memory.

Time is counted in function calls, which are the same in every run; nothing here reads a clock.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
import weakref

import pytest

import backstory

LENGTH = 100_000


def product(x, n):
    """x times 1 again and again; every node keeps what it needs of its inputs."""
    one = backstory.ones(2, requires_grad=True)
    for _ in range(n):
        x = x * one
    return x


def branches(x, n):
    """Two paths that meet at every step."""
    for _ in range(n // 2):
        x = x * 0.5 + x * 0.5
    return x


def views(x, n):
    """A view of a view of a view …"""
    for _ in range(n // 3):
        x = x.reshape(2, 1).T[0]
    return x


def changes(x, n):
    """One memory, changed again and again."""
    x = x * 1.0
    for _ in range(n):
        x.add_(0.0)
    return x


def changes_of_views(x, n):
    """One memory, changed again and again through views of it."""
    x = x * 1.0
    for i in range(n // 3):
        x[i % 2].mul_(1.0)
    return x


CHAINS = {f.__name__: f for f in (product, branches, views, changes, changes_of_views)}


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_of_100_000_operations_runs_backward_and_dies_by_reference_counting(name):
    gc.collect()
    gc.disable()
    try:
        leaf = backstory.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
        first = leaf * 1.0
        out = CHAINS[name](first, LENGTH)
        died = weakref.ref(first.grad_fn)
        out.sum().backward(retain_graph=True)
        assert leaf.grad.tolist() == [1.0, 1.0]
        del first
        assert died() is not None
        del out
        assert died() is None
    finally:
        gc.enable()


SMALL_STACK = """
import sys, threading
sys.path[:0] = [{tests!r}, {tests!r} + '/autograd']  # there is an autograd of others
import backstory
from test_scale import CHAINS

def run():
    sys.setrecursionlimit(200)
    for chain in CHAINS.values():
        leaf = backstory.ones(2, requires_grad=True)
        out = chain(leaf, {length})
        out.sum().backward()
        del out
    print("done")

threading.stack_size(256 * 1024)
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""


def test_no_chain_needs_a_deep_stack():
    tests = __file__.rpartition("/")[0]
    script = SMALL_STACK.format(tests=tests, length=LENGTH // 10)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "done", done.stderr[-2000:]


def calls(function) -> int:
    """How many functions of Python and of C are called, without finalisers of what other tests left."""
    count = 0

    def hear(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    gc.collect()
    gc.disable()
    sys.setprofile(hear)
    try:
        function()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def forward_and_backward(name, n):
    CHAINS[name](backstory.ones(2, requires_grad=True), n).sum().backward()


@pytest.mark.parametrize("name", CHAINS)
def test_the_number_of_calls_grows_linearly_with_the_length(name):
    forward_and_backward(name, 100)
    small, medium, large = (calls(lambda n=n: forward_and_backward(name, n)) for n in (1000, 2000, 4000))
    assert large - medium == pytest.approx(2 * (medium - small), rel=0.01)


@pytest.mark.parametrize("name", ["product", "changes_of_views"])
def test_memory_grows_linearly_with_the_length_and_is_given_back(name):
    def peak(n):
        gc.collect()
        tracemalloc.start()
        try:
            forward_and_backward(name, n)
            held, most = tracemalloc.get_traced_memory()
            return held, most
        finally:
            tracemalloc.stop()

    peak(100)
    (_, small), (_, medium), (held, large) = (peak(n) for n in (2000, 4000, 8000))
    assert large - medium == pytest.approx(2 * (medium - small), rel=0.1)
    assert held < 0.05 * large, "what Python itself keeps in its free lists is a few hundredths"
