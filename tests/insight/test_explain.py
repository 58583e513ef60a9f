"""explain: golden derivations of the worked examples, names, roles, and what cannot be explained."""

from __future__ import annotations

import numpy as np
import pytest
from support import SMOOTH, draw

import backstory
from backstory import nn, optim
from backstory.core import apply
from backstory.errors import GraphError, VersionError
from backstory.insight.explanation.formula import plain
from backstory.ops import TABLE


def leaf(value, name=None):
    x = backstory.tensor(value, dtype="float64", requires_grad=True)
    x.name = name
    return x


CLOSED = """\
Forward
  v₁  = w·x        = −1·1        = −1
  z   = v₁ + b     = −1 + 0      = −1
  J   = max(z, 0)  = max(−1, 0)  = 0   ReLU; gate closed; J = a

Backward: every gradient is upstream × local
  ∂J/∂J   = 1
  ∂J/∂z   = ∂J/∂J·1[z > 0]  = 1 × 0  = 0  gate closed: nothing passes
  ∂J/∂v₁  = ∂J/∂z           = 0 × 1  = 0  add hands on
  ∂J/∂b   = ∂J/∂z           = 0 × 1  = 0  add hands on
  ∂J/∂w   = ∂J/∂v₁·x        = 0 × 1  = 0  multiply swaps: times x

In short
  ∂J/∂z  = 1[z > 0]  = 0
  ∂J/∂w  = ∂J/∂z·x   = 0
  ∂J/∂b  = ∂J/∂z     = 0"""

OPEN = """\
Forward
  v₁  = w·x        = 1·1        = 1
  z   = v₁ + b     = 1 + 0      = 1
  J   = max(z, 0)  = max(1, 0)  = 1  ReLU; gate open; J = a

Backward: every gradient is upstream × local
  ∂J/∂J   = 1
  ∂J/∂z   = ∂J/∂J·1[z > 0]  = 1 × 1  = 1  gate open: the gradient passes
  ∂J/∂v₁  = ∂J/∂z           = 1 × 1  = 1  add hands on
  ∂J/∂b   = ∂J/∂z           = 1 × 1  = 1  add hands on
  ∂J/∂w   = ∂J/∂v₁·x        = 1 × 1  = 1  multiply swaps: times x

In short
  ∂J/∂z  = 1[z > 0]  = 1
  ∂J/∂w  = ∂J/∂z·x   = 1
  ∂J/∂b  = ∂J/∂z     = 1"""


@pytest.mark.parametrize(("weight", "expected"), [(-1.0, CLOSED), (1.0, OPEN)])
def test_one_unit_by_hand(weight, expected):
    w, b, x = leaf(weight), leaf(0.0), backstory.tensor(1.0)
    z = w * x + b
    a = backstory.relu(z)
    J = a
    assert str(backstory.explain(J)) == expected


def test_a_squared_difference_by_hand():
    x, w, b = leaf(2.0), leaf(3.0), leaf(1.0)
    y = w * x + b
    L = (y - 5) ** 2
    assert (
        str(backstory.explain(L))
        == """\
Forward
  v₁  = w·x     = 3·2    = 6
  y   = v₁ + b  = 6 + 1  = 7
  v₂  = y − 5   = 7 − 5  = 2
  L   = v₂²     = 2²     = 4

Backward: every gradient is upstream × local
  ∂L/∂L   = 1
  ∂L/∂v₂  = ∂L/∂L·2·v₂  = 1 × 4  = 4
  ∂L/∂y   = ∂L/∂v₂      = 4 × 1  = 4   subtract hands on
  ∂L/∂v₁  = ∂L/∂y       = 4 × 1  = 4   add hands on
  ∂L/∂b   = ∂L/∂y       = 4 × 1  = 4   add hands on
  ∂L/∂w   = ∂L/∂v₁·x    = 4 × 2  = 8   multiply swaps: times x
  ∂L/∂x   = ∂L/∂v₁·w    = 4 × 3  = 12  multiply swaps: times w

In short
  ∂L/∂y  = 2·(y − 5)  = 4
  ∂L/∂w  = ∂L/∂y·x    = 8
  ∂L/∂x  = ∂L/∂y·w    = 12
  ∂L/∂b  = ∂L/∂y      = 4"""
    )


def two_layers():
    W1, b1 = leaf([[1.0, -2.0], [0.5, 1.0], [1.0, 1.0]]), leaf([0.1, -0.2, 0.0])
    W2, b2 = leaf([[1.0, 2.0, -1.0]]), leaf([0.5])
    x, y = backstory.tensor([1.0, 2.0], dtype="float64"), backstory.tensor([1.0], dtype="float64")
    z1 = W1 @ x + b1
    a1 = backstory.relu(z1)
    y_hat = W2 @ a1 + b2
    L = 0.5 * (y_hat - y) ** 2
    return backstory.explain(L), L, (W1, b1, W2, b2)


def test_two_layers_with_a_squared_loss_by_hand():
    assert (
        str(two_layers()[0])
        == """\
Forward
  v₁  = W₁·x        = [[−3], [2.5], [3]] (3, 1)  layout Wx: W is (out, in), x a column
  z₁  = v₁ + b₁     = [−2.9, 2.3, 3] (3,)
  a₁  = max(z₁, 0)  = [0, 2.3, 3] (3,)           ReLU; gate open for 2 of 3 entries
  v₂  = W₂·a₁       = [[1.6]] (1, 1)             layout Wx: W is (out, in), x a column
  ŷ   = v₂ + b₂     = [2.1] (1,)
  v₃  = ŷ − y       = [1.1] (1,)
  v₄  = v₃²         = [1.21] (1,)
  L   = 0.5·v₄      = [0.605] (1,)

Backward: every gradient is upstream × local
  dX is ∂L/∂X, in the shape of X; δ₁ is dz₁; δ₂ is dŷ
  dL   = 1
  dv₄  = dL ⊙ 0.5         = [1] × 0.5                     = [0.5] (1,)                                 \
multiply swaps: times 0.5
  dv₃  = dv₄ ⊙ 2·v₃       = [0.5] × 2.2                   = [1.1] (1,)
  δ₂   = dv₃              = [1.1] × 1                     = [1.1] (1,)                                 \
subtract hands on
  dv₂  = δ₂               = [1.1] × 1                     = [1.1] (1,)                                 \
add hands on
  db₂  = δ₂               = [1.1] × 1                     = [1.1] (1,)                                 \
add hands on
  dW₂  = dv₂·a₁ᵀ                                          = [[0, 2.53, 3.3]] (1, 3)                    \
multiply swaps, transposed: a₁ᵀ
  da₁  = W₂ᵀ·dv₂                                          = [[1.1], [2.2], [−1.1]] (3, 1)              \
multiply swaps, transposed: W₂ᵀ
  δ₁   = da₁ ⊙ 1[z₁ > 0]  = [1.1, 2.2, −1.1] × [0, 1, 1]  = [0, 2.2, −1.1] (3,)                        \
gate open for 2 of 3 entries
  dv₁  = δ₁               = [0, 2.2, −1.1] × 1            = [0, 2.2, −1.1] (3,)                        \
add hands on
  db₁  = δ₁               = [0, 2.2, −1.1] × 1            = [0, 2.2, −1.1] (3,)                        \
add hands on
  dW₁  = dv₁·xᵀ                                           = [[0, 0], [2.2, 4.4], [−1.1, −2.2]] (3, 2)  \
multiply swaps, transposed: xᵀ

In short
  δ₂   = ŷ − y            = [1.1] (1,)
  dW₂  = δ₂·a₁ᵀ           = [[0, 2.53, 3.3]] (1, 3)
  db₂  = δ₂               = [1.1] (1,)
  da₁  = W₂ᵀ·δ₂           = [1.1, 2.2, −1.1] (3,)
  δ₁   = da₁ ⊙ 1[z₁ > 0]  = [0, 2.2, −1.1] (3,)
  dW₁  = δ₁·xᵀ            = [[0, 0], [2.2, 4.4], [−1.1, −2.2]] (3, 2)
  db₁  = δ₁               = [0, 2.2, −1.1] (3,)"""
    )


def test_the_gradients_told_are_those_that_backward_gives():
    explained, loss, leaves = two_layers()
    loss.sum().backward()
    told = [q.gradient for q in explained.derivation.leaves]
    for x, gradient in zip(leaves, told, strict=True):
        np.testing.assert_array_equal(x.grad.numpy(), gradient)


def test_markdown_writes_the_same_in_latex():
    text = two_layers()[0].markdown()
    assert r"$a_{1} = \max(z_{1}, 0)$" in text
    assert r"$\delta_{1} = \mathrm{d}a_{1} \odot \mathbf{1}[z_{1} > 0]$ = [0, 2.2, −1.1]" in text
    assert r"$\mathrm{d}W_{1} = \delta_{1}\,x^{\top}$" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines[:10]} == {5}  # no formula breaks the table


def test_html_shows_every_line_and_escapes_names():
    w = leaf(2.0, "<b>&w")
    page = backstory.explain(w * w)._repr_html_()
    assert page.count("<tr") == 8
    assert "<b>&w" not in page
    assert "<math" in page


def test_html_without_the_converter_is_plain_text(monkeypatch):
    import sys

    from backstory.insight.explanation import markup

    monkeypatch.setitem(sys.modules, "latex2mathml.converter", None)
    markup._math.cache_clear()
    x = leaf(2.0)
    L = x**2
    assert "∂L/∂x = ∂L/∂L·2·x" in backstory.explain(L).html()
    markup._math.cache_clear()


# Names


def test_parameters_are_named_by_the_path_in_the_callers_module():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    loss = nn.functional.cross_entropy(model(backstory.ones(5, 3)), backstory.tensor([0, 1, 0, 1, 1]))
    text = str(backstory.explain(loss))
    assert "∂loss/∂0.weight  = δ₁ᵀ·" in text
    assert "xWᵀ" in text
    other = nn.Linear(1, 1)
    assert "∂loss/∂model.0.weight" in str(backstory.explain(loss))
    assert other is not model


def test_a_name_given_comes_before_the_callers_variables():
    mine, theirs = leaf(1.0, "own"), leaf(2.0)
    loss = mine * theirs
    text = str(backstory.explain(loss, {"given": theirs}))
    assert "= own·given" in text


def test_what_has_no_name_is_numbered_past_the_names_taken():
    v1, c1 = leaf([1.0, 2.0]), None
    loss = ((v1 * 3.0 + backstory.tensor([1.0, 5.0], dtype="float64")) * v1).sum()
    text = str(backstory.explain(loss))
    assert c1 is None
    assert "v₂    = v₁·3" in text
    assert "v₃    = v₂ + c₁" in text


def test_constants_are_shown_with_their_values_and_names():
    target, x = np.array([1.0, 2.0]), leaf([3.0, 4.0])
    loss = (x - target).sum()
    assert "= x − target  = [2, 2] (2,)" in str(backstory.explain(loss))


def test_a_large_constant_that_is_gone_is_not_kept_alive():
    x = leaf(np.ones(1000))
    loss = ((x + backstory.ones(1000, dtype="float64")) ** 2).sum()
    explained = backstory.explain(loss)
    assert "(1000,)" in str(explained)
    assert explained.derivation.steps[0].inputs[1].value is None


# Roles


def test_broadcasting_is_named_forwards_and_backwards():
    X, b = leaf([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), leaf([0.5, 0.5])
    L = (X + b).sum()
    text = str(backstory.explain(L))
    assert "b is copied over axis 0" in text
    assert "db   = sum(dv₁, axis = 0)" in text
    assert "b was copied over axis 0, so its gradient sums over it" in text


@pytest.mark.parametrize(
    ("product", "layout"),
    [
        (lambda x, W: x @ W, "layout XW: rows of X are samples, W is (in, out)"),
        (lambda x, W: x @ W.T, "layout xWᵀ"),
        (lambda x, W: W @ x, "layout Wx: W is (out, in)"),
        (lambda x, W: nn.functional.linear(x, W), "layout xWᵀ"),
    ],
    ids=["XW", "xWᵀ", "Wx", "linear"],
)
def test_the_layout_is_named(product, layout):
    x, W = backstory.ones(2, 2, dtype="float64"), leaf([[1.0, 2.0], [3.0, 4.0]])
    text = str(backstory.explain(product(x, W).sum()))
    assert layout in text


def test_a_transposed_weights_gradient_is_transposed_back():
    x, W = backstory.ones(3, 2, dtype="float64"), leaf([[1.0, 2.0], [3.0, 4.0]])
    L = (x @ W.T).sum()
    text = str(backstory.explain(L))
    assert "= x·Wᵀ" in text
    assert "d(Wᵀ)  = xᵀ·δ" in text


@pytest.mark.parametrize("choice", [0.0, 0.5, 1.0])
def test_reluss_derivative_at_zero_is_told_where_it_matters(choice):
    z = leaf(0.0)
    L = backstory.relu(z, at_zero=choice)
    assert f"z is exactly 0, where the derivative is taken as {choice:g}" in str(backstory.explain(L))
    z = leaf(1.0)
    L = backstory.relu(z, at_zero=choice)
    assert "exactly 0" not in str(backstory.explain(L))


def test_gradients_through_several_places_are_added():
    x = leaf(3.0)
    y = x * x + x
    text = str(backstory.explain(y))
    assert "∂y/∂x   = 1 + 3 + 3           = 7  the sum of what came through y, v₁" in text


# The whole table


@pytest.mark.parametrize("op", TABLE.values(), ids=TABLE)
def test_every_records_formulas_read_as_text(op):
    for latex in (op.formula, *op.derivative):
        text = plain(latex)
        assert text
        assert (
            not set("\\{}^$") & set(text.replace("^(", "").replace("{j", "").replace("}", "")) or "^" in text
        )


def test_a_deep_chain_is_explained_without_recursion():
    x = leaf(1.0)
    y = x
    for _ in range(3000):
        y = y * 1.0
    assert len(backstory.explain(y).derivation.steps) == 3000


# What cannot be explained


def test_after_backward_the_error_says_what_to_do():
    x = leaf(2.0)
    loss = x * x
    loss.backward()
    with pytest.raises(GraphError, match=r"explain\(loss\) before loss.backward"):
        backstory.explain(loss)


def test_a_leaf_has_no_derivation():
    with pytest.raises(GraphError, match="without a history"):
        backstory.explain(leaf(1.0))


def test_a_value_changed_since_is_found_and_never_shown():
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    loss = (model(backstory.ones(3, 2)) - 1.0).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(VersionError):
        backstory.explain(loss)


def test_explaining_changes_nothing():
    w = leaf(2.0)
    loss = (w * 3.0) ** 2
    backstory.explain(loss)
    assert w.grad is None
    loss.backward()
    assert w.grad.item() == 36.0


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda x: x.clamp(0.5, 3.0), "= min(max(x, 0.5), 3)"),
        (lambda x: x.clamp(0.5, 3.0), "1[0.5 ≤ x ≤ 3]"),
        (lambda x: backstory.softplus(x), "= ln(1 + eˣ)"),
        (lambda x: backstory.softplus(x, beta=2.0), "σ(2·x)"),
        (lambda x: backstory.hypot(x, 2.0), "x/√(x² + 2²)"),
        (lambda x: -x / 4, "= v₁/4"),
        (lambda x: backstory.sin(x) * -2, "sin x"),
    ],
)
def test_formulas_bear_the_numbers_at_hand(function, told):
    x = leaf([1.0, 2.0])
    loss = function(x).sum()
    assert told in str(backstory.explain(loss))


def test_every_differentiable_record_is_explained_on_its_samples():
    explained = 0
    for op, case, name in SMOOTH:
        arguments = [leaf(x) if x.dtype.kind == "f" else backstory.as_tensor(x) for x in draw(case)]
        result = apply(op, *arguments, **case.params)
        if not result.numel():
            continue
        loss = (result * 1.5).sum()
        told = backstory.explain(loss)
        assert str(told), name
        assert told.markdown(), name
        loss.backward()
        for quantity in told.derivation.leaves:
            (match,) = [x for x in arguments if x.array is quantity.value]
            np.testing.assert_array_equal(match.grad.numpy(), quantity.gradient, err_msg=name)
        explained += 1
    assert explained > 200
