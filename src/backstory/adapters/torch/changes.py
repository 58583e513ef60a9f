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

HALF = (torch.float16, torch.bfloat16)

# Private by name, and what torch.nn.utils.clip_grad_norm_ and torch.optim are made of.
_norms: Any = torch._foreach_norm  # pyright: ignore[reportPrivateImportUsage]
_copy: Any = torch._foreach_copy_  # pyright: ignore[reportPrivateImportUsage]


def norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The 2-norm of each, short floats in float32."""
    if not tensors:
        return []
    dense = [x.coalesce().values() if x.is_sparse else x for x in tensors]
    first = dense[0].dtype
    if all(x.dtype is first for x in dense):
        return list(_norms(dense, 2, dtype=torch.float32) if first in HALF else _norms(dense))
    wide = [torch.float32 if x.dtype in HALF else x.dtype for x in dense]
    return [torch.linalg.vector_norm(x, dtype=dtype) for x, dtype in zip(dense, wide, strict=True)]


class Changes:
    """What one step of ``optimizer`` changes in ``parameters``; those without a gradient do not move.

    After the step ``moving`` lists which parameters the norms of :meth:`after` are of, and ``factors``
    what to multiply those of the changes by.
    """

    def __init__(self, optimizer: Any, parameters: Sequence[Tensor]) -> None:
        self._optimizer = optimizer
        self._all = list(parameters)
        self._every = list(range(len(self._all)))
        self._storage: dict[int, Tensor] = {}
        self._narrow = any(p.dtype in HALF for p in self._all)
        self._known = False
        self._copies: list[Tensor] = []
        self._gradients: list[Tensor] = []
        self.moving: list[int] = []
        self.factors: list[float] = []

    def before(self) -> None:
        """The parameters are about to move: take copies and norms, unless the update will be known."""
        gradients = [p.grad for p in self._all]
        if any(g is None for g in gradients):
            self.moving = [i for i, g in enumerate(gradients) if g is not None]
        else:
            self.moving = self._every
        self._known = self._will_be_known()
        self._gradients = [g for g in gradients if g is not None]
        if self._known or not self.moving:
            return
        self._gradients = norms(self._gradients)
        scale = getattr(self._optimizer, "grad_scale", None)
        if scale is not None:  # a fused optimizer takes the GradScaler's factor out itself
            self._gradients = [norm / scale.to(norm.device) for norm in self._gradients]
        tensors = [self._all[i].detach() for i in self.moving]
        self._copies = [self._copy_of(i, p) for i, p in zip(self.moving, tensors, strict=True)]
        _copy(self._copies, tensors)

    def _will_be_known(self) -> bool:
        """Whether the update follows from gradients or state: SGD's does, where floats are not too short."""
        groups = self._optimizer.param_groups
        return (
            type(self._optimizer) is torch.optim.SGD
            and not self._narrow
            and all(_is_known(group, groups[0]) for group in groups)
        )

    def _copy_of(self, place: int, p: Tensor) -> Tensor:
        """Memory for a copy of ``p``, made once."""
        kept = self._storage.get(place)
        if kept is None or (kept.device, kept.dtype, kept.shape) != (p.device, p.dtype, p.shape):
            kept = self._storage[place] = torch.empty_like(p)
        return kept

    def after(self) -> list[Tensor]:
        """The norms of the gradients and of the changes, before ``factors``."""
        moved = [self._all[i] for i in self.moving]
        if self._known:
            return self._after_sgd(moved)
        self.factors = [1.0] * len(moved)
        # One after the other: each difference is still in the cache when its norm is taken.
        changes = [norms([copy.sub_(p.detach())])[0] for copy, p in zip(self._copies, moved, strict=False)]
        return self._gradients + changes

    def _after_sgd(self, moved: list[Tensor]) -> list[Tensor]:
        """After a step of SGD, which leaves the gradients as they are."""
        groups = self._optimizer.param_groups
        if len(groups) == 1:
            self.factors = [groups[0]["lr"]] * len(moved)
        else:
            rates = {id(p): group["lr"] for group in groups for p in group["params"]}
            self.factors = [rates[id(p)] for p in moved]
        gradients, self._gradients = self._gradients, []
        if groups[0]["momentum"] == 0:
            return norms(gradients) * 2
        state = self._optimizer.state
        return norms([*gradients, *(state[p]["momentum_buffer"] for p in moved)])


def _is_known(group: Mapping[str, Any], first: Mapping[str, Any]) -> bool:
    """Whether the update of a group of SGD follows from its state after the step.

    A fused step may be one that a GradScaler has emptied.
    """
    mixed = (group["momentum"] == 0) != (first["momentum"] == 0)
    if group["nesterov"] or group["fused"] or isinstance(group["lr"], Tensor) or mixed:
        return False
    return group["momentum"] != 0 or group["weight_decay"] == 0
