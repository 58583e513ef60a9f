"""Every error that backstory raises on purpose.

An error says what was received, why it cannot work and what to write instead, and it is raised
before anything has changed. Each class also is the built-in error that PyTorch or Python would
raise, so that existing ``except`` clauses keep working.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "BackstoryError",
    "BoundsError",
    "DataError",
    "DtypeError",
    "GradcheckError",
    "GraphError",
    "LabelError",
    "MissingExtraError",
    "ReplayError",
    "RunError",
    "ShapeError",
    "SourceChangedError",
    "TraceError",
    "VersionError",
]


class BackstoryError(Exception):
    """The base of every error here.

    ``what`` names the function and what it received, ``why`` says why that cannot work and
    ``instead`` what to write.
    """

    def __init__(self, what: str, *, why: str, instead: str) -> None:
        super().__init__(f"{what}\n  why: {why}\n  instead: {instead}")
        self.what, self.why, self.instead = what, why, instead

    def __reduce__(self):
        return _rebuild, (type(self), self.what, self.why, self.instead)


def _rebuild(kind: type[BackstoryError], what: str, why: str, instead: str) -> BackstoryError:
    return kind(what, why=why, instead=instead)


class ArgumentError(BackstoryError, ValueError):
    """An argument has the right type and a value that makes no sense."""


class ShapeError(BackstoryError, ValueError, RuntimeError):
    """Shapes do not fit each other or the operation."""


class BoundsError(ShapeError, IndexError):
    """An axis or an index lies outside the tensor."""


class DtypeError(BackstoryError, TypeError, RuntimeError):
    """A dtype does not fit the operation."""


class LabelError(BackstoryError, IndexError):
    """A class label lies outside the classes that exist."""


class GraphError(BackstoryError, RuntimeError):
    """The graph cannot be walked as asked: no history, freed, or not a scalar."""


class VersionError(GraphError):
    """A value that the backward walk needs was changed in place."""


class TraceError(GraphError):
    """A step cannot be compiled as it is written."""


class GradcheckError(GraphError):
    """A gradient is not what differences of the function say."""


class DataError(BackstoryError, ValueError):
    """A data file is missing, cut off, damaged, or of another format."""


class RunError(BackstoryError, RuntimeError):
    """A run folder cannot be created, opened or read."""


class ReplayError(RunError):
    """A run cannot be rerun, or its rerun parted from the recording."""


class SourceChangedError(ReplayError):
    """The train function is not the one that was recorded."""


class MissingExtraError(BackstoryError, ImportError):
    """An optional library is needed and not installed."""

    @classmethod
    def of(cls, library: str, extra: str, purpose: str) -> MissingExtraError:
        """The error for a missing ``library``, naming the extra that brings it."""
        return cls(
            f"{purpose} needs {library}, which is not installed",
            why="backstory itself needs little; optional parts bring their own libraries",
            instead=f"pip install 'backstory[{extra}]'",
        )
