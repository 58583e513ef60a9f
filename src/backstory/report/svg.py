"""A matplotlib figure as SVG that stands within a page: no references outside, colours from the page."""

from __future__ import annotations

import io
import re
import warnings
from html import escape
from typing import TYPE_CHECKING, Any

from backstory.plots.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["inline_svg"]

TAG = re.compile(r"<[^>]*>")
COLOURS = {colour: f"var(--{name})" for name, colour in LIGHT.items()}


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """The figure's SVG element, safe to put into HTML as it is.

    Text stays text, in the page's font. ``name`` makes its ids differ from those of the page's other
    pictures; ``label`` describes it to who cannot see it. Colours of the palette become variables of
    the page's style, so that a dark scheme can change them.
    """
    text = _saved(figure)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)[\")]", "".join(TAG.findall(text))))
    text = TAG.sub(lambda tag: _tag(tag.group(), name, used), text)
    width, height = (72 * size for size in figure.get_size_inches())
    root = (
        f'<svg class="picture" viewBox="0 0 {width:g} {height:g}" style="max-width: {1.15 * width:.0f}px"'
        f' role="img" aria-label="{escape(label)}">'
    )
    text = re.sub(r"^<svg[^>]*>", lambda _: root, text)
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def _saved(figure: Figure) -> str:
    import matplotlib

    stream = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "backstory", "axes.unicode_minus": True}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The browser draws the text, in fonts that have what matplotlib's own may lack.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def _tag(tag: str, name: str, used: set[str]) -> str:
    """One tag, with ids of its own, without namespaces, fonts and needless digits."""

    def renamed(match: re.Match[str]) -> str:
        return f' id="{name}-{match.group(1)}"' if match.group(1) in used else ""

    if tag.startswith("<image"):
        tag = tag.replace("\n", "")
    tag = re.sub(r' xmlns(:\w+)?="[^"]*"', "", tag).replace("xlink:href", "href")
    tag = re.sub(r' id="([^"]*)"', renamed, tag)
    tag = re.sub(r'(href="|url\()#', rf"\1#{name}-", tag)
    tag = re.sub(r' (?:d|x|y)="[^"]*"', lambda match: _rounded(match.group()), tag)
    tag = re.sub(r"font: (?:(\d+|bold) )?([\d.]+px) [^;\"]*", _font, tag)
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)
    return re.sub(r"#[0-9a-f]{6}\b", lambda match: COLOURS.get(match.group(), match.group()), tag)


def _rounded(numbers: str) -> str:
    return re.sub(r"-?\d+\.\d{3,}", lambda match: f"{float(match.group()):.2f}", numbers)


def _font(match: re.Match[str]) -> str:
    weight = f"font-weight: {match.group(1)}; " if match.group(1) else ""
    return f"{weight}font-size: {match.group(2)}"
