"""The report: a page, and the board in the forms that papers and programs want."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

from smcbench import files
from smcbench.report import content
from smcbench.report.latex import latex
from smcbench.report.page import page
from smcbench.results.frame import frame
from smcbench.results.leaderboard import Board
from smcbench.results.published import Published
from smcbench.results.record import RunRecord
from smcbench.results.table import render

PAGE = "index.html"


def write_report(
    out: Path,
    board: Board,
    records: Iterable[RunRecord] = (),
    published: Iterable[Published] = (),
    submissions_at: str | None = None,
) -> list[Path]:
    """Write ``index.html``, ``board.csv``, ``board.parquet``, ``board.md`` and ``board.tex``; returns their paths.

    The same board, records and published rows give the same bytes.

    Args:
        out: the folder; made where it is not there.
        board: any.
        records: of its runs, for what the page says about each; runs may lack.
        published: numbers of papers, beside.
        submissions_at: where the folders of the submissions lie, relative to the page; ends with a slash.
    """
    parquet = io.BytesIO()
    frame(board).to_parquet(parquet, index=False)
    contents: dict[str, str | bytes] = {
        PAGE: page(
            content.board_of(board, published, submissions_at),
            content.evidence_of(board, records),
            content.standfirst(board),
        ),
        "board.csv": render(board, "csv"),
        "board.parquet": parquet.getvalue(),
        "board.md": render(board, "markdown"),
        "board.tex": latex(board),
    }
    for name, data in contents.items():
        files.write(out / name, data)
    return [out / name for name in contents]
