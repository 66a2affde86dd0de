"""The command line: what it prints, the one line of every error, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from records import full_store
from safetensors.torch import load_file, save_file

from smcbench.cli import main
from smcbench.engines import local
from smcbench.results.store import RECORD, Store

PLUG_INS = f"{Path(__file__).parent / 'plug_ins.py'}"
TASK = f"{PLUG_INS}:tiny_digits"
SPARSITY = "0.738"
BROKEN = ("Misses", "Raises", "MakesNaN", "Wraps", "Needs")
RUN = ["run", "--task", TASK, "--sparsity", SPARSITY]


@dataclass(frozen=True)
class Said:
    """What a command line left behind."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The error, which is one line."""
        lines = [line for line in self.err.splitlines() if not line.startswith("smcbench: note:")]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("smcbench: ")
        assert "Traceback" not in self.err
        return lines[0].removeprefix("smcbench: ")

    def json(self) -> Any:
        return json.loads(self.out)


Say = Callable[..., Said]


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    def run(*arguments: object) -> Said:
        capfd.readouterr()
        code = main([str(each) for each in arguments])
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return run


def sparsifiers(*names: str) -> list[str]:
    return [each for name in names for each in ("--sparsifier", f"{PLUG_INS}:{name}")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a good sparsifier, two seeds, on a tiny task."""
    out = tmp_path_factory.mktemp("store") / "runs"
    assert main([*RUN, *sparsifiers("Plain"), "--seeds", "2", "--out", str(out)]) == 0
    return out


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package whose plug-ins do not import."""
    folder = tmp_path / "site" / "third_party-0.1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 0.1\n")
    (folder / "entry_points.txt").write_text("[smcbench.sparsifiers]\nlost = nowhere_to_be_found:Lost\n")
    monkeypatch.syspath_prepend(folder.parent)


# -- looking around ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], ["list", "batteries"], ["board", "--help"]])
def test_looking_around_imports_no_torch(arguments: Sequence[str]) -> None:
    program = (
        f"import sys; from smcbench.cli import main; code = main({list(arguments)!r}); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_list_shows_plug_ins_and_where_they_come_from(say: Say) -> None:
    found = say("list", "--json").json()
    assert found.keys() == {"tasks", "sparsifiers", "batteries"}
    assert {"digits", "cldr-2to2"} <= {task["name"] for task in found["tasks"]}
    rigl = next(each for each in found["sparsifiers"] if each["name"] == "rigl")
    assert rigl["from"] == "smcbench"
    assert rigl["paper"] == "arXiv:1911.11134"


def test_list_shows_a_plug_in_that_does_not_import_with_its_error(say: Say, third_party: None) -> None:
    said = say("list", "sparsifiers")
    assert said.code == 0
    line = next(line for line in said.out.splitlines() if line.startswith("! "))
    assert "'lost' of third-party does not import" in line
    assert "pip install nowhere_to_be_found" in line
    assert any(line.startswith("rigl ") for line in said.out.splitlines())


def test_run_names_a_plug_in_that_does_not_import(say: Say, third_party: None, tmp_path: Path) -> None:
    said = say(*RUN, "--sparsifier", "lost", "--out", tmp_path / "runs")
    assert said.code == 3
    assert "nowhere_to_be_found" in said.error


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("digits", ["accuracy", "chance", "recipe", "prunable", "1000"]),
        ("rigl@smc", ["arXiv:1911.11134", "drop_fraction", "sparse-to-sparse"]),
        ("mini", ["digits", "0.893", "margin"]),
        (f"{PLUG_INS}:Plain", ["Magnitude, before training."]),
    ],
)
def test_info(say: Say, name: str, expected: Sequence[str]) -> None:
    said = say("info", name)
    assert said.code == 0
    assert all(each in said.out for each in expected)
    assert say("info", name, "--json").json()


def test_a_task_that_trains_for_ten_steps_does_not_qualify(say: Say, tmp_path: Path) -> None:
    said = say("info", TASK, "--qualify", "--seeds", "2", "--workers", "1", "--out", tmp_path, "--json")
    assert said.code == 1
    found = said.json()
    assert found["qualifies"] is False
    assert {who: len(scores) for who, scores in found["scores"].items()} == {
        "dense": 2, "random-before": 2, "omp-after": 2,
    }  # fmt: skip
    assert "qualifies" in say("info", TASK, "--qualify", "--seeds", "2", "--workers", "1", "--out", tmp_path).out


# -- one's own method ----------------------------------------------------------------------------------------------


def test_init_writes_a_sparsifier_that_keeps_the_contract(say: Say, here: Path) -> None:
    said = say("init", "sparsifier", "my-method")
    assert said.code == 0
    assert "smcbench check ./my_method.py:MyMethod" in said.out
    assert {path.name for path in here.glob("*.py")} == {"my_method.py", "test_my_method.py"}
    compile((here / "test_my_method.py").read_text(), "test", "exec")
    checked = say("check", "./my_method.py:MyMethod")
    assert checked.code == 0, checked.out
    again = say("init", "sparsifier", "my-method")
    assert again.code == 2
    assert "not overwritten" in again.error


@pytest.mark.parametrize(
    ("name", "message"), [("3", "cannot name"), ("random", "hide"), ("class", "cannot name"), ("../x", "cannot name")]
)
def test_init_refuses_names_that_make_trouble(say: Say, here: Path, name: str, message: str) -> None:
    said = say("init", "sparsifier", name)
    assert said.code == 2
    assert message in said.error
    assert not list(here.iterdir())


def test_check_tells_which_promise_is_broken(say: Say) -> None:
    said = say("check", f"{PLUG_INS}:Misses", "--json")
    assert said.code == 1
    failed = [each for each in said.json() if each["state"] == "failed"]
    assert any("sparsity" in each["check"] for each in failed)
    assert not any(each["check"] in each["message"] for each in failed)


# -- running -------------------------------------------------------------------------------------------------------


def test_run_goes_on_where_it_stopped_and_does_the_difference(say: Say, runs: Path) -> None:
    arguments = [*RUN, *sparsifiers("Plain"), "--out", runs, "--json"]
    again = say(*arguments, "--seeds", "2")
    assert again.code == 0
    assert "taken as level 6" in again.err
    assert (again.json()["cells"], again.json()["done"], again.json()["done_before"]) == (4, 4, 4)
    amended = say(*arguments, "--seed", "5").json()
    assert (amended["cells"], amended["done"], amended["done_before"]) == (2, 2, 0)


def test_what_stands_on_the_board_is_done(say: Say, runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "board" / "submissions" / "plain"
    folder.mkdir(parents=True)
    lines = [path.read_text() for path in sorted(runs.glob("*/*-s0-*/record.json"))]
    (folder / "records.jsonl").write_text("".join(lines))
    arguments = [*RUN, *sparsifiers("Plain"), "--seeds", "2", "--out", tmp_path / "new", "--board", tmp_path / "board"]
    said = say(*arguments)
    assert said.code == 0
    assert f"4 cells, 2 of them done (2 stand on the board of {tmp_path / 'board'}" in said.out
    assert "4 of 4 cells are done, 2 of them before" in said.out
    assert len(list(tmp_path.glob("new/*/*/record.json"))) == 2

    anew = say(*arguments, "--anew", "--json").json()
    assert (anew["done"], anew["done_before"]) == (4, 2)

    (folder / "records.jsonl").write_text("{}\n")
    broken = say(*arguments)
    assert broken.code == 0
    assert "records.jsonl:1: " in broken.err
    assert "not counted as done" in broken.err


def test_a_cell_that_fails_stops_no_other(say: Say, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    names = sparsifiers(*BROKEN, "Declines", "Plain")
    said = say(*RUN, *names, "--seeds", "1", "--out", out, "--json")
    assert said.code == 4
    result = said.json()
    assert result["done"] == 2  # dense and Plain
    messages = {each["sparsifier"]: each["message"] for each in result["failed"]}
    assert messages.keys() == set(BROKEN)
    assert "\n" not in "".join(messages.values())
    assert "must be 95" in messages["Misses"]
    assert "RuntimeError: a bug over two lines (plug_ins.py, line" in messages["Raises"]
    assert "NaN" in messages["MakesNaN"]
    assert "wrapped" in messages["Wraps"]
    assert "pip install a_package_that_nobody_has" in messages["Needs"]
    assert [each["message"] for each in result["skipped"]] == ["not today"]

    status = say("status", "--out", out, "--json").json()
    assert {each["spec"]["sparsifier"]["label"]: each["class"] for each in status["failed"]} == {
        "Misses": "missed-sparsity", "Raises": "error", "MakesNaN": "nan", "Wraps": "error", "Needs": "error",
    }  # fmt: skip
    assert sum(group["done"] for group in status["groups"]) == 2


def test_workers_share_a_store(say: Say, tmp_path: Path) -> None:
    arguments = [*RUN, *sparsifiers("Plain"), "--seeds", "1", "--out", tmp_path / "runs", "--workers", "2"]
    said = say(*arguments, "--json")
    assert said.code == 0, said.err
    assert said.json()["done"] == 2


def test_nothing_measured(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(requests: Sequence[local.Request], workers: int = 1) -> Iterator[local.Outcome]:
        yield from (local.Outcome(request, "failed", "no luck") for request in requests)

    monkeypatch.setattr(local, "run", fail)
    said = say(*RUN, "--seeds", "1", "--out", tmp_path / "runs")
    assert said.code == 5
    assert "failed: digits-tiny dense 0.000 seed 0: no luck" in said.out


def test_a_cell_in_other_hands_is_left_to_them(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(requests: Sequence[local.Request], workers: int = 1) -> Iterator[local.Outcome]:
        yield local.Outcome(requests[0], "done", score=1.0)
        yield from (local.Outcome(request, "busy", "computed by another process") for request in requests[1:])

    monkeypatch.setattr(local, "run", busy)
    said = say(*RUN, *sparsifiers("Plain"), "--seeds", "1", "--out", tmp_path / "runs")
    assert said.code == 4
    assert "in other hands: digits-tiny Plain 0.738 seed 0: computed by another process" in said.out


def test_interrupted(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(requests: Sequence[local.Request], workers: int = 1) -> Iterator[local.Outcome]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(local, "run", interrupted)
    said = say(*RUN, "--out", tmp_path / "runs")
    assert said.code == 130
    assert "same command again" in said.error


def test_a_record_that_cannot_be_read_is_named_kept_and_computed_again(say: Say, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    arguments = [*RUN, "--seeds", "1", "--out", out]
    assert say(*arguments).code == 0
    record = next(out.glob(f"*/*/{RECORD}"))
    whole = json.loads(record.read_text())
    record.write_text(record.read_text()[:100])
    assert "not valid JSON" in say("status", "--out", out).err
    said = say(*arguments)
    assert said.code == 0
    assert str(record) in said.err
    assert record.with_suffix(".unreadable").exists()
    again = json.loads(record.read_text())
    assert (again["scores"], again["digests"]) == (whole["scores"], whole["digests"])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "--task", "digts"], 2, "did you mean digits"),
        (["run", "--sparsifier", "rigll"], 2, "did you mean rigl"),
        (["run", "--sparsifier", "rigl@smd"], 2, "has no preset 'smd' (did you mean smc?)"),
        (["run", "--sparsifier", "rigl(drop=1)"], 2, "has no parameter 'drop'"),
        (["run", "--sparsifier", "./nowhere.py:Mine"], 2, "no such file"),
        (["run", "--sparsifier", f"{PLUG_INS}:tiny_digits"], 3, "not a sparsifier"),
        (["run", "--task", f"{PLUG_INS}:Plain"], 3, "not a task"),
        (["run", "--battery", "minni"], 2, "there are mini"),
        (["run", "--battery", "nowhere.toml"], 3, "no such file"),
        (["run", "--sparsity", "1"], 2, "must lie in [0, 1)"),
        (["run", "--sparsity", "-0.1"], 2, "must lie in [0, 1)"),
        (["run", "--budget", "0"], 2, "must be positive"),
        (["run", "--seeds", "2", "--seed", "0"], 2, "either --seeds"),
        (["run", "--seeds", "many"], 2, "'--seeds'"),
        (["run", "--device", "tpu9"], 2, "unknown to torch"),
        (["run", "--compile", "nothing"], 2, "no backend 'nothing'"),
        (["run", "--workers", "0"], 2, "'--workers'"),
        (["info", "rigel"], 2, "the nearest are rigl"),
        (["info", "rigl", "--qualify"], 2, "is no task"),
        (["check", "mini"], 2, "is a battery"),
        (["check", "./mine.py"], 2, "./mine.py: say which class of the file, as ./mine.py:Name"),
        (["status", "--out", "nowhere"], 5, "no such folder"),
        (["compare", "rigl", "--out", "nowhere", "--board", "nowhere"], 5, "no results"),
        (["board", "build", "--board", "nowhere"], 3, "no such folder"),
        (["board", "show", "--board", "nowhere"], 5, "no such file"),
        (["board", "add", "--from", "nowhere", "--board", "nowhere"], 5, "holds no run"),
        (["board", "add", "--from", "nowhere", "--battery", "minni"], 2, "unknown"),
        (["eval", "nowhere.safetensors", "--task", "digits"], 3, "cannot be read"),
        (["eval", "nowhere.safetensors"], 2, "--task"),
        (["nonsense"], 2, "nonsense"),
        (["list", "--nonsense"], 2, "see `smcbench list --help`"),
        (["board", "retract"], 2, "see `smcbench board retract --help`"),
    ],
)
def test_bad_input_is_one_line(say: Say, here: Path, arguments: Sequence[str], code: int, message: str) -> None:
    said = say(*arguments)
    assert said.code == code, said.err
    assert message in said.error
    assert not (here / "runs").exists()


def test_a_store_that_cannot_be_written(say: Say, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = say(*RUN, "--out", tmp_path / "file" / "runs")
    assert said.code == 3
    assert "cannot be written" in said.error
    assert "--out" in said.error


def test_the_unforeseen_is_one_line_unless_debugging(say: Say, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("surprise\nsurprise")

    monkeypatch.setattr("smcbench.results.store.Store.find", broken)
    said = say("status", "--out", ".")
    assert said.code == 3
    assert "ZeroDivisionError: surprise surprise" in said.error
    monkeypatch.setenv("SMCBENCH_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        say("status", "--out", ".")


# -- checkpoints ---------------------------------------------------------------------------------------------------


def plain_weights(runs: Path) -> Path:
    return next(runs.glob("*/plug_ins.py-Plain-*/weights.safetensors"))


def test_eval_scores_a_checkpoint_as_the_run_did(say: Say, runs: Path) -> None:
    weights = plain_weights(runs)
    record = json.loads((weights.parent / RECORD).read_text())
    found = say("eval", weights, "--task", TASK, "--json").json()
    assert found["scores"] == record["scores"]
    assert found["zeros"] == record["sparsity"]["denominators"]
    text = say("eval", weights, "--task", TASK)
    assert text.code == 0
    assert "scope" in text.out


def test_eval_takes_what_other_tools_write(say: Say, runs: Path, tmp_path: Path) -> None:
    weights = plain_weights(runs)
    tensors = load_file(weights)
    expected = say("eval", weights, "--task", TASK, "--json").json()
    wrapped = {f"module.{name}": tensor for name, tensor in tensors.items()}
    kernel = "module.stem.0.weight"
    wrapped[f"{kernel}_mask"] = (wrapped[kernel] != 0).float()
    wrapped[f"{kernel}_orig"] = torch.where(wrapped[kernel] == 0, 1.0, wrapped.pop(kernel))
    save_file(wrapped, tmp_path / "pruned.safetensors")
    assert say("eval", tmp_path / "pruned.safetensors", "--task", TASK, "--json").json() == expected
    torch.save({"state_dict": tensors}, tmp_path / "pickle.pt")
    refused = say("eval", tmp_path / "pickle.pt", "--task", TASK)
    assert refused.code == 3
    assert "--trust" in refused.error
    assert say("eval", tmp_path / "pickle.pt", "--task", TASK, "--trust", "--json").json() == expected


def test_eval_refuses_what_is_foreign(say: Say, runs: Path, tmp_path: Path) -> None:
    tensors = load_file(plain_weights(runs))
    name = "stem.0.weight"
    path = tmp_path / "x.safetensors"

    def refused(changed: dict[str, torch.Tensor]) -> str:
        save_file(changed, path)
        said = say("eval", path, "--task", TASK)
        assert said.code == 3
        assert str(path) in said.error
        return said.error

    assert "its model has no 'stems'" in refused({**tensors, "stems": torch.zeros(1)})
    assert "has shape (2,)" in refused({**tensors, name: torch.zeros(2)})
    assert "missing, such as 'stem.0.weight'" in refused({k: t for k, t in tensors.items() if k != name})
    assert "NaN" in refused({**tensors, name: torch.full_like(tensors[name], torch.nan)})
    path.write_bytes(plain_weights(runs).read_bytes()[:-10])
    torn = say("eval", path, "--task", TASK)
    assert torn.code == 3
    assert "torn" in torn.error
    torch.save([1, 2], tmp_path / "list.pkl")
    foreign = say("eval", tmp_path / "list.pkl", "--task", TASK, "--trust")
    assert foreign.code == 3
    assert "not tensors by name" in foreign.error


# -- results -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return full_store(tmp_path_factory.mktemp("made-up"))


@pytest.mark.parametrize(
    ("form", "begin"), [("text", "cldr-2to2"), ("md", "**"), ("csv", "submission,"), ("json", "{")]
)
def test_compare(say: Say, made_up: Store, here: Path, form: str, begin: str) -> None:
    said = say("compare", "omp", "rigl", "--out", made_up.root, "--format", form)
    assert said.code == 0
    assert said.out.startswith(begin)
    assert "omp" in said.out
    only = say("compare", "omp", "rigl", "--task", "digits", "--out", made_up.root, "--json").json()
    assert {row["task"]["name"] for row in only["rows"]} == {"digits"}


def test_status_counts_what_was_not_begun(say: Say, made_up: Store, here: Path) -> None:
    tasks = '[{task = "digits"}, {task = "csqa-mini"}]'
    (here / "two.toml").write_text(f"[two]\nseeds = [0, 99]\nsparsities = [0.5]\ntasks = {tasks}\n")
    groups = say("status", "--battery", "two.toml", "--out", made_up.root, "--json").json()["groups"]
    omp = {group["task"]: (group["done"], group["of"]) for group in groups if group["sparsifier"] == "omp"}
    assert omp == {"digits": (1, 2), "csqa-mini": (0, 2)}


def test_compare_names_what_there_is(say: Say, made_up: Store, here: Path) -> None:
    said = say("compare", "omp", "snip", "--out", made_up.root)
    assert said.code == 5
    assert "no results of 'snip'" in said.error
    assert "omp" in said.error


def test_compare_takes_a_method_as_it_was_run(say: Say, runs: Path, here: Path) -> None:
    said = say("compare", f"{PLUG_INS}:Plain", "--out", runs)
    assert said.code == 0
    assert "Plain" in said.out


def test_the_board_from_runs_to_table(say: Say, runs: Path, here: Path) -> None:
    (here / "tiny.toml").write_text(f'[tiny]\nseeds = [0, 1]\nlevels = [6]\n[[tiny.tasks]]\ntask = "{TASK}"\n')
    add = ["board", "add", "--from", runs, "--battery", "tiny.toml", "--board", "board"]
    added = say(*add)
    assert added.code == 0, added.err
    assert {path.name for path in (here / "board" / "submissions").iterdir()} == {"dense", "plain"}
    path = here / "board" / "leaderboard.json"
    before = path.read_bytes()
    assert "unchanged" in say("board", "build", "--board", "board", "--check").out
    path.write_text("edited")
    assert say("board", "build", "--board", "board", "--check").code == 1
    assert path.read_text() == "edited"
    assert say("board", "build", "--board", "board").code == 0
    assert path.read_bytes() == before
    assert "Plain" in say("board", "show", "--board", "board").out
    against = say("compare", "--against", "leaderboard", "--out", "nowhere", "--board", "board")
    assert against.code == 0
    assert "Plain" in against.out
    named = say("compare", "plain", "--out", "nowhere", "--board", "board")  # as the submission is called
    assert (named.code, "Plain" in named.out) == (0, True)


def test_the_board_takes_whole_batteries(say: Say, runs: Path, here: Path) -> None:
    (here / "tiny.toml").write_text(f'[tiny]\nseeds = [0, 1, 9]\nlevels = [6]\n[[tiny.tasks]]\ntask = "{TASK}"\n')
    add = ["board", "add", "--from", runs, "--battery", "tiny.toml", "--board", "board", "--sparsifier", "Plain"]
    refused = say(*add)
    assert refused.code == 3
    assert "seed 9" in refused.error
    assert say(*add, "--allow-incomplete").code == 0


def test_completion_offers_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from smcbench.cli import options

    assert "rigl" in options.sparsifier_names("ri")
    assert options.task_names("dig") == ["digits", "digits-vit"]
    assert {"mini", "demo"} <= set(options.battery_names(""))
    assert {"mini", "random-before"} <= {*options.all_names("m"), *options.all_names("random-b")}
