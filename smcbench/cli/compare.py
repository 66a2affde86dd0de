"""``smcbench compare``: sparsifiers side by side, from the store and the leaderboard."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smcbench.cli.options import BOARD, RUNS, BatteryName, BoardFolder, Out, TaskNames, sparsifier_names
from smcbench.cli.output import AsJson, Form, Format, NothingMeasured, note, print_json, print_results, working
from smcbench.errors import SmcbenchError, UsageError
from smcbench.results.battery import DENSE, STANDARD, Battery, nearest
from smcbench.results.record import RunRecord

if TYPE_CHECKING:
    from smcbench.results.compare import Comparison
    from smcbench.results.outcomes import Outcomes
    from smcbench.results.published import Published
    from smcbench.results.store import Store
    from smcbench.results.submission import Submission

Names = Annotated[
    list[str] | None,
    typer.Argument(help="Sparsifiers, by name or label.", autocompletion=sparsifier_names, metavar="A B ..."),
]


class Against(StrEnum):
    """What else to compare with."""

    LEADERBOARD = "leaderboard"
    PUBLISHED = "published"


def compare(
    sparsifiers: Names = None,
    task: TaskNames = None,
    battery: BatteryName = STANDARD,
    out: Out = RUNS,
    board: BoardFolder = BOARD,
    against: Annotated[
        Against | None, typer.Option(help="Add all sparsifiers of the leaderboard, or what papers report.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=100, max=1_000_000, help="Resamples that make an interval.")] = 2000,
    form: Format = Form.TEXT,
    json: AsJson = False,
) -> None:
    """Compare sparsifiers. Per task and sparsity: score, distance to dense, matching, break-point, cost, category.

    The first that is named is tested against each of the others: whether these networks differ, and whether the
    methods do. The battery gives the margin within which a score matches dense; results at other tasks and sparsities
    are shown too.
    """
    from smcbench.results.store import Store

    margin = Battery.load(battery).margin
    store, submitted = Store(out), _submitted(board)
    local = list(store.find())
    for problem in store.problems:
        note(problem)
    names, tasks = list(sparsifiers or ()), list(task or ())
    records = [*local, *(record for each in submitted for record in each.records)]
    printed: tuple[Published, ...] = ()
    if against is Against.PUBLISHED:
        printed = _published(names, tasks)
        wanted, known = " or ".join(tasks), {record.spec.task.name for record in records}
        tasks = [each for each in tasks if each in known]
        if wanted and not tasks:
            if not printed:
                raise NothingMeasured(f"nothing is measured here on {wanted}, and nothing is published of it")
            note(f"nothing is measured here on {wanted}")
            records = []
    if against is Against.LEADERBOARD:
        names += [each for each in dict.fromkeys(s.manifest.sparsifier for s in submitted) if each != DENSE]
    if not records and not printed:
        raise NothingMeasured(f"there are no results in {out} nor in {board}; `smcbench run --out {out}` makes some")
    called = {each.manifest.name: each.manifest.sparsifier for each in submitted}
    labels = _labels(names, records, called, bool(printed)) if records else []
    found = None
    if labels:
        from smcbench.results.compare import compare as compared

        outcomes: dict[str, Outcomes] = {}
        if sparsifiers:
            for each in submitted:
                outcomes.update(each.outcomes)
            named = [r for r in local if r.is_dense or {r.spec.sparsifier.label, r.spec.sparsifier.name} & {*labels}]
            within = [r for r in named if not tasks or r.spec.task.name in tasks]
            outcomes.update(scored(store, [r for r in within if r.run not in outcomes]))
        found = compared(records, labels, margin, tasks=tasks or None, outcomes=outcomes, resamples=resamples)
    if found is None or printed:
        _print_published(printed, found, form, json)
    else:
        print_results(found, form, json)


def _submitted(board: Path) -> list[Submission]:
    from smcbench.results.submission import read_submissions

    folder = board / "submissions"
    with working(f"reading {folder}"):
        return read_submissions(folder) if folder.is_dir() else []


def _labels(
    names: Sequence[str], records: Sequence[RunRecord], called: Mapping[str, str], forgiving: bool
) -> list[str]:
    """The sparsifiers that are meant; of no names all there are. With ``forgiving``, unknown ones are left out."""
    if not names:
        return list(dict.fromkeys(r.spec.sparsifier.label for r in records if not r.is_dense)) or [DENSE]
    labels = []
    for name in names:
        try:
            labels.append(_known(name, records, called))
        except NothingMeasured as error:
            if not forgiving:
                raise
            note(str(error))
    return labels


def _known(name: str, records: Sequence[RunRecord], called: Mapping[str, str]) -> str:
    """The sparsifier that is meant, by its own name or that of its submission, if there are records of it.

    Raises:
        NothingMeasured: there are none; the message holds those that there are.
    """
    refs = [r.spec.sparsifier for r in records]
    for form in (name, name.rpartition("/")[2], name.rpartition(":")[2], called.get(name, name)):
        if any(form in (ref.label, ref.name) for ref in refs):
            return form
    raise NothingMeasured(
        f"there are no results of {name!r}; there are some of {nearest(name, {ref.label for ref in refs})}; "
        f"`smcbench run --sparsifier {name}` makes them"
    )


def scored(store: Store, records: Iterable[RunRecord]) -> dict[str, Outcomes]:
    """Outcomes of one's own runs by run id, from their predictions.

    A task that is not installed in the version of the runs, or that cannot score predictions, is left out with a note.
    """
    from smcbench.plugins import load_task

    of: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        of[record.spec.task.name, record.spec.task.digest].append(record)
    found: dict[str, Outcomes] = {}
    for (name, digest), runs in of.items():
        try:
            task = load_task(name)
            if task.digest() != digest:
                raise UsageError(f"the installed {name} is another version than the one that was run")
            for run in runs:
                found[run.run] = task.outcomes(store.read_predictions(run.spec, run.provenance.engine))
        except SmcbenchError as error:
            note(f"{name}: neither intervals nor tests, because {error}")
    return found


def _published(names: Sequence[str], tasks: Sequence[str]) -> tuple[Published, ...]:
    from smcbench.results import published

    return published.beside(methods=names, tasks=tasks)


def _print_published(printed: Sequence[Published], found: Comparison | None, form: Form, json: bool) -> None:
    """What papers report, below what was measured; never ranked."""
    from smcbench.results import published, shape, table

    if json or form is Form.JSON:
        print_json({**(found.to_json() if found else {}), "published": shape.plain(list(printed))})
        return
    if form is Form.CSV:
        raise UsageError("--format csv holds what was measured; use json for what papers report")
    blocks, notes = table.comparison_blocks(found) if found else ([], [])
    more, below = published.blocks(printed)
    sys.stdout.write((table.text if form is Form.TEXT else table.markdown)([*blocks, *more], [*notes, *below]))
