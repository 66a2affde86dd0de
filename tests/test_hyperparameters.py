"""Hyper-parameters: what is out of range is refused when the sparsifier is made, whichever it is, in one line."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from smcbench import Mask, Sparsifier, cell, plugins, testing
from smcbench.errors import UsageError
from smcbench.sparsifier import Count, Fraction, Interval, Positive, Range, _hints
from smcbench.state import write_tensors
from smcbench.trainer import ENGINE
from smcbench_baselines.static import Static

OURS = {name: plugin for name, plugin in plugins.installed("sparsifiers").items() if plugin.distribution == "smcbench"}


def numbers() -> Iterator[tuple[str, str, Range]]:
    """Every numeric hyper-parameter of our sparsifiers with its range."""
    for name, plugin in OURS.items():
        kind: type[Sparsifier] = plugin.load()
        for field in dataclasses.fields(kind):  # type: ignore[arg-type]
            limits = [m for m in getattr(_hints(kind)[field.name], "__metadata__", ()) if isinstance(m, Range)]
            default = getattr(kind(), field.name)
            if not limits and isinstance(default, int | float) and not isinstance(default, bool):
                raise AssertionError(f"{name}: {field.name} is a number without a range")
            yield from ((name, field.name, limit) for limit in limits)


def outside(limit: Range) -> list[Any]:
    """Values that are just not allowed."""
    step: float = 1 if limit.whole else 1e-9
    low = [limit.low] if limit.above else [limit.low - step]
    high = [] if limit.high == math.inf else [limit.high + step]
    return [int(value) if limit.whole else value for value in [*low, *high]] + (
        [limit.low + 0.5] if limit.whole else []
    )


@pytest.mark.parametrize(("name", "field", "limit"), [pytest.param(*one, id=f"{one[0]}-{one[1]}") for one in numbers()])
def test_what_is_just_out_of_range_is_refused(name: str, field: str, limit: Range) -> None:
    for value in outside(limit):
        with pytest.raises(UsageError) as caught:
            plugins.load_sparsifier(f"{name}({field}={value!r})")
        assert str(caught.value) == f"{name}: {field} is {value!r}, it must be {limit}"
    for value in (True, math.nan, math.inf if limit.high < math.inf else -math.inf, "1"):
        with pytest.raises(UsageError, match=rf"^{field} is {value!r}, it must be "):
            OURS[name].load()(**{field: value})


def test_there_are_many() -> None:
    found = list(numbers())
    assert {name for name, *_ in found} > {"ac-dc", "gmp", "gmp-star", "grasp", "lth", "rigl", "set", "snip", "synflow"}
    assert len(found) > 60


@pytest.mark.parametrize(
    ("hint", "inside", "outside", "said"),
    [
        (Fraction, [0, 0.0, 0.5, 1], [-1e-9, 1 + 1e-9, math.nan, False, "0.5", None], "a number in [0, 1]"),
        (Interval, [1e-9, 1, 1.0], [0, 0.0, -0.1, 1.1, True], "a number in (0, 1]"),
        (Positive, [1e-9, 3, 1e9], [0, 0.0, -1, math.nan, True], "a number above 0"),
        (Count, [1, 2, 10**6], [0, -1, 1.0, 1.5, True], "a whole number, 1 or more"),
    ],
)
def test_ranges(hint: Any, inside: list[Any], outside: list[Any], said: str) -> None:
    (limit,) = hint.__metadata__
    assert all(value in limit for value in inside)
    assert not any(value in limit for value in outside)
    assert str(limit) == said


@dataclasses.dataclass(frozen=True)
class Strict(Sparsifier):
    """Another one's, whose types are read by the same rule."""

    share: Fraction = 0.5
    free: float = 0.5

    def sparsify(self, session: Any, sparsity: float) -> None:
        raise AssertionError


def test_a_strangers_types_are_read_too() -> None:
    assert Strict(share=1, free=-7.0).free == -7.0
    with pytest.raises(UsageError, match=r"^share is 2, it must be a number in \[0, 1\]$"):
        Strict(share=2)


@pytest.mark.parametrize("name", OURS)
def test_defaults_and_presets_are_in_range(name: str) -> None:
    kind = OURS[name].load()
    for preset in (None, *kind.presets):
        label = name if preset is None else f"{name}@{preset}"
        assert plugins.load_sparsifier(label).sparsifier.parameters().keys() == kind().parameters().keys()


# -- a mask that is given


def masks(folder: Path, sparsity: float = 0.75) -> Path:
    cell.run(testing.ToyTask(), "omp-before", sparsity, out=folder)
    return next(folder.rglob("mask.safetensors"))


def identity(mask: Path) -> str:
    named = plugins.load_sparsifier(f"static(mask={str(mask)!r})")
    spec = cell.spec_of(testing.ToyTask(), named, 0.75, 0, 1.0)
    assert str(mask.parent) not in str(spec)
    return spec.run_id(ENGINE)


def refused(mask: Path | str, sparsity: float = 0.75) -> str:
    """What is said of a mask; before anything is trained."""
    with pytest.raises(UsageError) as caught:
        cell.run(testing.ToyTask(), f"static(mask={str(mask)!r})", sparsity)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_mask_is_its_content_wherever_it_lies(tmp_path: Path) -> None:
    first = masks(tmp_path / "runs")
    (tmp_path / "elsewhere").mkdir()
    again = Path(shutil.copy(first, tmp_path / "elsewhere" / "mask.safetensors"))
    other = masks(tmp_path / "others", 0.5)
    assert identity(first) == identity(again)
    assert identity(first) != identity(other)
    again.write_bytes(other.read_bytes())
    assert identity(again) == identity(other)
    assert Static(str(first)).parameters() == {"mask": "mask.safetensors"}


def test_a_mask_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    path = masks(tmp_path / "runs")
    text, strange = tmp_path / "notes.txt", tmp_path / "strange.safetensors"
    text.write_text("no mask\nat all")
    wide = Mask({name: torch.ones(3, 5, dtype=torch.bool) for name in ("one", "two")})
    write_tensors(strange, wide.pack(), {"shapes": wide.shapes()})
    wrong = "name the mask.safetensors of a finished run"
    assert refused("nope") == f"the mask nope cannot be read (No such file or directory); {wrong}"
    assert refused(tmp_path) == f"the mask {tmp_path} cannot be read (Is a directory); {wrong}"
    for file in (text, next(tmp_path.rglob("weights.safetensors")), next(tmp_path.rglob("record.json"))):
        assert refused(file) == f"{file} holds no mask; {wrong}"
    assert f"the mask {strange} is of another network: 'conv.weight' is missing there and (4, 1, 3, 3) here" in refused(
        strange
    )
    # 89 of 356 weights are a quarter.
    assert f"the mask {path} keeps 89 of 356 weights, which is sparsity 0.75 and not 0.5" in refused(path, 0.5)
