"""``smcbench``: the verbs put together, and every error turned into one line and an exit code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command

from smcbench import __version__
from smcbench.cli import (
    board,
    check,
    compare,
    convert,
    data,
    demo,
    evaluate,
    info,
    init,
    listing,
    report,
    run,
    status,
    submit,
    verify,
)
from smcbench.cli.output import complain
from smcbench.errors import SmcbenchError, describe

DEBUG = "SMCBENCH_DEBUG"
INTERRUPTED = 130

app = typer.Typer(
    help="A benchmark for sparse neural networks.",
    epilog=(
        "Exit codes: 0 ok, 1 a negative finding, 2 usage, 3 invalid input or submission, 4 some cells failed, "
        f"5 nothing measured. With {DEBUG}=1 in the environment, errors show where they come from."
    ),
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for name, verb in (
    ("list", listing.list_),
    ("info", info.info),
    ("check", check.check),
    ("run", run.run),
    ("status", status.status),
    ("eval", evaluate.evaluate),
    ("submit", submit.submit),
    ("verify", verify.verify),
    ("convert", convert.convert),
    ("compare", compare.compare),
    ("report", report.report),
    ("demo", demo.demo),
):
    app.command(name)(verb)
app.add_typer(data.app, name="data")
app.add_typer(init.app, name="init")
app.add_typer(board.app, name="board")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"smcbench {__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def _begin(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version and leave.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (default: that of the process) and return its exit code."""
    try:
        code = get_command(app).main(arguments, prog_name="smcbench", standalone_mode=False)
        if code == INTERRUPTED:
            return _interrupted()
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except SmcbenchError as error:
        if os.environ.get(DEBUG):
            raise
        return _complain(str(error), error.exit_code)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        if hasattr(error, "format_message"):  # typer's own errors, whichever version it is
            verb = getattr(getattr(error, "ctx", None), "command_path", "smcbench")
            return _complain(f"{error.format_message()} (see `{verb} --help`)", 2)
        return _complain(f"{describe(error)} (unforeseen; {DEBUG}=1 shows where)", SmcbenchError.exit_code)


def _interrupted() -> int:
    return _complain("interrupted; what is finished is kept: say the same command again", INTERRUPTED)


def _complain(message: str, code: int) -> int:
    complain(message)
    return code
