"""The page of the report in a real browser: it draws, sorts, filters, links, listens to keys, and asks nobody."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boards
import pytest

from smcbench.report.export import write_report
from smcbench.results import published

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install smcbench[page]")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.page,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium"),
]

VIEWS = ("overview", "tasks", "curves", "cost", "layers", "results", "published", "about")
KEYS = ("view", "task", "sort", "pick", "row", "page", "at", "family", "track", "q", "measure", "battery")
NASTY = "</script><script>window.owned=1</script><img src=x onerror=window.owned=1><b>javascript:window.owned=1"


@dataclass
class Visit:
    """A page, and what went wrong on it."""

    page: Any
    file: Path
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def to(self, state: str = "") -> Any:
        """Open a state of the page afresh, as somebody who follows a link does."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.file.as_uri()}#{state}")
        return self.page

    @property
    def state(self) -> dict[str, str]:
        """What the address says."""
        text = self.page.evaluate("decodeURIComponent(location.hash.slice(1)).replaceAll('+', ' ')")
        return dict(pair.split("=", 1) for pair in text.split("&") if pair)

    def column(self, number: int) -> list[str]:
        """The texts of a column, down all groups."""
        return self.page.locator(f"#main tbody tr:not(.group) > :nth-child({number})").all_inner_texts()


Open = Callable[..., Visit]


@pytest.fixture(scope="module")
def made() -> boards.Made:
    return boards.made()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(made: boards.Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    return write_report(out, made.board, made.records, published.load(), "../leaderboard/submissions/")[0]


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[Open]:
    contexts = []

    def open_(file: Path = report, width: int = 1400, scheme: str = "light") -> Visit:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        found = Visit(context.new_page(), file)
        found.page.set_default_timeout(10_000)
        found.page.on("console", lambda message: found.problems.append(message.text))
        found.page.on("pageerror", lambda error: found.problems.append(str(error)))
        found.page.on("dialog", lambda dialog: found.problems.append(dialog.message))
        found.page.on("request", lambda request: found.requests.append(request.url))
        return found

    yield open_
    for context in contexts:
        context.close()


@pytest.mark.parametrize("width", [1400, 360])
def test_every_view_draws_in_silence(visit: Open, width: int) -> None:
    at = visit(width=width)
    for view in VIEWS:
        page = at.to(f"view={view}")
        assert page.locator("#main table, #main svg").count(), view
        assert page.locator('#views [aria-current="page"]').count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{view} is wider than the window"
    assert at.problems == []
    assert {url.partition("#")[0] for url in at.requests} <= {at.file.as_uri(), "about:blank", "data:,"}


def test_sorting(visit: Open) -> None:
    at = visit()
    page = at.to("view=results&task=digits")
    button = page.get_by_role("button", name="Score", exact=True)
    button.click()
    scores = [float(text.split()[0].replace("−", "-")) for text in at.column(4)]
    assert scores == sorted(scores, reverse=True)
    assert page.locator('th[aria-sort="descending"]').inner_text() == "Score"
    button.click()
    scores = [float(text.split()[0].replace("−", "-")) for text in at.column(4)]
    assert scores == sorted(scores)
    assert page.locator('th[aria-sort="ascending"]').inner_text() == "Score"
    assert page.evaluate("document.activeElement.textContent") == "Score"
    assert at.state["sort"] == "score"
    page.get_by_role("button", name="Method", exact=True).click()
    names = at.column(1)
    assert names == sorted(names, key=lambda name: name.replace("-", " ").replace("(", " "))  # as people sort


def test_unknown_values_sort_last_both_ways(visit: Open) -> None:
    at = visit()
    for sort in ("svamp-mini", "-svamp-mini"):
        at.to(f"view=tasks&measure=score&sort={sort}")
        assert at.column(6)[-1].startswith("–")


def test_sorting_stays_within_groups(visit: Open, made: boards.Made) -> None:
    at = visit()
    page = at.to("sort=-quality")
    groups = page.evaluate(
        "[...document.querySelectorAll('#main tbody')].map(b => "
        "[...b.querySelectorAll('tr:not(.group)')].map(r => r.dataset.key))"
    )
    found = {s.submission: s for s in made.board.standings}
    assert sum(map(len, groups)) == len(found)
    for group in groups:
        members = [found[name] for name in group]
        assert len({(s.track, s.category) for s in members}) == 1
        quality = [s.quality.mean for s in members if s.quality]
        assert quality == sorted(quality, reverse=True)


def test_filters(visit: Open, made: boards.Made) -> None:
    at = visit()
    page = at.to()
    page.get_by_label("Track").select_option("5x")
    expected = {s.submission for s in made.board.standings if s.track == "5x"}
    assert set(page.locator("#main tr[data-key]").evaluate_all("rows => rows.map(r => r.dataset.key)")) == expected
    assert at.state == {"track": "5x"}
    page.get_by_label("Track").select_option("")
    page.get_by_label("Category").select_option(str(boards.AFTER))
    assert set(page.locator("#main tr[data-key]").evaluate_all("rows => rows.map(r => r.dataset.key)")) == {
        "omp-after", "random-after",
    }  # fmt: skip
    page.get_by_label("Find").fill("random")
    assert page.locator("#main tr[data-key]").count() == 1
    assert page.evaluate("document.activeElement.name") == "q"
    page.get_by_label("Find").fill("no such method")
    assert "Nothing passes" in page.locator("#main").inner_text()
    assert "0 rows" in page.locator("#status").inner_text()
    page = at.to("view=tasks&family=translation")
    assert page.locator("#main thead th").all_inner_texts() == ["Method", "cldr-2to2", "Training", "Runs done"]


def test_mixed_is_marked_and_not_ranked(visit: Open) -> None:
    at = visit()
    page = at.to()
    page.get_by_label("All groups together").check()
    heads = page.locator("#main thead th").all_inner_texts()
    assert "Tier" not in heads
    assert {"Track", "Category"} <= set(heads)
    assert page.locator("#main tbody").count() == 1


def test_links_restore_everything(visit: Open) -> None:
    at = visit()
    page = at.to("view=results&task=digits&track=5x&q=lth&sort=-score&row=lth@digits@0.945")
    assert page.get_by_role("combobox", name="Task", exact=True).input_value() == "digits"
    assert page.get_by_label("Track").input_value() == "5x"
    assert page.get_by_label("Find").input_value() == "lth"
    assert page.locator('#main th[aria-sort="descending"]').inner_text() == "Score"
    assert page.locator('#main tr[aria-selected="true"]').get_attribute("data-key") == "lth@digits@0.945"
    assert page.locator("#panel h2").inner_text() == "lth on digits at 0.945"
    assert page.locator("#panel").is_visible()
    before = page.locator("#main").inner_text()
    page.reload()
    assert page.locator("#main").inner_text() == before


def test_back_and_forward(visit: Open) -> None:
    at = visit()
    page = at.to()
    page.get_by_role("link", name="Curves").click()
    assert at.state == {"view": "curves"}
    page.get_by_role("link", name="All results").click()
    page.go_back()
    assert page.locator("#main h2").inner_text() == "Sparsity and quality"
    page.go_back()
    assert page.locator("#main h2").inner_text() == "Overview"
    page.go_forward()
    assert page.locator("#main h2").inner_text() == "Sparsity and quality"


def test_provenance_is_one_click_away(visit: Open, made: boards.Made) -> None:
    at = visit()
    page = at.to("view=tasks&measure=score")
    row = next(r for r in made.board.entries if r.submission == "gmp" and r.task.name == "digits" and r.sparsity > 0.94)
    page.locator('#main tr[data-key="gmp"] td button').first.click()
    panel = page.locator("#panel")
    text = panel.inner_text()
    for run in row.runs:
        assert run in text
    first = next(r for r in made.records if r.run == row.runs[0])
    for said in ("Seed 0", "Seed 2", "recompute", "2026-01-01", "torch 2.9", first.digests.predictions, row.task.digest,
                 row.battery or "", "not here" if row.matching is None else "keep"):  # fmt: skip
        assert said in text
    assert panel.get_by_role("link", name="submissions/gmp").get_attribute("href") == (
        "../leaderboard/submissions/gmp/"
    )
    page.keyboard.press("Escape")
    page.goto(f"{at.file.as_uri()}#row=gmp")
    assert "about" in panel.inner_text() or "Tier" in panel.inner_text()
    page.goto(f"{at.file.as_uri()}#view=tasks&row=gmp@digits")
    assert panel.locator("h2").inner_text() == "Break-point of gmp on digits"


def test_a_click_anywhere_in_a_row_opens_it(visit: Open) -> None:
    at = visit()
    page = at.to("view=results&task=digits")
    page.locator('#main tr[data-key="lth@digits@0.945"] td').nth(4).click()
    assert page.locator("#panel h2").inner_text() == "lth on digits at 0.945"
    page.mouse.click(20, 20)  # the page beside the panel
    assert not page.locator("#panel").is_visible()
    assert "row" not in at.state


def test_keyboard(visit: Open) -> None:
    at = visit()
    page = at.to("view=tasks&measure=score")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert at.state == {"view": "tasks", "measure": "score"}
    page.locator('#main tr[data-key="gmp"] th button').focus()
    where = """(() => {
      const cell = document.activeElement.closest('td, th');
      return [cell.parentElement.dataset.key, cell.cellIndex];
    })()"""
    page.keyboard.press("ArrowRight")
    assert page.evaluate(where) == ["gmp", 1]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    below, column = page.evaluate(where)
    assert (below != "gmp", column) == (True, 2)
    page.keyboard.press("ArrowUp")
    assert page.evaluate(where) == ["gmp", 2]
    page.keyboard.press("Enter")
    assert page.locator("#panel").is_visible()
    assert page.evaluate("document.activeElement.closest('#panel') !== null")
    page.keyboard.press("Escape")
    assert not page.locator("#panel").is_visible()
    assert page.evaluate(where) == ["gmp", 2]
    assert "row" not in at.state
    page.locator("#main thead button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator('#main th[aria-sort="ascending"]').count() == 1


AUDIT = """() => {
  const bad = [];
  const named = (e) => (e.getAttribute('aria-label') || e.textContent).trim();
  for (const t of document.querySelectorAll('table')) {
    if (!t.caption?.textContent.trim()) bad.push('table without caption');
    for (const th of t.querySelectorAll('th')) if (!th.scope) bad.push('th without scope: ' + th.textContent);
    for (const tr of t.querySelectorAll('tbody tr')) if (!tr.querySelector('th')) bad.push('row without header');
  }
  for (const s of document.querySelectorAll('svg')) {
    const title = document.getElementById(s.getAttribute('aria-labelledby'));
    const said = s.getAttribute('aria-hidden') === 'true' || (s.getAttribute('role') === 'img' && title?.textContent);
    if (!said) bad.push('svg without words');
  }
  for (const e of document.querySelectorAll('select, input'))
    if (!e.labels.length && !e.getAttribute('aria-label')) bad.push('field without label: ' + e.name);
  for (const e of document.querySelectorAll('button, a[href]')) if (!named(e)) bad.push('nameless ' + e.outerHTML);
  for (const s of document.querySelectorAll('figure .drawing'))
    if (!s.parentElement.querySelector('details')) bad.push('chart without table');
  const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
  if (new Set(ids).size < ids.length) bad.push('an id stands twice');
  return bad;
}"""


@pytest.mark.parametrize("view", VIEWS)
def test_it_can_be_listened_to(visit: Open, view: str) -> None:
    page = visit().to(f"view={view}")
    assert page.evaluate(AUDIT) == []
    for summary in page.locator("#main summary").all()[:1]:
        summary.click()
        page.wait_for_selector("#main details[open] table")
        assert page.evaluate(AUDIT) == []


CONTRAST = """() => {
  const parse = (text) => {
    const n = text.match(/[-\\d.e]+/g).map(Number);
    return text.startsWith('color(') ? [n[0] * 255, n[1] * 255, n[2] * 255, n[3] ?? 1] : [n[0], n[1], n[2], n[3] ?? 1];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const ground = (e) => {
    const layers = [];
    for (; e; e = e.parentElement) layers.unshift(parse(getComputedStyle(e).backgroundColor));
    return layers.reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const light = (c) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = c.slice(0, 3).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !e.getClientRects().length) continue;
    if (e.closest('script, style, noscript, .sr, option, title, [disabled], .skip')) continue;
    const style = getComputedStyle(e);
    const below = ground(e);
    const ink = over(parse(e.closest('svg') ? style.fill : style.color), below);
    const [a, b] = [light(ink), light(below)].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), walker.currentNode.data.slice(0, 40), style.color]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(visit: Open, scheme: str) -> None:
    at = visit(scheme=scheme)
    for state in ("", "view=tasks&measure=score&published=1", "view=curves&task=digits", "view=cost", "view=layers",
                  "view=published", "row=gmp", "view=results&row=lth@digits@0.945"):  # fmt: skip
        found = at.to(state).evaluate(CONTRAST)
        assert len(found) > 50
        weak = [each for each in found if each[0] < 4.5]
        assert not weak, (state, weak[:5])
    dark = at.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, dark[4:-1].split(","))) < 200) == (scheme == "dark")


def test_the_theme_can_be_chosen_and_is_kept(visit: Open) -> None:
    at = visit(scheme="light")
    page = at.to()
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Theme").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark
    page.get_by_role("button", name="Theme").click()
    assert page.evaluate(ground) == light


def test_picked_methods_stand_in_the_address(visit: Open) -> None:
    at = visit()
    page = at.to("view=curves&task=digits&pick=gmp,rigl")
    assert page.locator("#main path.pick").count() == 2
    assert page.locator("#main path.band").count() == 2
    page.get_by_label("Set off another method").select_option("lth")
    assert at.state["pick"] == "gmp,rigl,lth"
    page.get_by_role("button", name="gmp: take out").click()
    assert at.state["pick"] == "rigl,lth"


def test_hostile_texts_stay_texts(visit: Open, made: boards.Made, tmp_path: Path) -> None:
    bad = boards.hostile(made, NASTY)
    paper = [
        published.Published(**{
            **{each.name: NASTY for each in dataclasses.fields(published.Published)},
            "method": "gmp", "sparsity": 0.9, "score": 1.0, "std": None,
        })
    ]  # fmt: skip
    at = visit(write_report(tmp_path, bad.board, bad.records, paper, "../x/")[0])
    for state in (*(f"view={view}" for view in VIEWS), "row=gmp", "row=published@0", f"row=gmp@{NASTY}@0.945",
                  "&".join(f"{key}={NASTY}" for key in KEYS)):  # fmt: skip
        page = at.to(state.replace("<", "%3C").replace(">", "%3E"))
        assert page.evaluate("window.owned") is None
        assert page.locator("img, b, iframe").count() == 0
        assert page.locator("script").count() == 3
        assert page.evaluate("[...document.links].every(a => /^(https|file):$/.test(a.protocol))")
    assert at.problems == []
    assert NASTY in at.to("view=results").locator("#main").inner_text()


def test_retracted_rows_are_visible_and_marked(visit: Open) -> None:
    page = visit().to()
    row = page.locator('#main tr[data-key="synflow"]')
    assert "retracted" in row.inner_text()
    assert row.locator("td").first.inner_text().startswith("–")
    assert "scored on the validation split" in page.locator("#main").inner_text()


def test_published_rows_stand_apart(visit: Open) -> None:
    page = visit().to("view=tasks&measure=score")
    measured = page.locator("#main tr[data-key]").count()
    page.get_by_label("Published beside").check()
    groups = page.locator("#main tbody")
    assert groups.count() == 2
    assert groups.first.locator("tr[data-key]").count() == measured
    assert groups.last.locator("tr.published").count() > 0
    page.get_by_role("button", name="mnli-mini", exact=True).click()
    assert groups.first.locator("tr.published").count() == 0


def test_ten_thousand_rows_within_a_second(visit: Open, tmp_path: Path) -> None:
    board = boards.made(copies=13, with_records=False).board
    assert len(board.entries) > 9_900
    at = visit(write_report(tmp_path, board)[0])
    times = []
    for _ in range(4):
        page = at.to("view=results")
        page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
        times.append(page.evaluate(
            "['first-contentful-paint', 'smcbench:drawn'].map(n => performance.getEntriesByName(n)[0].startTime)"
        ))  # fmt: skip
        if max(times[-1]) < 1000:
            break
    first, drawn = min(times, key=max)
    print(f"first contentful paint {first:.0f} ms, table drawn {drawn:.0f} ms")
    assert first < 1000
    assert drawn < 1000
    assert page.locator("#main tbody tr").count() == 100
    assert "of 9,990" in page.locator(".pager").inner_text()
    page.get_by_role("button", name="Next").click()
    assert at.state["page"] == "2"
    assert "101–200" in page.locator(".pager").inner_text()
    page.get_by_role("button", name="Score", exact=True).click()
    assert at.state.get("page") is None
    assert at.problems == []


def test_the_picture_in_the_readme(browser: Any, tmp_path: Path, regenerate: bool) -> None:
    """The curves of the committed board; ``--regenerate`` takes it anew."""
    root = Path(__file__).parents[1]
    picture = root / "leaderboard" / "curves.png"
    assert "](leaderboard/curves.png)" in (root / "README.md").read_text()
    if regenerate:
        subprocess.run([sys.executable, "-m", "smcbench", "report", "--out", tmp_path], cwd=root, check=True)
        page = browser.new_page(viewport={"width": 1480, "height": 900})
        page.goto(f"{(tmp_path / 'index.html').as_uri()}#view=curves")
        page.locator("#main svg").last.wait_for()
        beside = "#main details, #main select, #main h2, #main h2 + p"
        page.evaluate(f"document.querySelectorAll('{beside}').forEach((each) => each.remove())")
        page.locator("#main").screenshot(path=picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 500_000
