"""The report: one page, nothing from outside, and no number that is not the run's."""

from __future__ import annotations

import html
import math
import re
import warnings

import pytest

import backstory
from backstory import nn, optim
from backstory.insight.certificate import Certificate
from backstory.insight.why import Why
from backstory.report import write_report
from backstory.report.figures import factors, parts
from backstory.report.numbers import fixed, number, percent, signed

CHROMIUM = "/usr/bin/chromium"
EVIL = '<script>alert("1")</script>'
CONFIG = {"seed": 1, "lr": 2.0, "note": EVIL}


def train(config, watch):
    """A tiny network that loses units."""
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 1))
    optimizer = optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    x = backstory.randn(24, 3)
    y = x.sum(1, keepdim=True)
    run = watch(model, optimizer, data=x)
    for _ in range(10):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    run.log(accuracy=config["lr"] / 3)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A run with everything in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        run = backstory.experiment(train, CONFIG, tmp_path_factory.mktemp("full") / "run")
        run.audit()
        changes = [backstory.Change(EVIL, {"lr": 0.05}), backstory.Change("작게", {"lr": 0.1})]
        run.counterfactuals(changes, seeds=3, jobs=1)
    example = {"sample": 4, "upstream": -0.125, "gate": 0.0, "input": 0.75, "product": 0.0}
    update = {"gradient": -0.25, "momentum": 0.0625}
    run.keep(Why("0.weight", (2, 1), "gate closed", 0.0, 24, 3, 24, 1, example=example, update=update))
    return run


@pytest.fixture(scope="module")
def page(full, tmp_path_factory):
    return write_report(full, tmp_path_factory.mktemp("page") / "report.html").read_text(encoding="utf-8")


def bare(path, *, name="0", factor=1.0, steps=5):
    """A run that was only watched, under a module name of choice."""
    backstory.manual_seed(0)
    model = nn.Module()
    setattr(model, name, nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)))
    model.forward = lambda x: getattr(model, name)(x)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    x = backstory.randn(8, 3)
    with backstory.watch(model, optimizer, path, data=x), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(steps):
            optimizer.zero_grad()
            (model(x).mean() * factor).backward()
            optimizer.step()
    return backstory.open_run(path)


def text_of(page: str) -> str:
    """What a reader sees: no style, no pictures, no tags."""
    bare = re.sub(r"<style>.*?</style>|<svg.*?</svg>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", bare)))


def outside(page: str) -> list[str]:
    """Everything in the page that would make a browser ask for something, or run something."""
    tags = " ".join(re.findall(r"<[^>]*>", page)) + " ".join(
        re.findall(r"<style>.*?</style>", page, re.DOTALL)
    )
    found = re.findall(r"https?:|//\w|@import|<script|<link|<iframe|\ssrc=|\son\w+=", tags)
    found += [url for url in re.findall(r"url\(([^)]*)\)", tags) if not url.startswith(("#", "data:"))]
    return found + [
        link for link in re.findall(r'href="([^"]*)', tags) if not link.startswith(("#", "data:"))
    ]


def test_the_page_asks_for_nothing_from_outside(page):
    assert outside(page) == []


def test_text_of_the_run_is_escaped(page, tmp_path):
    assert "<script" not in page
    assert html.escape(EVIL, quote=False) in page or html.escape(EVIL) in page
    evil = write_report(bare(tmp_path / "run", name="<script>x</script>"), tmp_path / "r.html").read_text()
    assert "<script" not in evil
    assert "&lt;script&gt;x&lt;/script&gt;" in evil


def test_ids_are_unique_and_every_reference_within_the_page_is_met(page):
    ids = re.findall(r'\sid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', page)) <= set(ids)


def test_the_large_numbers_are_the_life_tables(full, page):
    table, text = full.life_table(), text_of(page)
    assert table.audited
    assert table.count("died") > 0
    assert f"dead {table.dead} of {table.units} units" in text
    assert f"born dead {table.count('born dead')} before the first update" in text
    assert f"deaths {table.count('died')} exact revivals {table.count('revived')} exact" in text
    assert f"effective width {table.sites[0].width} of 6" in text


def test_every_certificate_is_there_with_its_parts(full, page):
    text = text_of(page)
    for c in full.certificates():
        assert f"{c.site}[{c.unit}] {c.step} #{c.sample} {signed(c.before)} → {signed(c.after)}" in text
        assert f"{signed(c.change)} = " in text
        assert f"inputs {signed(c.inputs)}" in text or c.inputs == 0


def test_every_outcome_is_there(full, page):
    outcomes, text = full.outcomes(), text_of(page)
    for change in outcomes.changes[1:]:
        values = outcomes.values(change)
        better = sum(b > a for a, b in outcomes.pairs(change))
        low, middle, high = map(fixed, sorted(values))
        line = (
            f"{outcomes.mark(change)} {change} {middle} {low} to {high}"
            f" {percent(outcomes.dead_share(change))} {better} of 3 {number(outcomes.p_value(change))}"
        )
        assert line in text


def test_a_why_shows_its_factors_the_culprit_and_the_update_apart(page):
    assert page.count('class="factor culprit"') == 1
    text = text_of(page)
    assert "upstream −0.125 0 in 3 × gate 0 0 in 24 × input 0.75 0 in 1 = product 0" in text
    assert "next update −0.188 = gradient −0.25, momentum +0.0625" in text


def test_how_to_reproduce_is_code_that_runs_with_the_recorded_config(full, page):
    code = html.unescape(re.search(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL)[1])
    scope: dict = {}
    exec(code[code.index("config = ") : code.index("run = ")], scope)
    assert scope["config"] == full.config
    assert full.meta["versions"]["numpy"] in text_of(page)


def test_a_bare_run_says_how_to_get_what_it_has_not(tmp_path):
    page = write_report(bare(tmp_path / "run"), tmp_path / "r.html").read_text(encoding="utf-8")
    text = text_of(page)
    assert outside(page) == []
    assert text.count("How to get this: backstory.experiment(train, config, path)") >= 2
    assert "run.counterfactuals(" in text
    assert 'id="outcomes"' not in page


@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": 1}, {"factor": math.nan}, {"factor": math.inf}])
def test_runs_without_steps_or_with_losses_that_are_not_finite_are_reported(tmp_path, options):
    page = write_report(bare(tmp_path / "run", **options), tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    assert outside(page) == []


def test_a_failure_leaves_the_old_page_as_it_was(tmp_path, monkeypatch):
    run, target = bare(tmp_path / "run"), tmp_path / "r.html"
    target.write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_report(run, target)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_the_page_is_the_same_every_time_it_is_written(full, tmp_path):
    first, second = (write_report(full, tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_parts_lie_end_to_end_on_both_sides_of_zero():
    terms = {"gradient": -0.3, "momentum": -0.1, "weight decay": 0.05, "rounding": 1e-18}
    found = parts(Certificate("s", 0, 1, 2, 0.1, -0.3, terms, {"gradient": -0.1}, 0.2))
    assert [(part.name, round(part.start), round(part.length)) for part in found] == [
        ("gradient", -60, 60),
        ("momentum", -80, 20),
        ("weight decay", 0, 10),
        ("bias", -100, 20),
        ("inputs", 10, 40),
    ]


def test_the_culprit_is_the_first_factor_that_is_zero_for_every_sample():
    example = {"sample": 0, "upstream": 0.0, "gate": 1.0, "input": 0.0, "product": 0.0}
    both = Why("w", (0, 0), "upstream zero", 0.0, 4, 4, 0, 4, example=example)
    assert [factor.culprit for factor in factors(both)] == [True, False, False]
    moving = Why("w", (0, 0), "moves", 1.0, 4, 1, 2, 3, example={**example, "upstream": 1.0, "input": 1.0})
    assert not any(factor.culprit for factor in factors(moving))
    assert factors(Why("w", (0, 0), "frozen")) == []


def test_a_browser_shows_the_page_without_errors_and_without_scrolling_sideways(full, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api")
    from pathlib import Path

    if not Path(CHROMIUM).exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    path = write_report(full, tmp_path / "report.html")
    said: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        for width in (1280, 390):
            view = browser.new_page(viewport={"width": width, "height": 800})
            view.on("console", lambda message: said.append(message.text))
            view.on("pageerror", lambda error: said.append(str(error)))
            view.on(
                "request",
                lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url),
            )
            view.goto(path.as_uri())
            assert view.evaluate("document.documentElement.scrollWidth") <= width
            shown = view.locator("svg.picture:visible")
            assert shown.count() == 5
        browser.close()
    assert said == []
