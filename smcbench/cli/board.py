"""``smcbench board``: the leaderboard and its history, which follow from its submissions and nothing else."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smcbench.cli.options import BOARD, RUNS, BatteryName, BoardFolder, Json, sparsifier_names
from smcbench.cli.output import AsJson, Form, Format, NothingMeasured, columns, note, print_json, print_results, working
from smcbench.errors import InvalidInput, SmcbenchError, UsageError
from smcbench.results.battery import DENSE, STANDARD, Battery, show_sparsity
from smcbench.results.record import TaskRef, slug

if TYPE_CHECKING:
    from smcbench.results.affected import Rescored, Scorer
    from smcbench.results.history import History
    from smcbench.results.upkeep import Rebuilt

FILE = "leaderboard.json"

By = Annotated[str | None, typer.Option("--by", help="Who says so.")]
Why = Annotated[str | None, typer.Option("--reason", help="Why what stands there is corrected.")]

app = typer.Typer(help="Build, show and extend the leaderboard.", rich_markup_mode=None, no_args_is_help=False)


@app.callback(invoke_without_command=True)
def _begin(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def build(
    board: BoardFolder = BOARD,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; leave with 1 if it would change.")] = False,
    reason: Why = None,
    evidence: Annotated[str | None, typer.Option("--evidence", help="What shows it.")] = None,
    by: By = None,
) -> None:
    """Take up new submissions into the history; rebuild leaderboard.json, byte for byte, from them."""
    from smcbench.results import upkeep
    from smcbench.results.history import BrokenHistory

    path = board / FILE
    try:
        with working(f"building {path}"):
            built = upkeep.build(board, check, reason, evidence, by)
    except BrokenHistory as error:
        if not check:
            raise
        print(error)
        raise typer.Exit(1) from None
    for event in built.events:
        print(f"version {event.version}{' would be' * check}: {event}")
    size = f"{len(built.board.submissions)} submissions, {len(built.board.entries)} entries"
    if not built.changed:
        print(f"{path}: unchanged ({size})")
    elif check:
        print(f"{path}: is not what its submissions make ({size}); `smcbench board build --board {board}` mends it")
        raise typer.Exit(1)
    else:
        print(f"{path}: written ({size})")
        if new := sorted({str(e.submission) for e in built.events if e.records}):
            folders = " ".join(str(board / upkeep.SUBMISSIONS / name) for name in new)
            print(f"next: smcbench verify {folders} --record{'' if board == BOARD else f' --board {board}'}")


@app.command()
def show(
    board: BoardFolder = BOARD,
    form: Format = Form.TEXT,
    json: AsJson = False,
    mix: Annotated[bool, typer.Option("--mix", help="All in one order, each marked with its group.")] = False,
) -> None:
    """Print the leaderboard: submissions among their equals, by track and category."""
    from smcbench.results.leaderboard import read_board

    path = board / FILE
    if not path.exists():
        raise NothingMeasured(f"{path}: no such file; `smcbench board build --board {board}` makes it")
    print_results(read_board(path), form, json, mix=mix)


@app.command()
def add(
    source: Annotated[Path, typer.Option("--from", help="The store that holds the runs.")] = RUNS,
    battery: BatteryName = STANDARD,
    sparsifier: Annotated[
        list[str] | None,
        typer.Option(help="By label; repeatable. Default: all there are.", autocompletion=sparsifier_names),
    ] = None,
    board: BoardFolder = BOARD,
    allow_incomplete: Annotated[bool, typer.Option("--allow-incomplete", help="Though cells are missing.")] = False,
    authors: Annotated[str | None, typer.Option(help="Who stands behind the submission.")] = None,
    paper: Annotated[str | None, typer.Option(help="Where the method is described.")] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Replace the cells that stand there, and say why.")
    ] = None,
) -> None:
    """Add finished runs to the submissions, one a sparsifier; then build the leaderboard.

    Cells that stand there stay as they are, unless a reason is given to replace them.
    """
    from smcbench.packing import pack, pinned
    from smcbench.results import upkeep
    from smcbench.results.store import Store
    from smcbench.results.submission import RECORDS, read_records

    wanted = Battery.load(battery)
    store = Store(source)
    found = list(store.find())
    digests = pinned(wanted)[1] if found else {}  # which takes some seconds
    there = {
        record.spec.sparsifier.label: None
        for record in found
        if digests.get(record.spec.task.name) == record.spec.task.digest
    }
    for problem in store.problems:
        note(problem)
    if not there:
        raise NothingMeasured(
            f"{source}: holds no run of battery {wanted.name}; `smcbench run --out {source}` makes some"
        )
    failed = 0
    board.mkdir(parents=True, exist_ok=True)
    with upkeep.locked(board), tempfile.TemporaryDirectory() as packed:
        for label in sparsifier or sorted(there, key=lambda label: (label != DENSE, label)):
            try:
                folder = pack(
                    store, wanted, label, slug(label).lower()[:60], Path(packed),
                    allow_incomplete=True, authors=authors, paper=paper,
                )  # fmt: skip
                stands = upkeep.place(board, folder, reason, whole=not allow_incomplete)
                print(f"{stands}: packed")
                ours, theirs = ({r.text() for r in read_records(each / RECORDS)} for each in (folder, stands))
                if left := ours - theirs:
                    note(f"{stands}: {len(left)} cells stand there with other records; --reason replaces them")
            except InvalidInput as error:
                if sparsifier:
                    raise
                note(f"left out: {error}")
                failed += 1
        build(board, reason=reason)
    if failed:
        raise typer.Exit(3)


@app.command()
def history(board: BoardFolder = BOARD, json: Json = False) -> None:
    """Print the history, one line an event."""
    from smcbench.results import shape

    events = _history(board).events
    if json:
        print_json([{**shape.plain(event), "digest": event.digest} for event in events])
        return
    rows = [
        (str(e.version), e.date, str(e), e.smcbench, (e.board or "-")[:12], _why(e.reason, e.evidence, e.by))
        for e in events
    ]
    print(columns(("version", "date", "what", "software", "board", "why"), rows))


@app.command()
def at(
    version: Annotated[int, typer.Argument(help="Of the board: the number of an event.")],
    board: BoardFolder = BOARD,
    out: Annotated[Path | None, typer.Option("--out", help="Write it there, instead of printing it.")] = None,
) -> None:
    """Rebuild leaderboard.json as it was, byte for byte, and hold it against the history."""
    from smcbench import files

    rebuilt = _at(board, version)
    text = rebuilt.board.text()
    if out is None:
        sys.stdout.write(text)
    else:
        files.write(out, text)
        print(f"{out}: the board as it was after version {version} ({rebuilt.event.date}: {rebuilt.event})")


@app.command()
def diff(
    old: Annotated[int, typer.Argument(help="A version of the board.")],
    new: Annotated[int | None, typer.Argument(help="Another one.", show_default="the newest")] = None,
    board: BoardFolder = BOARD,
    json: Json = False,
) -> None:
    """Print what changed from one version to another."""
    from smcbench.results import shape
    from smcbench.results.diff import differences

    new = new or _history(board).version
    found = differences(_at(board, old).board, _at(board, new).board)
    if json:
        print_json([shape.plain(each) for each in found])
    elif not found:
        print(f"versions {old} and {new} show the same")
    else:
        rows = [(d.submission, d.where, d.what, _value(d.old), _value(d.new)) for d in found]
        print(columns(("submission", "where", "what", f"version {old}", f"version {new}"), rows))


@app.command()
def retract(
    name: Annotated[str, typer.Argument(help="The submission.")],
    reason: Annotated[str, typer.Option("--reason", help="Why it does not count.")],
    evidence: Annotated[str, typer.Option("--evidence", help="What shows it, such as an address.")],
    by: By = None,
    board: BoardFolder = BOARD,
    json: Json = False,
) -> None:
    """Take a submission out of the ranking for good. It stays visible, with reason and evidence."""
    from smcbench.results import shape, upkeep

    built = upkeep.retract(board, name, reason, evidence, by)
    if json:
        print_json(shape.plain(built.events[-1]))
    else:
        print(f"version {built.board.version}: {built.events[-1]}; {board / FILE} is written")


@app.command()
def affected(
    board: BoardFolder = BOARD,
    apply: Annotated[bool, typer.Option("--apply", help="Write the scores of now, as corrections.")] = False,
    reason: Why = None,
    by: By = None,
    json: Json = False,
) -> None:
    """Score all predictions again, and list the runs that score otherwise now. Leaves with 1 if there are some."""
    from smcbench import files
    from smcbench.results import shape, upkeep
    from smcbench.results.affected import corrected, scored_otherwise
    from smcbench.results.submission import read_submissions

    if apply and not reason:
        raise UsageError("--apply corrects submissions: say why with --reason")
    retracted = {each.submission for each in _history(board, begun=False).past().retractions}
    scorers, folders = _Scorers(), board / upkeep.SUBMISSIONS
    found: list[Rescored] = []
    with tempfile.TemporaryDirectory() as rescored:
        for submission in read_submissions(folders):
            name = submission.manifest.name
            if name in retracted:
                continue
            mine = list(scored_otherwise(folders / name, submission, scorers))
            found += mine
            if mine and apply:
                for path, raw in corrected(folders / name, submission, mine, scorers).items():
                    files.write(Path(rescored) / name / path, raw)
        for missing in scorers.missing:
            note(missing)
        if json:
            print_json([shape.plain(each) for each in found])
        else:
            _print_rescored(found)
        if not found:
            return
        if not apply:
            raise typer.Exit(1)
        with upkeep.locked(board):
            for folder in sorted(Path(rescored).iterdir()):
                upkeep.place(board, folder, reason)
            build(board, reason=reason, by=by)


class _Scorers:
    """Installed tasks by reference, as scorers; ``missing`` says which cannot score again, and why."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self._known: dict[TaskRef, Scorer | None] = {}

    def __call__(self, task: TaskRef) -> Scorer | None:
        if task not in self._known:
            self._known[task] = self._found(task)
        return self._known[task]

    def _found(self, task: TaskRef) -> Scorer | None:
        from smcbench import plugins

        try:
            if ":" in task.name:
                raise UsageError("it is not installed")  # a name never makes anything be imported
            found = plugins.load_task(task.name)
            if found.digest() != task.digest:
                raise UsageError("the installed one is another version")
            with contextlib.suppress(InvalidInput):  # that there are no predictions is no news
                found.rescored({})
        except SmcbenchError as error:
            self.missing.append(f"{task.name}: its runs are not scored again ({error})")
            return None
        return found


def _print_rescored(found: list[Rescored]) -> None:
    def rows() -> Iterator[tuple[str, ...]]:
        for each in found:
            where = f"{each.task} at {show_sparsity(each.sparsity)} seed {each.seed}"
            for name in sorted({**each.old, **each.new}):
                old, new = each.old.get(name), each.new.get(name)
                if old != new:
                    yield each.submission, each.run, where, name, _value(old), _value(new)

    if found:
        print(columns(("submission", "run", "where", "score", "was", "is"), rows()))
    else:
        print("every score stands")


def _why(*said: str | None) -> str:
    return " | ".join(each for each in said if each)


def _value(value: object) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _history(board: Path, begun: bool = True) -> History:
    from smcbench.results.history import FILE as LINES
    from smcbench.results.history import History

    found = History.read(board)
    if begun and not found.events:
        raise NothingMeasured(
            f"{board / LINES}: no history was begun yet; `smcbench board build --board {board}` begins it"
        )
    return found


def _at(board: Path, version: int) -> Rebuilt:
    """A version of the board, held against the history."""
    from smcbench.results import history, upkeep

    rebuilt = upkeep.at(board, version)
    event = rebuilt.event
    if rebuilt.same is None:
        note(f"version {version} was taken up together with the next one; no leaderboard.json ever stood at it")
    elif not rebuilt.same and event.source == history.source():
        raise history.BrokenHistory(
            f"{board / history.FILE}:{version}: names another board than the one that its submissions make; "
            "a line or a folder was edited"
        )
    elif not rebuilt.same:
        note(
            f"version {version} was built by {event.smcbench} (source {event.source[:12]}); this is the board that "
            "the software of now makes of the same runs, and its bytes are others"
        )
    return rebuilt
