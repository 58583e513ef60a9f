"""Compiled training steps: backstory.compile against its peers, and against what the machine can do.

    python benchmarks/compiled.py

Every peer runs in a fresh process, the peers take turns, and all start from the same weights and data; first
losses and first gradients must agree with the same steps by hand in float64. `--only W1 W2` and
`--peers backstory-compile torch numpy` measure a part; `--rounds 1 --quick` takes a quick look at everything.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import networks
from measure import machine
from networks import Plan
from peers import PEERS
from workloads import TINY, WORKLOADS

BEGIN, END = "<!-- compiled: begin -->", "<!-- compiled: end -->"

# What is measured besides the networks, by the name that `--only` takes.
PARTS: dict[str, Callable[[Plan], Iterator[str]]] = {}


def sections(plan: Plan) -> Iterator[str]:
    """The Markdown of every part, as soon as it is measured."""
    yield f"{machine()}. {plan}"
    for peer, why in plan.skipped.items():
        yield f"Skipped: {PEERS[peer].label} ({why})."
    if plan.workloads:
        yield from networks.sections(plan)
    for part, measure in PARTS.items():
        if part in plan.parts:
            yield from measure(plan)
    for failure in plan.failures:
        yield f"**{failure}**"


def insert(document: str, text: str) -> str:
    """The document with ``text`` in place of what stands between the two marks."""
    before, found, rest = document.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not (found and closed):
        sys.exit(f"the document has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def names(text: str) -> list[str]:
    """``a,b`` as a list."""
    return [name for name in text.split(",") if name]


def parse(arguments: list[str] | None = None) -> tuple[Plan, Path | None]:
    """The command line as a plan, and the document to write the tables into."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*WORKLOADS, *PARTS]
    known = [*every, *TINY]
    parser.add_argument("--only", type=names, nargs="+", metavar="WHAT", help=", ".join(known))
    parser.add_argument("--peers", type=names, nargs="+", metavar="PEER", help=", ".join(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, help="how long a process measures (0.5)")
    parser.add_argument("--threads", type=int, nargs="+", help="of BLAS and of the libraries (1 2)")
    parser.add_argument("--quick", action="store_true", help="less of everything, without slow compilers")
    parser.add_argument("--check", action="store_true", help="only whether the peers agree")
    parser.add_argument("--write", type=Path, help="the document to write the tables into")
    chosen = parser.parse_args(arguments)
    only = [name for group in chosen.only or [every] for name in group]
    peers = [name for group in chosen.peers or [list(PEERS)] for name in group]
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
    parts = []
    for section in sections(plan):
        print(f"{section}\n", flush=True)
        parts.append(section)
    if document is not None:
        document.write_text(insert(document.read_text(), "\n\n".join(parts)))
    if plan.failures:
        sys.exit("; ".join(plan.failures))


if __name__ == "__main__":
    main()
