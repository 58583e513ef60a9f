"""Files in safetensors, and PyTorch's models read from them."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.torch
import torch

import backstory
from backstory import errors, nn, optim


def networks():
    mine = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    theirs = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.ReLU(), torch.nn.Linear(7, 3))
    return mine, theirs


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_of_pytorch_saved_as_safetensors_gives_equal_outputs_here(tmp_path, dtype, rng):
    mine, theirs = networks()
    theirs = theirs.to(getattr(torch, dtype))
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    mine = mine.to(getattr(backstory, dtype))
    mine.load_state_dict(backstory.load(tmp_path / "model.safetensors"))
    x = rng.normal(size=(4, 5)).astype(dtype)
    for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())
    with backstory.no_grad(), torch.no_grad():
        found, expected = mine(backstory.tensor(x)).numpy(), theirs(torch.tensor(x)).numpy()
    size = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(found, expected, rtol=size, atol=size)


def test_a_state_dict_that_is_saved_here_is_read_by_pytorch(tmp_path):
    mine, theirs = networks()
    file = backstory.save(mine.state_dict(), tmp_path / "model.safetensors")
    theirs.load_state_dict(safetensors.torch.load_file(file))
    for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


def test_bfloat16_becomes_float32_without_loss(tmp_path):
    x = torch.tensor([1.0, -2.5, 3e38, 1e-40, float("inf"), float("nan")], dtype=torch.bfloat16)
    safetensors.torch.save_file({"x": x}, tmp_path / "x")
    np.testing.assert_array_equal(backstory.load(tmp_path / "x")["x"].numpy(), x.float().numpy())


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "int64", "int32", "int8", "uint8", "bool"]
)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_every_dtype_and_shape_comes_back(tmp_path, dtype, shape):
    x = np.ones(shape, dtype)
    back = backstory.load(backstory.save({"x": backstory.as_tensor(x)}, tmp_path / "x"))["x"].numpy()
    assert (back.dtype, back.shape) == (x.dtype, shape)
    np.testing.assert_array_equal(back, x)
    assert back.flags.writeable


def test_a_transposed_tensor_comes_back_as_it_is_seen(tmp_path):
    x = backstory.arange(6).reshape(2, 3).t()
    assert backstory.load(backstory.save({"x": x}, tmp_path / "x"))["x"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_structures_come_back_as_they_were(tmp_path):
    content = {
        "state": {0: {"m": backstory.ones(2)}, 1: {"m": np.zeros(())}},
        "groups": [{"betas": (0.9, 0.1), "lr": 1e-300, "none": None, "on": True, "params": [0, 1]}],
        "word": "ä",
        "big": 2**127,
        "scalar": np.float64(0.1),
        "empty": {},
    }
    back = backstory.load(backstory.save(content, tmp_path / "x"))
    assert back["state"][0]["m"].tolist() == [1.0, 1.0]
    assert isinstance(back["state"][1]["m"], np.ndarray)
    del back["state"], content["state"]
    assert back == content


def test_an_optimizer_goes_on_from_its_file(tmp_path):
    model, _ = networks()
    optimizer = optim.Adam(model.parameters(), lr=0.1, amsgrad=True)
    model(backstory.ones(2, 5)).sum().backward()
    optimizer.step()
    file = backstory.save(optimizer.state_dict(), tmp_path / "optimizer.safetensors")
    other = optim.Adam(model.parameters())
    other.load_state_dict(backstory.load(file))
    for p in model.parameters():
        for key, value in optimizer.state[p].items():
            np.testing.assert_array_equal(other.state[p][key], value)
    assert other.param_groups[0]["betas"] == (0.9, 0.999)


def test_what_cannot_be_written_is_refused_and_leaves_no_file(tmp_path):
    with pytest.raises(errors.ArgumentError, match="object at a/0"):
        backstory.save({"a": [object()]}, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_safetensors_file_is_refused(tmp_path):
    whole = backstory.save({"x": backstory.ones(100)}, tmp_path / "x").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-7])
    (tmp_path / "other").write_bytes(b"PK\x03\x04 a pickled file of PyTorch")
    for name in ("cut", "other", "missing"):
        with pytest.raises(errors.DataError, match="no safetensors file"):
            backstory.load(tmp_path / name)


def test_buffers_of_batch_norm_come_along(tmp_path, rng):
    mine = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3)).double()
    theirs = torch.nn.Sequential(
        torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.ReLU(), torch.nn.Linear(7, 3)
    ).double()
    x = rng.normal(size=(16, 5))
    theirs(torch.tensor(x))  # moves the running mean and variance
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "model")
    mine.load_state_dict(backstory.load(tmp_path / "model"))
    mine.eval(), theirs.eval()
    with backstory.no_grad(), torch.no_grad():
        found, expected = mine(backstory.tensor(x)).numpy(), theirs(torch.tensor(x)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-14)
