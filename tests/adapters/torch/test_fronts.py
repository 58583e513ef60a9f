"""Certificates of PyTorch trainings: their parts against PyTorch's own layers and update formulas."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from adapters.torch import trainings
from adapters.torch.slow import always
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from backstory.insight import experiment, open_run, watch
from backstory.insight.run import Watched

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")

OPTIMIZERS = {
    "sgd": {"lr": 0.05},
    "momentum": {"lr": 0.02, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.2},
    "nesterov": {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    "maximize": {"lr": 0.02, "momentum": 0.5, "maximize": True, "weight_decay": 0.1},
    "adam": {"lr": 0.2, "optimizer": "adam", "weight_decay": 0.1},
    "amsgrad": {"lr": 0.2, "optimizer": "adam", "amsgrad": True},
    "adamw": {"lr": 0.2, "optimizer": "adamw", "weight_decay": 0.3},
    "adamw, all": {"lr": 0.2, "optimizer": "adamw", "weight_decay": 0.3, "amsgrad": True, "maximize": True},
    "fused": {"lr": 0.2, "optimizer": "adam", "fused": True},
    "foreach": {"lr": 0.05, "foreach": True, "momentum": 0.5},
}


def config_of(front: str, optimizer: str = "adam") -> dict[str, Any]:
    return {"seed": 0, "steps": 14, "front": front, "optimizer": "sgd", **OPTIMIZERS[optimizer]}


class Slow(Watched):
    """Keeps copies of the model after every step, and of gradients and optimizer before every step."""

    def __call__(self, model: Any, optimizer: Any, *, data: Any, generator: Any = None) -> Slow:
        self.data, self.after, self.before = data, [copy.deepcopy(model)], []
        names = {p: name for name, p in model.named_parameters()}

        def keep(*call: Any) -> None:
            grads = {name: p.grad.clone() for p, name in names.items()}
            states = {name: copy.deepcopy(optimizer.state.get(p, {})) for p, name in names.items()}
            self.before.append((grads, states, dict(optimizer.param_groups[0])))

        optimizer.register_step_pre_hook(keep)
        optimizer.register_step_post_hook(lambda *call: self.after.append(copy.deepcopy(model)))
        return self


def slowly(config: dict[str, Any], train: Any = trainings.fronts) -> Slow:
    seen = Slow()
    torch.manual_seed(config["seed"])
    train(dict(config), seen)
    return seen


def recorded(config: dict[str, Any], path: Any, scan_at: Any = always) -> Any:
    held = []

    def begin(model: Any, optimizer: Any, *, data: Any) -> Any:
        held.append(watch(model, optimizer, path, data=data, scan_at=scan_at))
        return held[0]

    torch.manual_seed(config["seed"])
    trainings.fronts(dict(config), begin)
    held[0].close()
    return open_run(path)


AXES = {"conv1d": -2, "conv2d": -3, "conv3d": -4, "depthwise": -3, "norm along": -2}


def axis_of(front: str) -> int:
    return next((axis for start, axis in AXES.items() if front.startswith(start)), -1)


@torch.no_grad()
def look(model: nn.Module, sample: torch.Tensor, layer: nn.Module) -> tuple[torch.Tensor, Any, Any]:
    """In evaluation mode: the pre-activation of one sample, and the layer's input and output."""
    model = model.eval()
    seen = []
    handle = layer.register_forward_hook(lambda m, args, out: seen.append((args[0].clone(), out.clone())))
    z = model.front(sample[None])
    handle.remove()
    return z[0], seen[-1][0], seen[-1][1][0]


def layer_of(model: nn.Module) -> tuple[str, Any]:
    """The last linear layer or convolution of the front, and its name."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    found = [(name, m) for name, m in model.front.named_modules(prefix="front") if isinstance(m, kinds)]
    if isinstance(model.front, trainings.Skip):
        return "front.layer", model.front.layer
    return found[-1]


def slow_terms(kind: str, p: Any, g: Any, state: Any, group: Any) -> dict[str, Any]:
    """What gradient, momentum and decay each add to a parameter, from the formulas in PyTorch's docs."""
    lr, wd = float(group["lr"]), group["weight_decay"]
    g = -g if group["maximize"] else g
    if kind == "sgd":
        mu, tau = group["momentum"], group["dampening"]
        buffer = state.get("momentum_buffer")

        def update(g: Any, buffer: Any, p: Any, first: bool = buffer is None) -> Any:
            d = g + wd * p
            if mu:
                v = d if first else mu * buffer + (1 - tau) * d
                d = d + mu * v if group["nesterov"] else v
            return -lr * d

        zero = torch.zeros_like(p)
        old = zero if buffer is None else buffer
        # It is linear in all three.
        return {
            "gradient": update(g, zero, zero),
            "momentum": update(zero, old, zero),
            "weight decay": update(zero, zero, p),
        }
    beta1, beta2 = group["betas"]
    t = float(state.get("step", 0)) + 1
    zero = torch.zeros_like(p)
    m, v = state.get("exp_avg", zero), state.get("exp_avg_sq", zero)
    d = g + wd * p if kind == "adam" else g
    v = beta2 * v + (1 - beta2) * d * d
    if group["amsgrad"]:
        v = torch.maximum(state.get("max_exp_avg_sq", v), v)
    rate = -lr / (1 - beta1**t) / ((v / (1 - beta2**t)).sqrt() + group["eps"])
    decay = -lr * wd * p if kind == "adamw" else rate * (1 - beta1) * wd * p
    return {"gradient": rate * (1 - beta1) * g, "momentum": rate * beta1 * m, "weight decay": decay}


def through(layer: Any, weight: Any, x: Any) -> torch.Tensor:
    """What the layer would give with that weight and no bias."""
    changed = copy.deepcopy(layer)
    with torch.no_grad():
        changed.weight.copy_(weight)
        if changed.bias is not None:
            changed.bias.zero_()
        return changed(x)[0]


def judge(c: Any, seen: Slow, config: dict[str, Any]) -> None:
    """One certificate of a single step."""
    front, kind = config["front"], config["optimizer"]
    old, new = seen.after[c.since], seen.after[c.step]
    (name, layer), (_, layer_now) = layer_of(old), layer_of(new)
    sample = seen.data[c.sample]
    z_old, x_old, u_old = look(old, sample, layer)
    z_new, x_new, u_new = look(new, sample, layer_now)
    axis = axis_of(front)
    place = int(z_old.select(axis, c.unit).argmax())
    rest = [n for i, n in enumerate(z_old.shape) if i - z_old.ndim != axis]
    where = list(torch.unravel_index(torch.tensor(place), rest)) if rest else []
    where.insert(z_old.ndim + axis, c.unit)

    def at(x: torch.Tensor) -> float:
        return float(x.detach()[tuple(int(i) for i in where)])

    assert c.before == pytest.approx(float(z_old.select(axis, c.unit).max()), rel=1e-12)
    assert c.after == pytest.approx(at(z_new), rel=1e-9, abs=1e-12)
    assert c.before > 0 >= c.after
    size = sum(map(abs, c.parts)) + abs(c.before) + abs(c.after)
    assert abs(sum(c.parts) - (c.after - c.before)) < 1e-13 * max(size, 1.0)
    # z = scale·u + shift (+ skip): the slope of z in u, from a second look at the front.
    scale = slope(old, sample, layer, where)
    if c.step - c.since > 1:
        assert set(c.weights) == {"update"}
        expected = scale * at(through(layer, layer_now.weight - layer.weight, x_old))
        assert c.weights["update"] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    else:
        grads, states, group = seen.before[c.step - 1]
        w, b = f"{name}.weight", f"{name}.bias"
        terms = slow_terms(kind, layer.weight.detach(), grads[w], states[w], group)
        for key, term in terms.items():
            expected = scale * at(through(layer, term, x_old))
            assert c.weights.get(key, 0.0) == pytest.approx(expected, rel=1e-8, abs=1e-12), key
        assert abs(c.weights["rounding"]) < 1e-14 * max(size, 1.0)
        if layer.bias is None:
            assert c.bias == {}
        else:
            channel = int(where[{nn.Linear: -1}.get(type(layer), -z_old.ndim)])
            for key, term in slow_terms(kind, layer.bias.detach(), grads[b], states[b], group).items():
                expected = scale * float(term[channel])
                assert c.bias.get(key, 0.0) == pytest.approx(expected, rel=1e-8, abs=1e-12), key
            assert abs(c.bias["rounding"]) < 1e-14 * max(size, 1.0)
        assert c.note == ""
    expected = scale * at(through(layer, layer_now.weight, x_new) - through(layer, layer_now.weight, x_old))
    assert c.inputs == pytest.approx(expected, rel=1e-8, abs=1e-12)
    skip = 0.0
    if "skip" in front:
        skip = at(z_new) - at(z_old)
        skip -= at(u_new) - at(u_old) if front != "skip after norm" else 0.0
    if front == "skip after norm":
        tanh_old, tanh_new = (torch.tanh(m.front.below(sample[None]))[0] for m in (old, new))
        skip = at(tanh_new) - at(tanh_old)
    assert c.others.get("skip", 0.0) == pytest.approx(skip, rel=1e-8, abs=1e-12)
    normalised = at(z_new) - at(z_old) - skip - scale * (at(u_new) - at(u_old))
    assert c.others.get("normalisation", 0.0) == pytest.approx(normalised, rel=1e-6, abs=1e-11)
    assert ("normalisation" in c.others) == ("norm" in front)


@torch.no_grad()
def slope(model: Any, sample: Any, layer: Any, where: Any) -> float:
    """∂z/∂u at one entry, mean and variance of a layer norm taken as given: γ/√(variance + ε), else 1."""
    norms = [m for m in model.front.modules() if isinstance(m, (nn.LayerNorm, _BatchNorm))]
    if not norms:
        return 1.0
    norm = norms[0]
    _, _, u = look(model, sample, layer)
    if isinstance(norm, nn.LayerNorm):
        inner = len(norm.normalized_shape)
        own = u[tuple(int(i) for i in where[: u.ndim - inner])]
        gain = norm.weight[tuple(int(i) for i in where[u.ndim - inner :])]
        return float(gain / (own.var(correction=0) + norm.eps).sqrt())
    channel = int(where[0])
    gain = 1.0 if norm.weight is None else norm.weight[channel]
    return float(gain / (norm.running_var[channel] + norm.eps).sqrt())


UNSPLIT = {"group norm", "computed weights", "batch norm without statistics"}


@pytest.mark.parametrize("front", [name for name in trainings.FRONTS if name not in UNSPLIT])
def test_the_parts_are_those_of_the_layers_and_formulas_of_pytorch(front, tmp_path):
    config = config_of(front)
    seen, run = slowly(config), recorded(config, tmp_path / "run")
    table = run.life_table()
    assert all(event.exact for event in table.events)
    last = [site.name for site in run.sites][-1]
    found = [c for c in run.certificates() if c.site == last]
    assert len(run.certificates()) == table.count("died")
    assert found, "a training in which nothing dies tests nothing"
    for c in found:
        judge(c, seen, config)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("front", ["positions", "conv2d in groups", "batch norm"])
def test_the_terms_are_those_of_the_optimizer(front, optimizer, tmp_path):
    config = config_of(front, optimizer)
    if front == "batch norm" and config["optimizer"] == "sgd":
        config |= {"lr": 3 * config["lr"], "steps": 30}
    seen, run = slowly(config), recorded(config, tmp_path / "run")
    assert run.certificates(), "a training in which nothing dies tests nothing"
    for c in run.certificates():
        judge(c, seen, config)


def test_updates_between_two_scans_are_explained_together(tmp_path):
    config = config_of("conv1d", "momentum")
    seen = slowly(config)
    run = recorded(config, tmp_path / "run", lambda step: step in (1, 4, 8, 14))
    spans = {(c.since, c.step) for c in run.certificates()}
    assert any(step - since > 1 for since, step in spans)
    for c in run.certificates():
        judge(c, seen, config)
        if c.step - c.since > 1:
            assert f"{c.step - c.since} updates together" in c.note
            assert f"between steps {c.since} and {c.step}" in str(c)


@pytest.mark.parametrize("front", sorted(UNSPLIT))
def test_what_cannot_be_split_says_so_and_gives_the_total(front, tmp_path):
    config = config_of(front)
    seen, run = slowly(config), recorded(config, tmp_path / "run")
    assert run.certificates()
    for c in run.certificates():
        assert c.change == pytest.approx(c.after - c.before, rel=1e-9, abs=1e-12)
        if front == "group norm":
            assert "only the total is known" in c.note
            assert c.weights == c.bias == {}
            z = seen.after[c.since].eval().front(seen.data[c.sample][None])[0, c.unit]
            assert c.before == pytest.approx(z.item(), rel=1e-12)
        elif front == "computed weights":
            assert "computed from parameters" in c.note
            assert set(c.weights) == {"update"}
            assert "gradient" in c.bias


def test_a_rule_without_a_split_gives_totals(tmp_path):
    config = {**config_of("linear"), "optimizer": "rmsprop", "weight_decay": 0.0}
    run = recorded(config, tmp_path / "run")
    assert run.certificates()
    for c in run.certificates():
        assert "RMSprop's update is not split into its terms" in c.note
        assert set(c.weights) == set(c.bias) == {"update"}
        assert c.change == pytest.approx(c.after - c.before, rel=1e-9, abs=1e-12)


def closing(config: dict[str, Any], watch: Any) -> None:
    """Steps with a closure."""
    x, model = trainings.data_of("linear"), trainings.make("linear")
    optimizer = trainings.optimizer_of(model, config)
    watch(model, optimizer, data=x)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (model(x) + 3.0).square().mean()
        loss.backward()
        return loss

    for _ in range(config["steps"]):
        optimizer.step(closure)


def test_an_update_whose_gradient_is_computed_in_the_step_is_split_too(tmp_path):
    run = experiment(closing, {**config_of("linear", "momentum")}, tmp_path / "run")
    run.audit()
    assert run.certificates()
    for c in run.certificates():
        assert c.note == ""
        assert abs(c.weights["rounding"]) < 1e-14 * max(1.0, *map(abs, c.parts))
        assert abs(sum(c.parts) - (c.after - c.before)) < 1e-13 * max(1.0, *map(abs, c.parts))


def test_an_audit_gives_the_certificates_of_a_watch_that_scanned_at_every_step(tmp_path):
    config = config_of("conv2d, batch norm")
    watched = recorded(config, tmp_path / "watched").certificates()
    run = experiment(trainings.fronts, config, tmp_path / "run")
    run.audit()
    assert run.certificates() == watched
    assert watched


def test_scaled_gradients_of_a_fused_step_are_taken_as_they_move(tmp_path):
    """A fused optimizer divides by the GradScaler's factor within its step."""
    x, model = trainings.data_of("linear").float(), trainings.make("linear").float()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.2, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with watch(model, optimizer, tmp_path / "run", data=x, scan_at=always) as run:
        for _ in range(8):
            optimizer.zero_grad()
            scaler.scale((model(x) + 3.0).square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()
        found = run.certificates()
    assert found
    for c in found:
        assert abs(c.weights["rounding"]) < 1e-5 * max(1.0, *map(abs, c.parts))


def test_a_layer_that_thaws_on_the_way_is_split_too(tmp_path):
    x, model = trainings.data_of("two layers"), trainings.make("two layers")
    model.front[2].requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.3)
    with watch(model, optimizer, tmp_path / "run", data=x, scan_at=always) as run:
        for step in range(10):
            if step == 2:
                model.front[2].requires_grad_(True)
            optimizer.zero_grad()
            (model(x) + 3.0).square().mean().backward()
            optimizer.step()
        with pytest.warns(RuntimeWarning, match="moves 2 parameters that it did not at watch"):
            run.flush()
        late = [c for c in run.certificates() if c.site == "relu#0" and c.step > 2]
    assert late
    for c in late:
        assert c.note == ""
        assert "gradient" in c.weights
