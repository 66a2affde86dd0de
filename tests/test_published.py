"""Published numbers: what was transcribed, against the papers, typed a second time; and how strictly a file is read."""

from __future__ import annotations

import re
from collections import Counter
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest

from smcbench.errors import InvalidInput
from smcbench.results import published, table
from smcbench.results.battery import plain_name
from smcbench.results.published import Published, beside, blocks, for_method, for_task, load, read

SOUP, ACDC, SMC, SLIDES = "Instant Soup", "AC/DC++", "SMC-Bench (", "SMC-Bench, slides"


def of(source: str, name: str, **fields: object) -> list[Published]:
    return [
        n
        for n in load()
        if n.source.startswith(source) and n.table == name and all(getattr(n, k) == v for k, v in fields.items())
    ]


def one(source: str, name: str, **fields: object) -> Published:
    (found,) = of(source, name, **fields)
    return found


def test_every_table_is_whole() -> None:
    counts = Counter((n.source.partition(" (")[0], n.table) for n in load())
    panel = 1 + 10 * 10  # dense, and ten methods at ten sparsities
    assert counts == {
        ("Instant Soup", "Table 2"): 6 + 10 * 18,
        ("Instant Soup", "Table 3"): 8 * 9,
        # 45 rows: three accuracies each, parameters in 20, FLOPs in 32
        ("AC/DC++", "Table 1"): 45 * 3 + 20 + 32,
        ("AC/DC++", "Table 2"): 8 * 4 - 1,
        ("AC/DC++", "Table 3"): 4,
        ("AC/DC++", "Table 4"): 5,
        ("AC/DC++", "Table 5"): 5 * 8,
        ("AC/DC++", "Table 6"): 3 * 12 + 6,
        ("SMC-Bench", "Figure 2, GTS on MAWPS"): panel,
        ("SMC-Bench", "Figure 2, GTS on ASDiv-A"): panel,
        ("SMC-Bench", "Figure 2, GTS on SVAMP"): panel,
        ("SMC-Bench", "Figure 2, Graph2Tree on MAWPS"): panel,
        ("SMC-Bench", "Figure 2, Graph2Tree on ASDiv-A"): panel + 3 * 10,
        ("SMC-Bench", "Figure 2, Graph2Tree on SVAMP"): panel,
        ("SMC-Bench, slides", "slide on the details of commonsense reasoning"): 4 + 3,
    }


@pytest.mark.parametrize(
    ("source", "name", "row", "dataset", "metric", "sparsity", "score", "std"),
    [  # arXiv:2306.10460, Tables 2 and 3
        (SOUP, "Table 2", "Full CLIP ViT-B32", "Cars", "accuracy", 0.0, 76.43, 0.5),
        (SOUP, "Table 2", "Random", "CIFAR100", "accuracy", 0.8, 43.24, None),
        (SOUP, "Table 2", "One-shot [Mag]", "SVHN", "accuracy", 0.8, 91.96, None),
        (SOUP, "Table 2", "GraSP (Wang et al., 2020)", "GTSRB", "accuracy", 0.7, 95.91, None),
        (SOUP, "Table 2", "ISP [Ours]", "CIFAR100", "accuracy", 0.8, 71.09, 0.17),
        (SOUP, "Table 3", "ISP", "MNLI", "accuracy", 0.7, 82.71, 0.6),
        (SOUP, "Table 3", "Full BERT BASE", "RTS", "accuracy", 0.0, 66.2, 3.6),
        (SOUP, "Table 3", "Lottery Ticket", "CoLA", "matthews", 0.5, 53.8, None),
        # arXiv:2308.02060, Tables 1 to 6
        (ACDC, "Table 1", "AC/DC++ FLD 10x (this work)", "ImageNet-1k", "accuracy", 0.95, 77.7, None),
        (ACDC, "Table 1", "RIGL ERK 50x (Evci et al., 2020)", "ImageNet-1k", "accuracy", 0.99, 66.94, None),
        (ACDC, "Table 1", "AC/DC++ FLD 5x (this work)", "ImageNet-1k", "parameters left", 0.9, 4.45, None),
        (ACDC, "Table 1", "M-FAC (Frantar et al., 2021)", "ImageNet-1k", "accuracy", 0.95, 72.6, None),
        (ACDC, "Table 2", "1000 epochs", "ImageNet-1k", "zero output channels, average", 0.98, 27.93, None),
        (ACDC, "Table 3", "weight decay 0.0001", "ImageNet-1k", "accuracy", 0.95, 74.90, None),
        (ACDC, "Table 4", "decompression sparsity 80", "ImageNet-1k", "accuracy", 0.95, 74.38, None),
        (ACDC, "Table 5", "Dense-transfer recipe", "RTE", "accuracy", 0.9, 52.4, None),
        (ACDC, "Table 5", "Best recipe length", "CoLA", "recipe length", 0.9, 7.0, None),
        (ACDC, "Table 6", "This work", "MRPC", "f1", 0.9, 89.7, None),
        (ACDC, "Table 6", "Prune OFA (Zafrir et al., 2021)", "MNLI", "accuracy/mm", 0.9, 82.4, None),
        # arXiv:2303.02141, Figure 2, from gts/plots/overall_gts.py
        (SMC, "Figure 2, GTS on MAWPS", "LTH (After)", "MAWPS", "accuracy", 0.488, 87.71, None),
        (SMC, "Figure 2, GTS on SVAMP", "GMP (During)", "SVAMP", "accuracy", 0.893, 30.1, None),
        (SMC, "Figure 2, Graph2Tree on ASDiv-A", "OMP (Before)", "ASDiv-A", "accuracy", 0.488, 21.03, None),
        (SMC, "Figure 2, Graph2Tree on SVAMP", "OMP (After)", "SVAMP", "accuracy", 0.2, 44.4, None),
        (SLIDES, "slide on the details of commonsense reasoning", "Test accuracy", "CSQA", "accuracy", 0.0, 77.3, None),
    ],
)
def test_spot_values(
    source: str, name: str, row: str, dataset: str, metric: str, sparsity: float, score: float, std: float | None
) -> None:
    found = one(source, name, row=row, dataset=dataset, metric=metric, sparsity=sparsity)
    assert (found.score, found.std) == (score, std)


def test_names_are_ours() -> None:
    sparsifiers, tasks = (
        {e.name: e for e in entry_points(group=f"smcbench.{kind}")} for kind in ("sparsifiers", "tasks")
    )
    for n in load():
        assert n.method is None or plain_name(n.method) in sparsifiers, n
        assert n.task is None or plain_name(n.task) in tasks, n
    for spelt in {n.method for n in load() if n.method and "@" in n.method}:
        kind, _, preset = spelt.partition("@")
        assert preset in sparsifiers[kind].load().presets, spelt


def test_scores_are_possible() -> None:
    for n in load():
        if n.unit == "%" or n.unit == "x 100":
            assert 0 <= n.score <= 100, n
        assert n.std is None or 0 <= n.std < 4, n
        assert (n.sparsity == 0) == (n.method == "dense"), n


def test_change_of_accuracy() -> None:
    """Table 1 says 100 (S - D) / D; what follows it, gives S - D or does neither must be marked accordingly."""
    changes = of(ACDC, "Table 1", metric="change of accuracy")
    assert len(changes) == 45
    kinds: Counter[str] = Counter()
    for change in changes:
        where = {"row": change.row, "sparsity": change.sparsity}
        dense = one(ACDC, "Table 1", metric="accuracy of its dense network", **where).score
        sparse = one(ACDC, "Table 1", metric="accuracy", **where).score
        if abs(sparse - dense - change.score) < 0.0051:
            kind, note = "difference", None
        elif abs(100 * (sparse - dense) / dense - change.score) < 0.0101:
            kind, note = "relative", "100 (S - D) / D, as the head of the column says, where most rows give S - D"
        else:
            kind, note = "neither", "neither S - D nor 100 (S - D) / D of the same row"
        kinds[kind] += 1
        if change.row.startswith("STR") and change.sparsity == 0.98:
            note = "the same as in the row of 95.03 %, at 98 %"
        assert change.note == note, change
    assert kinds == {"difference": 27, "relative": 10, "neither": 8}


def test_what_should_fall_with_sparsity_is_marked_where_it_rises() -> None:
    for row in {n.row for n in of(SOUP, "Table 2")}:
        for dataset in {n.dataset for n in of(SOUP, "Table 2")}:
            ladder = sorted(of(SOUP, "Table 2", row=row, dataset=dataset), key=lambda n: n.sparsity or 0)
            for less, more in pairwise(ladder):
                assert (more.note is not None) == (more.score > less.score), more


def test_bold_without_being_best() -> None:
    best = max(of(SOUP, "Table 3", dataset="RTS", sparsity=0.6), key=lambda n: n.score)
    assert best.row == "EarlyBird"
    assert "printed bold" in str(one(SOUP, "Table 3", dataset="RTS", row="ISP").note)


def test_tables_5_and_6_agree_but_where_marked() -> None:
    for sparse, dense in (("oBERT (Kurtic et al., 2022)", False), ("Dense BERT-base", True)):
        other = "Dense BERT-base (baseline)" if dense else "Full sweep of rescaled recipes"
        for n in of(ACDC, "Table 5", row=other):
            there = one(ACDC, "Table 6", row=sparse, dataset=n.dataset, metric=n.metric)
            assert (n.score == there.score) == (n.note is None) == (there.note is None), n


def test_claims_of_the_text_on_table_6() -> None:
    """Eight of twelve against oBERT, as the text says; against Prune OFA not all, as the note says."""
    scores = {(n.row, n.dataset, n.metric): n.score for n in of(ACDC, "Table 6")}

    def won(rival: str) -> list[int]:
        mine = [(key[1:], value) for key, value in scores.items() if key[0] == "This work"]
        return [int(v > scores[rival, *k]) - int(v < scores[rival, *k]) for k, v in mine if (rival, *k) in scores]

    assert Counter(won("oBERT (Kurtic et al., 2022)")) == {1: 8, -1: 4}
    assert Counter(won("Prune OFA (Zafrir et al., 2021)")) == {1: 4, 0: 2}


def test_averages_of_table_2_are_not_those_of_its_columns() -> None:
    """They are over all layers of the network, as the text says, so that a mean of three columns must not fit."""
    for row, sparsity in {(n.row, n.sparsity) for n in of(ACDC, "Table 2")}:
        mine = of(ACDC, "Table 2", row=row, sparsity=sparsity)
        (average,) = [n.score for n in mine if n.metric.endswith("average")]
        assert abs(fmean(n.score for n in mine if not n.metric.endswith("average")) - average) > 0.01


def test_drawn_minus_five() -> None:
    name = "Figure 2, Graph2Tree on ASDiv-A"
    for row in ("SNIP (Before)", "SNIP+RIGL (Before)"):
        for n in of(SMC, name, row=row):
            logged = one(SMC, name, row=f"{row}, as logged", sparsity=n.sparsity)
            assert n.score == pytest.approx(logged.score - 5)
            assert "minus 5" in str(n.note)


def test_a_panel_that_repeats_another() -> None:
    for row in ("OMP (Before)", "OMP+RIGL (Before)"):
        first, second = (of(SMC, f"Figure 2, {model} on SVAMP", row=row) for model in ("GTS", "Graph2Tree"))
        assert [n.score for n in first] == [n.score for n in second]
        assert all(n.method is None and "GTS" in str(n.note) for n in second)


def test_swapped_levels_of_race_are_marked() -> None:
    high, middle = (one(SLIDES, "slide on the details of commonsense reasoning", dataset=f"RACE-{x}") for x in "HM")
    assert high.score > middle.score  # as printed, though middle school is the easier one
    assert "swapped" in str(high.note)
    assert "swapped" in str(middle.note)


def test_for_task_and_method() -> None:
    assert {n.dataset for n in for_task("mnli")} == {"MNLI"}
    assert for_task("mnli-small") == for_task("mnli-mini") == for_task("mnli@sparse90") == for_task("mnli")
    assert for_task("digits") == for_task("") == ()
    assert {n.table for n in for_method("rigl")} == {n.table for n in for_method("rigl@smc(interval=100)")}
    assert {n.row for n in for_method("instant-soup")} == {"ISP", "ISP [Ours]"}
    assert for_method("synflow") == ()
    assert all(n.task is None for n in load() if n.row.startswith("Prune OFA"))


def test_beside() -> None:
    found = beside(["lth", "instant-soup"], ["mnli"])
    assert [(n.row, n.score) for n in found] == [("Full BERT BASE", 82.4), ("Lottery Ticket", 82.6), ("ISP", 82.71)]
    assert beside() == load()
    assert beside(["synflow"]) == ()
    assert beside(["lth"], ["digits"]) == ()


def test_blocks() -> None:
    made, notes = blocks(beside(["lth", "instant-soup"], ["mnli"]))
    shown = table.markdown(made, notes)
    assert "| row | sparsifier | 0 | 0.7 |" in shown
    assert "| Lottery Ticket | lth | - | 82.6 |" in shown
    assert "| ISP | instant-soup | - | 82.71 +- 0.6 |" in shown
    assert "never ranked" in notes[-1]
    assert blocks([]) == ([], [])

    made, notes = blocks(of(ACDC, "Table 1"))
    assert len(made) == 1
    assert len(made[0].rows) == 45
    assert made[0].header[2:5] == ("sparsity", "accuracy of its dense network in %", "accuracy in %")
    assert sum(note.startswith("[") for note in notes) == len({n.note for n in of(ACDC, "Table 1") if n.note})


def test_every_block_shows_every_number() -> None:
    made, notes = blocks(load())
    cells = [cell for block in made for row in block.rows for cell in row[2:] if cell != published.EMPTY]
    sparsities = sum(len(block.rows) for block in made if block.header[2] == "sparsity")
    assert len(cells) - sparsities + sum(r[2] == "-" for b in made if b.header[2] == "sparsity" for r in b.rows) == len(
        load()
    )
    referred = {int(i) for cell in cells for i in re.findall(r"\[(\d+)\]", cell)}
    assert referred == set(range(1, len([n for n in notes if re.match(r"\[\d+\]", n)]) + 1))


GOOD = """
source = "A paper"
paper = "arXiv:0000.00000"
table = "Table 1"
model = "a model"

[[columns]]
dataset = "D"
task = "digits"
metric = "accuracy"
unit = "%"
sparsities = [0.5, 0.9]

[[rows]]
row = "dense"
method = "dense"
sparsity = 0.0
values = "90.0+-0.5"

[[rows]]
row = "LTH"
method = "lth"
values = "80.5^odd -"

[marks]
odd = "so printed"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "one.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read_as_written(tmp_path: Path) -> None:
    dense, sparse = read(written(tmp_path, GOOD))
    assert (dense.sparsity, dense.score, dense.std, dense.note) == (0.0, 90.0, 0.5, None)
    assert (sparse.sparsity, sparse.score, sparse.std, sparse.note) == (0.5, 80.5, None, "so printed")
    assert (sparse.task, sparse.method, sparse.about) == ("digits", "lth", None)
    assert load(tmp_path) == (dense, sparse)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('values = "80.5^odd -"', 'values = "80.5^odd"', "row 'LTH': has 1 values, its columns make 2"),
        ('values = "80.5^odd -"', 'values = "80.5^odd - 70"', "row 'LTH': has 3 values, its columns make 2"),
        ('values = "80.5^odd -"', 'values = "80,5^odd -"', "row 'LTH': '80,5^odd' is no number"),
        ('values = "80.5^odd -"', 'values = "nan 80.5^odd"', "row 'LTH': 'nan' is no number"),
        ('values = "80.5^odd -"', 'values = "80.5^od -"', "row 'LTH': the mark of '80.5^od' is not explained"),
        ('values = "80.5^odd -"', 'values = "80.5 -"', "no number has the mark 'odd'"),
        ('row = "LTH"', 'row = "LTH"\nsparsity = 0.5', "has 2 values, its columns make 1"),
        ('row = "LTH"\nmethod', 'row = "LTH"\nmethods', "rows: 1: unknown key 'methods'"),
        ("sparsities = [0.5, 0.9]", "sparsities = [0.5, 0.5]", ""),
        ("sparsities = [0.5, 0.9]", "sparsities = [50, 90]", "row 'LTH': the sparsity is 50.0, it must lie in [0, 1)"),
        ('unit = "%"', "", "columns: 0: key 'unit' is missing"),
        ('row = "LTH"', "row = 3", "rows: 1: row: must be a text"),
        ('[marks]\nodd = "so printed"', "marks = 3", "not valid TOML|must be an object|unknown key"),
        ('source = "A paper"', "source = ", "not valid TOML"),
    ],
)
def test_strict(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new)
    if not message:  # twice the same place, once there is a number in both
        text, message = text.replace("80.5^odd -", "80.5^odd 80.5"), "row 'LTH': has D, accuracy at sparsity 0.5 twice"
    pattern = message if "|" in message else re.escape(message)
    with pytest.raises(InvalidInput, match=pattern) as caught:
        read(written(tmp_path, text))
    assert str(tmp_path / "one.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        read(tmp_path / "absent.toml")
