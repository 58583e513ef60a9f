"""Modules that hold modules: in a row, by number, by name, or with a path around them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from backstory.errors import ArgumentError, BoundsError, ShapeError
from backstory.nn.module import Module
from backstory.nn.parameter import Parameter
from backstory.tensor import Tensor, as_tensor

__all__ = ["ModuleDict", "ModuleList", "ParameterList", "Residual", "Sequential"]


def _place(holder: Any, i: int) -> int:
    """The index ``i`` counted from the front."""
    if not -len(holder) <= i < len(holder):
        raise BoundsError(
            f"{type(holder).__name__}[{i}]",
            why=f"it holds {len(holder)}",
            instead=f"an index from {-len(holder)} to {len(holder) - 1}",
        )
    return i % len(holder)


class _Numbered(Module):
    """Modules named 0, 1, 2, …, or as they were given."""

    def _items(self) -> list[Module]:
        return list(self._modules.values())

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._items())

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return type(self)._of(list(self._modules.items())[i])
        return self._items()[_place(self, i)]

    def __setitem__(self, i: int, module: Module) -> None:
        setattr(self, list(self._modules)[_place(self, i)], module)

    def append(self, module: Module) -> Any:
        """Add a module at the end; returns the container."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add modules at the end; returns the container."""
        for module in list(modules):
            self.append(module)
        return self

    @classmethod
    def _of(cls, pairs: list[tuple[str, Module]]) -> Any:
        raise NotImplementedError


class Sequential(_Numbered):
    """Modules one after the other, named 0, 1, 2, …, or by a dict's keys.

    >>> import backstory
    >>> from backstory import nn
    >>> net = Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> net(backstory.ones(4, 2)).shape
    (4, 1)
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.add_module(name, module)
            return
        for i, module in enumerate(modules):
            self.add_module(str(i), module)  # type: ignore[arg-type]

    @classmethod
    def _of(cls, pairs: list[tuple[str, Module]]) -> Sequential:
        return cls(dict(pairs))

    def forward(self, x: Any) -> Any:
        """The last module's output."""
        for module in self._modules.values():
            x = module(x)
        return x


class ModuleList(_Numbered):
    """A list of modules, whose parameters are found; it has no forward of its own.

    >>> from backstory import nn
    >>> [name for name, _ in ModuleList([nn.Linear(1, 1), nn.PReLU()]).named_parameters()]
    ['0.weight', '0.bias', '1.weight']
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        self.extend(modules)

    @classmethod
    def _of(cls, pairs: list[tuple[str, Module]]) -> ModuleList:
        return cls(module for _, module in pairs)


class ModuleDict(Module):
    """Modules by name, whose parameters are found; it has no forward of its own.

    >>> from backstory import nn
    >>> ModuleDict({"act": nn.ReLU()})["act"]
    ReLU()
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        super().__init__()
        self.update(modules)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace several modules."""
        for name, module in dict(modules).items():
            self[name] = module

    def __getitem__(self, name: str) -> Module:
        return self._modules[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)

    def __delitem__(self, name: str) -> None:
        delattr(self, name)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, name: str) -> bool:
        return name in self._modules

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._modules.keys()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """Names with modules."""
        return self._modules.items()


class ParameterList(Module):
    """A list of parameters; a tensor that is added becomes one.

    >>> import backstory
    >>> len(list(ParameterList([backstory.ones(2), backstory.ones(3)]).parameters()))
    2
    """

    def __init__(self, values: Iterable[Any] = ()) -> None:
        super().__init__()
        for value in values:
            self.append(value)

    def append(self, value: Any) -> ParameterList:
        """Add a parameter at the end; returns the list."""
        self.register_parameter(str(len(self)), _as_parameter(value))
        return self

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._parameters.values()))

    def __getitem__(self, i: int) -> Any:
        return list(self._parameters.values())[_place(self, i)]

    def __setitem__(self, i: int, value: Any) -> None:
        self.register_parameter(str(_place(self, i)), _as_parameter(value))

    def extra_repr(self) -> str:
        lines = [
            f"  ({name}): Parameter containing: [{p.dtype} of size {'x'.join(map(str, p.shape))}]"
            for name, p in self._parameters.items()
            if p is not None
        ]
        return "\n" + "\n".join(lines) + "\n" if lines else ""


def _as_parameter(value: Any) -> Parameter:
    return value if isinstance(value, Parameter) else Parameter(as_tensor(value))


class Residual(Module):
    """x + f(x) for f, the modules one after the other: a path on which the gradient passes unchanged.

    He et al. 2015 (arXiv:1512.03385). With ``shortcut`` (a projection) it is shortcut(x) + f(x).

    >>> import backstory
    >>> from backstory import nn
    >>> Residual(nn.Linear(2, 2), nn.ReLU())(backstory.ones(3, 2)).shape
    (3, 2)
    """

    def __init__(self, *modules: Module, shortcut: Module | None = None) -> None:
        super().__init__()
        if not modules:
            raise ArgumentError(
                "Residual() without a module",
                why="x is added to what the modules make of it",
                instead="Residual(nn.Linear(n, n), nn.ReLU())",
            )
        self.body = modules[0] if len(modules) == 1 else Sequential(*modules)
        self.add_module("shortcut", shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """x + f(x)"""
        past = x if self.shortcut is None else self.shortcut(x)
        through = self.body(x)
        if through.shape != past.shape:
            raise ShapeError(
                f"Residual received x of shape {x.shape}, and the modules gave {through.shape}",
                why="the two paths are added entry by entry",
                instead="modules that keep the shape, or Residual(…, shortcut=nn.Linear(in, out))",
            )
        return past + through

    shortcut: Module | None
