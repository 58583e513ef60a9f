"""Layers, losses and their initialisation, in PyTorch's names and defaults."""

from __future__ import annotations

from backstory.nn import functional, init, utils
from backstory.nn.layers import LeakyReLU, Linear, ReLU, Sequential, Sigmoid, Tanh
from backstory.nn.losses import CrossEntropyLoss, MSELoss
from backstory.nn.module import Module, Parameter

__all__ = [
    "CrossEntropyLoss",
    "LeakyReLU",
    "Linear",
    "MSELoss",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "functional",
    "init",
    "utils",
]
