"""How numbers are written: few digits, and a minus sign that is one."""

from __future__ import annotations

import math
import re

__all__ = ["count", "fixed", "number", "percent", "signed", "typographic"]


def typographic(text: str) -> str:
    """Hyphens before numbers become minus signs.

    >>> typographic("top-5 accuracy -0.5, 1e-03")
    'top-5 accuracy −0.5, 1e−03'
    """
    return re.sub(r"(?<![^\W\d_])-(?=[\d.])|(?<=\de)-(?=\d)|(?<!\w)-(?=inf|nan)", "−", text)


def number(value: float) -> str:
    """Three significant digits.

    >>> number(-0.0012345), number(-0.0), number(float("-inf"))
    ('−0.00123', '0', '−∞')
    """
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value + 0.0:.3g}".replace("-", "−") if value == value else "NaN"


def signed(value: float) -> str:
    """Three significant digits, and always a sign but for 0.

    >>> signed(0.05), signed(-0.05), signed(0.0)
    ('+0.05', '−0.05', '0')
    """
    return "+" + number(value) if value > 0 else number(value)


def fixed(value: float) -> str:
    """Three decimals, as in a column of numbers of one kind; very large and very small ones as elsewhere.

    >>> fixed(0.34), fixed(-2.0), fixed(1.5e-7)
    ('0.340', '−2.000', '1.5e−07')
    """
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.3f}".replace("-", "−")
    return number(value)


def percent(share: float) -> str:
    """A share in whole percent.

    >>> percent(0.895)
    '90%'
    """
    return f"{share:.0%}"


def count(value: int) -> str:
    """Thousands apart.

    >>> count(12345)
    '12,345'
    """
    return f"{value:,}"
