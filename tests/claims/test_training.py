"""The training that claims are tried on: paired by seed, and what it reports is what a slow look finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backstory import nn
from backstory.claims.pairs import Sample, over_seeds
from backstory.claims.training import Recipe, build, fitted, inputs, open_shares, outcomes, prepared, train

SHORT = Recipe(hidden=(20, 15), steps=8)


def by_hand(model, images):
    """Dead units and the share of open gates, layer by layer in NumPy."""
    a, dead, shares = images, [], []
    layers = [module for module in model if isinstance(module, nn.Linear)]
    for layer in layers[:-1]:
        z = a @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        dead.append((z <= 0).all(axis=0))
        shares.append((z > 0).mean(axis=0))
        a = np.maximum(z, 0)
    scores = a @ layers[-1].weight.detach().numpy().T + layers[-1].bias.detach().numpy()
    return np.concatenate(dead), shares, scores


@pytest.mark.parametrize("recipe", [SHORT, replace(SHORT, lr=1.0, steps=20), replace(SHORT, bias=-0.5)])
def test_outcomes_are_what_a_slow_look_at_the_network_finds(recipe):
    found, model = train(recipe, 3), fitted(recipe, 3)
    images, _, held_out, labels = inputs()
    dead, shares, _ = by_hand(model, images)
    assert found.dead == pytest.approx(dead.mean())
    assert found.open == pytest.approx(np.concatenate(shares).mean())
    assert found.born_dead == pytest.approx(by_hand(build(recipe, 3), images)[0].mean())
    assert found.accuracy == pytest.approx((by_hand(model, held_out)[2].argmax(1) == labels).mean())


def test_the_same_seed_gives_the_same_weights_under_every_recipe_and_the_same_outcome_again():
    first, second = build(SHORT, 1), build(replace(SHORT, lr=0.3, optimizer="Adam", warm_up=3), 1)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert a.tolist() == b.tolist()
    outcome = train(SHORT, 1)
    train.cache_clear()
    assert train(SHORT, 1) == outcome
    assert train(SHORT, 2) != outcome


def test_killed_units_stay_dead_under_training():
    recipe = replace(SHORT, hidden=(20,), killed=8, initial="he", centred=True, lr=0.02, steps=30)
    dead, *_ = by_hand(fitted(recipe, 0), prepared(recipe, 0)[0].numpy())
    assert dead[:8].all()
    assert not dead[8:].any()


def test_recipes_do_to_the_inputs_what_they_say():
    images, *_ = inputs()
    np.testing.assert_allclose(
        prepared(replace(SHORT, centred=True), 0)[0].numpy().mean(axis=0), 0, atol=1e-6
    )
    np.testing.assert_allclose(prepared(replace(SHORT, shift=2.0), 0)[0].numpy(), images + 2, rtol=1e-6)
    x, labels, held, again = prepared(replace(SHORT, samples=50, labels="random"), 0)
    assert len(x) == len(held) == 50
    assert (labels == again).all()
    assert (labels != inputs()[1][:50]).any()


def test_open_shares_leave_the_model_as_it_was():
    model = build(replace(SHORT, batch_norm=True), 0)
    before = [buffer.tolist() for buffer in model.buffers()]
    shares = open_shares(model, inputs()[0])
    assert [share.shape for share in shares] == [(20,), (15,)]
    assert [buffer.tolist() for buffer in model.buffers()] == before
    assert model.training


def test_samples_are_told_apart_only_if_chance_cannot_explain_it():
    ones, zeros = Sample((1.0,) * 6), Sample((0.0,) * 6)
    assert ones.above(zeros)
    assert not zeros.above(ones)
    assert not ones.above(ones)
    mixed = Sample((1.0, 1.0, 1.0, 1.0, 1.0, -1.0))
    assert not mixed.above(zeros)
    assert mixed.minus(ones).values == (0.0, 0.0, 0.0, 0.0, 0.0, -2.0)


def test_a_value_that_got_lost_counts_as_infinite():
    assert over_seeds(lambda seed: float("nan"), 6).median == np.inf


def test_outcomes_are_samples_by_seed():
    found = outcomes(SHORT, 6)
    assert found["accuracy"].values[2] == train(SHORT, 2).accuracy
    assert set(found) == {"dead", "born_dead", "open", "accuracy"}
