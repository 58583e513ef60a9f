"""Counterfactuals: paired reruns, from the start and from snapshots, and what they are judged by."""

from __future__ import annotations

import math

import pytest
from insight import trainings

from backstory.errors import ArgumentError, ReplayError
from backstory.insight import Change, Outcome, Outcomes, experiment, open_run

BASE = {**trainings.CONFIG, "steps": 12, "snapshots": [4, 8]}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return experiment(trainings.regress, BASE, tmp_path_factory.mktemp("counterfactual") / "run")


def direct(path, **changes):
    """The score and the dead of a training that was recorded by itself."""
    found = experiment(trainings.regress, {**BASE, **changes}, path)
    return found.result["score"], found.life_table()


def test_every_rerun_is_the_training_with_that_seed_and_change(run, tmp_path):
    outcomes = run.counterfactuals([Change("slower", {"lr": 0.05})], seeds=3, jobs=1)
    assert outcomes.changes == ["as it was", "slower"]
    assert outcomes.metric == "score"
    for name, changes in [("as it was", {}), ("slower", {"lr": 0.05})]:
        assert [o.seed for o in outcomes.of(name)] == [3, 4, 5]
        for o in outcomes.of(name):
            score, table = direct(tmp_path / f"{name}{o.seed}", seed=o.seed, **changes)
            assert o.metrics == {"score": score}
            assert (o.units, o.dead, o.linear) == (table.units, table.dead, table.linear)
            assert o.born_dead == table.count("born dead")
            assert o.widths == [life.width for life in table.sites]
    as_it_was = outcomes.of("as it was")[0]
    assert as_it_was.metrics["score"] == run.result["score"]
    assert as_it_was.loss == run.losses[-1]


def test_outcomes_are_stored_and_read_back_and_replaced(run):
    first = run.counterfactuals([Change("slower", {"lr": 0.05})], seeds=2, jobs=1)
    assert open_run(run.path).outcomes() == first
    second = run.counterfactuals([Change("nothing")], seeds=1, jobs=1)
    assert open_run(run.path).outcomes() == second != first


def test_several_processes_find_the_same(run):
    changes = [Change("slower", {"lr": 0.05})]
    assert run.counterfactuals(changes, seeds=2, jobs=2) == run.counterfactuals(changes, seeds=2, jobs=1)


def test_a_change_from_a_snapshot_goes_on_from_there(run):
    changes = [Change("slower late", {"lr": 0.01}, start=9), Change("same late", {}, start=4)]
    outcomes = run.counterfactuals(changes, seeds=2, jobs=1)
    (late,) = outcomes.of("slower late")
    (same,) = outcomes.of("same late")
    assert (late.seed, late.start, same.start) == (3, 8, 4)
    assert same.metrics == outcomes.of("as it was")[0].metrics, "no change from a snapshot reproduces"
    assert late.metrics != same.metrics
    assert [o.seed for o in outcomes.of("as it was")] == [3, 4], "one outcome a seed"
    assert len(outcomes.pairs("slower late")) == 1
    assert changes[0].origin == "from the snapshot at or before step 9"
    assert "from the snapshot at step 8" in str(outcomes)


def test_momentum_and_adam_go_on_from_their_state_and_the_random_stream(tmp_path):
    for name, changes in {"momentum": {"momentum": 0.9, "lr": 0.05}, "adam": {"optimizer": "adam"}}.items():
        own = experiment(trainings.regress, {**BASE, **changes}, tmp_path / name)
        outcomes = own.counterfactuals([Change("same", {}, start=8)], seeds=1, jobs=1)
        assert outcomes.of("same")[0].metrics == own.result


def test_a_training_that_does_not_go_on_from_the_step_is_refused(tmp_path):
    own = experiment(trainings.starting_over, {"steps": 6}, tmp_path / "run")
    with pytest.raises(ReplayError, match="parted"):
        own.counterfactuals([Change("late", {}, start=3)], seeds=1, jobs=1)


@pytest.mark.parametrize(
    ("changes", "seeds", "said"),
    [
        ([Change("wider", {"width": 3})], 2, "has only"),
        ([Change("as it was")], 2, "is taken"),
        ([Change("a"), Change("a")], 2, "a name of its own"),
        ([], 0, "and a seed"),
        ([Change("luck", {"seed": 5})], 2, "seeds are what makes pairs"),
        ([Change("before", {}, start=-1)], 2, "no step is before 0"),
    ],
)
def test_what_would_change_nothing_or_make_no_sense_is_refused(run, changes, seeds, said):
    before = run.outcomes()
    with pytest.raises(ArgumentError, match=said):
        run.counterfactuals(changes, seeds=seeds, jobs=1)
    assert run.outcomes() == before


def test_a_config_without_a_seed_gets_none_and_still_pairs(tmp_path):
    own = experiment(trainings.counted, {"lr": 0.1}, tmp_path / "run")
    outcomes = own.counterfactuals([Change("faster", {"lr": 0.2})], seeds=3, jobs=1)
    assert len(set(outcomes.values("as it was"))) == 3
    assert len(outcomes.pairs("faster")) == 3


# Judging


def judged(before, after, dead=0):
    """Outcomes of one change over seeds 0, 1, …"""

    def outcome(name, seed, value, dead):
        return Outcome(name, seed, 0, {"accuracy": value}, 100, dead, 0, 0, [100 - dead], 1.0)

    return Outcomes(
        "accuracy",
        (
            *(outcome("as it was", i, value, 50) for i, value in enumerate(before)),
            *(outcome("change", i, value, dead) for i, value in enumerate(after)),
        ),
    )


@pytest.mark.parametrize(
    ("wins", "losses", "ties", "p"),
    [
        (5, 0, 0, 1 / 32),
        (4, 0, 0, 1 / 16),
        (9, 1, 0, 11 / 1024),
        (8, 2, 0, 56 / 1024),
        (5, 0, 3, 1 / 32),
        (0, 0, 4, 1.0),
        (0, 5, 0, 1.0),
        (3, 3, 0, 42 / 64),
    ],
)
def test_the_sign_test_is_the_one_of_the_books(wins, losses, ties, p):
    before = [0.5] * (wins + losses + ties)
    after = [0.6] * wins + [0.4] * losses + [0.5] * ties
    assert judged(before, after).p_value("change") == p


@pytest.mark.parametrize(
    ("wins", "losses", "dead", "mark"),
    [(5, 0, 10, "✔"), (5, 0, 11, "◐"), (8, 2, 0, "✘"), (4, 0, 0, "?"), (0, 9, 0, "✘"), (9, 1, 50, "◐")],
)
def test_marks_say_whether_it_helps_and_whether_units_still_die(wins, losses, dead, mark):
    outcomes = judged([0.5] * (wins + losses), [0.6] * wins + [0.4] * losses, dead)
    assert outcomes.mark("change") == mark
    assert f"better in {wins} of {wins + losses}" in outcomes.lines()[1]
    assert outcomes.lines()[1].startswith(mark)


def test_nan_counts_as_nothing_reached():
    outcomes = judged([math.nan, 0.5], [0.1, math.nan])
    assert outcomes.pairs("change") == [(0.0, 0.1), (0.5, 0.0)]
    assert outcomes.p_value("change") == 0.75


def test_only_seeds_that_both_have_are_pairs():
    assert judged([0.1, 0.2, 0.3], [0.2]).pairs("change") == [(0.1, 0.2)]
    assert judged([0.1, 0.2, 0.3], [0.2]).dead_share("as it was") == 0.5
