"""Formulas: the records' LaTeX with names or numbers in place of its letters, and LaTeX as plain text."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from backstory.ops import Op

__all__ = ["bracketed", "filled", "latex_number", "letters", "plain", "tidied", "with_parameters"]

COMMANDS = {
    "sum": "Σ", "prod": "∏", "int": "∫", "partial": "∂", "nabla": "∇", "top": "ᵀ", "infty": "∞", "pi": "π",
    "ge": "≥", "le": "≤", "ne": "≠", "neg": "¬", "wedge": "∧", "vee": "∨", "in": "∈", "to": "→", "lvert": "|",
    "rvert": "|", "lVert": "‖", "rVert": "‖", "|": "‖", "cdot": "·", "times": "×", "odot": "⊙", "pm": "±",
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "varepsilon": "ε", "zeta": "ζ",
    "eta": "η", "theta": "θ", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "rho": "ρ",
    "sigma": "σ", "tau": "τ", "phi": "φ", "varphi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ",
    "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω",
    "quad": " ", ",": " ", ";": " ", " ": " ", "!": "", "#": "#", "%": "%", "{": "{", "}": "}", "_": "_",
    "left": "", "right": "", "bigl": "", "bigr": "", "displaystyle": "", "lfloor": "⌊", "rfloor": "⌋",
    "lceil": "⌈", "rceil": "⌉", "mid": "|", "neq": "≠", "leq": "≤", "geq": "≥", "dots": "…", "ldots": "…",
    "oplus": "⊕", "bigvee": "⋁", "bigwedge": "⋀", "bmod": "mod",
}  # fmt: skip
GREEK = {name for name, sign in COMMANDS.items() if "GREEK SMALL" in unicodedata.name(sign[:1] or " ")}
UPPER = dict(zip("0123456789+-−()ᵀniTxyz", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁽⁾ᵀⁿⁱᵀˣʸᶻ", strict=True))
LOWER = dict(zip("0123456789ijknmx+-−=", "₀₁₂₃₄₅₆₇₈₉ᵢⱼₖₙₘₓ₊₋₋₌", strict=True))
ACCENTS = {"hat": "\u0302", "bar": "\u0304", "tilde": "\u0303", "dot": "\u0307"}
TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[{}^_]|\s+|[A-Za-z]+|[\d.]+|.", re.DOTALL)
PARAMETERS = {"negative_slope": r"\alpha", "alpha": r"\alpha", "beta": r"\beta"}
DEFAULTS = {("leaky_relu", "negative_slope"): 0.01, ("softplus", "beta"): 1.0, ("elu", "alpha"): 1.0}
ROOT = re.compile(r"^√\([^()]*\)$")
PLAIN_GROUPS = ("mathrm", "mathbf", "mathtt", "mathit", "text", "operatorname", "boldsymbol", "mathbb")
OPERATORS = re.compile(r"[-−+·×⊙/=<> ]|.√")


def letters(op: Op) -> tuple[str, ...]:
    """The letters that stand for the arguments in the record's formula.

    >>> from backstory.ops import TABLE
    >>> letters(TABLE["linear"]), letters(TABLE["relu"])
    (('x', 'W', 'b'), ('x',))
    """
    return op.letters or ("x", "y", "z")[: op.arguments]


def with_parameters(latex: str, op: Op, params: Mapping[str, Any]) -> str:
    r"""``latex`` with the numbers that its Greek letters stand for.

    >>> from backstory.ops import TABLE
    >>> softplus = TABLE["softplus"]
    >>> plain(with_parameters(softplus.formula, softplus, {"beta": 2.0}))
    '½·ln(1 + e^(2·x))'
    >>> plain(with_parameters(softplus.formula, softplus, {}))
    'ln(1 + eˣ)'
    """
    for name, letter in PARAMETERS.items():
        value = params.get(name, DEFAULTS.get((op.name, name)))
        if value == 1:
            latex = re.sub(rf"\\frac\{{1\}}\{{{re.escape(letter)}\}} ?|{re.escape(letter)} ?", "", latex)
        elif value is not None:
            latex = latex.replace(letter, latex_number(value))
    return latex


def filled(latex: str, values: Mapping[str, str]) -> str:
    r"""``latex`` with each single letter of ``values`` replaced; letters within commands and words stay.

    >>> filled(r"\max(x, 0) + y", {"x": "z_{1}", "y": "2"})
    '\\max(z_{1}, 0) + 2'
    >>> filled(r"x y", {"x": "3", "y": "-2"}), filled(r"x_i", {"x": "v_{1}"})
    ('3 \\cdot \\left(-2\\right)', '{v_{1}}_i')
    """
    if not values:
        return latex
    kept: list[str] = []

    def put_aside(match: re.Match[str]) -> str:
        kept.append(match.group())
        return f"\0{len(kept) - 1}\0"

    def put(match: re.Match[str]) -> str:
        value = values[match.group(1)]
        before, after = match.string[: match.start()].rstrip(), match.string[match.end() :][:1]
        if (after == "^" or before[-1:] not in ("", "(", "[", "{", ",")) and value.startswith("-"):
            return bracketed(value)
        return f"{{{value}}}" if after and after in "_^" and after in value else value

    names = "|".join(re.escape(name) for name in values)
    aside = re.sub(r"\\(?:text|mathrm|operatorname|mathtt|mathit)\{[^{}]*\}", put_aside, latex)
    done = re.sub(rf"(?<![\\A-Za-z])({names})(?![A-Za-z])", put, aside)
    done = re.sub(r"(\\[A-Za-z]+|[\w})]) (?=\d|\\left\(-)", _dotted, done)
    done = re.sub(r"(?<=[\w})])\s*(?:\\,)? (?=\\text\{[^ ])|(?<=\w\}) (?=\w)", r" \\, ", done)
    return re.sub(r"\0(\d+)\0", lambda match: kept[int(match.group(1))], done)


def _dotted(match: re.Match[str]) -> str:
    """A dot between two factors the second of which is a number; none after a sign such as \\le."""
    return match.group() if match.group(1).startswith("\\") else rf"{match.group(1)} \cdot "


def tidied(latex: str) -> str:
    r"""Sums of plain numbers in exponents added up, exponents of 1 and double transposes dropped.

    >>> tidied("2 v^{2-1}"), tidied("3 v^{3-1}"), tidied(r"G\,{W^{\top}}^{\top}")
    ('2 v', '3 v^{2}', 'G\\,W')
    """
    added = re.sub(
        r"\^\{(-?[\d.]+)-1\}", lambda match: f"^{{{latex_number(float(match.group(1)) - 1)}}}", latex
    )
    twice = re.sub(r"\{?([^{}^ ]*(?:_\{\d+\})?)\^\{\\top\}\}?\^\{\\top\}", r"\1", added)
    return re.sub(r"\^\{1\}", "", twice)


def bracketed(latex: str) -> str:
    """``latex`` in parentheses if it is a sum, a negative number or says it in words."""
    if r"\text{ if" in latex:
        return rf"\left({latex}\right)"
    bare = re.sub(r"\{[^{}]*\}|\([^()]*\)|\[[^\[\]]*\]", "", latex)
    return rf"\left({latex}\right)" if re.search(r"(?<!\\times 10\^)[-+=]", bare) else latex


def latex_number(value: float, digits: int = 4) -> str:
    """A number with ``digits`` significant digits.

    >>> latex_number(0.5), latex_number(-1.0), latex_number(1.5e-7)
    ('0.5', '-1', '1.5 \\\\times 10^{-7}')
    """
    value = float(value)
    if math.isnan(value):
        return r"\mathrm{nan}"
    if math.isinf(value):
        return r"\infty" if value > 0 else r"-\infty"
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return "0" if text == "-0" else text
    mantissa, exponent = text.split("e")
    return rf"{mantissa} \times 10^{{{int(exponent)}}}"


def plain(latex: str) -> str:
    r"""LaTeX as one line of text, with the signs that Unicode has.

    >>> plain(r"\frac{\partial L}{\partial w}"), plain(r"W_{1}^{\top} \delta_{2}"), plain(r"2 x^{2}")
    ('∂L/∂w', 'W₁ᵀ·δ₂', '2·x²')
    >>> plain(r"-\frac{x}{y^2}"), plain(r"\mathbf{1}[x > 0]"), plain(r"\hat{y} - y")
    ('−x/y²', '1[x > 0]', 'ŷ − y')
    """
    reader = _Reader(TOKEN.findall(latex))
    text = _joined(reader.group())
    return unicodedata.normalize("NFC", re.sub(r"\s+", " ", text).strip())


class _Reader:
    """Reads tokens into pieces of text; a piece of one blank is a space that may mean a product."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = list(tokens)
        self._at = 0

    def group(self, closing: str = "") -> list[str]:
        """The pieces up to ``closing`` or the end."""
        pieces: list[str] = []
        while self._at < len(self._tokens):
            token = self._next()
            if token == closing:
                break
            pieces += self._piece(token, pieces)
        return pieces

    def _next(self) -> str:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _argument(self) -> str:
        """The next group as text, or the next sign."""
        while self._at < len(self._tokens) and self._tokens[self._at].isspace():
            self._at += 1
        if self._at == len(self._tokens):
            return ""
        token = self._next()
        if token == "{":
            return _joined(self.group("}")).strip()
        if len(token) > 1 and token[0] != "\\":  # \tfrac12: one sign at a time
            self._tokens.insert(self._at, token[1:])
            token = token[0]
        return _joined(self._piece(token, []))

    def _words(self) -> str:
        """The next group as it stands."""
        end = self._tokens.index("}", self._at)
        words = "".join(self._tokens[self._at + 1 : end])
        self._at = end + 1
        return re.sub(r"\\(.)", r"\1", words)

    def _piece(self, token: str, before: list[str]) -> list[str]:
        if token.isspace() or token in (r"\,", r"\;", r"\ ", r"\quad"):
            return [" "]
        if token == "{":
            return self.group("}")
        if token in ("^", "_"):
            return [_shifted(self._argument(), token)]
        if token[0] != "\\":
            return ["−" if token == "-" else token]
        name = token[1:]
        if name in ("frac", "tfrac", "dfrac"):
            return [_fraction(self._argument(), self._argument()), " "]
        if name == "sqrt":
            inner = self._argument()
            return [f"√{inner}" if len(inner) == 1 else f"√({inner})"]
        if name in ACCENTS:
            return [self._argument() + ACCENTS[name]]
        if name == "text":
            return [self._words()]
        if name in PLAIN_GROUPS:
            return [self._argument()]
        return [COMMANDS.get(name, name)]


def _fraction(above: str, below: str) -> str:
    if (above, below) == ("1", "2"):
        return "½"
    return "/".join(f"({part})" if OPERATORS.search(ROOT.sub("", part)) else part for part in (above, below))


def _shifted(text: str, sign: str) -> str:
    table, text = (UPPER, re.sub(r" ?([−+]) ?", r"\1", text)) if sign == "^" else (LOWER, text)
    if all(letter in table for letter in text):
        return "".join(table[letter] for letter in text)
    if sign == "_":
        return f"[{text.replace('·', ', ')}]"
    return f"^{text}" if len(text) == 1 else f"^({text})"


def _joined(pieces: list[str]) -> str:
    """The pieces in a row; a space between two factors becomes a product dot."""
    out = ""
    for i, piece in enumerate(pieces):
        if piece != " ":
            out += piece
            continue
        if out.endswith((" ", "·")):
            continue
        following = next((other for other in pieces[i + 1 :] if other.strip()), "")
        left, right = out.rstrip()[-1:], following[:1]
        factor = (left.isalnum() or left in ")]ᵀ'½" or _is_script(left)) and (
            right.isalnum() or right in ("(", "½", "∂", "√", "Σ", "∏", "⌊", "⌈")
        )
        named = out.rstrip(SCRIPTS).endswith(FUNCTIONS)
        prose = following in PROSE or out.endswith(tuple(f" {word}" for word in PROSE))
        out = out.rstrip() + ("·" if factor and not named and not prose else " ")
    out = re.sub(r"\s*·\s*", "·", re.sub(r"([(∂¬⌊⌈]) | (?=[)⌋⌉])", lambda match: match.group(1) or "", out))
    return (
        re.sub(r"\s*([=<>≥≤≠+−×⊙])\s*", _spaced, out)
        .replace(" ,", ",")
        .replace(" : = ", " := ")
        .replace(": = ", " := ")
    )


def _spaced(match: re.Match[str]) -> str:
    """Binary signs stand between blanks; a sign after nothing or an opening stands close."""
    before = match.string[: match.start()].rstrip()
    sign = match.group(1)
    if sign in "+−" and (not before or before[-1] in "([,=<>·×⊙⁽^/"):
        return f" {sign}" if before and before[-1] in ",=<>×⊙" else sign
    return f" {sign} "


def _is_script(letter: str) -> bool:
    return bool(letter) and letter in SCRIPTS


SCRIPTS = "".join([*UPPER.values(), *LOWER.values()])
FUNCTIONS = (
    "ln",
    "log",
    "exp",
    "sin",
    "cos",
    "tan",
    "tanh",
    "sinh",
    "cosh",
    "max",
    "min",
    "arg",
    "sgn",
    "Σ",
    "∏",
    "⋁",
    "⋀",
    "erf",
)
PROSE = ("if", "else", "where", "when", "and", "or", "for", "mod", "∧", "∨", "⊕", "/")
