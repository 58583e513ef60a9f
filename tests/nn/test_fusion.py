"""Fused networks against what they were fused from, and against PyTorch's fusion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import close

import backstory
from backstory import nn
from backstory.errors import ArgumentError
from backstory.nn.utils import fuse, fusion, weight_norm


def trained(net, *shape):
    """The network in float64, with running statistics and affine parameters that are not trivial, in eval."""
    net.double()
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and module.weight is not None:
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
    for _ in range(3):
        net(backstory.randn(*shape).double() * 2 + 1)
    return net.eval()


NETWORKS = {
    "linear": (lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU()), (6, 3), 1),
    "no bias": (lambda: nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4)), (6, 3), 1),
    "not affine": (lambda: nn.Sequential(nn.Conv1d(3, 4, 2), nn.BatchNorm1d(4, affine=False)), (6, 3, 5), 1),
    "groups": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, 3, groups=2, stride=2, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 2, 1),
        ),
        (6, 4, 5, 5),
        1,
    ),
    "nested": (
        lambda: nn.Sequential(
            nn.Residual(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()),
            nn.Flatten(),
            nn.Sequential(weight_norm(nn.Linear(48, 5)), nn.BatchNorm1d(5)),
        ),
        (6, 3, 4, 4),
        2,
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_fused_network_gives_equal_outputs_in_evaluation_mode(name):
    make, shape, count = NETWORKS[name]
    net = trained(make(), *shape)
    before = {key: value.numpy().copy() for key, value in net.state_dict().items()}
    fused = fuse(net)
    x = backstory.randn(*shape).double()
    close(fused(x).detach().numpy(), net(x).detach().numpy(), rtol=1e-11)
    norms = (nn.BatchNorm1d, nn.BatchNorm2d)
    assert not any(isinstance(m, norms) for m in fused.modules())
    assert sum(isinstance(m, nn.Identity) for m in fused.modules()) == count
    assert all(p.requires_grad for p in fused.parameters())
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[key])


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.bn(self.conv(x)).relu()


def test_what_a_forward_of_ones_own_runs_in_a_row_is_fused_by_name():
    net = trained(Block(), 4, 2, 5, 5)
    fused = fuse(net, [("conv", "bn")])
    x = backstory.randn(4, 2, 5, 5).double()
    close(fused(x).detach().numpy(), net(x).detach().numpy(), rtol=1e-11)
    assert isinstance(fused.bn, nn.Identity)
    assert isinstance(net.bn, nn.BatchNorm2d)


def test_the_fused_weights_are_those_of_pytorch():
    net = trained(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)), 4, 2, 5, 5)
    theirs = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3)).double().eval()
    theirs.load_state_dict({key: torch.tensor(value.numpy()) for key, value in net.state_dict().items()})
    expected = torch.nn.utils.fusion.fuse_conv_bn_eval(*theirs)
    fused = fusion.fuse_conv_bn_eval(*net)
    close(fused.weight.detach().numpy(), expected.weight.detach().numpy(), rtol=1e-11)
    close(fused.bias.detach().numpy(), expected.bias.detach().numpy(), rtol=1e-11)
    net = trained(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), 4, 2)
    line = fusion.fuse_linear_bn_eval(*net)
    x = backstory.randn(4, 2).double()
    close(line(x).detach().numpy(), net(x).detach().numpy(), rtol=1e-11)


def test_refusals_say_what_to_write_instead():
    pair = [nn.Linear(2, 3), nn.BatchNorm1d(3)]
    with pytest.raises(ArgumentError, match=r"model\.eval\(\) first"):
        fuse(nn.Sequential(*pair))
    with pytest.raises(ArgumentError, match="track_running_stats=True"):
        fuse(nn.Sequential(pair[0], nn.BatchNorm1d(3, track_running_stats=False)).eval())
    with pytest.raises(ArgumentError, match="found nothing"):
        fuse(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.BatchNorm1d(3)).eval())
    with pytest.raises(ArgumentError, match="several places"):
        fuse(nn.Sequential(*pair, nn.Linear(3, 2), *pair).eval())
    with pytest.raises(ArgumentError, match="Conv2d with BatchNorm2d"):
        fuse(nn.Sequential(*pair).eval(), [("1", "0")])
    with pytest.raises(ArgumentError, match="3 units and a batch norm of 4"):
        fuse(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(4)).eval())
    with pytest.raises(ArgumentError, match="no submodule"):
        fuse(Block().eval(), [("conv1", "bn")])
