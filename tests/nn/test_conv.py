"""Convolution and pooling against PyTorch: values, all gradients, prints, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import close

import backstory
from backstory import nn
from backstory.errors import ArgumentError, ShapeError
from backstory.insight.scan import BENDS, DEAD, scan

IMAGE, LINE = (2, 4, 7, 6), (2, 4, 9)
CASES = [
    ("Conv2d", (4, 6, 3), {}, IMAGE),
    ("Conv2d", (4, 6, (3, 2)), {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}, IMAGE),
    ("Conv2d", (4, 6, 3), {"groups": 2, "padding": "same", "bias": False}, IMAGE),
    ("Conv2d", (4, 6, (2, 4)), {"padding": "same", "dilation": (3, 1)}, IMAGE),
    ("Conv2d", (4, 8, 1), {"groups": 4, "stride": 2, "padding": "valid"}, IMAGE),
    ("Conv2d", (4, 6, 3), {}, IMAGE[1:]),
    ("Conv1d", (4, 6, 3), {"stride": 2, "padding": 2}, LINE),
    ("Conv1d", (4, 6, 2), {"groups": 2, "dilation": 3}, LINE),
    ("Conv1d", (4, 6, 4), {"padding": "same"}, LINE[1:]),
    ("Conv2d", (4, 6, (3, 2)), {"padding": (2, 1), "padding_mode": "reflect", "stride": 2}, IMAGE),
    ("Conv2d", (4, 6, (2, 4)), {"padding": "same", "padding_mode": "circular", "bias": False}, IMAGE),
    ("Conv2d", (4, 6, 3), {"padding": 1, "padding_mode": "replicate", "groups": 2}, IMAGE[1:]),
    ("Conv1d", (4, 6, 3), {"padding": 2, "padding_mode": "circular", "dilation": 2}, LINE),
    ("Conv1d", (4, 6, 3), {"padding": "valid", "padding_mode": "reflect"}, LINE),
    ("MaxPool2d", (2,), {}, IMAGE),
    ("MaxPool2d", (3,), {"stride": 2, "ceil_mode": True}, (2, 4, 8, 6)),
    ("MaxPool2d", ((2, 3),), {"stride": 3, "padding": 1, "ceil_mode": True}, IMAGE),
    ("MaxPool2d", (4,), {"stride": 3, "ceil_mode": True}, (2, 4, 3, 5)),
    ("MaxPool1d", (2,), {"stride": 4, "padding": 1, "dilation": 3, "ceil_mode": True}, LINE),
    ("AvgPool2d", (3,), {"stride": 2, "padding": 1, "ceil_mode": True}, IMAGE),
    ("AvgPool2d", (2,), {"stride": 3, "padding": 1, "ceil_mode": True, "count_include_pad": False}, IMAGE),
    ("AvgPool2d", ((3, 2), 1, 1, True, True, 5), {}, IMAGE),
    ("AvgPool1d", (3, 2, 1, True, False), {}, (2, 4, 10)),
    ("MaxPool2d", ((3, 2),), {"stride": (2, 1), "padding": 1, "dilation": (1, 2)}, IMAGE),
    ("MaxPool2d", (3,), {"stride": 1}, IMAGE[1:]),
    ("MaxPool1d", (3,), {"stride": 2, "padding": 1}, LINE),
    ("AvgPool2d", (2,), {}, IMAGE),
    ("AvgPool2d", ((3, 2),), {"stride": 1, "padding": 1, "count_include_pad": False}, IMAGE),
    ("AvgPool1d", (3,), {"stride": 2, "padding": 1}, LINE),
    ("AdaptiveAvgPool2d", (1,), {}, IMAGE),
    ("AdaptiveAvgPool2d", ((3, None),), {}, IMAGE),
    ("AdaptiveAvgPool2d", ((5, 9),), {}, IMAGE),
    ("AdaptiveAvgPool1d", (4,), {}, LINE),
    ("AdaptiveMaxPool2d", ((10, 2),), {}, IMAGE[1:]),
    ("AdaptiveMaxPool2d", ((3, 4),), {}, IMAGE),
    ("AdaptiveMaxPool1d", (4,), {}, LINE[1:]),
]


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize(("name", "arguments", "keywords", "shape"), CASES, ids=str)
def test_modules_equal_pytorch_in_values_and_all_gradients(name, arguments, keywords, shape, rng):
    mine = getattr(nn, name)(*arguments, **keywords).double()
    theirs = getattr(torch.nn, name)(*arguments, **keywords).double()
    assert repr(mine) == repr(theirs)
    theirs.load_state_dict({k: torch.tensor(v.numpy().copy()) for k, v in mine.state_dict().items()})
    data = rng.normal(size=shape)
    x, y = backstory.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    out, expected = mine(x), theirs(y)
    close(out.detach().numpy(), expected.detach().numpy(), rtol=1e-11)
    upstream = rng.normal(size=out.shape)
    out.backward(upstream)
    expected.backward(torch.tensor(upstream))
    close(x.grad.numpy(), y.grad.numpy(), rtol=1e-11)
    for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
        close(p.grad.numpy(), q.grad.numpy(), rtol=1e-11)


def test_the_first_of_equals_takes_the_gradient_of_a_maximum():
    x, y = backstory.ones(1, 1, 4, 4, requires_grad=True), torch.ones(1, 1, 4, 4, requires_grad=True)
    nn.functional.max_pool2d(x, 2).sum().backward()
    torch.nn.functional.max_pool2d(y, 2).sum().backward()
    close(x.grad.numpy(), y.grad.numpy())


@pytest.mark.parametrize(
    ("name", "arguments", "keywords", "shape"),
    [
        ("max_pool2d", (3, 2, 1), {"ceil_mode": True}, (2, 3, 7, 6)),
        ("max_pool2d", ((2, 3),), {"dilation": 2, "stride": 1}, (3, 7, 6)),
        ("max_pool1d", (3, 2, 1), {}, (2, 3, 8)),
        ("adaptive_max_pool2d", ((3, 4),), {}, (2, 3, 7, 6)),
        ("adaptive_max_pool1d", (4,), {}, (3, 9)),
    ],
    ids=str,
)
def test_the_places_of_the_largest_are_those_of_pytorch(name, arguments, keywords, shape, rng):
    data = rng.integers(0, 4, shape).astype("float64")
    ours = getattr(nn.functional, name)(backstory.tensor(data), *arguments, return_indices=True, **keywords)
    theirs = getattr(torch.nn.functional, name)(
        torch.tensor(data), *arguments, return_indices=True, **keywords
    )
    for mine, other in zip(ours, theirs, strict=True):
        close(mine.numpy(), other.numpy())


def test_infinite_and_nan_entries_stay_in_their_own_windows(rng):
    data = rng.normal(size=(1, 1, 7, 5))
    data[0, 0, 2, 1], data[0, 0, 6, 4] = np.inf, np.nan
    for name, arguments in (("adaptive_avg_pool2d", (3,)), ("avg_pool2d", (2,)), ("max_pool2d", (2,))):
        mine = getattr(nn.functional, name)(backstory.tensor(data), *arguments)
        close(mine.numpy(), getattr(torch.nn.functional, name)(torch.tensor(data), *arguments).numpy())


def test_a_convolution_starts_within_the_bounds_of_pytorch():
    layer = nn.Conv2d(8, 64, 3, groups=2)
    bound = 1 / np.sqrt(4 * 9)
    for p in layer.parameters():
        assert 0.8 * bound < np.abs(p.detach().numpy()).max() <= bound


def test_refusals_say_what_to_write_instead():
    image = backstory.ones(1, 3, 5, 5)
    with pytest.raises(ShapeError, match="takes 4 channels"):
        nn.Conv2d(4, 2, 3)(image)
    with pytest.raises(ShapeError, match="no window fits"):
        nn.Conv2d(3, 2, 7)(image)
    with pytest.raises(ShapeError, match="no window fits"):
        nn.MaxPool2d(7)(image)
    with pytest.raises(ArgumentError, match="stride=1"):
        nn.Conv2d(3, 2, 3, stride=2, padding="same")(image)
    with pytest.raises(ArgumentError, match="'same' or 'valid'"):
        nn.functional.conv2d(image, backstory.ones(1, 3, 2, 2), padding="full")
    with pytest.raises(ArgumentError, match="divide both"):
        nn.Conv2d(3, 2, 3, groups=2)
    with pytest.raises(ArgumentError, match="half the kernel"):
        nn.MaxPool2d(2, padding=2)(image)
    with pytest.raises(ArgumentError, match="'replicate', 'circular'"):
        nn.Conv2d(3, 2, 3, padding_mode="mirror")
    with pytest.raises(ArgumentError, match="divided by it"):
        nn.functional.avg_pool2d(image, 2, divisor_override=0)
    with pytest.raises(ArgumentError, match="a tuple of 2"):
        nn.Conv2d(3, 2, (3, 3, 3))


@pytest.mark.parametrize(
    ("layers", "shape", "units"),
    [
        ([("Conv2d", 3, 5, 3), ("ReLU",)], (4, 3, 6, 7), {"1/relu#0": 5}),
        ([("Conv1d", 3, 5, 3), ("BatchNorm1d", 5), ("ReLU",)], (4, 3, 8), {"2/relu#0": 5}),
        (
            [("Conv2d", 3, 5, 3), ("BatchNorm2d", 5), ("ReLU",), ("MaxPool2d", 2), ("ReLU6",)],
            (4, 3, 8, 9),
            {"2/relu#0": 5, "4/hardtanh#0": 5},
        ),
        (
            [("Conv2d", 3, 5, 3), ("ReLU",), ("Flatten",), ("Linear", 100, 6), ("ReLU",)],
            (4, 3, 6, 7),
            {"1/relu#0": 5, "4/relu#0": 6},
        ),
    ],
    ids=str,
)
def test_a_unit_of_a_convolution_is_a_channel_as_with_pytorch(layers, shape, units):
    net = nn.Sequential(*(getattr(nn, name)(*arguments) for name, *arguments in layers))
    data = backstory.randn(*shape)
    assert {name: len(site.states) for name, site in scan(net, data).items()} == units


def test_a_channel_is_dead_when_it_is_closed_at_every_position():
    net = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU())
    net.load_state_dict({"0.weight": np.ones((3, 1, 2, 2)), "0.bias": [-100.0, 0.0, -3.5]})
    images = backstory.zeros(2, 1, 4, 4)
    images[1, 0, 1:3, 1:3] = 1.0
    site = scan(net, images, peaks=True)["1/relu#0"]
    assert site.states.tolist() == [DEAD, BENDS, BENDS]
    assert site.peak.tolist() == [-96.0, 4.0, 0.5]
    assert site.sample.tolist() == [1, 1, 1]
