"""The words of an explanation, in one place for translation."""

from __future__ import annotations

__all__ = ["BACKWARD", "FORWARD", "WORDS"]

WORDS = {
    "forward": "Forward",
    "backward": "Backward: every gradient is upstream × local",
    "short": "In short",
    "notation": "dX is ∂{loss}/∂X, in the shape of X",
    "delta": "{delta} is d{symbol}",
    "same": "{symbol} = {others}",
    "value": "value",
    "step": "step",
    "numbers": "numbers",
    "shape": "shape",
    "remark": "remark",
    "gradient": "gradient",
    "formula": "formula",
    "upstream": "upstream",
    "local": "local",
    "product": "product",
    "total": "the sum of what came through {places}",
    "via": "through {place}",
    "copied": "{symbol} is copied over axis {axes}",
    "copied all": "{symbol} is copied over all axes",
    "summed": "{symbol} was copied over axis {axes}, so its gradient sums over it",
    "summed all": "{symbol} was copied over all axes, so its gradient sums over them",
    "at zero": "exactly 0 in {count} of {size} entries, where the derivative is taken as {choice}",
    "at zero one": "exactly 0, where the derivative is taken as {choice}",
    "open": "gate open: the gradient passes",
    "closed": "gate closed: nothing passes",
    "gates": "gate open for {open} of {count} entries",
    "slope": "local derivative {low}",
    "slopes": "local derivative from {low} to {high}",
    "layout W x": "layout Wx: W is (out, in), x a column",
    "layout X W": "layout XW: rows of X are samples, W is (in, out)",
    "layout x W^T": "layout xWᵀ, PyTorch's: rows of x are samples, W is (out, in)",
}

FORWARD = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "prelu": "PReLU",
    "rrelu": "RReLU",
    "relu6": "ReLU6",
    "elu": "ELU",
    "selu": "SELU",
    "celu": "CELU",
    "gelu": "GELU",
    "silu": "SiLU",
}
"""Operation → what it is called, where its formula does not say."""

BACKWARD = {
    "add": "add hands on",
    "sub": ("subtract hands on", "subtract hands on, with the sign turned"),
    "neg": "the sign turns",
    "mul": "multiply swaps: times {other}",
    "matmul": "multiply swaps, transposed: {other}ᵀ",
    "linear": (
        "multiply swaps: times {weight}",
        "multiply swaps: the input, for every sample",
        "the bias was added to every sample, so its gradient sums over them",
    ),
    "sum": "sum hands on to every term",
    "mean": "mean hands on a share to every term",
    "max": "the largest takes it",
    "maximum": "the larger takes it",
    "where": "who was chosen takes it",
    "reshape": "the same entries in the former shape",
    "permute": "transposed back",
    "broadcast_to": "what was copied is summed",
    "concat": "each takes its own part",
    "getitem": "back to its place, 0 elsewhere",
    "cast": "hands on, in the former dtype",
    "clone": "hands on",
    "cross_entropy": "what is predicted minus what is true",
    "log_softmax": "the upstream minus its share of the sum",
}
"""Operation → the role it plays in the backward pass (one per argument where they differ)."""
