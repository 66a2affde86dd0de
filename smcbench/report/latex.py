"""The board as LaTeX: tables for a paper that need ``booktabs`` only. Bold is what is significant, and nothing else."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator, Sequence

from smcbench.results.aggregate import Row
from smcbench.results.battery import show_sparsity
from smcbench.results.leaderboard import Board
from smcbench.results.ranking import Estimate, Standing

_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}",
    **{character: "\\" + character for character in "&%$#_{}"},
}  # fmt: skip
NONE = "--"


def latex(board: Board) -> str:
    """A table of standings for each battery, then one of scores for each task.

    In the first the methods of the first tier are bold, in groups that have a second one; in the others the scores
    that are not inferior to dense.
    """
    head = [
        "% The smcbench leaderboard. Needs \\usepackage{booktabs}.",
        "% Bold: in standings the first tier of a group that has more than one; in scores what matches dense.",
    ]
    parts = []
    for battery in board.batteries:
        standings = [s for s in board.standings if s.battery == battery.digest]
        if standings:
            parts.append(_standings(f"{battery.name} ({battery.digest[:8]})", standings))
        rows = [r for r in board.entries if r.battery == battery.digest]
        order = {s.submission: i for i, s in reversed(list(enumerate(standings)))}
        tables = dict.fromkeys(row.table for row in rows)
        gone = {r.submission for r in board.retractions}
        parts += [_scores([r for r in rows if r.table == table], order, gone) for table in tables]
    return "\n".join([*head, "", *parts])


def escape(text: str) -> str:
    r"""A text that LaTeX sets as it is, whatever it holds; characters that nobody sees are left out.

    >>> print(escape(r"50% of \input{x}_1"))
    50\% of \textbackslash{}input\{x\}\_1
    """
    seen = "".join(c for c in text if unicodedata.category(c)[0] != "C" and c not in "\u2028\u2029")
    return "".join(_SPECIAL.get(c, c) for c in seen)


def _standings(title: str, standings: Sequence[Standing]) -> str:
    def lines() -> Iterator[str]:
        for (track, category), members in itertools.groupby(standings, key=lambda s: (s.track, str(s.category))):
            group = list(members)
            several = len({s.tier for s in group if s.tier is not None}) > 1
            yield rf"\addlinespace \multicolumn{{7}}{{@{{}}l}}{{\emph{{{escape(track)}: {escape(category)}}}}} \\"
            for s in group:
                bold = several and s.tier == 1
                yield _line(
                    NONE if s.tier is None else str(s.tier),
                    _set(escape(s.sparsifier), bold) + (" (retracted)" if s.retracted else ""),
                    _set(_estimate(s.quality, 2), bold),
                    ("$\\geq$ " if s.open and s.breaks else "") + _estimate(s.breaks, 3),
                    f"{s.train:.2f}",
                    f"{s.inference:.2f}",
                    f"{s.cells - s.missing}/{s.cells}",
                )

    head = _line("Tier", "Method", "Quality", "Break-point", "Train", "Infer", "Runs")
    caption = (
        f"Standings on {escape(title)}, by track and category as measured. Quality: 0 is chance, 1 is dense. Bold: the "
        r"first tier, where there is a second. Brackets: 95\,\% intervals. Costs in dense trainings and forward passes."
    )
    return _table("llrrrrr", head, lines(), caption)


def _scores(rows: Sequence[Row], order: dict[str, int], retracted: set[str]) -> str:
    first = rows[0]
    ladder = sorted({row.sparsity for row in rows if row.sparsity > 0})
    by_place = {(row.submission, row.sparsity): row for row in rows}
    names = {row.submission: row.sparsifier for row in rows if row.sparsity > 0}
    who = sorted(names, key=lambda name: (order.get(name or "", len(order)), name or ""))

    def lines() -> Iterator[str]:
        for name in who:
            scores = (by_place.get((name, s)) for s in ladder)
            gone = " (retracted)" if name in retracted else ""
            yield _line(escape(names[name]) + gone, *(_score(r, bool(r and r.matching and not gone)) for r in scores))

    dense = "not run" if first.dense is None else f"{first.dense.mean:.1f}"
    caption = (
        f"{escape(first.task.name)}: {escape(first.metric.name)} in {escape(first.metric.unit)} by sparsity; "
        f"dense {dense}, chance {first.metric.chance:.1f}. Bold: not inferior to dense. "
        r"Mean $\pm$ standard deviation over seeds."
    )
    return _table("l" + "r" * len(ladder), _line("Method", *map(show_sparsity, ladder)), lines(), caption)


def _table(columns: str, head: str, lines: Iterator[str], caption: str) -> str:
    return "\n".join(
        [
            r"\begin{table}", r"\centering\footnotesize\tabcolsep=4pt", rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
            r"\toprule", head, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
        ]
    )  # fmt: skip


def _line(*cells: str) -> str:
    return " & ".join(cells) + r" \\"


def _score(row: Row | None, bold: bool) -> str:
    if row is None:
        return NONE
    return _set(f"{row.mean:.1f}", bold) + ("" if row.std is None else f" $\\pm$ {row.std:.1f}")


def _estimate(found: Estimate | None, digits: int) -> str:
    if found is None:
        return NONE
    between = "" if found.low is None or found.high is None else f" [{found.low:.{digits}f}, {found.high:.{digits}f}]"
    return f"{found.mean:.{digits}f}{between}"


def _set(text: str, bold: bool) -> str:
    return rf"\textbf{{{text}}}" if bold else text
