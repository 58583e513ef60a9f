"""One rank of a training by several processes: ``python parallel_training.py scenario rank size folder``."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import backstory
from backstory.errors import RunError

STEPS, PART = 37, 3  # steps of a training, and samples of one backward pass on one rank


class Net(nn.Module):
    """Two hidden layers; with ``extra`` one more site runs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 5), nn.Linear(5, 1)

    def forward(self, x: torch.Tensor, extra: bool = False) -> torch.Tensor:
        h = self.a(x).relu()
        y = self.c(torch.relu(self.b(h)))
        return y + nn.functional.leaky_relu(h, 0.0).sum(1, keepdim=True) if extra else y


def setting(lr: float = 0.05) -> tuple[Net, torch.optim.Optimizer, torch.Tensor]:
    """The same network, optimizer and data in every process."""
    torch.manual_seed(0)
    net = Net().double()
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    return net, optimizer, torch.randn(97, 6, dtype=torch.float64)


def batch(x: torch.Tensor, step: int, rank: int, part: int) -> torch.Tensor:
    """What ``rank`` sees in one backward pass; of both parts and ranks all differ."""
    first = 4 * PART * step + 2 * PART * part + PART * rank
    return x[[i % len(x) for i in range(first, first + PART)]]


def train(model: Any, optimizer: Any, x: Any, rank: int, run: Any, extra: Any = lambda step: False) -> None:
    """Two backward passes per step; at every third step the first is not synchronised."""
    for step in range(STEPS):
        optimizer.zero_grad()
        for part in range(2):
            call = (model(batch(x, step, rank, part), extra(step)) ** 2).mean() / 2
            if part == 0 and step % 3 == 0:
                with model.no_sync():
                    call.backward()
            else:
                call.backward()
        optimizer.step()
        run.log(progress=step)
        if rank == 0 and step == 20:
            run.flush()  # on one rank alone
            assert len(run.losses) == 16, len(run.losses)


def plain(rank: int, folder: Path) -> None:
    net, optimizer, x = setting()
    model = DistributedDataParallel(net)
    with backstory.watch(model, optimizer, folder / "run", data=x) as run:
        train(model, optimizer, x, rank, run)
        assert run.step == STEPS
    if rank == 0:
        assert len(run.losses) == STEPS
    else:
        run.take_snapshot()
        run.scan()
        run.close()
        assert run.order([1, 2]) == [1, 2]
        for ask in (lambda: run.story(), lambda: run.life_table(), lambda: run.losses):
            refuses(ask, "never")
        assert not hasattr(run, "anything_else")
    refuses(lambda: backstory.watch(model, optimizer, folder / "run", data=x), "holds a run", "holds a run")
    # A second recording, on every fourth step, of sites that one rank alone runs at some.
    net, optimizer, x = setting()
    model = DistributedDataParallel(net, find_unused_parameters=True)
    run = backstory.watch(model, optimizer, folder / "second", data=x, every=4)
    train(model, optimizer, x, rank, run, lambda step: rank == 1 and step % 8 == 0)
    run.close()


def refuses(ask: Any, on_rank_0: str, on_others: str = "rank 0") -> None:
    said = ""
    try:
        ask()
    except RunError as error:
        said = str(error)
    assert (on_rank_0 if dist.get_rank() == 0 else on_others) in said, said


def failing(rank: int, folder: Path) -> None:
    net, optimizer, x = setting()
    model = DistributedDataParallel(net)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with backstory.watch(model, optimizer, folder / "run", data=x) as run:
            if rank == 1:
                run.source.count = None  # what is called at every gate
            train(model, optimizer, x, rank, _Quiet())
    (warning,) = [str(w.message) for w in caught if "backstory" in str(w.message)]
    assert "on rank 1 it failed: TypeError" in warning, warning
    assert next(net.parameters()).grad is not None


class _Quiet:
    losses = range(16)

    def log(self, **metrics: float) -> None:
        pass

    def flush(self) -> None:
        pass


def raising(rank: int, folder: Path) -> None:
    net, optimizer, x = setting()
    model = DistributedDataParallel(net)
    with backstory.watch(model, optimizer, folder / "run", data=x):
        for step in range(STEPS):
            if rank == 1 and step == 20:
                raise ValueError("the user's own")
            (model(batch(x, step, rank, 0)) ** 2).mean().backward()
            optimizer.step()


def uneven(rank: int, folder: Path) -> None:
    x = setting()[2]
    net = nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 1)
    )
    optimizer = torch.optim.Adam(net.double().parameters())
    model = DistributedDataParallel(net)
    with backstory.watch(model, optimizer, folder / "run", data=x), model.join():
        for step in range(STEPS if rank == 0 else 20):
            optimizer.zero_grad()
            (model(batch(x, step, rank, 0)) ** 2).mean().backward()
            optimizer.step()


def main(scenario: str, rank: int, size: int, folder: Path) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    store = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    globals()[scenario](rank, folder)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
