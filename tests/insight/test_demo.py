"""The demo, shortened: what its story says is what the run holds."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace

import pytest

from backstory import demo
from backstory.insight import Change, experiment
from backstory.insight.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """Two epochs of the demo, and every question that the demo asks, with one change."""
    run = experiment(demo.train, {**demo.CONFIG, "epochs": 2}, tmp_path_factory.mktemp("demo") / "run")
    run.audit()
    run.keep(*demo.three_whys(run))
    run.counterfactuals([Change("learning rate ÷ 10", {"lr": 0.05})], seeds=2, jobs=1)
    return run


def test_the_story_fits_on_a_screen(run):
    assert len(run.story().splitlines()) <= 25


def test_it_fits_on_a_screen_however_much_was_asked(run):
    asked = copy.copy(run)
    asked.whys = lambda: run.whys() * 4
    outcomes = run.outcomes()
    asked.outcomes = lambda: replace(
        outcomes,
        all=(
            *outcomes.all,
            *(replace(o, change=f"again {i}") for i in range(20) for o in outcomes.of("as it was")),
        ),
    )
    story = asked.story()
    assert len(story.splitlines()) == 25
    assert "… and 9 more: run.whys()" in story
    hidden = int(re.search(r"… and (\d+) more: run\.outcomes\(\)", story).group(1))
    assert hidden + sum("accuracy" in line for line in story.splitlines()[1:]) == 22


def test_its_counts_are_those_of_the_life_table(run):
    table, story = run.life_table(), run.story()
    dead, units = map(int, re.search(r"(\d+) of (\d+) units are dead", story).groups())
    born, deaths, revivals = map(
        int, re.search(r"(\d+) born dead, (\d+) deaths, (\d+) revivals", story).groups()
    )
    assert born + deaths - revivals == dead == table.dead == sum(len(life.dead) for life in table.sites)
    assert units == table.units == 200
    assert (born, deaths, revivals) == tuple(table.count(kind) for kind in ("born dead", "died", "revived"))
    widths = re.search(r"effective width (\d+) and (\d+) of 100", story).groups()
    assert (
        [int(width) for width in widths] == [life.width for life in table.sites] == table.alive[-1].tolist()
    )
    for life in table.sites:
        assert life.born_dead + life.deaths - life.revivals == len(life.dead)
    assert deaths == len(run.certificates())


def test_its_metric_is_the_last_one_logged(run):
    assert f"accuracy {run.metrics('accuracy')[-1][1]:.2f}." in run.story().splitlines()[0]


def test_the_death_it_tells_is_the_first_for_good_with_its_certificate(run):
    table, story = run.life_table(), run.story()
    site, unit, step = re.search(r"Unit (\S+)\[(\d+)\] died at step (\d+) and stayed dead", story).groups()
    gone = {(life.site.name, u) for life in table.sites for u in life.dead}
    last = {}
    for event in table.events:
        last[event.site, event.unit] = (event.step, event.kind)
    final = [step for place, (step, kind) in last.items() if place in gone and kind == "died"]
    assert (site, int(unit)) in gone
    assert last[site, int(unit)] == (int(step), "died")
    assert int(step) == min(final)
    (certificate,) = [
        c for c in run.certificates() if (c.site, c.unit, c.step) == (site, int(unit), int(step))
    ]
    for line in certificate.lines():
        assert line in story


def test_its_whys_are_the_answers_kept_in_the_run_and_are_true(run):
    answers, story = run.whys(), run.story()
    assert [answer.verdict for answer in answers] == ["gate closed", "input zero", "moves"]
    assert answers == demo.three_whys(run)
    for answer in answers:
        for line in answer.lines():
            assert line in story
    first = run.life_table().sites[0]
    assert answers[0].index[0] in first.dead
    assert answers[1].index[0] not in first.dead


def test_its_table_of_changes_is_the_outcomes(run):
    outcomes, story = run.outcomes(), run.story()
    assert f"({len(outcomes.of('as it was'))} paired seeds, each from step 0;" in story
    for line in outcomes.lines():
        assert line in story
    assert outcomes.of("as it was")[0].metrics == run.result
    assert outcomes.of("as it was")[0].dead == run.life_table().dead


def test_every_number_of_the_store_can_be_read_as_json(run):
    json.dumps(run.meta)
    assert all(json.loads(body) for (body,) in run._rows("SELECT body FROM certificates"))


def test_a_run_without_questions_tells_less_and_says_what_to_ask(tmp_path):
    bare = experiment(demo.train, {**demo.CONFIG, "epochs": 1}, tmp_path / "run")
    story = bare.story()
    assert "run.audit() makes every one exact" in story
    assert "What would have saved it" not in story
    assert "Why did it not move" not in story
