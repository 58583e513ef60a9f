"""Function transforms: backstory.func against torch.func, and a Hessian-vector product against a gradient.

    python benchmarks/transforms.py

The network is 64-128-10 with ReLU, in float32. Jacobians and the Hessian are those of one sample's logits
and loss by its 64 inputs; per-sample gradients are those of 256 losses by all parameters; the gradient and
the Hessian-vector product are those of one loss of 256 samples by all parameters. Every peer runs in a
fresh process, the peers take turns, and all start from the same weights and data; what they compute must
agree. Times are µs per call.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from measure import header, in_turn, per_call, row
from workloads import Workload

NETWORK = Workload((64, 128, 10), 256, "cross_entropy", "sgd", 0.01)
WHAT = {
    "jacrev": "Jacobian in reverse mode, 10 × 64",
    "jacfwd": "Jacobian in forward mode, 10 × 64",
    "hessian": "Hessian, 64 × 64",
    "per_sample": "per-sample gradients, 256 samples",
    "gradient": "gradient, 256 samples",
    "hvp": "Hessian-vector product, 256 samples",
}
MOST_GRADIENTS = 4


def calls(library: Any, func: Any, functional: Any) -> dict[str, Callable[[], Any]]:
    """What is measured, on one library: PyTorch and backstory are written alike."""
    tensor = library.tensor
    (w1, b1), (w2, b2) = ((tensor(w), tensor(b)) for w, b in NETWORK.weights())
    parameters = (w1, b1, w2, b2)
    inputs, labels = (tensor(x) for x in NETWORK.data())
    sample, label = inputs[:1], labels[:1]
    directions = tuple(
        tensor(np.random.default_rng(2).normal(size=p.shape).astype(np.float32)) for p in parameters
    )

    def logits(p: Any, x: Any) -> Any:
        hidden = functional.relu(functional.linear(x, p[0], p[1]))
        return functional.linear(hidden, p[2], p[3])

    def loss(p: Any, x: Any, y: Any) -> Any:
        return functional.cross_entropy(logits(p, x), y)

    def of_sample(p: Any, x: Any, y: Any) -> Any:
        return loss(p, x[None], y[None])

    whole = func.grad(loss)
    return {
        "jacrev": lambda: func.jacrev(lambda x: logits(parameters, x))(sample),
        "jacfwd": lambda: func.jacfwd(lambda x: logits(parameters, x))(sample),
        "hessian": lambda: func.hessian(lambda x: loss(parameters, x, label))(sample),
        "per_sample": lambda: func.vmap(func.grad(of_sample), (None, 0, 0))(parameters, inputs, labels),
        "gradient": lambda: whole(parameters, inputs, labels),
        "hvp": lambda: func.jvp(lambda p: whole(p, inputs, labels), (parameters,), (directions,))[1],
    }


def backstory_calls() -> dict[str, Callable[[], Any]]:
    """The calls on backstory."""
    import backstory
    from backstory import func
    from backstory.nn import functional

    return calls(backstory, func, functional)


def torch_calls() -> dict[str, Callable[[], Any]]:
    """The calls on PyTorch."""
    import os

    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    return calls(torch, torch.func, torch.nn.functional)


PEERS = {"backstory": backstory_calls, "torch.func": torch_calls}


def checksum(result: Any) -> float:
    """A number that tells results apart: the norm of all entries."""
    parts = result if isinstance(result, tuple) else (result,)
    return math.sqrt(sum(float((np.asarray(part.detach().numpy()) ** 2).sum()) for part in parts))


def time_peer(peer: str, what: str, seconds: float) -> dict[str, float]:
    """What one call gives, and its median time (in µs) over chunks that last ``seconds`` together."""
    call = PEERS[peer]()[what]
    found = checksum(call())
    return {"checksum": found, "time": per_call(call, seconds)}


def compare(what: str, peers: list[str], rounds: int, seconds: float, threads: int) -> dict[str, list[float]]:
    """Measure one transform, print its rows, and return the times."""
    worker = [sys.executable, __file__, "--what", what, "--seconds", str(seconds)]
    reports = in_turn({peer: [*worker, "--worker", peer] for peer in peers}, rounds, threads)
    sums = {peer: found[0]["checksum"] for peer, found in reports.items()}
    if max(sums.values()) - min(sums.values()) > 1e-4 * max(sums.values()):
        sys.exit(f"{what}: the peers computed different things: {sums}")
    times = {peer: [one["time"] for one in found] for peer, found in reports.items()}
    for peer in peers:
        print(row(WHAT[what], peer, times[peer], times[peers[0]]), flush=True)
    return times


def main() -> None:
    """Read the command line; be one worker, or run all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long a process measures")
    parser.add_argument("--threads", type=int, default=2, help="of BLAS and of PyTorch")
    parser.add_argument("--worker", choices=PEERS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        print(json.dumps(time_peer(chosen.worker, chosen.what[0], chosen.seconds)))
        return
    print(f"{chosen.rounds} rounds, {chosen.threads} threads, peers in turn, one process each\n")
    print(header("µs", chosen.peers[0]))
    found = {
        what: compare(what, chosen.peers, chosen.rounds, chosen.seconds, chosen.threads)
        for what in chosen.what
    }
    if {"gradient", "hvp"} <= found.keys():
        print(f"\nA Hessian-vector product in gradients (goal: at most {MOST_GRADIENTS}):")
        for peer in chosen.peers:
            ratio = statistics.median(found["hvp"][peer]) / statistics.median(found["gradient"][peer])
            print(f"{peer} {ratio:.2f}")


if __name__ == "__main__":
    main()
