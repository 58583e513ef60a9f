"""What the roofline counts, and how goals are judged, by hand."""

import ctypes
from typing import Any

import elementwise
import goals
import numpy as np
import pytest
import roofline
from goals import Goal
from measure import Failures
from networks import Found
from peers import dialect
from plan import Plan
from roofline import Roofline
from workloads import TINY, WORKLOADS, Workload

import backstory

SMALL = Workload((3, 5, 2), 7, "cross_entropy", "adam", 0.1)


def test_a_step_has_three_products_per_layer_but_for_the_gradient_of_the_data() -> None:
    shapes = [(p.m, p.n, p.k) for p in roofline.products(SMALL)]
    assert shapes == [(7, 5, 3), (7, 2, 5), (2, 5, 7), (7, 5, 2), (5, 3, 7)]
    assert sum(p.flops for p in roofline.products(SMALL)) == 2 * (105 + 70 + 70 + 70 + 105)


def test_the_products_of_w4_are_those_of_its_parameters() -> None:
    weights = 784 * 256 + 9 * 256 * 256 + 256 * 10
    flops = sum(product.flops for product in roofline.products(WORKLOADS["W4"]))
    assert flops == 2 * 128 * (3 * weights - 784 * 256)


@pytest.mark.parametrize("a_transposed", [False, True])
@pytest.mark.parametrize("b_transposed", [False, True])
def test_products_are_handed_to_blas_rightly(a_transposed: bool, b_transposed: bool) -> None:
    if why := roofline.missing():
        pytest.skip(why)
    keep: list[object] = []
    product = roofline.Product(3, 4, 5, a_transposed, b_transposed)
    roofline._sgemm()(*roofline._arguments(product, keep))
    a, b, c = (array for array in keep if isinstance(array, np.ndarray))
    np.testing.assert_allclose(c, (a.T if a_transposed else a) @ (b.T if b_transposed else b), rtol=1e-5)
    assert not any(isinstance(value, ctypes.c_double) for value in keep)


def test_bytes_are_those_of_every_array_read_or_written() -> None:
    parameters = 3 * 5 + 5 + 5 * 2 + 2
    # Adam reads p, g, m, v and writes p, m, v; the loss reads logits and writes their gradient; bias and ReLU
    # read and write the hidden layer, the gate reads its gradient and its output and writes the gradient.
    assert sum(s.bytes for s in roofline.sweeps(SMALL)) == 4 * (7 * parameters + 2 * 7 * 2 + (2 + 3) * 7 * 5)


def test_bytes_of_a_normalised_layer() -> None:
    plain, normalised = (Workload((5, 5, 2), 7, "mse", "sgd", 0.1, normalised=n) for n in (False, True))
    before, after = (sum(s.bytes for s in roofline.sweeps(w)) for w in (plain, normalised))
    # A gain is more than a bias. Statistics 1, normalise and ReLU with the residual 3, backward 2 and 3: nine
    # in place of five.
    assert after - before == 4 * (5 * 5 + 4 * 7 * 5)


def test_a_roofline_is_products_and_bytes_at_the_speed_of_copying() -> None:
    total = sum(sweep.bytes for sweep in roofline.sweeps(SMALL))
    assert Roofline(SMALL, [10.0, 20.0], [total / 2, total / 4]).total == [12.0, 24.0]


def test_goals_are_judged_by_ratios_of_medians() -> None:
    w3 = {
        "backstory-compile": [10, 11, 9],
        "torch": [14, 12, 99],
        "jax": [13, 13, 13],
        "numpy": [9, 9, 9],
    }
    results = Found(
        times={1: {}, 2: w3},
        cold={"backstory-compile": [4.0]},
        process={"backstory-compile": [3.0], "backstory": [2.0]},
        arrays={"backstory-compile": [1.0], "backstory": [2.0]},
    )
    line = Roofline(WORKLOADS["W3"], [8.0], [1e9])
    found = {
        g.what: g for g in [*goals.goals("W3", results, line), *goals.of_empty({"backstory-compile": [4.0]})]
    }
    verdicts = {what: (round(g.found, 2), g.reached) for what, g in found.items()}
    assert verdicts == {
        "W3: times faster than PyTorch": (1.4, True),
        "W3: times faster than the best library, JAX jit": (1.3, True),
        "W3: times faster than NumPy by hand": (0.9, False),
        "W3: step in rooflines": (pytest.approx(1.25, abs=0.01), False),
        "W3: first call cold": (4.0, False),
        "W3: peak memory of the process in steps, in eager's": (1.5, False),
        "W3: peak memory of arrays in steps, in eager's": (0.5, True),
        "near-empty step": (4.0, True),
    }
    assert Goal("w", 3.0, 4.0, unit=" s").cells() == ["≤ 3 s", "4.00 s", "**not reached**"]


def test_nothing_is_judged_where_nothing_was_measured() -> None:
    assert list(goals.goals("W1", Found(), None)) == []
    assert list(goals.of_empty({})) == []


@pytest.mark.parametrize("name", elementwise.ACTIVATIONS)
def test_activations_by_hand_have_the_derivatives_of_differences(name: str) -> None:
    x, g = (array.astype(np.float64) for array in elementwise.arrays(50))
    up, down = (elementwise.by_hand(name, x + h, g)[0] for h in (1e-6, -1e-6))
    np.testing.assert_allclose(elementwise.by_hand(name, x, g)[1], g * (up - down) / 2e-6, atol=1e-8)


@pytest.mark.parametrize("name", elementwise.ACTIVATIONS)
@pytest.mark.parametrize("peer", ["backstory", "backstory-compile", "torch", "numpy"])
def test_peers_compute_the_same_activations(peer: str, name: str) -> None:
    call, read = elementwise.activation(peer, name, 100)
    expected = elementwise.by_hand(name, *(array.astype(np.float64) for array in elementwise.arrays(100)))
    for found, right in zip(read(call()), expected, strict=True):
        np.testing.assert_allclose(found, right, atol=elementwise.TOLERANCE)


def test_a_watched_peer_records_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    recordings, watch = [], backstory.watch

    def kept(*args: Any, **settings: Any) -> Any:
        recordings.append(watch(*args, **settings))
        return recordings[0]

    monkeypatch.setattr(backstory, "watch", kept)
    training = dialect.start(TINY["tiny"], "backstory", "compile", "watched")
    losses = [training.number(training.step()) for _ in range(5)]
    (recording,) = recordings
    recording.flush()
    assert recording.losses == pytest.approx(losses)
    training.close()


def test_failures_end_the_run_by_name() -> None:
    plan = Plan.of([], ["numpy"], rounds=1, seconds=0.1, threads=(1,))
    plan.end()
    plan.note("W1", Failures({"numpy": "its first losses deviate"}))
    with pytest.raises(SystemExit, match="W1: NumPy by hand: its first losses deviate"):
        plan.end()
