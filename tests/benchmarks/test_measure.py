"""The arithmetic of the benchmarks, by hand."""

import doctest
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import compiled
import document
import everything
import goals
import measure
import numpy as np
import pytest
import steps
from goals import Goal
from peers import PEERS, by_hand
from plan import Plan
from workloads import TINY, WORKLOADS, Workload


def test_the_ratio_is_that_of_the_medians_and_not_of_the_means() -> None:
    assert measure.ratio([1, 30, 3], [2, 2, 100]) == 1.5


def test_a_row_shows_median_spread_and_ratio() -> None:
    assert measure.row("W", "P", [4, 1, 2], [4, 4, 5]) == "| W | P | 2.0 | 1.0 – 4.0 | 0.50 |"


def test_a_cell_shows_the_same_with_decimals_that_mean_something() -> None:
    assert doctest.testmod(measure).failed == 0
    assert doctest.testmod(document).failed == 0


def test_a_grid_is_a_markdown_table() -> None:
    assert (
        measure.grid("peer", ["a", "b"], {"x": ["1", "2"]})
        == "| peer | a | b |\n|---|--:|--:|\n| x | 1 | 2 |"
    )


def test_a_call_is_timed_by_chunks_each_ended_by_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, finished = [0.0], []

    def call() -> float:
        clock[0] += 0.25
        return clock[0]

    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])
    assert measure.per_call(call, 4.0, finished.append) == 250_000
    # Four calls warm up for a second, and each of the 15 chunks is one call.
    assert finished == pytest.approx(np.arange(1, 20) / 4)


def test_failed_commands_are_named_and_take_no_more_turns() -> None:
    commands = {
        "good": [sys.executable, "-c", "print(7)"],
        "bad": [sys.executable, "-c", "raise SystemExit('no such thing')"],
    }
    failures = measure.Failures()
    assert measure.in_turn(commands, 2, 1, failures=failures) == {"good": [7, 7]}
    assert failures == {"bad": "exit status 1: no such thing"}
    assert failures.late == set()
    with pytest.raises(subprocess.CalledProcessError):
        measure.in_turn(commands, 1, 1)


def test_what_hangs_is_ended_with_all_that_it_started_and_left_out_from_then_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(measure, "MOST_SECONDS", 1)
    pid = tmp_path / "pid"
    hang = f"sleep 600 & echo $! > {pid}; wait"
    plan = Plan.of([], ["numpy", "backstory"], rounds=1, seconds=0.1, threads=(1,))
    failures = measure.Failures()
    found = measure.in_turn({"numpy": ["sh", "-c", hang]}, 2, 1, failures=failures)
    plan.note("W1", failures)
    assert found == {}
    assert failures == {"numpy": "ended after 1 s without a result"}
    assert plan.peers == ["backstory"]
    assert _ends(Path(f"/proc/{pid.read_text().strip()}/stat"), seconds=20)


def _ends(state: Path, seconds: float) -> bool:
    """Whether the process is gone within ``seconds``: a signal takes effect when the process gets a turn."""
    last = time.monotonic() + seconds
    while time.monotonic() < last:
        try:
            if state.read_text().split()[2] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def test_sizes_are_written_with_runs() -> None:
    assert str(WORKLOADS["W4"]) == "784-(256 × 10)-10 batch 128, cross_entropy, adam"


def test_residual_connections_go_where_the_sizes_agree() -> None:
    normalised = Workload((3, 8, 8, 8), 4, "mse", "sgd", 0.1, normalised=True)
    assert [normalised.residual(i) for i in range(3)] == [False, True, True]
    assert [len(layer) for layer in normalised.weights()] == [3, 3, 2]


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("peer", ["backstory", "torch", "numpy"])
def test_eager_peers_agree_with_float64_by_hand(peer: str, name: str) -> None:
    losses, gradients = steps.first_steps(PEERS[peer].start(TINY[name]))
    found, expected = {"losses": losses, "gradients": gradients}, steps.reference(TINY[name])
    assert max(expected["rounding"].values()) < steps.TOLERANCE
    assert steps.disagreements(found, expected) == []


@pytest.mark.parametrize("name", TINY)
def test_the_first_gradients_by_hand_are_those_of_differences(name: str) -> None:
    workload, width = TINY[name], 1e-6
    gradients = _first_gradients(workload)
    weights = workload.weights()
    for at, (layer, i) in enumerate((k, i) for k, arrays in enumerate(weights) for i in range(len(arrays))):
        along = np.random.default_rng(at).standard_normal(weights[layer][i].shape)
        up, down = (_loss(workload, layer, i, sign * width * along) for sign in (1, -1))
        assert (up - down) / (2 * width) == pytest.approx(np.sum(gradients[at] * along), rel=1e-5, abs=1e-8)


def _first_gradients(workload: Workload) -> list[np.ndarray]:
    training = by_hand.start(workload, "float64")
    training.step()
    return training.gradients()


def _loss(workload: Workload, layer: int, i: int, change: np.ndarray) -> float:
    class Moved(Workload):
        def weights(self) -> list[tuple[np.ndarray, ...]]:
            layers = [[array.astype(np.float64) for array in arrays] for arrays in super().weights()]
            layers[layer][i] += change
            return [tuple(arrays) for arrays in layers]

    moved = Moved(*(getattr(workload, name) for name in workload.__dataclass_fields__))
    return float(by_hand.start(moved, "float64").step())


def test_a_wrong_gradient_a_wrong_loss_and_nan_are_told() -> None:
    expected = steps.reference(TINY["tiny"])
    assert steps.disagreements(expected, expected) == []
    for key, position in (("losses", 2), ("gradients", 3)):
        for factor in (1.001, float("nan")):
            found = json.loads(json.dumps(expected))
            found[key][position] = np.multiply(found[key][position], factor).tolist()
            (told,) = steps.disagreements(found, expected)
            assert key in told


def test_the_fingerprint_tells_a_transposed_gradient_of_the_same_norm() -> None:
    square = np.random.default_rng(0).standard_normal((8, 8))
    found, expected = ({"losses": [1.0], "gradients": steps.fingerprint([g])} for g in (square.T, square))
    assert found["gradients"][0][0] == pytest.approx(expected["gradients"][0][0])
    assert steps.deviations(found, expected)["gradients"] > 0.1


def test_tables_are_written_between_the_marks() -> None:
    with pytest.raises(SystemExit, match="has no <!-- W1: begin -->"):
        document.insert("no marks", "W1", "new")


def test_goals_of_all_parts_stand_in_one_table(tmp_path: Path) -> None:
    texts = {
        name: goals.table([Goal(f"{name}: a", 1.0, found)]) for name, found in (("W1", 2.0), ("W2", 0.5))
    }
    path = tmp_path / "tables.md"
    path.write_text("\n".join("\n".join(document.marks(part)) for part in ("goals", *texts)) + "\n")
    for _ in range(2):
        for name, text in texts.items():
            document.write(path, name, f"`a command`\n\n{text}")
    rows = [goals.table([]), "| W1: a | ≤ 1 | 2.00 | **not reached** |", "| W2: a | ≤ 1 | 0.50 | reached |"]
    assert document.overview(path.read_text()).splitlines() == "\n".join(rows).splitlines()
    assert path.read_text().count("| W2: a |") == 2


def test_every_table_that_is_written_has_its_place_in_the_document() -> None:
    text = everything.DOCUMENT.read_text()
    written = [name for name, one in everything.BENCHMARKS.items() if one.shown and not one.writes]
    for part in (*written, *WORKLOADS, *compiled.PARTS, document.OVERVIEW):
        document.insert(text, part, "")
    for one in everything.BENCHMARKS.values():
        assert (everything.HERE / one.file).is_file()


def test_a_name_that_is_no_workload_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        compiled.parse(["--only", "W9"])
    assert "'W9' is none of W1" in capsys.readouterr().err


def test_peers_that_cannot_run_are_skipped_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(origin="somewhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "jax" else found)
    plan, _ = compiled.parse(["--only", "tiny", "--peers", "jax,numpy"])
    assert plan.peers == ["numpy"]
    assert compiled._skipped(plan) == ["Skipped: JAX jit (jax is not installed)."]


@pytest.mark.parametrize("peer", ["numpy", "backstory-compile", "jax", "mygrad", "autograd"])
def test_the_command_checks_a_peer_in_a_process_of_its_own(peer: str) -> None:
    if missing := PEERS[peer].missing():
        pytest.skip(missing)
    command = [
        sys.executable,
        compiled.__file__,
        "--only",
        *TINY,
        "--peers",
        peer,
        "--threads",
        "1",
        "--check",
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert f"All peers agree: {PEERS[peer].label}." in done.stdout
