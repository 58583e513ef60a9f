"""The run store: killed, forked, damaged, foreign, read while written; and snapshots."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import numpy as np
import pytest
from insight import trainings
from insight.trainings import inputs, network, step_once, targets

import backstory
from backstory import optim
from backstory.errors import RunError
from backstory.insight import experiment, open_run, watch
from backstory.insight.snapshot import read_snapshot, take_snapshot
from backstory.insight.store import Writer, database

PATIENCE = 60.0  # seconds that a process may take before a test gives up


def recorded(path, steps=20):
    """A finished run of a few steps."""
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    with watch(model, optimizer, path, data=inputs(), scan_at=lambda step: True) as run:
        for _ in range(steps):
            step_once(model, optimizer, inputs(), targets(inputs()))
        run.log(score=1.0)
    run._writer._worker.end()  # closes the database, so that all is in one file
    return open_run(path)


def until(condition):
    """Look until it holds; a bound ends a test that would wait for ever."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)


# Killed


@pytest.fixture
def start_training():
    """Start trainings in processes of their own, which go on until they are killed."""
    places = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "OPENBLAS_NUM_THREADS": "1"}
    with ExitStack() as stack:

        def start(path, *how):
            command = [sys.executable, "-m", "insight.trainings", str(path), *how]
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def committed(path):
    with closing(sqlite3.connect(database(path))) as connection:
        return connection.execute("SELECT total(length(numbers) / 8) FROM steps").fetchone()[0]


def check_whole(run):
    """Nothing torn: rows of one step and of what came before it, all there or none."""
    check_steps(run)
    steps = run.steps
    said = [step for step, _ in run.metrics("step")]
    assert said == list(range(len(said)))
    assert len(said) - len(steps) in (0, 1), "what is said before a step is stored before it"
    orders = [step for (step,) in run._rows("SELECT step FROM orders ORDER BY rowid")]
    assert len(orders) - len(said) in (0, 1)


def check_steps(run):
    steps = run.steps
    assert steps.tolist() == list(range(1, len(steps) + 1))
    for site in run.sites:
        assert run.gates(site)[0].tolist() == steps.tolist()
    assert {name: table.shape for name, table in run.norms().items()} == {
        name: (3, len(steps)) for name in ("0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias")
    }
    scanned = run.life_table().steps.tolist()
    assert scanned == [0, *(2**k for k in range(20) if 2**k <= max(scanned))]
    assert max(scanned) <= len(steps) < 2 * max(scanned, default=1) + 1
    assert run.meta["status"] == "running"
    assert run.meta["samples"] == 48
    for step, file in run._rows("SELECT step, file FROM snapshots"):
        assert read_snapshot(run.path / "snapshots" / file).step == step
    assert "This network" in run.story()


def test_runs_that_are_killed_at_any_moment_open_with_all_that_was_committed(tmp_path, start_training):
    """Some before their first commit, some after; while they run, this process reads along."""
    rng, whole = random.Random(5), 0
    paths = [tmp_path / f"run{i}" for i in range(6)]
    processes = [start_training(path) for path in paths[:2]]
    waiting = list(enumerate(paths))
    while waiting:
        i, path = waiting.pop(0)
        process = processes[i]
        if len(processes) < len(paths):
            processes.append(start_training(paths[len(processes)]))
        assert process.stdout is not None
        assert process.stdout.readline() == "watching\n"
        if i % 3 == 0:
            seen = 0
        else:
            run = open_run(path)
            until(lambda run=run: len(run.steps) > 0)
            seen = len(run.steps)
            assert run.gates("1/relu#0")[0].size >= seen
            check_live(run)
        time.sleep(rng.uniform(0.0, 0.4))  # a moment like any other; nothing depends on it
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
        run = open_run(path)
        assert len(run.steps) >= seen
        check_whole(run)
        assert len(run.steps) == committed(path)
        whole += len(run.steps) > 0
    assert whole >= 4


def test_a_killed_process_whose_steps_are_compiled_has_stored_all_but_the_last(tmp_path, start_training):
    process = start_training(tmp_path / "run", "compiled")
    assert process.stdout is not None
    assert process.stdout.readline() == "watching\n"
    run = open_run(tmp_path / "run")
    until(lambda: len(run.steps) > 100)
    seen = len(run.steps)
    check_live(run)
    until(lambda: len(run.steps) > seen)
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    assert len(run.steps) == committed(tmp_path / "run")
    check_steps(run)


def check_live(run):
    """Everything can be asked of a run that is being written."""
    assert run.meta["status"] == "running"
    assert len(run.life_table().events) >= 0
    assert run.story()
    assert run.snapshot().step >= 0


def test_a_run_whose_recording_has_not_begun_says_so(tmp_path):
    (tmp_path / "run").mkdir()
    database(tmp_path / "run").touch()
    with pytest.raises(RunError, match="has just started, or ended before its first commit"):
        open_run(tmp_path / "run")


def test_the_first_commit_holds_all_that_a_reader_needs(tmp_path):
    """A recording that is only begun is in no table, or in all."""
    model = network()
    watch(model, optim.SGD(model.parameters(), lr=0.1), tmp_path / "run", data=inputs())
    run = open_run(tmp_path / "run")
    assert len(run.sites) == 2
    assert run.snapshot().step == 0
    assert run.life_table().steps.tolist() == [0]
    assert run.meta["status"] == "running"


def test_readers_in_other_threads_see_a_run_grow_and_never_torn(tmp_path):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    errors, stop = [], threading.Event()
    with watch(model, optimizer, tmp_path / "run", data=inputs(), scan_at=lambda step: True) as run:
        run._writer.flush()

        def read():
            try:
                other, before = open_run(tmp_path / "run"), 0
                while not stop.is_set():
                    steps, table = other.steps, other.life_table()
                    assert steps.tolist() == list(range(1, len(steps) + 1))
                    assert len(steps) >= before
                    assert (
                        table.count("born dead") + table.count("died") - table.count("revived") == table.dead
                    )
                    before = len(steps)
            except BaseException as error:
                errors.append(error)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for step in range(150):
            step_once(model, optimizer, inputs(), targets(inputs()))
            if step % 10 == 0:
                run._writer.flush()
        stop.set()
        for reader in readers:
            reader.join()
    assert errors == []


# Forked


def test_a_forked_child_writes_nothing(tmp_path):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        step_once(model, optimizer, inputs())
        child = os.fork()
        if child == 0:  # pragma: no cover (the child)
            code = 1
            try:
                for _ in range(5):
                    step_once(model, optimizer, inputs())
                run.log(score=1.0)
                run.order([1])
                run._writer.flush()
                run.close()
                run._writer._worker.end()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        step_once(model, optimizer, inputs())
    run = open_run(tmp_path / "run")
    assert run.steps.tolist() == [1, 2]
    assert run.result == {}
    assert run._rows("SELECT count(*) FROM orders") == [(0,)]
    assert run.meta["status"] == "finished"


# What is no run, or no place for one


def tree(path):
    return {file: file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def new_run(path):
    model = network()
    watch(model, optim.SGD(model.parameters(), lr=0.1), path, data=inputs())


def test_a_path_that_already_holds_a_run_is_refused_and_left_alone(tmp_path):
    recorded(tmp_path / "run", steps=2)
    before = tree(tmp_path)
    with pytest.raises(RunError, match="already holds a run"):
        new_run(tmp_path / "run")
    with pytest.raises(RunError, match="already holds a run"):
        experiment(trainings.regress, trainings.CONFIG, tmp_path / "run")
    assert tree(tmp_path) == before


def test_a_path_that_is_a_file_or_lies_below_one_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match="a new run at"):
            new_run(path)
    assert tree(tmp_path) == {tmp_path / "file": b"mine"}


def test_a_folder_with_other_files_may_hold_a_run(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    recorded(tmp_path, steps=1)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("path", ["nothing", "."])
def test_a_folder_without_a_run_is_refused(path, tmp_path):
    with pytest.raises(RunError, match=r"there is no run\.db"):
        open_run(tmp_path / path)
    assert list(tmp_path.iterdir()) == []


def foreign(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE steps (step)")
        connection.commit()


def another_format(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=99")


def shorten(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scramble(path):
    rng = np.random.default_rng(0)
    path.write_bytes(rng.bytes(path.stat().st_size))


def scramble_the_rest(path):
    kept = path.read_bytes()[:100]
    path.write_bytes(kept + np.random.default_rng(0).bytes(path.stat().st_size - 100))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: (path.unlink(), foreign(path)), "was not written by backstory"),
        (another_format, "reads format 3"),
        (shorten, "damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:50]), "damaged"),
        (scramble, "damaged"),
        (scramble_the_rest, "damaged"),
        (lambda path: path.write_text("a text of some length, but no database\n" * 20), "damaged"),
    ],
    ids=["foreign", "format", "half", "50 bytes", "random", "random but the head", "text"],
)
def test_what_is_no_run_is_refused_in_words(damage, said, tmp_path):
    recorded(tmp_path / "run", steps=40)
    damage(database(tmp_path / "run"))
    before = tree(tmp_path)
    with pytest.raises(RunError, match=said):
        read_everything(open_run(tmp_path / "run"))
    assert tree(tmp_path).items() >= before.items(), "SQLite may leave its index of the log beside it"


def read_everything(run):
    """Whatever of it is damaged shows up here."""
    for site in run.sites:
        run.gates(site)
    for read in (run.norms, run.life_table, run.story):
        read()
    run.certificates()
    run.outcomes()


@pytest.mark.parametrize("seed", range(8))
def test_a_page_of_noise_is_a_run_error_or_unseen_and_never_anything_else(seed, tmp_path):
    recorded(tmp_path / "run", steps=60)
    file, rng = database(tmp_path / "run"), np.random.default_rng(seed)
    content = bytearray(file.read_bytes())
    page = int(rng.integers(1, len(content) // 4096))
    content[4096 * page : 4096 * (page + 1)] = rng.bytes(4096)
    file.write_bytes(bytes(content))
    with suppress(RunError):
        read_everything(open_run(tmp_path / "run"))


def test_an_unknown_site_is_refused_with_the_known_ones(tmp_path):
    run = recorded(tmp_path / "run", steps=1)
    with pytest.raises(backstory.errors.ArgumentError, match=r"1/relu#0, 3/relu#0"):
        run.gates("relu#9")


# Failing disks


def test_a_disk_that_fails_is_warned_about_once_and_training_goes_on(tmp_path):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    run = watch(model, optimizer, tmp_path / "run", data=inputs())
    worker = run._writer._worker
    run._writer.flush()

    def failing():
        raise OSError(28, "No space left on device")

    def training():
        step_once(model, optimizer, inputs())
        worker.add(failing, ())
        run._writer.flush()
        worker._thread.join(PATIENCE)
        losses.extend(step_once(model, optimizer, inputs()) for _ in range(5))
        run.close()

    losses: list[float] = []
    with pytest.warns(RuntimeWarning) as warned:
        training()
    assert [str(w.message) for w in warned] == [
        f"backstory stopped recording to {tmp_path / 'run'}: [Errno 28] No space left on device. "
        "The training itself goes on."
    ]
    assert np.isfinite(losses).all()
    assert not worker._rows, "what cannot be written is not kept either"
    assert open_run(tmp_path / "run").steps.size == 0


def test_a_folder_that_vanishes_is_a_failing_disk(tmp_path):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    run = watch(model, optimizer, tmp_path / "run", data=inputs())
    run._writer.flush()
    for file in [*(tmp_path / "run" / "snapshots").iterdir(), tmp_path / "run" / "snapshots"]:
        file.rmdir() if file.is_dir() else file.unlink()
    run.take_snapshot()
    with pytest.warns(RuntimeWarning, match="stopped recording"):
        run._writer._worker.end()
    step_once(model, optimizer, inputs())
    run.close()


def test_a_function_in_the_queue_runs_in_the_writers_thread_and_may_return_rows(tmp_path):
    writer, threads = Writer(tmp_path / "run"), []

    def rows(value):
        threads.append(threading.current_thread().name)
        return [("INSERT INTO metrics VALUES (?,?,?)", (1, "x", value))]

    writer.add(rows, (2.0,))
    writer.start()
    writer.close()
    assert threads == ["backstory-writer"]
    assert open_run(tmp_path / "run").result == {"x": 2.0}


# Snapshots


@pytest.mark.parametrize(
    "build",
    [
        lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
        lambda p: optim.Adam(p, lr=0.01),
        lambda p: optim.SGD(p, lr=0.05),
    ],
    ids=["momentum", "adam", "plain"],
)
@pytest.mark.parametrize("dtype", [backstory.float32, backstory.float64])
def test_training_from_a_snapshot_goes_on_bit_for_bit(build, dtype, tmp_path):
    x = inputs().astype(dtype)
    own = backstory.Generator(9)

    def go_on(model, optimizer, stream, steps):
        for _ in range(steps):
            rows = backstory.randperm(len(x)).numpy()[:8]
            noise = backstory.rand(8, 5, generator=stream).to(dtype).numpy()
            step_once(model, optimizer, x[rows] + noise)

    model = network().to(dtype)
    optimizer = build(model.parameters())
    with watch(model, optimizer, tmp_path / "run", data=x, generator=own) as run:
        go_on(model, optimizer, own, 5)
        run.take_snapshot()
        go_on(model, optimizer, own, 7)
    end = [p.array.tobytes() for p in model.parameters()]
    run = open_run(tmp_path / "run")

    other, stream = network().to(dtype), backstory.Generator()
    again = build(other.parameters())
    taken = run.snapshot(step=11)
    assert taken.step == 5
    taken.restore(other, again, [backstory.arrays.default_generator(), stream])
    go_on(other, again, stream, 7)
    assert [p.array.tobytes() for p in other.parameters()] == end

    third = network().to(dtype)
    assert run.restore(third) == 12
    assert [p.array.tobytes() for p in third.parameters()] == end


def test_a_restored_state_shares_no_memory_with_the_snapshot(tmp_path):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    step_once(model, optimizer, inputs())
    taken = take_snapshot(1, model, optimizer, [])
    kept = {name: value.copy() for name, value in taken.tensors.items()}
    taken.restore(model, optimizer)
    step_once(model, optimizer, inputs())
    assert all((taken.tensors[name] == value).all() for name, value in kept.items())


def test_a_snapshot_of_another_network_is_refused_and_changes_nothing(tmp_path):
    run = recorded(tmp_path / "run", steps=1)
    other = network(width=4)
    before = [p.array.copy() for p in other.parameters()]
    with pytest.raises(backstory.errors.BackstoryError, match="load_state_dict"):
        run.restore(other, optim.SGD(other.parameters(), lr=0.1))
    assert all((p.array == value).all() for p, value in zip(other.parameters(), before, strict=True))


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda file: file.write_bytes(b"x" * 40)], ids=["gone", "noise"]
)
def test_a_damaged_snapshot_is_refused_by_name(damage, tmp_path):
    run = recorded(tmp_path / "run", steps=1)
    damage(run.path / "snapshots" / "step-00000001.safetensors")
    with pytest.raises(RunError, match=r"step-00000001\.safetensors"):
        run.snapshot()
    assert run.snapshot(step=0).step == 0


def test_a_step_before_every_snapshot_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"its snapshots are at steps \[0, 1\]"):
        recorded(tmp_path / "run", steps=1).snapshot(step=-1)
