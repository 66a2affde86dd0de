"""Batteries: levels, order of cells, digests, strict files."""

from __future__ import annotations

from pathlib import Path

import pytest

from smcbench.errors import InvalidInput, UsageError
from smcbench.results.battery import Battery, level, resolve_sparsity, show_sparsity

GOOD = '[mine]\nseeds = [0]\n[[mine.tasks]]\ntask = "digits"\nlevels = [3]\n'


def test_levels_are_the_published_ladder() -> None:
    assert [show_sparsity(level(k)) for k in (3, 6, 10, 13)] == ["0.488", "0.738", "0.893", "0.945"]
    assert level(13) == pytest.approx(1 - 0.8**13, abs=1e-15)
    assert level(3) == 0.488


def test_a_typed_sparsity_may_mean_a_level() -> None:
    assert resolve_sparsity(0.738, [3, 6, 10]) == (0.737856, "0.738 is taken as level 6: 0.737856")
    assert resolve_sparsity(0.945, [13])[0] == level(13)
    assert resolve_sparsity(0.7374, [6])[0] == level(6)
    assert resolve_sparsity(0.7373, [6]) == (0.7373, None)
    assert resolve_sparsity(level(6), [6]) == (level(6), None)
    assert resolve_sparsity(0.9) == (0.9, None)


@pytest.mark.parametrize("value", [1.0, 1, -0.1, 90, float("nan"), float("inf"), True])
def test_a_sparsity_lies_between_nothing_and_everything(value: float) -> None:
    with pytest.raises(UsageError, match="must lie in"):
        resolve_sparsity(value, [3])


def test_the_shipped_batteries() -> None:
    assert Battery.names()[:2] == ["mini", "demo"]
    mini, demo = Battery.load(), Battery.load("demo")
    assert mini.name == "mini"
    assert mini.seeds == (0, 1, 2)
    assert mini.margin == 0.01
    assert len(list(mini.cells(["rigl"]))) == 6 * 3 * (4 + 1)
    assert [(e.task, e.budget) for e in demo.tasks[:2]] == [("digits", 0.2), ("cldr-2to2", 0.5)]
    assert [len(e.sparsities) for e in demo.tasks] == [2, 1, 1, 1, 1, 1]
    one_a_family = {"cldr-2to2", "csqa-mini", "digits", "lattice-protein-mini", "mnli-mini", "svamp-mini"}
    assert {e.task for e in mini.tasks} == {e.task for e in demo.tasks} == one_a_family
    cells = list(demo.cells(["rigl", "omp-after"]))
    assert [c.sparsifier for c in cells if c.task == "cldr-2to2"] == ["dense", "omp-after"]


def test_the_battery_of_the_paper_has_its_ladder_and_five_per_cent() -> None:
    smc = Battery.load("smc")
    assert len(smc.tasks) == 3 + 6 + 5 + 3
    assert {e.sparsities for e in smc.tasks} == {(0.05, *(level(k) for k in range(1, 11)))}
    assert smc.resolve(0.893)[0] == level(10)


def test_cells_come_seed_by_seed_and_dense_first() -> None:
    mini = Battery.load("mini")
    cells = list(mini.cells(["snip", "rigl(interval=10)", "dense"]))
    assert [c.seed for c in cells] == sorted(c.seed for c in cells)
    assert cells[0] == ("digits", "dense", 0.0, 0, 1.0)
    assert [c.sparsifier for c in cells[:8]] == ["dense"] * 6 + ["snip", "rigl(interval=10)"]
    assert sum(c.sparsifier == "dense" for c in cells) == 18
    assert len(cells) == len(set(cells))


def test_an_unknown_battery_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="battery 'minni' is unknown; there are mini, mini-long"):
        Battery.load("minni")


def test_the_digest_follows_what_makes_a_table() -> None:
    mini = Battery.load("mini")
    digests = {e.task: "a" * 64 for e in mini.tasks} | {"other": "c" * 64}
    first = mini.digest(digests)
    assert first == mini.digest({**digests, "other": "d" * 64})
    assert first != mini.digest({**digests, "digits": "d" * 64})
    assert first != mini.narrowed(seeds=[0]).digest(digests)
    assert first != mini.narrowed(sparsities=[0.5]).digest(digests)
    with pytest.raises(UsageError, match="cldr-2to2"):
        mini.digest({"digits": "a" * 64})


def test_a_battery_can_be_narrowed() -> None:
    some = Battery.load("mini").narrowed(tasks=["digits"], sparsities=[0.738, 0.7379], seeds=[1])
    assert [tuple(c) for c in some.cells(["rigl"])] == [
        ("digits", "dense", 0.0, 1, 1.0),
        ("digits", "rigl", level(6), 1, 1.0),
    ]
    with pytest.raises(UsageError, match="task 'digit' is unknown; there are digits"):
        Battery.load("mini").narrowed(tasks=["digit"])


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(GOOD)
    assert Battery.load(path).tasks[0].sparsities == (0.488,)
    path.write_text(GOOD + GOOD.replace("mine", "more").replace("levels = [3]", "sparsities = [0.5, 0.9]"))
    assert Battery.load(f"{path}:more").tasks[0].sparsities == (0.5, 0.9)
    with pytest.raises(UsageError, match=r"holds mine, more; name one: .*own.toml:mine"):
        Battery.load(path)
    with pytest.raises(UsageError, match="'moer' is unknown; there are more"):
        Battery.load(f"{path}:moer")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[mine", "not valid TOML"),
        ("", "holds no battery"),
        (GOOD.replace("seeds", "seed"), "unknown key 'seed'"),
        (GOOD.replace("seeds = [0]\n", ""), "key 'seeds' is missing"),
        (GOOD.replace("[0]", "[]"), "seeds is empty"),
        (GOOD.replace("[0]", "[0, 0]"), "has a seed twice"),
        (GOOD.replace("[0]", '["a"]'), "seeds: 0: must be a whole number"),
        (GOOD.replace("levels = [3]", ""), "give levels, sparsities or both"),
        (GOOD.replace("[3]", "[]"), "needs at least one sparsity"),
        (GOOD.replace("[3]", "[3, 3]"), "has a sparsity twice"),
        (GOOD.replace("[3]", "[400]"), "so high that nothing is left"),
        (GOOD.replace("levels = [3]", "sparsities = [1.0]"), "tasks: 0: the sparsity is 1.0"),
        (GOOD + "budget = 0\n", "budget 0.0, which must be positive"),
        (GOOD + "budget = nan\n", "budget: must be a finite number"),
        (GOOD.replace("seeds", "margin = 2\nseeds"), "margin is 2.0"),
        (GOOD + '[[mine.tasks]]\ntask = "digits"\nlevels = [6]\n', "'digits' twice"),
        ("[mine]\nseeds = [0]\ntasks = []\n", "tasks is empty"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=told) as caught:
        Battery.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        Battery.load(tmp_path / "none.toml")


def test_budgets_are_short_for_several_entries(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(GOOD + "budgets = [1, 2.5]\n")
    battery = Battery.load(path)
    assert [(e.task, e.budget) for e in battery.tasks] == [(battery.tasks[0].task, b) for b in (1.0, 2.5)]
    assert len(battery.narrowed(tasks=[battery.tasks[0].task]).tasks) == 2
    for wrong, message in (("budgets = [1, 1]", "twice"), ("budgets = [0]", "positive"),
                           ("budget = 2\nbudgets = [1]", "either budget or budgets")):  # fmt: skip
        path.write_text(GOOD + wrong + "\n")
        with pytest.raises(InvalidInput, match=message):
            Battery.load(path)


@pytest.mark.parametrize("name", Battery.names())
def test_every_shipped_battery_names_tasks_that_are_installed(name: str) -> None:
    from smcbench import plugins

    for entry in Battery.load(name).tasks:
        assert plugins.load_task(entry.task).name == entry.task


def test_the_sparsities_of_the_papers() -> None:
    """Instant Soup, Tables 2 and 3, as printed there."""
    glue = {e.task: e.sparsities for e in Battery.load("glue-isp").tasks}
    assert glue == {"mnli": (0.7,), "qqp": (0.9,), "sts-b": (0.5,), "wnli": (0.9,), "qnli": (0.7,), "mrpc": (0.5,),
                    "rte": (0.6,), "sst-2": (0.6,), "cola": (0.5,)}  # fmt: skip
    clip = {e.task: e.sparsities for e in Battery.load("clip-isp").tasks}
    assert clip["clip-cars"] == (0.3, 0.4, 0.5)
    assert clip["clip-mnist"] == clip["clip-svhn"] == (0.7, 0.8, 0.9)
    assert clip["clip-gtsrb"] == (0.5, 0.6, 0.7)
    assert clip["clip-cifar10"] == clip["clip-cifar100"] == (0.6, 0.7, 0.8)
