"""How exact and how fast the compiled elementary functions are, against 50 digits and against NumPy.

    python benchmarks/mathematics.py

The error is in units in the last place of the true value (0.5 is a correctly rounded result), the largest
over random bit patterns of the whole format, subnormal and huge ones included, and where the function bends.
The time is nanoseconds per entry of 4096 in the cache, one thread.
"""

from __future__ import annotations

import argparse
import timeit
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np

from backstory.arrays import eager, extras
from backstory.compiler.kernels import kernel
from backstory.compiler.table import Table

ORACLES: dict[str, Callable[[Any], Any]] = {
    "exp": mpmath.exp,
    "expm1": mpmath.expm1,
    "log": mpmath.log,
    "log1p": mpmath.log1p,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "erf": mpmath.erf,
}
IN_NUMPY: dict[str, Callable[[Any], Any]] = {
    **{name: getattr(np, name) for name in ("exp", "expm1", "log", "log1p", "tanh")},
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "erf": lambda x: extras.erf(eager, x),
}
BENDS = {"log1p": (-0.9, 2.0), "log": (0.5, 2.0)}


def compiled(name: str, x: np.ndarray, y: np.ndarray) -> Table:
    """A table that computes ``y = name(x)``."""
    dtype = x.dtype.name
    table = Table()
    source = f"""
def {name}_of(block):
    x, y = array(block, 1, {dtype}), array(block, 2, {dtype})
    for i in range(integer(block, 0)):
        y[i] = {name}(x[i])
"""
    table.add(kernel(f"{name}_of", source), [x.size, x.ctypes.data, y.ctypes.data])
    return table


def points(name: str, dtype: str, count: int) -> np.ndarray:
    """Random bit patterns of finite numbers, and as many even draws from where the function bends."""
    random = np.random.default_rng(0)
    word = np.dtype(dtype).str.replace("f", "u")
    patterns = random.integers(0, np.iinfo(word).max, count, word, endpoint=True).view(dtype)
    low, high = BENDS.get(name, (-6.0, 6.0))
    around = random.uniform(low, high, count).astype(dtype)
    wide = random.uniform(-750.0, 720.0, count).astype(dtype)
    chosen = np.concatenate([patterns[np.isfinite(patterns)], around, wide])
    return np.abs(chosen) if name == "log" else chosen[chosen > -1] if name == "log1p" else chosen


def error_in_ulp(name: str, x: np.ndarray, y: np.ndarray) -> float:
    """The largest distance of ``y`` from the true values, in the true values' last places."""
    facts = np.finfo(x.dtype)
    # Half a place above the largest number is where rounding gives infinity.
    limit = mpmath.mpf(float(facts.max)) * (1 + mpmath.mpf(float(facts.eps)) / 4)
    worst = 0.0
    with mpmath.workdps(50):
        for given, found in zip(x.tolist(), y.tolist(), strict=True):
            if not name.startswith("log"):  # beyond 10⁵ they overflow, or have long reached their limits
                given = max(min(given, 1e5), -1e5)
            true = ORACLES[name](mpmath.mpf(given))
            if abs(true) >= limit:
                worst = max(worst, 0.0 if found == np.sign(float(mpmath.sign(true))) * np.inf else np.inf)
                continue
            place = max(float(facts.smallest_subnormal), 2.0 ** (exponent(true) - facts.nmant))
            worst = max(worst, float(abs(mpmath.mpf(found) - true) / place) if found == found else np.inf)
    return worst


def exponent(true: Any) -> int:
    """The power of two at or below a number."""
    return int(mpmath.floor(mpmath.log(abs(true), 2))) if true and abs(true) > 1e-320 else -1075


def nanoseconds(call: Callable[[], Any], entries: int) -> float:
    """The least time of a call, per entry."""
    return min(timeit.repeat(call, number=50, repeat=30)) / 50 / entries * 1e9


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=5000)
    count = parser.parse_args().points
    print(
        "| function | dtype | largest error (ulp) | ns per entry | NumPy's | ratio |\n"
        "|---|---|--:|--:|--:|--:|"
    )
    for name, in_numpy in IN_NUMPY.items():
        for dtype in ("float32", "float64"):
            x = points(name, dtype, count)
            y = np.empty_like(x)
            compiled(name, x, y).run()
            error = error_in_ulp(name, x, y)
            x = np.random.default_rng(1).uniform(0.1, 3.0, 4096).astype(dtype)
            y = np.empty_like(x)
            own = nanoseconds(compiled(name, x, y).run, x.size)
            numpy = nanoseconds(lambda x=x, f=in_numpy: f(x), x.size)
            print(f"| {name} | {dtype} | {error:.2f} | {own:.2f} | {numpy:.2f} | {numpy / own:.1f} |")


if __name__ == "__main__":
    main()
