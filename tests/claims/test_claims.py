"""Claims: verdicts follow from what is measured, and come out as they must where that is known.

Known are exact statements (what commutes, what has one sign), values from theory (1/√(2π), a half per layer)
and effects so strong that every seed shows them. Nothing here asserts a time.
"""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest

from backstory import nn
from backstory.claims import CLAIMS, Effort, cures, dying, find, measure, present, remedies, signal, variants
from backstory.claims import capacity as capacity_of
from backstory.claims.record import Verdict, weigh
from backstory.claims.training import outcomes
from backstory.errors import ArgumentError

QUICK = Effort(seeds=6, seconds=1e-3)


def measured(name):
    found = find(name).measure(QUICK)
    assert set(found.verdict.yes) | set(found.verdict.no) <= set(found.finding.cases)
    assert all(math.isfinite(value) for value in found.finding.figures.values())
    present.picture(found).savefig(io.BytesIO(), format="svg")
    return found


def cases(name):
    verdict = measured(name).verdict
    return verdict.kind, set(verdict.yes), set(verdict.no)


def test_every_claim_has_a_name_a_sentence_and_a_reference():
    assert len(CLAIMS) >= 28
    for name, claim in CLAIMS.items():
        assert claim.name == name == name.lower()
        assert claim.text.endswith(".")
        assert claim.reference


def test_the_order_of_dropout_matters_where_the_activation_is_not_homogeneous():
    kind, matters, commutes = cases("dropout-order")
    assert kind == "depends"
    assert commutes == {"ReLU", "LeakyReLU", "PReLU"}
    assert {"sigmoid", "softplus", "tanh", "ELU"} <= matters


def test_with_homogeneous_activations_alone_the_same_claim_is_false(monkeypatch):
    monkeypatch.setattr(signal, "ACTIVATIONS", {"ReLU": nn.ReLU(), "LeakyReLU": nn.LeakyReLU(0.3)})
    assert measured("dropout-order").verdict.kind == "false"


def test_gradients_behind_nonnegative_activations_have_one_sign_per_sample_and_not_per_batch():
    found = measured("one-sign")
    assert found.finding.figures["ReLU, one sample"] == found.finding.figures["sigmoid, one sample"] == 0.0
    assert found.finding.figures["tanh, one sample"] > 0.3
    assert "one sample" in found.verdict.yes
    assert measured("zig-zag").verdict.kind == "true"


def test_behind_batch_norm_the_mean_of_relu_is_that_of_a_rectified_normal():
    found = measured("batch-norm-centred")
    assert found.verdict.kind == "false"
    assert found.finding.figures["mean of ReLU"] == pytest.approx(1 / math.sqrt(2 * math.pi), abs=0.005)
    assert found.finding.figures["ReLU then batch norm"] == pytest.approx(0.0, abs=1e-5)


def test_he_keeps_the_second_moment_and_not_the_variance_and_xavier_halves_it():
    assert cases("he-variance") == ("depends", {"second moment E[z²]"}, {"variance over the samples"})
    found = measured("xavier-halves")
    assert found.verdict.kind == "true"
    assert found.finding.figures["Xavier (1/fan_in)"] == pytest.approx(0.5, abs=0.02)


def test_ten_sigmoids_never_exceed_their_bound_and_the_weights_may_make_up_for_them():
    found = measured("ten-sigmoids")
    figures = found.finding.figures
    own = [value for name, value in figures.items() if name.endswith("sigmoids")]
    assert max(own) <= 0.25**10
    assert found.verdict.yes == ("weights of std 1/√fan_in",)


def test_relus_gradient_vanishes_unless_the_weights_make_up_for_the_closed_gates():
    found = measured("relu-vanishes")
    assert found.verdict.yes == ("He (2/fan_in)",)
    assert found.finding.figures["gates"] == pytest.approx(2**-14.5, rel=0.3)
    assert found.finding.figures["Xavier (1/fan_in)"] == pytest.approx(2**-14.5, rel=0.5)


def test_a_norm_above_one_is_not_enough_to_explode():
    found = measured("norm-above-one")
    figures = found.finding.figures
    assert found.verdict.yes == ("twice He's std",)
    assert figures["He (2/fan_in), norm"] > 2.5
    assert figures["He (2/fan_in), growth"] == pytest.approx(1.0, abs=0.03)


def test_gates_keep_gradients_through_time_if_their_biases_open_them():
    kind, kept, lost = cases("gates-remember")
    assert kind == "depends"
    assert (kept, lost) == ({"LSTM with forget bias 3", "GRU with update bias 3"}, {"LSTM", "GRU"})


def test_half_of_the_gates_are_open_before_training():
    kind, yes, no = cases("half-active")
    assert kind == "depends"
    assert {"untrained (He)", "untrained (PyTorch's default)"} == yes
    assert "untrained with biases −0.3" in no


def test_half_zeros_are_no_problem():
    assert measured("zeros-problem").verdict.kind == "false"


def test_each_cause_kills_and_more_of_it_kills_more():
    assert measured("negative-bias").verdict.kind == "true"
    for recipe in dying.CAUSES.values():
        assert min(outcomes(recipe, 6)["dead"].values) > 0.25
    assert max(outcomes(dying.HEALTHY, 6)["dead"].values) < 0.05


def test_doses_that_are_no_poison_give_the_verdict_false(monkeypatch):
    series = {"biases": ("bias", (0.0, 0.001), dying.HEALTHY)}
    assert dying.doses(QUICK, series, "bias").verdict.kind == "false"


def test_remedies_help_against_some_causes_and_not_against_others():
    assert cases("batch-norm")[0] == "true"
    assert cases("he") == ("depends", {"negative biases"}, {"steps too large", "inputs off centre"})
    assert "negative biases" in cases("centring")[2]
    leaky = measured("leaky-relu")
    assert leaky.verdict.kind == "true"
    assert "Accuracy gains nothing against" in leaky.finding.remark


def test_adam_kills_more_at_the_same_rate(monkeypatch):
    monkeypatch.setattr(remedies, "RATES", (0.03, 0.1))
    found = measured("adam-cures")
    assert {"both at 0.03", "both at 0.1"} <= set(found.verdict.no)
    assert found.verdict.yes == ("Adam at 0.001 for SGD at 0.5",)
    assert "Adam kills more: both" in found.finding.remark


def test_claims_about_variants_capacity_and_cures_on_a_few_steps(monkeypatch):
    """Their verdicts need the full length; here that they follow from the numbers."""
    monkeypatch.setattr(variants, "USUAL", replace(variants.USUAL, steps=5))
    found = measured("elu-centred").finding
    assert found.figures["ELU, before training"] < found.figures["ReLU, before training"]
    gains = measured("prelu-better")
    assert gains.finding.figures["LeakyReLU"] == pytest.approx(0.0, abs=5.0)
    monkeypatch.setattr(
        capacity_of, "TASKS", {task: replace(recipe, steps=20) for task, recipe in capacity_of.TASKS.items()}
    )
    figures = measured("dead-capacity").finding.figures
    assert figures["held-out digits, 100 alive"] > figures["held-out digits, 5 alive"]
    monkeypatch.setattr(cures, "STEPS", 2)
    assert {"ReLU", "clipping at norm 1"} <= cases("vanishing-remedies")[2]
    assert {"clipping at norm 1", "residual connections", "sigmoid"} <= cases("exploding-remedies")[2]


@pytest.mark.parametrize("name", [name for name, claim in CLAIMS.items() if claim.timed])
def test_a_timed_claim_decides_from_its_ratios(name):
    found = measured(name)
    figures = found.finding.figures
    assert found.verdict == weigh(
        {case: case in found.verdict.yes for case in found.finding.cases}, found.verdict.on
    )
    if name == "sparse-saves":
        assert figures["largest change"] < 1e-3
    else:
        case = "100 entries"
        largest = max(figures[f"{case}, sigmoid"], figures[f"{case}, tanh"])
        assert (case in found.verdict.yes) == (largest >= 5.0)


def test_a_verdict_says_on_what_it_depends():
    assert weigh({"a": True, "b": True}, "on x") == Verdict("true", "", ("a", "b"), ())
    assert str(weigh({"a": True, "b": False}, "on x")) == "depends: on x (yes: a; no: b)"
    assert str(weigh({"a": False}, "on x")) == "false"


def test_names_and_efforts_that_make_no_sense_are_refused():
    with pytest.raises(ArgumentError, match="half-active"):
        find("half")
    with pytest.raises(ArgumentError, match="six"):
        Effort(seeds=5)
    with pytest.raises(ArgumentError, match="half-active"):
        next(measure(["nonsense"]))


def test_claims_come_in_the_order_asked_for_also_from_other_processes():
    names = ["zig-zag", "batch-norm-centred", "dropout-order"]
    here = [str(one) for one in measure(names, QUICK, jobs=1)]
    assert [one.split(":")[0] for one in here] == names
    assert [str(one) for one in measure(names, QUICK, jobs=2)] == here
