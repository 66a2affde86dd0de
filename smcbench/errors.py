"""What can go wrong, each with the exit code the command line returns for it.

The message of every error says what is wrong, where, and how to mend it: the command line prints it as it is.
"""

from __future__ import annotations


class SmcbenchError(Exception):
    """Base of all errors a user can cause or mend."""

    exit_code = 3


class UsageError(SmcbenchError):
    """The command or call itself is wrong: an unknown name, a sparsity outside [0, 1)."""

    exit_code = 2


class InvalidInput(SmcbenchError):
    """A file, record or submission that is not what it should be."""

    exit_code = 3


class SparsifierError(SmcbenchError):
    """A sparsifier broke its contract; the cell fails, the other cells go on."""

    exit_code = 4


class MissedSparsity(SparsifierError):
    """The model that a sparsifier left behind does not have the sparsity asked for."""


class NotFinite(SparsifierError):
    """A loss, a weight or a score is NaN or infinite."""


class Busy(SmcbenchError):
    """Another process is computing the same thing right now."""

    exit_code = 4


def describe(error: BaseException) -> str:
    """A foreign exception in one line; of a missing package, with the command that installs it.

    >>> describe(ModuleNotFoundError("No module named 'nowhere'", name="nowhere.at_all"))
    "ModuleNotFoundError: No module named 'nowhere'; install it with: pip install nowhere"
    """
    text = " ".join(f"{type(error).__name__}: {error}".split())
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    return text + (f"; install it with: pip install {missing.partition('.')[0]}" if missing else "")
