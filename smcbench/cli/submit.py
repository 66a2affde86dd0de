"""``smcbench submit``: from finished runs to a folder for the leaderboard, verified before anyone else does."""

from __future__ import annotations

import inspect
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smcbench.cli.options import (
    BOARD,
    RUNS,
    BatteryName,
    BoardFolder,
    DataFolder,
    ModelFolder,
    Out,
    sparsifier_names,
)
from smcbench.cli.output import NothingMeasured, note, working
from smcbench.errors import InvalidInput
from smcbench.results.battery import STANDARD, Battery, show_sparsity
from smcbench.results.record import slug

if TYPE_CHECKING:
    from smcbench.results.submission import Missing


def submit(
    sparsifier: Annotated[
        str, typer.Option("--sparsifier", help="By label, or by name.", autocompletion=sparsifier_names)
    ],
    battery: BatteryName = STANDARD,
    name: Annotated[str | None, typer.Option(help="Of the submission. Default: from the label.")] = None,
    authors: Annotated[str | None, typer.Option(help="Who stands behind it.")] = None,
    paper: Annotated[str | None, typer.Option(help="Where the method is described.")] = None,
    card: Annotated[
        Path | None, typer.Option(help="A text about method, runs and deviations. Default: what the records tell.")
    ] = None,
    out: Out = RUNS,
    board: BoardFolder = BOARD,
    allow_incomplete: Annotated[bool, typer.Option("--allow-incomplete", help="Though cells are missing.")] = False,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Replace the cells that stand on the board, and say why.")
    ] = None,
    data: DataFolder = None,
    models: ModelFolder = None,
) -> None:
    """Pack finished runs as a submission. It is verified as a reviewer would, then put under the board's folder."""
    from smcbench import packing, plugins
    from smcbench.results import upkeep
    from smcbench.results.store import Store
    from smcbench.results.submission import check_name
    from smcbench.verify import verify

    whole, store, text = Battery.load(battery), Store(out), None if card is None else _text(card)
    if name is not None:
        check_name(name)
    if next(store.find(), None) is None:
        raise NothingMeasured(f"{out}: holds no run; `smcbench run --sparsifier {sparsifier} --out {out}` makes some")
    with working(f"looking through {out}"):
        records, missing = packing.found(store, whole, sparsifier)
    for problem in store.problems:
        note(problem)
    print(f"{out}: {len(records)} runs of {sparsifier} on {whole.name}, {len(missing)} cells missing")
    for line in _grouped(missing):
        print(f"  missing: {line}")
    # The file was named by hand, and verification will run nothing else of it.
    own = plugins.load_sparsifier(sparsifier).sparsifier if ":" in sparsifier else None
    label = records[0].spec.sparsifier.label if records else sparsifier
    with tempfile.TemporaryDirectory() as folder:
        with working("packing, and verifying as a reviewer would"):
            packed = packing.pack(
                store,
                whole,
                sparsifier,
                name or slug(label).lower()[:60],
                Path(folder),
                allow_incomplete=allow_incomplete,
                authors=authors,
                paper=paper,
                card=text,
                about=None if own is None else inspect.getdoc(own),
            )
            report = verify(packed, trusted=[sparsifier] if ":" in sparsifier else [])
        for remark in report.notes:
            note(remark)
        for finding in report.findings:
            print(f"finding: {str(finding).removeprefix(f'{packed}/')}")
        if report.findings:
            print(f"nothing was written: {len(report.findings)} findings stand against it")
            raise typer.Exit(1)
        board.mkdir(parents=True, exist_ok=True)
        with upkeep.locked(board):
            placed = upkeep.place(board, packed, reason, whole=not allow_incomplete)
    size = sum(path.stat().st_size for path in placed.rglob("*") if path.is_file())
    print(f"{placed}: written ({size:,} bytes), verified at recompute")
    if card is None:
        print(f"{placed / 'card.md'}: filled in from the records; write a better one, and say this again with --card")
    print("next: open a pull request that adds this folder and nothing else")


def _grouped(missing: Sequence[Missing]) -> list[str]:
    """Cells by task and sparsity, their seeds together."""
    seeds: dict[tuple[str, float], list[int]] = defaultdict(list)
    for each in missing:
        seeds[each.task, each.sparsity].append(each.seed)
    return [
        f"{task} at {show_sparsity(sparsity)}, seed {', '.join(map(str, some))}"
        for (task, sparsity), some in seeds.items()
    ]


def _text(path: Path) -> str:
    from smcbench.results.submission import check_card

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})") from None
    check_card(raw, str(path))
    return raw.decode()
