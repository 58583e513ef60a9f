"""Elementary functions that vectorise: straight code in LLVM's language, float32 and float64.

A call of the C library's ``exp`` keeps a loop scalar; the code here is inlined, has neither branches nor
calls, and is wrong by at most a few units in the last place, NaN and infinities included
(``benchmarks/mathematics.py`` measures it against 50 digits). The polynomials are minimax fits, made by
``benchmarks/polynomials.py``. What is not written here is the C library's, right and slow.

Every function is defined as ``backstory.<name>.f32`` and ``.f64``; :func:`definitions` gives their text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from backstory.compiler.scalar_code import Float, Width, Writer

__all__ = ["ARITIES", "COMPOSED", "LIBRARY", "VECTORISED", "definitions"]

F32 = Width("f32", "float", "i32", 32, 23, 127, "f")
F64 = Width("f64", "double", "i64", 64, 52, 1023, "d")
INFINITY, NAN = float("inf"), float("nan")
LOG2_E = 1.4426950408889634
# ln 2 in two parts, the first so short that its product with an exponent is exact.
LN2 = {
    32: (0.693359375, -2.12194440054690583e-4),
    64: (6.93147180369123816490e-01, 1.90821492927058770002e-10),
}
# (exp(r) − 1 − r) / r² on |r| ≤ ln 2 / 2
EXP = {
    32: (
        0.50000000447723219768,
        0.16666666815992913005,
        0.04166635860587172639,
        0.0083332731748061456963,
        0.0013940800458440822271,
        0.00019914148166248973064,
    ),
    64: (
        0.5,
        0.16666666666666676326,
        0.041666666666666700141,
        0.0083333333333217750508,
        0.001388888888886722464,
        0.00019841269885857649565,
        0.000024801587360037989904,
        2.7557244406544082202e-6,
        2.7557243065137049984e-7,
        2.510898869841851592e-8,
        2.0924379059253918248e-9,
    ),
}
# (2 artanh(s) − 2 s) / s³ in s², for (1 + s) / (1 − s) between √½ and √2
LOG = {
    32: (
        0.66666665641757782085,
        0.40000336132495367859,
        0.28537243147575753859,
        0.23583486766321358336,
    ),
    64: (
        0.66666666666667348071,
        0.39999999999411553911,
        0.28571428743176186999,
        0.22222198483752096299,
        0.18183569378588453706,
        0.15313911643569670081,
        0.14797430530464498524,
    ),
}
# erf(x) / x in x², for |x| ≤ 1
ERF = {
    32: (
        1.1283791657270887858,
        -0.37612625825101132362,
        0.11283585150676003672,
        -0.026853811846397497494,
        0.0051883273195152209635,
        -0.00080101892472744236817,
        0.000078538440458998214371,
    ),
    64: (
        1.1283791670955125737,
        -0.37612638903183747604,
        0.11283791670954857469,
        -0.026866170645072891167,
        0.0052239776247808346541,
        -0.00085483269787405676193,
        0.00012055331036846668256,
        -0.000014925593505766363022,
        1.6460972801190717729e-6,
        -1.6350025076223881226e-7,
        1.4657878989888878528e-8,
        -1.1365663136628493368e-9,
        5.9452576939415425229e-11,
    ),
}
# −log(1 − erf(x)) − x² in x − centre, for x from 1 to where erf(x) is 1; each with its centre and that end
ERFC = {
    32: (
        (2.5, 4.0),
        (
            1.5568178032394850394,
            0.35269397394751508836,
            -0.056114615259983824911,
            0.010717777198471075197,
            -0.0024577810028383561817,
            0.00015600037602897155026,
            -0.00018557359899752837309,
        ),
    ),
    64: (
        (3.5, 6.0),
        (
            1.8624374021415122571,
            0.26609958826212607162,
            -0.033246945535422384599,
            0.0052256591534640684669,
            -0.0008736812847585044538,
            0.00014730873488006781282,
            -0.000024383860100423340853,
            3.8679717873072332029e-6,
            -6.2432434838883987341e-7,
            5.2353648945640262054e-8,
            -1.095250930871881656e-8,
            1.7180411740447491991e-8,
            1.6743217277470694497e-8,
            9.0893889885686682915e-9,
            3.1441572868908051905e-9,
            6.8136177618016466587e-10,
            8.7440477798813308541e-11,
            4.8651688689452686626e-12,
        ),
    ),
}


def _reduced(x: Float) -> tuple[Float, Float]:
    """k and r with x = k ln 2 + r and |r| ≤ ln 2 / 2, for x well within the exponents."""
    w = x.writer
    high, low = LN2[w.width.bits]
    k = w.fused(x, LOG2_E, w.width.magic) - w.width.magic
    return k, w.fused(k, -low, w.fused(k, -high, x))


def _power_of_two(k: Float) -> Float:
    """2ᵏ for an integer k within the normal exponents."""
    width = k.writer.width
    return (((k + width.magic).bits << width.fraction) + (width.bias << width.fraction)).float


def _exp_tail(r: Float) -> Float:
    """exp(r) − 1 for |r| ≤ ln 2 / 2."""
    w = r.writer
    return w.fused(r * r, w.polynomial(r, EXP[w.width.bits]), r)


def exp(x: Float) -> Float:
    """e to the power x."""
    w = x.writer
    k, r = _reduced(x.clamped(*((-104.0, 89.0) if w.width.bits == 32 else (-746.0, 710.0))))
    half = w.fused(k, 0.5, w.width.magic) - w.width.magic
    # In two steps, for neither 2 to the 128 nor 2 to the −149 has an exponent of its own.
    return (_exp_tail(r) + 1.0) * _power_of_two(half) * _power_of_two(k - half)


def expm1(x: Float) -> Float:
    """exp(x) − 1, also for small x."""
    w = x.writer
    k, r = _reduced(x.clamped(*((-40.0, 89.0) if w.width.bits == 32 else (-60.0, 710.0))))
    half = _power_of_two(k - 1.0)
    value = w.fused(_exp_tail(r), half, half - 0.5) * 2.0
    return w.choose(abs(x) < (1e-10 if w.width.bits == 32 else 1e-18), x, value)


def log(x: Float) -> Float:
    """The natural logarithm."""
    w, width = x.writer, x.writer.width
    subnormal = x < 2.0 ** (1 - width.bias)
    scaled = w.choose(subnormal, x * 2.0**width.fraction, x)
    # Exponent and mantissa, parted at √½ instead of ½, so that the mantissa is from √½ to √2.
    root = 0x3F3504F3 if width.bits == 32 else 0x3FE6A09E667F3BCD
    moved = scaled.bits + ((width.bias << width.fraction) - root)
    counted = (moved >> width.fraction) | w.float(2.0**width.fraction).bits
    k = counted.float - (2.0**width.fraction + width.bias) - w.choose(subnormal, float(width.fraction), 0.0)
    f = ((moved & (2**width.fraction - 1)) + root).float - 1.0
    s = f / (f + 2.0)
    z = s * s
    rest = z * w.polynomial(z, LOG[width.bits])
    half_square = f * f * 0.5
    high, low = LN2[width.bits]
    value = w.fused(s, half_square + rest, k * low) - half_square + f + k * high
    value = w.choose(x >= 0.0, value, NAN)
    value = w.choose(x.equals(0.0), -INFINITY, value)
    return w.choose(x.equals(INFINITY), INFINITY, value)


def log1p(x: Float) -> Float:
    """log(1 + x), also for small x."""
    w = x.writer
    u = x + 1.0
    value = log(u) + (x - (u - 1.0)) / u
    value = w.choose(u.equals(0.0), -INFINITY, value)
    value = w.choose(u.equals(INFINITY), INFINITY, value)
    return w.choose(abs(x) < (1e-10 if w.width.bits == 32 else 1e-18), x, value)


def tanh(x: Float) -> Float:
    """The hyperbolic tangent."""
    t = expm1(abs(x).clamped(0.0, 10.0 if x.writer.width.bits == 32 else 20.0) * 2.0)
    return (t / (t + 2.0)).with_sign_of(x)


def sigmoid(x: Float) -> Float:
    """1 / (1 + exp(−x)), also where exp(−x) overflows."""
    e = exp(-abs(x))
    return x.writer.choose(x >= 0.0, 1.0, e) / (e + 1.0)


def erf(x: Float) -> Float:
    """2 / √π · ∫₀ˣ exp(−t²) dt."""
    w = x.writer
    (centre, end), coefficients = ERFC[w.width.bits]
    a = abs(x).clamped(0.0, end)
    small = a * w.polynomial(a * a, ERF[w.width.bits])
    large = 1.0 - exp(-w.fused(a, a, w.polynomial(a - centre, coefficients)))
    return w.choose(a < 1.0, small, large).with_sign_of(x)


def sign(x: Float) -> Float:
    """−1, 0 or 1; NaN of NaN."""
    w = x.writer
    return w.choose(x > 0.0, 1.0, w.choose(x < 0.0, -1.0, x + 0.0))  # and −0 becomes 0


def logaddexp(x: Float, y: Float) -> Float:
    """log(eˣ + eʸ), also where eˣ overflows."""
    w = x.writer
    value = w.choose(x > y, x, y) + log1p(exp(-abs(x - y)))
    return w.choose(x.equals(y), x + 0.6931471805599453, value)  # also of two infinities


def _divided(x: Float, y: Float) -> tuple[Float, Float]:
    """⌊x / y⌋ and what is left, as NumPy has them: the rest has the sign of y."""
    w = x.writer
    rest = w.library("fmod", x, y)
    quotient = (x - rest) / y
    crossed = ((y < 0.0) ^ (rest < 0.0)) & rest.differs(0.0)
    quotient = w.choose(crossed, quotient - 1.0, quotient)
    remainder = w.choose(crossed, rest + y, w.choose(rest.equals(0.0), w.float(0.0).with_sign_of(y), rest))
    whole = w.intrinsic("floor", quotient)
    whole = w.choose(quotient - whole > 0.5, whole + 1.0, whole)
    whole = w.choose(quotient.equals(0.0), w.float(0.0).with_sign_of(x / y), whole)
    by_zero = y.equals(0.0)
    return w.choose(by_zero, x / y, whole), w.choose(by_zero, rest, remainder)


def floor_divide(x: Float, y: Float) -> Float:
    """The largest integer that is not above x / y."""
    return _divided(x, y)[0]


def remainder(x: Float, y: Float) -> Float:
    """What is left of x when y was taken away as often as it goes; it has the sign of y."""
    return _divided(x, y)[1]


def _intrinsic(name: str) -> Callable[..., Float]:
    return lambda *arguments: arguments[0].writer.intrinsic(name, *arguments)


VECTORISED: dict[str, Callable[..., Float]] = {
    "abs": _intrinsic("fabs"),
    "ceil": _intrinsic("ceil"),
    "erf": erf,
    "exp": exp,
    "expm1": expm1,
    "floor": _intrinsic("floor"),
    "log": log,
    "log1p": log1p,
    "logaddexp": logaddexp,
    # Either is NaN where one of the two is, unlike the built-in functions.
    "maximum": _intrinsic("maximum"),
    "minimum": _intrinsic("minimum"),
    "round": _intrinsic("roundeven"),
    "sigmoid": sigmoid,
    "sign": sign,
    "sqrt": _intrinsic("sqrt"),
    "tanh": tanh,
    "trunc": _intrinsic("trunc"),
}
"""Functions whose loops vectorise."""

COMPOSED: dict[str, Callable[..., Float]] = {"floor_divide": floor_divide, "remainder": remainder}
"""Functions written here on the C library's: loops around them stay scalar."""

LIBRARY = (
    *("acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cos", "cosh", "erfc", "fmod", "hypot"),
    *("log10", "log2", "pow", "sin", "sinh", "tan"),
)
"""Functions of the C library, by their names there: loops around them stay scalar."""

_OF_TWO = ("accumulate", "atan2", "fmod", "hypot", "logaddexp", "maximum", "minimum", "pow", *COMPOSED)
ARITIES: dict[str, int] = dict.fromkeys((*VECTORISED, *LIBRARY), 1) | dict.fromkeys(_OF_TWO, 2)
"""How many arguments each function takes."""


def definitions(names: Iterable[str]) -> str:
    """LLVM's text of the functions of these names (``exp.f32``): to be put into the module that calls them.

    >>> print(definitions(["sqrt.f64"]))
    declare double @llvm.sqrt.f64(double)
    define internal double @backstory.sqrt.f64(double %x0) alwaysinline {
      %v0 = call double @llvm.sqrt.f64(double %x0)
      ret double %v0
    }
    """
    declared: set[str] = set()
    bodies: list[str] = []
    for name in sorted(set(names)):
        needs, body = _definition(name)
        declared |= needs
        bodies.append(body)
    return "\n".join((*sorted(declared), *bodies))


@cache
def _definition(full_name: str) -> tuple[frozenset[str], str]:
    name, _, suffix = full_name.partition(".")
    width = F32 if suffix == "f32" else F64
    kind = width.type
    parameters = [f"%x{i}" for i in range(ARITIES[name])]
    writer = Writer(width)
    written = VECTORISED.get(name) or COMPOSED.get(name)
    if written is not None:
        result = written(*(Float(writer, x) for x in parameters)).name
    elif name == "accumulate":
        # A sum's order is free, which is what lets its loop run several sums at once.
        result = writer.emit(f"fadd reassoc {kind} %x0, %x1")
    else:
        result = writer.library(name, *(Float(writer, x) for x in parameters)).name
    listed = ", ".join(f"{kind} {x}" for x in parameters)
    head = f"define internal {kind} @backstory.{full_name}({listed}) alwaysinline {{"
    return frozenset(writer.declared), "\n".join((head, *writer.lines, f"  ret {kind} {result}", "}"))
