"""What the machine can do at best for a training step: its matrix products, and the bytes it must move.

    python benchmarks/roofline.py

The products of a step run alone, one after the other, through NumPy's own BLAS, called by address from
compiled code, so that no call costs anything. What is left of a step is sweeps over memory; they are counted
here, and what they cost is taken from the speed at which as many bytes are copied by as many threads.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from measure import Failures, cell, grid, in_turn, keep_to, number, ratio
from peers import PEERS
from workloads import WORKLOADS, Workload

__all__ = ["Roofline", "bandwidth", "missing", "products", "rooflines", "sweeps", "table", "working_set"]

ITEM = 4
CHUNKS = 15
SHOWN = 3


@dataclass(frozen=True)
class Product:
    """``C = A B`` with C of shape (m, n), reducing over k; A or B may be stored transposed."""

    m: int
    n: int
    k: int
    a_transposed: bool
    b_transposed: bool

    @property
    def flops(self) -> int:
        return 2 * self.m * self.n * self.k


def products(workload: Workload) -> list[Product]:
    """The matrix products of a step, in the order in which it needs them."""
    n, layers = workload.batch, list(itertools.pairwise(workload.sizes))
    forward = [Product(n, fan_out, fan_in, False, True) for fan_in, fan_out in layers]
    backward: list[Product] = []
    for i, (fan_in, fan_out) in reversed(list(enumerate(layers))):
        backward.append(Product(fan_out, fan_in, n, True, False))  # weight: gᵀ x
        if i:
            backward.append(Product(n, fan_in, fan_out, False, False))  # input: g W
    return forward + backward


@dataclass(frozen=True)
class Sweep:
    """One pass over arrays of ``elements`` each, of which it reads and writes so many."""

    what: str
    elements: int
    reads: int
    writes: int

    @property
    def bytes(self) -> int:
        return ITEM * self.elements * (self.reads + self.writes)


def sweeps(workload: Workload) -> list[Sweep]:
    """What a step must read and write besides its products, if everything that can share a pass does.

    Bias and ReLU are one pass over a product's result, the gate another over the gradient. A normalisation
    needs a pass for its statistics and one to normalise, and the same in backward. The sum of a residual
    connection rides along, forward and (in the product that makes the input's gradient) backward.
    """
    parameters = sum(array.size for layer in workload.weights() for array in layer)
    moments = 2 if workload.optimizer == "adam" else 1
    found = [
        Sweep("optimizer", parameters, 2 + moments, 1 + moments),
        Sweep("loss", workload.batch * workload.sizes[-1], 1, 1),
    ]
    for i, size in enumerate(workload.sizes[1:-1]):
        elements = workload.batch * size
        if not workload.normalised:
            found += [Sweep("bias and relu", elements, 1, 1), Sweep("gate", elements, 2, 1)]
            continue
        found += [
            Sweep("statistics", elements, 1, 0),
            Sweep("normalise and relu", elements, 1 + workload.residual(i), 1),
            Sweep("gradients of gain and shift", elements, 2, 0),
            Sweep("gradient through the normalisation", elements, 2, 1),
        ]
    return found


def working_set(workload: Workload) -> int:
    """Bytes of parameters, gradients, moments and hidden activations with their gradients."""
    parameters = sum(array.size for layer in workload.weights() for array in layer)
    moments = 2 if workload.optimizer == "adam" else 1
    return ITEM * (parameters * (2 + moments) + 2 * workload.batch * sum(workload.sizes[1:]))


def missing() -> str | None:
    """What is lacking here to measure a roofline, in words."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return "numba is not installed"
    return None if _sgemm() else "NumPy's BLAS is no OpenBLAS"


def _sgemm() -> Any:
    """NumPy's own sgemm, a function of addresses; None where there is none of the expected name."""
    import threadpoolctl

    for library in threadpoolctl.threadpool_info():
        if library["internal_api"] == "openblas" and "numpy" in library["filepath"]:
            loaded = ctypes.CDLL(library["filepath"])
            function = getattr(loaded, "scipy_sgemm_64_", None)
            if function is not None:
                function.argtypes, function.restype = [ctypes.c_size_t] * 13, None
            return function
    return None


def time_products(workload: Workload, seconds: float) -> float:
    """Microseconds of all products of a step, one after the other."""
    import numba

    sgemm = _sgemm()

    @numba.njit(nogil=True)
    def run(table, times):  # pyright: ignore[reportMissingParameterType]
        for _ in range(times):
            for i in range(table.shape[0]):
                t = table[i]
                sgemm(t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8], t[9], t[10], t[11], t[12])

    keep: list[Any] = []
    table = np.array([_arguments(product, keep) for product in products(workload)], np.uint64)
    return _repeated(lambda times: run(table, times), seconds)


def _arguments(product: Product, keep: list[Any]) -> list[int]:
    """The arguments of sgemm, by address: a row-major ``C = A B`` is its column-major ``Cᵀ = Bᵀ Aᵀ``."""
    random = np.random.default_rng(0)

    def address(value: Any) -> int:
        keep.append(value)
        return value.ctypes.data if isinstance(value, np.ndarray) else ctypes.addressof(value)

    def matrix(rows: int, columns: int) -> int:
        return address(random.standard_normal((rows, columns)).astype(np.float32))

    def integer(value: int) -> int:
        return address(ctypes.c_int64(value))

    def flag(transposed: bool) -> int:
        return address(ctypes.c_char(b"T" if transposed else b"N"))

    m, n, k = product.m, product.n, product.k
    a = matrix(k, m) if product.a_transposed else matrix(m, k)
    b = matrix(n, k) if product.b_transposed else matrix(k, n)
    sizes = [integer(n), integer(m), integer(k)]
    b_with = [b, integer(k if product.b_transposed else n)]
    a_with = [a, integer(m if product.a_transposed else k)]
    one, zero = address(ctypes.c_float(1)), address(ctypes.c_float(0))
    flags = [flag(product.b_transposed), flag(product.a_transposed)]
    return [*flags, *sizes, one, *b_with, *a_with, zero, matrix(m, n), integer(n)]


def bandwidth(total: int, threads: int, seconds: float) -> float:
    """Bytes per microsecond, read and written, when arrays of ``total`` bytes together are copied."""
    import numba

    @numba.njit(nogil=True)
    def copy(one, other, times):  # pyright: ignore[reportMissingParameterType]
        for t in range(times):
            # To and fro, so that no copy repeats the one before.
            source, target = (one, other) if t % 2 == 0 else (other, one)
            for i in range(source.shape[0]):
                target[i] = source[i]

    each = max(64, total // (2 * ITEM * threads))
    pairs = [(np.ones(each, np.float32), np.ones(each, np.float32)) for _ in range(threads)]
    copy(*pairs[0], 1)

    def together(times: int) -> None:
        workers = [threading.Thread(target=copy, args=(*pair, times)) for pair in pairs[1:]]
        for worker in workers:
            worker.start()
        copy(*pairs[0], times)
        for worker in workers:
            worker.join()

    return 2 * ITEM * each * threads / _repeated(together, seconds)


def _repeated(run: Callable[[int], None], seconds: float) -> float:
    """Microseconds of one of the repetitions that ``run(times)`` makes: the median over chunks."""
    run(1)
    times, spent = 1, 0.0
    while spent < seconds / CHUNKS:
        times = 2 * times
        start = time.perf_counter()
        run(times)
        spent = time.perf_counter() - start
    figures = []
    for _ in range(CHUNKS):
        start = time.perf_counter()
        run(times)
        figures.append((time.perf_counter() - start) / times * 1e6)
    return statistics.median(figures)


@dataclass(frozen=True)
class Roofline:
    """What was measured for one network: one figure per round."""

    workload: Workload
    products: list[float]
    bandwidth: list[float]

    @property
    def bytes(self) -> int:
        return sum(sweep.bytes for sweep in sweeps(self.workload))

    @property
    def total(self) -> list[float]:
        """Microseconds of products and sweeps together."""
        pairs = zip(self.products, self.bandwidth, strict=True)
        return [products + self.bytes / speed for products, speed in pairs]


def rooflines(
    names: Sequence[str], rounds: int, seconds: float, threads: int, failures: Failures | None = None
) -> dict[str, Roofline]:
    """The roofline of every network, in processes of their own; without those noted in ``failures``."""
    worker = [sys.executable, __file__, "--seconds", str(seconds), "--threads", str(threads), "--worker"]
    reports = in_turn({name: [*worker, name] for name in names}, rounds, threads, None, failures, "roofline")
    return {
        name: Roofline(
            WORKLOADS[name], [one["products"] for one in found], [one["bandwidth"] for one in found]
        )
        for name, found in reports.items()
    }


def table(found: Mapping[str, Roofline], times: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """The Markdown table of rooflines, and of the peers' ``times`` in multiples of them, fastest first."""
    rows = {}
    for name, roofline in found.items():
        flops = sum(product.flops for product in products(roofline.workload))
        multiples = {
            PEERS[peer].label: ratio(figures, roofline.total)
            for peer, figures in times.get(name, {}).items()
            if figures
        }
        fastest = sorted(multiples, key=lambda label: multiples[label])[:SHOWN]
        rows[name] = [
            cell(roofline.products),
            number(flops / statistics.median(roofline.products) / 1e3),
            f"{roofline.bytes / 2**20:.2f}",
            cell([speed / 1e3 for speed in roofline.bandwidth]),
            cell([roofline.bytes / speed for speed in roofline.bandwidth]),
            cell(roofline.total),
            ", ".join(f"{label} {multiples[label]:.2f} ×" for label in fastest) or "–",
        ]
    columns = ["products (µs)", "GFLOP/s", "sweeps (MiB)", "copying (GB/s)", "sweeps (µs)", "together (µs)"]
    return grid("network", [*columns, "nearest"], rows)


def main() -> None:
    """Be one worker, or print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="how long each figure is measured")
    parser.add_argument("--threads", type=int, default=2, help="of BLAS, and of copying")
    parser.add_argument("--worker", choices=WORKLOADS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if why := missing():
        sys.exit(f"no roofline: {why}")
    if chosen.worker:
        keep_to(chosen.threads)
        workload = WORKLOADS[chosen.worker]
        threads = min(chosen.threads, len(os.sched_getaffinity(0)))
        speed = bandwidth(working_set(workload), threads, chosen.seconds)
        print(json.dumps({"products": time_products(workload, chosen.seconds), "bandwidth": speed}))
        return
    print(table(rooflines(chosen.workloads, chosen.rounds, chosen.seconds, chosen.threads), {}))


if __name__ == "__main__":
    main()
