"""The norms of gradients and of true updates, on the tensors' device.

The change of a parameter is what it is after the step less what it was before, whatever the optimizer did.
For plain SGD it is known without a copy: −η·v with momentum, −η·g without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Changes", "norms"]

# Private by name, and what torch.nn.utils.clip_grad_norm_ and torch.optim are made of.
_norms: Any = torch._foreach_norm  # pyright: ignore[reportPrivateImportUsage]
_copy: Any = torch._foreach_copy_  # pyright: ignore[reportPrivateImportUsage]
_subtract: Any = torch._foreach_sub_  # pyright: ignore[reportPrivateImportUsage]


def norms(tensors: Sequence[Tensor | None]) -> list[Tensor]:
    """The 2-norm of each; 0 for ``None``."""
    known = [_dense(x) for x in tensors if x is not None]
    if not known:
        return [torch.zeros(())] * len(tensors)
    half = known[0].dtype in (torch.float16, torch.bfloat16)
    found = _norms(known, 2, dtype=torch.float32 if half else None)
    if len(known) == len(tensors):
        return list(found)
    each, zero = iter(found), torch.zeros_like(found[0])
    return [zero if x is None else next(each) for x in tensors]


def _dense(x: Tensor) -> Tensor:
    return x.coalesce().values() if x.is_sparse else x


class Changes:
    """What one step of ``optimizer`` changes in ``parameters``."""

    def __init__(self, optimizer: Any, parameters: Sequence[Tensor]) -> None:
        self._optimizer, self._parameters = optimizer, parameters
        self._copies: dict[int, Tensor] = {}
        self._copied: list[Tensor] = []
        self._groups: dict[int, Mapping[str, Any]] = {}
        self._count = 0
        self.gradients: list[Tensor] = []

    def before(self) -> None:
        """The step begins: take the gradients' norms, and copies where the update is not known."""
        if self._count != len(self._optimizer.param_groups):  # a group may be added on the way
            self._count = len(self._optimizer.param_groups)
            self._groups = {id(p): group for group in self._optimizer.param_groups for p in group["params"]}
        self._moved = [p.grad is not None for p in self._parameters]
        self._copied = [
            p
            for p, moves in zip(self._parameters, self._moved, strict=True)
            if moves and not self._is_known(self._groups[id(p)])
        ]
        if self._copied:
            _copy([self._copy(p) for p in self._copied], [p.detach() for p in self._copied])
        self.gradients = norms([p.grad for p in self._parameters])

    def _is_known(self, group: Mapping[str, Any]) -> bool:
        """Whether the update of a group follows from the state after it."""
        if type(self._optimizer) is not torch.optim.SGD or group["nesterov"]:
            return False
        return group["momentum"] != 0 or (group["weight_decay"] == 0 and not group["fused"])

    def _copy(self, p: Tensor) -> Tensor:
        """Memory for a copy of ``p``, made once."""
        kept = self._copies.get(id(p))
        if kept is None or kept.device != p.device or kept.shape != p.shape:
            kept = self._copies[id(p)] = torch.empty_like(p, requires_grad=False)
        return kept

    def after(self) -> list[Tensor]:
        """The norm of every parameter's change."""
        copies = [self._copies[id(p)] for p in self._copied]
        if copies:
            _subtract(copies, [p.detach() for p in self._copied])
        copied = {id(p) for p in self._copied}
        buffers: list[Tensor | None] = []
        for p, moves in zip(self._parameters, self._moved, strict=True):
            if not moves:
                buffers.append(None)
            elif id(p) in copied:
                buffers.append(self._copies[id(p)])
            else:
                state = self._optimizer.state[p]
                buffers.append(state.get("momentum_buffer") if self._groups[id(p)]["momentum"] else None)
        found = norms(buffers)
        for i, p in enumerate(self._parameters):
            if self._moved[i] and id(p) not in copied:
                group = self._groups[id(p)]
                found[i] = (found[i] if group["momentum"] else self.gradients[i]) * group["lr"]
        return found
