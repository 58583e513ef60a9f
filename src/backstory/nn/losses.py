"""The losses as modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from backstory.nn import functional
from backstory.nn.functional.reduction import checked_reduction
from backstory.nn.module import Module
from backstory.tensor import Tensor, as_tensor

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CosineEmbeddingLoss",
    "CrossEntropyLoss",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "MarginRankingLoss",
    "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "NLLLoss",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "TripletMarginLoss",
    "TripletMarginWithDistanceLoss",
]


class _Loss(Module):
    """``function`` of the predictions, the targets and the module's settings; weights are buffers."""

    function: ClassVar[Any]
    more: ClassVar[tuple[str, ...]] = ()

    def __init__(self, reduction: str = "mean", weights: dict[str, Any] | None = None, **settings: Any):
        super().__init__()
        self.reduction = checked_reduction(type(self).__name__, reduction, *self.more)
        for name, value in (weights or {}).items():
            self.register_buffer(name, None if value is None else as_tensor(value).detach())
        for name, value in settings.items():
            setattr(self, name, value)
        self._names = (*(weights or {}), *settings)

    def forward(self, *tensors: Any) -> Tensor:
        """The loss of what the function takes."""
        settings = {name: getattr(self, name) for name in self._names}
        return type(self).function(*tensors, reduction=self.reduction, **settings)


class CrossEntropyLoss(_Loss):
    """:func:`backstory.nn.functional.cross_entropy` as a module."""

    function = staticmethod(functional.cross_entropy)

    def __init__(
        self,
        weight: Any = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            reduction, {"weight": weight}, ignore_index=ignore_index, label_smoothing=label_smoothing
        )


class NLLLoss(_Loss):
    """:func:`backstory.nn.functional.nll_loss` as a module."""

    function = staticmethod(functional.nll_loss)

    def __init__(self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction, {"weight": weight}, ignore_index=ignore_index)


class BCELoss(_Loss):
    """:func:`backstory.nn.functional.binary_cross_entropy` as a module."""

    function = staticmethod(functional.binary_cross_entropy)

    def __init__(self, weight: Any = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction, {"weight": weight})


class BCEWithLogitsLoss(_Loss):
    """:func:`backstory.nn.functional.binary_cross_entropy_with_logits` as a module."""

    function = staticmethod(functional.binary_cross_entropy_with_logits)

    def __init__(self, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction, {"weight": weight, "pos_weight": pos_weight})


class KLDivLoss(_Loss):
    """:func:`backstory.nn.functional.kl_div` as a module."""

    function = staticmethod(functional.kl_div)
    more = ("batchmean",)

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction, log_target=log_target)


class MSELoss(_Loss):
    """:func:`backstory.nn.functional.mse_loss` as a module."""

    function = staticmethod(functional.mse_loss)

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction)


class L1Loss(_Loss):
    """:func:`backstory.nn.functional.l1_loss` as a module."""

    function = staticmethod(functional.l1_loss)

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction)


class SmoothL1Loss(_Loss):
    """:func:`backstory.nn.functional.smooth_l1_loss` as a module."""

    function = staticmethod(functional.smooth_l1_loss)

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction, beta=beta)


class HuberLoss(_Loss):
    """:func:`backstory.nn.functional.huber_loss` as a module."""

    function = staticmethod(functional.huber_loss)

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction, delta=delta)


class HingeEmbeddingLoss(_Loss):
    """:func:`backstory.nn.functional.hinge_embedding_loss` as a module."""

    function = staticmethod(functional.hinge_embedding_loss)

    def __init__(self, margin: float = 1.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction, margin=margin)


class MarginRankingLoss(_Loss):
    """:func:`backstory.nn.functional.margin_ranking_loss` as a module."""

    function = staticmethod(functional.margin_ranking_loss)

    def __init__(self, margin: float = 0.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction, margin=margin)


class SoftMarginLoss(_Loss):
    """:func:`backstory.nn.functional.soft_margin_loss` as a module."""

    function = staticmethod(functional.soft_margin_loss)

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction)


class MultiMarginLoss(_Loss):
    """:func:`backstory.nn.functional.multi_margin_loss` as a module."""

    function = staticmethod(functional.multi_margin_loss)

    def __init__(
        self, p: int = 1, margin: float = 1.0, weight: Any = None, *, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction, {"weight": weight}, p=p, margin=margin)


class MultiLabelMarginLoss(_Loss):
    """:func:`backstory.nn.functional.multilabel_margin_loss` as a module."""

    function = staticmethod(functional.multilabel_margin_loss)

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__(reduction)


class MultiLabelSoftMarginLoss(_Loss):
    """:func:`backstory.nn.functional.multilabel_soft_margin_loss` as a module."""

    function = staticmethod(functional.multilabel_soft_margin_loss)

    def __init__(self, weight: Any = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction, {"weight": weight})


class TripletMarginLoss(_Loss):
    """:func:`backstory.nn.functional.triplet_margin_loss` as a module."""

    function = staticmethod(functional.triplet_margin_loss)

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        *,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction, margin=margin, p=p, eps=eps, swap=swap)


class TripletMarginWithDistanceLoss(_Loss):
    """:func:`backstory.nn.functional.triplet_margin_with_distance_loss` as a module."""

    function = staticmethod(functional.triplet_margin_with_distance_loss)

    def __init__(
        self,
        *,
        distance_function: Callable[[Any, Any], Tensor] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction, distance_function=distance_function, margin=margin, swap=swap)


class CosineEmbeddingLoss(_Loss):
    """:func:`backstory.nn.functional.cosine_embedding_loss` as a module."""

    function = staticmethod(functional.cosine_embedding_loss)

    def __init__(self, margin: float = 0.0, *, reduction: str = "mean") -> None:
        super().__init__(reduction, margin=margin)
