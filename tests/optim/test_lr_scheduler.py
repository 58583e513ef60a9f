"""Every schedule against PyTorch's, step for step."""

from __future__ import annotations

import json
import math

import pytest
import torch

import backstory
from backstory import errors
from backstory.optim import SGD, Adagrad, Adam, lr_scheduler

STEPS = 40
SCHEDULES = {
    "step": ("StepLR", {"step_size": 7, "gamma": 0.3}),
    "step of one": ("StepLR", {"step_size": 1}),
    "milestones": ("MultiStepLR", {"milestones": [3, 9, 9, 20], "gamma": 0.5}),
    "milestone at 0": ("MultiStepLR", {"milestones": [0, 5]}),
    "exponential": ("ExponentialLR", {"gamma": 0.9}),
    "constant": ("ConstantLR", {}),
    "constant for long": ("ConstantLR", {"factor": 0.1, "total_iters": 30}),
    "linear": ("LinearLR", {}),
    "linear down": ("LinearLR", {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 20}),
    "linear down to 0": ("LinearLR", {"start_factor": 0.5, "end_factor": 0.0, "total_iters": 20}),
    "cosine": ("CosineAnnealingLR", {"T_max": 12}),
    "cosine with a least rate": ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.01}),
    "cosine of one": ("CosineAnnealingLR", {"T_max": 1}),
    "restarts": ("CosineAnnealingWarmRestarts", {"T_0": 6}),
    "growing restarts": ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2, "eta_min": 0.01}),
    "lambda": ("LambdaLR", {"lr_lambda": lambda epoch: 0.95**epoch}),
    "lambdas": ("LambdaLR", {"lr_lambda": [lambda epoch: 0.9**epoch, lambda epoch: epoch % 3 + 1]}),
    "cyclic": ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 5}),
    "cyclic, halved": (
        "CyclicLR",
        {
            "base_lr": 0.01, "max_lr": [0.1, 0.2], "step_size_up": 5, "step_size_down": 3,
            "mode": "triangular2",
        },
    ),
    "cyclic, exponential": (
        "CyclicLR",
        {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4, "mode": "exp_range", "gamma": 0.9},
    ),
    "cyclic, its own scale": (
        "CyclicLR",
        {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4, "scale_fn": lambda x: 1 / x},
    ),
    "cyclic, its own scale of steps": (
        "CyclicLR",
        {
            "base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4, "scale_fn": lambda x: 0.5 + x % 2,
            "scale_mode": "iterations", "cycle_momentum": False,
        },
    ),
    "one cycle": ("OneCycleLR", {"max_lr": 0.5, "total_steps": STEPS}),
    "one cycle, linear": (
        "OneCycleLR",
        {"max_lr": [0.5, 1.0], "epochs": 4, "steps_per_epoch": 10, "anneal_strategy": "linear"},
    ),
    "one cycle in three": (
        "OneCycleLR",
        {"max_lr": 0.5, "total_steps": STEPS, "three_phase": True, "pct_start": 0.37, "div_factor": 10.0},
    ),
    "one cycle, rate alone": ("OneCycleLR", {"max_lr": 0.5, "total_steps": STEPS, "cycle_momentum": False}),
}  # fmt: skip
CHAINS = {
    "constant and exponential": (["constant", "exponential"], None),
    "step and cosine": (["step", "cosine with a least rate"], None),
    "milestones, linear and exponential": (["milestones", "linear", "exponential"], None),
    "cosine, then exponential beside": (["exponential", "cosine"], None),
    "lambda, then step": (["lambda", "step"], None),
    "warm-up, then cosine": (["linear", "cosine"], [5]),
    "warm-up, then exponential": (["constant", "exponential"], [4]),
    "three in turn": (["linear", "step", "cosine"], [5, 17]),
    "to a lambda": (["exponential", "lambda"], [6]),
    "to restarts": (["linear", "growing restarts"], [6]),
    "to a linear": (["cosine", "linear down"], [11]),
    "to a constant and milestones": (["exponential", "constant", "milestones"], [2, 9]),
    "to one cycle": (["linear", "one cycle"], [5]),
    "a cycle first": (["cyclic", "exponential"], [9]),
    "skipping the first": (["linear", "cosine"], [0]),
}


def pair(kind: str = "SGD"):
    """The same optimizer here and in PyTorch, with two groups."""
    made = []
    for engine, leaf in ((backstory, backstory.ones), (torch, torch.ones)):
        groups = [{"params": [leaf(1)], "lr": 0.1}, {"params": [leaf(1)]}]
        settings = {"momentum": 0.9} if kind == "SGD" else {}
        made.append(getattr(engine.optim, kind)(groups, lr=0.04, **settings))
    return made


def settings_of(optimizer) -> list[float]:
    """Rates and momenta of all groups."""
    seen = []
    for group in optimizer.param_groups:
        seen += [float(group["lr"]), group["momentum"] if "momentum" in group else group["betas"][0]]
    return seen


def follow(mine, schedule, theirs, reference, steps: int = STEPS) -> None:
    """Both schedules give the same rates, now and after every step."""
    for step in range(steps):
        expected = settings_of(theirs)
        assert settings_of(mine) == pytest.approx(expected, rel=1e-12, abs=1e-15), step
        assert schedule.get_last_lr() == settings_of(mine)[::2]
        mine.step(), theirs.step()
        schedule.step(), reference.step()


def build(name: str, optimizer, module):
    kind, arguments = SCHEDULES[name]
    return getattr(module, kind)(optimizer, **arguments)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_and_momenta_are_pytorchs_step_for_step(name, optimizer):
    mine, theirs = pair(optimizer)
    follow(mine, build(name, mine, lr_scheduler), theirs, build(name, theirs, torch.optim.lr_scheduler))


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.parametrize("name", CHAINS)
def test_schedules_together_and_in_turn_are_pytorchs_step_for_step(name):
    parts, milestones = CHAINS[name]
    mine, theirs = pair()
    both = []
    for optimizer, module in ((mine, lr_scheduler), (theirs, torch.optim.lr_scheduler)):
        made = [build(part, optimizer, module) for part in parts]
        both.append(
            module.ChainedScheduler(made)
            if milestones is None
            else module.SequentialLR(optimizer, made, milestones=milestones)
        )
    follow(mine, both[0], theirs, both[1])


PLATEAUS = [
    {"patience": 2},
    {"mode": "max", "patience": 1, "factor": 0.5},
    {"patience": 1, "cooldown": 3, "factor": 0.7},
    {"patience": 0, "threshold": 0.1, "threshold_mode": "abs"},
    {"mode": "max", "patience": 0, "threshold": 0.05, "threshold_mode": "abs"},
    {"patience": 0, "factor": 0.1, "min_lr": [0.01, 1e-3]},
    {"patience": 0, "factor": 0.5, "eps": 0.01},
]


@pytest.mark.parametrize("arguments", PLATEAUS)
def test_a_plateau_lowers_the_rate_where_pytorch_does(arguments, rng):
    mine, theirs = pair()
    schedule = lr_scheduler.ReduceLROnPlateau(mine, **arguments)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **arguments)
    metrics = [*(1 + rng.normal(size=30) * 0.1), math.nan, -1.0, *([-1.0] * 5), math.inf]
    for metric in metrics:
        schedule.step(metric)
        reference.step(metric)
        assert settings_of(mine) == settings_of(theirs)
        assert (schedule.best, schedule.num_bad_epochs) == (reference.best, reference.num_bad_epochs)


# Left out: kinds that in PyTorch multiply once more when they are built for the middle.
@pytest.mark.parametrize("name", [n for n, (kind, _) in SCHEDULES.items() if "Step" not in kind])
def test_a_schedule_that_is_built_for_the_middle_goes_on(name):
    mine, theirs = pair()
    schedule, reference = build(name, mine, lr_scheduler), build(name, theirs, torch.optim.lr_scheduler)
    follow(mine, schedule, theirs, reference, steps=4)
    kind, arguments = SCHEDULES[name]
    again = getattr(lr_scheduler, kind)(mine, **arguments, last_epoch=3)
    other = getattr(torch.optim.lr_scheduler, kind)(theirs, **arguments, last_epoch=3)
    follow(mine, again, theirs, other, steps=20)


def sequence(optimizer):
    warm_up = lr_scheduler.LinearLR(optimizer, start_factor=0.0, total_iters=6)
    rest = lr_scheduler.CosineAnnealingLR(optimizer, T_max=9)
    return lr_scheduler.SequentialLR(optimizer, [warm_up, rest], milestones=[6])


def chain(optimizer):
    return lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(optimizer, 0.0, total_iters=6), lr_scheduler.ExponentialLR(optimizer, 0.9)]
    )


BUILDERS = {name: (lambda o, name=name: build(name, o, lr_scheduler)) for name in SCHEDULES}
BUILDERS |= {"sequence": sequence, "chain": chain}


@pytest.mark.parametrize("saved_after", [0, 1, 3, 11])
@pytest.mark.parametrize("name", BUILDERS)
def test_a_loaded_schedule_goes_on_as_if_never_stopped(name, saved_after):
    optimizer, _ = pair()
    schedule = BUILDERS[name](optimizer)
    for _ in range(saved_after):
        schedule.step()
    states = optimizer.state_dict(), json.loads(json.dumps(schedule.state_dict()))
    other, _ = pair()
    again = BUILDERS[name](other)
    other.load_state_dict(states[0])
    again.load_state_dict(states[1])
    for _ in range(20):
        assert settings_of(other) == settings_of(optimizer)
        schedule.step(), again.step()


def test_a_plateau_can_be_saved():
    optimizer, _ = pair()
    first = lr_scheduler.ReduceLROnPlateau(optimizer, patience=2)
    first.step(1.0), first.step(1.0)
    other = lr_scheduler.ReduceLROnPlateau(optimizer, patience=5)
    other.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert (other.best, other.num_bad_epochs, other.patience) == (1.0, 1, 2)


def test_a_warm_up_from_0_reaches_the_full_rate_on_a_line():
    optimizer = SGD([backstory.ones(1)], lr=0.8)
    schedule = lr_scheduler.LinearLR(optimizer, start_factor=0.0, total_iters=4)
    seen = []
    for _ in range(6):
        seen += schedule.get_last_lr()
        schedule.step()
    assert seen == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 0.8])


def test_a_rate_of_0_on_the_way_is_left_again():
    optimizer = SGD([backstory.ones(1)], lr=0.8)
    schedule = lr_scheduler.ConstantLR(optimizer, factor=0.0, total_iters=2)
    assert schedule.get_last_lr() == [0.0]
    schedule.step(), schedule.step()
    assert schedule.get_last_lr() == [0.8]


def test_a_rate_too_small_for_a_float_stays_at_0():
    optimizer = SGD([backstory.ones(1)], lr=0.1)
    schedule = lr_scheduler.ExponentialLR(optimizer, 0.1)
    for _ in range(400):
        schedule.step()
    assert schedule.get_last_lr() == [0.0]


def made() -> SGD:
    return SGD([backstory.ones(1)], lr=0.1)


REFUSED = {
    "no optimizer": lambda: lr_scheduler.StepLR(backstory.ones(1), 3),
    "step 0": lambda: lr_scheduler.StepLR(made(), 0),
    "a factor above 1": lambda: lr_scheduler.LinearLR(made(), start_factor=2.0),
    "a constant below 0": lambda: lr_scheduler.ConstantLR(made(), factor=-1.0),
    "no period": lambda: lr_scheduler.CosineAnnealingLR(made(), T_max=0),
    "half a period": lambda: lr_scheduler.CosineAnnealingWarmRestarts(made(), T_0=1.5),
    "an unknown mode": lambda: lr_scheduler.CyclicLR(made(), 0.1, 0.2, mode="square"),
    "no momentum": lambda: lr_scheduler.CyclicLR(Adagrad([backstory.ones(1)]), 0.1, 0.2),
    "no length": lambda: lr_scheduler.OneCycleLR(made(), max_lr=0.1),
    "an unknown way": lambda: lr_scheduler.OneCycleLR(made(), 0.1, 10, anneal_strategy="square"),
    "too many rates": lambda: lr_scheduler.CyclicLR(made(), [0.1, 0.2], 0.3),
    "no function": lambda: lr_scheduler.LambdaLR(made(), 0.5),
    "a plateau that raises": lambda: lr_scheduler.ReduceLROnPlateau(made(), factor=1.5),
    "another optimizer": lambda: lr_scheduler.SequentialLR(made(), [lr_scheduler.StepLR(made(), 1)], []),
    "nothing": lambda: lr_scheduler.ChainedScheduler([]),
    "the middle of nothing": lambda: lr_scheduler.StepLR(made(), 3, last_epoch=5),
    "another's state": lambda: lr_scheduler.StepLR(made(), 3).load_state_dict({"gamma": 1}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused(name):
    with pytest.raises(errors.ArgumentError, match="why:"):
        REFUSED[name]()


def test_a_plateau_is_no_part_of_a_sequence():
    optimizer = made()
    with pytest.raises(errors.ArgumentError, match="by itself"):
        lr_scheduler.SequentialLR(optimizer, [lr_scheduler.ReduceLROnPlateau(optimizer)], [])


def test_one_cycle_refuses_a_step_behind_its_end():
    optimizer = Adam([backstory.ones(1)])
    schedule = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=5)
    for _ in range(5):
        schedule.step()
    with pytest.raises(errors.ArgumentError, match="stepped 6 times"):
        schedule.step()
    assert schedule.last_epoch == 5
