"""A battery: a named list of tasks, sparsities and seeds that is run and compared as one."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, TypeVar

from smcbench import files
from smcbench.errors import InvalidInput, UsageError
from smcbench.results import shape

T = TypeVar("T")

DENSE = "dense"
"""The sparsifier that gives the reference, at sparsity 0."""
TOLERANCE = 0.0005
"""A sparsity this close to a level means the level."""
STANDARD = "mini"
"""The battery meant when none is named."""


class Cell(NamedTuple):
    """One thing to run; ``sparsifier`` as the user wrote it."""

    task: str
    sparsifier: str
    sparsity: float
    seed: int
    budget: float


def level(k: int) -> float:
    """The sparsity after ``k`` rounds that each remove a fifth of what is left: 1 - 0.8^k, correctly rounded.

    >>> [level(k) for k in (1, 2, 3)], round(level(13), 3)
    ([0.2, 0.36, 0.488], 0.945)
    """
    if k < 0:
        raise UsageError(f"the level is {k!r}, it must not be negative")
    return float(1 - Fraction(4, 5) ** k)


def resolve_sparsity(value: float, levels: Sequence[int] = ()) -> tuple[float, str | None]:
    """The sparsity that a typed number means, and a note if it is not what was typed.

    >>> resolve_sparsity(0.738, [3, 6])
    (0.737856, '0.738 is taken as level 6: 0.737856')
    >>> resolve_sparsity(0.7, [3, 6])
    (0.7, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value < 1:
        raise UsageError(f"the sparsity is {value!r}, it must lie in [0, 1): the fraction removed, not per cent")
    k = min(levels, key=lambda k: abs(level(k) - value), default=None)
    if k is None or abs(level(k) - value) > TOLERANCE or level(k) == value:
        return float(value), None
    return level(k), f"{value:g} is taken as level {k}: {level(k)!r}"


def show_sparsity(value: float) -> str:
    """A sparsity for people: at most three digits.

    >>> show_sparsity(level(10))
    '0.893'
    """
    return f"{round(value, 3):g}"


@dataclass(frozen=True)
class Entry:
    """One task of a battery; ``sparsifiers`` restricts it to these names (None: all)."""

    task: str
    sparsities: tuple[float, ...]
    budget: float = 1.0
    sparsifiers: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Battery:
    """Tasks x sparsities x seeds, and how much worse than dense still counts as matching."""

    name: str
    tasks: tuple[Entry, ...]
    seeds: tuple[int, ...]
    levels: tuple[int, ...] = ()
    """All levels that occur; a typed sparsity near one means it."""
    margin: float = 0.01
    """Matching: below dense by at most one standard deviation of its seeds, or this fraction of its score if more."""
    description: str = ""
    ranked: bool = True
    """Whether its results may enter a leaderboard; those of a demonstration may not."""

    @classmethod
    def load(cls, name_or_path: str | Path = STANDARD) -> Battery:
        """A shipped battery by name, or one from a TOML file: ``mine.toml``, or ``mine.toml:name`` if it has several.

        Raises:
            UsageError: no battery of this name; the message says which there are, nearest first.
            InvalidInput: the file is not what it should be.
        """
        text = str(name_or_path)
        path, _, wanted = text.rpartition(":") if ".toml:" in text else (text, "", "")
        if not path.endswith(".toml"):
            return _pick(_shipped(), text, "battery")
        found = _parse(Path(path))
        if not wanted and len(found) != 1:
            raise UsageError(f"{path} holds {', '.join(found)}; name one: {path}:{next(iter(found))}")
        return _pick(found, wanted or next(iter(found)), f"{path}: battery")

    @staticmethod
    def names() -> list[str]:
        """The batteries that are shipped."""
        return list(_shipped())

    def resolve(self, sparsity: float) -> tuple[float, str | None]:
        """``resolve_sparsity`` with the levels of this battery."""
        return resolve_sparsity(sparsity, self.levels)

    def digest(self, task_digests: Mapping[str, str]) -> str:
        """SHA-256 over what makes its results one table: tasks by digest, sparsities, seeds, budgets, margin."""
        missing = [e.task for e in self.tasks if e.task not in task_digests]
        if missing:
            raise UsageError(f"battery {self.name}: no digest is known for the task {', '.join(missing)}; install it")
        tasks = [
            {"digest": task_digests[e.task], "sparsities": list(e.sparsities), "budget": e.budget} for e in self.tasks
        ]
        return files.digest({"name": self.name, "tasks": tasks, "seeds": list(self.seeds), "margin": self.margin})

    def narrowed(
        self,
        *,
        tasks: Sequence[str] | None = None,
        sparsities: Sequence[float] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Battery:
        """The same battery with some tasks only, with other sparsities or seeds: what a user asked to run of it."""
        known: dict[str, list[Entry]] = {}
        for e in self.tasks:
            known.setdefault(e.task, []).append(e)
        names = known if tasks is None else tasks
        entries = [e for name in names for e in _pick(known, name, f"battery {self.name}: task")]
        if sparsities is not None:
            wanted = tuple(dict.fromkeys(self.resolve(value)[0] for value in sparsities))
            entries = [dataclasses.replace(e, sparsities=wanted) for e in entries]
        return dataclasses.replace(self, tasks=tuple(entries), seeds=tuple(self.seeds if seeds is None else seeds))

    def cells(self, sparsifiers: Sequence[str]) -> Iterator[Cell]:
        """What there is to run: one seed of everything before the second, and in each the dense references first.

        A sparsifier is a name, with or without preset and parameters; dense runs once per task and seed at
        sparsity 0, asked for or not, because every comparison needs it.
        """
        others = [s for s in dict.fromkeys(sparsifiers) if plain_name(s) != DENSE]
        for seed in self.seeds:
            for e in self.tasks:
                yield Cell(e.task, DENSE, 0.0, seed, e.budget)
            for e in self.tasks:
                for sparsity in e.sparsities:
                    for sparsifier in others:
                        if e.sparsifiers is None or plain_name(sparsifier) in e.sparsifiers:
                            yield Cell(e.task, sparsifier, sparsity, seed, e.budget)


def plain_name(sparsifier: str) -> str:
    """The name without preset and parameters.

    >>> plain_name("rigl@smc(interval=100)"), plain_name("gmp")
    ('rigl', 'gmp')
    """
    return sparsifier.partition("(")[0].partition("@")[0].strip()


def nearest(name: str, known: Iterable[str]) -> str:
    """Names that exist, for an error message about one that does not: the most similar first.

    >>> nearest("minni", ["demo", "mini"])
    'mini, demo'
    """
    known = sorted(known)
    return ", ".join(difflib.get_close_matches(name, known, n=8, cutoff=0.0)) if known else "none"


@dataclass(frozen=True)
class _EntryFile:
    """An entry as a TOML file spells it: levels, sparsities or both, else those of the battery."""

    task: str
    levels: tuple[int, ...] | None = None
    sparsities: tuple[float, ...] | None = None
    budget: float = 1.0
    budgets: tuple[float, ...] | None = None
    """Short for as many entries that differ in their budget."""
    sparsifiers: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _BatteryFile:
    """A battery as a TOML file spells it."""

    tasks: tuple[_EntryFile, ...]
    seeds: tuple[int, ...]
    levels: tuple[int, ...] | None = None
    sparsities: tuple[float, ...] | None = None
    margin: float = 0.01
    description: str = ""
    ranked: bool = True


@functools.cache
def _shipped() -> dict[str, Battery]:
    return _parse(Path(__file__).with_name("batteries.toml"))


def _parse(path: Path) -> dict[str, Battery]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput(f"{path}: no such file") from None
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: not valid TOML ({error})") from None
    if not content:
        raise InvalidInput(f"{path}: holds no battery; write one as a table [name]")
    return {name: _build(name, value, f"{path}: {name}") for name, value in content.items()}


def _build(name: str, value: object, where: str) -> Battery:
    spelt = shape.read(_BatteryFile, value, where)
    entries: list[Entry] = []
    levels = set(spelt.levels or ())
    for i, e in enumerate(spelt.tasks):
        here = f"{where}: tasks: {i}"
        own = e if e.levels is not None or e.sparsities is not None else spelt
        if own.levels is None and own.sparsities is None:
            raise InvalidInput(f"{here}: give levels, sparsities or both")
        levels.update(own.levels or ())
        try:
            named = tuple(resolve_sparsity(s)[0] for s in own.sparsities or ())
            sparsities = named + tuple(level(k) for k in own.levels or ())
        except UsageError as error:
            raise InvalidInput(f"{here}: {error}") from None
        budgets = (e.budget,) if e.budgets is None else e.budgets
        for ok, what in (
            (bool(sparsities), "needs at least one sparsity"),
            (len(set(sparsities)) == len(sparsities), "has a sparsity twice"),
            (0.0 not in sparsities, "has sparsity 0, which dense covers by itself"),
            (1.0 not in sparsities, "has a level so high that nothing is left"),
            (all(b > 0 for b in budgets), f"has the budget {min(budgets, default=None)!r}, which must be positive"),
            (e.budgets is None or e.budget == 1, "give either budget or budgets"),
            (
                not {(e.task, b) for b in budgets} & {(known.task, known.budget) for known in entries}
                and len(set(budgets)) == len(budgets),
                f"has the task {e.task!r} twice",
            ),
        ):
            if not ok:
                raise InvalidInput(f"{here}: {what}")
        entries += (Entry(e.task, sparsities, budget, e.sparsifiers) for budget in budgets)
    for ok, what in (
        (bool(entries), "tasks is empty"),
        (bool(spelt.seeds), "seeds is empty"),
        (len(set(spelt.seeds)) == len(spelt.seeds), "has a seed twice"),
        (all(seed >= 0 for seed in spelt.seeds), "has a negative seed"),
        (0 <= spelt.margin < 1, f"margin is {spelt.margin!r}, it must lie in [0, 1)"),
    ):
        if not ok:
            raise InvalidInput(f"{where}: {what}")
    known = tuple(sorted(levels))
    return Battery(name, tuple(entries), spelt.seeds, known, spelt.margin, spelt.description, spelt.ranked)


def _pick(known: Mapping[str, T], name: str, what: str) -> T:
    if name in known:
        return known[name]
    raise UsageError(f"{what} {name!r} is unknown; there are {nearest(name, known)}")
