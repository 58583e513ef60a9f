"""Texts in every script: what matplotlib's own font lacks is drawn in an installed one that has it."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

from matplotlib import font_manager, rcParams
from matplotlib.figure import Figure
from matplotlib.text import Text

__all__ = ["Sheet", "families"]

KNOWN = (
    "Noto Sans CJK KR", "Noto Sans KR", "Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans KR",
    "Apple SD Gothic Neo", "Malgun Gothic", "NanumGothic", "NanumBarunGothic", "UnDotum", "Baekmuk Gulim",
    "Noto Serif CJK KR", "Noto Serif CJK JP", "Hiragino Sans", "Yu Gothic", "Microsoft YaHei", "PingFang SC",
    "WenQuanYi Zen Hei",
)  # fmt: skip
"""Fonts with Hangul, Kana and Han, those with Hangul first."""


@cache
def families() -> tuple[str, ...]:
    """The installed fonts of :data:`KNOWN`."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return tuple(name for name in KNOWN if name in installed)


def wide(text: str) -> bool:
    """Whether the text has letters of East Asian scripts.

    >>> wide("층 이름"), wide("layer")
    (True, False)
    """
    return any(unicodedata.east_asian_width(letter) in "WF" for letter in text)


class Sheet(Figure):
    """A figure whose texts fall back on an installed font for the scripts that matplotlib's own lacks."""

    def draw(self, renderer: Any) -> None:
        """Choose fonts, then draw."""
        for text in self.findobj(Text):
            if wide(text.get_text()) and families():
                text.set_fontfamily([*rcParams["font.family"], *families()[:1]])
        super().draw(renderer)
