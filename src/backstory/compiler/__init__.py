"""Whole steps as native code: a trace of what a function does to arrays, made into fused loops.

``graph`` is what everything here reads and writes: a trace makes one, passes turn one into another, and a
program runs one.
"""

from backstory.compiler.step import CacheInfo, Step, compile

__all__ = ["CacheInfo", "Step", "compile"]
