"""What watching a PyTorch training costs, against the bare loop and against hooks written by hand.

    python benchmarks/torch_recording.py

Peers take turns, one fresh process each. ``backstory`` records every step: loss, learning rate, gates of
every site, norms of every gradient and change, and the database are in the figure. Scans are not: they come
at steps 1, 2, 4, 8, … and each costs about one forward pass over the declared data. ``hooks by hand`` is
what people write today: on every module a forward hook that computes ``(out == 0).float().mean().item()``,
and a full backward hook.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from measure import header, in_turn, row

ROUNDS, WARM, TIMED = (
    5,
    10,
    6,
)  # steps before the clock starts, and blocks of steps of which the median counts


def demo() -> tuple[Any, Any, Any, Any]:
    """64-100-100-10, batch 64, float64, SGD with momentum: the demo's network."""
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    model = model.double()
    data = torch.rand(1438, 64, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return model, optimizer, data, torch.randint(0, 10, (1438,))


def deep() -> tuple[Any, Any, Any, Any]:
    """784-(256 × 10)-10, batch 128, Adam."""
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    for n in (784, *([256] * 9)):
        layers += [nn.Linear(n, 256), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(256, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    return model, optimizer, torch.rand(2048, 784), torch.randint(0, 10, (2048,))


def residual() -> tuple[Any, Any, Any, Any]:
    """A ResNet of 3 × 32 × 32 inputs: three stages of two blocks, 16, 32 and 64 channels, batch 64."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, n: int, m: int, stride: int) -> None:
            super().__init__()
            self.first = nn.Conv2d(n, m, 3, stride, 1, bias=False)
            self.norm1, self.norm2 = nn.BatchNorm2d(m), nn.BatchNorm2d(m)
            self.second = nn.Conv2d(m, m, 3, 1, 1, bias=False)
            self.skip = nn.Conv2d(n, m, 1, stride, bias=False) if n != m else nn.Identity()

        def forward(self, x: Any) -> Any:
            h = nn.functional.relu(self.norm1(self.first(x)))
            return nn.functional.relu(self.norm2(self.second(h)) + self.skip(x))

    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    widths = [(16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    model = nn.Sequential(*stem, *(Block(*w) for w in widths), *head)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    return model, optimizer, torch.rand(512, 3, 32, 32), torch.randint(0, 10, (512,))


# name: (what is built, batch size, steps in one timed block)
WORKLOADS: dict[str, tuple[Callable[[], Any], int, int]] = {
    "64-100-100-10, batch 64 (the demo's network)": (demo, 64, 300),
    "784-(256 × 10)-10, batch 128": (deep, 128, 25),
    "ResNet, 3 × 32 × 32, batch 64": (residual, 64, 4),
}


def hooks_by_hand(model: Any) -> None:
    """What people write to look for dead units today."""

    def forward(module: Any, args: Any, out: Any) -> None:
        zeros[id(module)] = (out == 0).float().mean().item()

    def backward(module: Any, grad_in: Any, grad_out: Any) -> None:
        pass

    zeros: dict[int, float] = {}
    for module in model.modules():
        if module is not model:
            module.register_forward_hook(forward)
            module.register_full_backward_hook(backward)


def no_step(step: int) -> bool:
    """Scan at no step."""
    return False


def microseconds(workload: str, peer: str) -> float:
    """The median time of a step."""
    import warnings

    import torch

    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    build, batch, steps = WORKLOADS[workload]
    model, optimizer, data, labels = build()
    with ExitStack() as stack:
        if peer == "backstory":
            import backstory

            folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            stack.enter_context(
                backstory.watch(model, optimizer, Path(folder) / "run", data=data, scan_at=no_step)
            )
        elif peer == "hooks by hand":
            hooks_by_hand(model)
        place = 0

        def run(count: int) -> float:
            nonlocal place
            start = time.perf_counter()
            for _ in range(count):
                chosen = slice(place, place + batch)
                place = (place + batch) % (len(data) - batch)
                loss = torch.nn.functional.cross_entropy(model(data[chosen]), labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            return 1e6 * (time.perf_counter() - start) / count

        run(WARM)
        return statistics.median([run(steps) for _ in range(TIMED)])


PEERS = ("bare", "backstory", "hooks by hand")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="measure the workloads whose name contains this")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        print(json.dumps(microseconds(*chosen.worker)))
        return
    print(f"{chosen.rounds} rounds, {chosen.threads} threads, in turn, one process each\n")
    print(header("µs", "bare"))
    for workload in (name for name in WORKLOADS if chosen.only in name):
        commands = {peer: [sys.executable, __file__, "--worker", workload, peer] for peer in PEERS}
        times = in_turn(commands, chosen.rounds, chosen.threads)
        for peer in PEERS:
            print(row(workload, peer, times[peer], times["bare"]))


if __name__ == "__main__":
    main()
