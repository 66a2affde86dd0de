"""The report without a browser: the page stands alone, its data cannot break out, and the other forms lose nothing."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import boards
import pandas as pd
import pytest

import smcbench
from smcbench.cli import main
from smcbench.errors import InvalidInput, UsageError
from smcbench.report import content
from smcbench.report.export import write_report
from smcbench.report.latex import escape, latex
from smcbench.report.page import SCRIPTS, embedded, page
from smcbench.results import published
from smcbench.results.frame import frame, load_leaderboard
from smcbench.results.leaderboard import Board, write_board

NASTY = "</script><script>alert(1)</script><!--<img src=x onerror=alert(1)> & \"'`${x}\\ \u2028|%_#~^{}$"


class Elements(HTMLParser):
    """What an HTML parser sees: elements with their attributes, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "script":
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def made() -> boards.Made:
    return boards.made()


@pytest.fixture(scope="module")
def report(made: boards.Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    write_report(out, made.board, made.records, published.load(), "../leaderboard/submissions/")
    return out


def test_the_page_stands_alone_and_is_small(report: Path) -> None:
    raw = (report / "index.html").read_bytes()
    assert len(raw) < 2_000_000
    text = raw.decode()
    for tag, attributes in Elements(text).found:
        assert tag not in {"iframe", "object", "embed", "base", "img", "audio", "video"}
        for name in ("src", "srcset", "poster", "data", "action"):
            assert name not in attributes, f"<{tag} {name}>"
        if tag == "link":
            assert attributes["href"] == "data:,"
    style = text[text.index("<style>") : text.index("</style>")]
    assert "@import" not in style
    assert "url(" not in style
    code = "".join(Path(content.__file__).with_name(name).read_text() for name in SCRIPTS)
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch(", "XMLHttp"):
        assert forbidden not in code


def test_the_embedded_board_is_the_board(made: boards.Made, report: Path) -> None:
    scripts = Elements((report / "index.html").read_text()).scripts
    assert len(scripts) == 3
    found, evidence = json.loads(scripts[0]), json.loads(scripts[1])
    entries = found["entries"]
    assert len(entries["mean"]) == len(made.board.entries)
    for i, row in enumerate(made.board.entries):
        assert found["submissions"][entries["submission"][i]]["name"] == row.submission
        table = found["tables"][entries["table"][i]]
        assert (table["task"], table["digest"]) == (row.task.name, row.task.digest)
        assert entries["mean"][i] == pytest.approx(row.mean, rel=1e-7)
        assert entries["runs"][i] == list(row.runs)
    assert len(evidence["runs"]["run"]) == len(made.records)
    first = made.records[0]
    assert evidence["runs"]["digests"][0] == [first.digests.weights, first.digests.mask, first.digests.predictions]
    entry = evidence["runs"]["entry"].index(next(i for i, r in enumerate(made.board.entries) if r.sparsity > 0))
    row = made.board.entries[evidence["runs"]["entry"][entry]]
    mine = [r for r in made.records if r.run in row.runs]
    layers = evidence["layers"][evidence["runs"]["entry"][entry]]
    assert len(layers) == len(mine[0].sparsity.layers)
    assert sorted(layers) == sorted(
        round(1e4 * sum(r.sparsity.layers[name] for r in mine) / len(mine)) for name in mine[0].sparsity.layers
    )


@pytest.mark.parametrize("text", [NASTY, "<!--<script>", "]]>", "\u2028\u2029"])
def test_embedded_text_stays_in_its_block(text: str) -> None:
    block = embedded({text: [text]})
    assert "<" not in block
    assert json.loads(block) == {text: [text]}
    assert not re.search("[\u2028\u2029]", block)


def test_hostile_texts_add_no_element(made: boards.Made) -> None:
    def elements(board: Board, records: Any) -> list[str]:
        text = page(content.board_of(board), content.evidence_of(board, records), content.standfirst(board))
        return [tag for tag, _ in Elements(text).found]

    bad = boards.hostile(made, NASTY)
    assert elements(bad.board, bad.records) == elements(made.board, made.records)


def test_same_board_same_bytes(made: boards.Made, report: Path, tmp_path: Path) -> None:
    for path in write_report(tmp_path, made.board, made.records, published.load(), "../leaderboard/submissions/"):
        assert path.read_bytes() == (report / path.name).read_bytes()


def test_csv_and_parquet_lose_nothing(made: boards.Made, report: Path) -> None:
    with (report / "board.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    table = pd.read_parquet(report / "board.parquet")
    assert len(lines) == len(table) == len(made.board.entries)
    for row, line, (_, record) in zip(made.board.entries, lines, table.iterrows(), strict=True):
        for name, value in (("mean", row.mean), ("std", row.std), ("low", row.low), ("sparsity", row.sparsity),
                            ("train", row.cost.train), ("difference", row.difference)):  # fmt: skip
            assert (float(line[name]) if line[name] else None) == value
            assert record[name] == value if value is not None else pd.isna(record[name])
        assert line["matching"] == str(row.matching)
        assert bool(record["matching"]) is row.matching
        assert (line["submission"], line["task"]) == (row.submission, row.task.name)
        assert record["runs"].split() == list(row.runs)


def test_nasty_texts_come_back_from_csv_and_parquet(made: boards.Made) -> None:
    bad = frame(boards.hostile(made, NASTY).board)
    assert NASTY in set(bad["sparsifier"])
    back = pd.read_csv(io.StringIO(bad.to_csv(index=False)), keep_default_na=False)
    assert list(back["sparsifier"]) == list(bad["sparsifier"])
    file = io.BytesIO()
    bad.to_parquet(file)
    assert list(pd.read_parquet(file)["sparsifier"]) == list(bad["sparsifier"])


def test_load_leaderboard(made: boards.Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "leaderboard" / "leaderboard.json"
    write_board(path, made.board)
    for given in (path, str(path.parent)):
        pd.testing.assert_frame_equal(smcbench.load_leaderboard(given), frame(made.board))
    monkeypatch.chdir(tmp_path)
    table = load_leaderboard()
    assert set(table["task"]) == {t[0] for t in boards.TASKS}
    assert table["mean"].dtype == "float64"
    mine = table[(table.submission == "gmp") & (table.task == "digits")]
    assert list(mine.sparsity) == list(boards.LADDER)
    standings = load_leaderboard(what="standings").set_index("submission")
    assert standings.loc["synflow", "retracted"]
    assert pd.isna(standings.loc["synflow", "tier"])
    assert standings["tier"].max() >= 2
    quality = next(s.quality for s in made.board.standings if s.submission == "gmp")
    assert quality is not None
    assert standings.loc["gmp", "quality"] == quality.mean
    assert standings.loc["gmp", "quality_low"] == quality.low
    assert len(load_leaderboard(what="break_points")) == len(made.board.break_points)
    with pytest.raises(UsageError, match="entries, standings or break_points"):
        load_leaderboard(what="rows")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"nowhere\.json: no such file"):
        load_leaderboard(tmp_path / "nowhere.json")


def test_markdown_holds_every_method(made: boards.Made, report: Path) -> None:
    text = (report / "board.md").read_text()
    for entrant in made.board.submissions:
        assert f"| {entrant.sparsifier}" in text


def test_latex_bolds_what_is_significant(made: boards.Made) -> None:
    text = latex(made.board)
    blocks = text.split(r"\begin{table}")[1:]
    assert len(blocks) == 1 + len(boards.TASKS)
    groups: dict[tuple[str, str], set[int]] = {}
    for s in made.board.standings:
        groups.setdefault((s.track, str(s.category)), set()).update({s.tier} if s.tier else set())
    bold = set(re.findall(r"& \\textbf\{([^}]*)\}(?: \(retracted\))? & \\textbf", blocks[0]))
    first = {s.sparsifier for s in made.board.standings
             if s.tier == 1 and len(groups[s.track, str(s.category)]) > 1}  # fmt: skip
    assert bold == first
    assert 0 < len(bold) < len(made.board.standings)
    for block, task in zip(blocks[1:], boards.TASKS, strict=True):
        rows = [r for r in made.board.entries if r.task.name == task[0] and r.sparsity > 0]
        matching = [r for r in rows if r.matching and r.submission != "synflow"]
        assert block.count(r"\textbf{") == len(matching)
        assert len(re.findall(r"\\\\", block)) == 1 + len({r.submission for r in rows})


def test_latex_is_well_formed_whatever_the_texts(made: boards.Made) -> None:
    text = latex(boards.hostile(made, NASTY).board)
    plain = re.sub(r"\\textbackslash\{\}|\\[&%$#_{}]", "", text)
    assert plain.count("{") == plain.count("}")
    for block in plain.split(r"\begin{table}")[1:]:
        columns = re.search(r"\\begin\{tabular\}\{@\{\}([lr]+)@\{\}\}", block)
        assert columns
        for line in block.split("\n"):
            if line.endswith(r"\\") and "multicolumn" not in line:
                assert line.count("&") == len(columns[1]) - 1, line
    assert not re.search(r"(?<!\\)[#~^]", plain.partition("\n")[2].partition("\n")[2])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & c%", r"a\_b \& c\%"),
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("x\u202ey", "xy"),
        ("~^", r"\textasciitilde{}\textasciicircum{}"),
    ],
)
def test_escape(text: str, expected: str) -> None:
    assert escape(text) == expected


def test_layers_are_named_shortly_and_in_order(made: boards.Made) -> None:
    board = replace(made.board, entries=made.board.entries[6:7])
    runs = board.entries[0].runs
    records = [
        replace(r, sparsity=replace(r.sparsity, layers=dict.fromkeys(
            ("m.head.weight", "m.layer.10.fc.weight", "m.layer.2.fc.weight", "m.embed.weight"), 0.5)))
        for r in made.records if r.run in runs
    ]  # fmt: skip
    found = content.evidence_of(board, records)
    assert found["names"]["0"] == ["embed", "layer.2.fc", "layer.10.fc", "head"]
    assert found["layers"] == [[5000] * 4]


def test_a_board_without_standings_or_records_has_a_page(made: boards.Made, tmp_path: Path) -> None:
    bare = replace(made.board, standings=(), groups=(), retractions=(), break_points=(), head=None)
    empty = dataclasses.replace(bare, entries=(), submissions=(), batteries=())
    for board in (bare, empty):
        assert all(path.stat().st_size for path in write_report(tmp_path, board))


def test_the_command(made: boards.Made, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    board, out = tmp_path / "leaderboard", tmp_path / "out"
    assert main(["report", "--board", str(board), "--out", str(out)]) == 5
    assert "board build" in capfd.readouterr().err
    write_board(board / "leaderboard.json", made.board)
    assert main(["report", "--board", str(board), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "board.csv", "board.md", "board.parquet", "board.tex", "index.html",
    ]  # fmt: skip
    assert str(out / "index.html") in capfd.readouterr().out
