"""The polynomials of ``backstory.compiler.mathematics``: minimax fits by Remez's exchange, in 60 digits.

    python benchmarks/polynomials.py

Prints each polynomial's coefficients, lowest first, and the largest weighted error in bits; the weight turns
it into the error of the function relative to its value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
from mpmath import mpf

mpmath.mp.prec = 200
Function = Callable[[Any], Any]


def remez(f: Function, weight: Function, low: Any, high: Any, degree: int) -> tuple[list[Any], Any]:
    """The polynomial with the least ``max |weight · (f − p)|`` on [low, high], and that maximum."""
    low, high = mpf(low), mpf(high)

    def nodes(count: int) -> list[Any]:
        """So many points, denser towards the ends."""
        return [
            (low + high) / 2 - (high - low) / 2 * mpmath.cos(mpmath.pi * i / (count - 1))
            for i in range(count)
        ]

    points, grid = nodes(degree + 2), nodes(40 * (degree + 2) + 1)
    for _ in range(40):
        matrix = mpmath.matrix(degree + 2, degree + 2)
        for i, x in enumerate(points):
            for j in range(degree + 1):
                matrix[i, j] = x**j
            matrix[i, degree + 1] = (-1) ** i / weight(x)
        *coefficients, level = mpmath.lu_solve(matrix, mpmath.matrix([f(x) for x in points]))
        errors = [weight(x) * (f(x) - mpmath.polyval(coefficients[::-1], x)) for x in grid]
        extremes = alternating(errors)
        largest = max(abs(errors[i]) for i in extremes)
        if len(extremes) < degree + 2 or largest - abs(level) < largest / 1000:
            return coefficients, largest
        while len(extremes) > degree + 2:
            extremes.pop(0 if abs(errors[extremes[0]]) < abs(errors[extremes[-1]]) else -1)
        points = [grid[i] for i in extremes]
    raise ArithmeticError("the exchange does not settle")


def alternating(errors: list[Any]) -> list[int]:
    """Where the error is largest between two changes of its sign."""
    found: list[int] = []
    for i, error in enumerate(errors):
        if found and errors[found[-1]] * error > 0:
            if abs(error) > abs(errors[found[-1]]):
                found[-1] = i
        else:
            found.append(i)
    return found


def exp_tail(r: Any) -> Any:
    """(exp(r) − 1 − r) / r²."""
    return mpf(1) / 2 + r / 6 if abs(r) < mpf("1e-12") else (mpmath.expm1(r) - r) / r**2


def log_tail(z: Any) -> Any:
    """(2 artanh(s) − 2 s) / s³, for s = √z."""
    s = mpmath.sqrt(z)
    return mpf(2) / 3 + 2 * z / 5 if z < mpf("1e-24") else (2 * mpmath.atanh(s) - 2 * s) / s**3


def erf_slope(z: Any) -> Any:
    """erf(x) / x, for x = √z."""
    x = mpmath.sqrt(z)
    return 2 / mpmath.sqrt(mpmath.pi) * (1 - z / 3) if z < mpf("1e-24") else mpmath.erf(x) / x


def erfc_exponent(t: Any, centre: Any) -> Any:
    """−log(erfc(x)) − x², for x = t + centre."""
    x = t + centre
    return -mpmath.log(mpmath.erfc(x)) - x**2


def main() -> None:
    """Fit and print them all."""
    half = mpmath.log(2) / 2 * mpf("1.001")
    mantissa = ((mpmath.sqrt(2) - 1) / (mpmath.sqrt(2) + 1)) ** 2 * mpf("1.001")
    fits: dict[str, Callable[[], tuple[list[Any], Any]]] = {}
    for bits, e, n, p, g, centre, top in ((32, 5, 3, 6, 6, 2.5, 4), (64, 10, 6, 12, 17, 3.5, 6)):
        fits |= {
            f"EXP {bits}": lambda e=e: remez(exp_tail, lambda r: mpmath.sqrt(r * r + 1e-3), -half, half, e),
            f"LOG {bits}": lambda n=n: remez(log_tail, lambda z: z / 2 + mpf("1e-6"), 0, mantissa, n),
            f"ERF {bits}": lambda p=p: remez(erf_slope, lambda z: 1 / erf_slope(z), 0, 1, p),
            f"ERFC {bits}": lambda g=g, centre=centre, top=top: remez(
                lambda t: erfc_exponent(t, centre),
                lambda t: mpmath.erfc(t + centre),
                1 - centre,
                top - centre,
                g,
            ),
        }
    for name, fit in fits.items():
        coefficients, error = fit()
        print(f"{name}: {float(mpmath.log(error, 2)):.1f} bits")
        for c in coefficients:
            print(f"    {mpmath.nstr(c, 20)},")


if __name__ == "__main__":
    main()
