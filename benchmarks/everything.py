"""All benchmarks, one after the other, each written into the document that holds its table.

    python benchmarks/everything.py

A benchmark that fails is named at the end, and the others run all the same. `--quick` takes a short look at
everything, prints it and writes nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import document
from measure import progress

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Benchmark:
    """A file with its settings; what it prints goes between its marks, unless it ``writes`` by itself."""

    file: str
    settings: str = ""
    quick: str = ""
    writes: bool = False
    shown: bool = True


BENCHMARKS = {
    "import": Benchmark("import_time.py", "", "--rounds 1"),
    "eager": Benchmark(
        "eager.py", "--rounds 3 --seconds 0.5", "--workloads W1 conv2d --rounds 1 --seconds 0.1"
    ),
    "memory": Benchmark("memory.py", "--rounds 1", "--workloads W1 --rounds 1"),
    "transforms": Benchmark(
        "transforms.py",
        "--rounds 3 --seconds 0.5 --threads 1",
        "--what gradient hvp --rounds 1 --seconds 0.1",
    ),
    "recording": Benchmark("recording.py", "--rounds 3", "--rounds 1"),
    "PyTorch recording": Benchmark("torch_recording.py", "--rounds 2", "--rounds 1 --only demo", shown=False),
    "mathematics": Benchmark("mathematics.py", "--points 3000", "--points 50"),
    "compiled": Benchmark("compiled.py", "--write docs/benchmarks.md", "--quick", writes=True),
}


def run(name: str, quick: bool) -> bool:
    """Run one; whether it went well."""
    benchmark = BENCHMARKS[name]
    settings = (benchmark.quick if quick else benchmark.settings).split()
    command = " ".join(["python", f"benchmarks/{benchmark.file}", *settings])
    progress(command)
    done = subprocess.run(
        [sys.executable, str(HERE / benchmark.file), *settings],
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE.parent,
    )
    print(f"`{command}`\n\n{done.stdout}", flush=True)
    if done.returncode == 0 and benchmark.shown and not benchmark.writes and not quick:
        document.write(DOCUMENT, name, f"`{command}`\n\n{done.stdout.strip()}")
    return done.returncode == 0


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    failed = [name for name in chosen.only if not run(name, chosen.quick)]
    progress("all done")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
