"""What is recorded, against direct computations; and that recording changes nothing."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest
from insight.trainings import CONFIG, inputs, network, optimizer_of, regress, step_once, targets

import backstory
from backstory import nn, optim
from backstory.errors import ArgumentError, BackstoryError, RunError
from backstory.graph import context
from backstory.insight import open_run, unwatched, watch
from backstory.insight.statistics import open_counts

SITES = ("1/relu#0", "3/relu#0")


def setting(lr=0.05, **options):
    model = network()
    return model, optim.SGD(model.parameters(), lr=lr, **options)


def norm(x):
    return float(np.sqrt((np.asarray(x, np.float64) ** 2).sum()))


def share_open(model, x):
    """Per unit of the first hidden layer, the share of ``x`` that opens it."""
    z = x @ model[0].weight.array.T + model[0].bias.array
    return (z > 0).mean(axis=0)


def parameters_of(model):
    return [p.array.copy() for p in model.parameters()]


def same(first, second):
    return all(a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True))


# What is recorded


@pytest.mark.parametrize("dtype", [backstory.float64, backstory.float32])
def test_norms_losses_and_gates_are_those_of_a_direct_computation(dtype, tmp_path):
    model = network().to(dtype)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    x = inputs().astype(dtype)
    y = targets(x).astype(dtype)
    expected = {"loss": [], "gates": [], "norms": []}
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        for step in range(11):
            batch = np.arange(step, step + 7)
            expected["gates"].append(share_open(model, x[batch]))
            before = parameters_of(model)
            expected["loss"].append(step_once(model, optimizer, x[batch], y[batch]))
            gradients = [p.grad.array for p in model.parameters()]
            after = parameters_of(model)
            expected["norms"].append(
                [[norm(g), norm(b - a), norm(b)] for g, a, b in zip(gradients, before, after, strict=True)]
            )
        assert run.losses.tolist() == expected["loss"]
        assert run.steps.tolist() == list(range(1, 12))
        np.testing.assert_array_equal(run.gates(SITES[0])[1], expected["gates"])
        slack = 1e-12 if dtype == backstory.float64 else 1e-3
        for i, (name, _) in enumerate(model.named_parameters()):
            truth = np.array(expected["norms"])[:, i].T
            truth[2, 1:8], truth[2, 9:] = truth[2, 0], truth[2, 8]  # taken every eighth step
            np.testing.assert_allclose(run.norms()[name], truth, rtol=slack)


def test_with_every_only_some_steps_are_measured_and_all_losses_kept(tmp_path):
    model, optimizer = setting()
    losses = []
    with watch(model, optimizer, tmp_path / "run", data=inputs(), every=3) as run:
        losses += [step_once(model, optimizer, inputs(), targets(inputs())) for _ in range(8)]
    run = open_run(tmp_path / "run")
    assert run.losses.tolist() == losses
    assert run.gates(SITES[1])[0].tolist() == [1, 4, 7]
    assert np.flatnonzero(np.isfinite(run.norms()["0.weight"][0])).tolist() == [0, 3, 6]


def test_several_forward_passes_of_a_step_add_up_beyond_what_a_byte_holds(tmp_path):
    model, optimizer = setting(lr=0.0)
    x = inputs(rows=200)
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        total = sum((model(backstory.as_tensor(x)).sum() for _ in range(4)), backstory.tensor(0.0).double())
        total.backward()
        optimizer.step()
        np.testing.assert_array_equal(run.gates(SITES[0])[1], [share_open(model, x)])
        rows = run._rows("SELECT samples FROM gates WHERE site = 0")
    assert rows == [(800,)]


@pytest.mark.parametrize("rows", [1, 255, 256, 300])
def test_open_gates_are_counted_exactly_at_every_batch_size(rows):
    assert open_counts(np.ones((rows, 2), bool)).tolist() == [rows, rows]
    assert open_counts(np.full((rows, 2), 0.01)).tolist() == [rows, rows]
    assert open_counts(np.zeros((rows, 2))).tolist() == [0, 0]


def test_two_backwards_before_one_step_are_one_step(tmp_path):
    model, optimizer = setting()
    halves = [backstory.as_tensor(part) for part in (inputs()[:24], inputs()[24:])]
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        for _ in range(3):
            optimizer.zero_grad()
            losses = [(model(half) ** 2).mean() for half in halves]
            opened = share_open(model, inputs())
            for loss in losses:
                loss.backward()
            optimizer.step()
        assert run.steps.tolist() == [1, 2, 3]
        assert run.losses[-1] == losses[0].item() + losses[1].item()
        assert run._rows("SELECT backwards FROM steps") == [(2,)] * 3
        np.testing.assert_array_equal(run.gates(SITES[0])[1][-1], opened)


def test_a_loss_whose_gradient_was_thrown_away_moved_nothing(tmp_path):
    model, optimizer = setting()
    x = backstory.as_tensor(inputs())
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        (model(x).sum() * 1e6).backward()
        loss = step_once(model, optimizer, inputs())
        assert run.losses.tolist() == [loss]


def test_several_roots_of_one_backward_are_one_loss(tmp_path):
    model, optimizer = setting()
    x = backstory.as_tensor(inputs())
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        first, second = model(x).sum(), (model(x) ** 2).sum()
        backstory.autograd.backward([first, second])
        optimizer.step()
        assert run.losses.tolist() == [first.item() + second.item()]


def test_evaluations_are_not_counted(tmp_path):
    model, optimizer = setting()
    x = inputs()
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        for _ in range(2):
            with backstory.no_grad():
                model(backstory.as_tensor(x[:5]))
            model.eval()
            model(backstory.as_tensor(-x))
            model.train()
            opened = share_open(model, x)
            step_once(model, optimizer, x)
            np.testing.assert_array_equal(run.gates(SITES[0])[1][-1], opened)
        assert run._rows("SELECT DISTINCT samples FROM gates") == [(len(x),)]


def test_a_forward_pass_that_raises_leaves_nothing_behind(tmp_path):
    model, optimizer = setting()
    x = inputs()
    with watch(model, optimizer, tmp_path / "run", data=x) as run:
        second = model[2].weight
        for _ in range(2):
            model[2].weight = nn.Parameter(np.zeros((8, 3)))
            with pytest.raises(BackstoryError):
                model(backstory.as_tensor(x))
            model[2].weight = second
            assert context().observer is None
            opened = share_open(model, x)
            step_once(model, optimizer, x)
        np.testing.assert_array_equal(run.gates(SITES[0])[1][-1], opened)
        assert run._rows("SELECT DISTINCT samples FROM gates") == [(len(x),)]


def test_gradients_beyond_the_range_of_float32_squares_have_norms(tmp_path):
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    model.load_state_dict(
        {"0.weight": [[1.0], [1.0]], "0.bias": [1.0, 1.0], "2.weight": [[1.0, 1.0]], "2.bias": [0.0]}
    )
    sizes = [1e-25, 1e25]
    with watch(model, optimizer, tmp_path / "run", data=np.ones((1, 1), np.float32)) as run:
        for size in sizes:
            optimizer.zero_grad()
            (model(backstory.ones(1, 1)).sum() * size).backward()
            optimizer.step()
        np.testing.assert_allclose(run.norms()["2.bias"][0], sizes, rtol=1e-6)


def test_metrics_orders_and_results_are_read_back(tmp_path):
    model, optimizer = setting()
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        assert run.order(backstory.arange(3)).tolist() == [0, 1, 2]
        run.log(score=0.5, other=np.float32(2.0))
        step_once(model, optimizer, inputs())
        run.log(score=float("nan"))
    run = open_run(tmp_path / "run")
    assert run.metrics("score")[0] == (0, 0.5)
    assert np.isnan(run.result["score"])
    assert run.result["other"] == 2.0
    assert "nan" in run.story()
    assert "2 sites" in repr(run)


def test_what_is_said_after_closing_is_refused(tmp_path):
    model, optimizer = setting()
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        pass
    run.close()
    for late in (lambda: run.log(score=1.0), lambda: run.order([1]), run.scan, run.take_snapshot):
        with pytest.raises(RunError, match="closed run"):
            late()
    assert run.meta["status"] == "finished"


def test_a_block_that_raises_ends_the_run_with_that_status(tmp_path):
    model, optimizer = setting()
    with pytest.raises(KeyError), watch(model, optimizer, tmp_path / "run", data=inputs()):
        raise KeyError("mine")
    assert open_run(tmp_path / "run").meta["status"] == "ended by KeyError"


# Recording changes nothing


RULES = {"sgd": {}, "momentum": {"momentum": 0.9}, "adam": {"optimizer": "adam"}}


@pytest.mark.parametrize("rule", RULES)
def test_losses_and_parameters_are_bit_for_bit_those_of_the_bare_training(rule, tmp_path):
    config = {**CONFIG, **RULES[rule], "lr": 0.05}
    models = []

    def keeping(begin):
        def watched(model, optimizer, **rest):
            models.append(model)
            return begin(model, optimizer, **rest)

        return watched

    backstory.manual_seed(0)
    regress(dict(config), keeping(unwatched))
    end = backstory.rand(3).tolist()
    backstory.manual_seed(0)
    regress(
        dict(config),
        keeping(lambda m, o, data: watch(m, o, tmp_path / "run", data=data, scan_at=lambda step: True)),
    )
    assert backstory.rand(3).tolist() == end
    assert same(*map(parameters_of, models))


class Noisy(nn.Module):
    """Draws random numbers from two streams in every forward pass, also in evaluation mode."""

    def __init__(self, generator):
        super().__init__()
        self.layer, self.generator = nn.Linear(5, 4, dtype=backstory.float64), generator
        self.seen = []

    def forward(self, x):
        self.seen.append((self.training, backstory.is_grad_enabled()))
        x = x + backstory.rand(len(x), 5, dtype=backstory.float64)
        return backstory.relu(self.layer(x) + backstory.rand(len(x), 4, generator=self.generator).double())


def test_scans_touch_no_flag_no_gradient_and_no_random_stream(tmp_path):
    stream = backstory.Generator(4)
    model = Noisy(stream)
    model.layer.eval()
    model.layer.bias.requires_grad_(False)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    step_once(model, optimizer, inputs())
    gradient = model.layer.weight.grad
    states = backstory.arrays.default_generator().get_state(), stream.get_state()
    with watch(model, optimizer, tmp_path / "run", data=inputs(), generator=stream) as run:
        run.scan()
    assert model.seen[-1] == (False, False)
    assert (backstory.arrays.default_generator().get_state(), stream.get_state()) == states
    assert (model.training, model.layer.training) == (True, False)
    assert model.layer.weight.grad is gradient
    assert (model.layer.weight.requires_grad, model.layer.bias.requires_grad) == (True, False)


def test_afterwards_model_and_optimizer_are_as_they_were(tmp_path):
    gc.collect()  # what other tests left watched
    model, optimizer = setting()
    listeners = len(context().backward_listeners)
    with watch(model, optimizer, tmp_path / "run", data=inputs()):
        step_once(model, optimizer, inputs())
    assert model._observer is None
    assert (optimizer._before, optimizer._after, optimizer.changes) == ([], [], None)
    assert len(context().backward_listeners) == listeners
    with watch(model, optimizer, tmp_path / "again", data=inputs()) as run:
        step_once(model, optimizer, inputs())
        assert run.step == 1


def test_a_watched_model_can_be_copied_and_pickled_and_the_copy_is_not_watched(tmp_path):
    model, optimizer = setting()
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert other._observer is None
            assert same(parameters_of(model), parameters_of(other))
            other(backstory.as_tensor(inputs())).sum().backward()
        step_once(model, optimizer, inputs())
        assert run._rows("SELECT samples FROM gates WHERE site = 0") == [(48,)]


# Several models, several threads, and being forgotten


def test_two_models_at_once_record_each_its_own(tmp_path):
    (a, of_a), (b, of_b) = setting(), setting(momentum=0.5)
    losses = {"a": [], "b": []}
    x = backstory.as_tensor(inputs())
    with (
        watch(a, of_a, tmp_path / "a", data=inputs()) as run_a,
        watch(b, of_b, tmp_path / "b", data=-inputs()) as run_b,
    ):
        for _ in range(3):
            first, second = (a(x) ** 2).mean(), (b(x) ** 2).mean()
            for optimizer in (of_a, of_b):
                optimizer.zero_grad()
            first.backward()
            second.backward()
            of_b.step()
            of_a.step()
            losses["a"].append(first.item())
            losses["b"].append(second.item())
        assert run_a.losses.tolist() == losses["a"]
        assert run_b.losses.tolist() == losses["b"]


def test_two_models_with_one_optimizer_both_see_their_changes(tmp_path):
    a, b = network(), network()
    optimizer = optim.SGD([*a.parameters(), *b.parameters()], lr=0.1)
    x = backstory.as_tensor(inputs())
    with (
        watch(a, optimizer, tmp_path / "a", data=inputs()) as run_a,
        watch(b, optimizer, tmp_path / "b", data=inputs()) as run_b,
    ):
        (a(x) + b(x)).sum().backward()
        optimizer.step()
        for run in (run_a, run_b):
            gradient, change, _ = run.norms()["4.weight"]
            assert change == pytest.approx(0.1 * gradient)
            assert change > 0
    assert optimizer.changes is None


def in_thread(function):
    """Run ``function`` in a thread; its error is raised here."""
    errors = []

    def run():
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def test_a_training_in_a_thread_is_recorded_like_any_other(tmp_path):
    x, seen = inputs(), []

    def training():
        model, optimizer = setting()
        with watch(model, optimizer, tmp_path / "run", data=x):
            seen.extend(step_once(model, optimizer, x) for _ in range(3))

    in_thread(training)
    assert open_run(tmp_path / "run").losses.tolist() == seen


def test_watched_here_and_trained_in_another_thread(tmp_path):
    model, optimizer = setting()
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        losses = [step_once(model, optimizer, inputs())]
        in_thread(lambda: losses.append(step_once(model, optimizer, inputs())))
        losses.append(step_once(model, optimizer, inputs()))
        assert run.losses.tolist() == losses


def test_an_evaluation_in_another_thread_disturbs_nothing(tmp_path):
    """It runs between the two layers of a training forward pass, and between forward and backward."""
    x = backstory.as_tensor(inputs())

    class Between(nn.Sequential):
        def forward(self, x):
            for i, module in enumerate(self.children()):
                x = module(x)
                if i == 1 and self.training and not elsewhere:
                    in_thread(evaluate)
            return x

    def quietly():
        elsewhere.append(1)
        with backstory.no_grad():
            model(x)
        elsewhere.pop()

    def evaluate():
        quietly()
        elsewhere.append(1)
        model(x)  # with gradients, while the other is under way: not seen
        elsewhere.pop()

    elsewhere: list[int] = []
    model = Between(*network().children())
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        for _ in range(2):
            loss = (model(x) ** 2).mean()
            in_thread(quietly)
            opened = share_open(model, inputs())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            assert run.losses[-1] == loss.item()
            np.testing.assert_array_equal(run.gates(SITES[0])[1][-1], opened)
        assert run._rows("SELECT DISTINCT samples FROM gates") == [(48,)]


def test_a_forgotten_recording_is_collected_and_its_run_opens(tmp_path):
    gc.collect()  # what other tests forgot
    model, optimizer = setting()
    run = watch(model, optimizer, tmp_path / "run", data=inputs())
    recorder, listeners = weakref.ref(run._recorder), len(context().backward_listeners)
    step_once(model, optimizer, inputs())
    del run, model, optimizer
    gc.collect()
    assert recorder() is None
    assert len(context().backward_listeners) == listeners - 1
    opened = open_run(tmp_path / "run")
    assert opened.steps.tolist() == [1]
    assert opened.meta["status"] == "running"


def test_training_goes_on_when_the_recording_alone_is_forgotten(tmp_path):
    model, optimizer = setting()
    watch(model, optimizer, tmp_path / "run", data=inputs())
    gc.collect()
    for _ in range(3):
        step_once(model, optimizer, inputs())
    model._observer.listener.writer.flush()
    assert open_run(tmp_path / "run").steps.tolist() == [1, 2, 3]


def test_the_writer_may_be_collected_in_its_own_thread(tmp_path):
    """The garbage collector runs finalisers wherever it happens to run."""
    model, optimizer = setting()
    run = watch(model, optimizer, tmp_path / "run", data=inputs())
    worker, done = run._writer._worker, threading.Event()

    def collected():
        worker.end()
        done.set()

    worker.add(collected, ())
    worker.flush()
    assert done.is_set()
    worker._thread.join(timeout=30)
    assert not worker._thread.is_alive()
    run.close()


# Bad input


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_data_that_is_not_finite_is_refused_by_its_sample(bad, tmp_path):
    model, optimizer = setting()
    data = inputs()
    data[[17, 30], 2] = bad
    with pytest.raises(ArgumentError, match="2 samples, first in sample 17"):
        watch(model, optimizer, tmp_path / "run", data=data)
    assert not (tmp_path / "run").exists()
    assert model._observer is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (np.zeros((0, 5)), "there are none"),
        (np.float64(1.0), "there are none"),
        (np.ones((4, 3)), r"Linear\(5, 8\) received x of shape \(4, 3\)"),
        (np.ones((4, 5), np.float32), "float32"),
        (np.ones((4, 5), np.int64), "int64"),
        ([["a"]], "tensors hold bools, integers and floats"),
    ],
    ids=["no rows", "no axes", "too few features", "float32", "integers", "text"],
)
def test_data_that_the_model_cannot_take_is_refused_before_anything_is_written(data, said, tmp_path):
    model, optimizer = setting()
    with pytest.raises(BackstoryError, match=said):
        watch(model, optimizer, tmp_path / "run", data=data)
    assert not (tmp_path / "run").exists()
    assert model._observer is None
    assert optimizer._before == []


def test_parts_that_do_not_fit_together_are_refused(tmp_path):
    model, optimizer = setting()
    plain = nn.Sequential(nn.Linear(5, 2, dtype=backstory.float64), nn.Tanh())
    descent = optim.SGD(plain.parameters(), lr=0.1)
    for args, said in [
        ((plain, descent), "no gating activation in Sequential"),
        ((model, descent), "moves no parameter of the model"),
        ((lambda x: x, optimizer), "a model of type function"),
        ((model, model), "an optimizer of type Sequential"),
    ]:
        with pytest.raises(RunError, match=said):
            watch(*args, tmp_path / "run", data=inputs())
    assert not (tmp_path / "run").exists()


def test_a_model_that_is_watched_or_holds_a_watched_one_is_refused(tmp_path):
    model, optimizer = setting()
    with watch(model, optimizer, tmp_path / "run", data=inputs()):
        for again in (model, nn.Sequential(model)):
            with pytest.raises(RunError, match="already watched"):
                watch(again, optimizer, tmp_path / "other", data=inputs())
    assert not (tmp_path / "other").exists()


def test_a_loss_that_becomes_nan_is_told_once_and_recording_goes_on(tmp_path):
    model, optimizer = setting(lr=0.01)
    x = backstory.as_tensor(inputs())
    with watch(model, optimizer, tmp_path / "run", data=inputs()) as run:
        step_once(model, optimizer, inputs())
        optimizer.zero_grad()
        (model(x).sum() * float("nan")).backward()
        with pytest.warns(RuntimeWarning, match="the loss is nan at step 2"):
            optimizer.step()
        for _ in range(2):
            step_once(model, optimizer, inputs())
        assert run.steps.tolist() == [1, 2, 3, 4]
        assert np.isnan(run.losses).tolist() == [False, True, True, True]
        assert run.findings("non-finite-loss") == [(2, "nan")]
        assert "became nan at step 2" in run.story()


def test_a_model_that_raises_on_the_declared_data_later_ends_no_training(tmp_path):
    class Moody(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.angry = nn.Linear(5, 4, dtype=backstory.float64), False

        def forward(self, x):
            if self.angry and not self.training:
                raise ValueError("not now")
            return backstory.relu(self.layer(x))

    model = Moody()
    optimizer = optimizer_of(model, CONFIG)
    run = watch(model, optimizer, tmp_path / "run", data=inputs(), scan_at=lambda step: step == 2)
    step_once(model, optimizer, inputs())
    model.angry = True
    with pytest.warns(RuntimeWarning, match="after step 2 the model raised on the declared data.*not now"):
        step_once(model, optimizer, inputs())
    with pytest.warns(RuntimeWarning, match="not now"):
        run.close()
    assert (model.training, context().observer, backstory.is_grad_enabled()) == (True, None, True)
    opened = open_run(tmp_path / "run")
    assert (opened.meta["status"], opened.snapshot().step) == ("finished", 2)
    assert opened.life_table().steps.tolist() == [0]


def test_the_story_names_the_parameters_that_are_in_no_optimizer(tmp_path):
    model, _ = setting()
    forgotten = optim.SGD([*model[0].parameters(), *model[2].parameters()], lr=0.01)
    with watch(model, forgotten, tmp_path / "run", data=inputs()) as run:
        step_once(model, forgotten, inputs())
    assert "In no optimizer, so nothing moves them: 4.weight, 4.bias." in run.story()
