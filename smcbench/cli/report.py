"""``smcbench report``: the leaderboard as one page, and as CSV, Parquet, Markdown and LaTeX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smcbench.cli.options import BOARD, BoardFolder
from smcbench.cli.output import NothingMeasured, working

OUT = Path("report")


def report(
    board: BoardFolder = BOARD,
    out: Annotated[Path, typer.Option("--out", help="The folder to write to.")] = OUT,
) -> None:
    """Write the leaderboard as one HTML page that needs nothing else, and as CSV, Parquet, Markdown and LaTeX."""
    from smcbench.report import content
    from smcbench.report.export import write_report
    from smcbench.results import published
    from smcbench.results.leaderboard import read_board
    from smcbench.results.submission import read_submissions

    path, folder = board / "leaderboard.json", board / "submissions"
    if not path.exists():
        raise NothingMeasured(f"{path}: no such file; `smcbench board build --board {board}` makes it")
    found = read_board(path)
    with working(f"reporting on {path}"):
        records = [r for s in read_submissions(folder) for r in s.records] if folder.is_dir() else []
        link = content.link(str(folder), str(out)) if folder.is_dir() else None
        paths = write_report(out, found, records, published.load(), link)
    for written in paths:
        print(f"{written}: written ({written.stat().st_size / 1000:,.0f} kB)")
