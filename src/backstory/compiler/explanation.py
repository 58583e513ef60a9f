"""What ``step.explain()`` and ``step.source`` tell of a compiled step."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

__all__ = ["Explanation"]


@dataclass(frozen=True)
class Explanation:
    """One program of a step, for people."""

    name: str
    bound: Any
    cache: Any

    @property
    def source(self) -> str:
        """The Python of a call, and of the kernels where there are any."""
        own = getattr(self.bound.program, "source", None)
        parts = [f"# A call of {self.name}", self.bound.source]
        return "\n\n".join([*parts, own] if own else parts)

    def __str__(self) -> str:
        program = getattr(self.bound.program, "explain", None)
        sections = [
            self._arguments(),
            ("Reads and changes", self._inputs()),
            ("Numbers read in every call", self._numbers()),
            ("Random draws", [f"{x.label}: {_kind(x.value)}" for x in self._inputs_of("draw")]),
            ("Holds while", self._guards()),
            ("Returns and leaves", self._outputs()),
            ("Operations", self._operations()),
            ("Cache", [f"{key} {value}" for key, value in self.cache._asdict().items()]),
        ]
        lines = [self.name]
        for title, rows in sections:
            if rows:
                lines += ["", title, *(f"  {row}" for row in rows)]
        if program is not None:
            lines += ["", str(program())]
        return "\n".join(lines)

    def _inputs_of(self, kind: str) -> list[Any]:
        return [x for x in self.bound.graph.inputs if x.kind == kind]

    def _arguments(self) -> tuple[str, list[str]]:
        return "Arguments", [f"{x.label}: {_kind(x.value)}" for x in self._inputs_of("argument")]

    def _inputs(self) -> list[str]:
        changed = {id(out.into) for out in self.bound.graph.outputs if out.into is not None}
        return [
            f"{x.label or 'tensor'}: {_kind(x.value)}" + (", changed" if id(x) in changed else "")
            for x in (*self._inputs_of("argument"), *self._inputs_of("state"))
            if x.kind == "state" or id(x) in changed
        ]

    def _numbers(self) -> list[str]:
        return [x.label for x in self.bound.graph.numbers]

    def _guards(self) -> list[str]:
        grad, inference, _, dtype = self.bound.modes
        rows = [f"gradients {'enabled' if grad else 'disabled'}, default dtype {dtype}"]
        rows += ["inference mode"] if inference else []
        rows += [f"{label} == {value!r}" for label, value in self.bound.asked]
        for look in self.bound.looks:
            plain = isinstance(look.value, (bool, int, float, str, type(None)))
            rows.append(
                f"{look.key} == {look.value!r}" if plain else f"{look.key} is the same {_type(look.value)}"
            )
        training = Counter("training" if m.training else "evaluation" for m in self.bound.modules)
        return rows + [f"{count} modules as they are, in {mode} mode" for mode, count in training.items()]

    def _outputs(self) -> list[str]:
        return [f"{x.label}: {_kind(x.value)}" for x in self.bound.graph.outputs if x.into is None]

    def _operations(self) -> list[str]:
        """The operations in the order of their first use, with where they come from."""
        rows: dict[tuple[Any, ...], int] = {}
        for value in self.bound.graph.values:
            origin = value.origin
            place = "" if origin.line is None else f"{origin.line[0].rpartition('/')[2]}:{origin.line[1]}"
            key = (origin.phase, origin.operation, origin.path, place)
            rows[key] = rows.get(key, 0) + 1
        return [
            " ".join(filter(None, (phase, operation, path and f"at {path}", place and f"({place})")))
            + f": {count} primitive{'s' if count > 1 else ''}"
            for (phase, operation, path, place), count in rows.items()
        ]


def _kind(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}"


def _type(value: Any) -> str:
    return type(value).__name__
