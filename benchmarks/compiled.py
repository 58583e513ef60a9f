"""Compiled training steps: backstory.compile against its peers, and against what the machine can do.

    python benchmarks/compiled.py

Every peer runs in a fresh process, the peers take turns, and all start from the same weights and data; first
losses and first gradients must agree with the same steps by hand in float64. `--only W1 W2` and
`--peers backstory-compile torch numpy` measure a part; `--rounds 1 --quick` takes a quick look at everything.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import elementwise
import goals
import growth
import networks
import roofline
from measure import machine
from peers import PEERS
from plan import NETWORKS, Plan, names
from workloads import WORKLOADS

BEGIN, END = "<!-- compiled: begin -->", "<!-- compiled: end -->"
PARTS = ("empty", "activations", "growth")
QUICK = ("W1", "W2", *PARTS)


def sections(plan: Plan) -> Iterator[str]:
    """The Markdown of every part, as soon as it is measured."""
    yield f"{machine()}. {plan}"
    for peer, why in plan.skipped.items():
        yield f"Skipped: {PEERS[peer].label} ({why})."
    if plan.workloads and plan.peers:
        results = networks.measure(plan)
        yield from networks.sections(plan, results)
    else:
        results = networks.Results()
    if plan.check:
        return
    rooflines = yield from _rooflines(plan, results)
    empty = elementwise.empty_times(plan) if "empty" in plan.parts else {}
    yield from elementwise.empty_sections(empty)
    if judged := list(goals.goals(results, rooflines, empty)):
        yield f"Goals, with {plan.most_threads} thread(s):"
        yield goals.table(judged)
    if "activations" in plan.parts:
        yield from elementwise.activation_sections(plan)
    if "growth" in plan.parts:
        yield from growth.sections(plan)
    for failure in plan.failures:
        yield f"**{failure}**"


def _rooflines(plan: Plan, results: networks.Results) -> Iterator[str]:
    """The rooflines of the networks for every number of threads; returns those with the most."""
    found: dict[str, roofline.Roofline] = {}
    chosen = [name for name in plan.workloads if name in WORKLOADS]
    if not chosen:
        return found
    if why := roofline.missing():
        yield f"No roofline: {why}."
        return found
    for threads in plan.threads:
        found = roofline.rooflines(chosen, plan.rounds, plan.seconds, threads)
        yield f"What the machine can do at best, {threads} thread(s); steps in multiples of it:"
        yield roofline.table(found, results.times[threads])
    return found


def insert(document: str, text: str) -> str:
    """The document with ``text`` in place of what stands between the two marks."""
    before, found, rest = document.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not (found and closed):
        sys.exit(f"the document has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def parse(arguments: list[str] | None = None) -> tuple[Plan, Path | None]:
    """The command line as a plan, and the document to write the tables into."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [*NETWORKS, *PARTS]
    parser.add_argument("--only", type=names, nargs="+", metavar="WHAT", help=", ".join(known))
    parser.add_argument("--peers", type=names, nargs="+", metavar="PEER", help=", ".join(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, help="how long a process measures (0.5)")
    parser.add_argument("--threads", type=int, nargs="+", help="of BLAS and of the libraries (1 2)")
    parser.add_argument("--quick", action="store_true", help="less of everything, without slow compilers")
    parser.add_argument("--check", action="store_true", help="only whether the peers agree")
    parser.add_argument("--write", type=Path, help="the document to write the tables into")
    chosen = parser.parse_args(arguments)
    every = QUICK if chosen.quick else (*WORKLOADS, *PARTS)
    only = [name for group in chosen.only or [every] for name in group]
    peers = [name for group in chosen.peers or [PEERS] for name in group]
    for name, choices in [*((n, known) for n in only), *((n, PEERS) for n in peers)]:
        if name not in choices:
            parser.error(f"{name!r} is none of {', '.join(choices)}")
    if chosen.quick and chosen.peers is None:
        peers = [peer for peer in peers if not PEERS[peer].slow]
    plan = Plan.of(
        only,
        peers,
        rounds=chosen.rounds,
        seconds=chosen.seconds or (0.1 if chosen.quick else 0.5),
        threads=tuple(chosen.threads or ((2,) if chosen.quick else (1, 2))),
        quick=chosen.quick,
        check=chosen.check,
    )
    return plan, chosen.write


def main() -> None:
    """Measure, print, and write."""
    plan, document = parse()
    text = "\n\n".join(plan.print(sections(plan)))
    if document is not None:
        document.write_text(insert(document.read_text(), text))
    plan.end()


if __name__ == "__main__":
    main()
