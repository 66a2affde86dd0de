"""Word problems: what is read, how folds are pooled, what the networks consist of, and the generated ones."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corpora import needs_data

from smcbench import cell, plugins
from smcbench.checkpoint import evaluate as score_checkpoint
from smcbench.errors import InvalidInput, UsageError
from smcbench.parts import Pooled
from smcbench.results.record import RunRecord
from smcbench.results.store import Store
from smcbench.session import build_model
from smcbench.sources import DATA
from smcbench.task import SPLITS
from smcbench_tasks import _arithmetic_mini as mini
from smcbench_tasks import arithmetic
from smcbench_tasks._expressions import place_of, value
from smcbench_tasks._problems import Problem, constants, graph
from smcbench_tasks.arithmetic import SOURCES, Arithmetic

HEADER = ["Question", "Numbers", "Equation", "Answer", "group_nums"]
ROW = ["tom has number0 eggs and number1 hens . how many ?", "3 4", "+ number0 number1", "7", "[1, 2, 3]"]


def table(path: Path, rows: list[list[str]], header: list[str] = HEADER) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


@pytest.fixture
def svamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SVAMP's two files, made up."""
    folder = tmp_path / "arithmetic" / "mawps-asdiv-a_svamp"
    names = ["ann", "bob", "cy", "dee", "eve", "flo"]
    rows = [[f"{name} has number0 eggs and number1 {thing} . how many ?", "3 4", f"{op} number0 number1", "7", "[1, 2]"]
            for name in names for thing in ("hens", "cats", "dogs", "pigs") for op in ("+",)]  # fmt: skip
    rare = [[f"{name} has number0 dozens . how many ?", "3", "* number0 12.0", "36", "[]"] for name in names]
    once = [["ann has number0 scores . how many ?", "3", "* number0 20.0", "60", "[]"]]
    table(folder / "train.csv", rows + rare + once)
    table(folder / "dev.csv", [ROW, ["gil has number0 scores . how many ?", "2", "* number0 20.0", "40", "[]"]])
    monkeypatch.setenv(DATA, str(tmp_path))
    return folder


def small(**changes: Any) -> Arithmetic:
    task = arithmetic.svamp_gts_small
    assert isinstance(task, Arithmetic)
    return dataclasses.replace(task, **changes)


def test_constants_are_those_of_five_training_equations(svamp: Path) -> None:
    task = small()
    splits = SOURCES["svamp"].read(None)
    assert constants(splits["train"]) == ("12.0",)
    left_out = [p for p in splits["train"] if "20.0" in p.equation]
    assert len(task.data("train")) == len(splits["train"]) - len(left_out)
    assert [len(e.targets) for e in task.data("test")] == [3, 0]  # asked all the same
    first = task.data("test")[0]
    assert first.targets.tolist() == [0, 5, 6]  # + - * / 12.0 number0 number1
    assert first.places.tolist() == [3, 6]  # after the token that begins the question
    assert task._ready().written([2, 5, 4]) == "* number0 12.0"


def test_words_that_training_lacks_are_one_token(svamp: Path) -> None:
    task = small()
    tokens = dict(zip(ROW[0].split(), task.data("test")[0].tokens[1:], strict=False))
    assert tokens["tom"] == 4
    assert tokens["number0"] == tokens["number1"] != 4
    assert max(int(e.tokens.max()) for split in SPLITS for e in task.data(split)) < task._ready().vocabulary


def test_a_batch(svamp: Path) -> None:
    task = small()
    batch = task.collate(list(task.data("test")))
    length = len(ROW[0].split()) + 2
    assert batch["tokens"].shape == (2, length)
    assert batch["real"].sum(1).tolist() == [length, 10]
    assert batch["places"].tolist() == [[3, 6], [3, -1]]
    assert batch["targets"].tolist() == [[0, 5, 6], [-1, -1, -1]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["tom has number0 eggs", "x", "number0", "3", "[]"], "'Numbers' is 'x', it must be numbers between spaces"),
        (["tom has number1 eggs", "3", "number0", "3", "[]"], "must hold number0 to number0, each once"),
        (["tom has number0 eggs", "3", "+ number0", "3", "[]"], "'Equation' is '+ number0', which has no value"),
        (["tom has number0 eggs", "0", "/ 1 number0", "3", "[]"], "'Equation' is '/ 1 number0', which has no value"),
        (["tom has number0 eggs", "3", "number0", "3", "1 2"], "'group_nums' must be a list of places"),
        (["tom has number0 eggs", "3", "number0", "3"], "has 4 fields, it must have 5"),
    ],
)
def test_a_bad_row_is_named_by_its_line(svamp: Path, row: list[str], message: str) -> None:
    table(svamp / "dev.csv", [ROW, row])
    with pytest.raises(InvalidInput) as error:
        small().data("test")
    assert "dev.csv:3: " in str(error.value)
    assert message in str(error.value)


def test_a_file_without_a_column(svamp: Path) -> None:
    table(svamp / "dev.csv", [["a", "b"]], ["Question", "Answer"])
    with pytest.raises(InvalidInput, match=r"dev\.csv:1: has no column 'Numbers', only Question, Answer"):
        small().data("test")
    (svamp / "dev.csv").write_bytes(b"")
    with pytest.raises(InvalidInput, match=r"has no column 'Question'"):
        small().data("test")


def test_without_data_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA, str(tmp_path))
    with pytest.raises(InvalidInput, match=r"data set arithmetic/mawps-asdiv-a_svamp is missing"):
        small().data("train")


def test_the_graphs_by_hand() -> None:
    """Quantities 5 and 8 at places 2 and 6; the groups are places 1 to 3 and 6 to 9."""
    words = ("tom", "has", "number0", "red", "and", "ann", "number1", "big", "red", "hens")
    greater, attribute = graph(Problem("", words, (5.0, 8.0), ("number0",), (1, 2, 3, 6, 7, 8, 9, 99)))
    assert [tuple(pair) for pair in np.argwhere(greater & ~np.eye(10, dtype=bool))] == [(6, 2)]
    expected = {(1, 2), (2, 3), (3, 6), (6, 7), (6, 8), (6, 9), (3, 8)}  # less than four words away; red and red
    expected |= {(2, 6)}  # quantities read alike
    expected |= {(b, a) for a, b in expected} | {(i, i) for i in range(10)}
    assert {(int(a), int(b)) for a, b in np.argwhere(attribute)} == expected


def test_links_between_words_are_links_between_their_tokens() -> None:
    task = arithmetic.svamp_graph2tree_small
    example = task.tiny().data("test")[0]
    split = example._replace(
        tokens=np.arange(4),
        word=np.asarray([-1, 0, 0, 1]),
        graph=np.asarray([[[1, 0], [0, 1]], [[1, 1], [1, 1]]], bool),
    )
    own, all_ = arithmetic._links(split, 5).int().tolist()
    assert own == [[1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]]
    assert all_ == [[1, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]


def test_quantities_stand_where_they_stand() -> None:
    """What represents a quantity is the encoded word at its place, not at another (a defect of the original)."""
    tiny = arithmetic.svamp_mini.tiny()
    network, batch = build_model(tiny, 0).eval(), tiny.collate(list(tiny.data("test")[:4]))
    problems = network.problems(batch)  # type: ignore[operator]
    for row, example in enumerate(tiny.data("test")[:4]):
        at = [1 + place for place, word in enumerate(example.problem.words) if place_of(word) is not None]
        assert torch.equal(problems.numbers[row, : len(at)], problems.words[row, at])


# -- the networks


def lstm(inputs: int, width: int) -> int:
    return sum(2 * (4 * width * (i + width) + 8 * width) for i in (inputs, 2 * width))


def decoder(width: int, embedding: int, constants: int) -> int:
    def linear(i: int, o: int) -> int:
        return i * o + o

    predict = (
        2 * linear(width, width) + 2 * linear(2 * width, width)  # nodes
        + linear(2 * width, width) + linear(width, 1)  # attention
        + linear(2 * width, 4) + linear(3 * width, width) + width  # scores
        + constants * width
    )  # fmt: skip
    inputs = 2 * width + embedding
    return predict + 4 * embedding + 4 * linear(inputs, width) + 2 * linear(inputs, width)


def graphs(width: int) -> int:
    heads = 4 * (width * width + width + width * width // 4 + width // 4)
    return heads + 2 * width + 2 * (width * width + width)


ROBERTA = 50265 * 768 + 514 * 768 + 768 + 2 * 768 + 12 * (12 * 768 * 768 + 13 * 768)
"""RoBERTa-base without its pooler: 124,055,040."""


@needs_data
@pytest.mark.parametrize(
    ("name", "count"),
    [("svamp-gts", ROBERTA + lstm(768, 512) + decoder(512, 768, 8)),
     ("svamp-graph2tree", ROBERTA + lstm(768, 384) + decoder(384, 768, 8) + graphs(384))],
)  # fmt: skip
def test_the_full_networks_have_their_published_sizes(name: str, count: int) -> None:
    """140 and 143 million (SMC-Bench, Table 2), which count RoBERTa's pooler too; in closed form, to the last one."""
    task = plugins.load_task(name)
    with torch.device("meta"):
        model = task.architecture()
    assert sum(p.numel() for p in model.parameters()) == count
    assert abs(count / 1e6 - {"svamp-gts": 140, "svamp-graph2tree": 143}[name]) < 6
    prunable = dict(model.named_parameters())
    names = task.prunable(model)
    assert {n.split(".")[0] for n in names} == {"embedding", "encoder", "predict", "generate", "merge"}
    assert all(prunable[n].ndim == 2 for n in names)
    groups = task.parameter_groups(model)
    assert [group.get("lr") for group in groups] == [{"svamp-gts": 8e-6}.get(name, 1e-5), None, None, None, None]


def test_scope_encoder_leaves_the_embeddings_dense() -> None:
    task = arithmetic.svamp_mini
    model = build_model(task, 0)
    left_out = set(task.prunable(model)) - set(task.variant("encoder").prunable(model))
    assert left_out == {"embedding.weight", "generate.embeddings.weight"}


@needs_data
@pytest.mark.parametrize(("name", "folds", "tests"), [("mawps", 5, 1920), ("asdiv-a", 5, 1217), ("svamp", 0, 1000)])
def test_the_published_problems(name: str, folds: int, tests: int) -> None:
    task = plugins.load_task(f"{name}-gts-small")
    assert len(task.parts) == max(1, folds)
    assert len({e.id for e in task.data("test")}) == tests
    for part in task.parts:
        train, validation = ({e.problem.words for e in part.data(split)} for split in ("train", "validation"))
        assert not train & validation


# -- pooling


def pooled(count: int = 2) -> Pooled:
    """Tiny trainings as the parts of a whole: other problems and names each."""
    tiny = arithmetic.svamp_mini.tiny()
    parts = []
    for number in range(count):
        key = f"fold-tiny-{number}"
        splits = {
            split: [p._replace(id=f"{number}/{p.id}") for p in problems[number * 7 :]]
            for split, problems in mini.problems(96, 24, 48).items()
        }
        SOURCES[key] = arithmetic.Source(key, lambda _, splits=splits: splits, "for tests")  # type: ignore[misc]
        parts.append(dataclasses.replace(tiny, name=f"pooled.{number}", source=key))
    return Pooled("pooled", tuple(parts))


def test_a_run_of_a_task_in_parts(tmp_path: Path) -> None:
    task = pooled()
    alone = [cell.run(part, "omp-after", 0.75, out=tmp_path / "alone") for part in task.parts]
    whole = cell.run(task, "omp-after", 0.75, out=tmp_path / "runs")
    predictions = Store(tmp_path / "runs").read_predictions(whole.spec, whole.provenance.engine)
    sizes = [len(part.data("test")) for part in task.parts]
    assert len(predictions) == sum(sizes)
    right = sum(size * record.scores["accuracy"] / 100 for size, record in zip(sizes, alone, strict=True))
    assert whole.scores["accuracy"] == pytest.approx(100 * right / sum(sizes))
    found = whole.sparsity
    assert (found.parts, found.kept, found.total) == (
        2, sum(r.sparsity.kept for r in alone), sum(r.sparsity.total for r in alone),
    )  # fmt: skip
    assert all(r.sparsity.kept == round(0.25 * r.sparsity.total) for r in alone)
    assert whole.cost.train_flops == sum(r.cost.train_flops for r in alone)
    assert whole.cost.steps == sum(r.cost.steps for r in alone)
    assert whole.cost.inference_flops == pytest.approx(sum(r.cost.inference_flops for r in alone) / 2)
    assert str(whole.category) == str(alone[0].category) == "after, dense-to-sparse, static"
    assert set(found.layers) == {f"{n}.{name}" for n in range(2) for name in alone[0].sparsity.layers}
    assert RunRecord.from_json(whole.to_json()) == whole
    weights = Store(tmp_path / "runs").folder(whole.spec, whole.provenance.engine) / "weights.safetensors"
    scores, zeros = score_checkpoint(weights, task)
    assert scores == whole.scores
    assert zeros == found.denominators


def test_a_killed_run_goes_on_in_the_part_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, built = pooled(), []
    expected = cell.run(task, "gmp", 0.75, out=tmp_path / "whole")
    real = Arithmetic.build_model

    def dying(self: Arithmetic) -> Any:
        if len(built) == 1 and built[-1] != self.name:
            raise KeyboardInterrupt
        built.append(self.name)
        return real(self)

    monkeypatch.setattr(Arithmetic, "build_model", dying)
    with pytest.raises(KeyboardInterrupt):
        cell.run(task, "gmp", 0.75, out=tmp_path / "killed")
    monkeypatch.setattr(Arithmetic, "build_model", real)
    steps: list[Any] = []
    forward = Arithmetic.forward

    def counted(self: Arithmetic, model: Any, batch: Any) -> Any:
        steps.append(self.name)
        return forward(self, model, batch)

    scored: list[str] = []
    evaluate = Arithmetic.evaluate

    def noted(self: Arithmetic, *args: Any, **options: Any) -> Any:
        scored.append(self.name)
        return evaluate(self, *args, **options)

    monkeypatch.setattr(Arithmetic, "forward", counted)
    monkeypatch.setattr(Arithmetic, "evaluate", noted)
    resumed = cell.run(task, "gmp", 0.75, out=tmp_path / "killed")
    assert scored == ["pooled.1"]
    assert resumed.digests == expected.digests
    assert resumed.scores == expected.scores
    assert resumed.cost.train_flops == expected.cost.train_flops
    trained = Counter(steps)
    assert trained["pooled.1"] > trained["pooled.0"]  # which is restored


def test_parts_must_fit() -> None:
    task = pooled()
    other = dataclasses.replace(task.of[1], recipe=task.recipe.replace(steps=3))  # type: ignore[type-var]
    with pytest.raises(UsageError, match="two or more, with the same recipe and scope"):
        Pooled("pooled", (task.of[0], other))
    with pytest.raises(UsageError, match="two or more"):
        Pooled("pooled", task.of[:1])
    with pytest.raises(UsageError, match=r"take a session on one of task\.parts"):
        task.collate([])
    same = Pooled("pooled", (task.of[0], dataclasses.replace(task.of[0], name="twin")))  # type: ignore[type-var]
    with pytest.raises(UsageError, match="the same id"):
        same.evaluate(build_model(same, 0))


def test_a_variant_of_a_cross_validation_is_that_of_each_fold() -> None:
    task = plugins.load_task("asdiv-a-gts-small@minilm")
    assert task.name == "asdiv-a-gts-small@minilm"
    assert {part.solver.encoder.checkpoint for part in task.parts} == {"sentence-transformers/all-MiniLM-L6-v2"}
    assert len({part.name for part in task.parts}) == 5
    with pytest.raises(UsageError, match="has no variant 'large'"):
        plugins.load_task("asdiv-a-gts-small@large")


# -- generated problems


def texts(problems: list[Problem]) -> set[tuple[str, ...]]:
    return {p.words for p in problems}


def test_no_test_problem_reads_like_one_of_training() -> None:
    splits = mini.problems(*arithmetic._SIZES)
    assert {split: len(found) for split, found in splits.items()} == dict(zip(SPLITS, arithmetic._SIZES, strict=True))
    train = texts(splits["train"])
    assert not train & texts(splits["test"])
    assert not train & texts(splits["validation"])
    assert len(texts(splits["test"])) == arithmetic._SIZES[2]
    words = {word for text in train for word in text}
    assert {word for text in texts(splits["test"]) for word in text} <= words


def test_generated_problems_have_sound_answers() -> None:
    """Worked out from the sentences by hand-written rules, not from the expression."""
    for problem in mini.problems(0, 0, 600)["test"]:
        assert problem.answer == solved(problem), problem
        assert problem.answer >= 0
        assert problem.answer == int(problem.answer)


def solved(problem: Problem) -> float:
    """The answer as a reader finds it: go through the sentences, keep what each person has of the thing asked for."""
    question = problem.words.index("how")
    told, asked = list(problem.words[:question]), list(problem.words[question:])
    numbers = iter(problem.numbers)
    sentences: list[list[Any]] = []
    for word in told:
        if word in (*mini.NAMES, "each", "they", "then") and sentences[-1:] != [["then"]]:
            sentences.append([])
        sentences[-1].append(next(numbers) if place_of(word) is not None else word)
    thing = asked[3] if asked[2] == "more" else asked[2]
    names = [word for word in asked if word in mini.NAMES]
    have: dict[str, float] = {}
    change: dict[str, float] = {}
    boxes = held = spread = None
    after: float | None = None
    for words in sentences:
        value = next(w for w in words if isinstance(w, float))
        if words[0] == "each":
            held = value
        elif words[0] == "they":
            spread = value
        elif words[0] == "then":
            after = value
        elif words[-1] in mini.HOLDERS:
            boxes = value
        elif words[-1] == thing:
            sign = None if words[1] == "has" else 1 if words[1] in mini.GAINS else -1
            if sign is None:
                have[words[0]] = value
            else:
                change[words[0]] = change.get(words[0], 0.0) + sign * value
    if asked[-1] == "before" or "before" in asked:
        assert after is not None
        return after - change[names[0]]
    if spread is not None:
        return have[names[0]] / spread
    if "together" in asked:
        return have[names[0]] + have[names[1]]
    if "more" in asked:
        return have[names[0]] - have[names[1]]
    owned = boxes * held if boxes is not None and held is not None else have[names[0]]
    return owned + (change.get(names[0], 0.0) if "now" in asked else 0.0)


def test_every_kind_and_every_trap_occurs() -> None:
    problems = mini.problems(0, 0, 600)["test"]
    assert {len(p.equation) for p in problems} == {3, 5}
    signs = Counter(token for p in problems for token in p.equation if token in "+-*/")
    assert set(signs) == set("+-*/")
    used = [sum(place_of(token) is not None for token in p.equation) for p in problems]
    distracted = sum(len(p.numbers) > n for p, n in zip(problems, used, strict=True)) / len(problems)
    assert 0.25 < distracted < 0.35
    first = Counter(p.equation.index("number0") for p in problems if "number0" in p.equation)
    assert len(first) > 1  # the first quantity is not always the first operand


def test_what_always_giving_the_commonest_expression_reaches() -> None:
    train, test = (mini.problems(*arithmetic._SIZES)[split] for split in ("train", "test"))
    ((commonest, _),) = Counter(p.equation for p in train).most_common(1)
    right = 100 * sum(value(commonest, p.numbers) == p.answer for p in test) / len(test)
    assert arithmetic.svamp_mini.facts()["majority"]["accuracy"] == f"{right:.1f}"
    assert right < 25


def test_no_problem_has_two_answers() -> None:
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for problems in mini.problems(*arithmetic._SIZES).values():
        for problem in problems:
            assert known.setdefault(problem.words, problem.equation) == problem.equation


def test_a_random_transformer_is_not_trained_at_the_rate_of_a_pretrained_one() -> None:
    assert plugins.load_task("svamp-gts@scratch").embedding_lr == 1e-4  # type: ignore[attr-defined]
