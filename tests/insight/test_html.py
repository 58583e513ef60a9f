"""A run in a notebook."""

from __future__ import annotations

from html.parser import HTMLParser

from insight.trainings import inputs, network, step_once, targets

from backstory import optim
from backstory.insight import open_run, watch


class Reader(HTMLParser):
    """The text of a page by tag, and the tags that are open at its end."""

    def __init__(self, page):
        super().__init__()
        self.open, self.texts = [], {}
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1], []).append(data)


def test_a_notebook_shows_the_story_and_the_life_table(tmp_path):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    with watch(model, optimizer, tmp_path / "a<b>&c", data=inputs()) as run:
        step_once(model, optimizer, inputs(), targets(inputs()))
        run.log(**{"<script>": 1.0})
        assert run._repr_html_().count("<tr>") == 3  # also while it is being written
    run = open_run(tmp_path / "a<b>&c")
    page = Reader(run._repr_html_())
    assert page.open == []
    assert "script" not in page.texts
    verdict, rest = run.story().split("\n", 1)
    assert "<script>" in verdict
    assert page.texts["strong"] == [verdict]
    assert page.texts["pre"] == [rest]
    assert page.texts["small"] == [f"{tmp_path}/a<b>&c: 1 steps"]
    life = run.life_table().sites[0]
    assert page.texts["th"] == ["site", "units", "dead", "linear", "born dead", "deaths", "revivals"]
    cells = page.texts["td"]
    assert cells[:3] == [life.site.name, str(life.site.units), str(len(life.dead))]
    assert len(cells) == 7 * len(run.sites)
