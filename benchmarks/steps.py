"""One training step of a peer, measured in a process of its own and checked against a reference.

A worker imports the library, then takes the first steps (the first of all is timed: tracing and compiling are
in it), and then measures. What it computed is compared with the same steps by hand in float64.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from measure import Failures, forget_peak, held, in_turn, keep_to, per_call, report
from peers import PEERS, Training, by_hand
from workloads import Workload

__all__ = ["command", "compare", "deviations", "measured", "reference", "report"]

CHECKED = 3
TOLERANCE = 1e-4
ROUNDINGS = 4
DIRECTIONS = 4


def fingerprint(gradients: Sequence[np.ndarray]) -> list[list[float]]:
    """Norm of each array, and its components along a few random directions that every process draws alike."""
    random = np.random.default_rng(2)
    prints = []
    for g in gradients:
        flat = np.asarray(g, np.float64).ravel()
        along = random.standard_normal((DIRECTIONS, flat.size)) @ flat
        prints.append([float(np.sqrt(flat @ flat)), *along.tolist()])
    return prints


def first_steps(training: Training) -> tuple[list[float], list[list[float]]]:
    """The losses of the first steps, and the fingerprint of the first gradients."""
    losses = [training.number(training.step())]
    prints = fingerprint(training.gradients())
    losses += [training.number(training.step()) for _ in range(CHECKED - 1)]
    return losses, prints


def reference(workload: Workload) -> dict[str, Any]:
    """What the first steps give in float64, by hand, and how far the same in float32 is from it.

    In a deep network Adam makes much of rounding: its first updates are about lr · sign(g) for any g.
    """
    found = {}
    for dtype in ("float64", "float32"):
        losses, prints = first_steps(by_hand.start(workload, dtype))
        found[dtype] = {"losses": losses, "gradients": prints}
    right = found["float64"]
    return right | {"rounding": deviations(found["float32"], right)}


def deviations(found: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, float]:
    """The largest relative deviation of the losses, and of the gradients, from the reference.

    Losses are measured by the first loss: rounding is as large as the logits are there, however far the loss
    has come down. Gradients are measured by their norms: |Δ| along a random direction is of the size of the
    deviation's norm.
    """
    losses, right = np.array(found["losses"]), np.array(expected["losses"])
    gradients = [
        np.abs(np.subtract(one, other)).max() / (other[0] or 1.0)
        for one, other in zip(found["gradients"], expected["gradients"], strict=True)
    ]
    # NumPy's max, since Python's forgets NaN.
    return {
        "losses": float(np.abs(losses - right).max() / abs(right[0])),
        "gradients": float(np.max(gradients)),
    }


def disagreements(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """What deviates by more than float32's rounding explains, in words.

    That is ``TOLERANCE``, or where it is more, ``ROUNDINGS`` times what the steps by hand deviate in float32.
    """
    rounding = expected["rounding"]
    return [
        f"its first {what} deviate by {deviation:.1e} from those by hand in float64"
        for what, deviation in deviations(found, expected).items()
        if not deviation <= max(TOLERANCE, ROUNDINGS * rounding[what])
    ]


def measured(peer: str, workload: Workload, seconds: float) -> dict[str, Any]:
    """What one process finds out about one peer.

    ``first`` is the time from nothing but the imported library to the first loss, in seconds; ``time`` that
    of a step in µs (without ``seconds`` nothing but the first steps is taken); ``first_peak`` the
    most memory held up to the first loss, in MiB beyond what the library held.
    """
    PEERS[peer].load()
    workload.data(), workload.weights()
    forget_peak()
    before = held("VmRSS")
    start = time.perf_counter()
    training = PEERS[peer].start(workload)
    losses = [training.number(training.step())]
    found: dict[str, Any] = {"first": time.perf_counter() - start, "first_peak": held("VmHWM") - before}
    prints = fingerprint(training.gradients())
    losses += [training.number(training.step()) for _ in range(CHECKED - 1)]
    if seconds:
        found["time"] = per_call(training.step, seconds, training.number)
    training.close()
    return found | {"losses": losses, "gradients": prints}


def command(peer: str, workload: Workload, seconds: float, threads: int) -> list[str]:
    """The command that measures a peer in a process of its own."""
    described = json.dumps(dataclasses.asdict(workload))
    return [sys.executable, __file__, peer, described, str(seconds), str(threads)]


def compare(
    workload: Workload,
    peers: Sequence[str],
    rounds: int,
    seconds: float,
    threads: int,
    environment: Mapping[str, str] | None = None,
    *,
    failures: Failures,
    what: str = "",
) -> dict[str, list[Any]]:
    """The reports of the peers; a peer that fails, or computes something else, is noted in ``failures``."""
    commands = {peer: command(peer, workload, seconds, threads) for peer in peers}
    reports = in_turn(commands, rounds, threads, environment, failures, what)
    expected = reference(workload)
    for peer, found in reports.items():
        wrong = next((told for one in found if (told := disagreements(one, expected))), [])
        if wrong:
            failures[peer] = "; ".join(wrong)
    return reports


def main() -> None:
    """Be one worker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("workload", type=json.loads)
    parser.add_argument("seconds", type=float)
    parser.add_argument("threads", type=int)
    chosen = parser.parse_args()
    keep_to(chosen.threads)
    described = chosen.workload | {"sizes": tuple(chosen.workload["sizes"])}
    print(json.dumps(measured(chosen.peer, Workload(**described), chosen.seconds)))


if __name__ == "__main__":
    main()
