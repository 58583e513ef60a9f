"""Compiled training steps: backstory.compile against its peers, and against what the machine can do.

    python benchmarks/compiled.py

Every peer runs in a fresh process, the peers take turns, and all start from the same weights and data; first
losses and first gradients must agree with the same steps by hand in float64. `--only W1 W2` and
`--peers backstory-compile torch numpy` measure a part; `--quick` takes a quick look. A peer that fails or
hangs is named and the run goes on. With `--write`, every part is put into the document as soon as it is
measured, between marks of its own, so that parts may be measured in runs of their own.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import document
import elementwise
import goals
import growth
import networks
import roofline
import watched
from measure import Failures, called, machine, progress
from peers import PEERS
from plan import NETWORKS, Plan, names
from workloads import WORKLOADS

PARTS = ("empty", "activations", "growth", "watch")
QUICK = ("W1", "W2", *PARTS[:-1])
# What watching costs is measured in one process, as the part "watch".
APART = ("backstory-watched",)


def parts(plan: Plan) -> Iterator[tuple[str, list[str]]]:
    """The Markdown of every part, as soon as it is measured."""
    measured = {name: lambda name=name: _network(plan, name) for name in plan.workloads if plan.peers}
    if not plan.check:
        rest = {"empty": _empty, "activations": elementwise.activation_sections, "growth": growth.sections}
        rest["watch"] = _watch
        measured |= {part: lambda part=part: rest[part](plan) for part in plan.parts}
    for part, sections in measured.items():
        progress(part)
        failed = len(plan.failures)
        texts = [f"`{called()}`", f"{machine()}. {plan}", *_skipped(plan), *sections()]
        yield part, [*texts, *(f"**{failure}**" for failure in plan.failures[failed:])]


def _skipped(plan: Plan) -> list[str]:
    told = "; ".join(f"{PEERS[peer].label} ({why})" for peer, why in plan.skipped.items())
    return [f"Skipped: {told}."] if told else []


def _network(plan: Plan, name: str) -> Iterator[str]:
    """One network, what the machine can do at best for it, and the goals."""
    found = networks.measure(plan, name)
    yield from networks.sections(plan, name, found)
    if plan.check or name not in WORKLOADS:
        return
    line = None
    if why := roofline.missing():
        yield f"No roofline: {why}."
    else:
        failures = Failures()
        lines = roofline.rooflines([name], plan.rounds, plan.seconds, plan.most_threads, failures)
        plan.note("roofline", failures)
        if line := lines.get(name):
            yield f"What the machine can do at best, {plan.most_threads} thread(s); steps in multiples of it:"
            yield roofline.table(lines, {name: found.best})
    if judged := list(goals.goals(name, found, line)):
        yield f"Goals, with {plan.most_threads} thread(s):"
        yield goals.table(judged)


def _empty(plan: Plan) -> Iterator[str]:
    """The near-empty step and its goal."""
    times = elementwise.empty_times(plan)
    yield from elementwise.empty_sections(times)
    if judged := list(goals.of_empty(times)):
        yield goals.table(judged)


def _watch(plan: Plan) -> Iterator[str]:
    """What watching costs, and its goals."""
    found = watched.times(plan)
    yield from watched.sections(plan, found)
    costs = {name: watched.cost(processes) for name, processes in found.items()}
    if judged := list(goals.of_watching(costs, watched.MOST)):
        yield goals.table(judged)


def parse(arguments: list[str] | None = None) -> tuple[Plan, Path | None]:
    """The command line as a plan, and the document to write the tables into."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [*NETWORKS, *PARTS]
    parser.add_argument("--only", type=names, nargs="+", metavar="WHAT", help=", ".join(known))
    parser.add_argument("--peers", type=names, nargs="+", metavar="PEER", help=", ".join(PEERS))
    parser.add_argument("--rounds", type=int, help="3, and 1 of --quick")
    parser.add_argument("--seconds", type=float, help="how long a process measures (0.4)")
    parser.add_argument("--threads", type=int, nargs="+", help="of BLAS and of the libraries (1 2)")
    parser.add_argument("--quick", action="store_true", help="less of everything, without slow compilers")
    parser.add_argument("--check", action="store_true", help="only whether the peers agree")
    parser.add_argument("--write", type=Path, help="the document to write the tables into")
    chosen = parser.parse_args(arguments)
    every = QUICK if chosen.quick else (*WORKLOADS, *PARTS)
    only = [name for group in chosen.only or [every] for name in group]
    everyone = [peer for peer in PEERS if peer not in APART]
    peers = [name for group in chosen.peers or [everyone] for name in group]
    for name, choices in [*((n, known) for n in only), *((n, PEERS) for n in peers)]:
        if name not in choices:
            parser.error(f"{name!r} is none of {', '.join(choices)}")
    if chosen.quick and chosen.peers is None:
        peers = [peer for peer in peers if not PEERS[peer].slow]
    plan = Plan.of(
        only,
        peers,
        rounds=chosen.rounds or (1 if chosen.quick else 3),
        seconds=chosen.seconds or (0.1 if chosen.quick else 0.4),
        threads=tuple(chosen.threads or ((2,) if chosen.quick else (1, 2))),
        quick=chosen.quick,
        check=chosen.check,
    )
    return plan, chosen.write


def main() -> None:
    """Measure, print, and write."""
    plan, path = parse()
    if path is not None:
        for part in (*plan.workloads, *plan.parts, document.OVERVIEW):
            document.insert(path.read_text(), part, "")  # a missing mark is told before time is spent
    for part, texts in parts(plan):
        text = "\n\n".join(texts)
        print(f"{text}\n", flush=True)
        if path is not None:
            document.write(path, part, text)
    progress("done")
    plan.end()


if __name__ == "__main__":
    main()
