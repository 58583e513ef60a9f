"""Activations forward and backward over 10³ to 10⁷ elements, and what calling a compiled function costs.

    python benchmarks/elementwise.py

An activation is timed with its backward pass: y = f(x), dx = g · f′(x). Beside the peers stands the time in
which as many bytes are copied: x, g and y are read, y and dx written. The near-empty step is x + 1 of one
element.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import roofline
from measure import Failures, cell, grid, in_turn, keep_to, per_call
from peers import PEERS, present
from plan import Plan, caches, numbers

__all__ = ["activation_sections", "empty_sections", "empty_times"]

ACTIVATIONS = ("relu", "sigmoid", "tanh", "gelu")
SIZES = (10**3, 10**4, 10**5, 10**6, 10**7)
DEFAULT = ("backstory-compile", "backstory", "torch", "jax", "numpy")
EMPTY = ("backstory-compile", "backstory", "torch", "torch-compile", "jax", "pytensor", "tinygrad", "numpy")
COPY = "copy of the bytes"
MOVED = 5
TOLERANCE = 1e-5

Call = Callable[[], Any]
Read = Callable[[Any], list[np.ndarray]]


def arrays(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and the upstream gradient, (size,) each, in float32."""
    random = np.random.default_rng(size)
    x, g = (random.standard_normal(size).astype(np.float32) for _ in range(2))
    return x, g


def by_hand(name: str, x: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """y and dx with NumPy."""
    if name == "relu":
        return np.maximum(x, 0), g * (x > 0)
    if name == "sigmoid":
        y = 1 / (1 + np.exp(-x))
        return y, g * y * (1 - y)
    if name == "tanh":
        y = np.tanh(x)
        return y, g * (1 - y * y)
    from scipy.special import erf

    share = 0.5 * (1 + erf(x * np.sqrt(0.5, dtype=x.dtype)))
    density = np.exp(-0.5 * x * x) * x.dtype.type((2 * np.pi) ** -0.5)
    return x * share, g * (share + x * density)


def activation(peer: str, name: str, size: int) -> tuple[Call, Read]:
    """What computes y and dx on a peer, and what reads them."""
    x, g = arrays(size)
    if peer == "numpy":
        return lambda: by_hand(name, x, g), list
    if peer == "jax":
        return _with_jax(name, x, g)
    package, _, mode = peer.partition("-")
    library = importlib.import_module(package)
    function = getattr(library.nn.functional, name)
    tensor, upstream = library.tensor(x), library.tensor(g)

    def step(x: Any, g: Any) -> tuple[Any, Any]:
        y, pullback = library.func.vjp(function, x)
        return y, pullback(g)[0]

    def eager(x: Any, g: Any) -> tuple[Any, Any]:
        y = function(x)
        return y.detach(), library.autograd.grad(y, x, g)[0]

    run = library.compile(step) if mode == "compile" else eager
    leaf = tensor if mode == "compile" else tensor.requires_grad_()
    return lambda: run(leaf, upstream), lambda found: [array.numpy() for array in found]


def _with_jax(name: str, x: np.ndarray, g: np.ndarray) -> tuple[Call, Read]:
    import jax

    function = (lambda x: jax.nn.gelu(x, approximate=False)) if name == "gelu" else getattr(jax.nn, name)

    @jax.jit
    def step(x: Any, g: Any) -> tuple[Any, Any]:
        y, pullback = jax.vjp(function, x)
        return y, pullback(g)[0]

    x, g = jax.device_put(x), jax.device_put(g)
    return lambda: step(x, g), lambda found: [np.asarray(array) for array in found]


def near_empty(peer: str) -> tuple[Call, Read]:
    """What computes x + 1 of one element on a peer, and what reads it."""
    x = np.zeros(1, np.float32)
    if peer == "numpy":
        return lambda: x + 1, lambda found: [found]
    if peer == "pytensor":
        import pytensor
        import pytensor.tensor as pt

        symbol = pt.vector("x", dtype="float32")
        compiled = pytensor.function([symbol], symbol + np.float32(1), mode="NUMBA", trust_input=True)
        return lambda: compiled(x), lambda found: [found]
    if peer == "jax":
        import jax

        step, array = jax.jit(lambda x: x + 1), jax.device_put(x)
        return lambda: step(array), lambda found: [np.asarray(found)]
    if peer == "tinygrad":
        from tinygrad import Tensor, TinyJit

        jitted, own = TinyJit(lambda x: (x + 1).realize()), Tensor(x).realize()
        return lambda: jitted(own), lambda found: [found.numpy()]
    package, _, mode = peer.partition("-")
    library = importlib.import_module(package)
    tensor = library.tensor(x)

    def add_one(x: Any) -> Any:
        return x + 1

    run = library.compile(add_one) if mode == "compile" else add_one
    return lambda: run(tensor), lambda found: [found.numpy()]


def time_activation(peer: str, name: str, sizes: Sequence[int], seconds: float, threads: int) -> list[float]:
    """Microseconds per size; what is computed must be what NumPy computes in float64."""
    times = []
    for size in sizes:
        if peer == "copy":
            speed = roofline.bandwidth(4 * 4 * size, threads, seconds)
            times.append(MOVED * 4 * size / speed)
            continue
        call, read = activation(peer, name, size)
        expected = by_hand(name, *(array.astype(np.float64) for array in arrays(size)))
        for found, right in zip(read(call()), expected, strict=True):
            worst = float(np.abs(found - right).max())
            if not worst <= TOLERANCE:
                sys.exit(f"{name} of {size} elements: off by {worst:.1e}")
        times.append(per_call(call, seconds, read if peer == "jax" else lambda found: None))
    return times


def time_empty(peer: str, seconds: float) -> float:
    """Microseconds of x + 1."""
    call, read = near_empty(peer)
    for _ in range(4):
        if read(call())[0] != 1:
            sys.exit("0 + 1 is 1")
    return per_call(call, seconds, read)


def activation_sections(plan: Plan, sizes: Sequence[int] = SIZES) -> Iterator[str]:
    """The Markdown of the activations, one table each."""
    sizes, threads = sizes[::3] if plan.quick else sizes, plan.most_threads
    everyone = [*plan.among(DEFAULT), *(["copy"] if roofline.missing() is None else [])]
    labels = {peer: PEERS[peer].label if peer in PEERS else COPY for peer in everyone}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name in ACTIVATIONS[::3] if plan.quick else ACTIVATIONS:
            worker = [sys.executable, __file__, "--sizes", ",".join(map(str, sizes)), "--seconds"]
            worker += [str(plan.seconds / 2), "--threads", str(threads), "--worker", name]
            failures = Failures()
            commands = {peer: [*worker, peer] for peer in everyone}
            reports = in_turn(commands, plan.few, threads, caches(folder), failures, name)
            plan.note(name, failures)
            by_size = {peer: list(zip(*found, strict=True)) for peer, found in reports.items()}
            reference = next(iter(by_size.values()), [])
            rows = {
                labels[peer]: [cell(one, other) for one, other in zip(columns, reference, strict=True)]
                for peer, columns in by_size.items()
            }
            yield f"{name}, forward and backward: µs by number of elements, {threads} thread(s):"
            yield grid("peer", [f"{size:,}" for size in sizes], rows)


def empty_times(plan: Plan) -> dict[str, list[float]]:
    """Microseconds of the near-empty step, by peer."""
    worker = [sys.executable, __file__, "--seconds", str(plan.seconds), "--worker", "empty"]
    failures = Failures()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        commands = {peer: [*worker, peer] for peer in plan.among(EMPTY)}
        reports = in_turn(commands, plan.rounds, 1, caches(folder), failures, "near-empty step")
    plan.note("near-empty step", failures)
    return reports


def empty_sections(times: dict[str, list[float]]) -> Iterator[str]:
    """The Markdown of the near-empty step."""
    if times:
        reference = next(iter(times.values()))
        yield "A near-empty step, x + 1 of one element:"
        yield grid(
            "peer", ["µs"], {PEERS[peer].label: [cell(found, reference)] for peer, found in times.items()}
        )


def main() -> None:
    """Be one worker, or print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=present(DEFAULT))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="how long a process measures")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sizes", type=numbers, default=SIZES, help="of the activations")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        what, peer = chosen.worker
        keep_to(chosen.threads)
        if what == "empty":
            print(json.dumps(time_empty(peer, chosen.seconds)))
        else:
            print(json.dumps(time_activation(peer, what, chosen.sizes, chosen.seconds, chosen.threads)))
        return
    settings = {"rounds": chosen.rounds, "seconds": chosen.seconds, "threads": (chosen.threads,)}
    plan = Plan.of([], chosen.peers, **settings)
    plan.print(empty_sections(empty_times(plan)))
    plan.print(activation_sections(plan, chosen.sizes))
    plan.end()


if __name__ == "__main__":
    main()
