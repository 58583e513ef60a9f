"""The command line: ``backstory demo``, ``train``, ``lint``, ``claims``, and questions about known runs."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from backstory.errors import BackstoryError, MissingExtraError

if TYPE_CHECKING:
    import typer

__all__ = ["main"]


def main() -> None:
    """The entry point: an error of backstory is printed, not traced."""
    global typer  # by this name the commands' annotations find it
    try:
        import typer
    except ImportError as error:
        print(MissingExtraError.of("typer", "cli", "the command line"), file=sys.stderr)
        raise SystemExit(1) from error
    app = typer.Typer(no_args_is_help=True, add_completion=False, help="Why does this network not learn?")
    for command in (demo, train, lint, claims, story, audit, report, cache):
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


def train(
    data: Annotated[str, "digits, a CSV file, or a folder of MNIST's or CIFAR-10's files"],
    hidden: Annotated[str, "units of the hidden layers: 100, or 100,100 for a deeper network"] = "100",
    target: Annotated[str, "the target's column in a CSV file, by name or number"] = "-1",
    optimizer: Annotated[str, "SGD, Adam, AdamW, NAdam, RMSprop or Adagrad"] = "Adam",
    lr: Annotated[float, "the learning rate"] = 1e-3,
    epochs: int = 10,
    batch_size: int = 64,
    patience: Annotated[int | None, "end when the loss got no better for so many epochs"] = None,
    seed: int = 0,
    out: Annotated[Path | None, "write the trained parameters here (safetensors)"] = None,
    checkpoint: Annotated[Path | None, "write the whole state here, and go on from it"] = None,
    watch: Annotated[Path | None, "record the training into this folder"] = None,
    verify: Annotated[bool, "MNIST and CIFAR-10 must be the release's own files"] = True,
) -> None:
    """Train a classifier: affine - ReLU - affine - softmax, or deeper; on a target of floats a regression."""
    import backstory
    from backstory import classifier, optim
    from backstory.errors import ArgumentError

    kind = getattr(optim, optimizer, None) if optimizer in optim.__all__ else None
    if not isinstance(kind, type) or kind is optim.Optimizer:
        raise ArgumentError(
            f"--optimizer {optimizer}", why="there is none of this name", instead="--optimizer Adam"
        )
    if not all(word.strip().isdigit() and int(word) > 0 for word in hidden.split(",") if word):
        raise ArgumentError(f"--hidden {hidden}", why="it lists numbers of units", instead="--hidden 100,100")
    backstory.manual_seed(seed)
    training, held_out, outputs = classifier.read(data, target, verify)
    model = classifier.build(training, [int(word) for word in hidden.split(",") if word], outputs)
    history = backstory.fit(
        model,
        training,
        epochs=epochs,
        optimizer=kind(model.parameters(), lr=lr),
        validation=held_out,
        patience=patience,
        checkpoint=checkpoint,
        watch=watch,
        batch_size=batch_size,
    )
    if out is not None:
        print(f"Parameters: {backstory.save(model.state_dict(), out)}")
    if history.run is not None:
        print(history.run.story())
    if history.ended == "interrupted":
        print(
            "Interrupted; " + (f"the same command goes on from {checkpoint}" if checkpoint else "not saved")
        )


def lint(
    target: Annotated[str, "MODULE:FUNCTION, whose result is (model, sample) or (model, sample, optimizer)"],
) -> None:
    """Advice before training: run a model once on a sample. Ends with 1 if there is more than a note."""
    from rich.console import Console

    from backstory.errors import ArgumentError
    from backstory.insight import lint as advise

    name, _, function = target.partition(":")
    sys.path.insert(0, "")  # modules beside the user, as python -m finds them
    try:
        make = getattr(importlib.import_module(name), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ArgumentError(
            f"backstory lint {target}", why=str(error), instead="backstory lint my_training:make_parts"
        ) from error
    parts = make()
    if not (isinstance(parts, tuple) and len(parts) in (2, 3)):
        raise ArgumentError(
            f"backstory lint {target}, which returned {type(parts).__name__}",
            why="lint needs a model and a sample of its inputs",
            instead="return model, sample  or  return model, sample, optimizer",
        )
    advice = advise(*parts)
    Console(highlight=False).print(advice)
    if advice.worst in ("error", "warning"):
        raise SystemExit(1)


def claims(
    names: Annotated[list[str] | None, typer.Argument(help="Which; all of them if none is named.")] = None,
    show_list: Annotated[bool, typer.Option("--list", help="Name the claims that there are.")] = False,
    plot: Annotated[Path | None, typer.Option(help="The picture's file; of several, their folder.")] = None,
    markdown: Annotated[bool, typer.Option(help="Print one table in Markdown.")] = False,
    seeds: Annotated[int, typer.Option(help="Paired seeds where chance plays a part.")] = 12,
    jobs: Annotated[int, typer.Option(help="Processes; −1 for one a core.")] = -1,
) -> None:
    """Measure claims that texts make about ReLU networks; one that is named comes with its picture."""
    from rich.console import Console

    from backstory.claims import CLAIMS, Effort, find, measure, present

    console = Console(highlight=False)
    chosen = [find(name) for name in names or CLAIMS]
    if show_list:
        console.print(present.listing(chosen))
        return
    found = []
    with console.status("measuring"):
        for one in measure([claim.name for claim in chosen], Effort(seeds=seeds), jobs):
            found.append(one)
            if not markdown:
                console.print(present.shown(one))
    if markdown:
        print(present.markdown(found))
    if plot is None and names and len(names) == 1:
        plot = Path(f"{names[0]}.png")
    if plot is not None:
        for file in present.save(found, plot):
            print(f"Picture: {file}")


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


def cache(clear: Annotated[bool, "delete what is kept"] = False) -> None:
    """Show how much compiled code is kept for later processes, and where."""
    from backstory.compiler import cache as kept

    if clear:
        print(f"Deleted {kept.clear()}")
    else:
        print(kept.contents())


if __name__ == "__main__":
    main()
