"""The command line: ``backstory demo``, and questions about runs that exist."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

from backstory.errors import BackstoryError, MissingExtraError

__all__ = ["main"]


def main() -> None:
    """The entry point: an error of backstory is printed, not traced."""
    try:
        import typer
    except ImportError as error:
        print(MissingExtraError.of("typer", "cli", "the command line"), file=sys.stderr)
        raise SystemExit(1) from error
    app = typer.Typer(no_args_is_help=True, add_completion=False, help="Why does this network not learn?")
    for command in (demo, story, audit, report):
        app.command()(command)
    try:
        app()
    except BackstoryError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from error


def demo(
    out: Annotated[Path, "where the run and the report go"] = Path("backstory-demo"), seeds: int = 20
) -> None:
    """A network stops learning on real digits; see why, and what would have saved it."""
    from rich.console import Console

    from backstory.demo import explain, record, save
    from backstory.report import write_report

    console = Console(highlight=False)
    with console.status("training a 64-100-100-10 network on handwritten digits"):
        run = record(_fresh(out / "run"))
    with console.status("replaying it, with a scan of all training digits after every update"):
        explain(run)
    save(run, seeds)
    with console.status("drawing the report"):
        page = write_report(run, out / "report.html")
    print(run.story())
    print(f"Report: {page}")


def _fresh(path: Path) -> Path:
    """The demo's own folder, without what an earlier demo left there."""
    if (path / "run.db").exists():
        shutil.rmtree(path)
    return path


def story(path: Path) -> None:
    """Tell what happened in the run at PATH."""
    from backstory.insight import open_run

    print(open_run(path).story())


def audit(path: Path) -> None:
    """Replay the run at PATH and decide every birth, death and revival exactly."""
    from backstory.insight import open_run

    print(open_run(path).audit())


def report(path: Path, out: Path | None = None) -> None:
    """Write the report of the run at PATH (to PATH/report.html unless told otherwise)."""
    from backstory.insight import open_run
    from backstory.report import write_report

    print(write_report(open_run(path), out or path / "report.html"))


if __name__ == "__main__":
    main()
