"""``smcbench board``: what it prints, its exit codes, and the JSON of its verbs."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from folders import contents, method, put, references, right
from records import DIGESTS, record

from smcbench import plugins
from smcbench.cli import main
from smcbench.errors import InvalidInput, UsageError
from smcbench.results import history, upkeep
from smcbench.results.outcomes import Outcomes
from smcbench.results.submission import CARD, MANIFEST


@dataclass(frozen=True)
class Said:
    """What a command line left behind."""

    code: int
    out: str
    err: str


Say = Callable[..., Said]


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    """``smcbench board ...`` where the board is the folder ``board``."""
    monkeypatch.chdir(tmp_path)

    def run(verb: str, *arguments: object) -> Said:
        capfd.readouterr()
        code = main(["board", verb, *(str(each) for each in arguments), "--board", "board"])
        return Said(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four versions: two submissions at once, one grown, one retracted."""
    board = tmp_path_factory.mktemp("built") / "board"
    put(board, "dense", references())
    put(board, "omp", method("omp", [95, 90]))
    upkeep.build(board)
    put(board, "omp", [*method("omp", [95, 90]), record("omp", 0.9, 0, 70)])
    upkeep.build(board)
    upkeep.retract(board, "omp", "trained on the test split", "https://example.org/1", by="me")
    return board


@pytest.fixture
def board(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "board"))


def test_build_takes_up_and_check_only_looks(say: Say, board: Path) -> None:
    assert say("build", "--check").code == 0
    put(board, "rigl", method("rigl", [85]))
    before = contents(board)
    looked = say("build", "--check")
    assert looked.code == 1
    assert "version 5 would be: add rigl (1 run)" in looked.out
    assert contents(board) == before
    took = say("build")
    assert took.code == 0
    assert "version 5: add rigl (1 run)" in took.out
    assert "unchanged" in say("build").out


def test_a_broken_chain_fails_the_check_and_is_invalid_to_build_on(say: Say, board: Path) -> None:
    path = board / history.FILE
    path.write_text(path.read_text().replace('"add"', '"praise"', 1))
    looked = say("build", "--check")
    assert looked.code == 1
    assert looked.out.startswith("board/history.jsonl:1: ")
    for verb in (
        ["build"],
        ["history"],
        ["at", 2],
        ["diff", 2],
        ["retract", "dense", "--reason", "x", "--evidence", "y"],
    ):
        said = say(*verb)
        assert (said.code, len(said.err.splitlines())) == (3, 1)
        assert "history.jsonl:1: " in said.err


def test_a_correction_needs_a_reason(say: Say, board: Path) -> None:
    shutil.copytree(board / "submissions" / "dense", board / "superseded" / "v1" / "dense")
    put(board, "dense", references([0]))
    refused = say("build")
    assert refused.code == 2
    assert "--reason" in refused.err
    said = say("build", "--reason", "seed 1 was none", "--by", "me")
    assert said.code == 0
    assert "version 5: correct dense (1 run)" in said.out


def test_history_for_people_and_for_programs(say: Say, board: Path) -> None:
    text = say("history").out.splitlines()
    assert len(text) == 2 + 4
    assert "retract omp" in text[-1]
    assert text[-1].endswith("trained on the test split | https://example.org/1 | me")
    found = json.loads(say("history", "--json").out)
    lines = (board / history.FILE).read_bytes().splitlines()
    assert [e["digest"] for e in found] == [hashlib.sha256(line).hexdigest() for line in lines]
    assert found[3]["evidence"] == "https://example.org/1"


def test_at_prints_the_bytes_of_then(say: Say, board: Path, tmp_path: Path) -> None:
    digest = json.loads((board / history.FILE).read_text().splitlines()[2])["board"]
    assert hashlib.sha256(say("at", 3).out.encode()).hexdigest() == digest
    assert say("at", 3, "--out", "past.json").code == 0
    assert hashlib.sha256((tmp_path / "past.json").read_bytes()).hexdigest() == digest
    assert "no leaderboard.json ever stood at it" in say("at", 1).err
    assert say("at", 9).code == 2
    assert say("at", 4).out == (board / upkeep.FILE).read_text()


def test_at_says_when_the_software_is_another(say: Say, board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = board / history.FILE
    last = json.loads(path.read_text().splitlines()[-1])
    forged = path.read_text().replace(last["board"], "0" * 64)
    path.write_text(forged)
    assert say("at", 4).code == 3
    monkeypatch.setattr(history, "source", lambda: "cd" * 32)
    said = say("at", 4)
    assert said.code == 0
    assert "version 4 was built by smcbench " in said.err


def test_diff_for_people_and_for_programs(say: Say, board: Path) -> None:
    found = json.loads(say("diff", 2, 3, "--json").out)
    assert {"submission": "omp", "old": None, "new": 70.0} in [
        {key: d[key] for key in ("submission", "old", "new")} for d in found if d["what"] == "mean"
    ]
    assert "trained on the test split" in say("diff", 3).out
    assert say("diff", 3, 3).out == "versions 3 and 3 show the same\n"


def test_retract_for_people_and_for_programs(say: Say, board: Path) -> None:
    arguments = ["retract", "dense", "--reason", "no", "--evidence", "none"]
    event = json.loads(say(*arguments, "--json").out)
    assert (event["change"], event["submission"], event["version"]) == ("retract", "dense", 5)
    assert say(*arguments).code == 2
    assert say("retract", "dense", "--reason", "no").code == 2  # evidence is needed


def test_a_board_without_history_has_none_to_show(say: Say, tmp_path: Path) -> None:
    put(tmp_path / "board", "dense", references())
    for verb in (["history"], ["diff", 1]):
        said = say(*verb)
        assert said.code == 5
        assert "`smcbench board build --board board` begins it" in said.err
    assert say("at", 1).code == 2
    assert say("build").code == 0
    assert say("at", 1).code == 0


class Scorer:
    """A task whose scorer finds ten per cent less right than it did in seed 0."""

    def digest(self) -> str:
        return DIGESTS["digits"]

    def rescored(self, predictions: Any) -> dict[str, float]:
        return {"accuracy": self._score(predictions)}

    def outcomes(self, predictions: Any) -> Outcomes:
        return right(self._score(predictions))

    def _score(self, predictions: Any) -> float:
        if not predictions:
            raise InvalidInput("no predictions")
        return {0: 85.0, 1: 90.0}[predictions["e0"]]  # by seed


def test_affected_lists_and_applies(say: Say, board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(board, "rigl", [replace(r, scores={"accuracy": 80.0}) for r in method("rigl", [80], task="cldr-2to2")])
    upkeep.build(board)
    stood = (board / upkeep.FILE).read_text()

    def load(name: str) -> Scorer:
        if name != "digits":
            raise UsageError(f"{name}: unknown task")
        return Scorer()

    monkeypatch.setattr(plugins, "load_task", load)
    before = contents(board)
    listed = say("affected")
    assert listed.code == 1
    assert listed.out.splitlines()[2].split() == [
        "dense", references()[0].run, "digits", "at", "0", "seed", "0", "accuracy", "95", "85",
    ]  # fmt: skip
    assert "omp" not in listed.out  # it was retracted
    assert "cldr-2to2: its runs are not scored again" in listed.err
    assert contents(board) == before
    (found,) = json.loads(say("affected", "--json").out)
    assert (found["submission"], found["old"], found["new"]) == ("dense", {"accuracy": 95.0}, {"accuracy": 85.0})
    assert say("affected", "--apply").code == 2
    applied = say("affected", "--apply", "--reason", "commas count")
    assert applied.code == 0, applied.err
    assert "version 6: correct dense (2 runs)" in applied.out
    assert say("affected").out == "every score stands\n"
    assert say("at", 5).out == stood


def _but_for_the_card(folder: Path) -> dict[str, Any]:
    """Files and manifest of a submission; its card is that of the first packing."""
    found: dict[str, Any] = contents(folder)
    del found[CARD]
    found[MANIFEST] = json.loads(found[MANIFEST])
    del found[MANIFEST]["files"][CARD]
    return found


def test_a_board_grows_from_clone_to_clone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Seed 0 here, seed 1 in a clone that has nothing but the board: the same submissions as packed all at once."""
    plug_ins = Path(__file__).parent / "plug_ins.py"
    battery = tmp_path / "tiny.toml"
    battery.write_text(f'[tiny]\nseeds = [0, 1]\nlevels = [6]\n[[tiny.tasks]]\ntask = "{plug_ins}:tiny_digits"\n')
    run = ["run", "--battery", str(battery), "--sparsifier", f"{plug_ins}:Plain", "--board", str(tmp_path / "none")]
    for seed in ("0", "1"):
        assert main([*run, "--seed", seed, "--out", str(tmp_path / f"runs-{seed}")]) == 0
    shutil.copytree(tmp_path / "runs-0", tmp_path / "both")
    shutil.copytree(tmp_path / "runs-1", tmp_path / "both", dirs_exist_ok=True)

    def add(source: str, board: str, *more: str) -> Said:
        capfd.readouterr()
        options = ["--from", str(tmp_path / source), "--battery", str(battery), "--board", str(tmp_path / board)]
        return Said(main(["board", "add", *options, *more]), *capfd.readouterr())

    assert add("runs-0", "grown").code == 3  # seed 1 is missing
    assert add("runs-0", "grown", "--allow-incomplete").code == 0
    grown = add("runs-1", "grown")  # and it is whole
    assert grown.code == 0, grown.err
    assert "extend plain (1 run)" in grown.out
    assert add("both", "whole").code == 0
    for name in ("dense", "plain"):
        one, other = (_but_for_the_card(tmp_path / board / "submissions" / name) for board in ("grown", "whole"))
        assert one == other
    again = add("both", "grown")
    assert (again.code, again.err) == (0, "")
    assert "unchanged" in again.out
