"""Every finding on a model with that fault planted, and not on the nearest model without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from insight.advised import (
    CLASSES,
    FEATURES,
    HE,
    LECUN,
    ORTHOGONAL,
    XAVIER,
    batch_norm,
    biased,
    binary,
    damped,
    deep,
    deep_fed,
    deep_narrow,
    drawn,
    ending,
    equal_units,
    fed,
    labelled,
    mlp,
    narrow,
    negative,
    of_calls,
    of_modules,
    one_large,
    plain,
    quartered,
    rated,
    scaled,
    shifted,
    small_ones,
)

import backstory
from backstory import nn, optim
from backstory.insight.advice.words import CATALOGUE
from backstory.nn import functional as F


class Case(NamedTuple):
    """The fault's code, a model that has it and one that nearly has it; each with sample and optimizer."""

    code: str
    name: str
    planted: Callable[[], tuple[Any, ...]]
    near: Callable[[], tuple[Any, ...]]


CASES = [
    Case(
        "symmetric-weights",
        "constant",
        deep(nn.ReLU, 2, lambda w: nn.init.constant_(w, 0.1)),
        deep(nn.ReLU, 2, HE),
    ),
    Case("symmetric-weights", "all 0", deep(nn.Tanh, 2, nn.init.zeros_), deep(nn.Tanh, 2, XAVIER)),
    Case("symmetric-weights", "two of 16", lambda: equal_units(False), lambda: equal_units(True)),
    Case(
        "softmax-before-cross-entropy",
        "module",
        ending(lambda: nn.Softmax(-1)),
        ending(lambda: nn.LogSoftmax(-1)),
    ),
    Case(
        "softmax-before-cross-entropy",
        "function",
        of_calls(backstory.relu, lambda z: F.softmax(z, -1)),
        of_calls(backstory.relu, lambda z: F.log_softmax(z, -1)),
    ),
    Case(
        "softmax-before-cross-entropy",
        "written out",
        of_calls(backstory.relu, lambda z: z.exp() / z.exp().sum(-1, keepdim=True)),
        of_calls(backstory.relu, lambda z: z.exp() / z.exp().sum()),
    ),
    Case(
        "softmax-before-cross-entropy",
        "no targets",
        ending(lambda: nn.Softmax(-1), labels=False),
        ending(None, labels=False),
    ),
    Case("activation-after-last-layer", "relu", ending(nn.ReLU), ending(None)),
    Case("activation-after-last-layer", "sigmoid of classes", ending(nn.Sigmoid), lambda: binary(nn.Sigmoid)),
    Case(
        "activation-after-last-layer",
        "function",
        of_calls(backstory.relu, backstory.tanh),
        of_calls(backstory.relu),
    ),
    Case(
        "activation-after-last-layer", "no targets", ending(nn.ReLU, labels=False), ending(None, labels=False)
    ),
    Case("born-dead", "bias", lambda: shifted(-30.0), lambda: shifted(-1.0)),
    Case("born-dead", "inputs", lambda: negative(), lambda: fed()),
    Case("likely-born-dead", "width", lambda: narrow(3), lambda: narrow(10)),
    Case("likely-born-dead", "asymmetric", lambda: narrow(4), lambda: narrow(4, "asymmetric")),
    Case("likely-born-dead", "leaky", deep_narrow(nn.ReLU), deep_narrow(nn.LeakyReLU)),
    Case("likely-born-dead", "batch norm", deep_narrow(nn.ReLU), deep_narrow(nn.ReLU, norm=True)),
    Case("init-too-small", "xavier relu", deep(nn.ReLU, 3, XAVIER), deep(nn.ReLU, 3, HE)),
    Case(
        "init-too-small",
        "orthogonal",
        deep(nn.ReLU, 3, ORTHOGONAL),
        deep(nn.ReLU, 3, lambda w: ORTHOGONAL(w, 2**0.5 * max(1.0, w.shape[0] / w.shape[1]) ** 0.5)),
    ),
    Case("init-too-small", "lecun relu", deep(nn.ReLU, 3, LECUN), deep(nn.SELU, 3, LECUN)),
    Case(
        "init-too-small",
        "default leaky",
        lambda: (mlp(FEATURES, 64, 64, CLASSES, act=nn.LeakyReLU), labelled()),
        deep(nn.LeakyReLU, 3, HE),
    ),
    Case(
        "init-too-small",
        "in front of batch norm",
        deep(nn.ReLU, 3, XAVIER),
        lambda: (drawn(mlp(FEATURES, 64, 64, 64, CLASSES, norm=True), XAVIER), labelled()),
    ),
    Case("init-too-small", "function", lambda: quartered(0.25), lambda: quartered(1.0)),
    Case("init-too-large", "he tanh", deep(nn.Tanh, 3, HE), deep(nn.Tanh, 3, XAVIER)),
    Case("init-too-large", "he selu", deep(nn.SELU, 3, HE), deep(nn.SELU, 3, LECUN)),
    Case("init-too-large", "normal relu", deep(nn.ReLU, 3, nn.init.normal_), deep(nn.ReLU, 3, HE)),
    Case("vanishing-signal", "relu", lambda: scaled(0.5), lambda: scaled(1.0)),
    Case("exploding-signal", "relu", lambda: scaled(2.0), lambda: scaled(1.0)),
    Case("exploding-signal", "not finite", lambda: scaled(1e8), lambda: scaled(1.0)),
    Case("vanishing-gradient", "sigmoid", deep(nn.Sigmoid, 10, XAVIER), deep(nn.ReLU, 10, HE)),
    Case("vanishing-gradient", "alone", lambda: damped(0.5), lambda: damped(1.0)),
    Case("exploding-gradient", "alone", lambda: damped(2.0), lambda: damped(1.0)),
    Case("small-derivatives", "sigmoid", deep(nn.Sigmoid, 5, XAVIER), deep(nn.Sigmoid, 4, XAVIER)),
    Case("small-derivatives", "hardsigmoid", deep(nn.Hardsigmoid, 4, XAVIER), deep(nn.Hardtanh, 10, XAVIER)),
    Case("saturated", "tanh", deep(nn.Tanh, 2, nn.init.normal_), deep(nn.Tanh, 2, XAVIER)),
    Case("saturated", "inputs", deep_fed(20.0), deep_fed(1.0)),
    Case(
        "bias-before-norm",
        "module",
        of_modules(lambda: nn.BatchNorm1d(64), nn.ReLU),
        of_modules(lambda: nn.BatchNorm1d(64), nn.ReLU, bias=False),
    ),
    Case(
        "bias-before-norm",
        "function",
        of_calls(lambda z: F.batch_norm(z, None, None, training=True).relu()),
        of_calls(lambda z: F.layer_norm(z, (64,)).relu()),
    ),
    Case(
        "bias-before-norm",
        "written out",
        of_calls(lambda z: batch_norm(z).relu()),
        of_calls(lambda z: batch_norm(z.relu())),
    ),
    Case("bias-before-norm", "convolution", lambda: plain(biased(True)), lambda: plain(biased(False))),
    Case(
        "norm-after-activation",
        "module",
        of_modules(nn.ReLU, lambda: nn.BatchNorm1d(64)),
        of_modules(lambda: nn.BatchNorm1d(64), nn.ReLU),
    ),
    Case(
        "norm-after-activation",
        "written out",
        of_calls(lambda z: batch_norm(z.relu())),
        of_calls(lambda z: batch_norm(z).relu()),
    ),
    Case(
        "norm-after-activation",
        "layer norm",
        of_modules(nn.ReLU, lambda: nn.BatchNorm1d(64)),
        of_modules(nn.ReLU, lambda: nn.LayerNorm(64)),
    ),
    Case(
        "dropout-before-activation",
        "sigmoid",
        of_modules(nn.Dropout, nn.Sigmoid),
        of_modules(nn.Sigmoid, nn.Dropout),
    ),
    Case(
        "dropout-before-activation",
        "softplus",
        of_calls(lambda z: F.softplus(F.dropout(z, 0.2))),
        of_calls(lambda z: F.dropout(F.softplus(z), 0.2)),
    ),
    Case(
        "dropout-before-activation",
        "tanh or relu",
        of_modules(nn.Dropout, nn.Tanh),
        of_modules(nn.Dropout, nn.ReLU),
    ),
    Case(
        "dropout-before-activation",
        "behind a norm",
        of_modules(lambda: nn.BatchNorm1d(64), nn.Dropout, nn.Sigmoid, bias=False),
        of_modules(nn.Dropout, lambda: nn.BatchNorm1d(64), nn.Sigmoid, bias=False),
    ),
    Case("dropout-order", "relu", of_modules(nn.Dropout, nn.ReLU), of_modules(nn.ReLU, nn.Dropout)),
    Case(
        "dropout-order",
        "leaky",
        of_calls(lambda z: F.leaky_relu(F.dropout(z, 0.5))),
        of_calls(lambda z: F.elu(F.dropout(z, 0.5))),
    ),
    Case("dropout-order", "prelu", of_modules(nn.Dropout, nn.PReLU), of_modules(nn.Dropout, nn.ELU)),
    Case("inputs-not-centred", "mean", lambda: fed(mean=1.5), lambda: fed(mean=0.7)),
    Case(
        "inputs-on-different-scales",
        "one large",
        lambda: fed(scale=one_large(30.0)),
        lambda: fed(scale=one_large(5.0)),
    ),
    Case(
        "inputs-on-different-scales",
        "many small",
        lambda: fed(scale=small_ones(8)),
        lambda: fed(scale=small_ones(2)),
    ),
    Case("rate-too-large", "SGD", lambda: rated(5.0), lambda: rated(0.01)),
    Case("rate-too-large", "Adam", lambda: rated(0.1, optim.Adam), lambda: rated(1e-3, optim.Adam)),
    Case("rate-too-small", "SGD", lambda: rated(1e-6), lambda: rated(1e-3)),
    Case("rate-too-small", "Adam", lambda: rated(1e-7, optim.Adam), lambda: rated(1e-5, optim.Adam)),
    Case("rate-too-small", "warm-up from 0", lambda: rated(1e-9), lambda: rated(0.0)),
]


@pytest.mark.parametrize("case", CASES, ids=[f"{case.code}-{case.name}" for case in CASES])
def test_the_planted_fault_is_found_and_the_near_miss_is_not(case):
    found = {one.code: one for one in backstory.lint(*case.planted())}
    assert case.code in found
    assert found[case.code].layers
    assert "{" not in str(found[case.code])
    assert case.code not in backstory.lint(*case.near()).codes


def test_every_finding_has_its_case():
    assert {case.code for case in CASES} == set(CATALOGUE)
