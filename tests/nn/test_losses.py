"""Every loss against PyTorch: value, gradients of all arguments, reductions, weights and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import close

import backstory
from backstory import nn
from backstory.errors import ArgumentError, LabelError, ShapeError

F, TF = nn.functional, torch.nn.functional
RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 4))
P = RNG.uniform(0.05, 0.95, (6, 4))
LABELS, SIGNS = RNG.integers(0, 4, 6), np.where(RNG.random(6) < 0.5, 1.0, -1.0)
SOME = np.where(np.arange(6) % 3 == 0, -100, LABELS)
WEIGHT = RNG.uniform(0.5, 2.0, 4)
SOFT = np.exp(Y) / np.exp(Y).sum(1, keepdims=True)
LISTS = np.array([[1, 0, -1, 2], [3, -1, -1, -1], [-1, 0, 1, 2], [0, 1, 2, 3], [2, 2, -1, -1], [3, 0, 1, -1]])
IMAGES, MAP = RNG.normal(size=(2, 3, 4, 5)), RNG.integers(0, 3, (2, 4, 5))

CASES = {
    "cross entropy": ("cross_entropy", [X, LABELS], {}),
    "cross entropy weights": ("cross_entropy", [X, LABELS], {"weight": WEIGHT}),
    "cross entropy smoothing": ("cross_entropy", [X, LABELS], {"label_smoothing": 0.1}),
    "cross entropy ignoring": ("cross_entropy", [X, SOME], {}),
    "cross entropy ignoring a class": ("cross_entropy", [X, LABELS], {"ignore_index": int(LABELS[0])}),
    "cross entropy everything": (
        "cross_entropy",
        [X, SOME],
        {"weight": WEIGHT, "label_smoothing": 0.3},
    ),
    "cross entropy soft": ("cross_entropy", [X, SOFT], {}),
    "cross entropy soft everything": (
        "cross_entropy",
        [X, SOFT],
        {"weight": WEIGHT, "label_smoothing": 0.2},
    ),
    "cross entropy images": ("cross_entropy", [IMAGES, MAP], {"weight": WEIGHT[:3], "label_smoothing": 0.1}),
    "cross entropy soft images": ("cross_entropy", [IMAGES, np.abs(IMAGES)], {"weight": WEIGHT[:3]}),
    "cross entropy one sample": ("cross_entropy", [X[0], LABELS[0]], {}),
    "nll": ("nll_loss", [X, SOME], {"weight": WEIGHT}),
    "nll images": ("nll_loss", [IMAGES, MAP], {}),
    "bce": ("binary_cross_entropy", [P, SOFT], {}),
    "bce weights": ("binary_cross_entropy", [P, SOFT], {"weight": WEIGHT}),
    # In float32, since PyTorch's bound of the denominator is float32's 1e-12 in float64 too.
    "bce edges": ("binary_cross_entropy", [np.float32([0, 1, 0, 1]), np.float32([0, 1, 1, 0])], {}),
    "bce logits": ("binary_cross_entropy_with_logits", [50 * X, SOFT], {}),
    "bce logits weights": (
        "binary_cross_entropy_with_logits",
        [X, SOFT],
        {"weight": WEIGHT, "pos_weight": 2 * WEIGHT},
    ),
    "kl": ("kl_div", [X, SOFT], {}),
    "kl log": ("kl_div", [X, Y], {"log_target": True}),
    "mse": ("mse_loss", [X, Y], {}),
    "l1": ("l1_loss", [X, Y], {}),
    "smooth l1": ("smooth_l1_loss", [X, Y], {"beta": 0.7}),
    "smooth l1 sharp": ("smooth_l1_loss", [X, Y], {"beta": 0.0}),
    "huber": ("huber_loss", [X, Y], {"delta": 0.7}),
    "hinge embedding": ("hinge_embedding_loss", [X[:, 0], SIGNS], {"margin": 0.5}),
    "ranking": ("margin_ranking_loss", [X[:, 0], X[:, 1], SIGNS], {"margin": 0.5}),
    "ranking at the edge": ("margin_ranking_loss", [X[:, 0], X[:, 0], SIGNS], {}),
    "soft margin": ("soft_margin_loss", [X[:, 0], SIGNS], {}),
    "multi margin": ("multi_margin_loss", [X, LABELS], {"margin": 0.7, "weight": WEIGHT}),
    "multi margin square": ("multi_margin_loss", [X, LABELS], {"p": 2}),
    "multilabel": ("multilabel_margin_loss", [X, LISTS], {}),
    "multilabel one sample": ("multilabel_margin_loss", [X[0], LISTS[0]], {}),
    "multilabel soft": ("multilabel_soft_margin_loss", [X, SOFT], {"weight": WEIGHT}),
    "triplet": ("triplet_margin_loss", [X, Y, P], {"margin": 2.0}),
    "triplet swap": ("triplet_margin_loss", [X, Y, P], {"margin": 2.0, "swap": True, "p": 3.0}),
    "triplet with a distance": (
        "triplet_margin_with_distance_loss",
        [X, Y, P],
        {"margin": 0.5, "swap": True, "distance_function": lambda x, y: ((x - y) ** 2).sum(-1)},
    ),
    "triplet with the usual distance": ("triplet_margin_with_distance_loss", [X, Y, P], {"margin": 2.0}),
    "cosine": ("cosine_embedding_loss", [X, Y, SIGNS], {"margin": -0.5}),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
def test_values_and_gradients_equal_pytorch(name, reduction):
    function, arrays, keywords = CASES[name]
    mine = [backstory.tensor(x, requires_grad=x.dtype.kind == "f" and x is not SIGNS) for x in arrays]
    theirs = [torch.tensor(x, requires_grad=x.dtype.kind == "f" and x is not SIGNS) for x in arrays]
    # PyTorch gives these targets no gradient, and an infinite one where a logarithm was bounded.
    if function in ("multilabel_soft_margin_loss", "soft_margin_loss") or name == "bce edges":
        mine[-1], theirs[-1] = mine[-1].detach(), theirs[-1].detach()
    given = {k: backstory.tensor(v) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
    asked = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
    out = getattr(F, function)(*mine, reduction=reduction, **given)
    expected = getattr(TF, function)(*theirs, reduction=reduction, **asked)
    close(out.detach().numpy(), expected.detach().numpy(), rtol=1e-11)
    upstream = np.random.default_rng(1).normal(size=out.shape)
    out.backward(upstream)
    expected.backward(torch.tensor(upstream))
    for x, y in zip(mine, theirs, strict=True):
        if y.requires_grad:
            close(x.grad.numpy(), y.grad.numpy(), 1e-6 if y.dtype == torch.float32 else 1e-10, 1e-12)


def test_the_divergence_is_averaged_over_samples():
    out = F.kl_div(X, SOFT, reduction="batchmean")
    close(out.numpy(), TF.kl_div(torch.tensor(X), torch.tensor(SOFT), reduction="batchmean").numpy())


def test_a_batch_of_ignored_labels_alone_has_no_mean():
    assert np.isnan(F.cross_entropy(X, np.full(6, -100)).item())
    assert F.cross_entropy(X, np.full(6, -100), reduction="sum").item() == 0.0


MODULES = {
    "CrossEntropyLoss": ([X, SOME], {"weight": WEIGHT, "label_smoothing": 0.1}),
    "NLLLoss": ([X, LABELS], {"weight": WEIGHT}),
    "BCELoss": ([P, SOFT], {}),
    "BCEWithLogitsLoss": ([X, SOFT], {"pos_weight": WEIGHT}),
    "KLDivLoss": ([X, SOFT], {"reduction": "batchmean"}),
    "MSELoss": ([X, Y], {}),
    "L1Loss": ([X, Y], {"reduction": "sum"}),
    "SmoothL1Loss": ([X, Y], {"beta": 0.5}),
    "HuberLoss": ([X, Y], {"delta": 0.5}),
    "HingeEmbeddingLoss": ([X[:, 0], SIGNS], {"margin": 2.0}),
    "MarginRankingLoss": ([X[:, 0], X[:, 1], SIGNS], {"margin": 1.0}),
    "SoftMarginLoss": ([X[:, 0], SIGNS], {}),
    "MultiMarginLoss": ([X, LABELS], {"p": 2, "weight": WEIGHT}),
    "MultiLabelMarginLoss": ([X, LISTS], {}),
    "MultiLabelSoftMarginLoss": ([X, SOFT], {}),
    "TripletMarginLoss": ([X, Y, P], {"swap": True}),
    "TripletMarginWithDistanceLoss": ([X, Y, P], {"distance_function": lambda x, y: (x - y).abs().sum(-1)}),
    "CosineEmbeddingLoss": ([X, Y, SIGNS], {"margin": 0.1}),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_equal_pytorch_in_value_state_and_print(name):
    arrays, keywords = MODULES[name]
    given = {k: backstory.tensor(v) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
    asked = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
    mine, theirs = getattr(nn, name)(**given), getattr(torch.nn, name)(**asked)
    out = mine(*map(backstory.tensor, arrays))
    close(out.numpy(), theirs(*map(torch.tensor, arrays)).numpy(), rtol=1e-11)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    assert repr(mine) == repr(theirs)


def test_refusals_say_what_to_write_instead():
    with pytest.raises(LabelError, match="numbered 0 to 3"):
        F.cross_entropy(X, np.full(6, 4))
    with pytest.raises(LabelError, match="label -1"):
        F.nll_loss(X, np.full(6, -1))
    with pytest.raises(LabelError, match="numbered 0 to 3"):
        F.multi_margin_loss(X, np.full(6, 4))
    with pytest.raises(ShapeError, match=r"labels of shape \(N,\)"):
        F.cross_entropy(X, LABELS[:3])
    with pytest.raises(ArgumentError, match="from 0 to 1, such as"):
        F.cross_entropy(X, LABELS, label_smoothing=2.0)
    with pytest.raises(ArgumentError, match="with_logits"):
        F.binary_cross_entropy([1.5], [1.0])
    with pytest.raises(LabelError, match="and -1 behind"):
        F.multilabel_margin_loss(X, np.full((6, 4), 4))
    with pytest.raises(ShapeError, match="filled up with -1"):
        F.multilabel_margin_loss(X, LABELS)
    with pytest.raises(ArgumentError, match="a margin above 0"):
        F.triplet_margin_with_distance_loss(X, Y, P, margin=0.0)
    with pytest.raises(ArgumentError, match="'batchmean'"):
        nn.KLDivLoss(reduction="batch")
    for name in ("l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits", "kl_div"):
        with pytest.raises(ShapeError, match="forgotten axis"):
            getattr(F, name)(X, X[:, :1])
